/* SPDX-License-Identifier: MIT */
/*
 * MSRs: what is there, what a value may be, what moves with the TSC.
 */
#include "unit.h"

#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/policy.h"
#include "hospes/vioapic.h"
#include "port/testport.h"

static struct domain dom;
static struct vcpu vcpu;
static struct cpu_policy policy;
static struct test_vcpu state_of_cpu;
static unsigned int clock_updates;
static gpa_t page_written;
static int page_answer;

void vcpu_notify(struct vcpu *v)
{
	(void)v;
}

void vioapic_eoi(struct domain *d, uint8_t vector)
{
	(void)d;
	(void)vector;
}

void vcpu_init_signal(struct vcpu *v)
{
	(void)v;
}

void vcpu_sipi(struct vcpu *v, uint8_t vector)
{
	(void)v;
	(void)vector;
}

void pvclock_update(struct vcpu *v)
{
	assert_int_equal(state_of_cpu.tsc_offset, v->tsc_offset);
	clock_updates++;
}

int hypercall_page_write(struct domain *d, gpa_t gpa)
{
	(void)d;
	page_written = gpa;
	return page_answer;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(0, 1);
	memset(&dom, 0, sizeof(dom));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&state_of_cpu, 0, sizeof(state_of_cpu));
	policy_init_host();
	policy = guest_policy;
	dom.policy = &policy;
	vcpu.domain = &dom;
	vcpu.cpu_state = &state_of_cpu;
	vlapic_init(&vcpu);
	msr_vcpu_init(&vcpu);
	clock_updates = 0;
	page_answer = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	timer_kill(&vcpu.lapic.timer);
	test_machine_fini();
	return 0;
}

static uint64_t get(uint32_t msr)
{
	uint64_t val = 0;

	if (!msr_read(&vcpu, msr, &val))
		fail_msg("MSR %#x: #GP", msr);
	return val;
}

static bool there(uint32_t msr)
{
	uint64_t val;

	return msr_read(&vcpu, msr, &val);
}

static bool put(uint32_t msr, uint64_t val)
{
	return msr_write(&vcpu, msr, val);
}

static void test_constants(void **state)
{
	static const struct { uint32_t msr; uint64_t val; } rows[] = {
		{ 0x8b, 0 }, { 0xfe, 0x508 }, { 0x179, 2 }, { 0x17a, 0 }, { 0x1d9, 0 },
		{ 0x2ff, 0x806 }, { 0x400, 0 }, { 0x407, 0 }, { 0x40000000, 0 },
		{ 0xc0010000, 0 }, { 0xc0010007, 0 }, { 0xc0010010, 0 },
		{ 0xc0010015, 1u << 24 }, { 0xc001001f, 0 }, { 0xc0010055, 0 }, { 0xc0011029, 2 },
	};
	static const uint32_t intel[] = { 0x17, 0x3a, 0xce, 0x140, 0x198, 0x199, 0x19c, 0x1a0 };
	static const uint32_t amd[] = { 0xc0010000, 0xc0010010, 0xc0010015, 0xc0011029 };
	static const uint32_t none[] = { 0x0, 0xf, 0x11, 0x48, 0x49, 0xff, 0x10a, 0x178, 0x17b,
		0x1ff, 0x210, 0x251, 0x257, 0x25a, 0x267, 0x270, 0x2fe, 0x300, 0x3ff, 0x408,
		0x606, 0x7ff, 0xda0, 0x3fffffff, 0x40000001, 0x40000200, 0xbfffffff, 0xc0000104,
		0xc000ffff, 0xc0010008, 0xc0010114, 0xc0010117, 0xc001102a, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(get(rows[i].msr), rows[i].val);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		assert_false(there(none[i]));
		assert_false(put(none[i], 0));
	}
	for (size_t i = 0; i < ARRAY_SIZE(intel); i++) {
		assert_false(there(intel[i]));
		assert_false(put(intel[i], 0));
	}
	assert_false(put(0xfe, 0x508));
	assert_false(put(0x179, 2));
	assert_true(put(0x8b, 0));
	assert_false(put(0x8b, 1));
	assert_false(put(0xc0010015, 0x40));
	assert_true(put(0xc0010015, 1u << 24));
	assert_false(put(0xc0011029, 0));
	assert_true(put(0xc0010003, 12345));
	assert_int_equal(get(0xc0010003), 0);

	memcpy(&policy.basic[0].ebx, "Genu", 4);
	assert_int_equal(get(0x3a), 1);
	assert_false(put(0x3a, 1));
	assert_int_equal(get(0x1a0), 0x1801);
	assert_true(put(0x1a0, 1ULL << 34));
	for (size_t i = 0; i < ARRAY_SIZE(intel); i++)
		assert_true(there(intel[i]));
	for (size_t i = 0; i < ARRAY_SIZE(amd); i++)
		assert_false(there(amd[i]));
	memcpy(&policy.basic[0].ebx, "Hygo", 4);
	assert_true(there(amd[0]));
}

static void test_hwcr_without_invtsc(void **state)
{
	(void)state;
	policy.ext[7].edx = 0;
	msr_vcpu_init(&vcpu);
	assert_int_equal(get(0xc0010015), 0);
}

static void test_tsc(void **state)
{
	uint64_t t;

	(void)state;
	test_advance_ns(1000000);
	assert_int_equal(get(0x10), port_tsc());
	assert_true(put(0x10, 5000));
	assert_int_equal(clock_updates, 1);
	assert_int_equal(get(0x10), 5000);
	assert_int_equal(state_of_cpu.tsc_offset, 5000 - port_tsc());
	assert_int_equal(get(0x3b), 5000 - port_tsc());
	test_advance_ns(1000);
	assert_int_equal(get(0x10), 5000 + 2000);
	/* TSC_ADJUST back to 0 brings the first TSC back. */
	t = get(0x3b);
	assert_true(put(0x3b, t + 7));
	assert_int_equal(get(0x10), 5000 + 2000 + 7);
	assert_true(put(0x3b, 0));
	assert_int_equal(get(0x10), port_tsc());
	assert_int_equal(clock_updates, 3);
	assert_true(put(0x10, UINT64_MAX));
	test_advance_ns(1);
	assert_int_equal(get(0x10), 1);
	/* An armed TSC deadline moves along. */
	assert_true(vlapic_write(&vcpu, APIC_SVR << 4, 0x1ff));
	assert_true(vlapic_write(&vcpu, APIC_LVT_TIMER << 4, 0x40040));
	assert_true(vlapic_msr_write(&vcpu, 0x6e0, 1000000));
	assert_true(put(0x10, 1000000));
	test_advance_ns(0);
	test_run_timers(0);
	assert_int_equal(vlapic_pending(&vcpu), 0x40);
}

static void test_mtrr(void **state)
{
	static const uint32_t fixed[] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c,
		0x26d, 0x26e, 0x26f };

	(void)state;
	for (uint64_t type = 0; type < 256; type++) {
		bool ok = type == 0 || type == 1 || type == 4 || type == 5 || type == 6;

		assert_int_equal(put(0x2ff, 0xc00 | type), ok);
		assert_int_equal(put(0x200, 0x40000000 | type), ok);
		assert_int_equal(put(0x26f, type << 56), ok);
		assert_int_equal(put(0x250, type), ok);
	}
	assert_int_equal(get(0x2ff), 0xc06);
	assert_int_equal(get(0x200), 0x40000006);
	for (unsigned int bit = 8; bit < 64; bit++) {
		assert_int_equal(put(0x2ff, 1ULL << bit), bit == 10 || bit == 11);
		assert_int_equal(put(0x20e, 1ULL << bit), bit >= 12 && bit < 48);
		assert_int_equal(put(0x20f, 1ULL << bit), bit >= 11 && bit < 48);
	}
	assert_false(put(0x201, 1));
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		assert_true(put(fixed[i], i % 2 ? 0x0606060606060606 : 0x0404040404040404));
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		assert_int_equal(get(fixed[i]), i % 2 ? 0x0606060606060606 : 0x0404040404040404);
	for (uint32_t i = 0; i < 16; i++)
		assert_true(put(0x200 + i, (i + 1) << 12));
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(get(0x200 + i), (i + 1) << 12);
}

static void test_machine_check(void **state)
{
	(void)state;
	assert_true(put(0x400, ~0ULL));
	assert_true(put(0x404, 5));
	assert_int_equal(get(0x400), ~0ULL);
	assert_int_equal(get(0x404), 5);
	assert_true(put(0x401, 0));
	assert_true(put(0x406, ~0ULL));
	assert_int_equal(get(0x406), 0);
	assert_false(put(0x17a, 1));
}

static void test_hypercall_page(void **state)
{
	(void)state;
	assert_true(put(0x40000000, 0x123000));
	assert_int_equal(page_written, 0x123000);
	page_answer = -XEN_EINVAL;
	assert_false(put(0x40000000, 0x123001));
	assert_int_equal(get(0x40000000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_constants, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hwcr_without_invtsc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tsc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mtrr, setup, teardown),
		cmocka_unit_test_setup_teardown(test_machine_check, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hypercall_page, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
