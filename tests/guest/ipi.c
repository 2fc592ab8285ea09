/* SPDX-License-Identifier: MIT */
/* vcpus=4 Interrupts and NMIs from vCPU to vCPU: by id, by cluster, by shorthand, many of them. */
#include "guest.h"

const char guest_name[] = "ipi";

#define VECTOR 0x71
#define STOP 0x72

static unsigned int nr;
static volatile bool stop[MAX_CPUS];

static void stop_here(struct regs *r)
{
	(void)r;
	stop[this_cpu()->id] = true;
}

static void nmi_taken(struct regs *r)
{
	(void)r;
}

static void listen(void *arg)
{
	(void)arg;
	irq_on();
	while (!stop[this_cpu()->id])
		pause();
}

/* The same asleep: an interrupt wakes it. */
static void sleep(void *arg)
{
	(void)arg;
	while (!stop[this_cpu()->id])
		halt_on();
}

static void expect(unsigned int cpu, unsigned int vector, u32 count)
{
	if (!wait_for(&cpus[cpu].irqs[vector], count, 2000))
		fail("ipi", (int)cpu, "vCPU %u has %u of vector %#x, not %u", cpu,
		     cpus[cpu].irqs[vector], vector, count);
}

static void end_all(void)
{
	apic_icr(0, 0xc0000 | STOP);
	for (unsigned int i = 1; i < nr; i++) {
		CHECK(smp_wait(i, 2000));
		stop[i] = false;
	}
}

static void once(void (*how)(void *))
{
	u32 before[MAX_CPUS];

	for (unsigned int i = 0; i < nr; i++)
		before[i] = cpus[i].irqs[VECTOR];
	for (unsigned int i = 1; i < nr; i++)
		smp_run(i, how, NULL);
	apic_icr(apic_id_of(1), VECTOR);
	expect(1, VECTOR, before[1] + 1);
	apic_icr(0, 0xc0000 | VECTOR);			/* all but self */
	for (unsigned int i = 1; i < nr; i++)
		expect(i, VECTOR, before[i] + (i == 1 ? 2 : 1));
	CHECK_EQ(cpus[0].irqs[VECTOR], before[0]);
	apic_icr(0, 0x80000 | VECTOR);			/* all */
	for (unsigned int i = 0; i < nr; i++)
		expect(i, VECTOR, before[i] + (i == 0 ? 1 : i == 1 ? 3 : 2));
	/* Logical: vCPUs 2 and 3 of cluster 0. */
	apic_icr(1u << apic_id_of(2) | 1u << apic_id_of(3), 0x800 | VECTOR);
	expect(2, VECTOR, before[2] + 3);
	expect(3, VECTOR, before[3] + 3);
	apic_icr(0xffffffff, VECTOR);			/* broadcast id */
	for (unsigned int i = 0; i < nr; i++)
		expect(i, VECTOR, before[i] + (i == 0 ? 2 : 4));
	CHECK_EQ(cpus[1].irqs[VECTOR], before[1] + 4);
	end_all();
}

static void ping_pong(void)
{
	u32 before = cpus[1].irqs[VECTOR];

	for (unsigned int i = 1; i < nr; i++)
		smp_run(i, sleep, NULL);
	for (u32 i = 1; i <= 200; i++) {
		apic_icr(apic_id_of(1), VECTOR);
		expect(1, VECTOR, before + i);
	}
	end_all();
}

static void nmis(void)
{
	trap_handlers[TRAP_NMI] = nmi_taken;
	smp_run(1, listen, NULL);
	smp_run(2, sleep, NULL);
	smp_run(3, sleep, NULL);
	apic_icr(apic_id_of(1), 0x400);
	expect(1, TRAP_NMI, 1);
	apic_icr(0, 0xc0400);
	for (unsigned int i = 1; i < nr; i++)
		expect(i, TRAP_NMI, i == 1 ? 2 : 1);
	end_all();
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor: the emulator has no x2APIC");
	nr = smp_count();
	if (nr < 4)
		skip("needs 4 vCPUs");
	trap_handlers[STOP] = stop_here;
	apic_init();
	CHECK(smp_start_all());
	once(listen);
	once(sleep);
	ping_pong();
	nmis();
}
