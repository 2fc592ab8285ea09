/* SPDX-License-Identifier: MIT */
/* MSRs: what is there, what is #GP, and what moves with the time stamp counter. */
#include "guest.h"

const char guest_name[] = "msr";

static void reads(u32 msr, u64 want)
{
	u64 got;

	if (rdmsr_safe(msr, &got) != NO_TRAP)
		fail("msr", (int)msr, "%#x: #GP on reading", msr);
	else if (got != want)
		fail("msr", (int)msr, "%#x is %#lx, not %#lx", msr, got, want);
}

static void refused(u32 msr)
{
	u64 got;

	if (rdmsr_safe(msr, &got) != TRAP_GP)
		fail("msr", (int)msr, "%#x can be read", msr);
}

static void takes(u32 msr, u64 value, bool ok)
{
	int rc = wrmsr_safe(msr, value);

	if (rc != (ok ? NO_TRAP : TRAP_GP))
		fail("msr", (int)msr, "%#x = %#lx: %d", msr, value, rc);
	if (ok && rc == NO_TRAP)
		reads(msr, value);
}

static void mtrrs(void)
{
	reads(0xfe, 0x508);
	takes(0xfe, 0x508, false);
	takes(0x2ff, 0xc00, true);
	takes(0x2ff, 0x802, false);
	takes(0x2ff, 0x1800, false);
	takes(0x2ff, 0xc06, true);
	takes(0x200, 0x40000006, true);
	takes(0x200, 0x40000007, false);
	takes(0x201, 0xfc0000800, true);
	takes(0x201, 0x801, false);
	takes(0x20f, 0, true);
	takes(0x250, 0x0606060606060606, true);
	takes(0x26f, 0x0505050505050502, false);
	refused(0x210);
	refused(0x251);
}

static void system_calls(void)
{
	takes(0xc0000081, 0x0023001000000000, true);
	takes(0xc0000082, 0xffffffff81000000, true);
	takes(0xc0000084, 0x47700, true);
	takes(0xc0000102, 0x123456789000, true);
	takes(0xc0000100, 0x1000, true);
	takes(0x174, 0x10, true);
	takes(0x176, 0xffffffff81000000, true);
	takes(0x277, 0x0007040600070406, true);
	takes(0xc0000080, rdmsr(0xc0000080) | 1, true);
	takes(0xc0000080, rdmsr(0xc0000080) | 2, false);
	takes(0xc0000080, rdmsr(0xc0000080) | 1 << 12, false);	/* SVM is not for guests */
	takes(0xc0000080, rdmsr(0xc0000080) & ~0x100ul, false);	/* LME while paging */
}

static void time_stamps(void)
{
	u64 before, after, adjust;

	reads(0x3b, 0);
	before = rdtsc();
	wrmsr(0x10, 0x100000000000);
	after = rdtsc();
	CHECK(after >= 0x100000000000 && after < 0x100000000000 + 100 * 1000 * tsc_khz());
	adjust = rdmsr(0x3b);
	CHECK(adjust > 0x100000000000 - 2 * before - 100 * 1000 * tsc_khz());
	wrmsr(0x3b, 0);
	CHECK(rdtsc() >= before && rdtsc() < before + 100 * 1000 * tsc_khz());
	CHECK(rdmsr(0x10) >= before);
}

void guest_main(void)
{
	static const u32 none[] = { 0x480, 0x481, 0x606, 0x7ff, 0x12345678, 0xffffffff };

	if (!on_xen)
		skip("no hypervisor");
	mtrrs();
	system_calls();
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		refused(none[i]);
		if (wrmsr_safe(none[i], 0) != TRAP_GP)
			fail("msr", (int)none[i], "%#x can be written", none[i]);
	}
	reads(0x179, rdmsr(0x179));
	reads(0x17a, 0);
	reads(0x40000000, 0);
	time_stamps();
}
