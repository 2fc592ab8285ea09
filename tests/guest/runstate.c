/* SPDX-License-Identifier: MIT */
/* Runstates: they add up to the time that passed, blocked time counts, the area is kept up. */
#include "guest.h"

const char guest_name[] = "runstate";

#define MS 1000000ul

static struct vcpu_runstate_info area __attribute__((aligned(64)));

static struct vcpu_runstate_info get(unsigned int cpu)
{
	struct vcpu_runstate_info r;

	CHECK_EQ(vcpu_op(VCPUOP_get_runstate_info, cpu, &r), 0);
	return r;
}

static u64 sum(const struct vcpu_runstate_info *r)
{
	return r->time[0] + r->time[1] + r->time[2] + r->time[3];
}

static void sleep_ms(unsigned int ms)
{
	struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = now_ns() + ms * MS };

	vcpu_op(VCPUOP_set_singleshot_timer, 0, &t);
	while (now_ns() < t.timeout_abs_ns)
		halt_on();
}

void guest_main(void)
{
	struct vcpu_register_runstate_memory_area a = { .addr.p = PTR(&area) };
	struct vcpu_runstate_info before, after;
	u64 t0, t1, t2, t3, slack = on_peer() ? 20 * MS : 0;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	CHECK(bind_virq(VIRQ_TIMER, 0) > 0);
	CHECK_EQ(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &a), 0);
	CHECK_EQ(READ_ONCE(area.state), RUNSTATE_running);
	t0 = now_ns();
	before = get(0);
	t1 = now_ns();
	CHECK_EQ(before.state, RUNSTATE_running);
	for (int i = 0; i < 10; i++)
		sleep_ms(2);
	delay_us(5000);
	t2 = now_ns();
	after = get(0);
	t3 = now_ns();
	/* What the states gained is what passed between the two calls. */
	CHECK(sum(&after) - sum(&before) + slack >= t2 - t1);
	CHECK(sum(&after) - sum(&before) <= t3 - t0 + slack);
	CHECK(after.time[RUNSTATE_blocked] > before.time[RUNSTATE_blocked]);
	CHECK(after.time[RUNSTATE_running] > before.time[RUNSTATE_running]);
	CHECK_EQ(after.time[RUNSTATE_offline], before.time[RUNSTATE_offline]);
	/* Written when it was last scheduled in. */
	CHECK_EQ(READ_ONCE(area.state), RUNSTATE_running);
	CHECK(area.time[RUNSTATE_blocked] > before.time[RUNSTATE_blocked]);
	if (smp_count() > 1) {
		before = get(1);
		CHECK_EQ(before.state, RUNSTATE_offline);
		delay_us(3000);
		after = get(1);
		CHECK(after.time[RUNSTATE_offline] >= before.time[RUNSTATE_offline] + 2 * MS);
	}
	CHECK_EQ(vcpu_op(VCPUOP_get_runstate_info, 0, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(vcpu_op(VCPUOP_get_runstate_info, 4000, &after), -XEN_ENOENT);
}
