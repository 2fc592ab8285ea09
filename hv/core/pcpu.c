/* SPDX-License-Identifier: MIT */
/*
 * What a physical CPU does: start of day, and the loop of guest, exit, and
 * the work that others ask for in between.
 */
#include "hospes/pcpu.h"

#include "hospes/builder.h"
#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/log.h"

#define POSTPONED (1u << SOFTIRQ_REAP)	/* does not keep a vCPU from running */

struct pcpu *pcpus[MAX_PCPUS];
const struct cpu_ops *cpu;

static void run_softirqs(struct pcpu *p)
{
	unsigned int pending = atomic_exchange(&p->softirqs, 0);

	if (pending & (1u << SOFTIRQ_TIMER))
		timer_run(&p->timers);
	if (pending & (1u << SOFTIRQ_CONSOLE))
		console_poll();
	/* An idle CPU has time for it. */
	if (pending & (1u << SOFTIRQ_REAP) &&
	    (sched_idle_cpu() != p->cpu_id || domain_reap_step()))
		softirq_raise(sched_idle_cpu(), SOFTIRQ_REAP);
	/* Who runs without a slice may need one now for what is postponed. */
	if (pending & (1u << SOFTIRQ_SCHEDULE) ||
	    (pending & POSTPONED && !timer_is_set(&p->sched.slice)))
		(void)schedule(p);
}

static void idle(struct pcpu *p)
{
	if (domain_reap_step() || page_scrub_step()) {
		port_poll_interrupts();
		return;
	}
	timer_idle(&p->timers);
	/* What another CPU asks for from here on comes with a kick. */
	if (!atomic_load(&p->softirqs))
		port_idle();
}

void pcpu_main(void)
{
	struct pcpu *p = port_this_pcpu();
	struct vm_exit exit;
	struct vcpu *v;

	if (p->cpu_id && cpu->pcpu_init(p))
		panic("CPU %u cannot run guests as CPU 0 can", p->cpu_id);
	softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	for (;;) {
		if (unlikely(atomic_load_explicit(&p->softirqs, memory_order_acquire)))
			run_softirqs(p);
		v = p->current;
		if (unlikely(!v)) {
			idle(p);
			continue;
		}
		exit_prepare(v);
		if (unlikely(atomic_load_explicit(&p->softirqs, memory_order_acquire) & ~POSTPONED))
			continue;
		cpu->run(v, &exit);
		if (exit.kind == EXIT_INTERRUPT || exit.kind == EXIT_NMI)
			port_poll_interrupts();
		exit_handle(v, &exit);
	}
}

void hospes_start(void)
{
	static struct guest_list list;
	const struct boot_info *info = port_boot_info();
	unsigned int started = 0;

	for (unsigned int i = 0; i < port_nr_pcpus(); i++) {
		timer_queue_init(&pcpus[i]->timers);
		sched_pcpu_init(pcpus[i]);
	}
	policy_init_host();
	guest_list_load(info, port_map_boot, &list);
	if (cpu->pcpu_init(port_this_pcpu())) {
		log_err("this CPU cannot run guests");
		return;
	}
	for (unsigned int i = 0; i < list.nr; i++)
		started += builder_start(&list.guest[i]);
	builder_free_modules(&list);
	log_info("%u of %u guests started", started, list.nr + list.rejected);
}
