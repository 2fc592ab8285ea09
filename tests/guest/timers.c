/* SPDX-License-Identifier: MIT */
/* Timers of the hypervisor: single shot, past, replaced, stopped, periodic, set_timer_op. */
#include "guest.h"

const char guest_name[] = "timers";

#define MS 1000000ul
#define SLOP (on_peer() ? 20 * MS : 100000)	/* clocks are worse there; timers come together */

static volatile u32 *fired;

static long single(u64 when, u32 flags)
{
	struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = when, .flags = flags };

	return vcpu_op(VCPUOP_set_singleshot_timer, 0, &t);
}

static void quiet(unsigned int ms)
{
	u32 before = *fired;

	delay_us(1000 * ms);
	irq_window();
	CHECK_EQ(*fired, before);
}

static void single_shot(void)
{
	u64 when = now_ns() + 3 * MS;
	u32 before = *fired;

	CHECK_EQ(single(when, 0), 0);
	CHECK(wait_for(fired, before + 1, 5000));
	CHECK(now_ns() + SLOP >= when);
	quiet(3);
	CHECK_EQ(single(now_ns() - MS, 0), 0);		/* past: at once */
	CHECK(wait_for(fired, before + 2, 5000));
	CHECK_EQ(single(1, VCPU_SSHOTTMR_future), 0);	/* the same */
	CHECK(wait_for(fired, before + 3, 5000));
	CHECK_EQ(single(now_ns() + 1000000 * MS, 0), 0);
	when = now_ns() + 2 * MS;
	CHECK_EQ(single(when, 0), 0);			/* replaces it */
	CHECK(wait_for(fired, before + 4, 5000));
	CHECK(now_ns() + SLOP >= when);
	do { /* again, if we were kept waiting until it was due */
		when = now_ns() + 50 * MS;
		CHECK_EQ(single(when, 0), 0);
		CHECK_EQ(vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL), 0);
	} while (now_ns() + SLOP >= when);
	irq_window();
	CHECK_EQ(vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL), 0);
	quiet(100);
	if (smp_count() > 1) {
		struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = 1 };

		CHECK_EQ(vcpu_op(VCPUOP_set_singleshot_timer, 1, &t), -XEN_EINVAL);
		CHECK_EQ(vcpu_op(VCPUOP_stop_singleshot_timer, 1, NULL), -XEN_EINVAL);
	}
	CHECK_EQ(vcpu_op(VCPUOP_set_singleshot_timer, 0, BAD_PTR), -XEN_EFAULT);
}

static void asleep(void)
{
	for (int i = 0; i < 5; i++) {
		u32 before = *fired;
		u64 when = now_ns() + MS;

		CHECK_EQ(single(when, 0), 0);
		while (*fired == before)
			halt_on();
		CHECK(now_ns() + SLOP >= when);
	}
}

static void periodic(void)
{
	struct vcpu_set_periodic_timer p = { .period_ns = 2 * MS };
	u32 before = *fired;
	u64 start = now_ns();

	CHECK_EQ(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
	CHECK_EQ(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), 0);
	CHECK(wait_for(fired, before + 5, 10000));
	CHECK(now_ns() - start >= 8 * MS);
	CHECK_EQ(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
	irq_window();
	quiet(6);
	p.period_ns = MS - 1;
	CHECK_EQ(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), -XEN_EINVAL);
	p.period_ns = ~0ul;
	CHECK_EQ(vcpu_op(VCPUOP_set_periodic_timer, 0, &p), -XEN_EINVAL);
	CHECK_EQ(vcpu_op(VCPUOP_set_periodic_timer, 4000, &p), -XEN_ENOENT);
}

static void set_timer_op(void)
{
	u32 before = *fired;
	u64 when = now_ns() + 2 * MS;

	CHECK_EQ(hcall2(__HYPERVISOR_set_timer_op, when, 0), 0);
	CHECK(wait_for(fired, before + 1, 5000));
	CHECK(now_ns() + SLOP >= when);
	do {
		when = now_ns() + 50 * MS;
		CHECK_EQ(hcall2(__HYPERVISOR_set_timer_op, when, 0), 0);
		CHECK_EQ(hcall2(__HYPERVISOR_set_timer_op, 0, 0), 0);
	} while (now_ns() + SLOP >= when);
	irq_window();
	quiet(100);
	before = *fired;
	CHECK_EQ(hcall2(__HYPERVISOR_set_timer_op, 1, 0), 0);
	CHECK(wait_for(fired, before + 1, 5000));
	CHECK_EQ(hcall2(__HYPERVISOR_set_timer_op, 1ul << 63, 0), 0);	/* soon */
	CHECK(wait_for(fired, before + 2, 5000));
}

void guest_main(void)
{
	int port;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	port = bind_virq(VIRQ_TIMER, 0);
	CHECK(port > 0);
	fired = &port_count[port];
	quiet(30);				/* no periodic timer by default */
	single_shot();
	asleep();
	periodic();
	set_timer_op();
}
