/* SPDX-License-Identifier: MIT */
/*
 * domctl: the life, the limits and the settings of domains, for the toolstack.
 *
 * Locks: each operation takes what covers what it changes; see ctl.c.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"

/* --- Information ----------------------------------------------------------- */

/* What its vCPUs do: flags of getdomaininfo, the number of those online, the CPU time. */
static uint32_t vcpus_info(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
	uint32_t flags = XEN_DOMINF_blocked;

	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct vcpu *v = d->vcpus[i];
		unsigned int pause = atomic_load_explicit(&v->pause_flags, memory_order_relaxed);
		struct vcpu_runstate_info run;

		sched_runstate(v, &run);
		info->cpu_time += run.time[RUNSTATE_running];
		if (pause & PAUSE_DOWN)
			continue;
		info->nr_online_vcpus++;
		if (!(pause & (PAUSE_BLOCKED | PAUSE_POLL)))
			flags &= ~XEN_DOMINF_blocked;
		if (run.state == RUNSTATE_running)
			flags |= XEN_DOMINF_running;
	}
	return info->nr_online_vcpus ? flags : 0;
}

void domctl_fill_info(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
	uint32_t code;

	*info = (struct xen_domctl_getdomaininfo){
		.domain = d->id,
		.flags = XEN_DOMINF_hvm_guest | XEN_DOMINF_hap,
		.tot_pages = atomic_load_explicit(&d->tot_pages, memory_order_relaxed),
		.max_pages = read_once(d->max_pages),
		.max_vcpu_id = d->nr_vcpus - 1,
		.gpaddr_bits = d->policy->maxphysaddr,
		.arch_config.emulation_flags = XEN_X86_EMU_LAPIC,
		/* 0, nowhere, wraps to all ones. */
		.shared_info_frame = read_once(frame_table[virt_to_mfn(d->shared).v].shared_gfn) - 1,
	};
	info->flags |= vcpus_info(d, info);
	spin_lock(&d->lock);
	code = d->shut_down ? d->shutdown_code : XEN_DOMINF_shutdownmask;
	info->flags |= (d->shut_down ? XEN_DOMINF_shutdown : 0) |
		       (d->pause_count ? XEN_DOMINF_paused : 0) |
		       (domain_is_dying(d) ? XEN_DOMINF_dying : 0) |
		       code << XEN_DOMINF_shutdownshift;
	memcpy(info->handle, d->handle, sizeof(info->handle));
	spin_unlock(&d->lock);
}

/* Of the domain named, or else of the one with the next higher id. */
int64_t domctl_getdomaininfo(struct vcpu *v, struct domain *unused, struct xen_domctl *op)
{
	struct domain *d;

	if (op->domain >= DOMID_FIRST_RESERVED)
		return -XEN_EINVAL;
	d = domain_get_from(op->domain);
	if (!d)
		return -XEN_ESRCH;
	domctl_fill_info(d, &op->u.getdomaininfo);
	op->domain = d->id;
	domain_put(d);
	return 0;
}

/* --- Pausing --------------------------------------------------------------- */

int64_t domctl_pausedomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	domain_pause(d);
	return 0;
}

int64_t domctl_unpausedomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return domain_unpause(d) ? 0 : -XEN_EINVAL;
}
