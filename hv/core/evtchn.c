/* SPDX-License-Identifier: MIT */
/*
 * Event channels: ports, bindings, and who is told about an event.
 *
 * Locks: see evtchn_private.h. The order is d->evtchn.lock, link_lock, the locks
 * of both channels, then those of delivery.
 */
#include "evtchn_private.h"
#include "hospes/hypercall.h"

#define PORTS_2L ((uint32_t)EVTCHN_2L_NR_CHANNELS)
#define PORTS_FIFO ((uint32_t)EVTCHN_FIFO_NR_CHANNELS)
#define ALLOC_TRIES 256u	/* so many free ports are linked only if the guest never looks */
#define CLOSE_BATCH 64u
#define VIRQS_PER_VCPU ((1u << VIRQ_TIMER) | (1u << VIRQ_DEBUG) | (1u << VIRQ_XENOPROF) | \
			(1u << VIRQ_XENPMU))

/* Under d->evtchn.lock of either end: which channels are linked to which. */
static struct spinlock link_lock = SPINLOCK(LOCK_LINK);

/* Whom the global VIRQs are for, by default the control domain. Atomic. */
static domid_t virq_handler[EVTCHN_NR_VIRQS];

static bool is_irq(const struct evtchn_binding *to)
{
	return to->state == EVTCHNSTAT_virq || to->state == EVTCHNSTAT_pirq;
}

/* --- Delivery ----------------------------------------------------------- */

static void wake_pollers(struct domain *d, uint32_t port)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct vcpu *v = d->vcpus[i];

		if ((atomic_load(&v->pause_flags) & PAUSE_POLL) &&
		    (v->poll_port == port || v->poll_port == ~0u))
			vcpu_pause_clear(v, PAUSE_POLL);
	}
}

void evtchn_raise(struct domain *d, struct evtchn *chn)
{
	bool fresh = atomic_load(&d->evtchn.fifo) ? evtchn_fifo_raise(d, chn) :
						    evtchn_2l_raise(d, chn);

	if (fresh && unlikely(atomic_load(&d->evtchn.polled)))
		wake_pollers(d, chn->port);
}

int evtchn_send_from(struct domain *d, uint32_t port)
{
	struct evtchn *chn = evtchn_lock(d, port);
	evtchn_notify_fn *notify = NULL;
	int err = 0;

	if (!chn)
		return -XEN_EINVAL;
	if (chn->to.state == EVTCHNSTAT_interdomain)
		evtchn_raise(chn->to.peer.domain, chn->to.peer.chn);
	else if (chn->to.state == EVTCHNSTAT_ipi)
		evtchn_raise(d, chn);
	else if (chn->to.state == EVTCHNSTAT_hypervisor)
		notify = chn->to.notify;
	else if (chn->to.state != EVTCHNSTAT_unbound)
		err = -XEN_EINVAL;
	spin_unlock(&chn->lock);
	if (notify) {
		spin_lock(&d->evtchn.lock);
		notify(d, port);
		spin_unlock(&d->evtchn.lock);
	}
	return err;
}

int64_t evtchnop_send(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return evtchn_send_from(v->domain, ((const struct evtchn_send *)arg)->port);
}

/* Raises @port if it is (still) bound like that: it may have been closed and used anew. */
static void raise_if(struct domain *d, uint32_t port, unsigned int state, uint32_t virq)
{
	struct evtchn *chn = evtchn_lock(d, port);

	if (!chn)
		return;
	if (chn->to.state == state && (state != EVTCHNSTAT_virq || chn->to.irq.nr == virq))
		evtchn_raise(d, chn);
	spin_unlock(&chn->lock);
}

void evtchn_notify_guest(struct domain *d, uint32_t port)
{
	raise_if(d, port, EVTCHNSTAT_hypervisor, 0);
}

void evtchn_vcpu_virq(struct vcpu *v, uint32_t virq)
{
	raise_if(v->domain, read_once(v->evtchn.virq_port[virq]), EVTCHNSTAT_virq, virq);
}

void evtchn_global_virq(uint32_t virq)
{
	struct domain *d = domain_get_by_id(read_once(virq_handler[virq]));

	if (!d)
		return;
	evtchn_vcpu_virq(d->vcpus[0], virq);
	domain_put(d);
}

int evtchn_set_virq_handler(struct domain *d, uint32_t virq)
{
	if (virq >= EVTCHN_NR_VIRQS || VIRQS_PER_VCPU >> virq & 1)
		return -XEN_EINVAL;
	write_once(virq_handler[index_nospec(virq, EVTCHN_NR_VIRQS)], d->id);
	return 0;
}

int64_t evtchnop_unmask(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_unmask *op = arg;
	struct domain *d = v->domain;
	struct evtchn *chn = evtchn_lock(d, op->port);

	if (!chn)
		return -XEN_EINVAL;
	if (chn->to.state && atomic_load(&d->evtchn.fifo))
		evtchn_fifo_unmask(d, chn);
	else if (chn->to.state)
		evtchn_2l_unmask(d, chn);
	spin_unlock(&chn->lock);
	return 0;
}

int evtchn_is_pending(struct domain *d, uint32_t port)
{
	struct evtchn *chn;
	int pending = 0;

	atomic_store(&d->evtchn.polled, true);
	chn = evtchn_lock(d, port);
	if (!chn)
		return -XEN_EINVAL;
	if (chn->to.state)
		pending = atomic_load(&d->evtchn.fifo) ? evtchn_fifo_is_pending(d, chn) :
							 evtchn_2l_is_pending(d, chn);
	spin_unlock(&chn->lock);
	return pending;
}

/* Whoever raised an event in the old place did so before it read v->info. */
void evtchn_vcpu_info_moved(struct vcpu *v)
{
	__atomic_store_n(&v->info->evtchn_pending_sel, ~0UL, __ATOMIC_SEQ_CST);
	__atomic_store_n(&v->info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
	vcpu_mark_upcall(v);
}

/* --- Ports -------------------------------------------------------------- */

/* The first port from @port on that is free, or not; @end if there is none before. */
static uint32_t next_port(const struct evtchn_domain *e, uint32_t port, uint32_t end, bool is_free)
{
	for (; port < end; port = ALIGN_DOWN(port, CHANNELS_PER_BUCKET) + CHANNELS_PER_BUCKET) {
		uint64_t word = read_once(e->free[port / CHANNELS_PER_BUCKET]);

		word = (is_free ? word : ~word) >> port % CHANNELS_PER_BUCKET;
		if (word)
			return MIN(port + (uint32_t)ffs64(word), end);
	}
	return end;
}

struct evtchn *evtchn_next(const struct domain *d, uint32_t port)
{
	uint32_t end = __atomic_load_n(&d->evtchn.nr_ports, __ATOMIC_ACQUIRE);

	port = next_port(&d->evtchn, port, end, false);
	return port < end ? evtchn_lookup(d, port) : NULL;
}

/* Ports are taken lowest first, so a new bucket always follows the last one. */
static int add_bucket(struct evtchn_domain *e)
{
	struct evtchn *bucket = hv_alloc_pages(PAGE_ORDER_4K);

	if (!bucket)
		return -XEN_ENOMEM;
	for (uint32_t i = 0; i < CHANNELS_PER_BUCKET; i++) {
		spin_init(&bucket[i].lock, LOCK_CHANNEL);
		bucket[i].port = e->nr_ports + i;
	}
	e->buckets[e->nr_ports / CHANNELS_PER_BUCKET] = bucket;
	__atomic_store_n(&e->nr_ports, e->nr_ports + CHANNELS_PER_BUCKET, __ATOMIC_RELEASE);
	return 0;
}

/* The lowest free port of @d that the guest has no queue linked through. */
static int find_port(struct domain *d, struct evtchn **out)
{
	struct evtchn_domain *e = &d->evtchn;
	uint32_t end = (e->fifo ? e->max_port : MIN(e->max_port, PORTS_2L - 1)) + 1;
	uint32_t port;

	assert_locked(&e->lock);
	if (domain_is_dying(d))
		return -XEN_EINVAL;
	e->first_free = port = next_port(e, e->first_free, end, true);
	for (unsigned int tries = 0; port < end && tries < ALLOC_TRIES; tries++) {
		if (port >= e->nr_ports && add_bucket(e))
			return -XEN_ENOMEM;
		if (!e->fifo || !evtchn_fifo_is_linked(d, port)) {
			*out = evtchn_lookup(d, port);
			return 0;
		}
		port = next_port(e, port + 1, end, true);
	}
	return -XEN_ENOSPC;
}

/* Binds what find_port() has found, with its lock held too. */
static void bind_channel(struct domain *d, struct evtchn *chn, const struct evtchn_binding *to)
{
	uint64_t *word = &d->evtchn.free[chn->port / CHANNELS_PER_BUCKET];

	write_once(*word, *word & ~(1ULL << chn->port % CHANNELS_PER_BUCKET));
	chn->to = *to;
	chn->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
	atomic_store(&chn->early, false);
}

/* Binds a new port, unless the slot in @to says that the irq has one. */
static int open_port(struct domain *d, const struct evtchn_binding *to, uint32_t *port)
{
	uint32_t *slot = is_irq(to) ? to->irq.slot : NULL;
	struct evtchn *chn;
	int err = -XEN_EEXIST;

	spin_lock(&d->evtchn.lock);
	if (!slot || !*slot)
		err = find_port(d, &chn);
	if (!err) {
		spin_lock(&chn->lock);
		bind_channel(d, chn, to);
		spin_unlock(&chn->lock);
		*port = chn->port;
		if (slot)
			write_once(*slot, chn->port);
	}
	spin_unlock(&d->evtchn.lock);
	return err;
}

/* Lets the port go. The other end, if a domain's, waits for a new partner. */
static int close_port(struct domain *d, struct evtchn *chn, bool by_guest)
{
	struct evtchn_domain *e = &d->evtchn;
	struct evtchn_binding *to = &chn->to;
	struct evtchn *peer = chn;
	uint64_t *word = &e->free[chn->port / CHANNELS_PER_BUCKET];
	int err = -XEN_EINVAL;

	spin_lock(&e->lock);
	spin_lock(&link_lock);
	if (to->state == EVTCHNSTAT_closed || (to->state == EVTCHNSTAT_hypervisor && by_guest))
		goto out;
	err = 0;
	if (to->state == EVTCHNSTAT_interdomain)
		peer = to->peer.chn;
	else if (is_irq(to))
		write_once(*to->irq.slot, 0);
	write_once(*word, *word | 1ULL << chn->port % CHANNELS_PER_BUCKET);
	e->first_free = MIN(e->first_free, chn->port);

	spin_lock_pair(&chn->lock, &peer->lock);
	peer->to.state = EVTCHNSTAT_unbound;
	peer->to.unbound_for = d->id;
	to->state = EVTCHNSTAT_closed;	/* last: without another end it is the peer */
	if (e->fifo)
		evtchn_fifo_clear(d, chn);
	else
		evtchn_2l_clear(d, chn);
	spin_unlock_pair(&chn->lock, &peer->lock);
out:
	spin_unlock(&link_lock);
	spin_unlock(&e->lock);
	return err;
}

/* Closes some ports. True when none is left that may be closed. */
static bool close_some(struct domain *d, bool by_guest)
{
	struct evtchn *chn = evtchn_next(d, 1);
	unsigned int closed = 0;

	for (; chn && closed < CLOSE_BATCH; chn = evtchn_next(d, chn->port + 1))
		closed += !close_port(d, chn, by_guest);
	return !chn;
}

/* --- Hypercalls: binding ------------------------------------------------ */

int64_t evtchnop_alloc_unbound(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_alloc_unbound *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_unbound };
	struct domain *d;
	int err = domain_find_target(v, op->dom, &d);

	if (err)
		return err;
	to.unbound_for = op->remote_dom == DOMID_SELF ? v->domain->id : op->remote_dom;
	err = open_port(d, &to, &op->port);
	domain_put(d);
	return err;
}

int64_t evtchnop_bind_interdomain(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_interdomain *op = arg;
	struct domain *d = v->domain, *rd = domain_get_target(v, op->remote_dom);
	struct evtchn_binding to = { .state = EVTCHNSTAT_interdomain, .peer.domain = rd };
	struct evtchn *chn, *peer;
	int err = -XEN_EINVAL;

	if (!rd)
		return -XEN_ESRCH;
	to.peer.chn = peer = evtchn_lookup(rd, op->remote_port);
	if (!peer)
		goto out;
	spin_lock(&d->evtchn.lock);
	err = find_port(d, &chn);
	if (err)
		chn = peer;		/* only to see whether that is the first error */
	spin_lock(&link_lock);
	spin_lock_pair(&chn->lock, &peer->lock);
	if (peer->to.state != EVTCHNSTAT_unbound || peer->to.unbound_for != d->id) {
		err = -XEN_EINVAL;
	} else if (!err) {
		bind_channel(d, chn, &to);
		peer->to.state = EVTCHNSTAT_interdomain;
		peer->to.peer.domain = d;
		peer->to.peer.chn = chn;
		op->local_port = chn->port;
		/* The peer may have sent while nobody was there to hear it. */
		evtchn_raise(d, chn);
	}
	spin_unlock_pair(&chn->lock, &peer->lock);
	spin_unlock(&link_lock);
	spin_unlock(&d->evtchn.lock);
out:
	domain_put(rd);
	return err;
}

int64_t evtchnop_bind_virq(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_virq *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_virq, .irq.nr = op->virq };
	struct vcpu *w;
	uint32_t virq;

	if (op->virq >= EVTCHN_NR_VIRQS)
		return -XEN_EINVAL;
	virq = (uint32_t)index_nospec(op->virq, EVTCHN_NR_VIRQS);
	if (!(VIRQS_PER_VCPU >> virq & 1) && op->vcpu)
		return -XEN_EINVAL;
	w = domain_vcpu(v->domain, op->vcpu);
	if (!w)
		return -XEN_ENOENT;
	to.vcpu = (uint16_t)w->id;
	to.irq.slot = &w->evtchn.virq_port[virq];
	return open_port(v->domain, &to, &op->port);
}

int64_t evtchnop_bind_pirq(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_pirq *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_pirq, .irq.nr = op->pirq };

	if (op->pirq >= EVTCHN_NR_PIRQS)
		return -XEN_EINVAL;
	to.irq.slot = &v->domain->evtchn.pirq_port[index_nospec(op->pirq, EVTCHN_NR_PIRQS)];
	return open_port(v->domain, &to, &op->port);
}

int64_t evtchnop_bind_ipi(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_ipi *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_ipi, .vcpu = (uint16_t)op->vcpu };

	if (!domain_vcpu(v->domain, op->vcpu))
		return -XEN_ENOENT;
	return open_port(v->domain, &to, &op->port);
}

int evtchn_alloc_hv(struct domain *d, evtchn_notify_fn *notify)
{
	struct evtchn_binding to = { .state = EVTCHNSTAT_hypervisor, .notify = notify };
	uint32_t port;
	int err = open_port(d, &to, &port);

	return err ? err : (int)port;
}

int64_t evtchnop_close(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_close *op = arg;
	struct evtchn *chn = evtchn_lookup(v->domain, op->port);

	return chn ? close_port(v->domain, chn, true) : -XEN_EINVAL;
}

/* --- Hypercalls: the rest ----------------------------------------------- */

static int fill_status(const struct evtchn_binding *to, struct evtchn_status *op)
{
	if (to->state == EVTCHNSTAT_hypervisor)
		return -XEN_EACCES;
	op->status = to->state;
	op->vcpu = to->vcpu;
	if (to->state == EVTCHNSTAT_unbound) {
		op->u.unbound.dom = to->unbound_for;
	} else if (to->state == EVTCHNSTAT_interdomain) {
		op->u.interdomain.dom = to->peer.domain->id;
		op->u.interdomain.port = to->peer.chn->port;
	} else if (is_irq(to)) {
		op->u.virq = to->irq.nr;	/* where u.pirq is, too */
	}
	return 0;
}

int64_t evtchnop_status(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_status *op = arg;
	struct evtchn *chn;
	struct domain *d;
	int err = domain_find_target(v, op->dom, &d);

	if (err)
		return err;
	err = -XEN_EINVAL;
	chn = evtchn_lock(d, op->port);
	if (chn) {
		err = fill_status(&chn->to, op);
		spin_unlock(&chn->lock);
	}
	domain_put(d);
	return err;
}

/* IPIs and the VIRQs of a vCPU stay with it. */
int64_t evtchnop_bind_vcpu(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_bind_vcpu *op = arg;
	const struct evtchn_binding *to;
	struct evtchn *chn;
	int err = 0;

	if (!domain_vcpu(v->domain, op->vcpu))
		return -XEN_ENOENT;
	chn = evtchn_lock(v->domain, op->port);
	if (!chn)
		return -XEN_EINVAL;
	to = &chn->to;
	if (to->state == EVTCHNSTAT_closed || to->state == EVTCHNSTAT_ipi ||
	    (to->state == EVTCHNSTAT_virq && VIRQS_PER_VCPU >> to->irq.nr & 1))
		err = -XEN_EINVAL;
	else
		write_once(chn->to.vcpu, (uint16_t)op->vcpu);
	spin_unlock(&chn->lock);
	return err;
}

int64_t evtchnop_set_priority(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_set_priority *op = arg;
	struct evtchn *chn = evtchn_lock(v->domain, op->port);
	int err = 0;

	if (!chn)
		return -XEN_EINVAL;
	if (!atomic_load(&v->domain->evtchn.fifo))
		err = -XEN_ENOSYS;
	else if (chn->to.state == EVTCHNSTAT_closed)
		err = -XEN_EACCES;
	else if (op->priority > EVTCHN_FIFO_PRIORITY_MIN)
		err = -XEN_EINVAL;
	else
		write_once(chn->priority, (uint8_t)op->priority);
	spin_unlock(&chn->lock);
	return err;
}

/* Back to the 2-level ABI, with the guest's channels closed. */
static int reset_abi(struct domain *d)
{
	struct evtchn *chn;
	int err = 0;

	spin_lock(&d->evtchn.lock);
	for (chn = evtchn_next(d, 1); chn && !err; chn = evtchn_next(d, chn->port + 1)) {
		if (chn->to.state != EVTCHNSTAT_hypervisor)
			err = -XEN_EAGAIN;	/* another vCPU bound it meanwhile */
	}
	if (!err && atomic_exchange(&d->evtchn.fifo, false)) {
		/* Whoever raises a channel that is left does so under its lock. */
		for (chn = evtchn_next(d, 1); chn; chn = evtchn_next(d, chn->port + 1)) {
			spin_lock(&chn->lock);
			spin_unlock(&chn->lock);
		}
		evtchn_fifo_stop(d);
	}
	spin_unlock(&d->evtchn.lock);
	return err;
}

int64_t evtchnop_reset(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_reset *op = arg;
	struct domain *d;
	int64_t err = domain_find_target(v, op->dom, &d);

	if (err)
		return err;
	if (d != v->domain && !read_once(d->pause_count))
		err = -XEN_EINVAL;
	while (!err && !close_some(d, true)) {
		if (hypercall_preempt(v))
			err = HC_CONTINUE;
	}
	if (!err)
		err = reset_abi(d);
	domain_put(d);
	return err;
}

/* --- Life --------------------------------------------------------------- */

int evtchn_domain_init(struct domain *d, uint32_t max_port)
{
	struct evtchn_domain *e = &d->evtchn;
	uint32_t words = MIN(max_port, PORTS_FIFO - 1) / CHANNELS_PER_BUCKET + 1;

	spin_init(&e->lock, LOCK_EVTCHN);
	e->max_port = MIN(max_port, PORTS_FIFO - 1);
	e->buckets = hv_alloc(words * sizeof(e->buckets[0]));
	e->free = hv_alloc(words * sizeof(e->free[0]));
	if (!e->buckets || !e->free)
		return -XEN_ENOMEM;
	memset(e->free, 0xff, words * sizeof(e->free[0]));
	e->free[0] &= ~1ULL;		/* no event channel is port 0 */
	return 0;
}

bool evtchn_destroy_step(struct domain *d)
{
	/* Whoever binds a port of it from now on finds it dying. */
	spin_lock(&d->evtchn.lock);
	spin_unlock(&d->evtchn.lock);
	if (!close_some(d, false))
		return false;
	spin_lock(&d->evtchn.lock);
	evtchn_fifo_stop(d);
	spin_unlock(&d->evtchn.lock);
	return true;
}

void evtchn_domain_free(struct domain *d)
{
	struct evtchn_domain *e = &d->evtchn;

	for (uint32_t virq = 0; virq < EVTCHN_NR_VIRQS; virq++) {
		if (virq_handler[virq] == d->id)
			write_once(virq_handler[virq], 0);
	}
	for (; e->nr_ports; e->nr_ports -= CHANNELS_PER_BUCKET)
		hv_free_pages(e->buckets[e->nr_ports / CHANNELS_PER_BUCKET - 1], PAGE_ORDER_4K);
	hv_free(e->buckets);
	hv_free(e->free);
}
