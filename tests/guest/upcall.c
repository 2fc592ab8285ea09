/* SPDX-License-Identifier: MIT */
/* Delivery of events by the upcall vector: edge, masked, unmask, vector set late, LAPIC off. */
#include "guest.h"

const char guest_name[] = "upcall";

static u32 upcalls(void)
{
	return this_cpu()->irqs[UPCALL_VECTOR];
}

static void bad_vectors(void)
{
	struct xen_hvm_evtchn_upcall_vector v = { .vcpu = 0, .vector = 0xf };

	CHECK_EQ(hvm_op(HVMOP_set_evtchn_upcall_vector, &v), -XEN_EINVAL);
	v.vector = UPCALL_VECTOR;
	v.vcpu = 4000;
	CHECK_EQ(hvm_op(HVMOP_set_evtchn_upcall_vector, &v), -XEN_ENOENT);
}

void guest_main(void)
{
	int port;
	u32 before;

	if (!on_xen)
		skip("no hypervisor");
	shared_info_map();
	bad_vectors();

	/* An event before any vector is set stays pending and comes with the vector. */
	port = bind_ipi(0);
	CHECK(port > 0);
	CHECK_EQ(evtchn_send((u32)port), 0);
	CHECK(port_pending((u32)port));
	CHECK_EQ(vcpu_info(0)->evtchn_upcall_pending, 1);
	apic_init();
	irq_window();
	CHECK_EQ(upcalls(), 0);
	events_init_vcpu(0);
	irq_window();
	CHECK_EQ(upcalls(), 1);
	CHECK_EQ(port_count[port], 1);

	/* Two sends with interrupts off are one upcall. */
	before = upcalls();
	evtchn_send((u32)port);
	evtchn_send((u32)port);
	irq_window();
	CHECK_EQ(upcalls() - before, 1);
	CHECK_EQ(port_count[port], 2);

	/* A masked port sets its bit only; unmask delivers; unmask without pending does nothing. */
	port_mask((u32)port, true);
	evtchn_send((u32)port);
	irq_window();
	CHECK_EQ(upcalls() - before, 1);
	CHECK(port_pending((u32)port));
	CHECK_EQ(evtchn_unmask((u32)port), 0);
	irq_window();
	CHECK_EQ(upcalls() - before, 2);
	CHECK_EQ(port_count[port], 3);
	CHECK_EQ(evtchn_unmask((u32)port), 0);
	irq_window();
	CHECK_EQ(upcalls() - before, 2);

	/* With the LAPIC off in software nothing arrives; enabling it looks again. */
	apic_write(APIC_SPIV, 0xff);
	evtchn_send((u32)port);
	irq_window();
	CHECK_EQ(upcalls() - before, 2);
	apic_write(APIC_SPIV, 0x1ff);
	irq_window();
	CHECK_EQ(upcalls() - before, 3);
	CHECK_EQ(port_count[port], 4);
}
