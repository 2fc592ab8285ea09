/* SPDX-License-Identifier: MIT */
/* Waiting: yield, block, poll with and without a timeout, woken by another vCPU. */
#include "guest.h"

const char guest_name[] = "poll";

#define MS 1000000ul

static long poll(evtchn_port_t *ports, unsigned int nr, u64 timeout)
{
	struct sched_poll p = { .nr_ports = nr, .timeout = timeout };

	set_xen_guest_handle(p.ports, ports);
	return sched_op(SCHEDOP_poll, &p);
}

static void send_later(void *arg)
{
	delay_us(5000);
	evtchn_send((u32)(uintptr_t)arg);
}

static void run_out(evtchn_port_t port)
{
	u64 start = now_ns();

	CHECK_EQ(poll(&port, 1, start + 3 * MS), 0);
	CHECK(now_ns() + (on_peer() ? 20 * MS : MS / 10) >= start + 3 * MS);
	CHECK_EQ(poll(&port, 1, 1), 0);			/* past */
}

static void refusals(evtchn_port_t port)
{
	evtchn_port_t many[2] = { port, 1u << 20 };

	CHECK_EQ(poll(many, 2, 1), -XEN_EINVAL);
	CHECK_EQ(poll(many, 129, 1), -XEN_EINVAL);
	CHECK_EQ(sched_op(SCHEDOP_poll, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(poll(BAD_PTR, 1, 1), -XEN_EFAULT);
}

static void woken(evtchn_port_t *ports)
{
	if (smp_count() < 2 || !smp_start(1))
		return;
	for (int i = 0; i < 3; i++) {
		smp_run(1, send_later, (void *)(uintptr_t)ports[0]);
		CHECK_EQ(poll(ports, 1, 0), 0);		/* for ever, but for the event */
		CHECK(port_pending(ports[0]));
		port_clear(ports[0]);
		CHECK(smp_wait(1, 2000));
		smp_run(1, send_later, (void *)(uintptr_t)ports[1]);
		CHECK_EQ(poll(ports, 2, 0), 0);
		CHECK(port_pending(ports[1]));
		port_clear(ports[1]);
		CHECK(smp_wait(1, 2000));
	}
}

void guest_main(void)
{
	struct vcpu_set_periodic_timer tick = { .period_ns = 2 * MS };
	evtchn_port_t ports[2];
	int timer;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	for (int i = 0; i < 100; i++)
		CHECK_EQ(sched_op(SCHEDOP_yield, NULL), 0);
	ports[0] = (u32)bind_ipi(0);
	ports[1] = (u32)bind_ipi(0);
	port_mask(ports[0], true);
	port_mask(ports[1], true);
	run_out(ports[0]);
	refusals(ports[0]);
	evtchn_send(ports[1]);
	CHECK_EQ(poll(ports, 2, 0), 0);			/* pending already */
	port_clear(ports[1]);
	woken(ports);

	/* Block returns when an event is there, also with interrupts off; on Xen it may not. */
	if (on_peer())
		return;
	timer = bind_virq(VIRQ_TIMER, 0);
	CHECK(timer > 0);
	CHECK_EQ(vcpu_op(VCPUOP_set_periodic_timer, 0, &tick), 0);
	while (port_count[timer] < 5) {
		CHECK_EQ(sched_op(SCHEDOP_block, NULL), 0);
		irq_window();
	}
	CHECK_EQ(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL), 0);
}
