/* SPDX-License-Identifier: MIT */
/* Giving memory back and taking it again: counts, holes, clean pages, bad arguments do nothing. */
#include "guest.h"

const char guest_name[] = "balloon";

#define NR 64u
#define BIG 9u				/* 2 MiB */

static u8 pages[NR][PAGE_SIZE] __attribute__((aligned(4096)));
static u8 big[PAGE_SIZE << BIG] __attribute__((aligned(PAGE_SIZE << BIG)));

static long reservation(unsigned int cmd)
{
	domid_t self = DOMID_SELF;

	return memory_op(cmd, &self);
}

static bool all(const u8 *p, u64 want)
{
	for (unsigned int i = 0; i < PAGE_SIZE / 8; i++)
		if (((const volatile u64 *)(const void *)p)[i] != want)
			return false;
	return true;
}

static void single_pages(void)
{
	long before = reservation(XENMEM_current_reservation);
	u64 gfns[NR];

	CHECK(before > 0);
	memset(pages, 0xaa, sizeof(pages));
	for (unsigned int i = 0; i < NR; i++)
		gfns[i] = gfn_of(pages[i]);
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, gfns, NR, 0), NR);
	flush_tlb();
	CHECK_EQ(reservation(XENMEM_current_reservation), before - (long)NR);
	for (unsigned int i = 0; i < NR; i++)
		CHECK(all(pages[i], ~0ul));
	/* Gone already: stops at the first that cannot be given back. */
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, gfns, NR, 0), 0);
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, gfns, NR, 0), NR);
	flush_tlb();
	CHECK_EQ(reservation(XENMEM_current_reservation), before);
	for (unsigned int i = 0; i < NR; i++)
		CHECK(on_peer() || all(pages[i], 0));
	memset(pages, 0xbb, sizeof(pages));
	CHECK(all(pages[NR - 1], 0xbbbbbbbbbbbbbbbb));
}

static void big_page(void)
{
	u64 gfn = gfn_of(big), hole[2] = { gfn + 5, 0 };

	memset(big, 0xcc, sizeof(big));
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, hole, 1, 0), 1);
	flush_tlb();
	CHECK(all(big + 5 * PAGE_SIZE, ~0ul));
	CHECK(all(big + 4 * PAGE_SIZE, 0xcccccccccccccccc));
	CHECK(all(big + 6 * PAGE_SIZE, 0xcccccccccccccccc));
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, hole, 1, 0), 1);
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, &gfn, 1, BIG), 1);
	flush_tlb();
	CHECK(all(big, ~0ul));
	CHECK(all(big + sizeof(big) - PAGE_SIZE, ~0ul));
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, &gfn, 1, BIG), 1);
	flush_tlb();
	CHECK(on_peer() || all(big, 0));
	CHECK(on_peer() || all(big + sizeof(big) - PAGE_SIZE, 0));
	memset(big, 0xdd, sizeof(big));
}

static void nonsense(void)
{
	struct xen_memory_reservation r = { .nr_extents = 1, .domid = 1234 };
	u64 gfn = gfn_of(pages[0]);

	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, BAD_PTR, 1, 0), 0);
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, &gfn, 1u << 27, 0), 0);
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, &gfn, 1, 10), 0);
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, &gfn, 1, 40), 0);
	CHECK_EQ(reservation_op(XENMEM_populate_physmap, &gfn, 0, 0), 0);
	set_xen_guest_handle(r.extent_start, (xen_pfn_t *)&gfn);
	CHECK_EQ(memory_op(XENMEM_decrease_reservation, &r), 0);
	gfn = hole_gfn(1);
	CHECK_EQ(reservation_op(XENMEM_decrease_reservation, &gfn, 1, 0), 0);
	CHECK(!all(pages[0], ~0ul));
}

/* More than the domain may have: a short count, and nothing else happens. */
static void over_the_limit(void)
{
	long max = reservation(XENMEM_maximum_reservation), done;
	long now = reservation(XENMEM_current_reservation);
	u64 gfns[NR], first = hole_gfn(4096);
	unsigned int rounds = 0;

	CHECK(max >= now);
	do {
		for (unsigned int i = 0; i < NR; i++)
			gfns[i] = first + rounds * NR + i;
		done = reservation_op(XENMEM_populate_physmap, gfns, NR, 0);
	} while (done == NR && ++rounds < 4096 / NR);
	CHECK(done < NR);
	CHECK(reservation(XENMEM_current_reservation) <= max);
	CHECK_EQ(reservation(XENMEM_current_reservation), now + rounds * NR + done);
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	single_pages();
	big_page();
	nonsense();
	over_the_limit();
}
