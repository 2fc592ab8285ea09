/* SPDX-License-Identifier: MIT */
/*
 * The metal port's conversions of time against plain 128-bit arithmetic. The
 * file is included under other names: the fake machine has functions like it.
 */
#include "unit.h"

#define port_tsc metal_tsc
#define port_tsc_khz metal_tsc_khz
#define port_tsc_to_ns metal_tsc_to_ns
#define port_time_ns metal_time_ns
#define port_pvclock_scale metal_pvclock_scale
#define port_wallclock_base_ns metal_wallclock_base_ns
#define port_timer_arm metal_timer_arm
#define this_cpu metal_this_cpu
#define timer_interrupt metal_timer_interrupt
#include "port/metal/time.c"

struct acpi_info acpi;

void lapic_write(unsigned int reg, uint32_t v)
{
	(void)reg;
	(void)v;
}

uint32_t lapic_read(unsigned int reg)
{
	(void)reg;
	return 0;
}

volatile void *map_device(paddr_t pa, uint64_t len)
{
	(void)pa;
	(void)len;
	return NULL;
}

void metal_timer_interrupt(void)
{
}

static const uint64_t frequencies[] = {
	62, 50000, 499999, 999999, 1000000, 1000001, 2000000, 2596098, 3579545, 4000000, 15999999,
};

static void use(uint64_t khz, uint64_t base)
{
	memset(&tsc, 0, sizeof(tsc));
	set_scale(khz);
	tsc.base = base;
}

static uint64_t random64(void)
{
	uint64_t v = (uint64_t)rand() << 40 ^ (uint64_t)rand() << 20 ^ (uint64_t)rand();

	return v >> rand() % 40;
}

static void test_scale(void **state)
{
	uint64_t base;
	uint32_t mul;
	int8_t shift;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(frequencies); i++) {
		uint64_t second = frequencies[i] * 1000, ns;

		use(frequencies[i], 12345);
		metal_pvclock_scale(&base, &mul, &shift);
		assert_int_equal(base, 12345);
		assert_true(mul >> 31);
		/* A second is one to a billionth, as guests compute it and as we do. */
		ns = shift < 0 ? second >> -shift : second << shift;
		ns = (uint64_t)((unsigned __int128)ns * mul >> 32);
		assert_in_range(ns, 999999000, 1000000001);
		assert_in_range(metal_tsc_to_ns(base + second), 999999990, 1000000001);
		assert_int_equal(metal_tsc_khz, frequencies[i]);
	}
}

static void test_conversions(void **state)
{
	(void)state;
	srand(5);
	for (unsigned int i = 0; i < ARRAY_SIZE(frequencies); i++) {
		use(frequencies[i], random64() >> 8);
		assert_int_equal(metal_tsc_to_ns(0), 0);
		assert_int_equal(metal_tsc_to_ns(tsc.base), 0);
		for (unsigned int n = 0; n < 20000; n++) {
			uint64_t d = random64() >> 10;
			unsigned __int128 product = (unsigned __int128)d * tsc.mul;

			if (product >> (32 - tsc.shift) >> 62)
				continue;
			assert_int_equal(metal_tsc_to_ns(tsc.base + d),
					 (uint64_t)(product >> (32 - tsc.shift)));
		}
	}
}

static void test_dates(void **state)
{
	(void)state;
	assert_int_equal(days_since_1970(1970, 1, 1), 0);
	assert_int_equal(days_since_1970(2000, 2, 29), 11016);
	assert_int_equal(days_since_1970(2000, 3, 1), 11017);
	assert_int_equal(days_since_1970(2024, 12, 31), 20088);
	assert_int_equal(days_since_1970(2099, 12, 31), 47481);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scale),
		cmocka_unit_test(test_conversions),
		cmocka_unit_test(test_dates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
