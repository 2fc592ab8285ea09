/* SPDX-License-Identifier: MIT */
/*
 * domctl: the life, the limits and the settings of domains, for the toolstack.
 *
 * Locks: each operation takes what covers what it changes; see ctl.c.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/gnttab.h"
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
		.max_pages = read_once(d->max_pages), .outstanding_pages = read_once(d->claim),
		.max_vcpu_id = d->nr_vcpus - 1,
		.gpaddr_bits = d->policy->maxphysaddr,
		.arch_config.emulation_flags = XEN_X86_EMU_LAPIC,
	};
	/* 0, nowhere, wraps to all ones. */
	info->shared_info_frame = read_once(mfn_to_page(virt_to_mfn(d->shared))->shared_gfn) - 1;
	info->flags |= vcpus_info(d, info) | (d->xs_domain ? XEN_DOMINF_xs_domain : 0);
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

int64_t domctl_getvcpuinfo(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_getvcpuinfo *info = &op->u.getvcpuinfo;
	struct vcpu *t = domain_vcpu(d, info->vcpu);
	struct vcpu_runstate_info run;
	unsigned int pause;

	if (!t)
		return info->vcpu >= MAX_VCPUS ? -XEN_EINVAL : -XEN_ESRCH;
	sched_runstate(t, &run);
	pause = atomic_load_explicit(&t->pause_flags, memory_order_relaxed);
	info->online = !(pause & PAUSE_DOWN);
	info->blocked = !!(pause & (PAUSE_BLOCKED | PAUSE_POLL));
	info->running = run.state == RUNSTATE_running;
	info->cpu_time = run.time[RUNSTATE_running];
	info->cpu = read_once(t->sched.cpu);
	return 0;
}

/* --- Life ------------------------------------------------------------------ */

#define CREATE_FLAGS (XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_s3_integrity | \
		      XEN_DOMCTL_CDF_oos_off | XEN_DOMCTL_CDF_xs_domain)
#define CREATE_NEEDED (XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap)

/* Is that a domain that we can make? What it has besides is for domain_create() to refuse. */
static int check_create(const struct xen_domctl_createdomain *c)
{
	unsigned int version = XEN_DOMCTL_GRANT_version(c->grant_opts);

	if ((c->flags & CREATE_NEEDED) != CREATE_NEEDED || c->flags & ~CREATE_FLAGS ||
	    c->iommu_opts || c->arch.misc_flags || c->vmtrace_size ||
	    c->grant_opts & ~XEN_DOMCTL_GRANT_version_mask || !version || version > 2 ||
	    !c->max_grant_frames)
		return -XEN_EINVAL;
	if (c->arch.emulation_flags != XEN_X86_EMU_LAPIC)
		return -XEN_EOPNOTSUPP;
	return c->cpupool_id ? -XEN_ESRCH : 0;
}

/* Its memory is still 0 pages, its page tables may be so many until somebody says. */
int64_t domctl_createdomain(struct vcpu *v, struct domain *unused, struct xen_domctl *op)
{
	const struct xen_domctl_createdomain *c = &op->u.createdomain;
	bool pick = !op->domain || op->domain >= DOMID_FIRST_RESERVED;
	const struct domain_create create = {
		.id = pick ? DOMID_INVALID : op->domain, .name = "guest",
		.nr_vcpus = c->max_vcpus, .max_evtchn_port = c->max_evtchn_port,
		.max_grant_frames = c->max_grant_frames < 0 ? GNTTAB_FRAMES_DEFAULT :
				    (unsigned int)c->max_grant_frames,
		.max_maptrack_frames = c->max_maptrack_frames < 0 ? GNTTAB_MAPTRACK_DEFAULT :
				       (unsigned int)c->max_maptrack_frames,
		.max_grant_version = XEN_DOMCTL_GRANT_version(c->grant_opts),
		.handle = c->handle, .xs_domain = c->flags & XEN_DOMCTL_CDF_xs_domain,
		.building = true,
	};
	struct domain *d;
	int rc = check_create(c);

	if (!rc)
		rc = domain_create(&create, &d);
	if (rc)
		return rc;
	op->domain = d->id;
	atomic_store(&d->building, false);	/* now it may be gone */
	return 0;
}

/*
 * The work is done here, so that the memory is free when it returns; piece by piece,
 * because the next one may have to wait for a timer of this CPU.
 */
int64_t domctl_destroydomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return domain_destroy_step(d) ? 0 : HC_CONTINUE;
}

int64_t domctl_resumedomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	domain_resume(d);
	return 0;
}

int64_t domctl_pausedomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	domain_pause(d);
	return 0;
}

int64_t domctl_unpausedomain(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return domain_unpause(d) ? 0 : -XEN_EINVAL;
}

/* --- Limits ---------------------------------------------------------------- */

/* They exist since creation. */
int64_t domctl_max_vcpus(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return op->u.max_vcpus.max == d->nr_vcpus ? 0 : -XEN_EINVAL;
}

/* May be below what it has now. */
int64_t domctl_max_mem(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	write_once(d->max_pages, op->u.max_mem.max_memkb >> (PAGE_SHIFT - 10));
	return 0;
}

int64_t domctl_get_paging_mempool_size(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	op->u.paging_mempool.size = (uint64_t)read_once(d->p2m.tables_max) << PAGE_SHIFT;
	return 0;
}

/* Below what is in use, no more is to be had. */
int64_t domctl_set_paging_mempool_size(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	uint64_t size = op->u.paging_mempool.size;

	if (size & ~PAGE_MASK)
		return -XEN_EINVAL;
	if (size >> PAGE_SHIFT > page_total_count())
		return -XEN_ENOMEM;
	write_lock(&d->p2m.lock);
	write_once(d->p2m.tables_max, (uint32_t)(size >> PAGE_SHIFT));
	write_unlock(&d->p2m.lock);
	return 0;
}

/* --- Scheduling ------------------------------------------------------------ */

int64_t domctl_scheduler_op(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_sched_credit2 *c = &op->u.scheduler_op.u.credit2;
	uint32_t cmd = op->u.scheduler_op.cmd;
	struct sched_params params;
	int rc = 0;

	if (op->u.scheduler_op.sched_id != XEN_SCHEDULER_CREDIT2 ||
	    cmd > XEN_DOMCTL_SCHEDOP_getinfo)
		return -XEN_EINVAL;
	spin_lock(&d->lock);
	params = d->sched;
	if (cmd == XEN_DOMCTL_SCHEDOP_putinfo) {
		params.weight = c->weight ? c->weight : params.weight;	/* 0: leave it */
		params.cap = c->cap;
		rc = sched_set_params(d, &params);
	} else {
		c->weight = params.weight;
		c->cap = params.cap;
	}
	spin_unlock(&d->lock);
	return rc;
}

/* Answers with what counts of the new affinity: CPUs there are. */
int64_t domctl_setvcpuaffinity(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
	struct vcpu *t = domain_vcpu(d, a->vcpu);
	uint64_t hard, soft;

	if (!t)
		return -XEN_ESRCH;
	if ((a->flags & XEN_VCPUAFFINITY_HARD && ctl_get_mask(v, &a->cpumap_hard, &hard)) ||
	    (a->flags & XEN_VCPUAFFINITY_SOFT && ctl_get_mask(v, &a->cpumap_soft, &soft)))
		return -XEN_EFAULT;
	if (a->flags & XEN_VCPUAFFINITY_HARD) {
		int rc = sched_set_affinity(t, hard);

		if (rc)
			return rc;
		write_once(t->pinned_from, 0);	/* the word of the toolstack is the last one */
	}
	if (a->flags & XEN_VCPUAFFINITY_SOFT)
		write_once(t->soft_affinity, soft);
	hard = read_once(t->sched.affinity);
	if ((a->flags & XEN_VCPUAFFINITY_HARD && ctl_put_mask(v, &a->cpumap_hard, hard)) ||
	    (a->flags & XEN_VCPUAFFINITY_SOFT && ctl_put_mask(v, &a->cpumap_soft, soft & hard)))
		return -XEN_EFAULT;
	return 0;
}

int64_t domctl_getvcpuaffinity(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	const struct xen_domctl_vcpuaffinity *a = &op->u.vcpuaffinity;
	struct vcpu *t = domain_vcpu(d, a->vcpu);

	if (!t)
		return -XEN_ESRCH;
	if ((a->flags & XEN_VCPUAFFINITY_HARD &&
	     ctl_put_mask(v, &a->cpumap_hard, read_once(t->sched.affinity))) ||
	    (a->flags & XEN_VCPUAFFINITY_SOFT &&
	     ctl_put_mask(v, &a->cpumap_soft, read_once(t->soft_affinity))))
		return -XEN_EFAULT;
	return 0;
}

/* All memory is one node's, number 0. */
int64_t domctl_setnodeaffinity(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	uint64_t nodes;

	if (ctl_get_mask(v, &op->u.nodeaffinity.nodemap, &nodes))
		return -XEN_EFAULT;
	return nodes & 1 ? 0 : -XEN_EINVAL;
}

int64_t domctl_getnodeaffinity(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return ctl_put_mask(v, &op->u.nodeaffinity.nodemap, 1);
}

/* --- Settings and signals -------------------------------------------------- */

int64_t domctl_setdomainhandle(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	spin_lock(&d->lock);
	memcpy(d->handle, op->u.setdomainhandle.handle, sizeof(d->handle));
	spin_unlock(&d->lock);
	return 0;
}

int64_t domctl_hypercall_init(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	uint64_t gfn = op->u.hypercall_init.gmfn;

	return gfn < P2M_MAX_GFN ? hypercall_page_write(d, gfn_to_gpa(GFN(gfn))) : -XEN_EINVAL;
}

int64_t domctl_settimeoffset(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	spin_lock(&d->lock);
	d->wallclock_offset = op->u.settimeoffset.time_offset_seconds;
	pvclock_update_wallclock(d);
	spin_unlock(&d->lock);
	return 0;
}

/* Without ACPI events there are no buttons: nobody looks when they are pushed. */
int64_t domctl_sendtrigger(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct vcpu *t = domain_vcpu(d, op->u.sendtrigger.vcpu);
	uint32_t trigger = op->u.sendtrigger.trigger;

	if (!t)
		return -XEN_ESRCH;
	if (trigger == XEN_DOMCTL_SENDTRIGGER_POWER || trigger == XEN_DOMCTL_SENDTRIGGER_SLEEP)
		return 0;
	if (trigger != XEN_DOMCTL_SENDTRIGGER_NMI)
		return -XEN_ENOSYS;
	atomic_store(&t->nmi_pending, true);
	vcpu_notify(t);
	return 0;
}

int64_t domctl_subscribe(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	spin_lock(&d->lock);
	d->suspend_port = op->u.subscribe.port;
	spin_unlock(&d->lock);
	return 0;
}

int64_t domctl_set_virq_handler(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return evtchn_set_virq_handler(d, op->u.set_virq_handler.virq);
}

/* For paravirtual guests. */
int64_t domctl_set_address_size(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return -XEN_EOPNOTSUPP;
}

int64_t domctl_get_address_size(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	return -XEN_EOPNOTSUPP;
}
