/* SPDX-License-Identifier: MIT */
/* vcpus=4 Extended registers are each vCPU's own: SSE and, when there, AVX, while many switch. */
#include "guest.h"

const char guest_name[] = "xstate";

static bool avx;

static bool same(u64 seed)
{
	u64 lo, hi;

	__asm__ volatile("movq %%xmm3, %0; movhlps %%xmm3, %%xmm4; movq %%xmm4, %1"
			 : "=r"(lo), "=r"(hi));
	if (lo != seed || hi != ~seed)
		return false;
	if (avx) {
		__asm__ volatile("vextractf128 $1, %%ymm3, %%xmm4; movq %%xmm4, %0" : "=r"(lo));
		return lo == (seed ^ 0x5555);
	}
	return true;
}

static void load(u64 seed)
{
	if (avx)
		__asm__ volatile("movq %0, %%xmm4; vinsertf128 $1, %%xmm4, %%ymm3, %%ymm3"
				 :: "r"(seed ^ 0x5555));
	/* The legacy form leaves the upper half alone. */
	__asm__ volatile("movq %0, %%xmm4; movq %1, %%xmm3; movlhps %%xmm4, %%xmm3"
			 :: "r"(~seed), "r"(seed));
}

static void enable(void)
{
	u64 cr4;
	u32 r[4];

	__asm__ volatile("mov %%cr0, %%rax; and $~0xc, %%rax; or $2, %%rax; mov %%rax, %%cr0"
			 ::: "rax", "memory");
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	cpuid(1, 0, r);
	__asm__ volatile("mov %0, %%cr4" :: "r"(cr4 | 0x600 | (r[2] >> 26 & 1 ? 1ul << 18 : 0)));
	/* On Xen the emulator loses track of whether AVX is on. */
	avx = (r[2] >> 26 & 1) && (r[2] >> 28 & 1) && !on_peer();
	if (avx) {
		__asm__ volatile("xsetbv" :: "a"(7), "d"(0), "c"(0));
		cpuid(0xd, 0, r);
		CHECK_EQ(r[1], 832);		/* x87, SSE and AVX */
	}
}

static void keep(void *arg)
{
	u64 seed = 0x1234567800000000 + this_cpu()->id, end;

	(void)arg;
	enable();
	load(seed);
	end = rdtsc() + 100 * tsc_khz();
	for (u32 i = 0; rdtsc() < end; i++) {
		if (on_xen && i % 64 == 0)
			sched_op(SCHEDOP_yield, NULL);
		if (!same(seed)) {
			fail(__FILE__, __LINE__, "vCPU %u lost its registers", this_cpu()->id);
			return;
		}
	}
}

static void bad_xcr0(void *arg)
{
	u64 value = (u64)(uintptr_t)arg;

	__asm__ volatile("xsetbv" :: "a"((u32)value), "d"((u32)(value >> 32)), "c"(0));
}

void guest_main(void)
{
	unsigned int nr = smp_count();

	CHECK(smp_start_all());
	for (unsigned int i = 1; i < nr; i++)
		smp_run(i, keep, NULL);
	keep(NULL);
	for (unsigned int i = 1; i < nr; i++)
		CHECK(smp_wait(i, 10000));
	if (avx) {
		CHECK_EQ(guarded_call(bad_xcr0, (void *)6), TRAP_GP);
		CHECK_EQ(guarded_call(bad_xcr0, (void *)5), TRAP_GP);
		CHECK_EQ(guarded_call(bad_xcr0, (void *)(1ul << 62 | 7)), TRAP_GP);
		CHECK_EQ(guarded_call(bad_xcr0, (void *)7), NO_TRAP);
	}
}
