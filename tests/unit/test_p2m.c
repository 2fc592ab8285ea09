/* SPDX-License-Identifier: MIT */
/*
 * The nested page tables: mapping, splitting, merging, flushing, populating
 * and teardown; random operations against a flat array; every allocation
 * failing in turn with nothing changed.
 */
#include "unit.h"

#include <pthread.h>

#include "fake_domains.h"
#include "hospes/lib.h"
#include "hospes/p2m.h"

#define PAGES 8192u
#define SPAN 2048u		/* frames under the model: four big mappings */
#define BASE 0x40000u		/* where they lie */
#define MMIO_MFN 0x4000000u	/* far above RAM, aligned to 1 GiB */

static struct domain *dom;
static uint64_t rng_state;
static uint64_t free_at_start;	/* with the empty domain there */

static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng_state >> 33) % below;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(PAGES, 3);
	page_fail_after = 0;
	rng_state = 7;
	dom = make_domain(1, PAGES, 1000);
	free_at_start = page_free_count();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	end_domain(dom);
	assert_int_equal(page_free_count(), PAGES - 1);
	test_machine_fini();
	return 0;
}

/* The test took memory that it does not give back. */
static int teardown_used(void **state)
{
	(void)state;
	end_domain(dom);
	test_machine_fini();
	return 0;
}

static int set_one(uint64_t gfn, unsigned int order, uint64_t mfn, enum p2m_type type)
{
	int rc;

	write_lock(&dom->p2m.lock);
	rc = p2m_set(dom, GFN(gfn), order, MFN(mfn), type);
	p2m_flush(dom);
	write_unlock(&dom->p2m.lock);
	return rc;
}

static struct p2m_entry get(uint64_t gfn)
{
	struct p2m_entry e;

	read_lock(&dom->p2m.lock);
	e = p2m_get(&dom->p2m, GFN(gfn));
	read_unlock(&dom->p2m.lock);
	return e;
}

/* Any order, also over smaller mappings, in the biggest pieces there are. */
static int set(uint64_t gfn, unsigned int order, uint64_t mfn, enum p2m_type type)
{
	unsigned int piece = order - order % 9;
	uint64_t step = 1ull << piece;
	int rc = 0;

	for (uint64_t i = 0; !rc && i < 1ull << order; i += step) {
		if (get(gfn + i).order < piece)
			assert_int_equal(set_one(gfn + i, piece, mfn + i, type), -XEN_EEXIST);
		for (uint64_t j = 0; get(gfn + i).order < piece; j += step >> 9)
			assert_int_equal(set(gfn + i + j, piece - 9, 0, P2M_HOLE), 0);
		rc = set_one(gfn + i, piece, mfn + i, type);
	}
	return rc;
}

static void expect(uint64_t gfn, enum p2m_type type, uint64_t mfn, unsigned int order)
{
	struct p2m_entry e = get(gfn);

	assert_int_equal(e.type, type);
	assert_int_equal(e.order, order);
	if (type != P2M_HOLE)
		assert_int_equal(e.mfn.v, mfn);
}

/* A table that is kept for the next one is as good as free. */
static uint64_t free_pages(void)
{
	return page_free_count() + (dom->p2m.spare != NULL);
}

/* Counts the tables under @table and checks what their pages say about them. */
static unsigned int check_table(const uint64_t *table, unsigned int level)
{
	unsigned int count = 1, used = 0;
	enum p2m_type type = (enum p2m_type)(table[0] >> P2M_E_TYPE_SHIFT & 7);
	bool run = level < 2 && (type == P2M_RAM || type == P2M_MMIO);

	for (unsigned int i = 0; i < 512; i++) {
		uint64_t e = table[i];

		used += !!e;
		run = run && e && e == table[0] + i * (PAGE_SIZE << 9 * level);
		if (!e)
			continue;
		assert_int_equal(e & (P2M_E_P | P2M_E_U | P2M_E_AD),
				 P2M_E_P | P2M_E_U | P2M_E_AD);
		if (level && !(e & P2M_E_BIG))
			count += check_table(p2m_e_table(e), level - 1);
		else
			assert_true(level < 3);
	}
	assert_int_equal(frame_table[virt_to_mfn(table).v].p2m_used, used);
	assert_true(used || level == 3);
	/* What can be one big mapping is one. */
	if (run && (level == 0 || (table[0] & P2M_E_BIG)))
		assert_true(table[0] & P2M_E_ADDR & ((PAGE_SIZE << 9 * (level + 1)) - 1));
	return count;
}

static void check_tables(void)
{
	assert_int_equal(check_table(dom->p2m.root, 3), dom->p2m.tables);
}

/* --- Single cases ------------------------------------------------------- */

static void test_basic(void **state)
{
	(void)state;
	expect(0, P2M_HOLE, 0, 27);
	expect(P2M_MAX_GFN - 1, P2M_HOLE, 0, 27);
	expect(P2M_MAX_GFN, P2M_HOLE, 0, 27);
	expect(UINT64_MAX, P2M_HOLE, 0, 27);
	assert_int_equal(set(5, 0, 9, P2M_HOLE), 0);
	assert_int_equal(dom->p2m.tables, 1);
	assert_int_equal(set(P2M_MAX_GFN - 1, 0, MMIO_MFN, P2M_MMIO), 0);
	expect(P2M_MAX_GFN - 1, P2M_MMIO, MMIO_MFN, 0);
	expect(P2M_MAX_GFN - 2, P2M_HOLE, 0, 0);
	assert_int_equal(dom->p2m.max_gfn.v, P2M_MAX_GFN - 1);
	assert_int_equal(dom->p2m.tables, 4);
	check_tables();
	assert_int_equal(set(P2M_MAX_GFN - 1, 0, 0, P2M_HOLE), 0);
	assert_int_equal(dom->p2m.tables, 1);
	/* Beyond the end, not aligned. */
	assert_int_equal(set(P2M_MAX_GFN, 0, 1, P2M_MMIO), -XEN_EINVAL);
	assert_int_equal(set(UINT64_MAX, 0, 1, P2M_MMIO), -XEN_EINVAL);
	assert_int_equal(set(1, 9, 512, P2M_MMIO), -XEN_EINVAL);
	assert_int_equal(set(512, 18, 0, P2M_MMIO), -XEN_EINVAL);
	assert_int_equal(p2m_split(dom, GFN(P2M_MAX_GFN)), -XEN_EINVAL);
	assert_int_equal(dom->p2m.tables, 1);
}

/* The bits the CPU acts on. */
static void test_bits(void **state)
{
	static const struct { enum p2m_type type; bool w, nx, uc; } rows[] = {
		{ P2M_RAM, 1, 0, 0 }, { P2M_RAM_RO, 0, 0, 0 }, { P2M_SHARED, 1, 1, 0 },
		{ P2M_GRANT_RW, 1, 1, 0 }, { P2M_GRANT_RO, 0, 1, 0 }, { P2M_FOREIGN, 1, 1, 0 },
		{ P2M_MMIO, 1, 0, 1 },
	};

	void *pages = hv_alloc_pages(3);
	uint64_t mfn = virt_to_mfn(pages).v;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint64_t *t = dom->p2m.root;
		uint64_t e;

		assert_int_equal(set(3, 0, mfn + i, rows[i].type), 0);
		for (unsigned int level = 3; level > 0; level--) {
			assert_int_equal(t[0] & ~P2M_E_ADDR, 0x67);
			t = p2m_e_table(t[0]);
		}
		e = t[3];
		assert_int_equal(e & P2M_E_ADDR, (mfn + i) << PAGE_SHIFT);
		assert_int_equal(!!(e & P2M_E_W), rows[i].w);
		assert_int_equal(!!(e & P2M_E_NX), rows[i].nx);
		assert_int_equal(e & P2M_E_UC, rows[i].uc ? P2M_E_UC : 0);
		assert_int_equal(p2m_is_writable(get(3).type), rows[i].w && !rows[i].uc);
	}
	assert_int_equal(set(3, 0, 0, P2M_HOLE), 0);
	hv_free_pages(pages, 3);
}

static void test_big(void **state)
{
	(void)state;
	/* 1 GiB, split twice by one hole, healed by filling it. */
	assert_int_equal(set(1 << 18, 18, MMIO_MFN, P2M_MMIO), 0);
	expect((1 << 18) + 12345, P2M_MMIO, MMIO_MFN + 12345, 18);
	assert_int_equal(dom->p2m.tables, 2);
	assert_int_equal(set((1 << 18) + 12345, 0, 0, P2M_HOLE), 0);
	assert_int_equal(dom->p2m.tables, 4);
	expect((1 << 18) + 12345, P2M_HOLE, 0, 0);
	expect((1 << 18) + 12346, P2M_MMIO, MMIO_MFN + 12346, 0);
	expect((1 << 18) + 1, P2M_MMIO, MMIO_MFN + 1, 9);
	check_tables();
	assert_int_equal(set((1 << 18) + 12345, 0, MMIO_MFN + 12345, P2M_MMIO), 0);
	expect((1 << 18) + 12345, P2M_MMIO, MMIO_MFN + 12345, 18);
	assert_int_equal(dom->p2m.tables, 2);
	/* Another frame, or another type, in the middle: no run. */
	assert_int_equal(set((1 << 18) + 7, 0, MMIO_MFN + 8, P2M_MMIO), 0);
	expect((1 << 18) + 8, P2M_MMIO, MMIO_MFN + 8, 0);
	assert_int_equal(set((1 << 18) + 7, 0, MMIO_MFN + 7, P2M_GRANT_RW), 0);
	expect((1 << 18) + 8, P2M_MMIO, MMIO_MFN + 8, 0);
	check_tables();
	/* A big one over all that frees the tables below. */
	assert_int_equal(set(1 << 18, 18, MMIO_MFN * 2, P2M_MMIO), 0);
	expect((1 << 18) + 7, P2M_MMIO, MMIO_MFN * 2 + 7, 18);
	assert_int_equal(dom->p2m.tables, 2);
	/* In pieces of 2 MiB, from the end. */
	for (unsigned int i = 512; i-- > 0;)
		assert_int_equal(set((1 << 18) + i * 512, 9, MMIO_MFN + i * 512, P2M_MMIO), 0);
	expect(1 << 18, P2M_MMIO, MMIO_MFN, 18);
	/* Contiguous, but not aligned: no big mapping. */
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(set(512 + i, 0, MMIO_MFN + 256 + i, P2M_MMIO), 0);
	expect(512 + 77, P2M_MMIO, MMIO_MFN + 256 + 77, 0);
	assert_int_equal(set(512, 9, 0, P2M_HOLE), 0);
	/* A hole of odd size. */
	assert_int_equal(set((1 << 18) + 4096, 12, 0, P2M_HOLE), 0);
	expect((1 << 18) + 4096, P2M_HOLE, 0, 9);
	expect((1 << 18) + 8191, P2M_HOLE, 0, 9);
	expect((1 << 18) + 8192, P2M_MMIO, MMIO_MFN + 8192, 9);
	assert_int_equal(set(1 << 18, 18, 0, P2M_HOLE), 0);
	assert_int_equal(dom->p2m.tables, 1);
}

static void test_shared(void **state)
{
	void *va = hv_alloc_pages(0);
	struct page *pg = mfn_to_page(virt_to_mfn(va));
	uint64_t mfn = virt_to_mfn(va).v;

	(void)state;
	assert_int_equal(pg->shared_gfn, 0);
	assert_int_equal(set(77, 0, mfn, P2M_SHARED), 0);
	assert_int_equal(pg->shared_gfn, 78);
	/* Moved: first to the new place, then away from the old one. */
	assert_int_equal(set(99, 0, mfn, P2M_SHARED), 0);
	assert_int_equal(set(77, 0, 0, P2M_HOLE), 0);
	assert_int_equal(pg->shared_gfn, 100);
	assert_int_equal(set(99, 0, MMIO_MFN, P2M_MMIO), 0);
	assert_int_equal(pg->shared_gfn, 0);
	hv_free_pages(va, 0);
}

static void test_get_page(void **state)
{
	struct page *pg;

	(void)state;
	assert_int_equal(p2m_populate(dom, GFN(4), 0), 0);
	pg = p2m_get_page(dom, GFN(4), true);
	assert_non_null(pg);
	assert_int_equal(atomic_load(&pg->refs), 2);
	assert_null(p2m_get_page(dom, GFN(5), false));
	/* It survives its place. */
	assert_int_equal(p2m_release(dom, GFN(4), 1), 0);
	assert_int_equal(atomic_load(&dom->tot_pages), 1);
	assert_int_equal(set(6, 0, page_to_mfn(pg).v, P2M_RAM_RO), 0);
	assert_null(p2m_get_page(dom, GFN(6), true));
	assert_ptr_equal(p2m_get_page(dom, GFN(6), false), pg);
	atomic_store(&pg->refs, 0x7fffffff);
	assert_null(p2m_get_page(dom, GFN(6), false));
	atomic_store(&pg->refs, 2);
	page_put(pg);
	assert_int_equal(p2m_release(dom, GFN(6), 1), 0);
	assert_int_equal(set(6, 0, MMIO_MFN, P2M_MMIO), 0);
	assert_null(p2m_get_page(dom, GFN(6), false));
	assert_int_equal(p2m_release(dom, GFN(6), 1), -XEN_ENOENT);
}

/* --- Populating --------------------------------------------------------- */

static void test_populate(void **state)
{
	(void)state;
	assert_int_equal(p2m_populate(dom, GFN(1024), 10), 0);
	assert_int_equal(get(1024).order, 9);
	assert_int_equal(get(2047).order, 9);
	assert_int_equal(atomic_load(&dom->tot_pages), 1024);
	/* Not aligned: small ones. */
	assert_int_equal(p2m_populate(dom, GFN(512 + 3), 3), 0);
	assert_int_equal(get(512 + 3).order, 0);
	assert_int_equal(get(512 + 11).type, P2M_HOLE);
	assert_int_equal(p2m_populate(dom, GFN(512 + 512 - 8), 3), 0);
	/* Something is there: nothing changes. */
	assert_int_equal(p2m_populate(dom, GFN(512), 9), -XEN_EEXIST);
	assert_int_equal(p2m_populate(dom, GFN(0), 10), -XEN_EEXIST);
	assert_int_equal(get(0).type, P2M_HOLE);
	assert_int_equal(p2m_populate(dom, GFN(P2M_MAX_GFN), 0), -XEN_EINVAL);
	assert_int_equal(p2m_populate(dom, GFN(UINT64_MAX), 0), -XEN_EINVAL);
	assert_int_equal(atomic_load(&dom->tot_pages), 1024 + 16);
	/* Quota. */
	dom->max_pages = 1024 + 16 + 511;
	assert_int_equal(p2m_populate(dom, GFN(4096), 9), -XEN_E2BIG);
	assert_int_equal(p2m_populate(dom, GFN(4096), 10), -XEN_E2BIG);
	dom->max_pages = UINT64_MAX;
	/* Out of memory after some pieces. */
	assert_int_equal(p2m_populate(dom, GFN(8192), 13), -XEN_ENOMEM);
	assert_int_equal(atomic_load(&dom->tot_pages), 1024 + 16);
	assert_int_equal(get(8192).type, P2M_HOLE);
	check_tables();
	/* Partly through big pages and across their borders. */
	assert_int_equal(p2m_release(dom, GFN(1024 + 256), 1ull << 9), 0);
	assert_int_equal(get(1024 + 255).order, 0);
	assert_int_equal(get(1024 + 256).type, P2M_HOLE);
	assert_int_equal(get(1024 + 767).type, P2M_HOLE);
	assert_int_equal(get(1024 + 768).type, P2M_RAM);
	assert_int_equal(p2m_release(dom, GFN(UINT64_MAX), 1ull << 0), -XEN_ENOENT);
	domain_destroy(dom);
	assert_int_equal(p2m_populate(dom, GFN(0), 0), -XEN_ESRCH);
}

/* No free block of 2 MiB is left: small pages take over. */
static void test_populate_fragmented(void **state)
{
	uint8_t *keep = hv_alloc_pages(9), *va;
	unsigned int i;

	(void)state;
	for (i = 0; (va = hv_alloc_pages(9)); i++)
		*(uint8_t **)(void *)va = keep, keep = va;
	assert_true(i > 10);
	while (hv_alloc_pages(0))
		;
	/* Of two blocks all but one frame each is given back. */
	for (i = 0; i < 1024; i++) {
		va = i < 512 ? keep : *(uint8_t **)(void *)keep;
		frame_table[virt_to_mfn(va).v + i % 512].order = 0;
		if (i % 512 != 300 && i % 512 != 0)
			hv_free_pages(va + i % 512 * PAGE_SIZE, 0);
	}
	assert_int_equal(p2m_populate(dom, GFN(512), 9), 0);
	assert_int_equal(get(512).order, 0);
	assert_int_equal(get(1023).type, P2M_RAM);
	assert_int_equal(p2m_release(dom, GFN(512), 1ull << 9), 0);
	assert_int_equal(free_pages(), 1020);
	assert_int_equal(dom->p2m.tables, 1);
}

static void test_populate_1g(void **state)
{
	(void)state;
	test_machine_init(3 << 18, 1);
	make_all_clean();
	dom = make_domain(1, UINT64_MAX, 1000);
	assert_int_equal(p2m_populate(dom, GFN(1 << 18), 18), 0);
	assert_int_equal(get((1 << 18) + 5).order, 18);
	/* The second GiB is not in one piece. */
	assert_int_equal(p2m_populate(dom, GFN(2 << 18), 18), 0);
	assert_int_equal(p2m_release(dom, GFN((1 << 18) + 777), 1), 0);
	assert_int_equal(get((1 << 18) + 778).order, 0);
	assert_int_equal(get((1 << 18) + 2000).order, 9);
	assert_int_equal(atomic_load(&dom->tot_pages), (2 << 18) - 1);
	check_tables();
	assert_int_equal(p2m_release(dom, GFN(2 << 18), 1ull << 18), 0);
	assert_int_equal(p2m_populate(dom, GFN(2 << 18), 17), 0);
	/* Teardown takes big mappings in bounded pieces. */
	for (unsigned int steps = 0; !p2m_teardown_step(dom); steps++) {
		assert_true(steps < 3000);
		assert_true(page_free_count() > (uint64_t)steps * 500);
	}
	end_domain(dom);
	assert_int_equal(page_free_count(), (3 << 18) - 1);
	test_machine_fini();
}

/* --- Flushing ----------------------------------------------------------- */

static struct vcpu *guest;
static atomic_bool inside;

/* CPU 1 runs the guest until it is kicked. */
static void *run_guest(void *arg)
{
	struct pcpu *p = pcpus[1];

	(void)arg;
	test_set_cpu(1);
	atomic_store(&p->in_guest, guest);
	atomic_store(&inside, true);
	while (!test_take_kick(1))
		port_relax();
	atomic_store(&inside, false);
	atomic_store(&p->in_guest, NULL);
	return NULL;
}

static void test_flush(void **state)
{
	struct domain *other = make_domain(2, 10, 10);
	unsigned long gen = atomic_load(&dom->p2m.flush_gen);
	pthread_t thread;

	(void)state;
	p2m_flush(dom);
	assert_int_equal(atomic_load(&dom->p2m.flush_gen), gen + 1);
	assert_int_equal(test_kicks(1), 0);
	guest = dom->vcpus[0];
	assert_int_equal(set(1, 0, MMIO_MFN, P2M_MMIO), 0);
	test_set_threaded(true);
	pthread_create(&thread, NULL, run_guest, NULL);
	while (!atomic_load(&inside))
		port_relax();
	p2m_flush(other);
	assert_true(atomic_load(&inside));
	assert_int_equal(test_kicks(1), 0);
	/* Replacing a frame waits for CPUs inside. */
	write_lock(&dom->p2m.lock);
	assert_int_equal(p2m_set(dom, GFN(1), 0, MFN(MMIO_MFN + 1), P2M_MMIO), 0);
	assert_false(atomic_load(&inside));
	write_unlock(&dom->p2m.lock);
	pthread_join(thread, NULL);
	test_set_threaded(false);
	end_domain(other);
}

/* --- Teardown ----------------------------------------------------------- */

static void test_teardown(void **state)
{
	struct domain *other = make_domain(2, 10, 10);
	unsigned int steps = 0;
	struct page *pg;

	(void)state;
	assert_int_equal(p2m_populate(other, GFN(1), 0), 0);
	pg = p2m_get_page(other, GFN(1), true);
	assert_int_equal(p2m_populate(dom, GFN(0), 11), 0);
	for (unsigned int i = 0; i < 300; i++)
		assert_int_equal(p2m_populate(dom, GFN(0x1000000 + i * 513ull), 0), 0);
	assert_int_equal(set(3, 0, 0, P2M_HOLE), 0);	/* leaves its frame to us */
	assert_int_equal(set(1 << 18, 18, MMIO_MFN, P2M_MMIO), 0);
	assert_int_equal(set(0x3000000, 0, page_to_mfn(pg).v, P2M_FOREIGN), 0);
	assert_int_equal(atomic_load(&pg->refs), 2);
	while (!p2m_teardown_step(dom))
		steps++;
	assert_true(steps > 4);
	assert_int_equal(dom->p2m.tables, 1);
	assert_int_equal(atomic_load(&pg->refs), 1);
	assert_int_equal(atomic_load(&dom->tot_pages), 1);
	for (uint64_t i = 1; i < PAGES; i++) {
		if (page_owner(&frame_table[i]) == dom)
			page_put(&frame_table[i]);
	}
	end_domain(other);
	assert_true(p2m_teardown_step(dom));
}

/* Tables still in use go too. */
static void test_destroy(void **state)
{
	uint64_t before = page_free_count();
	struct domain *d = calloc(1, sizeof(*d));

	(void)state;
	page_fail_after = 1;
	assert_int_equal(p2m_init(d, 10), -XEN_ENOMEM);
	p2m_destroy(d);
	assert_true(p2m_teardown_step(d));
	assert_int_equal(p2m_init(d, 0), -XEN_ENOMEM);
	assert_int_equal(p2m_init(d, 10), 0);
	assert_int_equal(p2m_set(d, GFN(5), 0, MFN(MMIO_MFN), P2M_MMIO), 0);
	assert_int_equal(p2m_set(d, GFN(1 << 27), 9, MFN(MMIO_MFN), P2M_MMIO), 0);
	assert_int_equal(d->p2m.tables, 6);
	p2m_destroy(d);
	assert_int_equal(page_free_count(), before);
	free(d);
}

/* --- Against a model ---------------------------------------------------- */

static struct { enum p2m_type type; uint64_t mfn; } model[SPAN];

static bool model_hole(unsigned int at, unsigned int count)
{
	for (unsigned int i = at; i < at + count; i++) {
		if (model[i].type != P2M_HOLE)
			return false;
	}
	return true;
}

/* Own RAM in the range goes before something else is put there. */
static void model_clear(unsigned int at, unsigned int count)
{
	for (unsigned int i = at; i < at + count; i++) {
		if (model[i].type == P2M_RAM)
			assert_int_equal(p2m_release(dom, GFN(BASE + i), 1), 0);
		model[i].type = P2M_HOLE;
	}
}

static void model_step(void)
{
	static const unsigned int orders[] = { 0, 0, 0, 1, 3, 8, 9, 10 };
	unsigned int order = orders[rng(ARRAY_SIZE(orders))], count = 1u << order;
	unsigned int at = rng(SPAN / count) * count, what = rng(8);
	enum p2m_type type = rng(4) ? P2M_MMIO : P2M_GRANT_RO;
	int rc;

	switch (what) {
	case 0: case 1: case 2:
		/* Mostly where a run could grow. */
		model_clear(at, count);
		assert_int_equal(set(BASE + at, order, MMIO_MFN + at, type), 0);
		for (unsigned int i = at; i < at + count; i++) {
			model[i].type = type;
			model[i].mfn = MMIO_MFN + i;
		}
		break;
	case 3:
		model_clear(at, count);
		assert_int_equal(set(BASE + at, order, 0, P2M_HOLE), 0);
		break;
	case 4: case 5:
		rc = p2m_populate(dom, GFN(BASE + at), order);
		assert_int_equal(rc, model_hole(at, count) ? 0 : -XEN_EEXIST);
		for (unsigned int i = at; !rc && i < at + count; i++) {
			model[i].type = P2M_RAM;
			model[i].mfn = get(BASE + i).mfn.v;
		}
		break;
	case 6:
		rc = p2m_release(dom, GFN(BASE + at), 1ull << order);
		for (unsigned int i = at; i < at + count; i++) {
			if (model[i].type != P2M_RAM) {
				assert_int_equal(rc, -XEN_ENOENT);
				return;
			}
			model[i].type = P2M_HOLE;
		}
		assert_int_equal(rc, 0);
		break;
	default:
		write_lock(&dom->p2m.lock);
		assert_int_equal(p2m_split(dom, GFN(BASE + at)), 0);
		write_unlock(&dom->p2m.lock);
		assert_true(get(BASE + at).type == P2M_HOLE || get(BASE + at).order == 0);
		/* Splitting alone leaves what merging would not. */
		set(BASE + at, 0, model[at].mfn, model[at].type);
	}
}

static void model_check(void)
{
	unsigned long ram = 0;

	for (unsigned int i = 0; i < SPAN; i++) {
		struct p2m_entry e = get(BASE + i);

		assert_int_equal(e.type, model[i].type);
		if (e.type != P2M_HOLE)
			assert_int_equal(e.mfn.v, model[i].mfn);
		if (e.type != P2M_RAM)
			continue;
		ram++;
		assert_ptr_equal(page_owner(&frame_table[e.mfn.v]), dom);
		assert_int_equal(atomic_load(&frame_table[e.mfn.v].refs), 1);
	}
	assert_int_equal(atomic_load(&dom->tot_pages), ram);
	assert_int_equal(free_pages(), free_at_start - ram - (dom->p2m.tables - 1));
	check_tables();
}

static void test_model(void **state)
{
	(void)state;
	memset(model, 0, sizeof(model));
	for (unsigned int step = 0; step < 4000; step++) {
		model_step();
		if (step % 8 == 0)
			model_check();
	}
	model_clear(0, SPAN);
	for (unsigned int i = 0; i < SPAN; i++)
		assert_int_equal(set(BASE + i, 0, 0, P2M_HOLE), 0);
	assert_int_equal(dom->p2m.tables, 1);
}

/* --- Failing allocations ------------------------------------------------ */

/* Everything that must be as before after a failure. */
static void snapshot(uint64_t *sum)
{
	struct p2m_entry e;

	*sum = dom->p2m.tables * 1000003ull + free_pages() * 31 + atomic_load(&dom->tot_pages);
	for (unsigned int i = 0; i < 2048; i++) {
		e = get((1 << 18) + i);
		*sum = *sum * 1099511628211ull + e.mfn.v * 8 + e.type + e.order * 64ull;
		e = get((3 << 18) + i);
		*sum = *sum * 1099511628211ull + e.type + e.order * 64ull;
	}
	check_tables();
}

static void test_failures(void **state)
{
	uint64_t before, after;
	unsigned int n;
	int rc;

	(void)state;
	assert_int_equal(set(1 << 18, 18, MMIO_MFN, P2M_MMIO), 0);
	snapshot(&before);
	for (n = 1;; n++) {
		page_fail_after = n;
		rc = set((1 << 18) + 1000, 0, 0, P2M_HOLE);
		if (!rc)
			break;
		assert_int_equal(rc, -XEN_ENOMEM);
		snapshot(&after);
		assert_int_equal(before, after);
	}
	assert_int_equal(n, 3);
	snapshot(&before);
	for (n = 1;; n++) {
		page_fail_after = n;
		rc = set(1ull << 30, 0, MMIO_MFN, P2M_MMIO);
		if (!rc)
			break;
		snapshot(&after);
		assert_int_equal(before, after);
	}
	assert_int_equal(n, 3);	/* of the three tables one was spare */
	/*
	 * A populate needs at most four allocations at once; one that fails is
	 * made good by a smaller piece, so the range starts in its middle.
	 */
	page_fail_after = 0;
	snapshot(&before);
	for (n = 1;; n++) {
		page_fail_after = n;
		rc = p2m_populate(dom, GFN((3 << 18) + 1), 3);
		if (!rc)
			break;
		assert_int_equal(rc, -XEN_ENOMEM);
		snapshot(&after);
		assert_int_equal(before, after);
	}
	assert_int_equal(n, 8 + 1 + 1);	/* of the two tables one was spare */
	/* The domain's limit of tables. */
	page_fail_after = 0;
	dom->p2m.tables_max = dom->p2m.tables + 1;
	snapshot(&before);
	assert_int_equal(set(1ull << 31, 0, MMIO_MFN, P2M_MMIO), -XEN_ENOMEM);
	assert_int_equal(p2m_populate(dom, GFN(1ull << 31), 9), -XEN_ENOMEM);
	snapshot(&after);
	assert_int_equal(before, after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_basic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_big, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_get_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_populate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_populate_fragmented, setup, teardown_used),
		cmocka_unit_test(test_populate_1g),
		cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_teardown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
