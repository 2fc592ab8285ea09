/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on per-CPU queues.
 *
 * A timer belongs to the queue of the CPU it was last set on. Handlers run
 * on that CPU, outside of any lock, after a guest exit or from idle.
 */
#ifndef HOSPES_TIMER_H
#define HOSPES_TIMER_H

#include "hospes/heap.h"
#include "hospes/spinlock.h"

/* Zeroed it is a timer that can be stopped, killed and migrated, but not set. */
struct timer {
	struct heap_node node;		/* queue lock; key: ns on the port_time_ns() scale */
	void (*handler)(void *data);
	void *data;			/* borrowed: outlives the timer */
	_Atomic(struct timer_queue *) queue; /* where it is set; NULL: it is not */
	atomic_uint active;		/* CPUs inside its handler */
};

struct timer_queue {
	struct spinlock lock;
	struct heap timers;
	struct timer *running;		/* handler in progress, or NULL; own CPU */
	uint64_t armed;			/* what the port was last asked for; own CPU */
};

void timer_queue_init(struct timer_queue *q);

/* Prepares @t; no allocation, so nothing to undo. */
void timer_init(struct timer *t, void (*handler)(void *data), void *data);

/*
 * Sets @t to fire at @ns on the calling CPU; a deadline in the past fires at
 * the next opportunity. Replaces an earlier setting, on whichever CPU.
 */
void timer_set(struct timer *t, uint64_t ns);

/* Takes @t out; was it set? The handler may still be running on another CPU. */
bool timer_stop(struct timer *t);

/*
 * Takes @t out for good and waits until its handler is not running elsewhere.
 * The caller sees to it that nobody else sets it again; the handler may.
 */
void timer_kill(struct timer *t);

/* Moves @t, if set, to the calling CPU: done when its vCPU moves. */
void timer_migrate(struct timer *t);

static inline bool timer_is_set(const struct timer *t)
{
	return atomic_load_explicit(&t->queue, memory_order_relaxed);
}

/* Called by the port in interrupt service when an armed deadline has passed. */
void timer_interrupt(void);

/* Runs what has expired on this CPU; from the main loop. */
void timer_run(struct timer_queue *q);

/*
 * Stopping or postponing a timer leaves the hardware armed, as the spurious
 * interrupt costs less than arming twice. Before a long idle this makes it exact.
 */
void timer_idle(struct timer_queue *q);

#endif
