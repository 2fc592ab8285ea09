/* SPDX-License-Identifier: MIT */
/* Grants of this domain to itself, v1: map, write through, unmap, read-only, revoke, refusals. */
#include "guest.h"

const char guest_name[] = "grants";

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 table_page[PAGE_SIZE] __attribute__((aligned(4096)));
#define table ((volatile struct grant_entry_v1 *)table_page)
static domid_t self;

static void give(unsigned int ref, u64 gfn, u16 flags)
{
	table[ref].frame = (u32)gfn;
	table[ref].domid = self;
	barrier();
	table[ref].flags = GTF_permit_access | flags;
}

static s16 map(unsigned int ref, u64 gfn, u32 flags, u32 *handle)
{
	struct gnttab_map_grant_ref m = {
		.host_addr = gfn << 12, .flags = GNTMAP_host_map | flags, .ref = ref, .dom = self,
	};

	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, &m, 1), 0);
	*handle = m.handle;
	return m.status;
}

static s16 unmap(u32 handle, u64 gfn)
{
	struct gnttab_unmap_grant_ref u = { .host_addr = gfn << 12, .handle = handle };

	CHECK_EQ(grant_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
	flush_tlb();
	return u.status;
}

static void mapping(void)
{
	u64 hole = hole_gfn(1);
	volatile u64 *there = gfn_ptr(hole);
	u32 handle, second;

	memset(page, 0x11, sizeof(page));
	give(20, gfn_of(page), 0);
	CHECK_EQ(map(20, hole, 0, &handle), GNTST_okay);
	CHECK_EQ(table[20].flags & (GTF_reading | GTF_writing), GTF_reading | GTF_writing);
	CHECK_EQ(there[3], 0x1111111111111111);
	there[3] = 42;
	CHECK_EQ(*(volatile u64 *)(page + 24), 42);
	CHECK_EQ(unmap(handle, hole), GNTST_okay);
	CHECK_EQ(there[3], ~0ul);
	CHECK_EQ(table[20].flags & (GTF_reading | GTF_writing), 0);
	CHECK(unmap(handle, hole) != GNTST_okay);
	/* Read-only: a write goes nowhere, and takes nobody down. */
	give(21, gfn_of(page), GTF_readonly);
	CHECK(map(21, hole, 0, &handle) != GNTST_okay);
	CHECK_EQ(map(21, hole, GNTMAP_readonly, &handle), GNTST_okay);
	CHECK_EQ(table[21].flags & (GTF_reading | GTF_writing), GTF_reading);
	CHECK_EQ(there[3], 42);
	CHECK_EQ(map(21, hole_gfn(1), GNTMAP_readonly, &second), GNTST_okay);
	CHECK_EQ(unmap(handle, hole), GNTST_okay);
	CHECK_EQ(table[21].flags & GTF_reading, GTF_reading);
	CHECK_EQ(unmap(second, hole + 1), GNTST_okay);
	CHECK_EQ(table[21].flags & GTF_reading, 0);
	table[20].flags = 0;
	table[21].flags = 0;
}

static void refusals(void)
{
	struct gnttab_map_grant_ref m = { .host_addr = hole_gfn(1) << 12,
		.flags = GNTMAP_host_map, .ref = 22, .dom = 1234 };
	u64 hole = hole_gfn(1);
	u32 handle;

	CHECK_EQ(map(22, hole, 0, &handle), GNTST_general_error);	/* not given */
	CHECK_EQ(map(1u << 20, hole, 0, &handle), GNTST_bad_gntref);
	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, &m, 1), 0);
	CHECK_EQ(m.status, GNTST_bad_domain);
	table[22].domid = 77;
	table[22].frame = (u32)gfn_of(page);
	table[22].flags = GTF_permit_access;
	CHECK_EQ(map(22, hole, 0, &handle), GNTST_general_error);	/* to somebody else */
	give(22, 0xfffff, 0);
	CHECK(map(22, hole, 0, &handle) != GNTST_okay);			/* nothing there */
	CHECK_EQ(unmap(12345, hole), GNTST_bad_handle);
	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, &m, 0), 0);
	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, &m, 1u << 31), -XEN_EINVAL);
	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, BAD_PTR, 1), -XEN_EFAULT);
	table[22].flags = 0;
}

/* Many at once, and every entry is free afterwards. */
static void many(void)
{
	enum { NR = 200 };
	static struct gnttab_map_grant_ref m[NR];
	static struct gnttab_unmap_grant_ref u[NR];
	u64 hole = hole_gfn(NR);

	for (unsigned int i = 0; i < NR; i++) {
		give(100 + i, gfn_of(page), 0);
		m[i] = (struct gnttab_map_grant_ref){ .host_addr = (hole + i) << 12,
			.flags = GNTMAP_host_map, .ref = 100 + i, .dom = self };
	}
	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, m, NR), 0);
	for (unsigned int i = 0; i < NR; i++) {
		CHECK_EQ(m[i].status, GNTST_okay);
		u[i] = (struct gnttab_unmap_grant_ref){ .host_addr = m[i].host_addr,
							.handle = m[i].handle };
	}
	((volatile u64 *)gfn_ptr(hole + NR - 1))[9] = 4711;
	CHECK_EQ(*(volatile u64 *)(page + 72), 4711);
	CHECK_EQ(grant_op(GNTTABOP_unmap_grant_ref, u, NR), 0);
	for (unsigned int i = 0; i < NR; i++) {
		CHECK_EQ(u[i].status, GNTST_okay);
		CHECK_EQ(table[100 + i].flags, GTF_permit_access);
		table[100 + i].flags = 0;
	}
}

static void queries(void)
{
	struct gnttab_query_size q = { .dom = DOMID_SELF };
	struct gnttab_get_version v = { .dom = DOMID_SELF };
	struct gnttab_set_version s = { .version = 3 };

	CHECK_EQ(grant_op(GNTTABOP_query_size, &q, 1), 0);
	CHECK_EQ(q.status, GNTST_okay);
	CHECK(q.nr_frames >= 1 && q.max_nr_frames >= q.nr_frames);
	CHECK_EQ(grant_op(GNTTABOP_query_size, &q, 2), -XEN_EINVAL);
	CHECK_EQ(grant_op(GNTTABOP_get_version, &v, 1), 0);
	CHECK_EQ(v.version, 1);
	CHECK_EQ(grant_op(GNTTABOP_set_version, &s, 1), -XEN_EINVAL);
	s.version = 1;
	CHECK_EQ(grant_op(GNTTABOP_set_version, &s, 1), 0);
	/* As many frames as the domain may have, and not one more. */
	CHECK_EQ(physmap_add(XENMAPSPACE_grant_table, q.max_nr_frames - 1, hole_gfn(1)), 0);
	CHECK_EQ(physmap_add(XENMAPSPACE_grant_table, q.max_nr_frames, hole_gfn(1)), -XEN_EINVAL);
}

void guest_main(void)
{
	u32 r[4];

	if (!on_xen)
		skip("no hypervisor");
	cpuid(0x40000004, 0, r);
	self = (domid_t)r[2];
	CHECK_EQ(physmap_add(XENMAPSPACE_grant_table, 0, gfn_of(table_page)), 0);
	flush_tlb();
	if (!on_peer()) {		/* there a second mapping of a page ends the first */
		mapping();
		many();
	}
	refusals();
	queries();
}
