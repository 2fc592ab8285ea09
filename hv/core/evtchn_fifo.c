/* SPDX-License-Identifier: MIT */
/*
 * Event channels, FIFO ABI: an event word per port in pages of the guest, and
 * per vCPU a control block with the heads of 16 queues. The guest takes events
 * off the head, we hang them behind the tail by the LINK field.
 *
 * Locks: one per vCPU (LOCK_FIFO) covers the tails of its queues and which
 * channel was last in one of them. Words and control blocks belong to the
 * guest as well: atomics only, and nothing read from there is trusted. What an
 * atomic operation returns is used for one bit at most: more takes the compiler
 * a loop, which a guest that writes all the time could keep going.
 */
#include "evtchn_private.h"
#include "hospes/hypercall.h"

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define MASKED (1u << EVTCHN_FIFO_MASKED)
#define LINKED (1u << EVTCHN_FIFO_LINKED)
#define BUSY (1u << EVTCHN_FIFO_BUSY)
#define LINK_MASK ((uint32_t)EVTCHN_FIFO_LINK_MASK)

#define LINK_TRIES 64u		/* far more than an honest guest makes us need */

static uint32_t *event_word(const struct domain *d, uint32_t port)
{
	uint32_t page = port / EVTCHN_WORDS_PER_PAGE;

	if (page >= atomic_load(&d->evtchn.nr_array))
		return NULL;
	return (uint32_t *)d->evtchn.array[page].va + port % EVTCHN_WORDS_PER_PAGE;
}

/*
 * Hangs @port behind @tail. False: the guest has taken the tail off, the queue
 * is empty. BUSY keeps an honest guest from unmasking the tail meanwhile; one
 * that goes on changing its word loses the event, and only it does.
 */
static bool link_behind(uint32_t *tail, uint32_t port)
{
	uint32_t w = __atomic_load_n(tail, __ATOMIC_SEQ_CST);
	unsigned int tries;

	for (tries = 0; (w & LINKED) && tries < LINK_TRIES; tries++) {
		if (__atomic_compare_exchange_n(tail, &w, (w & ~(LINK_MASK | BUSY)) | port, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
		if (tries == 0) {
			__atomic_fetch_or(tail, BUSY, __ATOMIC_SEQ_CST);
			w = __atomic_load_n(tail, __ATOMIC_SEQ_CST);
		}
	}
	if (tries)
		__atomic_fetch_and(tail, ~BUSY, __ATOMIC_SEQ_CST);
	return tries == LINK_TRIES;
}

static struct evtchn_vcpu *last_queues(const struct domain *d, const struct evtchn *chn)
{
	return &d->vcpus[read_once(chn->queue_vcpu)]->evtchn;
}

/*
 * Puts a pending event into the queue of its vCPU and priority, unless it is
 * in one. It may still be the tail of the queue it was in before; that queue
 * is empty then, and must not link to a word that moves elsewhere.
 */
static void enqueue(struct domain *d, struct evtchn *chn, uint32_t *word)
{
	struct vcpu *v = d->vcpus[read_once(chn->to.vcpu)];
	struct evtchn_vcpu *to = &v->evtchn, *from;
	uint8_t prio = read_once(chn->priority);
	uint32_t tail, bit = 1u << prio;
	bool edge = false;

	for (from = last_queues(d, chn);; from = last_queues(d, chn)) {
		spin_lock_pair(&from->lock, &to->lock);
		if (likely(from == last_queues(d, chn)))
			break;
		spin_unlock_pair(&from->lock, &to->lock);
	}
	if (!(__atomic_fetch_or(word, LINKED, __ATOMIC_SEQ_CST) & LINKED)) {
		if (from->tail[chn->queue_priority] == chn->port)
			from->tail[chn->queue_priority] = 0;
		write_once(chn->queue_vcpu, (uint16_t)v->id);
		chn->queue_priority = prio;
		tail = to->tail[prio];
		to->tail[prio] = chn->port;
		if (!tail || !link_behind(event_word(d, tail), chn->port)) {
			__atomic_store_n(&to->block->head[prio], chn->port, __ATOMIC_RELEASE);
			edge = !(__atomic_fetch_or(&to->block->ready, bit, __ATOMIC_SEQ_CST) & bit);
		}
	}
	spin_unlock_pair(&from->lock, &to->lock);
	if (edge)
		evtchn_mark_upcall(v);
}

bool evtchn_fifo_raise(struct domain *d, struct evtchn *chn)
{
	uint32_t *word = event_word(d, chn->port);
	bool fresh;

	if (unlikely(!word)) {
		/* expand_array makes the page visible first and then looks at the flag. */
		fresh = !atomic_exchange(&chn->early, true);
		word = event_word(d, chn->port);
		if (!word || !atomic_exchange(&chn->early, false))
			return fresh;
	}
	fresh = !(__atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST) & PENDING);
	if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & (MASKED | LINKED)))
		enqueue(d, chn, word);
	return fresh;
}

void evtchn_fifo_unmask(struct domain *d, struct evtchn *chn)
{
	uint32_t *word = event_word(d, chn->port);

	if (!word)
		return;
	__atomic_fetch_and(word, ~MASKED, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) & PENDING)
		enqueue(d, chn, word);
}

/* The word stays in its queue: the guest will find it there, not pending. */
void evtchn_fifo_clear(struct domain *d, struct evtchn *chn)
{
	uint32_t *word = event_word(d, chn->port);

	atomic_store(&chn->early, false);
	if (word)
		__atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
}

bool evtchn_fifo_is_pending(struct domain *d, struct evtchn *chn)
{
	uint32_t *word = event_word(d, chn->port);

	return word ? __atomic_load_n(word, __ATOMIC_SEQ_CST) & PENDING : atomic_load(&chn->early);
}

bool evtchn_fifo_is_linked(struct domain *d, uint32_t port)
{
	uint32_t *word = event_word(d, port);

	return word && (__atomic_load_n(word, __ATOMIC_SEQ_CST) & LINKED);
}

void evtchn_fifo_stop(struct domain *d)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		guest_unpin(&d->vcpus[i]->evtchn.pin);
	while (d->evtchn.nr_array)
		guest_unpin(&d->evtchn.array[--d->evtchn.nr_array]);
}

static void start(struct domain *d)
{
	struct evtchn *chn;

	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct evtchn_vcpu *q = &d->vcpus[i]->evtchn;

		spin_init(&q->lock, LOCK_FIFO);
		memset(q->tail, 0, sizeof(q->tail));
		memset(&q->early_block, 0, sizeof(q->early_block));
		q->block = &q->early_block;
	}
	/* What is pending in the 2-level ABI waits for its event word. */
	for (chn = evtchn_next(d, 1); chn; chn = evtchn_next(d, chn->port + 1)) {
		chn->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
		atomic_store(&chn->early, evtchn_2l_is_pending(d, chn));
	}
	atomic_store(&d->evtchn.fifo, true);
}

/* What was queued so far moves into the guest's own control block. */
static void place_block(struct vcpu *v, const struct guest_pin *pin, uint32_t offset)
{
	struct evtchn_vcpu *q = &v->evtchn;

	spin_lock(&q->lock);
	q->pin = *pin;
	q->block = (void *)((uint8_t *)pin->va + offset);
	*q->block = q->early_block;
	spin_unlock(&q->lock);
	if (q->early_block.ready)	/* does not change any more */
		evtchn_mark_upcall(v);
}

int64_t evtchnop_init_control(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_init_control *op = arg;
	struct domain *d = v->domain;
	struct vcpu *w = domain_vcpu(d, op->vcpu);
	struct guest_pin pin;
	int err = -XEN_EINVAL;

	if (d->evtchn.no_fifo)
		return -XEN_ENOSYS;
	if (!w)
		return -XEN_ENOENT;
	if (op->offset > PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) || op->offset % 8 ||
	    guest_pin(d, GFN(op->control_gfn), &pin))
		return -XEN_EINVAL;
	spin_lock(&d->evtchn.lock);
	if (!w->evtchn.pin.page) {
		if (!d->evtchn.fifo)
			start(d);
		place_block(w, &pin, op->offset);
		err = 0;
	}
	spin_unlock(&d->evtchn.lock);
	if (err)
		guest_unpin(&pin);
	op->link_bits = EVTCHN_FIFO_LINK_BITS;
	return err;
}

/* Raises what came in before the words of @page were there. */
static void raise_early(struct domain *d, uint32_t page)
{
	uint32_t port = page * EVTCHN_WORDS_PER_PAGE, end = port + EVTCHN_WORDS_PER_PAGE;
	struct evtchn *chn;

	while ((chn = evtchn_next(d, port)) && chn->port < end) {
		spin_lock(&chn->lock);
		if (chn->to.state && atomic_load(&d->evtchn.fifo) &&
		    atomic_exchange(&chn->early, false))
			evtchn_raise(d, chn);
		spin_unlock(&chn->lock);
		port = chn->port + 1;
	}
}

int64_t evtchnop_expand_array(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_expand_array *op = arg;
	struct domain *d = v->domain;
	struct guest_pin pin = { 0 };
	int err = guest_pin(d, GFN(op->array_gfn), &pin);
	uint32_t page;

	spin_lock(&d->evtchn.lock);
	page = d->evtchn.nr_array;
	if (!d->evtchn.fifo) {
		err = d->evtchn.no_fifo ? -XEN_ENOSYS : -XEN_EOPNOTSUPP;
	} else if (page == EVTCHN_ARRAY_PAGES) {
		err = -XEN_ENOSPC;
	} else if (!err) {
		d->evtchn.array[page] = pin;
		atomic_store(&d->evtchn.nr_array, page + 1);
	}
	spin_unlock(&d->evtchn.lock);
	if (err)
		guest_unpin(&pin);
	else
		raise_early(d, page);
	return err;
}
