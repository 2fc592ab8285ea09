/* SPDX-License-Identifier: MIT */
/* Interdomain channels, both ends in this domain: bind, first event, send both ways, close. */
#include "guest.h"

const char guest_name[] = "interdomain";

static struct evtchn_status status(unsigned int port)
{
	struct evtchn_status s = { .dom = DOMID_SELF, .port = port };

	CHECK_EQ(evtchn_op(EVTCHNOP_status, &s), 0);
	return s;
}

void guest_main(void)
{
	struct evtchn_bind_interdomain b = { .remote_dom = DOMID_SELF };
	int first, second;
	u32 r[4], self;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	cpuid(0x40000004, 0, r);
	self = r[2];
	first = alloc_unbound(DOMID_SELF);
	CHECK(first > 0);
	b.remote_port = (u32)first;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), 0);
	second = (int)b.local_port;
	CHECK(second > 0 && second != first);
	/* The binder's end is pending at once. */
	irq_window();
	CHECK_EQ(port_count[second], 1);
	CHECK_EQ(port_count[first], 0);
	CHECK_EQ(status((u32)first).status, EVTCHNSTAT_interdomain);
	CHECK_EQ(status((u32)first).u.interdomain.port, (u32)second);
	CHECK_EQ(status((u32)first).u.interdomain.dom, self);
	CHECK_EQ(status((u32)second).u.interdomain.port, (u32)first);
	CHECK_EQ(evtchn_send((u32)first), 0);
	irq_window();
	CHECK_EQ(port_count[second], 2);
	CHECK_EQ(evtchn_send((u32)second), 0);
	irq_window();
	CHECK_EQ(port_count[first], 1);
	/* Bound already; no such port; no such domain; not for us. */
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
	b.remote_port = 900;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
	b.remote_port = 0xffffffff;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
	b.remote_port = (u32)alloc_unbound(77);
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), -XEN_EINVAL);
	b.remote_dom = 1234;
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), -XEN_ESRCH);
	/* One end closed: the other waits for a new partner. */
	CHECK_EQ(evtchn_close((u32)second), 0);
	CHECK_EQ(status((u32)first).status, EVTCHNSTAT_unbound);
	CHECK_EQ(status((u32)first).u.unbound.dom, self);
	CHECK_EQ(evtchn_send((u32)first), 0);
	irq_window();
	CHECK_EQ(port_count[second], 2);
	b = (struct evtchn_bind_interdomain){ .remote_dom = DOMID_SELF, .remote_port = (u32)first };
	CHECK_EQ(evtchn_op(EVTCHNOP_bind_interdomain, &b), 0);
	irq_window();
	CHECK_EQ(port_count[b.local_port], b.local_port == (u32)second ? 3 : 1);
}
