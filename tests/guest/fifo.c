/* SPDX-License-Identifier: MIT */
/* Event channels in the FIFO ABI: order by priority, masks, an array page that comes late. */
#include "guest.h"

const char guest_name[] = "fifo";

static bool word_bit(unsigned int port, unsigned int bit)
{
	return READ_ONCE(fifo_words[port]) >> bit & 1;
}

static void mask(unsigned int port, bool masked)
{
	if (masked)
		__atomic_fetch_or(&fifo_words[port], 1u << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&fifo_words[port], ~(1u << EVTCHN_FIFO_MASKED),
				   __ATOMIC_SEQ_CST);
}

static long priority(unsigned int port, u32 value)
{
	struct evtchn_set_priority p = { .port = port, .priority = value };

	return evtchn_op(EVTCHNOP_set_priority, &p);
}

static void refusals(void)
{
	struct evtchn_init_control c = {
		.control_gfn = gfn_of(fifo_control), .offset = PAGE_SIZE - 64, .vcpu = 0,
	};

	CHECK_EQ(evtchn_op(EVTCHNOP_init_control, &c), -XEN_EINVAL);
	c.offset = 4;
	CHECK_EQ(evtchn_op(EVTCHNOP_init_control, &c), -XEN_EINVAL);
	c.offset = 0;
	c.control_gfn = 0xdeadbeef;
	CHECK_EQ(evtchn_op(EVTCHNOP_init_control, &c), -XEN_EINVAL);
	c.control_gfn = gfn_of(fifo_control);
	c.vcpu = 4000;
	CHECK_EQ(evtchn_op(EVTCHNOP_init_control, &c), -XEN_ENOENT);
}

static void order(void)
{
	static const u8 prio[] = { 9, 3, 15, 0, 7, 3 };		/* and who comes when */
	static const u8 when[] = { 3, 1, 5, 4, 0, 2 };
	int ports[ARRAY_SIZE(prio)];

	for (unsigned int i = 0; i < ARRAY_SIZE(prio); i++) {
		ports[i] = bind_ipi(0);
		CHECK(ports[i] > 0);
		mask((u32)ports[i], false);
		CHECK_EQ(priority((u32)ports[i], prio[i]), 0);
	}
	fifo_nr = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(prio); i++)
		CHECK_EQ(evtchn_send((u32)ports[i]), 0);
	irq_window();
	CHECK_EQ(fifo_nr, ARRAY_SIZE(prio));
	for (unsigned int i = 0; i < ARRAY_SIZE(prio); i++)
		CHECK_EQ(fifo_order[i], (u32)ports[when[i]]);
	/* Twice the same: one event, and it goes through the queue again afterwards. */
	for (int round = 0; round < 3; round++) {
		fifo_nr = 0;
		evtchn_send((u32)ports[1]);
		evtchn_send((u32)ports[5]);
		evtchn_send((u32)ports[1]);
		irq_window();
		CHECK_EQ(fifo_nr, 2);
		CHECK_EQ(fifo_order[0], (u32)ports[1]);
		CHECK_EQ(fifo_order[1], (u32)ports[5]);
	}
	CHECK_EQ(priority((u32)ports[0], 16), -XEN_EINVAL);
	for (unsigned int i = 0; i < ARRAY_SIZE(prio); i++)
		CHECK_EQ(evtchn_close((u32)ports[i]), 0);
}

static void masks(void)
{
	int port = bind_ipi(0);

	mask((u32)port, true);
	fifo_nr = 0;
	CHECK_EQ(evtchn_send((u32)port), 0);
	irq_window();
	CHECK_EQ(fifo_nr, 0);
	CHECK(word_bit((u32)port, EVTCHN_FIFO_PENDING));
	CHECK(!word_bit((u32)port, EVTCHN_FIFO_LINKED));
	CHECK_EQ(evtchn_unmask((u32)port), 0);
	irq_window();
	CHECK_EQ(fifo_nr, 1);
	CHECK(!word_bit((u32)port, EVTCHN_FIFO_MASKED));
	/* Masked after it was linked: the guest passes it over, unmask links it again. */
	CHECK_EQ(evtchn_send((u32)port), 0);
	mask((u32)port, true);
	irq_window();
	CHECK_EQ(fifo_nr, 1);
	CHECK(word_bit((u32)port, EVTCHN_FIFO_PENDING));
	CHECK_EQ(evtchn_unmask((u32)port), 0);
	irq_window();
	CHECK_EQ(fifo_nr, 2);
	CHECK_EQ(evtchn_close((u32)port), 0);
}

void guest_main(void)
{
	int early, port;

	if (!on_xen)
		skip("no hypervisor");
	events_init();
	refusals();
	early = bind_ipi(0);
	CHECK(early > 0);
	memset(fifo_words, 0, sizeof(fifo_words));
	fifo_words[early] = 1u << EVTCHN_FIFO_MASKED;
	CHECK_EQ(fifo_init(0), 0);
	CHECK_EQ(fifo_init(0), -XEN_EINVAL);
	/* Before its array page exists an event is remembered. */
	CHECK_EQ(evtchn_send((u32)early), 0);
	CHECK_EQ(fifo_expand(), 0);
	CHECK(word_bit((u32)early, EVTCHN_FIFO_PENDING));
	CHECK_EQ(evtchn_unmask((u32)early), 0);
	irq_window();
	CHECK_EQ(fifo_nr, 1);
	CHECK_EQ(fifo_order[0], (u32)early);
	order();
	masks();
	if (smp_count() > 1) {
		CHECK_EQ(fifo_init(1), 0);
		port = bind_ipi(1);
		mask((u32)port, false);
		CHECK_EQ(evtchn_send((u32)port), 0);
		CHECK_EQ(READ_ONCE(fifo_control[1].ready), 1u << EVTCHN_FIFO_PRIORITY_DEFAULT);
		CHECK_EQ(fifo_control[1].head[EVTCHN_FIFO_PRIORITY_DEFAULT], (u32)port);
	}
}
