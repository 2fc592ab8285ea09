/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on per-CPU heaps.
 *
 * Owns: struct timer_queue. Locks: its lock (LOCK_TIMER) covers the heap and
 * the timers in it; timer.queue changes only under the lock of the queue it
 * leaves. What the hardware is armed for is the owning CPU's business alone.
 */
#include "hospes/timer.h"

#include "hospes/lib.h"
#include "hospes/pcpu.h"

#define NEVER UINT64_MAX
#define MAX_FIRED 64	/* in one go, so that guests' timers cannot hold a CPU */

static struct timer *first_timer(const struct timer_queue *q)
{
	struct heap_node *n = q->timers.first;

	return n ? container_of(n, struct timer, node) : NULL;
}

/* Locks the queue @t is on, which may change until we have the lock. */
static struct timer_queue *lock_queue(struct timer *t)
{
	for (;;) {
		struct timer_queue *q = atomic_load_explicit(&t->queue, memory_order_acquire);

		if (!q)
			return NULL;
		spin_lock(&q->lock);
		if (likely(q == atomic_load_explicit(&t->queue, memory_order_relaxed)))
			return q;
		spin_unlock(&q->lock);
	}
}

static void dequeue(struct timer_queue *q, struct timer *t)
{
	if (t->queued) {
		heap_remove(&q->timers, &t->node);
		write_once(t->queued, false);
	}
}

/* Own CPU, own lock. */
static void arm(struct timer_queue *q, uint64_t ns)
{
	q->armed = ns;
	port_timer_arm(ns);
}

/*
 * Takes @t off its queue and makes this CPU's queue, returned locked, the one
 * it belongs to. With @only_set a timer that is not set stays and gives NULL.
 */
static struct timer_queue *take_over(struct timer *t, bool only_set)
{
	struct timer_queue *mine = &port_this_pcpu()->timers, *q;

	while ((q = lock_queue(t))) {
		if (only_set && (q == mine || !t->queued))
			break;
		dequeue(q, t);
		if (q == mine)
			return q;
		atomic_store_explicit(&t->queue, mine, memory_order_release);
		spin_unlock(&q->lock);
		only_set = false;
	}
	if (q)
		spin_unlock(&q->lock);
	return NULL;
}

/* A deadline that has passed needs no interrupt: it is served before the next guest entry. */
static void queue_here(struct timer_queue *q, struct timer *t, uint64_t ns)
{
	heap_insert(&q->timers, &t->node, ns);
	write_once(t->queued, true);
	if (ns < q->armed) {
		if (ns <= port_time_ns())
			softirq_raise(port_this_pcpu()->cpu_id, SOFTIRQ_TIMER);
		else
			arm(q, ns);
	}
	spin_unlock(&q->lock);
}

void timer_queue_init(struct timer_queue *q)
{
	*q = (struct timer_queue){ .armed = NEVER };
	spin_init(&q->lock, LOCK_TIMER);
}

void timer_init(struct timer *t, void (*handler)(void *data), void *data)
{
	*t = (struct timer){ .handler = handler, .data = data };
	atomic_init(&t->queue, &port_this_pcpu()->timers);
	atomic_init(&t->active, 0);
}

void timer_set(struct timer *t, uint64_t ns)
{
	struct timer_queue *q = take_over(t, false);

	ASSERT(q);
	queue_here(q, t, ns);
}

void timer_stop(struct timer *t)
{
	struct timer_queue *q = lock_queue(t);

	if (!q)
		return;
	dequeue(q, t);
	spin_unlock(&q->lock);
}

void timer_kill(struct timer *t)
{
	unsigned int own = port_this_pcpu()->timers.running == t;

	do {
		timer_stop(t);
		while (atomic_load_explicit(&t->active, memory_order_acquire) > own)
			port_relax();
	} while (timer_is_set(t));
}

void timer_migrate(struct timer *t)
{
	struct timer_queue *q = timer_is_set(t) ? take_over(t, true) : NULL;

	if (q)
		queue_here(q, t, t->node.key);
}

void timer_interrupt(void)
{
	struct pcpu *p = port_this_pcpu();

	p->timers.armed = NEVER;
	softirq_raise(p->cpu_id, SOFTIRQ_TIMER);
}

void timer_run(struct timer_queue *q)
{
	uint64_t now = port_time_ns();
	struct timer *t;

	spin_lock(&q->lock);
	for (unsigned int i = 0; i < MAX_FIRED; i++) {
		t = first_timer(q);
		if (!t || t->node.key > now)
			break;
		dequeue(q, t);
		q->running = t;
		atomic_fetch_add_explicit(&t->active, 1, memory_order_relaxed);
		spin_unlock(&q->lock);
		t->handler(t->data);
		q->running = NULL;
		atomic_fetch_sub_explicit(&t->active, 1, memory_order_release);
		spin_lock(&q->lock);
	}
	t = first_timer(q);
	if (t && t->node.key < q->armed)
		arm(q, t->node.key);
	spin_unlock(&q->lock);
}

void timer_idle(struct timer_queue *q)
{
	const struct timer *t;

	spin_lock(&q->lock);
	t = first_timer(q);
	if (q->armed != (t ? t->node.key : NEVER))
		arm(q, t ? t->node.key : NEVER);
	spin_unlock(&q->lock);
}
