/* SPDX-License-Identifier: MIT */
/*
 * Grants a page, reference 8, to the domain with the next id, and waits to be destroyed. Prints
 * "GRANTED" when the page can be mapped.
 */
#include "guest.h"

const char guest_name[] = "granter";

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static grant_entry_v1_t grants[512] __attribute__((aligned(4096)));

void guest_main(void)
{
	evtchn_port_t port;
	struct sched_poll poll = { .nr_ports = 1 };
	u32 r[4];

	shared_info_map();
	cpuid(0x40000004, 0, r);
	CHECK_EQ(physmap_add(XENMAPSPACE_grant_table, 0, gfn_of(grants)), 0);
	grants[8].frame = (u32)gfn_of(page);
	grants[8].domid = (domid_t)(r[2] + 1);
	barrier();
	grants[8].flags = GTF_permit_access;
	port = (evtchn_port_t)alloc_unbound(DOMID_SELF);
	set_xen_guest_handle(poll.ports, &port);
	print("GRANTED\n");
	for (;;)
		sched_op(SCHEDOP_poll, &poll);
}
