/* SPDX-License-Identifier: MIT */
/*
 * One-shot timers on per-CPU queues.
 *
 * A timer belongs to the queue of the CPU it was last set on. Handlers run
 * on that CPU, outside of any lock, after a guest exit or from idle.
 */
#ifndef HOSPES_TIMER_H
#define HOSPES_TIMER_H

#include "hospes/spinlock.h"

struct pcpu;

struct timer {
	uint64_t deadline;		/* ns, port_time_ns() scale */
	void (*handler)(void *data);
	void *data;			/* borrowed: outlives the timer */
	struct timer *next, *prev;	/* queue lock; next == NULL: not queued */
	_Atomic(struct timer_queue *) queue; /* where it is or was last queued */
};

struct timer_queue {
	struct spinlock lock;
	struct timer head;		/* sorted by deadline */
	struct timer *running;		/* handler in progress, or NULL */
	uint64_t armed;			/* what the port was last asked for */
	unsigned int cpu;
};

void timer_queue_init(struct timer_queue *q, unsigned int cpu);

/* Prepares @t; no allocation, so nothing to undo. */
void timer_init(struct timer *t, void (*handler)(void *data), void *data);

/*
 * Sets @t to fire at @ns on the calling CPU; a deadline in the past fires at
 * the next opportunity. Replaces an earlier setting, on whichever CPU.
 */
void timer_set(struct timer *t, uint64_t ns);

/* Takes @t out. The handler may still be running on another CPU. */
void timer_stop(struct timer *t);

/* Takes @t out for good and waits until its handler is not running elsewhere. */
void timer_kill(struct timer *t);

/* Moves @t, if set, to the calling CPU: done when its vCPU moves. */
void timer_migrate(struct timer *t);

static inline bool timer_is_set(const struct timer *t) { return t->next != NULL; }

/* Called by the port in interrupt service when an armed deadline has passed. */
void timer_interrupt(void);

/* Runs what has expired on this CPU; from the main loop. */
void timer_run(struct timer_queue *q);

#endif
