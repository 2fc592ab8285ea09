/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: which vCPU runs where, and for how long.
 *
 * A weighted fair class with caps, pinning and work stealing, and above it a
 * real-time class (period, budget) guarded by an admission test. Runstate
 * accounting happens here and nowhere else, so it adds up.
 */
#ifndef HOSPES_SCHED_H
#define HOSPES_SCHED_H

#include "hospes/timer.h"

struct vcpu;
struct vcpu_runstate_info;
struct pcpu;
struct domain;

#define SCHED_WEIGHT_DEFAULT 256u

/* Parameters of a domain; every vCPU of it gets the same. */
struct sched_params {
	uint16_t weight;	/* 1..65535, share relative to others */
	uint16_t cap;		/* percent of one CPU per domain, 0 = none */
	uint64_t rt_period_ns;	/* 0 = not real-time */
	uint64_t rt_budget_ns;	/* per vCPU and period */
};

/* Where a vCPU that does not run is kept. */
enum sched_where {
	SCHED_NOWHERE,		/* asleep, or running */
	SCHED_QUEUED,		/* waits in the run queue of ->cpu */
	SCHED_THROTTLED,	/* used up what it may; its timer ends that */
};

/* Run time per period: of a real-time vCPU, or of a capped domain's together. */
struct sched_budget {
	uint64_t period, quota;	/* ns */
	_Atomic int64_t left;	/* ns; negative: debt */
	_Atomic uint64_t until;	/* ns, end of the period */
};
#define SCHED_REFILL 1ULL	/* ->until while a CPU begins the next period */

/* One vCPU as the scheduler sees it. Sched lock of ->cpu but where noted. */
struct sched_vcpu {
	struct heap_node node;	/* in a run queue: by deadline or vruntime */
	struct timer timer;	/* ends SCHED_THROTTLED */
	unsigned int cpu;	/* whose run queue and lock; changes only when not loaded */
	atomic_bool running;	/* ->cpu has it as current; may be read without the lock */
	bool loaded;		/* its state is on ->cpu, where it runs or ran last */
	uint8_t where;		/* enum sched_where */
	uint64_t affinity;	/* as asked for: bit per physical CPU */
	uint64_t allowed;	/* the same; in the real-time class its home CPU only */
	uint64_t since;		/* ns, accounted up to here while running */
	uint64_t vruntime;	/* weighted run time */
	uint32_t weight;
	uint32_t rt_util;	/* share of the home CPU in ppm; 0: not real-time */
	struct sched_budget rt;	/* until is its deadline */
};

/* One physical CPU's run queue. */
struct sched_pcpu {
	struct spinlock lock;	/* covers the block below */
	struct heap queue;
	unsigned int nr_stealable;	/* queued ones that others may take */
	uint64_t vtime;		/* vruntime of the last one picked, at most a slice older */
	uint64_t used;		/* ns that vCPUs ran here */
	uint64_t rt_util;	/* admitted here, ppm; admission lock */
	struct vcpu *loaded;	/* whose state this CPU has; stays while idle */
	bool busy;		/* with something else: who waits here is for others to take */

	_Atomic uint64_t front;	/* key of the first in the queue, ~0 = none; for others' eyes */
	struct timer slice;	/* own CPU */
};

void sched_pcpu_init(struct pcpu *p);

/* Attaches a vCPU (not runnable yet) with its domain's parameters. */
int sched_vcpu_init(struct vcpu *v) __must_check;
void sched_vcpu_destroy(struct vcpu *v);

/* The vCPU's pause_flags became zero: queue it and poke a CPU. Any context. */
void sched_wake(struct vcpu *v);

/* Its pause_flags are not zero, or others now: off the queue; a kick if it runs elsewhere. */
void sched_sleep(struct vcpu *v);

/* As sched_sleep(), and waits until no CPU has its state loaded. */
void sched_sleep_sync(struct vcpu *v);

/* The current vCPU gives the rest of its slice away. */
void sched_yield_slice(struct vcpu *v);

/* Is no CPU holding @v's state? If one does, it is asked to let go. */
bool sched_is_unloaded(struct vcpu *v);

/*
 * The main loop's question: what runs next on this CPU? Accounts for the
 * outgoing vCPU, saves it (cpu->save) before any other CPU may take it,
 * loads the incoming one (cpu->load), sets the slice timer. NULL = idle:
 * then the last vCPU's state stays loaded until somebody needs it elsewhere.
 */
struct vcpu *schedule(struct pcpu *p);

/* Settings; errors -XEN_EINVAL (out of range), -XEN_ENOSPC (not admitted). */
int sched_set_params(struct domain *d, const struct sched_params *params) __must_check;
int sched_set_affinity(struct vcpu *v, uint64_t mask) __must_check;

/* The runstate of any vCPU up to now. No scheduler lock held. */
void sched_runstate(struct vcpu *v, struct vcpu_runstate_info *info);

/* How long @p has run no vCPU, up to now. No scheduler lock held. */
uint64_t sched_idle_ns(struct pcpu *p);

/* A CPU with time for other work: an idle one, else this one. */
unsigned int sched_idle_cpu(void);

/*
 * This CPU has no time for a while, until it schedules: who runs here stops,
 * and goes on elsewhere as do those who wait or wake here, if they can.
 */
void sched_busy(void);

#endif
