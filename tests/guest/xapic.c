/* SPDX-License-Identifier: MIT */
/* The local APIC as a page of memory: registers, reserved bits, modes, self-IPI, errors. */
#include "guest.h"

const char guest_name[] = "xapic";

#define BASE 0xfee00000ul
#define VECTOR 0x61

static void base_refused(u64 value)
{
	if (wrmsr_safe(MSR_APIC_BASE, value) != TRAP_GP)
		fail("apic base", 0, "%#lx is taken", value);
}

static void modes(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);

	CHECK_EQ(base, 0xfee00900);
	base_refused((base & ~0x800ul) | 0x400);	/* x2APIC without APIC */
	base_refused(base | 1);
	base_refused(base | 1ul << 50);
	wrmsr(MSR_APIC_BASE, base | 0x400);
	CHECK_EQ(rdmsr(MSR_APIC_BASE), 0xfee00d00);
	base_refused(base);				/* x2APIC to xAPIC */
	wrmsr(MSR_APIC_BASE, base & ~0x800ul);		/* off */
	base_refused(base | 0x400);			/* off to x2APIC */
	wrmsr(MSR_APIC_BASE, base);
	CHECK_EQ(rdmsr(MSR_APIC_BASE), 0xfee00900);
	CHECK_EQ(apic_read(APIC_SPIV), 0xff);
}

static u32 taken(void)
{
	irq_window();
	return this_cpu()->irqs[VECTOR];
}

void guest_main(void)
{
	volatile u32 *page = (volatile u32 *)BASE;

	CHECK_EQ(apic_read(APIC_ID), 0);
	CHECK_EQ(apic_read(APIC_VERSION) & 0xff, 0x14);
	if (on_xen) {
		CHECK_EQ(apic_read(APIC_VERSION), 0x50014);
		CHECK_EQ(apic_read(APIC_SPIV), 0xff);
		CHECK_EQ(apic_read(APIC_DFR), 0xffffffff);
		CHECK_EQ(apic_read(APIC_LVT_TIMER), 0x10000);
		apic_write(APIC_LVT_TIMER, VECTOR);
		CHECK_EQ(apic_read(APIC_LVT_TIMER), 0x10000 | VECTOR);	/* off: masked */
	}
	apic_write(APIC_SPIV, 0x1ff);
	apic_write(APIC_LVT_TIMER, VECTOR);
	CHECK_EQ(apic_read(APIC_LVT_TIMER), VECTOR);
	apic_write(APIC_LDR, 0x01000000);
	CHECK_EQ(apic_read(APIC_LDR), 0x01000000);
	apic_write(APIC_TPR, 0x75);
	CHECK_EQ(read_cr8(), 7);
	CHECK_EQ(apic_read(APIC_PPR), 0x75);
	write_cr8(3);
	CHECK_EQ(apic_read(APIC_TPR) & 0xf0, 0x30);
	write_cr8(0);

	/* To itself by shorthand, by id, by logical address. */
	apic_icr(0, 0x40000 | VECTOR);
	CHECK_EQ(taken(), 1);
	apic_icr(0, VECTOR);
	CHECK_EQ(taken(), 2);
	apic_icr(1, 0x800 | VECTOR);
	CHECK_EQ(taken(), 3);
	apic_icr(2, 0x800 | VECTOR);
	CHECK_EQ(taken(), 3);
	/* The priority holds it back: seen in IRR, then in ISR while its handler runs. */
	if (!on_peer()) {		/* in the emulator Xen's vCPU stands still here */
		write_cr8(VECTOR >> 4);
		apic_icr(0, VECTOR);
		CHECK_EQ(taken(), 3);
		CHECK(apic_bit(APIC_IRR, VECTOR));
		write_cr8(VECTOR >> 4 | 8);
		write_cr8(1);			/* only the interrupt flag is in the way now */
		write_cr8(0);
	} else {
		apic_icr(0, VECTOR);
	}
	CHECK_EQ(taken(), 4);
	CHECK(!apic_bit(APIC_IRR, VECTOR));
	manual_eoi = true;
	apic_icr(0, VECTOR);
	CHECK_EQ(taken(), 5);
	CHECK(apic_bit(APIC_ISR, VECTOR));
	apic_icr(0, VECTOR);
	CHECK_EQ(taken(), 5);
	apic_write(APIC_EOI, 0);
	CHECK_EQ(taken(), 6);
	apic_write(APIC_EOI, 0);
	CHECK(!apic_bit(APIC_ISR, VECTOR));
	manual_eoi = false;

	/* Other ways of access: read-modify-write, byte moves of a register's first byte. */
	__asm__ volatile("orl $0x20, %0" : "+m"(page[APIC_TPR * 4]));
	CHECK_EQ(apic_read(APIC_TPR) & 0xf0, 0x20);
	CHECK_EQ(read_cr8(), 2);
	write_cr8(0);
	if (on_xen)
		modes();
}
