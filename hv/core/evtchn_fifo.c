/* SPDX-License-Identifier: MIT */
/*
 * Event channels, FIFO ABI: an event word per port in pages of the guest, and
 * per vCPU a control block with the heads of 16 queues. The guest takes events
 * off the head, we hang them behind the tail by the LINK field.
 *
 * Locks: one per vCPU (LOCK_FIFO) covers the tails of its queues and which
 * channel was last in one of them. Words and control blocks belong to the
 * guest as well: atomics only, and nothing read from there is trusted.
 */
#include "evtchn_private.h"
#include "hospes/hypercall.h"

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define MASKED (1u << EVTCHN_FIFO_MASKED)
#define LINKED (1u << EVTCHN_FIFO_LINKED)
#define BUSY (1u << EVTCHN_FIFO_BUSY)
#define LINK_MASK ((uint32_t)EVTCHN_FIFO_LINK_MASK)

#define WORDS_PER_PAGE (PAGE_SIZE / sizeof(event_word_t))
#define ARRAY_PAGES (EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE)
#define LINK_TRIES 64u		/* far more than an honest guest makes us need */

struct evtchn_fifo {
	uint32_t nr_pages;		/* release on write, after its page */
	struct guest_pin page[ARRAY_PAGES];
};

struct evtchn_vcpu_fifo {
	struct spinlock lock;
	uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];		/* ports; 0 = known empty */
	struct evtchn_fifo_control_block *block;	/* in pin, or &early_block */
	struct guest_pin pin;
	struct evtchn_fifo_control_block early_block;	/* until the guest gives one */
};

static uint32_t *event_word(const struct evtchn_fifo *f, uint32_t port)
{
	uint32_t page = port / WORDS_PER_PAGE;

	if (page >= __atomic_load_n(&f->nr_pages, __ATOMIC_SEQ_CST))
		return NULL;
	return (uint32_t *)f->page[page].va + port % WORDS_PER_PAGE;
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
		if (tries == 0)
			w = __atomic_or_fetch(tail, BUSY, __ATOMIC_SEQ_CST);
	}
	if (tries)
		__atomic_fetch_and(tail, ~BUSY, __ATOMIC_SEQ_CST);
	return tries == LINK_TRIES;
}

static struct evtchn_vcpu_fifo *last_queues(const struct domain *d, const struct evtchn *chn)
{
	return d->vcpus[read_once(chn->queue_vcpu)]->evtchn.fifo;
}

/*
 * Puts a pending event into the queue of its vCPU and priority, unless it is
 * in one. It may still be the tail of the queue it was in before; that queue
 * is empty then, and must not link to a word that moves elsewhere.
 */
static void enqueue(struct domain *d, struct evtchn_fifo *f, struct evtchn *chn, uint32_t *word)
{
	struct vcpu *v = d->vcpus[read_once(chn->to.vcpu)];
	struct evtchn_vcpu_fifo *to = v->evtchn.fifo, *from;
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
		if (!tail || !link_behind(event_word(f, tail), chn->port)) {
			__atomic_store_n(&to->block->head[prio], chn->port, __ATOMIC_RELEASE);
			edge = !(__atomic_fetch_or(&to->block->ready, bit, __ATOMIC_SEQ_CST) & bit);
		}
	}
	spin_unlock_pair(&from->lock, &to->lock);
	if (edge)
		evtchn_mark_upcall(v);
}

bool evtchn_fifo_raise(struct domain *d, struct evtchn_fifo *f, struct evtchn *chn)
{
	uint32_t *word = event_word(f, chn->port);
	uint32_t old;

	if (unlikely(!word)) {
		/* expand_array makes the page visible first and then looks at the flag. */
		bool fresh = !atomic_exchange(&chn->early, true);

		word = event_word(f, chn->port);
		if (!word || !atomic_exchange(&chn->early, false))
			return fresh;
	}
	old = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
	if (!(old & (MASKED | LINKED)))
		enqueue(d, f, chn, word);
	return !(old & PENDING);
}

void evtchn_fifo_unmask(struct domain *d, struct evtchn_fifo *f, struct evtchn *chn)
{
	uint32_t *word = event_word(f, chn->port);

	if (!word)
		return;
	if (__atomic_fetch_and(word, ~MASKED, __ATOMIC_SEQ_CST) & PENDING)
		enqueue(d, f, chn, word);
}

/* The word stays in its queue: the guest will find it there, not pending. */
void evtchn_fifo_clear(struct evtchn_fifo *f, struct evtchn *chn)
{
	uint32_t *word = event_word(f, chn->port);

	atomic_store(&chn->early, false);
	if (word)
		__atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
}

bool evtchn_fifo_is_pending(struct evtchn_fifo *f, struct evtchn *chn)
{
	uint32_t *word = event_word(f, chn->port);

	return word ? __atomic_load_n(word, __ATOMIC_SEQ_CST) & PENDING : atomic_load(&chn->early);
}

bool evtchn_fifo_is_linked(struct evtchn_fifo *f, uint32_t port)
{
	uint32_t *word = event_word(f, port);

	return word && (__atomic_load_n(word, __ATOMIC_SEQ_CST) & LINKED);
}

void evtchn_fifo_destroy(struct domain *d, struct evtchn_fifo *f)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct evtchn_vcpu_fifo *q = d->vcpus[i]->evtchn.fifo;

		if (q && q->pin.page)
			guest_unpin(&q->pin);
		hv_free(q);
		d->vcpus[i]->evtchn.fifo = NULL;
	}
	for (unsigned int i = 0; i < f->nr_pages; i++)
		guest_unpin(&f->page[i]);
	hv_free(f);
}

/* What is pending in the 2-level ABI waits for its event word. */
static void switch_channels(struct domain *d)
{
	struct evtchn *chn;

	for (uint32_t port = 1; (chn = evtchn_lookup(d, port)); port++) {
		chn->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
		atomic_store(&chn->early, chn->to.state && evtchn_2l_is_pending(d, chn));
	}
}

static int fifo_create(struct domain *d)
{
	struct evtchn_fifo *f = hv_alloc(sizeof(*f));

	if (!f)
		return -XEN_ENOMEM;
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct evtchn_vcpu_fifo *q = hv_alloc(sizeof(*q));

		if (!q) {
			evtchn_fifo_destroy(d, f);
			return -XEN_ENOMEM;
		}
		spin_init(&q->lock, LOCK_FIFO);
		q->block = &q->early_block;
		d->vcpus[i]->evtchn.fifo = q;
	}
	switch_channels(d);
	__atomic_store_n(&d->evtchn.fifo, f, __ATOMIC_SEQ_CST);
	return 0;
}

/* What was queued for @w so far moves into the guest's own control block. */
static int place_block(struct vcpu *w, const struct guest_pin *pin, uint32_t offset)
{
	struct evtchn_vcpu_fifo *q = w->evtchn.fifo;
	bool ready;

	if (q->pin.page)
		return -XEN_EINVAL;
	spin_lock(&q->lock);
	q->pin = *pin;
	q->block = (void *)((uint8_t *)pin->va + offset);
	*q->block = q->early_block;
	ready = q->early_block.ready;
	spin_unlock(&q->lock);
	if (ready)
		evtchn_mark_upcall(w);
	return 0;
}

int64_t evtchnop_init_control(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct evtchn_init_control *op = arg;
	struct domain *d = v->domain;
	struct vcpu *w = domain_vcpu(d, op->vcpu);
	struct guest_pin pin;
	int err = 0;

	if (d->evtchn.no_fifo)
		return -XEN_ENOSYS;
	if (!w)
		return -XEN_ENOENT;
	if (op->offset > PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) || op->offset % 8)
		return -XEN_EINVAL;
	if (guest_pin(d, GFN(op->control_gfn), &pin))
		return -XEN_EINVAL;
	spin_lock(&d->evtchn.lock);
	if (!d->evtchn.fifo)
		err = fifo_create(d);
	if (!err)
		err = place_block(w, &pin, op->offset);
	spin_unlock(&d->evtchn.lock);
	if (err)
		guest_unpin(&pin);
	op->link_bits = EVTCHN_FIFO_LINK_BITS;
	return err;
}

/* Raises what came in before the words of @page were there. */
static void raise_early(struct domain *d, uint32_t page)
{
	uint32_t port = page * (uint32_t)WORDS_PER_PAGE, end = port + (uint32_t)WORDS_PER_PAGE;
	struct evtchn *chn;

	for (; port < end && (chn = evtchn_lookup(d, port)); port++) {
		if (!atomic_load(&chn->early))
			continue;
		spin_lock(&chn->lock);
		if (chn->to.state && evtchn_fifo(d) && atomic_exchange(&chn->early, false))
			evtchn_raise(d, chn);
		spin_unlock(&chn->lock);
	}
}

int64_t evtchnop_expand_array(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct evtchn_expand_array *op = arg;
	struct domain *d = v->domain;
	struct guest_pin pin;
	int err, bad = guest_pin(d, GFN(op->array_gfn), &pin);
	struct evtchn_fifo *f;
	uint32_t page = 0;

	spin_lock(&d->evtchn.lock);
	f = d->evtchn.fifo;
	if (!f) {
		err = d->evtchn.no_fifo ? -XEN_ENOSYS : -XEN_EOPNOTSUPP;
	} else if (f->nr_pages == ARRAY_PAGES) {
		err = -XEN_ENOSPC;
	} else if (bad) {
		err = -XEN_EINVAL;
	} else {
		err = 0;
		page = f->nr_pages;
		f->page[page] = pin;
		__atomic_store_n(&f->nr_pages, page + 1, __ATOMIC_SEQ_CST);
	}
	spin_unlock(&d->evtchn.lock);
	if (!err)
		raise_early(d, page);
	else if (!bad)
		guest_unpin(&pin);
	return err;
}
