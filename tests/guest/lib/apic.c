/* SPDX-License-Identifier: MIT */
/*
 * Local APIC access of the tiny guests, in xAPIC or x2APIC mode.
 */
#include "guest.h"

#define XAPIC_BASE 0xfee00000ul

static bool x2apic_on(void)
{
	return rdmsr(MSR_APIC_BASE) >> 10 & 1;
}

u32 apic_read(unsigned int reg)
{
	if (x2apic_on())
		return (u32)rdmsr(MSR_X2APIC + reg);
	return *(volatile u32 *)(XAPIC_BASE + reg * 16);
}

void apic_write(unsigned int reg, u32 v)
{
	if (x2apic_on())
		wrmsr(MSR_X2APIC + reg, v);
	else
		*(volatile u32 *)(XAPIC_BASE + reg * 16) = v;
}

void apic_icr(u32 dest, u32 low)
{
	if (x2apic_on()) {
		wrmsr(MSR_X2APIC + APIC_ICR, (u64)dest << 32 | low);
		return;
	}
	apic_write(APIC_ICR + 1, dest << 24);
	apic_write(APIC_ICR, low);
}

void apic_init(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	apic_write(APIC_SPIV, 0x1ff);
}

bool apic_bit(unsigned int base, unsigned int vector)
{
	return apic_read(base + vector / 32) >> (vector % 32) & 1;
}

u32 apic_id_of(unsigned int cpu)
{
	return on_xen ? 2 * cpu : cpu;
}
