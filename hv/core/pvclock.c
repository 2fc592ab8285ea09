/* SPDX-License-Identifier: MIT */
/*
 * Time as guests see it: pvclock, wall clock, runstate areas.
 *
 * The host's TSC is synchronous, so one scale and one base serve all vCPUs
 * on all CPUs for good: guests' time cannot differ between vCPUs nor go back,
 * and a guest may read it without asking (TSC_STABLE).
 */
#include "hospes/domain.h"
#include "hospes/lib.h"
#include "hospes/pcpu.h"

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
	if (copy_to_guest(self, area, &version, sizeof(version)))
		return;
}

void pvclock_update(struct vcpu *v)
{
	struct vcpu_time_info t = { .flags = XEN_PVCLOCK_TSC_STABLE_BIT };
	struct vcpu_time_info *dst = &v->info->time;
	gva_t area = read_once(v->time_area);

	port_pvclock_scale(&t.tsc_timestamp, &t.tsc_to_system_mul, &t.tsc_shift);
	t.tsc_timestamp += v->tsc_offset;	/* guest TSC = host TSC + offset */
	version_begin(&dst->version);
	memcpy((uint8_t *)dst + TIME_BODY, BODY(&t), sizeof(t) - TIME_BODY);
	version_end(&dst->version);
	/* Only the guest itself changes it, so one of its vCPUs is current here. */
	if (area)
		time_area_update(current_vcpu(), area, &t);
}

void pvclock_update_wallclock(struct domain *d)
{
	uint64_t base = port_wallclock_base_ns();
	uint64_t sec = base / NSEC_PER_SEC;

	version_begin(&d->shared->wc_version);
	write_once(d->shared->wc_sec, (uint32_t)sec);
	write_once(d->shared->wc_sec_hi, (uint32_t)(sec >> 32));
	write_once(d->shared->wc_nsec, (uint32_t)(base % NSEC_PER_SEC));
	version_end(&d->shared->wc_version);
}

/* --- Runstate ------------------------------------------------------------- */

void runstate_change(struct vcpu *v, int state, uint64_t now)
{
	v->runstate.time[v->runstate.state] += now - v->runstate.state_entry_time;
	v->runstate.state_entry_time = now;
	v->runstate.state = state;
}

/* Writes the entry time alone: with the flag before the rest changes, without after. */
static bool put_entry(struct vcpu *v, uint64_t entry)
{
	gva_t at = v->runstate_area + offsetof(struct vcpu_runstate_info, state_entry_time);

	return !copy_to_guest(v, at, &entry, sizeof(entry));
}

void runstate_update_area(struct vcpu *v)
{
	unsigned int assist = atomic_load_explicit(&v->domain->vm_assist, memory_order_relaxed);
	uint64_t flag = assist & 1u << VMASST_TYPE_runstate_update_flag ? XEN_RUNSTATE_UPDATE : 0;
	/* Running here, so nobody else changes it. */
	struct vcpu_runstate_info info = v->runstate;

	info.state_entry_time |= flag;
	if (!v->runstate_area)
		return;
	if (flag && !put_entry(v, info.state_entry_time))
		return;
	if (copy_to_guest(v, v->runstate_area, &info, sizeof(info)) || !flag)
		return;
	(void)put_entry(v, v->runstate.state_entry_time);
}
