/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: statuses and errors, both versions, and three domains against
 * a model. The fake p2m checks that pages are flushed before they are let go.
 */
#include "unit.h"

#include <pthread.h>

#include "fake_core.h"
#include "gnttab_calls.h"
#include "../../hv/core/gnttab_private.h"

#define RAM_GFN 8u		/* RAM of each domain from here */
#define RAM_PAGES 16u
#define RO_GFN 30u		/* RAM the domain itself may not write */
#define MAP_GFN 64u		/* holes to map into */
#define MAX_FRAMES 4u

static struct domain *const d1 = &fake.dom[0], *const d2 = &fake.dom[1], *const d3 = &fake.dom[2];

static void ram_init(struct domain *d)
{
	for (uint64_t gfn = RAM_GFN; gfn < RAM_GFN + RAM_PAGES; gfn++)
		memset(fake_ram(d, gfn, P2M_RAM), (int)(d->id * 16 + gfn - RAM_GFN), PAGE_SIZE);
	fake_ram(d, RO_GFN, P2M_RAM_RO);
}

static int setup(void **state)
{
	fake_core_init();
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		assert_int_equal(gnttab_init(&fake.dom[i], MAX_FRAMES, 2, 2), 0);
		ram_init(&fake.dom[i]);
	}
	return 0;
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		while (!gnttab_release_step(&fake.dom[i]))
			;
	}
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		assert_int_equal(fake.dom[i].grants->nr_active, 0);
		gnttab_destroy(&fake.dom[i]);
	}
	fake_core_fini();
	return 0;
}

/* --- What guests do ----------------------------------------------------- */

static void *frame_va(struct domain *d, uint64_t idx)
{
	mfn_t mfn;

	CHECK(gnttab_get_frame(d, idx, &mfn) == 0);
	return mfn_to_virt(mfn);
}

static struct grant_entry_v1 *v1(struct domain *d, unsigned int ref)
{
	return (struct grant_entry_v1 *)frame_va(d, ref / 512) + ref % 512;
}

static union grant_entry_v2 *v2(struct domain *d, unsigned int ref)
{
	return (union grant_entry_v2 *)frame_va(d, ref / 256) + ref % 256;
}

static uint16_t *v2_status(struct domain *d, unsigned int ref)
{
	return (uint16_t *)frame_va(d, 0x80000000u) + ref;
}

static void grant(struct domain *d, unsigned int ref, domid_t to, uint32_t gfn, uint16_t flags)
{
	*v1(d, ref) = (struct grant_entry_v1){ GTF_permit_access | flags, to, gfn };
}

static int64_t set_version(struct domain *d, uint32_t version)
{
	struct gnttab_set_version op = { version };

	return fake_call(d->vcpus[0], gnttabop_set_version, &op, 1);
}

static int map_op(struct domain *d, struct gnttab_map_grant_ref *op)
{
	CHECK(fake_call(d->vcpus[0], gnttabop_map, op, 1) == 0);
	return op->status;
}

static int map(struct domain *d, struct domain *from, uint32_t ref, uint64_t gfn, uint32_t flags,
	       uint32_t *handle)
{
	struct gnttab_map_grant_ref op = { .host_addr = gfn << PAGE_SHIFT, .dom = from->id,
					   .flags = GNTMAP_host_map | flags, .ref = ref };
	int status = map_op(d, &op);

	*handle = op.handle;
	return status;
}

static int unmap(struct domain *d, uint32_t handle, uint64_t gfn)
{
	struct gnttab_unmap_grant_ref op = { .host_addr = gfn << PAGE_SHIFT, .handle = handle };

	CHECK(fake_call(d->vcpus[0], gnttabop_unmap, &op, 1) == 0);
	return op.status;
}

static struct p2m_entry entry_at(struct domain *d, uint64_t gfn)
{
	return p2m_get(&d->p2m, GFN(gfn));
}

/* --- Table operations --------------------------------------------------- */

static void test_query_and_setup(void **state)
{
	uint64_t list[MAX_FRAMES + 1] = { 0 };
	struct gnttab_query_size q = { .dom = DOMID_SELF };
	struct gnttab_setup_table s = { .dom = DOMID_SELF, .nr_frames = 3 };
	struct gnttab_get_version g = { .dom = DOMID_SELF };
	struct vcpu *v = d1->vcpus[0];

	assert_int_equal(fake_call(v, gnttabop_query_size, &q, 2), -XEN_EINVAL);
	assert_int_equal(fake_call(v, gnttabop_query_size, &q, 1), 0);
	assert_int_equal(q.status, 0);
	assert_int_equal(q.nr_frames, 1);
	assert_int_equal(q.max_nr_frames, MAX_FRAMES);
	q.dom = 77;
	assert_int_equal(fake_call(v, gnttabop_query_size, &q, 1), 0);
	assert_int_equal(q.status, GNTST_bad_domain);
	q.dom = 2;
	assert_int_equal(fake_call(v, gnttabop_query_size, &q, 1), 0);
	assert_int_equal(q.status, GNTST_permission_denied);

	s.frame_list.p = list;
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 0), -XEN_EINVAL);
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 1), 0);
	assert_int_equal(s.status, 0);
	assert_true(list[2] == ~0ULL && list[3] == 0);
	mfn_to_page(virt_to_mfn(frame_va(d1, 1)))->shared_gfn = 0x1234 + 1;
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 1), 0);
	assert_int_equal(list[1], 0x1234);
	s.nr_frames = MAX_FRAMES + 1;
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 1), 0);
	assert_int_equal(s.status, GNTST_general_error);
	s.nr_frames = 1;
	s.frame_list.p = NULL;
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 1), -XEN_EFAULT);
	s.dom = 77;
	assert_int_equal(fake_call(v, gnttabop_setup_table, &s, 1), 0);
	assert_int_equal(s.status, GNTST_bad_domain);

	assert_int_equal(fake_call(v, gnttabop_get_version, &g, 1), 0);
	assert_int_equal(g.version, 1);
	g.dom = 77;
	assert_int_equal(fake_call(v, gnttabop_get_version, &g, 1), -XEN_ESRCH);
	g.dom = 2;
	assert_int_equal(fake_call(v, gnttabop_get_version, &g, 1), -XEN_EPERM);
	v->domain->privileged = true;
	assert_int_equal(fake_call(v, gnttabop_get_version, &g, 1), 0);
}

static void test_versions(void **state)
{
	static const uint32_t v2_frames[] = { 5, 6, 7 };
	uint32_t handle;
	mfn_t mfn;

	assert_int_equal(set_version(d1, 3), -XEN_EINVAL);
	assert_int_equal(set_version(d1, 0), -XEN_EINVAL);
	assert_int_equal(set_version(d1, 1), 0);
	gnttab_destroy(d3);
	assert_int_equal(gnttab_init(d3, 0, 0, 1), 0);
	assert_int_equal(set_version(d3, 2), -XEN_ENOSYS);
	grant(d1, 9, 3, RAM_GFN, 0);
	assert_int_equal(map(d3, d1, 9, MAP_GFN, 0, &handle), GNTST_no_space);

	assert_int_equal(gnttab_get_frame(d1, MAX_FRAMES, &mfn), -XEN_EINVAL);
	assert_int_equal(gnttab_get_frame(d1, UINT64_MAX, &mfn), -XEN_EINVAL);
	assert_int_equal(gnttab_get_frame(d1, 0x80000000u, &mfn), -XEN_EINVAL);
	grant(d1, 1, 2, RAM_GFN, GTF_readonly);
	grant(d1, 8, 2, RAM_GFN, 0);
	*v1(d1, 3) = (struct grant_entry_v1){ GTF_accept_transfer, 2, 9 };
	assert_int_equal(map(d2, d1, 8, MAP_GFN, 0, &handle), 0);
	assert_int_equal(set_version(d1, 2), -XEN_EBUSY);
	assert_int_equal(unmap(d2, handle, MAP_GFN), 0);
	assert_int_equal(set_version(d1, 2), 0);
	assert_int_equal(gnttab_get_frame(d1, 0x80000001u, &mfn), -XEN_EINVAL);
	assert_int_equal(v2(d1, 1)->hdr.flags, GTF_permit_access | GTF_readonly);
	assert_int_equal(v2(d1, 1)->full_page.frame, RAM_GFN);
	assert_int_equal(v2(d1, 3)->hdr.flags, 0);
	assert_int_equal(v2(d1, 8)->hdr.flags, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(v2_frames); i++) {
		v2(d1, v2_frames[i])->hdr.flags = GTF_permit_access;
		v2(d1, v2_frames[i])->full_page.frame = RAM_GFN + i;
	}
	v2(d1, 6)->hdr.flags |= GTF_sub_page;
	v2(d1, 7)->full_page.frame = 1ULL << 40;
	*v2_status(d1, 1) = 0xffff;
	assert_int_equal(set_version(d1, 1), 0);
	assert_int_equal(v1(d1, 1)->flags, GTF_permit_access | GTF_readonly);
	assert_int_equal(v1(d1, 1)->domid, 2);
	assert_int_equal(v1(d1, 5)->frame, RAM_GFN);
	assert_int_equal(v1(d1, 6)->flags, 0);
	assert_int_equal(v1(d1, 7)->flags, 0);
	assert_int_equal(set_version(d1, 2), 0);
	assert_int_equal(*v2_status(d1, 1), 0);
	frame_va(d1, MAX_FRAMES - 1);
}

static void test_swap(void **state)
{
	struct gnttab_swap_grant_ref op[50];
	uint32_t handle;

	for (unsigned int i = 0; i < ARRAY_SIZE(op); i++)
		op[i] = (struct gnttab_swap_grant_ref){ i, i + 100, 99 };
	op[49].ref_b = 512;
	op[48].ref_a = UINT32_MAX;
	grant(d1, 0, 2, RAM_GFN, 0);
	grant(d1, 120, 2, RAM_GFN + 1, 0);
	grant(d1, 30, 2, RAM_GFN + 2, 0);
	assert_int_equal(map(d2, d1, 30, MAP_GFN, 0, &handle), 0);
	fake.preempt_every = 1;
	assert_int_equal(fake_call(d1->vcpus[0], gnttabop_swap, op, 50), 0);
	assert_int_equal(op[49].status, GNTST_bad_gntref);
	assert_int_equal(op[48].status, GNTST_bad_gntref);
	assert_int_equal(op[30].status, GNTST_eagain);
	assert_int_equal(op[0].status, 0);
	assert_int_equal(v1(d1, 100)->frame, RAM_GFN);
	assert_int_equal(v1(d1, 0)->flags, 0);
	assert_int_equal(v1(d1, 20)->frame, RAM_GFN + 1);
	assert_int_equal(fake_call(d1->vcpus[0], gnttabop_swap, op, 0x80000000u), -XEN_EINVAL);
	assert_int_equal(fake_call(d1->vcpus[0], gnttabop_swap, NULL, 0), 0);
	assert_int_equal(fake_call(d1->vcpus[0], gnttabop_swap, NULL, 1), -XEN_EFAULT);
}

/* --- Map and unmap ------------------------------------------------------ */

static void test_map_errors(void **state)
{
	struct gnttab_map_grant_ref op = { .dom = 1, .ref = 9, .host_addr = MAP_GFN << PAGE_SHIFT };
	uint32_t h;

	grant(d1, 9, 2, RAM_GFN, 0);
	assert_int_equal(map_op(d2, &op), GNTST_bad_gntref);
	for (uint32_t flag = 1; flag <= 16; flag <<= 1) {
		op.flags = GNTMAP_host_map | flag;
		if (flag != GNTMAP_host_map && flag != GNTMAP_readonly)
			assert_int_equal(map_op(d2, &op), GNTST_general_error);
	}
	op.flags = GNTMAP_host_map;
	op.host_addr++;
	assert_int_equal(map_op(d2, &op), GNTST_general_error);
	op.host_addr = P2M_MAX_GFN << PAGE_SHIFT;
	assert_int_equal(map_op(d2, &op), GNTST_general_error);
	op.host_addr = MAP_GFN << PAGE_SHIFT;
	op.dom = 77;
	assert_int_equal(map_op(d2, &op), GNTST_bad_domain);
	op.dom = 1;
	op.ref = 512;
	assert_int_equal(map_op(d2, &op), GNTST_bad_gntref);
	op.ref = UINT32_MAX;
	assert_int_equal(map_op(d2, &op), GNTST_bad_gntref);
	op.ref = 10;
	assert_int_equal(map_op(d2, &op), GNTST_general_error);		/* not granted */
	assert_int_equal(map(d3, d1, 9, MAP_GFN, 0, &h), GNTST_general_error);
	grant(d1, 9, 2, RAM_GFN, GTF_readonly);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), GNTST_general_error);
	grant(d1, 9, 2, RAM_GFN, GTF_PCD);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), GNTST_general_error);
	grant(d1, 9, 2, 5, 0);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), GNTST_bad_page);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access);
	grant(d1, 9, 2, RO_GFN, 0);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), GNTST_bad_page);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, GNTMAP_readonly, &h), 0);
	assert_int_equal(map(d2, d1, 9, MAP_GFN + 1, 0, &h), GNTST_general_error);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access | GTF_reading);
	/* The place is taken by another grant. */
	grant(d1, 11, 2, RAM_GFN, 0);
	assert_int_equal(map(d2, d1, 11, MAP_GFN, 0, &h), GNTST_general_error);
	assert_int_equal(v1(d1, 11)->flags, GTF_permit_access);
	atomic_store(&d1->life, DOMAIN_DYING);
	assert_int_equal(map(d2, d1, 11, MAP_GFN + 2, 0, &h), GNTST_bad_domain);
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_map, NULL, 1), -XEN_EFAULT);
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_map, NULL, UINT32_MAX), -XEN_EINVAL);
}

static void test_map_unmap(void **state)
{
	uint32_t h[4];
	uint64_t mfn = entry_at(d1, RAM_GFN).mfn.v;

	grant(d1, 9, 2, RAM_GFN, 0);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h[0]), 0);
	assert_int_equal(entry_at(d2, MAP_GFN).mfn.v, mfn);
	assert_int_equal(entry_at(d2, MAP_GFN).type, P2M_GRANT_RW);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access | GTF_reading | GTF_writing);
	/* What the guest changes meanwhile does not matter. */
	v1(d1, 9)->frame = RAM_GFN + 1;
	assert_int_equal(map(d2, d1, 9, MAP_GFN + 1, GNTMAP_readonly, &h[1]), 0);
	assert_int_equal(entry_at(d2, MAP_GFN + 1).mfn.v, mfn);
	assert_int_equal(entry_at(d2, MAP_GFN + 1).type, P2M_GRANT_RO);
	v1(d1, 9)->domid = 3;
	assert_int_equal(map(d3, d1, 9, MAP_GFN, 0, &h[2]), GNTST_general_error);
	assert_int_equal(d1->grants->nr_active, 1);

	assert_int_equal(unmap(d2, 99999, MAP_GFN), GNTST_bad_handle);
	assert_int_equal(unmap(d2, h[1] + 1, MAP_GFN), GNTST_bad_handle);
	assert_int_equal(unmap(d2, h[0], MAP_GFN + 1), GNTST_general_error);
	assert_int_equal(unmap(d2, h[0], 0), 0);	/* no address: nothing to do */
	assert_int_equal(unmap(d2, h[0], MAP_GFN), 0);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access | GTF_reading);
	assert_int_equal(unmap(d2, h[0], MAP_GFN), GNTST_bad_handle);
	assert_int_equal(entry_at(d2, MAP_GFN).type, P2M_HOLE);
	assert_int_equal(unmap(d2, h[1], MAP_GFN + 1), 0);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access);
	assert_int_equal(d1->grants->nr_active, 0);

	/* Own grants, and a place where RAM or a page of the hypervisor's was. */
	grant(d1, 10, 1, RAM_GFN, 0);
	assert_int_equal(map(d1, d1, 10, RAM_GFN + 5, 0, &h[0]), 0);
	fake_entry(d1, MAP_GFN, virt_to_mfn(d1->shared), P2M_SHARED);
	assert_int_equal(map(d1, d1, 10, MAP_GFN, 0, &h[1]), 0);
	assert_int_equal(unmap(d1, h[0], RAM_GFN + 5), 0);

	/* The guest has put something else where the mapping was. */
	fake_entry(d1, MAP_GFN, INVALID_MFN, P2M_HOLE);
	assert_int_equal(unmap(d1, h[1], MAP_GFN), GNTST_general_error);
	assert_int_equal(d1->grants->nr_active, 1);
	fake_entry(d1, MAP_GFN, entry_at(d1, RAM_GFN).mfn, P2M_GRANT_RW);
	page_fail_after = 1;
	assert_int_equal(unmap(d1, h[1], MAP_GFN), GNTST_general_error);
	assert_int_equal(unmap(d1, h[1], MAP_GFN), 0);
}

static void test_batches(void **state)
{
	struct gnttab_map_grant_ref m[40];
	struct gnttab_unmap_grant_ref u[40];
	unsigned long flushes;

	for (unsigned int i = 0; i < 40; i++) {
		grant(d1, 20 + i, 2, RAM_GFN + i % RAM_PAGES, 0);
		m[i] = (struct gnttab_map_grant_ref){ .dom = 1, .flags = GNTMAP_host_map,
						      .ref = 20 + i,
						      .host_addr = (MAP_GFN + i) << PAGE_SHIFT };
	}
	m[7].ref = 5;
	fake.preempt_every = 1;
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_map, m, 40), 0);
	for (unsigned int i = 0; i < 40; i++) {
		assert_int_equal(m[i].status, i == 7 ? GNTST_general_error : 0);
		u[i] = (struct gnttab_unmap_grant_ref){ .host_addr = m[i].host_addr,
							.handle = i == 7 ? 1u << 30 : m[i].handle };
	}
	assert_int_equal(d1->grants->nr_active, 39);
	flushes = fake.flushes;
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_unmap, u, 20), 0);
	assert_int_equal(fake.flushes, flushes + 1);
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_unmap, u + 20, 20), 0);
	for (unsigned int i = 0; i < 40; i++)
		assert_int_equal(u[i].status, i == 7 ? GNTST_bad_handle : 0);
	assert_int_equal(d1->grants->nr_active, 0);
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_unmap, NULL, 0), 0);
}

/* As many handles as there may be, and as many uses of one grant. */
static void test_map_limits(void **state)
{
	uint32_t h, max = 2 * 128;

	grant(d1, 9, 1, RAM_GFN, 0);
	for (uint32_t i = 0; i < max - 100; i++)
		assert_int_equal(map(d1, d1, 9, MAP_GFN + i, 0, &h), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(map(d1, d1, 9, MAP_GFN + 160, GNTMAP_readonly, &h), 0);
		fake_entry(d1, MAP_GFN + 160, INVALID_MFN, P2M_HOLE);
	}
	assert_int_equal(map(d1, d1, 9, MAP_GFN + 161, 0, &h), GNTST_no_space);
	assert_int_equal(frame_table[entry_at(d1, RAM_GFN).mfn.v].refs, 2);
}

/* The granter dies first: its page stays until the last mapping is gone. */
static void test_death(void **state)
{
	struct page *pg = mfn_to_page(entry_at(d1, RAM_GFN).mfn);
	uint32_t h[3];

	grant(d1, 9, 2, RAM_GFN, 0);
	grant(d2, 9, 1, RAM_GFN, GTF_readonly);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h[0]), 0);
	assert_int_equal(map(d1, d2, 9, MAP_GFN, GNTMAP_readonly, &h[1]), 0);
	atomic_store(&d1->life, DOMAIN_DYING);
	while (!gnttab_release_step(d1))
		;
	assert_int_equal(v1(d2, 9)->flags, GTF_permit_access | GTF_readonly);
	fake_entry(d1, RAM_GFN, INVALID_MFN, P2M_HOLE);
	page_put(pg);
	assert_int_equal(d1->refs, 2);
	assert_int_equal(pg->refs, 1);
	assert_int_equal(unmap(d2, h[0], MAP_GFN), 0);
	assert_int_equal(pg->refs, 0);
	assert_int_equal(d1->refs, 1);
}

static void test_allocations_fail(void **state)
{
	uint32_t h;
	unsigned int n;

	grant(d1, 9, 2, RAM_GFN, 0);
	for (n = 1; n < 10; n++) {
		unsigned int used = fake.nr_used;
		int status;

		page_fail_after = n;
		status = map(d2, d1, 9, MAP_GFN, 0, &h);
		page_fail_after = 0;
		if (!status)
			break;
		assert_int_equal(status, n == 1 ? GNTST_no_space : GNTST_general_error);
		assert_int_equal(v1(d1, 9)->flags, GTF_permit_access);
		assert_int_equal(d1->grants->nr_active, 0);
		assert_in_range(fake.nr_used, used, used + 1);
	}
	assert_int_equal(n, 3);	/* the page of handles, the p2m, nothing */
	gnttab_release_step(d3);
	gnttab_destroy(d3);
	for (n = 1; n <= 5; n++) {
		page_fail_after = n;
		assert_int_equal(gnttab_init(d3, 8, 8, 2), -XEN_ENOMEM);
		gnttab_destroy(d3);
	}
	assert_int_equal(gnttab_init(d3, 9, 8, 2), 0);
	for (n = 2; n > 0; n--) {	/* the second round finds one of the two there */
		struct gnttab_setup_table s = { .dom = DOMID_SELF, .nr_frames = 2 };

		page_fail_after = n;
		assert_int_equal(fake_call(d3->vcpus[0], gnttabop_setup_table, &s, 1), 0);
		assert_int_equal(s.status, GNTST_general_error);
	}
	page_fail_after = 0;
	assert_int_equal(set_version(d3, 2), 0);
	page_fail_after = 1;
	{
		mfn_t mfn;

		assert_int_equal(gnttab_get_frame(d3, 8, &mfn), -XEN_ENOMEM);
		assert_int_equal(gnttab_get_frame(d3, 0x80000001u, &mfn), 0);
	}
}

/* --- Copy --------------------------------------------------------------- */

static int copy_op(struct domain *d, struct gnttab_copy *op)
{
	CHECK(fake_call(d->vcpus[0], gnttabop_copy, op, 1) == 0);
	return op->status;
}

static void test_copy(void **state)
{
	struct gnttab_copy op = { .source = { .u.ref = 9, .domid = 1, .offset = 96 },
				  .dest = { .u.gmfn = RAM_GFN, .domid = DOMID_SELF,
					    .offset = 4000 },
				  .len = 96, .flags = GNTCOPY_source_gref };
	uint8_t *from = fake_va(d1, RAM_GFN + 1), *to = fake_va(d2, RAM_GFN);

	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		from[i] = (uint8_t)(i * 7);
	grant(d1, 9, 2, RAM_GFN + 1, GTF_readonly);
	assert_int_equal(copy_op(d2, &op), 0);
	assert_memory_equal(to + 4000, from + 96, 96);
	assert_int_equal(to[3999], to[0]);
	assert_int_equal(v1(d1, 9)->flags, GTF_permit_access | GTF_readonly);
	op.len = 97;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_copy_arg);
	op.dest.offset = 0;
	op.source.offset = 65535;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_copy_arg);
	op.source.offset = 4096;
	op.len = 0;
	assert_int_equal(copy_op(d2, &op), 0);
	op.source.domid = 77;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_domain);
	op.source.domid = 1;
	op.source.u.ref = 512;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_gntref);
	op.flags = 0;
	op.source.u.gmfn = RAM_GFN;
	assert_int_equal(copy_op(d2, &op), GNTST_permission_denied);
	op.source.domid = 2;
	assert_int_equal(copy_op(d2, &op), GNTST_permission_denied);
	op.source.domid = DOMID_SELF;
	op.source.offset = 0;
	assert_int_equal(copy_op(d2, &op), 0);
	op.source.u.gmfn = 5;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_page);
	op.source.u.gmfn = ~0ULL;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_page);
	op.source.u.gmfn = RO_GFN;
	op.dest.u.gmfn = RO_GFN;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_page);

	/* Into a grant: not if it is read-only. One page to itself, overlapping. */
	op.flags = GNTCOPY_dest_gref;
	op.dest.u.ref = 9;
	op.dest.domid = 1;
	assert_int_equal(copy_op(d2, &op), GNTST_general_error);
	grant(d2, 3, 2, RAM_GFN, 0);
	memcpy(to, from, PAGE_SIZE);
	op = (struct gnttab_copy){ .source = { .u.ref = 3, .domid = DOMID_SELF },
				   .dest = { .u.ref = 3, .domid = 2, .offset = 1 }, .len = 4095,
				   .flags = GNTCOPY_dest_gref | GNTCOPY_source_gref };
	assert_int_equal(copy_op(d2, &op), 0);
	assert_memory_equal(to + 1, from, 4095);
	atomic_store(&d1->life, DOMAIN_DYING);
	op.source.domid = 1;
	assert_int_equal(copy_op(d2, &op), GNTST_bad_domain);
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_copy, NULL, 1), -XEN_EFAULT);
}

static void test_copy_v2(void **state)
{
	struct gnttab_copy op[30];
	union grant_entry_v2 *e;
	uint32_t h;

	assert_int_equal(set_version(d1, 2), 0);
	e = v2(d1, 9);
	e->hdr.domid = 2;
	e->sub_page.page_off = 100;
	e->sub_page.length = 50;
	e->sub_page.frame = RAM_GFN + 1;
	e->hdr.flags = GTF_permit_access | GTF_sub_page;
	for (unsigned int i = 0; i < ARRAY_SIZE(op); i++)
		op[i] = (struct gnttab_copy){ .source = { .u.ref = 9, .domid = 1, .offset = 100 },
					      .dest = { .u.gmfn = RAM_GFN, .domid = DOMID_SELF },
					      .len = 50, .flags = GNTCOPY_source_gref };
	op[1].source.offset = 99;
	op[2].source.offset = 101;
	op[29].len = 51;
	fake.preempt_every = 1;
	assert_int_equal(fake_call(d2->vcpus[0], gnttabop_copy, op, 30), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(op); i++)
		assert_int_equal(op[i].status,
				 i == 1 || i == 2 || i == 29 ? GNTST_general_error : 0);
	assert_int_equal(*v2_status(d1, 9), 0);
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), GNTST_general_error);
	assert_int_equal(*v2_status(d1, 9), 0);
	/* Transitive grants are refused, as on a host configured without them. */
	e->hdr.flags = GTF_transitive;
	assert_int_equal(copy_op(d2, &op[0]), GNTST_general_error);
	e->hdr.flags = GTF_permit_access;
	assert_int_equal(map(d2, d1, 9, MAP_GFN, 0, &h), 0);
	assert_int_equal(*v2_status(d1, 9), GTF_reading | GTF_writing);
	/* A refused second use leaves the bits of the first. */
	e->hdr.flags = 0;
	assert_int_equal(copy_op(d2, &op[0]), GNTST_general_error);
	assert_int_equal(*v2_status(d1, 9), GTF_reading | GTF_writing);
	assert_int_equal(unmap(d2, h, MAP_GFN), 0);
	assert_int_equal(*v2_status(d1, 9), 0);
}

/* --- A guest that revokes while others copy ----------------------------- */

#define RACE_COPIES 100000u

static atomic_bool race_over;

static void *race_copier(void *data)
{
	struct gnttab_copy op = { .source = { .u.ref = 9, .domid = 1 },
				  .dest = { .u.gmfn = RAM_GFN, .domid = DOMID_SELF },
				  .len = 64, .flags = GNTCOPY_source_gref };
	uint8_t *to = fake_va(d2, RAM_GFN);

	fake_this_pcpu = &fake_pcpus[1];
	for (unsigned int i = 0; i < RACE_COPIES; i++) {
		if (copy_op(d2, &op))
			CHECK(op.status == GNTST_general_error);
		else
			CHECK(to[0] == to[63] && to[0] != 0xee);
	}
	atomic_store(&race_over, true);
	return NULL;
}

/*
 * Grants a page, takes the grant back when nobody uses it, and only then
 * writes secrets to the page: the copier must never see one.
 */
static void test_revoke_race(void **state)
{
	struct grant_entry_v1 *e = v1(d1, 9);
	uint8_t *page = fake_va(d1, RAM_GFN);
	pthread_t thread;
	uint16_t flags;

	atomic_store(&race_over, false);
	e->domid = 2;
	e->frame = RAM_GFN;
	assert_int_equal(pthread_create(&thread, NULL, race_copier, NULL), 0);
	while (!atomic_load(&race_over)) {
		memset(page, 1, 64);
		__atomic_store_n(&e->flags, GTF_permit_access, __ATOMIC_SEQ_CST);
		sched_yield();
		do {
			flags = GTF_permit_access;
		} while (!__atomic_compare_exchange_n(&e->flags, &flags, 0, false,
						      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
		memset(page, 0xee, 64);
		sched_yield();
	}
	pthread_join(thread, NULL);
	assert_int_equal(d1->grants->nr_active, 0);
}

/* --- Against a model ---------------------------------------------------- */

#define REFS 12u
#define MAPS 48u

static struct model_grant {
	bool valid, readonly;
	unsigned int to, page;
	unsigned int readers, writers;
	unsigned int fixed;		/* page while in use */
} model[FAKE_DOMAINS][REFS];

static struct model_map {
	bool used, readonly;
	unsigned int dom, owner, ref, gfn;
	uint32_t handle;
} maps[MAPS];

static unsigned int rnd(unsigned int n)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (unsigned int)(x >> 11) % n;
}

/* Odd domains use version 2. */
static bool is_v2(unsigned int dom)
{
	return dom & 1;
}

static uint16_t use_bits(unsigned int dom, unsigned int ref)
{
	return is_v2(dom) ? *v2_status(&fake.dom[dom], ref) :
			    v1(&fake.dom[dom], ref)->flags & (GTF_reading | GTF_writing);
}

static void model_grant(unsigned int dom)
{
	struct domain *d = &fake.dom[dom];
	unsigned int ref = rnd(REFS);
	struct model_grant *g = &model[dom][ref];

	if (g->readers || g->writers)
		return;
	*g = (struct model_grant){ .valid = rnd(4), .readonly = rnd(2), .to = rnd(FAKE_DOMAINS),
				   .page = rnd(RAM_PAGES) };
	if (is_v2(dom)) {
		v2(d, ref)->hdr.domid = fake.dom[g->to].id;
		v2(d, ref)->full_page.frame = RAM_GFN + g->page;
		v2(d, ref)->hdr.flags = g->valid ? GTF_permit_access : 0;
		v2(d, ref)->hdr.flags |= g->readonly ? GTF_readonly : 0;
	} else {
		grant(d, ref, fake.dom[g->to].id, RAM_GFN + g->page,
		      g->readonly ? GTF_readonly : 0);
		if (!g->valid)
			v1(d, ref)->flags = 0;
	}
}

static bool model_may(unsigned int dom, unsigned int owner, unsigned int ref, bool readonly)
{
	struct model_grant *g = &model[owner][ref];

	return g->valid && g->to == dom && (readonly || !g->readonly);
}

static void model_map(void)
{
	unsigned int slot = rnd(MAPS), dom = rnd(FAKE_DOMAINS), owner = rnd(FAKE_DOMAINS);
	struct model_map *m = &maps[slot];
	struct model_grant *g;
	int status;

	if (m->used)
		return;
	*m = (struct model_map){ .readonly = rnd(2), .dom = dom, .owner = owner,
				 .ref = rnd(REFS), .gfn = MAP_GFN + slot };
	g = &model[owner][m->ref];
	status = map(&fake.dom[dom], &fake.dom[owner], m->ref, m->gfn,
		     m->readonly ? GNTMAP_readonly : 0, &m->handle);
	CHECK((status == 0) == model_may(dom, owner, m->ref, m->readonly));
	if (status)
		return;
	m->used = true;
	g->fixed = g->page;
	g->readers += m->readonly;
	g->writers += !m->readonly;
	CHECK(entry_at(&fake.dom[dom], m->gfn).mfn.v ==
	      entry_at(&fake.dom[owner], RAM_GFN + g->fixed).mfn.v);
	CHECK(entry_at(&fake.dom[dom], m->gfn).type == (m->readonly ? P2M_GRANT_RO : P2M_GRANT_RW));
}

static void model_unmap(void)
{
	struct model_map *m = &maps[rnd(MAPS)];
	struct model_grant *g = &model[m->owner][m->ref];
	unsigned int other = rnd(FAKE_DOMAINS);

	if (!m->used)
		return;
	if (other != m->dom) {
		int status = unmap(&fake.dom[other], m->handle, m->gfn);

		/* Another domain's handle space: never ours, for the place is not. */
		CHECK(status == GNTST_bad_handle || status == GNTST_general_error);
		return;
	}
	CHECK(unmap(&fake.dom[m->dom], m->handle, m->gfn) == 0);
	CHECK(entry_at(&fake.dom[m->dom], m->gfn).type == P2M_HOLE);
	m->used = false;
	g->readers -= m->readonly;
	g->writers -= !m->readonly;
}

static void model_copy(void)
{
	unsigned int dom = rnd(FAKE_DOMAINS), from = rnd(FAKE_DOMAINS), to = rnd(FAKE_DOMAINS);
	unsigned int a = rnd(REFS), b = rnd(REFS), len = rnd(64) + 1;
	struct gnttab_copy op = {
		.source = { .u.ref = a, .domid = fake.dom[from].id, .offset = (uint16_t)rnd(4096) },
		.dest = { .u.ref = b, .domid = fake.dom[to].id, .offset = (uint16_t)rnd(4096) },
		.len = (uint16_t)len, .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref };
	uint8_t *src = (uint8_t *)fake_va(&fake.dom[from], RAM_GFN + model[from][a].page);
	uint8_t *dst = (uint8_t *)fake_va(&fake.dom[to], RAM_GFN + model[to][b].page);
	bool fits = op.source.offset + len <= 4096 && op.dest.offset + len <= 4096;
	bool ok = fits && model_may(dom, from, a, true) && model_may(dom, to, b, false);
	uint8_t want[64], before[64];

	src += op.source.offset;
	dst += op.dest.offset;
	if (fits) {
		memcpy(want, src, len);
		memcpy(before, dst, len);
	}
	CHECK((copy_op(&fake.dom[dom], &op) == 0) == ok);
	if (fits)
		CHECK(!memcmp(dst, ok ? want : before, len));
}

static void model_check(void)
{
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		unsigned int active = 0, extra[RAM_PAGES] = { 0 };

		for (unsigned int ref = 0; ref < REFS; ref++) {
			struct model_grant *g = &model[i][ref];
			bool used = g->readers || g->writers;

			active += used;
			if (used)
				extra[g->fixed]++;
			CHECK(use_bits(i, ref) == ((used ? GTF_reading : 0) |
						   (g->writers ? GTF_writing : 0)));
		}
		CHECK(fake.dom[i].grants->nr_active == active);
		for (unsigned int p = 0; p < RAM_PAGES; p++)
			CHECK(mfn_to_page(entry_at(&fake.dom[i], RAM_GFN + p).mfn)->refs ==
			      1 + extra[p]);
	}
}

static void test_model(void **state)
{
	memset(model, 0, sizeof(model));
	memset(maps, 0, sizeof(maps));
	assert_int_equal(set_version(d2, 2), 0);
	for (unsigned int n = 0; n < 200000; n++) {
		switch (rnd(8)) {
		case 0:
			model_grant(rnd(FAKE_DOMAINS));
			break;
		case 1:
		case 2:
			model_map();
			break;
		case 3:
		case 4:
		case 5:
			model_unmap();
			break;
		default:
			model_copy();
		}
		if (n % 16 == 0)
			model_check();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_query_and_setup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_unmap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_death, setup, teardown),
		cmocka_unit_test_setup_teardown(test_allocations_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy_v2, setup, teardown),
		cmocka_unit_test_setup_teardown(test_revoke_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
