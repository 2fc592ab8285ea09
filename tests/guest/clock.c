/* SPDX-License-Identifier: MIT */
/* vcpus=4 Time: pvclock never runs backwards, not across vCPUs either; the wall clock is sane. */
#include "guest.h"

const char guest_name[] = "clock";

static volatile u64 latest;
static volatile bool stop;
static volatile u32 samples;
static u64 slack;		/* allowed between vCPUs when the TSC is not called stable */

/* Every vCPU looks at the clock, and at what any of them has seen so far. */
static void watch(void *arg)
{
	(void)arg;
	while (!stop) {
		u64 seen = __atomic_load_n(&latest, __ATOMIC_SEQ_CST), now = now_ns();

		if (now + slack < seen) {
			fail("clock", (int)this_cpu()->id, "vCPU %u: %lu ns back", this_cpu()->id,
			     (unsigned long)(seen - now));
			return;
		}
		while (seen < now &&
		       !__atomic_compare_exchange_n(&latest, &seen, now, false, __ATOMIC_SEQ_CST,
						    __ATOMIC_SEQ_CST))
			;
		__atomic_fetch_add(&samples, 1, __ATOMIC_RELAXED);
	}
}

static u64 wall_ns(void)
{
	u32 version;
	u64 ns;

	do {
		version = READ_ONCE(shinfo->wc_version);
		barrier();
		ns = ((u64)shinfo->wc_sec_hi << 32 | shinfo->wc_sec) * 1000000000ul +
		     shinfo->wc_nsec;
		barrier();
	} while (version & 1 || version != READ_ONCE(shinfo->wc_version));
	return ns + now_ns();
}

static void secondary(void)
{
	static struct vcpu_time_info copy __attribute__((aligned(64)));
	struct vcpu_register_time_memory_area a = { .addr.p = PTR(&copy) };

	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &a), 0);
	CHECK(copy.version && !(copy.version & 1));
	CHECK_EQ(copy.tsc_to_system_mul, vcpu_info(0)->time.tsc_to_system_mul);
	CHECK_EQ(copy.tsc_shift, vcpu_info(0)->time.tsc_shift);
	a.addr.p = 0;
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &a), 0);
}

void guest_main(void)
{
	struct xen_hvm_get_time t = { 0 };
	unsigned int nr;
	u64 a, b, tsc, ns;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	nr = smp_count();
	CHECK(vcpu_info(0)->time.version && !(vcpu_info(0)->time.version & 1));
	CHECK(vcpu_info(0)->time.tsc_to_system_mul);
	/* It agrees with the TSC's frequency as CPUID tells it. */
	tsc = rdtsc();
	ns = now_ns();
	delay_us(20000);
	tsc = rdtsc() - tsc;
	ns = now_ns() - ns;
	if (!on_peer())
		CHECK(ns > tsc * 999000 / tsc_khz() && ns < tsc * 1001000 / tsc_khz() + 1000000);
	/* 2023 to 2100 */
	a = wall_ns();
	if (!on_peer() && (a < 1672531200ul * 1000000000 || a > 4102444800ul * 1000000000))
		fail("clock", 0, "the wall clock says %lu s", (unsigned long)(a / 1000000000));
	delay_us(2000);
	b = wall_ns();
	CHECK(b > a && b - a >= 1900000);
	a = now_ns();
	CHECK_EQ(hvm_op(HVMOP_get_time, &t), 0);
	secondary();
	slack = vcpu_info(0)->time.flags & 1 ? 0 : 20000000;
	CHECK(smp_start_all());
	for (unsigned int i = 1; i < nr; i++)
		smp_run(i, watch, NULL);
	for (int i = 0; i < 30; i++) {
		delay_us(10000);
		a = now_ns();
		if (a + 1000000000ul < latest)
			fail("clock", i, "far behind the other vCPUs");
		sched_op(SCHEDOP_yield, NULL);
	}
	stop = true;
	for (unsigned int i = 1; i < nr; i++)
		CHECK(smp_wait(i, 5000));
	CHECK(nr == 1 || samples > 100);
}
