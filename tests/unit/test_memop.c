/* SPDX-License-Identifier: MIT */
/*
 * memory_op as a guest sees it: results, errors, continuations, and what
 * becomes of the frames.
 */
#include "unit.h"

#include "fake_domains.h"
#include "hospes/gnttab.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define RAM 512u		/* frames at 0, one mapping */
#define ARG 0x1000u		/* guest addresses, paging is off */
#define LIST 0x2000u
#define LIST2 0x8000u
#define ERRS 0x10000u
#define FAR 0x40000u		/* an empty part */

static struct domain *dom;
static struct vcpu *vcpu;
static struct hypercall last;

static int setup(void **state)
{
	(void)state;
	test_machine_init(8192, 1);
	page_fail_after = 0;
	dom = make_domain(1, 6000, 0);
	vcpu = dom->vcpus[0];
	test_vcpu(vcpu)->sys.cr0 = 1;
	assert_int_equal(p2m_populate(dom, GFN(0), 9), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	atomic_store(&port_this_pcpu()->softirqs, 0);
	end_domain(dom);
	assert_int_equal(page_free_count(), page_total_count());
	test_machine_fini();
	return 0;
}

static void poke(gpa_t gpa, const void *src, size_t len)
{
	assert_int_equal(guest_phys_write(dom, gpa, src, len), 0);
}

static void peek(gpa_t gpa, void *dst, size_t len)
{
	assert_true(test_guest_read(dom, gpa, dst, len));
}

/* One round of memory_op, cmd with its progress bits; the argument is at ARG. */
static int64_t call_raw(uint64_t cmd, gva_t arg)
{
	last = (struct hypercall){ .nr = __HYPERVISOR_memory_op, .arg = { cmd, arg } };
	return hypercall_dispatch(vcpu, &last);
}

static int64_t call(uint64_t cmd, const void *arg, size_t size)
{
	poke(ARG, arg, size);
	return call_raw(cmd, ARG);
}

/* Until it is done; counts the rounds. */
static int64_t call_all(uint64_t cmd, const void *arg, size_t size, unsigned int *rounds)
{
	int64_t rc = call(cmd, arg, size);

	for (*rounds = 1; rc == HC_CONTINUE; ++*rounds) {
		assert_int_equal(last.arg[0] & 63, cmd & 63);
		assert_int_equal(last.arg[1], ARG);
		rc = call_raw(last.arg[0], ARG);
	}
	return rc;
}

static struct p2m_entry get(uint64_t gfn)
{
	return p2m_get(&dom->p2m, GFN(gfn));
}

/* --- Reservations ------------------------------------------------------- */

static struct xen_memory_reservation reservation(uint64_t nr, unsigned int order, domid_t id)
{
	struct xen_memory_reservation r = {
		.nr_extents = nr, .extent_order = order, .domid = id,
	};

	r.extent_start.p = (void *)(uintptr_t)LIST;
	return r;
}

static void put_list(gpa_t at, uint64_t first, unsigned int count, uint64_t step)
{
	for (unsigned int i = 0; i < count; i++) {
		uint64_t gfn = first + i * step;

		poke(at + i * 8, &gfn, 8);
	}
}

static void test_populate(void **state)
{
	struct xen_memory_reservation r = reservation(10, 0, DOMID_SELF);
	uint64_t zero[512], kept[10];
	unsigned int rounds;

	(void)state;
	put_list(LIST, FAR, 10, 3);
	assert_int_equal(call(XENMEM_populate_physmap, &r, sizeof(r)), 10);
	for (unsigned int i = 0; i < 10; i++) {
		assert_int_equal(get(FAR + 3 * i).type, P2M_RAM);
		assert_int_equal(get(FAR + 3 * i + 1).type, P2M_HOLE);
		peek((FAR + 3ull * i) << PAGE_SHIFT, zero, sizeof(zero));
		for (unsigned int w = 0; w < 512; w++)
			assert_int_equal(zero[w], 0);
	}
	peek(LIST, kept, sizeof(kept));
	assert_int_equal(kept[9], FAR + 27);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM + 10);
	/* Populated already: as far as it goes. */
	put_list(LIST, FAR + 1, 2, 1);
	put_list(LIST + 16, FAR + 3, 1, 1);
	assert_int_equal(call(XENMEM_populate_physmap, &r, sizeof(r)), 2);
	/* Big ones, by the own id, one per round. */
	atomic_store(&port_this_pcpu()->softirqs, 1);
	r = reservation(3, 9, 1);
	put_list(LIST, 2 * FAR, 3, 512);
	assert_int_equal(call_all(XENMEM_populate_physmap, &r, sizeof(r), &rounds), 3);
	assert_int_equal(rounds, 3);
	assert_int_equal(get(2 * FAR + 1024).order, 9);
	/* Over the quota: a short count. */
	dom->max_pages = atomic_load(&dom->tot_pages) + 513;
	put_list(LIST, 3 * FAR, 3, 512);
	assert_int_equal(call_all(XENMEM_populate_physmap, &r, sizeof(r), &rounds), 1);
	assert_int_equal(rounds, 2);
}

/* Every error of the reservation calls is a count. */
static void test_reservation_errors(void **state)
{
	static const unsigned int cmds[] = { XENMEM_populate_physmap, XENMEM_decrease_reservation };
	struct xen_memory_reservation r, good = reservation(2, 0, DOMID_SELF);
	struct domain *other = make_domain(2, 10, 0);

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		unsigned long before = atomic_load(&dom->tot_pages);

		/* What would work, were it not for one thing. */
		put_list(LIST, i ? 100 : FAR, 2, 1);
		r = good, r.extent_order = 10;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.extent_order = UINT32_MAX;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.nr_extents = 1ull << 26;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.domid = 2;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.domid = 77;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.domid = DOMID_IO;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.extent_start.p = (void *)(uintptr_t)(RAM << PAGE_SHIFT);
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		assert_int_equal(call_raw(cmds[i], RAM << PAGE_SHIFT), 0);
		assert_int_equal(call_raw(cmds[i] | 5 << 6, RAM << PAGE_SHIFT), 5);
		r = good, r.mem_flags = XENMEMF_populate_on_demand;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		r = good, r.nr_extents = 0;
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 0);
		assert_int_equal(atomic_load(&dom->tot_pages), before);
		/* The list ends in nothing after its first element. */
		r = good, r.extent_start.p = (void *)(uintptr_t)((RAM << PAGE_SHIFT) - 8);
		put_list((RAM << PAGE_SHIFT) - 8, i ? 100 : FAR, 1, 1);
		assert_int_equal(call(cmds[i], &r, sizeof(r)), 1);
		assert_int_equal(atomic_load(&dom->tot_pages), i ? before - 1 : before + 1);
		/* Progress beyond the end, as only a guest would claim. */
		assert_int_equal(call(cmds[i] | 9 << 6, &good, sizeof(good)), 9);
		/* Frame numbers of all sizes. */
		for (unsigned int bit = 36; bit < 64; bit++) {
			put_list(LIST, 1ull << bit | 0x1000, 2, 1);
			assert_int_equal(call(cmds[i], &good, sizeof(good)), 0);
		}
		put_list(LIST, UINT64_MAX, 2, 1);
		assert_int_equal(call(cmds[i], &good, sizeof(good)), 0);
	}
	end_domain(other);
}

static void test_decrease(void **state)
{
	struct xen_memory_reservation r = reservation(100, 0, DOMID_SELF);
	struct guest_pin pin;
	unsigned int rounds;

	(void)state;
	assert_int_equal(guest_pin(dom, GFN(205), &pin), 0);
	atomic_store(&port_this_pcpu()->softirqs, 1);
	put_list(LIST, 200, 100, 1);
	assert_int_equal(call_all(XENMEM_decrease_reservation, &r, sizeof(r), &rounds), 100);
	assert_int_equal(rounds, 100);
	assert_int_equal(get(199).type, P2M_RAM);
	assert_int_equal(get(200).type, P2M_HOLE);
	assert_int_equal(get(299).type, P2M_HOLE);
	/* One is held by the pin. */
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 99);
	guest_unpin(&pin);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 100);
	assert_int_equal(call_all(XENMEM_decrease_reservation, &r, sizeof(r), &rounds), 0);
	/* And back. */
	assert_int_equal(call_all(XENMEM_populate_physmap, &r, sizeof(r), &rounds), 100);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM);
	/* A hole in a bigger extent. */
	assert_int_equal(p2m_populate(dom, GFN(FAR), 3), 0);
	put_list(LIST, FAR, 2, 4);
	r = reservation(2, 2, DOMID_SELF);
	assert_int_equal(call_all(XENMEM_decrease_reservation, &r, sizeof(r), &rounds), 2);
	assert_int_equal(get(FAR).type, P2M_HOLE);
	assert_int_equal(get(FAR + 7).type, P2M_HOLE);
}

/* A privileged domain acts on others, and with bigger extents. */
static void test_privileged(void **state)
{
	struct domain *other = make_domain(2, 4000, 0);
	struct xen_memory_reservation r = reservation(1, 10, 2);
	domid_t id = 2;

	(void)state;
	dom->privileged = true;
	put_list(LIST, FAR, 1, 1);
	assert_int_equal(call(XENMEM_populate_physmap, &r, sizeof(r)), 1);
	assert_int_equal(atomic_load(&other->tot_pages), 1024);
	assert_int_equal(call(XENMEM_current_reservation, &id, sizeof(id)), 1024);
	assert_int_equal(call(XENMEM_maximum_gpfn, &id, sizeof(id)), FAR + 1023);
	assert_int_equal(call(XENMEM_decrease_reservation, &r, sizeof(r)), 1);
	assert_int_equal(atomic_load(&other->tot_pages), 0);
	r.extent_order = 19;
	assert_int_equal(call(XENMEM_populate_physmap, &r, sizeof(r)), 0);
	end_domain(other);
}

/* --- Queries ------------------------------------------------------------ */

static void test_queries(void **state)
{
	static const unsigned int cmds[] = {
		XENMEM_current_reservation, XENMEM_maximum_reservation, XENMEM_maximum_gpfn,
	};
	static const uint64_t want[] = { RAM, 6000, RAM - 1 };
	struct domain *other = make_domain(2, 10, 0);
	domid_t id;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		id = DOMID_SELF;
		assert_int_equal(call(cmds[i], &id, sizeof(id)), want[i]);
		id = 1;
		assert_int_equal(call(cmds[i], &id, sizeof(id)), want[i]);
		id = 2;
		assert_int_equal(call(cmds[i], &id, sizeof(id)), -XEN_EPERM);
		id = 3;
		assert_int_equal(call(cmds[i], &id, sizeof(id)), -XEN_ESRCH);
		assert_int_equal(call_raw(cmds[i], RAM << PAGE_SHIFT), -XEN_EFAULT);
	}
	/* Not for this kind of guest, or not there at all. */
	for (unsigned int cmd = 0; cmd < 64; cmd++) {
		if (cmd == 2 || cmd == 5 || (cmd >= 10 && cmd <= 12) || cmd > 28)
			assert_int_equal(call_raw(cmd, ARG), -XEN_ENOSYS);
	}
	end_domain(other);
}

static void test_memory_map(void **state)
{
	struct xen_memory_map map = { .nr_entries = 10 };
	struct e820entry_abi out[3];

	(void)state;
	map.buffer.p = (void *)(uintptr_t)LIST;
	assert_int_equal(call(XENMEM_memory_map, &map, sizeof(map)), -XEN_ENOSYS);
	dom->nr_e820 = 2;
	dom->e820[0] = (struct e820entry_abi){ 0, 0x100000, 1 };
	dom->e820[1] = (struct e820entry_abi){ 0xfee00000, 0x1000, 2 };
	assert_int_equal(call(XENMEM_memory_map, &map, sizeof(map)), 0);
	peek(ARG, &map, sizeof(map));
	assert_int_equal(map.nr_entries, 2);
	peek(LIST, out, sizeof(out));
	assert_memory_equal(out, dom->e820, 40);
	map.nr_entries = 1;
	memset(out, 0xee, sizeof(out));
	poke(LIST, out, sizeof(out));
	assert_int_equal(call(XENMEM_memory_map, &map, sizeof(map)), 0);
	peek(LIST, out, sizeof(out));
	assert_int_equal(out[0].size, 0x100000);
	assert_int_equal(out[1].type, 0xeeeeeeee);
	map.buffer.p = (void *)(uintptr_t)((RAM << PAGE_SHIFT) - 8);
	assert_int_equal(call(XENMEM_memory_map, &map, sizeof(map)), -XEN_EFAULT);
}

static void test_set_memory_map(void **state)
{
	const struct e820entry_abi map[] = { { 0, 0xa0000, 1 }, { 0x100000, 0x700000, 1 } };
	struct xen_foreign_memory_map f = { .domid = 2, .map.nr_entries = 2 };
	struct domain *other = make_domain(2, 10, 0);

	(void)state;
	f.map.buffer.p = (void *)(uintptr_t)LIST;
	poke(LIST, map, sizeof(map));
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), -XEN_EPERM);
	dom->privileged = true;
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), 0);
	assert_int_equal(other->nr_e820, 2);
	assert_memory_equal(other->e820, map, sizeof(map));
	f.map.nr_entries = E820_MAX + 1;
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), -XEN_EINVAL);
	f.map.nr_entries = E820_MAX;
	page_fail_after = 1;
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), -XEN_ENOMEM);
	assert_int_equal(other->nr_e820, 2);
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), 0);
	assert_int_equal(other->nr_e820, E820_MAX);
	f.map.nr_entries = 2;
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), 0);
	f.map.nr_entries = 3;
	f.map.buffer.p = (void *)(uintptr_t)((RAM << PAGE_SHIFT) - 40);
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), -XEN_EFAULT);
	assert_int_equal(other->nr_e820, 2);
	f.domid = 3;
	assert_int_equal(call(XENMEM_set_memory_map, &f, sizeof(f)), -XEN_ESRCH);
	end_domain(other);
}

/* --- Claims and targets ------------------------------------------------- */

static int64_t claim(domid_t id, uint64_t nr)
{
	struct xen_memory_reservation r = { .nr_extents = nr, .domid = id };

	return call(XENMEM_claim_pages, &r, sizeof(r));
}

static int64_t populate(domid_t id, uint64_t gfn, uint64_t nr)
{
	struct xen_memory_reservation r = reservation(nr, 0, id);

	put_list(LIST, gfn, nr, 1);
	return call(XENMEM_populate_physmap, &r, sizeof(r));
}

static void test_claim(void **state)
{
	struct domain *other = make_domain(2, 8192, 0), *third = make_domain(3, 8192, 0);
	struct xen_memory_reservation r = { .nr_extents = 5, .domid = 2, .extent_order = 1 };
	uint64_t free, all;

	(void)state;
	assert_int_equal(claim(2, 5), -XEN_EPERM);
	dom->privileged = true;
	assert_int_equal(call(XENMEM_claim_pages, &r, sizeof(r)), -XEN_EINVAL);
	assert_int_equal(claim(7, 5), -XEN_EINVAL);
	assert_int_equal(claim(2, 0), 0);
	assert_int_equal(populate(2, 0, 3), 3);
	/* Not more than the machine has, or the domain may have; not less than it has. */
	free = page_free_count();
	assert_int_equal(claim(2, 8193), -XEN_EINVAL);
	assert_int_equal(claim(2, free + 3 + 1), -XEN_ENOMEM);
	assert_int_equal(claim(2, 3), -XEN_EINVAL);
	assert_int_equal(claim(2, free + 3 - 10), 0);
	assert_int_equal(claim(2, 100), -XEN_EINVAL);
	assert_int_equal(page_claimed_count(), free - 10);
	assert_int_equal(page_free_count(), free);
	/* 10 for the others, of which some are for page tables. */
	assert_in_range(populate(3, 0, 20), 6, 10);
	assert_null(hv_alloc_pages(0));
	assert_int_equal(claim(3, 500), -XEN_ENOMEM);
	/* What it was promised it gets, and the claim ends by itself. */
	assert_int_equal(populate(2, 100, 1), 1);
	assert_int_equal(other->claim, free - 11);
	assert_int_equal(page_claimed_count(), free - 11);
	assert_int_equal(claim(2, 0), 0);
	assert_int_equal(page_claimed_count(), 0);
	assert_int_equal(claim(2, 6), 0);
	assert_int_equal(other->claim, 2);
	assert_int_equal(populate(2, 200, 5), 5);
	assert_int_equal(other->claim, 0);
	/* One that dies gives its claim back; dying, it gets none. */
	all = page_free_count();
	assert_int_equal(claim(2, 100), 0);
	domain_get(other);
	domain_destroy(other);
	while (domain_reap_step())
		;
	assert_int_equal(page_claimed_count(), 0);
	assert_int_equal(claim(2, 100), -XEN_EINVAL);
	assert_true(page_free_count() > all);
	domain_put(other);
	while (domain_reap_step())
		;
	end_domain(third);
}

/* Pages that cannot be had in one piece do not use up the claim. */
static void test_claim_pieces(void **state)
{
	struct domain *other = make_domain(2, 6000, 0);
	mfn_t mfn;

	(void)state;
	dom->privileged = true;
	assert_int_equal(page_alloc_domain_at(other, 0, MFN(6000)), 0);
	assert_int_equal(claim(2, 5001), 0);
	assert_int_equal(page_alloc_domain(other, 13, &mfn), -XEN_E2BIG);
	assert_int_equal(page_alloc_domain(other, 12, &mfn), -XEN_ENOMEM);
	assert_int_equal(other->claim, 5000);
	page_fail_after = 1;
	assert_int_equal(populate(2, 0, 1), 0);
	assert_int_equal(other->claim, 5000);
	page_put(mfn_to_page(MFN(6000)));
	end_domain(other);
}

/* Who asks for the very frames does not get others' either, and uses up its own claim. */
static void test_claim_at(void **state)
{
	struct domain *other = make_domain(2, 8192, 0), *third = make_domain(3, 8192, 0);
	uint64_t free = page_free_count();

	(void)state;
	dom->privileged = true;
	assert_int_equal(claim(2, free - 1), 0);
	assert_int_equal(page_alloc_domain_at(third, 1, MFN(6000)), -XEN_ENOMEM);
	assert_int_equal(page_alloc_domain_at(third, 0, MFN(6000)), 0);
	assert_int_equal(page_alloc_domain_at(third, 0, MFN(6001)), -XEN_ENOMEM);
	assert_int_equal(page_alloc_domain_at(other, 0, MFN(0)), -XEN_ENOMEM);
	assert_int_equal(atomic_load(&third->tot_pages), 1);
	assert_int_equal(page_claimed_count(), page_free_count());
	assert_int_equal(page_alloc_domain_at(other, 2, MFN(6004)), 0);
	assert_int_equal(other->claim, free - 5);
	assert_int_equal(page_claimed_count(), page_free_count());
	page_put(mfn_to_page(MFN(6000)));
	for (uint64_t nr = 6004; nr < 6008; nr++)
		page_put(mfn_to_page(MFN(nr)));
	end_domain(other);
	end_domain(third);
}

static void test_targets(void **state)
{
	struct xen_pod_target t = { .target_pages = 6000, .domid = DOMID_SELF };
	struct xen_vnuma_topology_info n = { .domid = DOMID_SELF };

	(void)state;
	assert_int_equal(call(XENMEM_set_pod_target, &t, sizeof(t)), -XEN_EPERM);
	assert_int_equal(call(XENMEM_get_vnumainfo, &n, sizeof(n)), -XEN_EOPNOTSUPP);
	dom->privileged = true;
	assert_int_equal(call(XENMEM_set_pod_target, &t, sizeof(t)), 0);
	peek(ARG, &t, sizeof(t));
	assert_int_equal(t.tot_pages, RAM);
	assert_int_equal(t.pod_cache_pages + t.pod_entries, 0);
	t.target_pages = 6001;
	assert_int_equal(call(XENMEM_set_pod_target, &t, sizeof(t)), -XEN_EINVAL);
	assert_int_equal(call(XENMEM_get_pod_target, &t, sizeof(t)), 0);
	t.domid = n.domid = 9;
	assert_int_equal(call(XENMEM_get_pod_target, &t, sizeof(t)), -XEN_ESRCH);
	assert_int_equal(call(XENMEM_get_vnumainfo, &n, sizeof(n)), -XEN_ESRCH);
	assert_int_equal(call_raw(XENMEM_get_sharing_freed_pages, 0), 0);
	assert_int_equal(call_raw(XENMEM_get_sharing_shared_pages, 0), 0);
}

/* --- add_to_physmap ----------------------------------------------------- */

static int64_t add(domid_t id, unsigned int space, uint64_t idx, uint64_t gpfn)
{
	struct xen_add_to_physmap a = { .domid = id, .space = space, .idx = idx, .gpfn = gpfn };

	return call(XENMEM_add_to_physmap, &a, sizeof(a));
}

static void test_shared_info(void **state)
{
	uint64_t mfn = virt_to_mfn(dom->shared).v;

	(void)state;
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR), 0);
	assert_int_equal(get(FAR).type, P2M_SHARED);
	assert_int_equal(get(FAR).mfn.v, mfn);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR), 0);
	assert_int_equal(get(FAR).type, P2M_SHARED);
	/* Onto RAM, which is freed; the old place is a hole. */
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, 300), 0);
	assert_int_equal(get(FAR).type, P2M_HOLE);
	assert_int_equal(get(300).mfn.v, mfn);
	assert_int_equal(get(301).type, P2M_RAM);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 1);
	/* Away again; then its place is populated anew. */
	assert_int_equal(add(1, XENMAPSPACE_shared_info, 0, P2M_MAX_GFN - 1), 0);
	assert_int_equal(get(300).type, P2M_HOLE);
	assert_int_equal(p2m_populate(dom, GFN(300), 0), 0);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 1, FAR), -XEN_EINVAL);
}

static void test_grant_frames(void **state)
{
	mfn_t mfn;

	(void)state;
	/* Highest first, as guests do. */
	for (unsigned int i = 4; i-- > 0;)
		assert_int_equal(add(DOMID_SELF, XENMAPSPACE_grant_table, i, FAR + i), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(gnttab_get_frame(dom, i, &mfn), 0);
		assert_int_equal(get(FAR + i).mfn.v, mfn.v);
	}
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_grant_table, 4, FAR + 4), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_grant_table, 1u << 31, FAR), -XEN_EINVAL);
	/* Over another special page: that one is just unhooked. */
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_grant_table, 0, FAR + 1), 0);
	assert_int_equal(get(FAR).type, P2M_HOLE);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_grant_table, 1, FAR), 0);
	assert_int_equal(get(FAR + 1).type, P2M_SHARED);
}

static void test_gmfn(void **state)
{
	uint64_t mfn7 = get(7).mfn.v;

	(void)state;
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, 7, 7), 0);
	assert_int_equal(get(7).order, 9);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, 7, FAR), 0);
	assert_int_equal(get(7).type, P2M_HOLE);
	assert_int_equal(get(FAR).mfn.v, mfn7);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, FAR, 9), 0);
	assert_int_equal(get(9).mfn.v, mfn7);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 1);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, FAR, 9), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, UINT64_MAX, 9), -XEN_EINVAL);
	/* A page of the hypervisor is not the guest's to move this way. */
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR), 0);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn, FAR, 9), -XEN_EINVAL);
}

static void test_gmfn_range(void **state)
{
	struct xen_add_to_physmap a = {
		.domid = DOMID_SELF, .space = XENMAPSPACE_gmfn_range, .idx = 100, .gpfn = FAR,
		.size = 20,
	};
	uint64_t first = get(100).mfn.v;
	unsigned int rounds;

	(void)state;
	atomic_store(&port_this_pcpu()->softirqs, 1);
	assert_int_equal(call_all(XENMEM_add_to_physmap, &a, sizeof(a), &rounds), 0);
	assert_int_equal(rounds, 20);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(get(FAR + i).mfn.v, first + i);
		assert_int_equal(get(100 + i).type, P2M_HOLE);
	}
	/* Stops at the first that fails. */
	a.idx = 118;
	assert_int_equal(call_all(XENMEM_add_to_physmap, &a, sizeof(a), &rounds), -XEN_EINVAL);
	a.size = 0;
	assert_int_equal(call(XENMEM_add_to_physmap, &a, sizeof(a)), 0);
	a.idx = 10;
	a.gpfn = UINT64_MAX;
	a.size = 2;
	assert_int_equal(call(XENMEM_add_to_physmap, &a, sizeof(a)), -XEN_EINVAL);
}

static void test_add_errors(void **state)
{
	struct domain *other = make_domain(2, 10, 0);
	void *page = hv_alloc_pages(0);

	(void)state;
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, UINT64_MAX), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, P2M_MAX_GFN), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_gmfn_foreign, 0, FAR), -XEN_ENOSYS);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_dev_mmio, 0, FAR), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, 6, 0, FAR), -XEN_EINVAL);
	assert_int_equal(add(DOMID_SELF, UINT32_MAX, 0, FAR), -XEN_EINVAL);
	assert_int_equal(add(3, XENMAPSPACE_shared_info, 0, FAR), -XEN_ESRCH);
	assert_int_equal(add(DOMID_IO, XENMAPSPACE_shared_info, 0, FAR), -XEN_ESRCH);
	assert_int_equal(add(2, XENMAPSPACE_shared_info, 0, FAR), -XEN_EPERM);
	for (unsigned int i = 0; i < 2; i++) {
		static const enum p2m_type types[] = { P2M_GRANT_RW, P2M_GRANT_RO };
		struct xen_remove_from_physmap r = { .domid = DOMID_SELF, .gpfn = FAR + 1 };

		write_lock(&dom->p2m.lock);
		assert_int_equal(p2m_set(dom, GFN(FAR + 1), 0, virt_to_mfn(page), types[i]), 0);
		write_unlock(&dom->p2m.lock);
		assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR + 1), -XEN_EPERM);
		assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), -XEN_EPERM);
		assert_int_equal(get(FAR + 1).type, types[i]);
	}
	/* A device's page is only there because it was touched. */
	write_lock(&dom->p2m.lock);
	assert_int_equal(p2m_set(dom, GFN(FAR + 2), 0, MFN(1 << 20), P2M_MMIO), 0);
	write_unlock(&dom->p2m.lock);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR + 2), 0);
	assert_int_equal(get(FAR + 2).type, P2M_SHARED);
	hv_free_pages(page, 0);
	end_domain(other);
}

/* Moving a page when memory for tables runs out: nothing has happened. */
static void test_add_failures(void **state)
{
	uint64_t mfn = get(7).mfn.v;
	unsigned int n;

	(void)state;
	for (n = 1;; n++) {
		page_fail_after = n;
		if (!add(DOMID_SELF, XENMAPSPACE_gmfn, 7, 1ull << 30))
			break;
		page_fail_after = 0;
		assert_int_equal(get(7).mfn.v, mfn);
		assert_int_equal(get(7).type, P2M_RAM);
		assert_int_equal(get(1ull << 30).type, P2M_HOLE);
		assert_int_equal(atomic_load(&dom->tot_pages), RAM);
	}
	assert_int_equal(n, 4);	/* one to split, once; three of the new path */
	page_fail_after = 0;
	assert_int_equal(get(1ull << 30).mfn.v, mfn);
}

/* --- Batches ------------------------------------------------------------ */

static struct xen_add_to_physmap_batch batch(unsigned int space, uint16_t size, domid_t foreign)
{
	struct xen_add_to_physmap_batch b = {
		.domid = DOMID_SELF, .space = (uint16_t)space, .size = size,
	};

	b.u.foreign_domid = foreign;
	b.idxs.p = (void *)(uintptr_t)LIST;
	b.gpfns.p = (void *)(uintptr_t)LIST2;
	b.errs.p = (void *)(uintptr_t)ERRS;
	return b;
}

static int32_t err_at(unsigned int i)
{
	int32_t err;

	peek(ERRS + 4 * i, &err, sizeof(err));
	return err;
}

static void test_batch(void **state)
{
	struct xen_add_to_physmap_batch b = batch(XENMAPSPACE_gmfn, 4, 0);
	uint64_t idx[4] = { 100, FAR, 101, 102 }, gpfn[4] = { FAR, FAR + 9, UINT64_MAX, FAR + 2 };
	uint64_t mfn = get(100).mfn.v;
	unsigned int rounds;

	(void)state;
	poke(LIST, idx, sizeof(idx));
	poke(LIST2, gpfn, sizeof(gpfn));
	atomic_store(&port_this_pcpu()->softirqs, 1);
	assert_int_equal(call_all(XENMEM_add_to_physmap_batch, &b, sizeof(b), &rounds), 0);
	assert_int_equal(rounds, 4);
	assert_int_equal(err_at(0), 0);
	assert_int_equal(err_at(1), 0);
	assert_int_equal(err_at(2), -XEN_EINVAL);
	assert_int_equal(err_at(3), 0);
	assert_int_equal(get(FAR + 9).mfn.v, mfn);
	assert_int_equal(get(FAR).type, P2M_HOLE);
	b.size = 0;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	b.size = 1;
	b.idxs.p = (void *)(uintptr_t)(RAM << PAGE_SHIFT);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EFAULT);
	b = batch(XENMAPSPACE_gmfn, 1, 0);
	b.gpfns.p = (void *)(uintptr_t)(RAM << PAGE_SHIFT);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EFAULT);
	b = batch(XENMAPSPACE_gmfn, 1, 0);
	b.errs.p = (void *)(uintptr_t)(RAM << PAGE_SHIFT);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EFAULT);
	b = batch(XENMAPSPACE_gmfn_range, 1, 0);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EOPNOTSUPP);
	b = batch(XENMAPSPACE_dev_mmio, 1, 0);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EACCES);
	b = batch(XENMAPSPACE_dev_mmio, 1, 1);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_EOPNOTSUPP);
	b = batch(XENMAPSPACE_gmfn, 1, 0);
	b.domid = 9;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), -XEN_ESRCH);
}

static void test_foreign(void **state)
{
	struct domain *other = make_domain(2, 10, 0);
	struct xen_add_to_physmap_batch b = batch(XENMAPSPACE_gmfn_foreign, 1, 2);
	struct xen_remove_from_physmap r = { .domid = DOMID_SELF, .gpfn = FAR };
	struct page *pg;

	(void)state;
	assert_int_equal(p2m_populate(other, GFN(5), 0), 0);
	pg = mfn_to_page(p2m_get(&other->p2m, GFN(5)).mfn);
	put_list(LIST, 5, 1, 1);
	put_list(LIST2, FAR, 1, 1);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_EPERM);
	dom->privileged = true;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), 0);
	assert_int_equal(get(FAR).type, P2M_FOREIGN);
	assert_int_equal(get(FAR).mfn.v, page_to_mfn(pg).v);
	assert_int_equal(atomic_load(&pg->refs), 2);
	/* The owner lets go, we still have it; then over it with another. */
	assert_int_equal(p2m_release(other, GFN(5), 1), 0);
	assert_int_equal(atomic_load(&other->tot_pages), 1);
	assert_int_equal(p2m_populate(other, GFN(5), 0), 0);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(atomic_load(&other->tot_pages), 1);
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), 0);
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), -XEN_ENOENT);
	pg = mfn_to_page(p2m_get(&other->p2m, GFN(5)).mfn);
	assert_int_equal(atomic_load(&pg->refs), 1);
	/* Wrong ones, and a place that does not exist: no reference stays. */
	b.u.foreign_domid = 1;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_EPERM);
	b.u.foreign_domid = DOMID_SELF;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_ESRCH);
	b.u.foreign_domid = DOMID_XEN;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_EINVAL);
	b.u.foreign_domid = 2;
	put_list(LIST2, UINT64_MAX, 1, 1);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_EINVAL);
	put_list(LIST2, FAR, 1, 1);
	page_fail_after = 1;
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_ENOMEM);
	put_list(LIST, 6, 1, 1);
	assert_int_equal(call(XENMEM_add_to_physmap_batch, &b, sizeof(b)), 0);
	assert_int_equal(err_at(0), -XEN_EINVAL);
	assert_int_equal(atomic_load(&pg->refs), 1);
	end_domain(other);
}

static void test_remove(void **state)
{
	struct xen_remove_from_physmap r = { .domid = DOMID_SELF, .gpfn = 300 };

	(void)state;
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), 0);
	assert_int_equal(get(300).type, P2M_HOLE);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 1);
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), -XEN_ENOENT);
	r.gpfn = UINT64_MAX;
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), -XEN_ENOENT);
	r.domid = 9;
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), -XEN_ESRCH);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR), 0);
	r = (struct xen_remove_from_physmap){ .domid = DOMID_SELF, .gpfn = FAR };
	assert_int_equal(call(XENMEM_remove_from_physmap, &r, sizeof(r)), 0);
	assert_int_equal(add(DOMID_SELF, XENMAPSPACE_shared_info, 0, FAR + 1), 0);
}

static void test_acquire_resource(void **state)
{
	struct domain *other = make_domain(2, 10, 0);
	struct xen_mem_acquire_resource r = { .domid = 2, .type = XENMEM_resource_grant_table };

	(void)state;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EACCES);
	dom->privileged = true;
	r.pad = 1;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	r.pad = 0;
	r.domid = 1;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EPERM);
	r.domid = DOMID_SELF;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_ESRCH);
	r.domid = 7;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_ESRCH);
	r.domid = 2;
	r.type = 2;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EOPNOTSUPP);
	r.type = XENMEM_resource_ioreq_server;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_ENOENT);
	r.type = XENMEM_resource_grant_table;
	r.id = 2;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	r.id = 0;
	r.frame = 1ULL << 32;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	r.frame = UINT64_MAX;
	r.nr_frames = 2;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	r.frame = 0;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	/* How many there may be. */
	for (r.id = 0; r.id < 2; r.id++) {
		r.nr_frames = 0;
		assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), 0);
		peek(ARG, &r, sizeof(r));
		assert_int_equal(r.nr_frames, r.id ? 1 : 4);
	}
	end_domain(other);
}

/* The control domain writes into another's grant table, and holds it when that dies. */
static void test_acquire_frames(void **state)
{
	struct domain *other = make_domain(2, 10, 0);
	struct xen_mem_acquire_resource r = { .domid = 2, .type = XENMEM_resource_grant_table,
					      .nr_frames = 3 };
	struct xen_remove_from_physmap rm = { .domid = DOMID_SELF };
	const struct grant_entry_v1 entry = { GTF_permit_access, 1, 77 };
	uint64_t before;
	mfn_t mfn;

	(void)state;
	dom->privileged = true;
	set_xen_guest_handle(r.frame_list, (xen_pfn_t *)(uintptr_t)LIST);
	put_list(LIST, FAR, 3, 1);
	put_list(LIST + 16, 5, 1, 1);		/* one takes the place of RAM */
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), 0);
	assert_int_equal(gnttab_get_frame(other, 0, &mfn), 0);
	assert_int_equal(get(FAR).mfn.v, mfn.v);
	assert_int_equal(get(FAR).type, P2M_FOREIGN);
	assert_int_equal(get(5).type, P2M_FOREIGN);
	assert_int_equal(atomic_load(&dom->tot_pages), RAM - 1);
	assert_int_equal(atomic_load(&other->refs), 4);
	poke(FAR << PAGE_SHIFT, &entry, sizeof(entry));
	assert_memory_equal(mfn_to_virt(mfn), &entry, sizeof(entry));
	/* Its own note of where the guest has the page is not touched. */
	assert_int_equal(frame_table[mfn.v].shared_gfn, 0);
	/* Beyond the table; a list that cannot be read; no memory. The others stay. */
	r.frame = 2;
	put_list(LIST, FAR + 8, 3, 1);
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	assert_int_equal(atomic_load(&other->refs), 6);
	r.frame = 0x80000000;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	r.frame = 0;
	put_list(LIST, UINT64_MAX, 1, 1);
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	put_list(LIST, FAR << 8, 3, 1);
	page_fail_after = 1;
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_ENOMEM);
	set_xen_guest_handle(r.frame_list, (xen_pfn_t *)(uintptr_t)(RAM << PAGE_SHIFT));
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EFAULT);
	/* No status frames in version 1. */
	r.id = XENMEM_resource_grant_table_id_status;
	set_xen_guest_handle(r.frame_list, (xen_pfn_t *)(uintptr_t)LIST);
	assert_int_equal(call(XENMEM_acquire_resource, &r, sizeof(r)), -XEN_EINVAL);
	assert_int_equal(atomic_load(&other->refs), 6);
	/* It stays, dead, until the last of them is unmapped. */
	domain_destroy(other);
	while (domain_reap_step())
		;
	assert_ptr_equal(domain_by_slot(2), other);
	assert_int_equal(atomic_load(&other->life), DOMAIN_DEAD);
	for (unsigned int i = 0; i < 5; i++) {
		static const uint64_t at[] = { FAR, FAR + 1, 5, FAR + 8, FAR + 9 };

		before = page_free_count();
		rm.gpfn = at[i];
		assert_int_equal(call(XENMEM_remove_from_physmap, &rm, sizeof(rm)), 0);
		while (domain_reap_step())
			;
	}
	assert_true(page_free_count() > before);
	assert_null(domain_get_by_id(2));
	dom->max_pages = RAM + 10;
	assert_int_equal(populate(DOMID_SELF, 5, 1), 1);
}

/* As above, but the one that mapped them goes first, or with them. */
static void test_acquire_teardown(void **state)
{
	struct domain *other = make_domain(2, 10, 0), *third = make_domain(3, 1000, 0);

	(void)state;
	assert_int_equal(p2m_populate(third, GFN(0), 9), 0);
	domain_get(other);
	write_lock(&third->p2m.lock);
	frame_table[virt_to_mfn(other->shared).v].shared_slot = (uint16_t)(other->slot + 1);
	assert_int_equal(p2m_set(third, GFN(FAR), 0, virt_to_mfn(other->shared), P2M_FOREIGN), 0);
	write_unlock(&third->p2m.lock);
	domain_destroy(other);
	while (domain_reap_step())
		;
	assert_ptr_equal(domain_by_slot(2), other);
	end_domain(third);
	assert_null(domain_by_slot(2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_populate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reservation_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decrease, setup, teardown),
		cmocka_unit_test_setup_teardown(test_privileged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_map, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set_memory_map, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claim, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claim_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claim_at, setup, teardown),
		cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_info, setup, teardown),
		cmocka_unit_test_setup_teardown(test_grant_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gmfn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gmfn_range, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_add_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acquire_resource, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acquire_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acquire_teardown, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
