/* SPDX-License-Identifier: MIT */
/* Event channels in the 2-level ABI: allocation, binding, states, every refusal, reset. */
#include "guest.h"

const char guest_name[] = "evtchn2l";

static u32 state_of(unsigned int port, u32 *vcpu)
{
	struct evtchn_status s = { .dom = DOMID_SELF, .port = port };

	if (evtchn_op(EVTCHNOP_status, &s))
		return ~0u;
	if (vcpu)
		*vcpu = s.vcpu;
	return s.status;
}

static void allocation(void)
{
	int a = alloc_unbound(DOMID_SELF), b = bind_ipi(0), c;
	struct evtchn_alloc_unbound other = { .dom = 1234, .remote_dom = DOMID_SELF };

	CHECK(a > 0 && b == a + 1);
	CHECK_EQ(state_of((u32)a, NULL), EVTCHNSTAT_unbound);
	CHECK_EQ(state_of((u32)b, NULL), EVTCHNSTAT_ipi);
	CHECK_EQ(evtchn_close((u32)a), 0);
	CHECK_EQ(state_of((u32)a, NULL), EVTCHNSTAT_closed);
	c = bind_ipi(0);
	CHECK_EQ(c, a);				/* the lowest free one */
	CHECK_EQ(evtchn_op(EVTCHNOP_alloc_unbound, &other), -XEN_ESRCH);
	CHECK_EQ(evtchn_close((u32)b), 0);
	CHECK_EQ(evtchn_close((u32)c), 0);
	CHECK_EQ(evtchn_close((u32)c), -XEN_EINVAL);
	CHECK_EQ(evtchn_close(0), -XEN_EINVAL);
	CHECK_EQ(evtchn_close(1u << 20), -XEN_EINVAL);
	CHECK_EQ(bind_ipi(4000), -XEN_ENOENT);
}

static void virqs(void)
{
	int timer = bind_virq(VIRQ_TIMER, 0), debug, global;

	CHECK(timer > 0);
	CHECK_EQ(bind_virq(VIRQ_TIMER, 0), -XEN_EEXIST);
	CHECK_EQ(bind_virq(VIRQ_TIMER, 4000), -XEN_ENOENT);
	CHECK_EQ(bind_virq(24, 0), -XEN_EINVAL);
	CHECK_EQ(bind_virq(VIRQ_CONSOLE, 1), -XEN_EINVAL);
	CHECK_EQ(state_of((u32)timer, NULL), EVTCHNSTAT_virq);
	global = bind_virq(VIRQ_CONSOLE, 0);
	debug = bind_virq(VIRQ_DEBUG, 1);
	if (smp_count() > 1)
		CHECK(debug > 0);
	if (global > 0)
		CHECK_EQ(evtchn_close((u32)global), 0);
	if (debug > 0)
		CHECK_EQ(evtchn_close((u32)debug), 0);
	CHECK_EQ(evtchn_close((u32)timer), 0);
	timer = bind_virq(VIRQ_TIMER, 0);
	CHECK(timer > 0);
	CHECK_EQ(evtchn_close((u32)timer), 0);
}

static void bind_to_vcpu(void)
{
	int port = alloc_unbound(DOMID_SELF), ipi = bind_ipi(0);
	struct evtchn_bind_vcpu b = { .port = (u32)port, .vcpu = 1 };
	u32 vcpu = ~0u;

	CHECK_EQ(state_of((u32)port, &vcpu), EVTCHNSTAT_unbound);
	CHECK_EQ(vcpu, 0);
	if (smp_count() > 1) {
		CHECK_EQ(evtchn_op(EVTCHNOP_bind_vcpu, &b), 0);
		CHECK_EQ(state_of((u32)port, &vcpu), EVTCHNSTAT_unbound);
		CHECK_EQ(vcpu, 1);
	}
	b.vcpu = 4000;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_vcpu, &b), -XEN_ENOENT);
	b = (struct evtchn_bind_vcpu){ .port = (u32)ipi, .vcpu = 0 };
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_vcpu, &b), -XEN_EINVAL);
	b.port = 900;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_vcpu, &b), -XEN_EINVAL);
	CHECK_EQ(evtchn_close((u32)port), 0);
	CHECK_EQ(evtchn_close((u32)ipi), 0);
}

static void sending(void)
{
	int unbound = alloc_unbound(DOMID_SELF), virq = bind_virq(VIRQ_TIMER, 0);
	int ipi = bind_ipi(0);
	struct evtchn_status s = { .dom = 1234, .port = 1 };

	CHECK_EQ(evtchn_send((u32)unbound), 0);		/* into the void */
	CHECK(!port_pending((u32)unbound));
	CHECK_EQ(evtchn_send((u32)virq), -XEN_EINVAL);
	CHECK_EQ(evtchn_send(0), -XEN_EINVAL);
	CHECK_EQ(evtchn_send(900), -XEN_EINVAL);
	CHECK_EQ(evtchn_send(0xffffffff), -XEN_EINVAL);
	CHECK_EQ(evtchn_op(EVTCHNOP_status, &s), -XEN_ESRCH);
	CHECK_EQ(evtchn_unmask(1u << 20), -XEN_EINVAL);
	/* Closing takes a pending event away. */
	port_mask((u32)ipi, true);
	CHECK_EQ(evtchn_send((u32)ipi), 0);
	CHECK(port_pending((u32)ipi));
	CHECK_EQ(evtchn_close((u32)ipi), 0);
	CHECK(!port_pending((u32)ipi));
	port_mask((u32)ipi, false);
	CHECK_EQ(evtchn_close((u32)virq), 0);
	CHECK_EQ(evtchn_close((u32)unbound), 0);
}

static void fifo_refused(void)
{
	struct evtchn_set_priority p = { .port = 1, .priority = 3 };
	struct evtchn_expand_array e = { .array_gfn = gfn_of(fifo_words) };
	int port = bind_ipi(0);

	p.port = (u32)port;
	CHECK_EQ(evtchn_op(EVTCHNOP_set_priority, &p), -XEN_ENOSYS);
	CHECK_EQ(evtchn_op(EVTCHNOP_expand_array, &e), -XEN_EOPNOTSUPP);
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_ipi, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(evtchn_op(EVTCHNOP_send, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(evtchn_close((u32)port), 0);
}

/* Hundreds of ports, all delivered. */
static void many(void)
{
	static u16 ports[600];
	unsigned int n = 0;
	int port;

	while (n < ARRAY_SIZE(ports) && (port = bind_ipi(0)) > 0)
		ports[n++] = (u16)port;
	CHECK_EQ(n, ARRAY_SIZE(ports));
	for (unsigned int i = 0; i < n; i++)
		CHECK_EQ(evtchn_send(ports[i]), 0);
	irq_window();
	for (unsigned int i = 0; i < n; i++)
		CHECK_EQ(port_count[ports[i]], 1);
	for (unsigned int i = 0; i < n; i++)
		CHECK_EQ(evtchn_close(ports[i]), 0);
}

static void reset(void)
{
	struct evtchn_reset r = { .dom = DOMID_SELF };
	int port = bind_ipi(0);

	CHECK_EQ(evtchn_op(EVTCHNOP_reset, &r), 0);
	CHECK_EQ(state_of((u32)port, NULL), EVTCHNSTAT_closed);
	r.dom = 1234;
	CHECK_EQ(evtchn_op(EVTCHNOP_reset, &r), -XEN_ESRCH);
	port = bind_ipi(0);
	CHECK(port > 0);
	port_count[port] = 0;
	CHECK_EQ(evtchn_send((u32)port), 0);
	irq_window();
	CHECK_EQ(port_count[port], 1);
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	events_init();
	allocation();
	virqs();
	bind_to_vcpu();
	sending();
	fifo_refused();
	many();
	reset();
}
