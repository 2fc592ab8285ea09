/* SPDX-License-Identifier: MIT */
/* Page faults stay in the guest: not present, read-only, NX, user, SMEP, SMAP, reserved bits. */
#include "guest.h"

const char guest_name[] = "paging";

#define HERE 0x40000000ul		/* 1 GiB: a table of our own for it */
#define P 1ul
#define W 2ul
#define U 4ul
#define NX (1ul << 63)

static u64 own_pd[512] __attribute__((aligned(4096)));
static u64 own_pt[512] __attribute__((aligned(4096)));
static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 user_stack[PAGE_SIZE] __attribute__((aligned(4096)));

static void set(u64 flags)
{
	own_pt[0] = flags ? PTR(page) | flags : 0;
	flush_tlb();
}

static void do_read(void *arg) { (void)*(volatile u8 *)arg; }
static void do_write(void *arg) { *(volatile u8 *)arg = 0xc3; }
static void do_jump(void *arg) { __asm__ volatile("call *%0" :: "r"(arg) : "memory"); }

static void faults(int (*call)(void (*)(void *), void *), void (*fn)(void *), int vector, u64 error)
{
	int rc = call(fn, (void *)HERE);

	CHECK_EQ(rc, vector);
	if (rc == TRAP_PF && vector == TRAP_PF) {
		CHECK_EQ(this_cpu()->trap.error, error);
		CHECK_EQ(this_cpu()->cr2, HERE);
	}
}

static int as_user(void (*fn)(void *), void *arg)
{
	return user_call(fn, arg, user_stack + sizeof(user_stack));
}

static void set_cr4(u64 bits, bool on)
{
	u64 cr4;

	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	cr4 = on ? cr4 | bits : cr4 & ~bits;
	__asm__ volatile("mov %0, %%cr4" :: "r"(cr4) : "memory");
}

void guest_main(void)
{
	u32 r[4];

	memset(page, 0xc3, sizeof(page));			/* ret */
	own_pd[0] = PTR(own_pt) | P | W | U;
	pdpt[HERE >> 30] = PTR(own_pd) | P | W | U;
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 1ul << 11);	/* NXE */

	set(0);
	faults(guarded_call, do_read, TRAP_PF, 0);
	faults(guarded_call, do_write, TRAP_PF, 2);
	faults(as_user, do_read, TRAP_PF, 4);
	set(P | W);
	faults(guarded_call, do_read, NO_TRAP, 0);
	faults(guarded_call, do_write, NO_TRAP, 0);
	faults(guarded_call, do_jump, NO_TRAP, 0);
	faults(as_user, do_read, TRAP_PF, 5);
	CHECK(own_pt[0] & 0x60);				/* accessed, dirty */
	set(P);
	__asm__ volatile("mov %%cr0, %%rax; bts $16, %%rax; mov %%rax, %%cr0" ::: "rax", "memory");
	faults(guarded_call, do_write, TRAP_PF, 3);
	set(P | U);
	faults(as_user, do_write, TRAP_PF, 7);
	faults(as_user, do_read, NO_TRAP, 0);
	set(P | W | NX);
	faults(guarded_call, do_jump, TRAP_PF, 0x11);
	faults(guarded_call, do_read, NO_TRAP, 0);
	set(P | W | 1ul << 51);					/* beyond MAXPHYADDR */
	CHECK_EQ(guarded_call(do_read, (void *)HERE), TRAP_PF);
	CHECK(this_cpu()->trap.error & 8);
	/* From here on our own pages are the kernel's alone. */
	set(P | W | U);
	for (unsigned int i = 0; i < 32; i++)
		pd[i] &= ~U;
	flush_tlb();
	cpuid(7, 0, r);
	if (r[1] >> 7 & 1) {
		set_cr4(1ul << 20, true);
		faults(guarded_call, do_jump, TRAP_PF, 0x11);
		set_cr4(1ul << 20, false);
		faults(guarded_call, do_jump, NO_TRAP, 0);
	}
	if (r[1] >> 20 & 1) {
		set_cr4(1ul << 21, true);
		faults(guarded_call, do_read, TRAP_PF, 1);
		__asm__ volatile("stac");
		faults(guarded_call, do_read, NO_TRAP, 0);
		__asm__ volatile("clac");
		set_cr4(1ul << 21, false);
	}
	/* Not canonical: a general protection fault, and none of ours. */
	CHECK_EQ(guarded_call(do_read, (void *)0x8000000000000000), TRAP_GP);
	/* A gibibyte page, when there are any. */
	cpuid(0x80000001, 0, r);
	if (r[3] >> 26 & 1) {
		pdpt[HERE >> 30] = 0 | P | W | 0x80;
		flush_tlb();
		CHECK_EQ(*(volatile u8 *)(HERE + PTR(page)), page[0]);
	}
}
