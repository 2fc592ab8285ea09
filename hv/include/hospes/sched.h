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

#include "hospes/spinlock.h"
#include "hospes/timer.h"

struct vcpu;
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

/* One vCPU as the scheduler sees it. */
struct sched_vcpu {
	uint64_t affinity;	/* bit per physical CPU; sched lock of ->cpu */
	unsigned int cpu;	/* whose run queue; changes under both locks */
	bool running;		/* some CPU has it as current */
};

/* One physical CPU's run queue. */
struct sched_pcpu {
	struct spinlock lock;
};

void sched_pcpu_init(struct pcpu *p);

/* Attaches a vCPU (not runnable yet) with its domain's parameters. */
int sched_vcpu_init(struct vcpu *v) __must_check;
void sched_vcpu_destroy(struct vcpu *v);

/* The vCPU's pause_flags became zero: queue it and poke a CPU. Any context. */
void sched_wake(struct vcpu *v);

/* Its pause_flags became non-zero: off the queue; a kick if it runs elsewhere. */
void sched_sleep(struct vcpu *v);

/* As sched_sleep(), and waits until no CPU has its state loaded. */
void sched_sleep_sync(struct vcpu *v);

/* The current vCPU gives the rest of its slice away. */
void sched_yield_slice(struct vcpu *v);

/*
 * The main loop's question: what runs next on this CPU? Accounts for the
 * outgoing vCPU, saves it (cpu->save) before any other CPU may take it,
 * loads the incoming one (cpu->load), sets the slice timer. NULL = idle.
 */
struct vcpu *schedule(struct pcpu *p);

/* Settings; errors -XEN_EINVAL (out of range), -XEN_ENOSPC (not admitted). */
int sched_set_params(struct domain *d, const struct sched_params *params) __must_check;
int sched_set_affinity(struct vcpu *v, uint64_t mask) __must_check;

#endif
