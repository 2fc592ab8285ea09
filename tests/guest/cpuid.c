/* SPDX-License-Identifier: MIT */
/* CPUID: the hypervisor's leaves, topology bits that follow the vCPU, zeros out of range. */
#include "guest.h"

const char guest_name[] = "cpuid";

static void zero_leaf(u32 leaf)
{
	u32 r[4];

	cpuid(leaf, 0, r);
	if (r[0] | r[1] | r[2] | r[3])
		fail("leaf", (int)leaf, "%#x: %#x %#x %#x %#x, not zero", leaf, r[0], r[1],
		     r[2], r[3]);
}

static void on_this_cpu(void *arg)
{
	u32 id = this_cpu()->id, r[4];

	(void)arg;
	cpuid(1, 0, r);
	CHECK_EQ(r[1] >> 24, 2 * id);
	CHECK(r[2] >> 31);
	CHECK(r[2] >> 21 & 1);
	cpuid(0xb, 0, r);
	CHECK_EQ(r[3], 2 * id);
	cpuid(0x40000004, 0, r);
	CHECK(r[0] & 8);
	CHECK(r[0] & 0x40);
	CHECK_EQ(r[1], id);
}

static void osxsave_follows_cr4(void)
{
	u64 cr4;
	u32 r[4];

	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	cpuid(1, 0, r);
	if (!(r[2] >> 26 & 1))
		return;
	CHECK(!(r[2] >> 27 & 1));
	__asm__ volatile("mov %0, %%cr4" :: "r"(cr4 | 1ul << 18));
	cpuid(1, 0, r);
	CHECK(r[2] >> 27 & 1);
	__asm__ volatile("mov %0, %%cr4" :: "r"(cr4));
	cpuid(0xd, 0, r);
	CHECK(r[0] & 1);
	CHECK(r[2] >= 576);
	cpuid(0xd, 2, r);
	CHECK(!r[0] || r[0] == 256);
}

void guest_main(void)
{
	u32 r[4], max;

	if (!on_xen)
		skip("no hypervisor");
	cpuid(0, 0, r);
	max = r[0];
	CHECK(max >= 0xd);
	cpuid(0x40000000, 0, r);
	CHECK_EQ(r[0], 0x40000005);
	cpuid(0x40000001, 0, r);
	CHECK_EQ(r[0], 0x40011);
	CHECK(!r[1] && !r[2] && !r[3]);
	cpuid(0x40000002, 0, r);
	CHECK_EQ(r[0], 1);
	CHECK_EQ(r[1], 0x40000000);
	cpuid(0x40000003, 0, r);
	CHECK(r[2] > 100000);
	zero_leaf(max + 1);
	zero_leaf(0x3fffffff);
	zero_leaf(0x40000006);
	zero_leaf(0x40000100);
	zero_leaf(0x4000ff00);
	cpuid(0x80000000, 0, r);
	zero_leaf(r[0] + 1);
	cpuid(0x80000001, 0, r);
	CHECK(r[3] >> 29 & 1);		/* long mode */
	CHECK(!(r[2] >> 2 & 1));	/* no SVM inside */
	cpuid(0x80000008, 0, r);
	CHECK((r[0] & 0xff) >= 36);
	osxsave_follows_cr4();
	on_this_cpu(NULL);
	if (smp_count() > 1 && smp_start(1)) {
		smp_run(1, on_this_cpu, NULL);
		CHECK(smp_wait(1, 1000));
	}
}
