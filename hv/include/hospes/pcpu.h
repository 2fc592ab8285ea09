/* SPDX-License-Identifier: MIT */
/*
 * The core's data of one physical CPU. The port allocates one per CPU,
 * zeroed, sets cpu_id, and hands it out by port_this_pcpu().
 */
#ifndef HOSPES_PCPU_H
#define HOSPES_PCPU_H

#include <stdatomic.h>

#include "hospes/port.h"
#include "hospes/sched.h"
#include "hospes/timer.h"

struct vcpu;

struct pcpu {
	unsigned int cpu_id;		/* set once by the port, */
	uint32_t apic_id, acpi_id;	/* as these: what the firmware calls it */

	/* Written by any CPU to ask for work here; read after each exit. */
	atomic_uint softirqs;		/* atomic, release on set */

	/* Below: this CPU only, unless a comment names a lock. */
	struct vcpu *current;		/* the vCPU it runs, NULL when idle */
	struct timer_queue timers;	/* own lock inside */
	struct sched_pcpu sched;	/* sched lock */

	/* TLB shoot-down: see p2m.c. */
	_Atomic(struct vcpu *) in_guest; /* vCPU inside the guest now, or NULL */
};

/* Work that other contexts may ask of a CPU. */
enum softirq {
	SOFTIRQ_SCHEDULE,		/* pick the next vCPU */
	SOFTIRQ_REAP,			/* one piece of domain_reap_step(); others go before it */
	SOFTIRQ_TIMER,			/* run expired timers */
	SOFTIRQ_CONSOLE,		/* serial input waits; CPU 0 */
};

/* The pcpu of CPU number @cpu; valid from start of day for online CPUs. */
extern struct pcpu *pcpus[MAX_PCPUS];

/* Asks CPU @cpu_id for work; kicks it when it is another one. Any context. */
static inline void softirq_raise(unsigned int cpu_id, enum softirq nr)
{
	struct pcpu *p = pcpus[cpu_id];
	unsigned int old = atomic_fetch_or(&p->softirqs, 1u << nr);

	if (!(old & (1u << nr)) && p != port_this_pcpu())
		port_kick(cpu_id);
}

/* The running vCPU of this CPU, NULL when idle. */
static inline struct vcpu *current_vcpu(void)
{
	return port_this_pcpu()->current;
}

/*
 * Where the port hands over for good, on every CPU: runs vCPUs. CPU 0 calls
 * hospes_start() first, alone, then lets the others in. Before that the port
 * has filled pcpus[], read the options (cmdline.h) and pointed `cpu` (cpu.h) to
 * its CPU's operations.
 */
void pcpu_main(void) __noreturn;
void hospes_start(void);

#endif
