/* SPDX-License-Identifier: MIT */
/* vcpus=4 Three vCPUs send events to the first as fast as they can: all get through. */
#include "guest.h"

const char guest_name[] = "flood";

static u32 ports[MAX_CPUS];
static volatile u32 sent[MAX_CPUS];
static u32 rounds;

/* Each send is answered: the port's count must move before the next. */
static void sender(void *arg)
{
	u32 id = this_cpu()->id;

	(void)arg;
	for (u32 i = 0; i < rounds; i++) {
		u32 before = port_count[ports[id]];

		evtchn_send(ports[id]);
		while (port_count[ports[id]] == before)
			pause();
		sent[id]++;
	}
}

/* Just as many as possible. */
static void hammer(void *arg)
{
	(void)arg;
	for (u32 i = 0; i < 20 * rounds; i++)
		evtchn_send(ports[this_cpu()->id]);
}

static bool busy(unsigned int nr)
{
	for (unsigned int i = 1; i < nr; i++)
		if (cpus[i].work)
			return true;
	return false;
}

static void drive(unsigned int nr, void (*fn)(void *))
{
	u64 end = rdtsc() + 30000 * tsc_khz();

	for (unsigned int i = 1; i < nr; i++)
		smp_run(i, fn, NULL);
	while (busy(nr) && rdtsc() < end)
		irq_window();
	CHECK(!busy(nr));
}

void guest_main(void)
{
	unsigned int nr;

	if (!on_xen)
		skip("no hypervisor");
	nr = smp_count();
	if (nr < 2)
		skip("one vCPU");
	events_init();
	CHECK(smp_start_all());
	for (unsigned int i = 1; i < nr; i++)
		ports[i] = (u32)bind_ipi(0);
	rounds = (u32)arg_number("rounds", 300);
	drive(nr, sender);
	for (unsigned int i = 1; i < nr; i++) {
		CHECK_EQ(sent[i], rounds);
		CHECK_EQ(port_count[ports[i]], rounds);
	}
	drive(nr, hammer);
	irq_window();
	for (unsigned int i = 1; i < nr; i++) {
		CHECK(port_count[ports[i]] > rounds);
		CHECK(!port_pending(ports[i]));
	}
}
