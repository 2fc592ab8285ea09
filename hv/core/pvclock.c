/* SPDX-License-Identifier: MIT */
/*
 * Time as guests see it: pvclock, wall clock, runstate areas.
 *
 * The host's TSC is synchronous, so one scale and one base serve all vCPUs
 * on all CPUs for good: guests' time cannot differ between vCPUs nor go back,
 * and a guest may read it without asking (TSC_STABLE).
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/log.h"

#define TSC_MODE_MAX 2u	/* default, always emulate, never emulate: it is always the real one */
#define NSEC_PER_SEC 1000000000ULL
#define TIME_BODY offsetof(struct vcpu_time_info, tsc_timestamp)
#define BODY(t) ((const uint8_t *)(t) + TIME_BODY)

/* The odd or even half of the version protocol: readers retry on odd. */
static void version_begin(uint32_t *version)
{
	write_once(*version, read_once(*version) | 1);
	atomic_thread_fence(memory_order_release);
}

static void version_end(uint32_t *version)
{
	atomic_thread_fence(memory_order_release);
	write_once(*version, (read_once(*version) | 1) + 1);
}

/*
 * A guest reads while we write: odd, then the body, then even. A failure ends
 * it quietly: the guest has unmapped the area, or its kernel is not mapped now.
 */
static void time_area_update(struct vcpu *self, gva_t area, const struct vcpu_time_info *t)
{
	uint32_t version;

	if (copy_from_guest(self, &version, area, sizeof(version)))
		return;
	version |= 1;
	if (copy_to_guest(self, area, &version, sizeof(version)) ||
	    copy_to_guest(self, area + TIME_BODY, BODY(t), sizeof(*t) - TIME_BODY))
		return;
	version++;
	(void)!copy_to_guest(self, area, &version, sizeof(version));
}

void pvclock_update(struct vcpu *v)
{
	struct vcpu_time_info t = { .flags = XEN_PVCLOCK_TSC_STABLE_BIT,
				    .system_time = v->domain->time_offset };
	struct vcpu_time_info *dst = &v->info->time;
	gva_t area = read_once(v->time_area);
	struct vcpu *self = current_vcpu();

	port_pvclock_scale(&t.tsc_timestamp, &t.tsc_to_system_mul, &t.tsc_shift);
	t.tsc_timestamp += v->tsc_offset;	/* guest TSC = host TSC + offset */
	version_begin(&dst->version);
	memcpy((uint8_t *)dst + TIME_BODY, BODY(&t), sizeof(t) - TIME_BODY);
	version_end(&dst->version);
	/* Its address means something to the guest's own vCPUs only. */
	if (area && self && self->domain == v->domain)
		time_area_update(self, area, &t);
}

void pvclock_update_wallclock(struct domain *d)
{
	uint64_t base = read_once(port_wallclock_base_ns) - d->time_offset;
	uint64_t sec = base / NSEC_PER_SEC + (uint64_t)d->wallclock_offset;

	version_begin(&d->shared->wc_version);
	write_once(d->shared->wc_sec, (uint32_t)sec);
	write_once(d->shared->wc_sec_hi, (uint32_t)(sec >> 32));
	write_once(d->shared->wc_nsec, (uint32_t)(base % NSEC_PER_SEC));
	version_end(&d->shared->wc_version);
}

/* --- Runstate ------------------------------------------------------------- */

void runstate_change(struct vcpu *v, int state, uint64_t now)
{
	now = MAX(now, v->runstate.state_entry_time);
	v->runstate.time[v->runstate.state] += now - v->runstate.state_entry_time;
	v->runstate.state_entry_time = now;
	v->runstate.state = state;
}

void runstate_update_area(struct vcpu *v)
{
	gva_t area = read_once(v->runstate_area);
	gva_t entry = area + offsetof(struct vcpu_runstate_info, state_entry_time);
	bool flag = read_once(v->domain->runstate_flag);
	struct vcpu_runstate_info info;
	uint64_t begin;

	if (!area)
		return;
	info = v->runstate;	/* running here, so nobody else changes it */
	begin = info.state_entry_time + v->domain->time_offset;
	/* With the flag the entry time goes first, and at the end again without it. */
	info.state_entry_time = begin | (flag ? XEN_RUNSTATE_UPDATE : 0);
	if (flag && copy_to_guest(v, entry, &info.state_entry_time, sizeof(uint64_t)))
		return;
	if (copy_to_guest(v, area, &info, sizeof(info)) || !flag)
		return;
	(void)!copy_to_guest(v, entry, &begin, sizeof(begin));
}

/* --- For the toolstack ------------------------------------------------------ */

uint64_t domain_save_tsc(struct domain *d)
{
	uint64_t tsc = port_tsc();

	spin_lock(&d->lock);
	if (d->shut_down && !d->stopped_tsc)
		d->stopped_tsc = tsc;
	if (d->shut_down)
		tsc = d->stopped_tsc;
	spin_unlock(&d->lock);
	return tsc;
}

int64_t domctl_gettscinfo(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	domain_pause(d);
	op->u.tsc_info = (struct xen_domctl_tsc_info){
		.tsc_mode = d->tsc_mode, .gtsc_khz = (uint32_t)port_tsc_khz,
		.incarnation = d->tsc_incarnation,
		.elapsed_nsec = port_tsc_to_ns(domain_save_tsc(d)) + d->time_offset };
	domain_unpause(d);
	return 0;
}

void domain_set_time(struct domain *d, uint64_t tsc)
{
	if (d->time_brought)
		d->time_offset = d->time_brought - port_tsc_to_ns(tsc);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		pvclock_update(d->vcpus[i]);
	pvclock_update_wallclock(d);
}

/* A guest that was elsewhere goes on where its time stood; a new one, at 0, has ours. */
int64_t domctl_settscinfo(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	const struct xen_domctl_tsc_info *t = &op->u.tsc_info;

	if (t->tsc_mode > TSC_MODE_MAX)
		return -XEN_EINVAL;
	if (t->gtsc_khz && t->gtsc_khz != (uint32_t)port_tsc_khz)
		log_warn("d%u comes from a TSC of %u kHz: here it runs at %lu kHz", d->id,
			 t->gtsc_khz, port_tsc_khz);
	domain_pause(d);
	spin_lock(&d->lock);
	d->tsc_mode = t->tsc_mode;
	d->tsc_incarnation = t->incarnation + 1;
	d->time_brought = t->elapsed_nsec;
	domain_set_time(d, port_tsc());
	spin_unlock(&d->lock);
	domain_unpause(d);
	return 0;
}
