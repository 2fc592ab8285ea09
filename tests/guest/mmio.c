/* SPDX-License-Identifier: MIT */
/* Many ways to access what is not there: every form reads ones, and drops writes. */
#include "guest.h"

const char guest_name[] = "mmio";

static volatile u8 *hole;

static void reads(void)
{
	u64 v = 0;

	CHECK_EQ(hole[3], 0xff);
	CHECK_EQ(*(volatile u16 *)(hole + 4), 0xffff);
	CHECK_EQ(*(volatile u32 *)(hole + 8), 0xffffffff);
	CHECK_EQ(*(volatile u64 *)(hole + 16), ~0ul);
	__asm__ volatile("movzbl (%1), %k0" : "=r"(v) : "r"(hole));
	CHECK_EQ(v, 0xff);
	__asm__ volatile("movsbq (%1), %0" : "=r"(v) : "r"(hole));
	CHECK_EQ(v, ~0ul);
	__asm__ volatile("movzwl (%1), %k0" : "=r"(v) : "r"(hole));
	CHECK_EQ(v, 0xffff);
	__asm__ volatile("movslq (%1), %0" : "=r"(v) : "r"(hole));
	CHECK_EQ(v, ~0ul);
	v = 0x1122334455667788;
	__asm__ volatile("movb (%1), %b0" : "+r"(v) : "r"(hole));
	CHECK_EQ(v, 0x11223344556677ff);
	v = 0x0f0f;
	__asm__ volatile("andq (%1), %0" : "+r"(v) : "r"(hole));
	CHECK_EQ(v, 0x0f0f);
	__asm__ volatile("addl (%1), %k0" : "+r"(v) : "r"(hole));
	CHECK_EQ(v, 0x0f0e);
	/* Unaligned, across the end of a page. */
	CHECK_EQ(*(volatile u64 *)(hole + 1), ~0ul);
	CHECK_EQ(*(volatile u64 *)(hole + 4092), ~0ul);
}

static void writes(void)
{
	u64 v = 5, old;
	bool zero;

	hole[0] = 1;
	*(volatile u32 *)(hole + 4) = 2;
	*(volatile u64 *)(hole + 8) = 3;
	__asm__ volatile("movq $7, (%0)" :: "r"(hole) : "memory");
	__asm__ volatile("orl $1, (%0)" :: "r"(hole) : "memory");
	__asm__ volatile("lock andl $1, (%0)" :: "r"(hole) : "memory");
	__asm__ volatile("notl (%0)" :: "r"(hole) : "memory");
	__asm__ volatile("incq (%0)" :: "r"(hole) : "memory");
	old = v;
	__asm__ volatile("xchgq %0, (%1)" : "+r"(v) : "r"(hole) : "memory");
	CHECK_EQ(v, ~0ul);
	v = old;
	__asm__ volatile("testb $0x80, (%1); setz %0" : "=q"(zero) : "r"(hole));
	CHECK(!zero);
	__asm__ volatile("cmpl $-1, (%1); setz %0" : "=q"(zero) : "r"(hole));
	CHECK(zero);
	CHECK_EQ(*(volatile u64 *)hole, ~0ul);
}

static void strings(void)
{
	static u8 buffer[64];
	const volatile void *from = hole;
	void *to = buffer;
	u64 n = 32;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) :: "memory");
	CHECK_EQ(n, 0);
	CHECK_EQ(buffer[31], 0xff);
	CHECK_EQ(buffer[32], 0);
	n = 4;
	to = (void *)(uintptr_t)hole;
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0) : "memory");
	CHECK_EQ(n, 0);
	CHECK_EQ(to, hole + 32);
	CHECK_EQ(hole[0], 0xff);
}

/* Where a PC has its other interrupt controllers and timers. */
static void absent_devices(void)
{
	CHECK_EQ(*(volatile u32 *)gfn_ptr(0xfec00), 0xffffffff);
	CHECK_EQ(*(volatile u32 *)gfn_ptr(0xfed00), 0xffffffff);
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	hole = gfn_ptr(hole_gfn(2));
	reads();
	writes();
	strings();
	absent_devices();
}
