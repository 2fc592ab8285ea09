/* SPDX-License-Identifier: MIT */
/*
 * sched_op: giving the CPU away, shutting down, the domain's watchdogs.
 *
 * Locks: the domain's for watchdogs and the shutdown code.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define POLL_PORTS_MAX 128u
#define NSEC_PER_SEC 1000000000ULL

int64_t schedop_yield(struct vcpu *v, struct hypercall *hc, void *arg)
{
	sched_yield_slice(v);
	return 0;
}

int64_t schedop_block(struct vcpu *v, struct hypercall *hc, void *arg)
{
	vcpu_block(v);
	return 0;
}

int64_t schedop_shutdown(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_shutdown *s = arg;

	domain_shutdown(v->domain, (uint8_t)s->reason);
	return 0;
}

int64_t schedop_poll(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_poll *poll = arg;
	uint32_t ports[POLL_PORTS_MAX];
	int rc = 0;

	if (poll->nr_ports > POLL_PORTS_MAX)
		return -XEN_EINVAL;
	if (copy_from_guest(v, ports, guest_handle(poll->ports), poll->nr_ports * sizeof(ports[0])))
		return -XEN_EFAULT;
	timer_stop(&v->poll_timer);	/* a poll that an event ended leaves it set */

	/* Go to sleep first, look then: a sender that we miss sees us asleep. */
	v->poll_port = poll->nr_ports == 1 ? ports[0] : ~0u;
	vcpu_pause_set(v, PAUSE_POLL);
	for (uint32_t i = 0; i < poll->nr_ports && !rc; i++)
		rc = evtchn_is_pending(v->domain, ports[i]);
	if (rc || (v->regs.rflags & RFLAGS_IF && vcpu_has_work(v)))
		vcpu_pause_clear(v, PAUSE_POLL);
	else if (poll->timeout)
		timer_set(&v->poll_timer, domain_to_host_ns(v->domain, poll->timeout));
	return MIN(rc, 0);
}

int64_t schedop_remote_shutdown(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_remote_shutdown *s = arg;
	struct domain *d = domain_get_by_id(s->domain_id);

	if (!d)
		return -XEN_ESRCH;
	domain_shutdown(d, (uint8_t)s->reason);
	domain_put(d);
	return 0;
}

int64_t schedop_shutdown_code(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_shutdown *s = arg;
	struct domain *d = v->domain;

	spin_lock(&d->lock);
	if (!d->shut_down) {
		d->shutdown_code = (uint8_t)s->reason;
		d->shutdown_code_set = true;
	}
	spin_unlock(&d->lock);
	return 0;
}

/* --- Watchdogs ------------------------------------------------------------ */

static void watchdog_fired(void *data)
{
	domain_shutdown(data, SHUTDOWN_watchdog);
}

void domain_watchdogs_init(struct domain *d)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(d->watchdog); i++)
		timer_init(&d->watchdog[i], watchdog_fired, d);
}

void domain_watchdogs_kill(struct domain *d)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(d->watchdog); i++)
		timer_kill(&d->watchdog[i]);
}

/* Id 0 asks for a new one: its id, or -XEN_ENOSPC. Domain lock held. */
static int64_t watchdog_set(struct domain *d, uint32_t id, uint32_t timeout)
{
	uint32_t i = id - 1;

	if (!id) {
		for (i = 0; i < ARRAY_SIZE(d->watchdog) && timer_is_set(&d->watchdog[i]); i++)
			;
		if (i == ARRAY_SIZE(d->watchdog))
			return -XEN_ENOSPC;
	}
	if (id ? !timer_is_set(&d->watchdog[i]) : !timeout)
		return -XEN_EINVAL;
	if (timeout)
		timer_set(&d->watchdog[i], port_time_ns() + timeout * NSEC_PER_SEC);
	else
		timer_stop(&d->watchdog[i]);
	return id ? 0 : (int64_t)i + 1;
}

int64_t schedop_watchdog(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_watchdog *w = arg;
	int64_t rc;

	if (w->id > ARRAY_SIZE(v->domain->watchdog))
		return -XEN_EINVAL;
	spin_lock(&v->domain->lock);
	rc = watchdog_set(v->domain, w->id, w->timeout);
	spin_unlock(&v->domain->lock);
	return rc;
}

/* --- Control domain ------------------------------------------------------- */

int64_t schedop_pin_override(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct sched_pin_override *p = arg;
	uint64_t before = v->sched.affinity;
	int rc;

	if (p->pcpu >= (int)port_nr_pcpus())
		return -XEN_EINVAL;
	if (p->pcpu < 0 ? !v->pinned_from : !!v->pinned_from)
		return p->pcpu < 0 ? 0 : -XEN_EBUSY;
	rc = sched_set_affinity(v, p->pcpu < 0 ? v->pinned_from : 1ULL << p->pcpu);
	if (!rc)
		v->pinned_from = p->pcpu < 0 ? 0 : before;
	return rc;
}
