/* SPDX-License-Identifier: MIT */
/* The local APIC by MSRs: registers, reserved bits, priorities and nesting, self-IPI. */
#include "guest.h"

const char guest_name[] = "x2apic";

#define LOW 0x51
#define MIDDLE 0x8f
#define HIGH 0xe0

static unsigned int order[8], nr_taken;

static void note(struct regs *r)
{
	order[nr_taken++ % 8] = (unsigned int)r->vector;
}

/* Its handler lets higher ones in, and sends itself one of its own class, which has to wait. */
static void nest(struct regs *r)
{
	note(r);
	apic_write(APIC_SELF_IPI, HIGH);
	apic_write(APIC_SELF_IPI, MIDDLE - 1);
	CHECK_EQ(apic_read(APIC_PPR), MIDDLE & 0xf0);
	irq_window();
	CHECK_EQ(nr_taken, 2);
}

static void refused(unsigned int reg, u64 value)
{
	if (wrmsr_safe(MSR_X2APIC + reg, value) != TRAP_GP)
		fail("x2apic", (int)reg, "%#x = %#lx is taken", reg, value);
}

static void unreadable(unsigned int reg)
{
	u64 value;

	if (rdmsr_safe(MSR_X2APIC + reg, &value) != TRAP_GP)
		fail("x2apic", (int)reg, "%#x can be read", reg);
}

static void registers(void)
{
	CHECK_EQ(rdmsr(MSR_X2APIC + APIC_ID), 0);
	CHECK_EQ(rdmsr(MSR_X2APIC + APIC_LDR), 1);
	CHECK_EQ(rdmsr(MSR_X2APIC + APIC_VERSION) & 0xff, 0x14);
	unreadable(APIC_EOI);
	unreadable(APIC_SELF_IPI);
	unreadable(APIC_DFR);
	unreadable(APIC_ICR + 1);
	unreadable(0);
	refused(APIC_ID, 0);
	refused(APIC_LDR, 1);
	refused(APIC_PPR, 0);
	refused(APIC_IRR, 0);
	refused(APIC_EOI, 1);
	refused(APIC_ESR, 1);
	refused(APIC_TPR, 0x100);
	refused(APIC_SPIV, 0x10000);
	refused(APIC_LVT_TIMER, 0x80000);
	refused(APIC_SELF_IPI, 0x100);
	refused(APIC_ICR, 0x100000);
	wrmsr(MSR_X2APIC + APIC_LVT_LINT0, 0x10700);
	CHECK_EQ(rdmsr(MSR_X2APIC + APIC_LVT_LINT0), 0x10700);
	wrmsr(MSR_X2APIC + APIC_TPR, 0x35);
	CHECK_EQ(read_cr8(), 3);
	write_cr8(0);
}

void guest_main(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 21 & 1))
		skip("no x2APIC");
	apic_init();
	registers();
	trap_handlers[LOW] = note;
	trap_handlers[HIGH] = note;
	trap_handlers[MIDDLE - 1] = note;
	trap_handlers[MIDDLE] = note;

	/* Three at once come in the order of their vectors. */
	apic_write(APIC_SELF_IPI, LOW);
	apic_write(APIC_SELF_IPI, HIGH);
	apic_write(APIC_SELF_IPI, MIDDLE);
	CHECK(apic_bit(APIC_IRR, LOW) && apic_bit(APIC_IRR, HIGH));
	for (int i = 0; i < 4; i++)
		irq_window();
	CHECK_EQ(nr_taken, 3);
	CHECK_EQ(order[0], HIGH);
	CHECK_EQ(order[1], MIDDLE);
	CHECK_EQ(order[2], LOW);

	/* A handler is interrupted by a higher class only. */
	nr_taken = 0;
	trap_handlers[MIDDLE] = nest;
	apic_write(APIC_SELF_IPI, MIDDLE);
	for (int i = 0; i < 4; i++)
		irq_window();
	CHECK_EQ(nr_taken, 3);
	CHECK_EQ(order[1], HIGH);
	CHECK_EQ(order[2], MIDDLE - 1);

	/* HLT ends at once when one is waiting; several are one. */
	nr_taken = 0;
	apic_write(APIC_SELF_IPI, LOW);
	apic_write(APIC_SELF_IPI, LOW);
	halt_on();
	irq_window();
	CHECK_EQ(nr_taken, 1);

	/* A vector below 16 is an error of the sender. */
	wrmsr(MSR_X2APIC + APIC_ESR, 0);
	apic_write(APIC_SELF_IPI, 5);
	wrmsr(MSR_X2APIC + APIC_ESR, 0);
	CHECK(rdmsr(MSR_X2APIC + APIC_ESR) & 0x60);
}
