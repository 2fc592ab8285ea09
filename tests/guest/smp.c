/* SPDX-License-Identifier: MIT */
/* vcpus=4 Bringing up vCPUs: INIT and SIPI, who they are, INIT again, SIPIs that do not count. */
#include "guest.h"

const char guest_name[] = "smp";

static volatile u32 done;

static void who(void *arg)
{
	u32 r[4], id = this_cpu()->id;

	(void)arg;
	CHECK_EQ(rdmsr(MSR_X2APIC + APIC_ID), apic_id_of(id));
	CHECK_EQ(rdmsr(MSR_APIC_BASE), 0xfee00c00);
	cpuid(1, 0, r);
	CHECK_EQ(r[1] >> 24, apic_id_of(id));
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

static void counting(void *arg)
{
	volatile u64 *count = arg;

	for (;;)
		++*count;
}

static void again(unsigned int cpu)
{
	static volatile u64 count;
	u64 before;

	smp_run(cpu, counting, (void *)(uintptr_t)&count);
	while (!count)
		pause();
	apic_icr(apic_id_of(cpu), 0x6ff);		/* it runs: a SIPI means nothing */
	before = count;
	while (count == before)
		pause();
	apic_icr(apic_id_of(cpu), 0xc500);
	delay_us(20000);
	before = count;
	delay_us(20000);
	CHECK_EQ(count, before);
	if (on_xen)
		CHECK_EQ(vcpu_op(VCPUOP_is_up, cpu, NULL), 0);
	/* From the reset state it comes up a second time. */
	cpus[cpu].online = false;
	cpus[cpu].work = NULL;
	CHECK(smp_start(cpu));
	done = 0;
	smp_run(cpu, who, NULL);
	CHECK(smp_wait(cpu, 2000));
	CHECK_EQ(done, 1);
}

void guest_main(void)
{
	unsigned int nr = smp_count();

	if (!on_xen || nr < 2)
		skip("no hypervisor, or one vCPU");
	apic_init();
	CHECK_EQ(rdmsr(MSR_APIC_BASE), 0xfee00d00);
	if (on_xen)
		for (unsigned int i = 1; i < nr; i++)
			CHECK_EQ(vcpu_op(VCPUOP_is_up, i, NULL), 0);
	CHECK(smp_start_all());
	for (unsigned int i = 1; i < nr; i++) {
		smp_run(i, who, NULL);
		CHECK(smp_wait(i, 2000));
		if (on_xen)
			CHECK_EQ(vcpu_op(VCPUOP_is_up, i, NULL), 1);
	}
	CHECK_EQ(done, nr - 1);
	again(1);
}
