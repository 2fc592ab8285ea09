/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on per-CPU heaps.
 *
 * Owns: struct timer_queue. Locks: its lock (LOCK_TIMER) covers the heap and
 * the timers in it. timer.queue says where a timer is set: from NULL it goes
 * atomically, under the lock of the new queue, and back under the same lock.
 * What the hardware is armed for is the owning CPU's business alone.
 */
#include "hospes/timer.h"

#include "hospes/lib.h"
#include "hospes/pcpu.h"

#define NEVER UINT64_MAX
#define MAX_FIRED 64	/* in one go, so that guests' timers cannot hold a CPU */

static uint64_t first_deadline(const struct timer_queue *q)
{
	return q->timers.first ? q->timers.first->key : NEVER;
}

/* Own CPU, own lock. */
static void arm(struct timer_queue *q, uint64_t ns)
{
	q->armed = ns;
	port_timer_arm(ns);
}

static void dequeue(struct timer_queue *q, struct timer *t)
{
	heap_remove(&q->timers, &t->node);
	atomic_store_explicit(&t->queue, NULL, memory_order_release);
}

void timer_queue_init(struct timer_queue *q)
{
	*q = (struct timer_queue){ .armed = NEVER };
	spin_init(&q->lock, LOCK_TIMER);
}

void timer_init(struct timer *t, void (*handler)(void *data), void *data)
{
	*t = (struct timer){ .handler = handler, .data = data };
}

bool timer_stop(struct timer *t)
{
	struct timer_queue *q;
	bool found = false;

	/* It may be on another queue until we have the lock. */
	while (!found && (q = atomic_load_explicit(&t->queue, memory_order_acquire))) {
		spin_lock(&q->lock);
		found = q == atomic_load_explicit(&t->queue, memory_order_relaxed);
		if (likely(found))
			dequeue(q, t);
		spin_unlock(&q->lock);
	}
	return found;
}

void timer_set(struct timer *t, uint64_t ns)
{
	struct pcpu *p = port_this_pcpu();
	struct timer_queue *q = &p->timers, *none;

	for (;;) {
		timer_stop(t);
		spin_lock(&q->lock);
		none = NULL;
		if (likely(atomic_compare_exchange_strong(&t->queue, &none, q)))
			break;
		spin_unlock(&q->lock);
	}
	heap_insert(&q->timers, &t->node, ns);
	/* A deadline that has passed is served before the next guest entry anyway. */
	if (ns < q->armed && ns <= port_time_ns())
		softirq_raise(p->cpu_id, SOFTIRQ_TIMER);
	else if (ns < q->armed)
		arm(q, ns);
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
	struct timer_queue *q = atomic_load_explicit(&t->queue, memory_order_relaxed);

	if (q && q != &port_this_pcpu()->timers && timer_stop(t))
		timer_set(t, t->node.key);
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

	spin_lock(&q->lock);
	for (unsigned int i = 0; i < MAX_FIRED && first_deadline(q) <= now; i++) {
		struct timer *t = container_of(q->timers.first, struct timer, node);

		q->running = t;
		/* Before it leaves the queue: timer_kill() sees one or the other. */
		atomic_fetch_add_explicit(&t->active, 1, memory_order_relaxed);
		dequeue(q, t);
		spin_unlock(&q->lock);
		t->handler(t->data);
		q->running = NULL;
		atomic_fetch_sub_explicit(&t->active, 1, memory_order_release);
		spin_lock(&q->lock);
	}
	if (first_deadline(q) < q->armed)
		arm(q, first_deadline(q));
	spin_unlock(&q->lock);
}

void timer_idle(struct timer_queue *q)
{
	spin_lock(&q->lock);
	if (first_deadline(q) != q->armed)
		arm(q, first_deadline(q));
	spin_unlock(&q->lock);
}
