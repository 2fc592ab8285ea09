/* SPDX-License-Identifier: MIT */
/*
 * vcpu_op and set_timer_op: bringing vCPUs up and down, their timers, and
 * the areas in guest memory that tell them about themselves.
 *
 * Locks: the domain's serialises register_vcpu_info.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define NSEC_PER_MSEC 1000000ULL
#define PERIOD_MIN NSEC_PER_MSEC
#define PERIOD_MAX (INT64_MAX >> 1)
#define TIMER_FAR (1ULL << 50)			/* set_timer_op distrusts what is beyond */
#define TIMER_FAR_NS (100 * NSEC_PER_MSEC)	/* and fires then instead */

static struct vcpu *target(const struct vcpu *v, const struct hypercall *hc)
{
	return domain_vcpu(v->domain, (uint32_t)hc->arg[1]);
}

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
}

int64_t vcpuop_set_periodic_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_set_periodic_timer *p = arg;
	struct vcpu *t = target(v, hc);

	if (!t)
		return -XEN_ENOENT;
	if (p->period_ns < PERIOD_MIN || p->period_ns > PERIOD_MAX)
		return -XEN_EINVAL;
	periodic_stop(t);
	write_once(t->period_ns, p->period_ns);
	timer_set(&t->periodic, port_time_ns() + p->period_ns);
	return 0;
}

int64_t vcpuop_stop_periodic_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	(void)arg;
	if (!t)
		return -XEN_ENOENT;
	periodic_stop(t);
	return 0;
}

/* Times are signed in the ABI: "negative" means long past. */
int64_t vcpuop_set_singleshot_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_set_singleshot_timer *s = arg;
	struct vcpu *t = target(v, hc);

	if (t != v)
		return t ? -XEN_EINVAL : -XEN_ENOENT;
	timer_set(&v->singleshot, (int64_t)s->timeout_abs_ns < 0 ? 0 : s->timeout_abs_ns);
	return 0;
}

int64_t vcpuop_stop_singleshot_timer(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	(void)arg;
	if (t != v)
		return t ? -XEN_EINVAL : -XEN_ENOENT;
	timer_stop(&v->singleshot);
	return 0;
}

int64_t timerop_set(struct vcpu *v, struct hypercall *hc, void *arg)
{
	uint64_t when = hc->arg[0];
	uint64_t now = port_time_ns();

	(void)arg;
	if (!when) {
		timer_stop(&v->singleshot);
		return 0;
	}
	if ((int64_t)when < 0 || when > now + TIMER_FAR)
		when = now + TIMER_FAR_NS;
	timer_set(&v->singleshot, when);
	return 0;
}

/* --- Up and down ---------------------------------------------------------- */

int64_t vcpuop_initialise(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);
	struct guest_system sys;
	struct guest_regs regs;
	int rc;

	if (!t)
		return -XEN_ENOENT;
	rc = vcpu_context_check(v->domain, arg, &regs, &sys);
	if (rc)
		return rc;
	return vcpu_set_entry(t, &regs, &sys);
}

int64_t vcpuop_up(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	(void)arg;
	if (!t)
		return -XEN_ENOENT;
	if (!t->initialised)
		return -XEN_EINVAL;
	vcpu_pause_clear(t, PAUSE_DOWN);
	return 0;
}

static bool is_down(const struct vcpu *v)
{
	return atomic_load(&v->pause_flags) & PAUSE_DOWN;
}

int64_t vcpuop_down(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	(void)arg;
	if (!t)
		return -XEN_ENOENT;
	vcpu_down(t);
	return 0;
}

int64_t vcpuop_is_up(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu *t = target(v, hc);

	(void)arg;
	return t ? !is_down(t) : -XEN_ENOENT;
}

int64_t vcpuop_send_nmi(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	(void)arg;
	if (!t)
		return -XEN_ENOENT;
	if (hc->ptr)
		return -XEN_EINVAL;
	atomic_store(&t->nmi_pending, true);
	vcpu_notify(t);
	return 0;
}

/* Only pinned vCPUs of a control domain with the machine's own ACPI have one. */
int64_t vcpuop_get_physid(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)arg;
	return target(v, hc) ? -XEN_EINVAL : -XEN_ENOENT;
}

/* --- Areas in guest memory ------------------------------------------------ */

int64_t vcpuop_get_runstate_info(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct vcpu *t = target(v, hc);

	if (!t)
		return -XEN_ENOENT;
	sched_runstate(t, arg);
	return 0;
}

int64_t vcpuop_register_runstate(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_register_runstate_memory_area *a = arg;
	struct vcpu *t = target(v, hc);
	struct vcpu_runstate_info info;

	if (!t)
		return -XEN_ENOENT;
	if (!gva_is_canonical(a->addr.p))
		return -XEN_EFAULT;
	write_once(t->runstate_area, a->addr.p);
	if (t == v) {
		runstate_update_area(v);
	} else if (a->addr.p) {
		sched_runstate(t, &info);
		/* It is for t's next run to see; that this fails is no error. */
		if (copy_to_guest(v, a->addr.p, &info, sizeof(info)))
			return 0;
	}
	return 0;
}

int64_t vcpuop_register_time(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct vcpu_register_time_memory_area *a = arg;
	struct vcpu *t = target(v, hc);

	if (!t)
		return -XEN_ENOENT;
	if (!gva_is_canonical(a->addr.p))
		return -XEN_EFAULT;
	write_once(t->time_area, a->addr.p);
	if (t == v)
		pvclock_update(v);
	return 0;
}

/*
 * Switches t's vcpu_info over to @at in the pinned page. Whoever sends an
 * event meanwhile may still mark the old place: everything counts as pending
 * in the new one, and its owner looks for itself.
 */
static void move_info(struct vcpu *t, struct guest_pin *pin, uint32_t offset)
{
	struct vcpu_info *to = (struct vcpu_info *)((uint8_t *)pin->va + offset);
	bool dummy = (void *)ALIGN_DOWN((uintptr_t)t->info, PAGE_SIZE) == t->domain->dummy_info;

	if (dummy)
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
	struct vcpu *t = target(v, hc);
	struct domain *d = v->domain;
	struct guest_pin pin;
	int rc = -XEN_EINVAL;

	if (!t)
		return -XEN_ENOENT;
	if (r->offset > PAGE_SIZE - sizeof(struct vcpu_info) || r->offset % 8)
		return -XEN_ENXIO;
	spin_lock(&d->lock);
	if (t->info_pin.page || (t != v && !is_down(t)))
		goto out;
	if (guest_pin(d, GFN(r->mfn), &pin))
		goto out;
	move_info(t, &pin, r->offset);
	rc = 0;
out:
	spin_unlock(&d->lock);
	return rc;
}
