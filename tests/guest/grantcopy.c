/* SPDX-License-Identifier: MIT */
/* Copies by grant: from grant to frame and back, within a page, bounds, read-only, v2 sub-pages. */
#include "guest.h"

const char guest_name[] = "grantcopy";

static u8 source[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 target[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 table_page[PAGE_SIZE] __attribute__((aligned(4096)));
#define table ((volatile struct grant_entry_v1 *)table_page)
#define table2 ((volatile union grant_entry_v2 *)table_page)
static domid_t self;

static s16 copy(u32 from, u16 from_offset, u32 to, u16 to_offset, u16 len, u16 flags)
{
	struct gnttab_copy c = { .len = len, .flags = flags };

	c.source.domid = flags & GNTCOPY_source_gref ? self : DOMID_SELF;
	c.dest.domid = flags & GNTCOPY_dest_gref ? self : DOMID_SELF;
	if (flags & GNTCOPY_source_gref)
		c.source.u.ref = from;
	else
		c.source.u.gmfn = from;
	if (flags & GNTCOPY_dest_gref)
		c.dest.u.ref = to;
	else
		c.dest.u.gmfn = to;
	c.source.offset = from_offset;
	c.dest.offset = to_offset;
	CHECK_EQ(grant_op(GNTTABOP_copy, &c, 1), 0);
	return c.status;
}

static void fill(void)
{
	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		source[i] = (u8)(i * 7);
	memset(target, 0, sizeof(target));
}

static void copies(void)
{
	u32 src = (u32)gfn_of(source), dst = (u32)gfn_of(target);

	table[30].frame = src;
	table[30].domid = self;
	table[30].flags = GTF_permit_access | GTF_readonly;
	table[31].frame = dst;
	table[31].domid = self;
	table[31].flags = GTF_permit_access;
	fill();
	CHECK_EQ(copy(30, 0, dst, 0, PAGE_SIZE, GNTCOPY_source_gref), GNTST_okay);
	CHECK(!memcmp(source, target, PAGE_SIZE));
	fill();
	CHECK_EQ(copy(src, 100, 31, 4000, 96, GNTCOPY_dest_gref), GNTST_okay);
	CHECK(!memcmp(source + 100, target + 4000, 96));
	CHECK_EQ(target[3999], 0);
	fill();
	CHECK_EQ(copy(30, 1, 31, 2, 3, GNTCOPY_source_gref | GNTCOPY_dest_gref), GNTST_okay);
	CHECK(!memcmp(source + 1, target + 2, 3));
	CHECK_EQ(target[5], 0);
	CHECK_EQ(table[30].flags & (GTF_reading | GTF_writing), 0);
	CHECK_EQ(table[31].flags & (GTF_reading | GTF_writing), 0);
	fill();
	CHECK_EQ(copy(30, 4090, dst, 0, 7, GNTCOPY_source_gref), GNTST_bad_copy_arg);
	CHECK_EQ(copy(30, 0, dst, 4095, 2, GNTCOPY_source_gref), GNTST_bad_copy_arg);
	CHECK_EQ(copy(30, 0xffff, dst, 0, 0xffff, GNTCOPY_source_gref), GNTST_bad_copy_arg);
	CHECK(copy(src, 0, 30, 0, 8, GNTCOPY_dest_gref) != GNTST_okay);		/* read-only */
	CHECK(copy(32, 0, dst, 0, 8, GNTCOPY_source_gref) != GNTST_okay);	/* not given */
	CHECK_EQ(copy(1u << 20, 0, dst, 0, 8, GNTCOPY_source_gref), GNTST_bad_gntref);
	CHECK(copy(0xfffff, 0, dst, 0, 8, 0) != GNTST_okay);			/* a hole */
	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		CHECK_EQ(target[i], 0);
}

/* One call with many elements, a bad one in the middle: the others are done. */
static void batch(void)
{
	static struct gnttab_copy c[32];

	fill();
	for (unsigned int i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = (struct gnttab_copy){ .len = 16,
					     .flags = GNTCOPY_source_gref,
					     .status = 99 };
		c[i].source.u.ref = i == 13 ? 99 : 30;
		c[i].source.domid = self;
		c[i].source.offset = c[i].dest.offset = (u16)(i * 16);
		c[i].dest.u.gmfn = gfn_of(target);
		c[i].dest.domid = DOMID_SELF;
	}
	CHECK_EQ(grant_op(GNTTABOP_copy, c, ARRAY_SIZE(c)), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(c); i++) {
		CHECK_EQ(c[i].status == GNTST_okay, i != 13);
		CHECK_EQ(!memcmp(source + i * 16, target + i * 16, 16), i != 13);
	}
}

static void version2(void)
{
	struct gnttab_set_version s = { .version = 2 };
	u32 dst = (u32)gfn_of(target);

	table[30].flags = 0;
	table[31].flags = 0;
	if (grant_op(GNTTABOP_set_version, &s, 1)) {
		print("NOTE grantcopy: no version 2\n");
		return;
	}
	CHECK_EQ(s.version, 2);
	fill();
	table2[40].full_page.frame = gfn_of(source);
	table2[40].hdr.domid = self;
	table2[40].hdr.flags = GTF_permit_access | GTF_readonly;
	CHECK_EQ(copy(40, 0, dst, 0, PAGE_SIZE, GNTCOPY_source_gref), GNTST_okay);
	CHECK(!memcmp(source, target, PAGE_SIZE));
	fill();
	table2[41].sub_page.frame = gfn_of(source);
	table2[41].sub_page.page_off = 256;
	table2[41].sub_page.length = 64;
	table2[41].hdr.domid = self;
	table2[41].hdr.flags = GTF_permit_access | GTF_readonly | GTF_sub_page;
	CHECK_EQ(copy(41, 256, dst, 0, 64, GNTCOPY_source_gref), GNTST_okay);
	CHECK(!memcmp(source + 256, target, 64));
	CHECK(copy(41, 256, dst, 0, 65, GNTCOPY_source_gref) != GNTST_okay);
	CHECK(copy(41, 255, dst, 0, 2, GNTCOPY_source_gref) != GNTST_okay);
	table2[40].hdr.flags = 0;
	table2[41].hdr.flags = 0;
	s.version = 1;
	CHECK_EQ(grant_op(GNTTABOP_set_version, &s, 1), 0);
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
	copies();
	batch();
	version2();
}
