/* SPDX-License-Identifier: MIT */
/*
 * Tests of the time guests see: pvclock against the machine's clock, never
 * backwards on any vCPU; wall clock; runstate and time areas.
 */
#include "unit.h"

#include "real_domain.h"

#define AREA 0x3000u
#define NSEC 1000000000ULL

static struct domain *d;
static struct vcpu *v;

static void start(uint64_t khz)
{
	port_tsc_khz = khz;
	machine_new(4096, 2);
	d = guest_new(1, 40, false);
	v = d->vcpus[0];
	assert_ptr_equal(guest_run(v), v);
}

static void stop(void)
{
	assert_true(guest_end(d));
	test_machine_fini();
	port_tsc_khz = 2000000;
}

static int setup(void **state)
{
	start(2000000);
	return 0;
}

static int teardown(void **state)
{
	stop();
	return 0;
}

/* What a guest computes from its time info at TSC value @tsc. */
static uint64_t guest_ns(const struct vcpu_time_info *t, uint64_t tsc)
{
	uint64_t delta = tsc - t->tsc_timestamp;

	if (t->tsc_shift < 0)
		delta >>= -t->tsc_shift;
	else
		delta <<= t->tsc_shift;
	return t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

static void legacy_slots_from_the_start(void **state)
{
	for (unsigned int i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) {
		const struct vcpu_time_info *t = &d->shared->vcpu_info[i].time;

		assert_int_not_equal(t->version, 0);
		assert_int_equal(t->version % 2, 0);
		assert_int_equal(t->flags, XEN_PVCLOCK_TSC_STABLE_BIT);
		assert_int_not_equal(t->tsc_to_system_mul, 0);
	}
	assert_int_equal(d->shared->wc_version % 2, 0);
	assert_int_not_equal(d->shared->wc_version, 0);
}

static void follows_the_clock(void **state)
{
	static const uint64_t khz[] = { 1000, 999999, 1000000, 2000000, 2893437, 5100000 };

	for (size_t i = 0; i < ARRAY_SIZE(khz); i++) {
		uint64_t last = 0;

		start(khz[i]);
		for (unsigned int n = 0; n < 200; n++) {
			uint64_t now = port_time_ns(), ns;

			v->tsc_offset = n * 0x123456789ULL;
			pvclock_update(v);
			ns = guest_ns(&v->info->time, port_tsc() + v->tsc_offset);
			/* One TSC tick, and the multiplier's 31 bits. */
			assert_true(ns + 1000000 / khz[i] + 2 + (now >> 30) >= now);
			assert_true(ns <= now + 2 + (now >> 30));
			assert_true(ns >= last);
			last = ns;
			test_advance_ns(1 + n * n * 1000003ULL);
		}
		stop();
	}
}

static void the_same_on_all_vcpus(void **state)
{
	for (unsigned int n = 0; n < 100; n++) {
		struct vcpu *a = d->vcpus[n % 40], *b = d->vcpus[n * 7 % 40];
		uint64_t tsc;

		pvclock_update(a);
		test_set_cpu(n % 2);
		test_advance_ns(n * 977);
		pvclock_update(b);
		tsc = port_tsc();
		assert_int_equal(guest_ns(&a->info->time, tsc), guest_ns(&b->info->time, tsc));
	}
}

static void version_protocol(void **state)
{
	uint32_t *version = &v->info->time.version, before = *version;

	pvclock_update(v);
	assert_int_equal(*version, before + 2);
	*version = 7;			/* the guest can write there, too */
	pvclock_update(v);
	assert_int_equal(*version, 8);
	*version = ~0u;
	pvclock_update(v);
	assert_int_equal(*version, 0);
}

static void wall_clock(void **state)
{
	uint32_t before = d->shared->wc_version;

	port_wallclock_base_ns = (2ULL << 32) * NSEC + 17 * NSEC + 123456789;
	pvclock_update_wallclock(d);
	assert_int_equal(d->shared->wc_version, before + 2);
	assert_int_equal(d->shared->wc_sec, 17);
	assert_int_equal(d->shared->wc_sec_hi, 2);
	assert_int_equal(d->shared->wc_nsec, 123456789);
	port_wallclock_base_ns = 1700000000ULL * NSEC;
}

static int64_t register_area(unsigned int op, unsigned int id, uint64_t addr)
{
	*(uint64_t *)guest_mem(d, 0x2000) = addr;
	return hcall(v, 24, op, id, 0x2000);
}

static void time_area(void **state)
{
	struct vcpu_time_info *t = guest_mem(d, AREA);

	memset(t, 0, 64);
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 0, 1ULL << 60),
			 -XEN_EFAULT);
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 0, AREA), 0);
	assert_int_equal(t->version, 2);
	assert_memory_equal((char *)t + 4, (char *)&v->info->time + 4, sizeof(*t) - 4);
	assert_int_equal(*(uint64_t *)(t + 1), 0);	/* not a byte more */
	pvclock_update(v);
	assert_int_equal(t->version, 4);
	/* NULL ends it; where nothing is, nothing happens. */
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 0, 0), 0);
	pvclock_update(v);
	assert_int_equal(t->version, 4);
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 0, GUEST_BAD), 0);
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 0,
				       GUEST_PAGES * PAGE_SIZE - 8), 0);
	/* Another's, through the caller's page tables. */
	d->vcpus[1]->tsc_offset = 4711;
	assert_int_equal(register_area(VCPUOP_register_vcpu_time_memory_area, 1, AREA), 0);
	assert_int_equal(t->version, 6);
	assert_int_equal(t->tsc_timestamp, v->info->time.tsc_timestamp + 4711);
}

static void runstate_area(void **state)
{
	struct vcpu_runstate_info *r = guest_mem(d, AREA);

	memset(r, 0xff, 64);
	assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 0, 1ULL << 60),
			 -XEN_EFAULT);
	assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 0, AREA), 0);
	assert_int_equal(r->state, RUNSTATE_running);
	assert_int_equal(r->state_entry_time, v->runstate.state_entry_time);
	assert_memory_equal(r->time, v->runstate.time, sizeof(r->time));
	assert_int_equal(*(uint64_t *)(r + 1), ~0ULL);
	/* With the flag the end looks the same: it is off again. */
	assert_int_equal(hcall(v, 21, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag, 0), 0);
	memset(r, 0, sizeof(*r));
	runstate_update_area(v);
	assert_int_equal(r->state_entry_time, v->runstate.state_entry_time);
	assert_memory_equal(r->time, v->runstate.time, sizeof(r->time));
	/* A place that is not there, or half there, with and without the flag. */
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 0,
					       GUEST_BAD), 0);
		assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 0,
					       GUEST_PAGES * PAGE_SIZE - 24), 0);
		assert_int_equal(hcall(v, 21, VMASST_CMD_disable,
				       VMASST_TYPE_runstate_update_flag, 0), 0);
	}
	memset(r, 0, sizeof(*r));
	assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 0, 0), 0);
	assert_int_equal(register_area(VCPUOP_register_runstate_memory_area, 1, AREA), 0);
	assert_int_equal(r->state_entry_time, 0);
}

static void runstate_adds_up(void **state)
{
	struct vcpu_runstate_info *r = guest_mem(d, 0x2000);
	uint64_t sum = 0, t0, t1 = port_time_ns();

	runstate_change(v, RUNSTATE_runnable, t1 += 100);
	runstate_change(v, RUNSTATE_running, t1 += 20);
	t0 = v->runstate.time[RUNSTATE_runnable];
	runstate_change(v, RUNSTATE_blocked, t1 += 3);
	runstate_change(v, RUNSTATE_running, t1 += 7);
	assert_int_equal(v->runstate.time[RUNSTATE_runnable], t0);
	assert_true(v->runstate.time[RUNSTATE_blocked] >= 7);
	assert_int_equal(v->runstate.state_entry_time, t1);
	test_advance_ns(1000);
	assert_int_equal(hcall(v, 24, VCPUOP_get_runstate_info, 0, 0x2000), 0);
	assert_int_equal(r->state, RUNSTATE_running);
	for (unsigned int i = 0; i < 4; i++)
		sum += r->time[i];
	t0 = sum;
	test_advance_ns(5000);
	assert_int_equal(hcall(v, 24, VCPUOP_get_runstate_info, 0, 0x2000), 0);
	sum = 0;
	for (unsigned int i = 0; i < 4; i++)
		sum += r->time[i];
	assert_int_equal(sum, t0 + 5000);
	assert_int_equal(hcall(v, 24, VCPUOP_get_runstate_info, 3, 0x2000), 0);
	assert_int_equal(r->state, RUNSTATE_offline);
}

static void no_slot_no_leak(void **state)
{
	struct vcpu_register_vcpu_info *r = guest_mem(d, 0x2000);
	struct vcpu *high = d->vcpus[XEN_LEGACY_MAX_VCPUS];
	struct vcpu_info *info = guest_mem(d, 0x5000);

	/* What others of the slotless did on their common page stays there. */
	assert_ptr_equal(high->info, d->dummy_info);
	high->info->arch.cr2 = 0x5555;
	memset(info, 0xff, sizeof(*info));
	*r = (struct vcpu_register_vcpu_info){ .mfn = 5 };
	assert_int_equal(hcall(v, 24, VCPUOP_register_vcpu_info, high->id, 0x2000), 0);
	assert_int_equal(info->arch.cr2, 0);
	assert_int_equal(info->time.version, 2);
	assert_int_equal(info->evtchn_pending_sel, ~0UL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(legacy_slots_from_the_start), cmocka_unit_test(follows_the_clock),
		T(the_same_on_all_vcpus), T(version_protocol), T(wall_clock), T(time_area),
		T(runstate_area), T(runstate_adds_up), T(no_slot_no_leak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
