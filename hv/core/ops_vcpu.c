/* SPDX-License-Identifier: MIT */
/*
 * vcpu_op and set_timer_op: bringing vCPUs up and down, their timers, and
 * the areas in guest memory that tell them about themselves.
 *
 * Locks: the domain's serialises register_vcpu_info.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define PERIOD_MIN 1000000u			/* ns */
#define PERIOD_MAX (INT64_MAX >> 1)
#define TIMER_FAR (1ULL << 50)			/* set_timer_op distrusts what is beyond */
#define TIMER_FAR_NS 100000000u			/* and fires then instead */

/* --- Timers --------------------------------------------------------------- */

static void singleshot_fired(void *data)
{
	evtchn_vcpu_virq(data, VIRQ_TIMER);
}

static void periodic_fired(void *data)
{
	struct vcpu *v = data;
	uint64_t period = read_once(v->period_ns);
	uint64_t now = port_time_ns();

	if (!period)
		return;
	evtchn_vcpu_virq(v, VIRQ_TIMER);
	/* In step with the first one; ticks that were missed stay missed. */
	timer_set(&v->periodic, now + period - (now - v->periodic.node.key) % period);
}

static void poll_timed_out(void *data)
{
	vcpu_pause_clear(data, PAUSE_POLL);
}

void vcpu_timers_init(struct vcpu *v)
{
	timer_init(&v->singleshot, singleshot_fired, v);
	timer_init(&v->periodic, periodic_fired, v);
	timer_init(&v->poll_timer, poll_timed_out, v);
}

static void periodic_stop(struct vcpu *v)
{
	write_once(v->period_ns, 0);	/* a handler that runs now may set it once more */
	timer_kill(&v->periodic);
}

void vcpu_timers_kill(struct vcpu *v)
{
	periodic_stop(v);
	timer_kill(&v->singleshot);
	timer_kill(&v->poll_timer);
	timer_kill(&v->lapic.timer);
}

/* Set, or without a struct stop. */
int64_t vcpuop_periodic_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_set_periodic_timer *p = arg;

	if (p && (p->period_ns < PERIOD_MIN || p->period_ns > PERIOD_MAX))
		return -XEN_EINVAL;
	periodic_stop(hc->vcpu);
	if (p) {
		write_once(hc->vcpu->period_ns, p->period_ns);
		timer_set(&hc->vcpu->periodic, port_time_ns() + p->period_ns);
	}
	return 0;
}

/* The same. Times are signed in the ABI: "negative" means long past. */
int64_t vcpuop_singleshot_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_set_singleshot_timer *s = arg;

	if (hc->vcpu != v)
		return -XEN_EINVAL;
	if (s)
		timer_set(&v->singleshot, (int64_t)s->timeout_abs_ns < 0 ? 0 :
			  domain_to_host_ns(v->domain, s->timeout_abs_ns));
	else
		timer_stop(&v->singleshot);
	return 0;
}

int64_t timerop_set(struct vcpu *v, struct hypercall *hc, void *arg)
{
	uint64_t when = hc->arg[0], now = domain_time_ns(v->domain);

	if ((int64_t)when < 0 || when > now + TIMER_FAR)
		when = now + TIMER_FAR_NS;
	if (when)
		timer_set(&v->singleshot, domain_to_host_ns(v->domain, when));
	else
		timer_stop(&v->singleshot);
	return 0;
}

/* --- Up and down ---------------------------------------------------------- */

static bool is_down(const struct vcpu *v)
{
	return atomic_load(&v->pause_flags) & PAUSE_DOWN;
}

int64_t vcpuop_initialise(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct guest_system sys;
	struct guest_regs regs;
	int rc;

	if (hc->vcpu->initialised)
		return -XEN_EEXIST;
	rc = vcpu_context_check(v->domain, arg, &regs, &sys);
	return rc ? rc : vcpu_set_entry(hc->vcpu, &regs, &sys);
}

int64_t vcpuop_up(struct vcpu *v, struct hypercall *hc, void *arg)
{
	if (!hc->vcpu->initialised)
		return -XEN_EINVAL;
	vcpu_pause_clear(hc->vcpu, PAUSE_DOWN);
	return 0;
}

int64_t vcpuop_down(struct vcpu *v, struct hypercall *hc, void *arg)
{
	vcpu_down(hc->vcpu);
	return 0;
}

int64_t vcpuop_is_up(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return !is_down(hc->vcpu);
}

int64_t vcpuop_send_nmi(struct vcpu *v, struct hypercall *hc, void *arg)
{
	if (hc->ptr)
		return -XEN_EINVAL;
	atomic_store(&hc->vcpu->nmi_pending, true);
	vcpu_notify(hc->vcpu);
	return 0;
}

/* Only pinned vCPUs of a control domain with the machine's own ACPI have one. */
int64_t vcpuop_get_physid(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return -XEN_EINVAL;
}

/* --- Areas in guest memory ------------------------------------------------ */

int64_t vcpuop_get_runstate_info(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu_runstate_info *info = arg;

	sched_runstate(hc->vcpu, info);
	info->state_entry_time += v->domain->time_offset;
	return 0;
}

/*
 * The runstate's own area is written at once, another vCPU's when that one
 * runs next; the time's through the caller's page tables.
 */
int64_t vcpuop_register_area(struct vcpu *v, struct hypercall *hc, void *arg)
{
	gva_t at = *(const uint64_t *)arg;	/* all there is in either struct */
	struct vcpu *t = hc->vcpu;

	if (!gva_is_canonical(at))
		return -XEN_EFAULT;
	if (hc->op == VCPUOP_register_vcpu_time_memory_area) {
		write_once(t->time_area, at);
		pvclock_update(t);
		return 0;
	}
	write_once(t->runstate_area, at);
	if (t == v)
		runstate_update_area(v);
	return 0;
}

/*
 * Moves t's vcpu_info. Whoever sends an event meanwhile may still mark the
 * old place: everything counts as pending in the new one, and its owner looks
 * for itself. Domain lock held.
 */
static void move_info(struct vcpu *t, const struct guest_pin *pin, uint32_t offset)
{
	struct vcpu_info *to = (void *)((uint8_t *)pin->va + offset);

	if (ALIGN_DOWN((uintptr_t)t->info, PAGE_SIZE) == (uintptr_t)t->domain->dummy_info)
		memset(to, 0, sizeof(*to));
	else
		memcpy(to, t->info, sizeof(*to));
	t->info_pin = *pin;
	__atomic_store_n(&t->info, to, __ATOMIC_RELEASE);
	pvclock_update(t);
	evtchn_vcpu_info_moved(t);
}

int64_t vcpuop_register_vcpu_info(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_register_vcpu_info *r = arg;
	struct vcpu *t = hc->vcpu;
	struct guest_pin pin;
	int rc = -XEN_EINVAL;

	if (r->offset > PAGE_SIZE - sizeof(struct vcpu_info) || r->offset % 8)
		return -XEN_ENXIO;
	spin_lock(&v->domain->lock);
	if (!t->info_pin.page && (t == v || is_down(t)))
		rc = guest_pin(v->domain, GFN(r->mfn), &pin);
	if (!rc)
		move_info(t, &pin, r->offset);
	spin_unlock(&v->domain->lock);
	return rc;
}
