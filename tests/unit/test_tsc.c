/* SPDX-License-Identifier: MIT */
/*
 * A guest's time when it comes from another machine: its system time goes on where
 * it stood, in whatever it reads or sets, and the wall clock stays what it is.
 */
#include "unit.h"

#include "hospes/hvm_context.h"
#include "toolstack.h"

#define NSEC 1000000000ULL
#define ELSEWHERE (5000 * NSEC)		/* its system time when it left, far ahead of ours */

static struct vcpu *v;

static int setup(void **state)
{
	tool_start(8192, 2);
	assert_int_equal(p2m_populate(target, GFN(0), PAGE_ORDER_2M), 0);
	v = target->vcpus[0];
	v->initialised = true;
	atomic_store(&v->startup, STARTUP_NONE);
	vcpu_pause_clear(v, PAUSE_DOWN);
	return 0;
}

static int teardown(void **state)
{
	assert_true(tool_end());
	return 0;
}

static int64_t set_info(uint32_t mode, uint32_t khz, uint32_t incarnation, uint64_t ns)
{
	struct xen_domctl op = { .u.tsc_info = { .tsc_mode = mode, .gtsc_khz = khz,
						 .incarnation = incarnation, .elapsed_nsec = ns } };

	return domctl(XEN_DOMCTL_settscinfo, 2, &op);
}

/* What the guest reads of its clock. */
static uint64_t guest_ns(const struct vcpu *w)
{
	const struct vcpu_time_info *t = &w->info->time;
	uint64_t delta = port_tsc() + w->tsc_offset - t->tsc_timestamp;

	delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
	return t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

/* The same by what it remembers of another machine. */
static uint64_t remembered_ns(const struct vcpu_time_info *t, uint64_t guest_tsc)
{
	uint64_t delta = guest_tsc - t->tsc_timestamp;

	delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
	return t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

static bool near(uint64_t a, uint64_t b)
{
	return a - b + 10 <= 20;
}

static uint64_t wallclock(void)
{
	const struct shared_info *s = target->shared;

	return ((uint64_t)s->wc_sec_hi << 32 | s->wc_sec) * NSEC + s->wc_nsec;
}

static void test_goes_on(void **state)
{
	struct xen_domctl op = { 0 };
	uint64_t wall;

	port_wallclock_base_ns = 1700000000 * NSEC;
	test_advance_ns(3 * NSEC);
	assert_int_equal(set_info(0, 0, 0, 0), 0);	/* as for a new one: our time */
	assert_true(near(guest_ns(v), port_time_ns()));
	assert_int_equal(target->tsc_incarnation, 1);
	wall = wallclock() + guest_ns(v);
	assert_int_equal(set_info(2, (uint32_t)port_tsc_khz, 4, ELSEWHERE), 0);
	assert_true(near(guest_ns(v), ELSEWHERE));
	assert_true(near(guest_ns(target->vcpus[1]), ELSEWHERE));
	assert_true(near(wallclock() + guest_ns(v), wall));
	test_advance_ns(NSEC);
	assert_true(near(guest_ns(v), ELSEWHERE + NSEC));
	/* Another TSC offset changes nothing about that. */
	v->tsc_offset = 1ULL << 60;
	pvclock_update(v);
	assert_true(near(guest_ns(v), ELSEWHERE + NSEC));
	assert_int_equal(domctl(XEN_DOMCTL_gettscinfo, 2, &op), 0);
	assert_int_equal(op.u.tsc_info.tsc_mode, 2);
	assert_int_equal(op.u.tsc_info.incarnation, 5);
	assert_int_equal(op.u.tsc_info.gtsc_khz, port_tsc_khz);
	assert_true(near(op.u.tsc_info.elapsed_nsec, ELSEWHERE + NSEC));
}

/*
 * What it remembers of its clock stays true for its TSC in another domain, however
 * long the toolstack takes between its calls on either side.
 */
static void test_moves(void **state)
{
	struct xen_domctl info = { 0 };
	struct vcpu_time_info last;
	struct domain *other = target_new(3, 2);
	static uint64_t blob[4096];
	size_t len;

	target->time_offset = ELSEWHERE;
	v->tsc_offset = 1ULL << 50;
	pvclock_update(v);
	domain_unpause(target);
	domain_shutdown(target, SHUTDOWN_suspend);
	last = v->info->time;
	test_advance_ns(NSEC);
	assert_int_equal(domctl(XEN_DOMCTL_gettscinfo, 2, &info), 0);
	test_advance_ns(NSEC / 3);
	len = hvm_context_save(target, (uint8_t *)blob);
	test_advance_ns(NSEC);
	info.u.tsc_info.incarnation = 1;
	assert_int_equal(domctl(XEN_DOMCTL_settscinfo, 3, &info), 0);
	test_advance_ns(NSEC / 7);
	assert_int_equal(hvm_context_load(other, (const uint8_t *)blob, len), 0);
	assert_true(near(guest_ns(other->vcpus[0]), info.u.tsc_info.elapsed_nsec));
	test_advance_ns(NSEC / 9);
	assert_true(near(guest_ns(other->vcpus[0]),
			 remembered_ns(&last, port_tsc() + other->vcpus[0]->tsc_offset)));
	/* Once it runs its time is its own. */
	domain_unpause(other);
	domain_pause(other);
	assert_int_equal(hvm_context_load(other, (const uint8_t *)blob, len), 0);
	assert_int_equal(other->time_brought, 0);
	/* A suspend that is called off costs no time. */
	assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 2, &info), 0);
	assert_int_equal(domctl(XEN_DOMCTL_gettscinfo, 2, &info), 0);
	assert_true(near(info.u.tsc_info.elapsed_nsec, domain_time_ns(target)));
	assert_true(guest_end(other));
	test_set_cpu(0);
}

/* Whether it is ahead of us or behind. */
static void one_timer(uint64_t begin)
{
	struct vcpu_set_singleshot_timer *s = guest_mem(target, 0x2000);
	struct vcpu_runstate_info *run = guest_mem(target, 0x2000);
	struct xen_hvm_get_time *t = guest_mem(target, 0x2000);
	uint64_t due = port_time_ns() + 1000000;
	struct cpuid_regs r;

	assert_int_equal(set_info(0, 0, 0, begin), 0);
	assert_int_equal(hcall(v, __HYPERVISOR_hvm_op, HVMOP_get_time, 0x2000, 0), 0);
	assert_int_equal(t->now, begin);
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 0, 0x2000), 0);
	assert_int_equal(run->state_entry_time, v->runstate.state_entry_time + begin -
			 port_time_ns());
	*s = (struct vcpu_set_singleshot_timer){ .timeout_abs_ns = begin + 1000000 };
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, 0x2000), 0);
	assert_int_equal(v->singleshot.node.key, due);
	assert_int_equal(hcall(v, __HYPERVISOR_set_timer_op, begin + 1000000, 0, 0), 0);
	assert_int_equal(v->singleshot.node.key, due);
	s->timeout_abs_ns = 1;		/* before our time began */
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, 0x2000), 0);
	assert_true(v->singleshot.node.key <= port_time_ns());
	s->timeout_abs_ns = INT64_MAX;	/* never */
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, 0x2000), 0);
	assert_true(v->singleshot.node.key > port_time_ns() + 1000 * NSEC);
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0), 0);
	policy_cpuid(v, 0x40000003, 1, &r);
	assert_true(near(((uint64_t)r.ebx << 32 | r.eax) + port_time_ns(), begin));
}

static void test_timers(void **state)
{
	test_advance_ns(100 * NSEC);
	one_timer(ELSEWHERE);
	one_timer(7 * NSEC);
}

/* A guest's area is not written through somebody else's page tables. */
static void test_area(void **state)
{
	uint64_t *area = guest_mem(target, 0x3000), *tools = guest_mem(tool, 0x3000);

	v->time_area = 0x3000;
	*area = *tools = 77;
	assert_int_equal(set_info(0, 0, 0, ELSEWHERE), 0);
	assert_int_equal(*area, 77);
	assert_int_equal(*tools, 77);
}

static void test_errors(void **state)
{
	struct xen_domctl op = { 0 };

	assert_int_equal(set_info(3, 0, 0, 0), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_settscinfo, 1, &op), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_gettscinfo, 1, &op), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_settscinfo, 7, &op), -XEN_ESRCH);
	/* Another pace is said. */
	test_console_clear();
	assert_int_equal(set_info(0, 1234567, 0, 0), 0);
	assert_non_null(strstr(test_console_output(), "1234567 kHz"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_goes_on), T(test_moves), T(test_timers), T(test_area), T(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
