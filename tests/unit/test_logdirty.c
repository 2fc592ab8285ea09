/* SPDX-License-Identifier: MIT */
/*
 * Which pages a guest's memory has that were written, by whatever way, against a
 * plain bitmap; and the operations of the toolstack around it.
 */
#include "unit.h"

#include "toolstack.h"

#define FRAMES 1024u		/* looked at: RAM is the first half, then single pages */
#define BITS (FRAMES / 8)
#define EXTRA 0x240u		/* RAM in pages of 4 KiB, */
#define EXTRA_PAGES 16u
#define HOLES 0x280u		/* and where it comes and goes */
#define MAPS 0x4000u		/* in the toolstack's domain: where others' pages are mapped */
#define SLOTS 8u
#define REF_FIRST 8u		/* grants of frames 24 and up, one each */
#define REFS 24u

static uint64_t seed;
static struct vcpu *v;		/* the target's */
static struct vcpu *tv;		/* the toolstack's */

static bool model[FRAMES];
static struct { bool used, grant; uint32_t handle; uint64_t gfn; } maps[SLOTS];
static bool sticky[FRAMES];	/* it was held at the last look */

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % n;
}

static int setup(void **state)
{
	machine_new(16384, 2);
	tool = guest_new(1, 1, true);
	tv = tool->vcpus[0];
	assert_ptr_equal(guest_run(tv), tv);
	target = guest_new(2, 1, false);
	v = target->vcpus[0];
	assert_ptr_equal(guest_run(v), v);
	for (uint64_t i = 0; i < EXTRA_PAGES; i++)
		assert_int_equal(p2m_populate(target, GFN(EXTRA + i), 0), 0);
	test_set_cpu(0);
	seed = 4711;
	memset(model, 0, sizeof(model));
	memset(maps, 0, sizeof(maps));
	memset(sticky, 0, sizeof(sticky));
	return 0;
}

static int teardown(void **state)
{
	assert_true(guest_end(tool));
	assert_true(guest_end(target));
	test_machine_fini();
	return 0;
}

/* --- Operations ------------------------------------------------------------------ */

static int64_t shadow(uint32_t what, uint32_t mode, uint64_t pages, struct xen_domctl *op)
{
	memset(op, 0, sizeof(*op));
	op->u.shadow_op.op = what;
	op->u.shadow_op.mode = mode;
	op->u.shadow_op.pages = pages;
	HANDLE(op->u.shadow_op.dirty_bitmap, 0);
	return domctl(XEN_DOMCTL_shadow_op, 2, op);
}

static void enable(void)
{
	struct xen_domctl op;

	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0, 0, &op), 0);
}

/* Returns how many are set; the bits are in the toolstack's buffer. */
static uint32_t look(bool clean)
{
	struct xen_domctl op;
	uint32_t n = 0;

	memset(tool_buf(0), 0xa5, BITS);
	assert_int_equal(shadow(clean ? XEN_DOMCTL_SHADOW_OP_CLEAN : XEN_DOMCTL_SHADOW_OP_PEEK,
				0, FRAMES, &op), 0);
	assert_int_equal(op.u.shadow_op.pages, FRAMES);
	assert_int_equal(op.u.shadow_op.mode, 0);
	for (uint32_t i = 0; i < FRAMES; i++)
		n += ((uint8_t *)tool_buf(0))[i / 8] >> i % 8 & 1;
	assert_int_equal(op.u.shadow_op.stats.dirty_count, n);
	return n;
}

static bool is_set(uint64_t gfn)
{
	return ((uint8_t *)tool_buf(0))[gfn / 8] >> gfn % 8 & 1;
}

/* A write by the guest @w itself, as the CPU does it. False: nothing is there to write. */
static bool guest_write(struct vcpu *w, uint64_t gfn)
{
	struct vm_exit exit = { .kind = EXIT_NPF, .npf = { .gpa = gfn << PAGE_SHIFT | 0x10,
							   .write = true } };
	unsigned int order;
	uint64_t e = p2m_lookup(&w->domain->p2m, GFN(gfn), &order);

	if (!(e & P2M_E_P))
		return false;
	if (!(e & P2M_E_W)) {
		unsigned int before = test_vcpu(w)->nr_injected;

		exit_handle(w, &exit);
		assert_int_equal(test_vcpu(w)->nr_injected, before);
		e = p2m_lookup(&w->domain->p2m, GFN(gfn), &order);
		assert_true(e & P2M_E_W);
	}
	*(uint32_t *)guest_mem(w->domain, exit.npf.gpa) = rnd(1000);
	return true;
}

static bool is_ram(uint64_t gfn)
{
	return p2m_get(&target->p2m, GFN(gfn)).type == P2M_RAM;
}

static int64_t foreign(uint64_t gfn, uint64_t at)
{
	struct xen_add_to_physmap_batch *b = guest_mem(tool, 0x5000);
	uint64_t *idx = guest_mem(tool, 0x5100), *to = guest_mem(tool, 0x5200);
	int32_t *err = guest_mem(tool, 0x5300);

	*b = (struct xen_add_to_physmap_batch){ .domid = DOMID_SELF, .size = 1,
		.space = XENMAPSPACE_gmfn_foreign, .u.foreign_domid = 2 };
	b->idxs.p = (void *)0x5100UL;
	b->gpfns.p = (void *)0x5200UL;
	b->errs.p = (void *)0x5300UL;
	*idx = gfn;
	*to = at;
	assert_int_equal(hcall(tv, __HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch, 0x5000, 0),
			 0);
	return *err;
}

static void unforeign(uint64_t at)
{
	struct xen_remove_from_physmap *r = guest_mem(tool, 0x5000);

	*r = (struct xen_remove_from_physmap){ DOMID_SELF, at };
	assert_int_equal(hcall(tv, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, 0x5000, 0),
			 0);
}

static uint32_t grant_map(uint32_t ref, uint64_t at)
{
	struct gnttab_map_grant_ref *m = guest_mem(tool, 0x5000);

	*m = (struct gnttab_map_grant_ref){ .host_addr = at << PAGE_SHIFT, .flags = GNTMAP_host_map,
					    .ref = ref, .dom = 2 };
	assert_int_equal(hcall(tv, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, 0x5000, 1),
			 0);
	assert_int_equal(m->status, GNTST_okay);
	return m->handle;
}

static void grant_unmap(uint32_t handle, uint64_t at)
{
	struct gnttab_unmap_grant_ref *m = guest_mem(tool, 0x5000);

	*m = (struct gnttab_unmap_grant_ref){ .host_addr = at << PAGE_SHIFT, .handle = handle };
	assert_int_equal(hcall(tv, __HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, 0x5000,
			       1), 0);
	assert_int_equal(m->status, GNTST_okay);
}

/* Out of the toolstack's memory into a grant. */
static void grant_copy(uint32_t ref)
{
	struct gnttab_copy *c = guest_mem(tool, 0x5000);

	*c = (struct gnttab_copy){ .source = { .u.gmfn = 7, .domid = DOMID_SELF },
				   .dest = { .u.ref = ref, .domid = 2, .offset = 8 },
				   .len = 64, .flags = GNTCOPY_dest_gref };
	assert_int_equal(hcall(tv, __HYPERVISOR_grant_table_op, GNTTABOP_copy, 0x5000, 1), 0);
	assert_int_equal(c->status, GNTST_okay);
}

/* --- The model -------------------------------------------------------------------- */

static uint64_t any_ram(void)
{
	for (;;) {
		uint64_t gfn = rnd(4) ? rnd(GUEST_PAGES) : EXTRA + rnd(EXTRA_PAGES);

		/* Argument structs and the grant table live in the first pages: left alone here. */
		if (gfn >= 24 && is_ram(gfn))
			return gfn;
	}
}

/* Maps a page of the target at place @i, or undoes it. */
static void map_something(uint32_t i)
{
	uint64_t at = MAPS + i, gfn;

	if (maps[i].used && maps[i].grant) {
		grant_unmap(maps[i].handle, at);
		model[maps[i].gfn] = true;	/* who maps it writable may have written it */
	} else if (maps[i].used) {
		unforeign(at);
	}
	if (maps[i].used) {
		maps[i].used = false;
		return;
	}
	maps[i].grant = rnd(2);
	if (maps[i].grant) {
		uint32_t ref = REF_FIRST + 2 * rnd(REFS / 2);

		gfn = 16u + ref;
		maps[i].handle = grant_map(ref, at);
	} else {
		gfn = any_ram();
		assert_int_equal(foreign(gfn, at), 0);
	}
	maps[i].used = true;
	maps[i].gfn = gfn;
}

static void one_step(void)
{
	uint32_t val = 0, i;
	uint64_t gfn = any_ram();

	switch (rnd(9)) {
	case 0:
	case 1:
		assert_true(guest_write(v, gfn));
		break;
	case 2:
		assert_int_equal(copy_to_guest(v, (gfn << PAGE_SHIFT) + 100, &val, sizeof(val)), 0);
		break;
	case 3:
		assert_int_equal(guest_phys_write(target, (gfn << PAGE_SHIFT) + 9, &val, 4), 0);
		break;
	case 4:
		i = REF_FIRST + 2 * rnd(REFS / 2);
		grant_copy(i);
		gfn = 16u + i;
		break;
	case 5:
		map_something(rnd(SLOTS));
		return;
	case 6:		/* through another's entry, who may be the only one to know */
		i = rnd(SLOTS);
		if (!maps[i].used)
			return;
		assert_true(guest_write(tv, MAPS + i));
		gfn = maps[i].gfn;
		break;
	case 7:		/* new memory is written memory, and what is gone is none */
		gfn = HOLES + rnd(16);
		if (is_ram(gfn)) {
			assert_int_equal(p2m_release(target, GFN(gfn), 1), 0);
			model[gfn] = sticky[gfn] = false;
			return;
		}
		assert_int_equal(p2m_populate(target, GFN(gfn), 0), 0);
		break;
	default:	/* reading is not writing */
		assert_int_equal(copy_from_guest(v, &val, gfn << PAGE_SHIFT, sizeof(val)), 0);
		return;
	}
	model[gfn] = true;
}

/* What the look says must be what the model says, and what others hold besides. */
static void compare(bool clean)
{
	look(clean);
	for (uint64_t gfn = 24; gfn < FRAMES; gfn++) {
		bool held = false;

		for (unsigned int i = 0; i < SLOTS; i++)
			held |= maps[i].used && maps[i].gfn == gfn;
		if (is_set(gfn) != (model[gfn] || held || sticky[gfn]))
			fail_msg("frame %lx: said %d, written %d held %d before %d", gfn,
				 is_set(gfn), model[gfn], held, sticky[gfn]);
		if (clean) {
			sticky[gfn] = held;
			model[gfn] = false;
		}
	}
}

static void test_model(void **state)
{
	guest_map_grants(target, 0x3000, 1);
	for (uint16_t i = 8; i < 32; i++)
		((struct grant_entry_v1 *)guest_mem(target, 0x3000000))[i].domid = 1;
	enable();
	for (unsigned int round = 0; round < 3000; round++) {
		for (unsigned int i = rnd(12); i-- > 0;)
			one_step();
		compare(rnd(3));
	}
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (maps[i].used)
			map_something(i);
	}
	compare(true);
	compare(true);
	assert_int_equal(look(true), 0);
}

/* The hypervisor writes to what a guest has pinned whenever it likes. */
static void test_pinned(void **state)
{
	struct vcpu_register_vcpu_info *r = guest_mem(target, 0x2000);

	enable();
	assert_int_equal(look(true), 0);
	*r = (struct vcpu_register_vcpu_info){ .mfn = 100, .offset = 64 };
	assert_int_equal(hcall(v, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, 0x2000), 0);
	look(true);
	assert_true(is_set(100));
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(look(true), 1);
		assert_true(is_set(100));
	}
	assert_true(!hypercall_page_write(target, 0x65000));
	look(true);
	assert_true(is_set(0x65));
	assert_int_equal(look(true), 1);
}

/* A walk that is remembered does not go past a look. */
static void test_remembered(void **state)
{
	struct guest_system *s = &test_vcpu(v)->sys;
	uint64_t val = 1;

	*(uint64_t *)guest_mem(target, 0x20000) = 0x21007;
	*(uint64_t *)guest_mem(target, 0x21000) = 0x22007;
	*(uint64_t *)guest_mem(target, 0x22000) = 0xe7;		/* 2 MiB at 0 */
	s->cr0 = 0x80010001;
	s->cr3 = 0x20000;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	enable();
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(copy_to_guest(v, 0x64008, &val, sizeof(val)), 0);
		assert_int_equal(copy_to_guest(v, 0x64010, &val, sizeof(val)), 0);
		look(true);
		assert_true(is_set(0x64));
	}
	assert_int_equal(look(true), 0);
}

/* 2 MiB stay one piece until they are written, and are one again when nobody asks. */
static void test_pieces(void **state)
{
	struct xen_domctl op;
	unsigned int order;

	enable();
	p2m_lookup(&target->p2m, GFN(5), &order);
	assert_int_equal(order, PAGE_ORDER_2M);
	assert_true(guest_write(v, 5));
	p2m_lookup(&target->p2m, GFN(5), &order);
	assert_int_equal(order, 0);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_PEEK, 0, FRAMES, &op), 0);
	assert_int_equal(op.u.shadow_op.stats.fault_count, 1);
	assert_int_equal(look(true), 1);
	assert_true(is_set(5));
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_OFF, 0, 0, &op), 0);
	assert_true(guest_write(v, 400));
	p2m_lookup(&target->p2m, GFN(5), &order);
	assert_int_equal(order, PAGE_ORDER_2M);
	assert_true(p2m_lookup(&target->p2m, GFN(5), &order) & P2M_E_W);
	/* Without memory for a table all of the piece counts. */
	enable();
	target->p2m.tables_max = 0;
	assert_true(guest_write(v, 300));
	p2m_lookup(&target->p2m, GFN(300), &order);
	assert_int_equal(order, PAGE_ORDER_2M);
	assert_int_equal(look(true), GUEST_PAGES);
	assert_int_equal(look(true), 0);
}

static void test_operations(void **state)
{
	struct xen_domctl op;

	/* Off is always possible; the rest not before it is on. */
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_OFF, 0, 0, &op), 0);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_PEEK, 0, FRAMES, &op), 0);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_CLEAN, 0, FRAMES, &op), 0);
	assert_int_equal(op.u.shadow_op.pages, FRAMES);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_ENABLE, 0, 0, &op), -XEN_EINVAL);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_ENABLE_TEST, 0, 0, &op), -XEN_EINVAL);
	assert_int_equal(shadow(77, 0, 0, &op), -XEN_EINVAL);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_ENABLE, XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY, 0,
				&op), 0);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0, 0, &op), -XEN_EINVAL);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_CLEAN, 0, P2M_MAX_GFN + 1, &op), -XEN_EINVAL);
	/* Without a buffer, and with one for a part. */
	assert_true(guest_write(v, 30));
	memset(tool_buf(0), 0xa5, BITS);
	assert_int_equal(shadow(XEN_DOMCTL_SHADOW_OP_PEEK, 0, 20, &op), 0);
	assert_int_equal(op.u.shadow_op.stats.dirty_count, 0);
	assert_memory_equal(tool_buf(0), "\0\0\0\xa5", 4);
	memset(&op, 0, sizeof(op));
	op.u.shadow_op = (struct xen_domctl_shadow_op){ .op = XEN_DOMCTL_SHADOW_OP_PEEK,
							.pages = FRAMES };
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), 0);
	assert_int_equal(op.u.shadow_op.stats.dirty_count, 1);
	/* What could not be delivered is found again. */
	op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_CLEAN;
	HANDLE_BAD(op.u.shadow_op.dirty_bitmap);
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), -XEN_EFAULT);
	op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_PEEK;
	op.u.shadow_op.mode = 0;
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), -XEN_EFAULT);
	assert_int_equal(look(true), 1);
	assert_true(is_set(30));
	assert_int_equal(look(true), 0);
	/* Not oneself; nobody else. */
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 1, &op), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 5, &op), -XEN_ESRCH);
}

/* More than one piece, with other work in between: the struct carries how far it came. */
static void test_long(void **state)
{
	struct xen_domctl op, *there = guest_mem(tool, TOOL_OP);
	uint64_t pages = 0x10000;
	unsigned int rounds = 0;
	int64_t rc;

	assert_int_equal(p2m_populate(target, GFN(0x8000), 0), 0);
	enable();
	assert_true(guest_write(v, 0x8000));
	assert_true(guest_write(v, 0x30));
	op = (struct xen_domctl){ .cmd = XEN_DOMCTL_shadow_op, .domain = 2,
				  .interface_version = XEN_DOMCTL_INTERFACE_VERSION };
	op.u.shadow_op = (struct xen_domctl_shadow_op){ .op = XEN_DOMCTL_SHADOW_OP_CLEAN,
							.pages = pages, .mode = 1 };
	HANDLE(op.u.shadow_op.dirty_bitmap, 0);
	memset(tool_buf(0), 0xff, pages / 8);
	*there = op;
	do {
		struct hypercall hc = { .nr = __HYPERVISOR_domctl, .arg = { TOOL_OP } };

		atomic_store(&port_this_pcpu()->softirqs, 1);
		rc = hypercall_dispatch(tv, &hc);
		assert_int_equal(hc.arg[0], TOOL_OP);
		rounds++;
	} while (rc == HC_CONTINUE);
	assert_int_equal(rc, 0);
	assert_int_equal(rounds, pages / 4096);
	assert_int_equal(there->u.shadow_op.mode, 1);
	assert_int_equal(there->u.shadow_op.stats.dirty_count, 2);
	assert_int_equal(there->u.shadow_op.pages, pages);
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(is_set(i), i == 0x30 || i == 0x8000);
	/* A position that nobody can have come to. */
	there->u.shadow_op.mode = ~0u;
	assert_int_equal(hcall(tv, __HYPERVISOR_domctl, TOOL_OP, 0, 0), 0);
	there->u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_OFF;
	assert_int_equal(hcall(tv, __HYPERVISOR_domctl, TOOL_OP, 0, 0), 0);
	there->u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;
	there->u.shadow_op.mode = 1u << 8;
	assert_int_equal(hcall(tv, __HYPERVISOR_domctl, TOOL_OP, 0, 0), -XEN_EINVAL);
}

static void test_allocation(void **state)
{
	struct xen_domctl op = { 0 };

	target->p2m.tables_max = 257;
	op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION;
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), 0);
	assert_int_equal(op.u.shadow_op.mb, 2);
	op.u.shadow_op.op = XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION;
	op.u.shadow_op.mb = 3;
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), 0);
	assert_int_equal(target->p2m.tables_max, 768);
	op.u.shadow_op.mb = UINT32_MAX;
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), -XEN_ENOMEM);
	domain_destroy(target);
	assert_int_equal(domctl(XEN_DOMCTL_shadow_op, 2, &op), 0);
}

static void test_frame_types(void **state)
{
	struct xen_domctl op = { 0 };
	uint64_t *frames = tool_buf(0);

	for (unsigned int i = 0; i < 1024; i++)
		frames[i] = i;
	frames[1000] = 1ULL << 40;
	frames[1001] = UINT64_MAX;
	op.u.getpageframeinfo3.num = 1024;
	HANDLE(op.u.getpageframeinfo3.array, 0);
	assert_int_equal(domctl(XEN_DOMCTL_getpageframeinfo3, 2, &op), 0);
	for (unsigned int i = 0; i < 1024; i++)
		assert_int_equal(frames[i], i < GUEST_PAGES || i - EXTRA < EXTRA_PAGES ? 0 :
				 0xf0000000);
	op.u.getpageframeinfo3.num = 1025;
	assert_int_equal(domctl(XEN_DOMCTL_getpageframeinfo3, 2, &op), -XEN_E2BIG);
	op.u.getpageframeinfo3.num = 1;
	HANDLE_BAD(op.u.getpageframeinfo3.array);
	assert_int_equal(domctl(XEN_DOMCTL_getpageframeinfo3, 2, &op), -XEN_EFAULT);
	op.u.getpageframeinfo3.num = 0;
	assert_int_equal(domctl(XEN_DOMCTL_getpageframeinfo3, 2, &op), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_model), T(test_pinned), T(test_remembered), T(test_pieces),
		T(test_operations), T(test_long), T(test_allocation), T(test_frame_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
