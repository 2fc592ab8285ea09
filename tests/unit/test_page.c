/* SPDX-License-Identifier: MIT */
/*
 * The page allocator: blocks, scrubbing, quotas, references, small objects;
 * random operations against an array of owners; several CPUs at once.
 */
#include "unit.h"

#include <pthread.h>

#include "fake_domains.h"
#include "hospes/lib.h"
#include "hospes/page.h"

#define PAGES 4096u

static uint64_t rng_state;

static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng_state >> 33) % below;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(PAGES, 4);
	page_fail_after = 0;
	rng_state = 42;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_machine_fini();
	return 0;
}

static bool is_zero(const void *va)
{
	const uint64_t *w = va;

	for (unsigned int i = 0; i < PAGE_SIZE / 8; i++) {
		if (w[i])
			return false;
	}
	return true;
}

/* What must hold at any time. @used: frames not free, or NULL. */
static void check_heap(const bool *used)
{
	uint64_t free_frames = 0;

	for (uint64_t nr = 0; nr < frame_table_size;) {
		const struct page *pg = &frame_table[nr];
		uint64_t size = 1ULL << pg->order, buddy = nr ^ size;

		if (!(pg->flags & PAGE_FREE)) {
			if (used && (pg->flags & PAGE_MANAGED))
				assert_true(used[nr]);
			nr++;
			continue;
		}
		assert_int_equal(nr & (size - 1), 0);
		assert_true(pg->clean <= size);
		if (pg->order < PAGE_MAX_ORDER && buddy + size <= frame_table_size)
			assert_false((frame_table[buddy].flags & PAGE_FREE) &&
				     frame_table[buddy].order == pg->order);
		for (uint64_t i = nr; i < nr + size; i++) {
			assert_true(frame_table[i].flags & PAGE_MANAGED);
			assert_true(i == nr || !(frame_table[i].flags & PAGE_FREE));
			assert_null(page_owner(&frame_table[i]));
			if (used)
				assert_false(used[i]);
			if (i < nr + pg->clean)
				assert_false(frame_table[i].flags & PAGE_DIRTY);
			if (!(frame_table[i].flags & PAGE_DIRTY))
				assert_true(is_zero(mfn_to_virt(MFN(i))));
		}
		free_frames += size;
		nr += size;
	}
	assert_int_equal(free_frames, page_free_count());
}

/* --- Blocks ------------------------------------------------------------- */

static void test_start(void **state)
{
	(void)state;
	assert_int_equal(page_total_count(), PAGES - 1);
	assert_int_equal(page_free_count(), PAGES - 1);
	assert_null(mfn_to_page(MFN(0)));
	assert_null(mfn_to_page(MFN(PAGES)));
	assert_null(mfn_to_page(INVALID_MFN));
	assert_ptr_equal(mfn_to_page(MFN(5)), &frame_table[5]);
	assert_int_equal(page_to_mfn(&frame_table[5]).v, 5);
	check_heap(NULL);
	/* Ranges beyond the table are cut. */
	page_add_range(MFN(PAGES + 10), 5);
	page_add_range(MFN(PAGES + 10), UINT64_MAX);
	assert_int_equal(page_total_count(), PAGES - 1);
}

static void test_scrubbed(void **state)
{
	uint8_t *a = hv_alloc_pages(3), *b;

	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		assert_true(is_zero(a + i * PAGE_SIZE));
	memset(a, 0x77, 8 * PAGE_SIZE);
	hv_free_pages(a, 3);
	check_heap(NULL);
	/* Everything there is: also those eight frames. */
	while ((b = hv_alloc_pages(0)))
		assert_true(is_zero(b));
	assert_int_equal(page_free_count(), 0);
	assert_false(page_scrub_step());
}

static void test_orders(void **state)
{
	void *va;

	(void)state;
	assert_null(hv_alloc_pages(PAGE_MAX_ORDER + 1));
	for (unsigned int order = 0; order < 12; order++) {
		va = hv_alloc_pages(order);
		assert_non_null(va);
		assert_int_equal(virt_to_mfn(va).v & ((1u << order) - 1), 0);
		assert_int_equal(page_free_count(), PAGES - 1 - (1u << order));
		hv_free_pages(va, order);
		assert_int_equal(page_free_count(), PAGES - 1);
	}
	assert_null(hv_alloc_pages(12));	/* frame 0 is missing */
	check_heap(NULL);
}

static void test_scrub_ahead(void **state)
{
	unsigned int steps = 0;
	uint8_t *va;

	(void)state;
	while (page_scrub_step()) {
		if (steps++ % 64 == 0)
			check_heap(NULL);
	}
	check_heap(NULL);
	assert_in_range(steps, PAGES / 16, PAGES / 16 + 4);
	for (uint64_t i = 1; i < PAGES; i++)
		assert_false(frame_table[i].flags & PAGE_DIRTY);
	/* One dirty frame among clean ones is found again, and clean ones are preferred. */
	va = hv_alloc_pages(0);
	hv_free_pages(va, 0);
	hv_free_pages(hv_alloc_pages(4), 4);
	assert_true(page_scrub_step());
	while (page_scrub_step())
		;
	check_heap(NULL);
	va = hv_alloc_pages(9);
	memset(va, 1, PAGE_SIZE << 9);
	hv_free_pages(va, 9);
	for (unsigned int i = 0; i < 256; i++)
		assert_non_null(hv_alloc_pages(0));
	check_heap(NULL);
}

/* Overhead, and big blocks, from small to large machines. */
static void test_sizes(void **state)
{
	static const uint64_t mib[] = { 128, 129, 1024, 3000, 16384 };

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(mib); i++) {
		uint64_t pages = mib[i] << 8, bytes = mib[i] << 20, got = 0;
		void *va;

		test_machine_init(pages, 1);
		assert_true(page_table_bytes(bytes) * 100 < bytes);
		assert_int_equal(page_free_count(), pages - 1);
		make_all_clean();
		/* All of it comes in blocks of 1 GiB, then 2 MiB, then 4 KiB ... */
		for (; hv_alloc_pages(PAGE_ORDER_1G); got++)
			;
		assert_int_equal(got, (pages >> 18) ? (pages >> 18) - 1 : 0);
		for (got = 0; (va = hv_alloc_pages(PAGE_ORDER_2M)); got++)
			assert_int_equal(virt_to_mfn(va).v % 512, 0);
		assert_int_equal(got, (pages >> 9) % 512 + (pages >> 18 ? 512 : 0) - 1);
		for (got = 0; hv_alloc_pages(PAGE_ORDER_4K); got++)
			;
		assert_int_equal(got, 511 + pages % 512);
		assert_int_equal(page_free_count(), 0);
		/* ... and merges back into them. */
		for (uint64_t mfn = pages; mfn-- > 1;)
			hv_free_pages(mfn_to_virt(MFN(mfn)), frame_table[mfn].order = 0);
		assert_int_equal(page_free_count(), pages - 1);
		if (pages >> 18 > 1)
			assert_int_equal(frame_table[1 << 18].order, PAGE_ORDER_1G);
		test_machine_fini();
	}
}

/* --- Domains' frames ---------------------------------------------------- */

static void test_quota(void **state)
{
	struct domain *d = make_domain(1, 10, 0);
	mfn_t mfn, big, two;

	(void)state;
	assert_int_equal(page_alloc_domain(d, 3, &big), 0);
	assert_int_equal(page_alloc_domain(d, 2, &mfn), -XEN_E2BIG);
	assert_int_equal(atomic_load(&d->tot_pages), 8);
	assert_int_equal(page_alloc_domain(d, 1, &two), 0);
	assert_int_equal(page_alloc_domain(d, 0, &mfn), -XEN_E2BIG);
	for (unsigned int i = 0; i < 8; i++) {
		assert_ptr_equal(page_owner(mfn_to_page(MFN(big.v + i))), d);
		page_put(mfn_to_page(MFN(big.v + i)));
	}
	assert_int_equal(atomic_load(&d->tot_pages), 2);
	d->max_pages = UINT64_MAX;
	assert_int_equal(page_alloc_domain(d, 12, &mfn), -XEN_ENOMEM);
	assert_int_equal(atomic_load(&d->tot_pages), 2);
	page_put(mfn_to_page(two));
	page_put(mfn_to_page(MFN(two.v + 1)));
	end_domain(d);
}

static void test_references(void **state)
{
	struct domain *d = make_domain(1, 10, 0);
	uint64_t before = page_free_count();
	struct page *pg;
	mfn_t mfn;

	(void)state;
	assert_int_equal(page_alloc_domain(d, 0, &mfn), 0);
	pg = mfn_to_page(mfn);
	assert_true(page_get(pg));
	page_put(pg);
	assert_ptr_equal(page_owner(pg), d);
	atomic_store(&pg->refs, 0x7fffffff);
	assert_false(page_get(pg));
	assert_int_equal(atomic_load(&pg->refs), 0x7fffffff);
	atomic_store(&pg->refs, 1);
	page_put(pg);
	assert_null(page_owner(pg));
	assert_int_equal(page_free_count(), before);
	assert_true(TEST_PANICS(page_put(pg)));
	end_domain(d);
	assert_int_equal(page_free_count(), PAGES - 1);
}

/* --- Small allocations -------------------------------------------------- */

static void test_small(void **state)
{
	enum { N = 600 };
	static struct { uint8_t *p; uint32_t size; uint8_t fill; } obj[N];
	uint64_t before = page_free_count();

	(void)state;
	memset(obj, 0, sizeof(obj));
	for (unsigned int step = 0; step < 20000; step++) {
		unsigned int i = rng(N);

		if (obj[i].p) {
			for (uint32_t b = 0; b < obj[i].size; b += 13)
				assert_int_equal(obj[i].p[b], obj[i].fill);
			hv_free(obj[i].p);
			obj[i].p = NULL;
			continue;
		}
		obj[i].size = 1 + (rng(40) ? rng(3000) : rng(40000));
		obj[i].p = hv_alloc(obj[i].size);
		assert_non_null(obj[i].p);
		assert_int_equal((uintptr_t)obj[i].p % 32, 0);
		for (uint32_t b = 0; b < obj[i].size; b++)
			assert_int_equal(obj[i].p[b], 0);
		obj[i].fill = (uint8_t)(1 + rng(255));
		memset(obj[i].p, obj[i].fill, obj[i].size);
	}
	for (unsigned int i = 0; i < N; i++)
		hv_free(obj[i].p);
	assert_int_equal(page_free_count(), before);
	check_heap(NULL);
}

static void test_small_limits(void **state)
{
	void *p;

	(void)state;
	assert_null(hv_alloc(0));
	assert_null(hv_alloc((1 << 20) + 1));
	assert_null(hv_alloc(SIZE_MAX));
	p = hv_alloc(1 << 20);
	assert_non_null(p);
	assert_int_equal(page_free_count(), PAGES - 1 - 256);
	hv_free(p);
	hv_free(NULL);
	p = hv_alloc(4096);
	assert_int_equal(page_free_count(), PAGES - 2);
	hv_free(p);
	p = hv_alloc(40);
	assert_true(TEST_PANICS(hv_free((uint8_t *)p + 1)));
	hv_free(p);
	assert_int_equal(page_free_count(), PAGES - 1);
}

static void test_failures(void **state)
{
	struct domain *d = make_domain(1, 100, 0);
	uint64_t before = page_free_count();
	void *p;
	mfn_t mfn;

	(void)state;
	page_fail_after = 1;
	assert_null(hv_alloc_pages(0));
	assert_int_equal(page_fail_after, 0);
	page_fail_after = 1;
	assert_int_equal(page_alloc_domain(d, 0, &mfn), -XEN_ENOMEM);
	page_fail_after = 1;
	assert_null(hv_alloc(100));
	/* The object, then its page, once those of this size are used up. */
	for (unsigned int n = 0;; n++) {
		assert_true(n < 3);
		page_fail_after = 2;
		if (!hv_alloc(2048))
			break;
	}
	page_fail_after = 0;
	assert_int_equal(atomic_load(&d->tot_pages), 0);
	assert_in_range(page_free_count(), before - 1, before);
	/* Memory is really out. */
	while (hv_alloc_pages(0))
		;
	while (hv_alloc(100))
		;
	assert_null(hv_alloc(10000));
	assert_int_equal(page_alloc_domain(d, 0, &mfn), -XEN_ENOMEM);
	assert_int_equal(atomic_load(&d->tot_pages), 0);
	p = mfn_to_virt(MFN(PAGES / 2));
	hv_free_pages(p, 0);
	assert_ptr_equal(hv_alloc_pages(0), p);
	assert_true(TEST_PANICS(hv_free_pages(p, 1)));
	end_domain(d);
}

/* --- Against a model ---------------------------------------------------- */

/* Per frame: 0 free, 1 the hypervisor's, 2.. a domain's. */
static struct {
	uint8_t owner[PAGES];
	uint8_t order[PAGES];	/* of the hypervisor's blocks */
	uint32_t refs[PAGES];
} model;

static void model_set(uint64_t mfn, unsigned int order, uint8_t owner)
{
	for (uint64_t i = mfn; i < mfn + (1u << order); i++) {
		assert_int_equal(model.owner[i], 0);	/* no frame in two places */
		assert_true(is_zero(mfn_to_virt(MFN(i))));
		memset(mfn_to_virt(MFN(i)), 0xc3, 64);
		model.owner[i] = owner;
		model.refs[i] = 1;
		model.order[i] = 0xff;
	}
	model.order[mfn] = (uint8_t)order;
}

static bool model_is_free(uint64_t mfn, unsigned int order)
{
	for (uint64_t i = mfn; i < mfn + (1u << order); i++) {
		if (!i || model.owner[i])
			return false;
	}
	return true;
}

static void model_alloc(struct domain **doms)
{
	unsigned int order = rng(3) ? 0 : rng(9), who = rng(3);
	unsigned long count = 1ul << order;
	void *va;
	mfn_t mfn;
	int rc;

	if (!who) {
		va = hv_alloc_pages(order);
		if (va)
			model_set(virt_to_mfn(va).v, order, 1);
		else
			assert_true(page_free_count() < PAGES / 2);
		return;
	}
	who--;
	if (rng(3) == 0) {
		mfn = MFN(rng(PAGES) >> order << order);
		rc = page_alloc_domain_at(doms[who], order, mfn);
		/* Whole free blocks at an even number are what there is to take from. */
		if (rc == -XEN_ENOMEM)
			assert_false(model_is_free(mfn.v, order));
	} else {
		rc = page_alloc_domain(doms[who], order, &mfn);
	}
	if (!rc)
		model_set(mfn.v, order, (uint8_t)(2 + who));
	else if (rc == -XEN_E2BIG)
		assert_true(atomic_load(&doms[who]->tot_pages) + count > doms[who]->max_pages);
	else
		assert_int_equal(rc, -XEN_ENOMEM);
}

static void model_release(void)
{
	uint32_t mfn = 1 + rng(PAGES - 1);
	struct page *pg = &frame_table[mfn];

	if (model.owner[mfn] >= 2) {
		if (rng(4) == 0) {
			assert_true(page_get(pg));
			model.refs[mfn]++;
			return;
		}
		page_put(pg);
		if (--model.refs[mfn] == 0)
			model.owner[mfn] = 0;
	} else if (model.owner[mfn] == 1 && model.order[mfn] != 0xff) {
		unsigned int order = model.order[mfn];

		hv_free_pages(mfn_to_virt(MFN(mfn)), order);
		for (uint32_t i = mfn; i < mfn + (1u << order); i++)
			model.owner[i] = 0;
		model.order[mfn] = 0xff;
	}
}

/* Runs of free frames: all of them, and nothing between them. */
static void model_check_runs(const bool *used)
{
	uint64_t at = 1, count;

	for (mfn_t run = page_free_run(MFN(0), &count); count;
	     run = page_free_run(MFN(run.v + count), &count)) {
		for (; at < run.v; at++)
			assert_true(used[at]);
		for (; at < run.v + count; at++)
			assert_false(used[at]);
	}
	for (; at < PAGES; at++)
		assert_true(used[at]);
}

static void model_check(struct domain **doms)
{
	bool used[PAGES] = { false };
	unsigned long owned[2] = { 0, 0 };

	for (uint32_t i = 1; i < PAGES; i++) {
		used[i] = model.owner[i];
		if (model.owner[i] < 2)
			continue;
		owned[model.owner[i] - 2]++;
		assert_ptr_equal(page_owner(&frame_table[i]), doms[model.owner[i] - 2]);
		assert_int_equal(atomic_load(&frame_table[i].refs), model.refs[i]);
	}
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(atomic_load(&doms[i]->tot_pages), owned[i]);
	check_heap(used);
	model_check_runs(used);
}

static void test_model(void **state)
{
	struct domain *doms[2] = { make_domain(1, 1500, 0), make_domain(2, 3000, 0) };

	(void)state;
	memset(&model, 0, sizeof(model));
	memset(model.order, 0xff, sizeof(model.order));
	/* What the domains themselves are made of stays the hypervisor's. */
	for (uint32_t i = 1; i < PAGES; i++)
		model.owner[i] = 1;
	for (uint32_t i = 1; i < PAGES; i++) {
		if (frame_table[i].flags & PAGE_FREE)
			memset(&model.owner[i], 0, 1u << frame_table[i].order);
	}
	for (unsigned int step = 0; step < 60000; step++) {
		bool growing = step / 6000 % 2 == 0;

		if (rng(20) == 0)
			page_scrub_step();
		else if (rng(10) < (growing ? 5u : 2u))
			model_alloc(doms);
		else
			model_release();
		if (step % 2000 == 0)
			model_check(doms);
	}
	model_check(doms);
	for (uint32_t i = 1; i < PAGES; i++) {
		for (; model.owner[i] >= 2 && model.refs[i]; model.refs[i]--)
			page_put(&frame_table[i]);
	}
	for (unsigned int i = 0; i < 2; i++)
		end_domain(doms[i]);
}

/* --- Several CPUs ------------------------------------------------------- */

static struct domain *shared_domain;
static struct page *shared_page;

static void *stress(void *arg)
{
	unsigned int nr = (unsigned int)(uintptr_t)arg;
	uint64_t seed = nr * 7919 + 1;
	struct { void *va; uint8_t order; bool dom; } held[24] = { { 0 } };

	test_set_cpu(nr);
	for (unsigned int step = 0; step < 8000; step++) {
		unsigned int i, order;
		uint64_t *va;
		mfn_t mfn;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		i = (unsigned int)(seed >> 33) % ARRAY_SIZE(held);
		order = (unsigned int)(seed >> 50) % 4;
		if (page_get(shared_page))
			page_put(shared_page);
		if (seed >> 60 == 0)
			page_scrub_step();
		va = held[i].va;
		if (va) {
			/* Nobody else wrote into our frames. */
			assert_int_equal(va[1], nr);
			if (held[i].dom)
				page_put(mfn_to_page(virt_to_mfn(va)));
			else if (held[i].order == 0xff)
				hv_free(va);
			else
				hv_free_pages(va, held[i].order);
			held[i].va = NULL;
			continue;
		}
		held[i].dom = order == 3;
		held[i].order = order == 2 ? 0xff : (uint8_t)order;
		if (order == 3)
			va = page_alloc_domain(shared_domain, 0, &mfn) ? NULL : mfn_to_virt(mfn);
		else
			va = order == 2 ? hv_alloc(100) : hv_alloc_pages(order);
		if (!va)
			continue;
		assert_int_equal(va[0], 0);
		assert_int_equal(va[1], 0);
		va[1] = nr;
		held[i].va = va;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(held); i++) {
		if (!held[i].va)
			continue;
		if (held[i].dom)
			page_put(mfn_to_page(virt_to_mfn(held[i].va)));
		else if (held[i].order == 0xff)
			hv_free(held[i].va);
		else
			hv_free_pages(held[i].va, held[i].order);
	}
	return NULL;
}

static void test_stress(void **state)
{
	pthread_t thread[4];
	mfn_t mfn;

	(void)state;
	shared_domain = make_domain(2, 50, 0);
	assert_int_equal(page_alloc_domain(shared_domain, 0, &mfn), 0);
	shared_page = mfn_to_page(mfn);
	test_set_threaded(true);
	for (unsigned int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, stress, (void *)(uintptr_t)i);
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	test_set_threaded(false);
	test_set_cpu(0);
	assert_int_equal(atomic_load(&shared_page->refs), 1);
	page_put(shared_page);
	assert_int_equal(atomic_load(&shared_domain->tot_pages), 0);
	end_domain(shared_domain);
	assert_int_equal(page_free_count(), PAGES - 1);
	check_heap(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scrubbed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scrub_ahead, setup, teardown),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test_setup_teardown(test_quota, setup, teardown),
		cmocka_unit_test_setup_teardown(test_references, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stress, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
