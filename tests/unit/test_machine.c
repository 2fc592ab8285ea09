/* SPDX-License-Identifier: MIT */
/*
 * The fake machine itself, and the locks: levels, pairs.
 */
#include "unit.h"

#include "hospes/cpu_insn.h"
#include "hospes/spinlock.h"
#include "port/testport.h"

static int setup(void **state)
{
	(void)state;
	test_machine_init(64, 3);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_machine_fini();
	return 0;
}

static void test_memory_and_clock(void **state)
{
	uint64_t base, t0 = port_time_ns();
	uint32_t mul;
	int8_t shift;

	(void)state;
	assert_int_equal(((uintptr_t)port_directmap) % PAGE_SIZE, 0);
	assert_int_equal(virt_to_mfn(mfn_to_virt(MFN(5))).v, 5);
	assert_non_null(port_map_boot(0x1000, 63 * PAGE_SIZE));
	assert_null(port_map_boot(0x1000, 64 * PAGE_SIZE));
	assert_null(port_map_boot(0x1000, UINT64_MAX));
	test_advance_ns(12345);
	assert_int_equal(port_time_ns(), t0 + 12345);
	assert_int_equal(port_tsc_to_ns(port_tsc()), t0 + 12345);
	for (port_tsc_khz = 700000; port_tsc_khz < 9000000; port_tsc_khz += 333333) {
		uint64_t tsc = port_tsc();

		port_pvclock_scale(&base, &mul, &shift);
		tsc = shift < 0 ? tsc >> -shift : tsc << shift;
		tsc = (uint64_t)((unsigned __int128)tsc * mul >> 32);
		assert_in_range(tsc, port_time_ns() - 100, port_time_ns() + 100);
		assert_true(mul >> 31);
	}
	port_tsc_khz = 2000000;
}

static void test_kicks_and_console(void **state)
{
	(void)state;
	test_set_cpu(2);
	assert_int_equal(port_this_pcpu()->cpu_id, 2);
	port_kick(1);
	port_kick(1);
	assert_int_equal(test_kicks(1), 2);
	assert_true(test_take_kick(1));
	assert_false(test_take_kick(1));
	port_console_write("hello", 5);
	assert_string_equal(test_console_output(), "hello");
	assert_int_equal(port_console_read(), -1);
	assert_true(TEST_PANICS(panic("number %d", 7)));
	assert_string_equal(test_panic_text, "number 7");
	assert_false(TEST_PANICS((void)0));
}

static void test_instructions(void **state)
{
	uint32_t regs[4];
	uint64_t val;

	(void)state;
	insn_cpuid(0, 0, regs);
	assert_memory_equal(&regs[CPUID_EBX], "Auth", 4);
	assert_memory_equal(&regs[CPUID_EDX], "enti", 4);
	insn_cpuid(0xd, 5, regs);
	assert_int_equal(regs[0], 0);
	test_cpuid_set(0xd, 5, 1, 2, 3, 4);
	insn_cpuid(0xd, 5, regs);
	assert_int_equal(regs[3], 4);
	assert_false(insn_rdmsr_safe(0x12345, &val));
	assert_true(TEST_PANICS(insn_wrmsr(0x12345, 1)));
	insn_wrmsr(0xc0000103, 9);
	assert_int_equal(insn_rdmsr(0xc0000103), 9);
	test_msr_set(0xc0000103, 0, false);
	assert_false(insn_wrmsr_safe(0xc0000103, 1));
}

static void test_lock_levels(void **state)
{
	struct spinlock a = SPINLOCK(LOCK_SCHED);
	struct spinlock low = SPINLOCK(LOCK_DOMAIN), high = SPINLOCK(LOCK_TIMER);
	struct rwlock rw;

	(void)state;
	rw_init(&rw, LOCK_P2M);
	spin_lock(&low);
	read_lock(&rw);
	spin_lock(&a);
	spin_lock(&high);
	spin_unlock(&low);	/* out of order is fine */
	spin_unlock(&high);
	spin_unlock(&a);
	read_unlock(&rw);
	lock_check_none();
	spin_lock(&a);
	assert_true(TEST_PANICS(lock_check_none()));
}

static void test_lock_misuse(void **state)
{
	struct spinlock a = SPINLOCK(LOCK_SCHED), b = SPINLOCK(LOCK_SCHED);
	struct spinlock low = SPINLOCK(LOCK_DOMAIN);

	(void)state;
	spin_lock(&a);
	assert_true(TEST_PANICS(spin_lock(&b)));
	spin_lock(&b);
	assert_true(TEST_PANICS(spin_lock(&low)));
	assert_true(TEST_PANICS(spin_unlock(&a)));
}

static void test_lock_pair(void **state)
{
	struct spinlock l[2] = { SPINLOCK(LOCK_SCHED), SPINLOCK(LOCK_SCHED) };

	(void)state;
	spin_lock_pair(&l[1], &l[0]);
	assert_true(spin_is_locked(&l[0]) && spin_is_locked(&l[1]));
	spin_unlock_pair(&l[1], &l[0]);
	spin_lock_pair(&l[1], &l[1]);
	assert_true(!spin_is_locked(&l[0]) && spin_is_locked(&l[1]));
	spin_unlock_pair(&l[1], &l[1]);
	assert_true(!spin_is_locked(&l[0]) && !spin_is_locked(&l[1]));
	lock_check_none();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory_and_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kicks_and_console, setup, teardown),
		cmocka_unit_test_setup_teardown(test_instructions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_misuse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_pair, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
