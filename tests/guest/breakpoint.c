/* SPDX-License-Identifier: MIT */
/*
 * only=alone Breakpoints of a guest are its own: one at a hypervisor address stops nobody.
 * Not beside others: the emulator lets it hit guests that run on the same CPU later.
 */
#include "guest.h"

const char guest_name[] = "breakpoint";

static volatile u32 hits;

static void on_debug(struct regs *r)
{
	hits++;
	r->rflags |= 1u << 16;		/* RF: go on */
}

static __attribute__((noinline)) u32 target(u32 x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static void set_breakpoint(u64 address)
{
	__asm__ volatile("mov %0, %%dr0" :: "r"(address));
	__asm__ volatile("mov %0, %%dr7" :: "r"(0x402ul));	/* DR0, execution */
}

void guest_main(void)
{
	u64 elsewhere = arg_number("at", 0);
	u32 r[4];

	trap_handlers[TRAP_DB] = on_debug;
	set_breakpoint(PTR(target));
	CHECK_EQ(target(1), 2);
	CHECK_EQ(hits, 1);
	if (elsewhere)
		set_breakpoint(elsewhere);
	hits = 0;
	for (u32 i = 0; i < 1000; i++)
		cpuid(0, 0, r);
	CHECK_EQ(hits, 0);
}
