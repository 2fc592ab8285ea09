/* SPDX-License-Identifier: MIT */
/* Moves in the physical address space: shared info, batches, removal; holes read all ones. */
#include "guest.h"

const char guest_name[] = "physmap";

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));

static void holes(void)
{
	volatile u64 *hole = gfn_ptr(hole_gfn(1));

	CHECK_EQ(hole[0], ~0ul);
	hole[0] = 0x1234;
	CHECK_EQ(hole[0], ~0ul);
	CHECK_EQ(((volatile u8 *)hole)[4095], 0xff);
	CHECK_EQ(((volatile u16 *)hole)[5], 0xffff);
	CHECK_EQ(((volatile u32 *)hole)[7], 0xffffffff);
}

static void shared_info(void)
{
	u64 hole = hole_gfn(1);
	volatile struct shared_info *info = gfn_ptr(hole);
	volatile u64 *there = gfn_ptr(hole);

	CHECK_EQ(there[0], ~0ul);
	CHECK_EQ(physmap_add(XENMAPSPACE_shared_info, 0, hole), 0);
	flush_tlb();
	CHECK_EQ(info->vcpu_info[0].time.version & 1, 0);
	CHECK(info->vcpu_info[0].time.version);
	/* A second mapping moves it and leaves a hole behind; what was there is gone. */
	memset(page, 0x5a, sizeof(page));
	CHECK_EQ(physmap_add(XENMAPSPACE_shared_info, 0, gfn_of(page)), 0);
	flush_tlb();
	CHECK_EQ(there[0], ~0ul);
	CHECK(((struct shared_info *)page)->vcpu_info[0].time.version);
	CHECK_EQ(physmap_remove(gfn_of(page)), 0);
	flush_tlb();
	CHECK_EQ(*(volatile u64 *)page, ~0ul);
	CHECK_EQ(physmap_remove(gfn_of(page)), -XEN_ENOENT);
	CHECK_EQ(physmap_add(XENMAPSPACE_shared_info, 1, hole), -XEN_EINVAL);
	CHECK_EQ(physmap_add(77, 0, hole), -XEN_EINVAL);
	CHECK_EQ(physmap_add(XENMAPSPACE_gmfn_foreign, 0, hole), -XEN_ENOSYS);
	CHECK_EQ(physmap_add(XENMAPSPACE_shared_info, 0, ~0ul), -XEN_EINVAL);
}

static void move(void)
{
	static u8 source[PAGE_SIZE] __attribute__((aligned(4096)));
	u64 hole = hole_gfn(1);

	memset(source, 0x77, sizeof(source));
	CHECK_EQ(physmap_add(XENMAPSPACE_gmfn, gfn_of(source), hole), 0);
	flush_tlb();
	CHECK_EQ(*(volatile u64 *)gfn_ptr(hole), 0x7777777777777777);
	CHECK_EQ(*(volatile u64 *)source, ~0ul);
	CHECK_EQ(physmap_add(XENMAPSPACE_gmfn, hole, gfn_of(source)), 0);
	flush_tlb();
	CHECK_EQ(*(volatile u64 *)source, 0x7777777777777777);
	CHECK_EQ(*(volatile u64 *)gfn_ptr(hole), ~0ul);
	CHECK(physmap_add(XENMAPSPACE_gmfn, hole_gfn(1), hole) < 0);
}

static void batch(void)
{
	u64 first = hole_gfn(4);
	xen_ulong_t idxs[4] = { 0, 1, 500000, 2 };
	xen_pfn_t gfns[4] = { first, first + 1, first + 2, first + 3 };
	int errs[4] = { 99, 99, 99, 99 };
	struct xen_add_to_physmap_batch b = {
		.domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .size = 4,
	};

	set_xen_guest_handle(b.idxs, idxs);
	set_xen_guest_handle(b.gpfns, gfns);
	set_xen_guest_handle(b.errs, errs);
	CHECK_EQ(memory_op(XENMEM_add_to_physmap_batch, &b), 0);
	CHECK_EQ(errs[0], 0);
	CHECK_EQ(errs[1], 0);
	CHECK_EQ(errs[2], -XEN_EINVAL);
	CHECK_EQ(errs[3], 0);
	flush_tlb();
	CHECK_EQ(*(volatile u64 *)gfn_ptr(first + 1), 0);
	CHECK_EQ(*(volatile u64 *)gfn_ptr(first + 2), ~0ul);
	set_xen_guest_handle(b.errs, (int *)BAD_PTR);
	CHECK_EQ(memory_op(XENMEM_add_to_physmap_batch, &b), -XEN_EFAULT);
	b.domid = 1234;
	set_xen_guest_handle(b.errs, errs);
	CHECK_EQ(memory_op(XENMEM_add_to_physmap_batch, &b), -XEN_ESRCH);
}

static void map_of_memory(void)
{
	static struct { u64 addr, size; u32 type; } __attribute__((packed)) map[32];
	struct xen_memory_map m = { .nr_entries = ARRAY_SIZE(map) };
	u64 ram = 0;

	set_xen_guest_handle(m.buffer, map);
	CHECK_EQ(memory_op(XENMEM_memory_map, &m), 0);
	CHECK(m.nr_entries > 0 && m.nr_entries < ARRAY_SIZE(map));
	for (unsigned int i = 0; i < m.nr_entries; i++)
		ram += map[i].type == 1 ? map[i].size : 0;
	CHECK(ram >= 60ul << 20 && ram <= 64ul << 20);
	m.nr_entries = 1;
	CHECK_EQ(memory_op(XENMEM_memory_map, &m), 0);
	CHECK_EQ(m.nr_entries, 1);
	set_xen_guest_handle(m.buffer, BAD_PTR);
	CHECK_EQ(memory_op(XENMEM_memory_map, &m), -XEN_EFAULT);
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	holes();
	shared_info();
	move();
	batch();
	map_of_memory();
}
