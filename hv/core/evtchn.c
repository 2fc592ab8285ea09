/* SPDX-License-Identifier: MIT */
/*
 * Event channels: ports, bindings, and who is told about an event.
 *
 * Locks: see evtchn_private.h. The order is d->evtchn.lock of both ends, then
 * the locks of both channels, then those of delivery.
 */
#include "evtchn_private.h"
#include "hospes/hypercall.h"

#define PORTS_2L ((uint32_t)EVTCHN_2L_NR_CHANNELS)
#define PORTS_FIFO ((uint32_t)EVTCHN_FIFO_NR_CHANNELS)
#define ALLOC_TRIES 256u	/* so many free ports are linked only if the guest never looks */
#define RESET_BATCH 64u
#define VIRQS_PER_VCPU ((1u << VIRQ_TIMER) | (1u << VIRQ_DEBUG) | (1u << VIRQ_XENOPROF) | \
			(1u << VIRQ_XENPMU))

/* --- Delivery ----------------------------------------------------------- */

/* The hint goes first: who starts to poll while we look sets it again. */
static void wake_pollers(struct domain *d, uint32_t port)
{
	atomic_store(&d->evtchn.polled, false);
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct vcpu *v = d->vcpus[i];

		if (!(atomic_load(&v->pause_flags) & PAUSE_POLL))
			continue;
		if (v->poll_port == port || v->poll_port == ~0u)
			vcpu_pause_clear(v, PAUSE_POLL);
		else
			atomic_store(&d->evtchn.polled, true);
	}
}

void evtchn_raise(struct domain *d, struct evtchn *chn)
{
	struct evtchn_fifo *f = evtchn_fifo(d);
	bool fresh = f ? evtchn_fifo_raise(d, f, chn) : evtchn_2l_raise(d, chn);

	if (fresh && unlikely(atomic_load(&d->evtchn.polled)))
		wake_pollers(d, chn->port);
}

int64_t evtchnop_send(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_send *op = arg;
	struct domain *d = v->domain;
	struct evtchn *chn = evtchn_lock(d, op->port);
	evtchn_notify_fn *notify = NULL;
	int64_t err = 0;

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
		notify(d, op->port);
		spin_unlock(&d->evtchn.lock);
	}
	return err;
}

/* Raises @port if it is (still) bound like that: it may have been closed and used anew. */
static void raise_if(struct domain *d, uint32_t port, unsigned int state, uint32_t virq)
{
	struct evtchn *chn = evtchn_lock(d, port);

	if (!chn)
		return;
	if (chn->to.state == state && (state != EVTCHNSTAT_virq || chn->to.irq == virq))
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

int64_t evtchnop_unmask(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_unmask *op = arg;
	struct domain *d = v->domain;
	struct evtchn *chn = evtchn_lock(d, op->port);
	struct evtchn_fifo *f;

	if (!chn)
		return -XEN_EINVAL;
	f = evtchn_fifo(d);
	if (chn->to.state && f)
		evtchn_fifo_unmask(d, f, chn);
	else if (chn->to.state)
		evtchn_2l_unmask(d, chn);
	spin_unlock(&chn->lock);
	return 0;
}

int evtchn_is_pending(struct domain *d, uint32_t port)
{
	struct evtchn *chn;
	struct evtchn_fifo *f;
	int pending = 0;

	atomic_store(&d->evtchn.polled, true);
	chn = evtchn_lock(d, port);
	if (!chn)
		return -XEN_EINVAL;
	f = evtchn_fifo(d);
	if (chn->to.state)
		pending = f ? evtchn_fifo_is_pending(f, chn) : evtchn_2l_is_pending(d, chn);
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

static void set_free(struct evtchn_domain *e, uint32_t port)
{
	uint32_t w = port / CHANNELS_PER_BUCKET;

	write_once(e->free[w], e->free[w] | 1ULL << port % CHANNELS_PER_BUCKET);
	e->free_word = MIN(e->free_word, w);
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
static int find_port(struct domain *d, uint32_t *out)
{
	struct evtchn_domain *e = &d->evtchn;
	uint32_t limit = e->fifo ? e->max_port : MIN(e->max_port, PORTS_2L - 1);
	uint32_t w = e->free_word, tries = 0;

	for (; w < limit / CHANNELS_PER_BUCKET && !e->free[w]; w++)
		;
	e->free_word = w;
	for (; w <= limit / CHANNELS_PER_BUCKET; w++) {
		for (uint64_t bits = e->free[w]; bits; bits &= bits - 1) {
			uint32_t port = w * CHANNELS_PER_BUCKET + (uint32_t)ffs64(bits);

			if (port > limit || tries++ == ALLOC_TRIES)
				return -XEN_ENOSPC;
			if (port >= e->nr_ports && add_bucket(e))
				return -XEN_ENOMEM;
			if (!e->fifo || !evtchn_fifo_is_linked(e->fifo, port)) {
				*out = port;
				return 0;
			}
		}
	}
	return -XEN_ENOSPC;
}

/* Takes a port and binds it. Both locks of domains are held where there are two. */
static int bind_port(struct domain *d, const struct evtchn_binding *to, struct evtchn **out)
{
	struct evtchn_domain *e = &d->evtchn;
	struct evtchn *chn;
	uint32_t port;
	int err;

	assert_locked(&e->lock);
	if (domain_is_dying(d))
		return -XEN_EINVAL;
	err = find_port(d, &port);
	if (err)
		return err;
	chn = evtchn_lookup(d, port);
	e->free[port / CHANNELS_PER_BUCKET] &= ~(1ULL << port % CHANNELS_PER_BUCKET);
	e->nr_guest += to->state != EVTCHNSTAT_hypervisor;
	spin_lock(&chn->lock);
	chn->to = *to;
	chn->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
	atomic_store(&chn->early, false);
	spin_unlock(&chn->lock);
	*out = chn;
	return 0;
}

/* As above for one domain, with the lock. @slot, if any, names the port of an irq. */
static int open_port(struct domain *d, const struct evtchn_binding *to, uint32_t *slot,
		     uint32_t *port)
{
	struct evtchn *chn;
	int err = -XEN_EEXIST;

	spin_lock(&d->evtchn.lock);
	if (!slot || !*slot) {
		err = bind_port(d, to, &chn);
		if (!err) {
			*port = chn->port;
			if (slot)
				write_once(*slot, chn->port);
		}
	}
	spin_unlock(&d->evtchn.lock);
	return err;
}

/* Lets the port go. The other end, if a domain's, waits for a new partner. */
static int close_locked(struct domain *d, struct evtchn *chn, bool by_guest)
{
	struct evtchn_binding *to = &chn->to;
	struct evtchn *peer = chn;

	if (to->state == EVTCHNSTAT_closed || (to->state == EVTCHNSTAT_hypervisor && by_guest))
		return -XEN_EINVAL;
	if (to->state == EVTCHNSTAT_interdomain)
		peer = to->peer.chn;
	else if (to->state == EVTCHNSTAT_virq)
		write_once(d->vcpus[(VIRQS_PER_VCPU >> to->irq & 1) ? to->vcpu : 0]
				->evtchn.virq_port[to->irq], 0);
	else if (to->state == EVTCHNSTAT_pirq)
		d->evtchn.pirq_port[to->irq] = 0;
	d->evtchn.nr_guest -= to->state != EVTCHNSTAT_hypervisor;

	spin_lock_pair(&chn->lock, &peer->lock);
	if (peer != chn) {
		peer->to.state = EVTCHNSTAT_unbound;
		peer->to.unbound_for = d->id;
	}
	to->state = EVTCHNSTAT_closed;
	if (d->evtchn.fifo)
		evtchn_fifo_clear(d->evtchn.fifo, chn);
	else
		evtchn_2l_clear(d, chn);
	spin_unlock_pair(&chn->lock, &peer->lock);
	set_free(&d->evtchn, chn->port);
	return 0;
}

/*
 * Closes a port under the locks of both ends' domains. Which they are is only
 * known under the first, so look, lock, and look again.
 */
static int close_port(struct domain *d, struct evtchn *chn, bool by_guest)
{
	struct domain *other = d, *now;
	int err;

	for (;;) {
		spin_lock_pair(&d->evtchn.lock, &other->evtchn.lock);
		now = chn->to.state == EVTCHNSTAT_interdomain ? chn->to.peer.domain : d;
		if (now == other)
			break;
		domain_get(now);
		spin_unlock_pair(&d->evtchn.lock, &other->evtchn.lock);
		if (other != d)
			domain_put(other);
		other = now;
	}
	err = close_locked(d, chn, by_guest);
	spin_unlock_pair(&d->evtchn.lock, &other->evtchn.lock);
	if (other != d)
		domain_put(other);
	return err;
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
	err = open_port(d, &to, NULL, &op->port);
	domain_put(d);
	return err;
}

int64_t evtchnop_bind_interdomain(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_interdomain *op = arg;
	struct domain *d = v->domain, *rd = domain_get_target(v, op->remote_dom);
	struct evtchn_binding to = { .state = EVTCHNSTAT_interdomain };
	struct evtchn *chn, *peer;
	int err = -XEN_EINVAL;

	if (!rd)
		return -XEN_ESRCH;
	spin_lock_pair(&d->evtchn.lock, &rd->evtchn.lock);
	peer = evtchn_lookup(rd, op->remote_port);
	if (!peer || peer->to.state != EVTCHNSTAT_unbound || peer->to.unbound_for != d->id)
		goto out;
	to.peer.domain = rd;
	to.peer.chn = peer;
	err = bind_port(d, &to, &chn);
	if (err)
		goto out;
	op->local_port = chn->port;
	spin_lock_pair(&chn->lock, &peer->lock);
	peer->to.peer.domain = d;
	peer->to.peer.chn = chn;
	peer->to.state = EVTCHNSTAT_interdomain;
	/* The peer may have sent while nobody was there to hear it. */
	evtchn_raise(d, chn);
	spin_unlock_pair(&chn->lock, &peer->lock);
out:
	spin_unlock_pair(&d->evtchn.lock, &rd->evtchn.lock);
	domain_put(rd);
	return err;
}

int64_t evtchnop_bind_virq(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_virq *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_virq, .irq = op->virq };
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
	return open_port(v->domain, &to, &w->evtchn.virq_port[virq], &op->port);
}

int64_t evtchnop_bind_pirq(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_pirq *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_pirq, .irq = op->pirq };
	struct evtchn_domain *e = &v->domain->evtchn;

	if (op->pirq >= EVTCHN_NR_PIRQS)
		return -XEN_EINVAL;
	return open_port(v->domain, &to, &e->pirq_port[index_nospec(op->pirq, EVTCHN_NR_PIRQS)],
			 &op->port);
}

int64_t evtchnop_bind_ipi(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_bind_ipi *op = arg;
	struct evtchn_binding to = { .state = EVTCHNSTAT_ipi, .vcpu = (uint16_t)op->vcpu };

	if (!domain_vcpu(v->domain, op->vcpu))
		return -XEN_ENOENT;
	return open_port(v->domain, &to, NULL, &op->port);
}

int evtchn_alloc_hv(struct domain *d, evtchn_notify_fn *notify)
{
	struct evtchn_binding to = { .state = EVTCHNSTAT_hypervisor, .notify = notify };
	uint32_t port;
	int err = open_port(d, &to, NULL, &port);

	return err ? err : (int)port;
}

int64_t evtchnop_close(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_close *op = arg;
	struct evtchn *chn = evtchn_lookup(v->domain, op->port);

	return chn ? close_port(v->domain, chn, true) : -XEN_EINVAL;
}

/* --- Hypercalls: the rest ----------------------------------------------- */

static int fill_status(const struct evtchn *chn, struct evtchn_status *op)
{
	const struct evtchn_binding *to = &chn->to;

	if (to->state == EVTCHNSTAT_hypervisor)
		return -XEN_EACCES;
	op->status = to->state;
	op->vcpu = to->vcpu;
	if (to->state == EVTCHNSTAT_unbound) {
		op->u.unbound.dom = to->unbound_for;
	} else if (to->state == EVTCHNSTAT_interdomain) {
		op->u.interdomain.dom = to->peer.domain->id;
		op->u.interdomain.port = to->peer.chn->port;
	} else if (to->state == EVTCHNSTAT_pirq || to->state == EVTCHNSTAT_virq) {
		op->u.virq = to->irq;
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
		err = fill_status(chn, op);
		spin_unlock(&chn->lock);
	}
	domain_put(d);
	return err;
}

/* IPIs and the VIRQs of a vCPU stay with it. */
static bool may_move(const struct evtchn_binding *to)
{
	if (to->state == EVTCHNSTAT_virq)
		return !(VIRQS_PER_VCPU >> to->irq & 1);
	return to->state != EVTCHNSTAT_closed && to->state != EVTCHNSTAT_ipi;
}

int64_t evtchnop_bind_vcpu(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_bind_vcpu *op = arg;
	struct evtchn *chn;
	int err = 0;

	if (!domain_vcpu(v->domain, op->vcpu))
		return -XEN_ENOENT;
	chn = evtchn_lock(v->domain, op->port);
	if (!chn)
		return -XEN_EINVAL;
	if (may_move(&chn->to))
		write_once(chn->to.vcpu, (uint16_t)op->vcpu);
	else
		err = -XEN_EINVAL;
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
	if (!evtchn_fifo(v->domain))
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
	struct evtchn_fifo *f;
	struct evtchn *chn;
	int err = 0;

	spin_lock(&d->evtchn.lock);
	f = d->evtchn.fifo;
	if (d->evtchn.nr_guest) {
		err = -XEN_EAGAIN;	/* another vCPU bound one meanwhile */
	} else if (f) {
		__atomic_store_n(&d->evtchn.fifo, NULL, __ATOMIC_SEQ_CST);
		/* Whoever raises a channel that is left does so under its lock. */
		for (uint32_t port = 1; (chn = evtchn_lookup(d, port)); port++) {
			spin_lock(&chn->lock);
			spin_unlock(&chn->lock);
		}
		evtchn_fifo_destroy(d, f);
	}
	spin_unlock(&d->evtchn.lock);
	return err;
}

int64_t evtchnop_reset(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_reset *op = arg;
	unsigned int closed = 0;
	struct evtchn *chn;
	struct domain *d;
	int64_t err = domain_find_target(v, op->dom, &d);

	if (err)
		return err;
	if (d != v->domain && !d->pause_count)
		err = -XEN_EINVAL;
	for (uint32_t port = 1; !err && (chn = evtchn_lookup(d, port)); port++) {
		if (read_once(d->evtchn.free[port / CHANNELS_PER_BUCKET]) == ~0ULL)
			port |= CHANNELS_PER_BUCKET - 1;
		else if (!close_port(d, chn, true) && ++closed % RESET_BATCH == 0 &&
			 hypercall_preempt(v))
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
	uint32_t words;

	spin_init(&e->lock, LOCK_EVTCHN);
	e->max_port = MIN(max_port, PORTS_FIFO - 1);
	words = e->max_port / CHANNELS_PER_BUCKET + 1;
	e->buckets = hv_alloc(words * sizeof(e->buckets[0]));
	e->free = hv_alloc(words * sizeof(e->free[0]));
	if (!e->buckets || !e->free) {
		evtchn_domain_free(d);
		return -XEN_ENOMEM;
	}
	for (uint32_t port = 1; port <= e->max_port; port++)
		set_free(e, port);
	return 0;
}

void evtchn_domain_destroy(struct domain *d)
{
	struct evtchn *chn;

	/* Whoever binds a port of it from now on finds it dying. */
	spin_lock(&d->evtchn.lock);
	spin_unlock(&d->evtchn.lock);
	for (uint32_t port = 1; (chn = evtchn_lookup(d, port)); port++)
		(void)close_port(d, chn, false);
	if (d->evtchn.fifo)
		evtchn_fifo_destroy(d, d->evtchn.fifo);
	d->evtchn.fifo = NULL;
}

void evtchn_domain_free(struct domain *d)
{
	struct evtchn_domain *e = &d->evtchn;

	for (; e->nr_ports; e->nr_ports -= CHANNELS_PER_BUCKET)
		hv_free_pages(e->buckets[e->nr_ports / CHANNELS_PER_BUCKET - 1], PAGE_ORDER_4K);
	hv_free(e->buckets);
	hv_free(e->free);
	e->buckets = NULL;
	e->free = NULL;
}

void evtchn_vcpu_init(struct vcpu *v)
{
	memset(&v->evtchn, 0, sizeof(v->evtchn));
}
