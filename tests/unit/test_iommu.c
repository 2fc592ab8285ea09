/* SPDX-License-Identifier: MIT */
/*
 * IOMMUs: what devices reach follows the p2m on every kind of unit there is,
 * also when memory runs out; what they may not is blocked, told and, when it goes
 * on, ended. The fake units remember translations until told to forget them.
 */
#include "unit.h"

#include <sys/wait.h>
#include <unistd.h>

#include "fake_domains.h"
#include "hospes/cmdline.h"
#include "hospes/log.h"
#include "port/testiommu.h"

#define PAGES 8192u
#define SPAN 2048u		/* frames under the model */
#define BASE 0x40000u		/* where they lie */
#define FAR 0x4000000u		/* machine frames above RAM, aligned to 1 GiB */
#define FRAME(mfn) ((uint64_t)(mfn) << 12)
#define BLOCKED UINT64_MAX
#define DEVICE 0x0108u		/* 01:01.0 */

static const struct variant {
	const char *name;
	int kind;
	uint64_t cap, ecap;
} variants[] = {
	{ "VT-d", TEST_VTD, TEST_VTD_CAP, TEST_VTD_ECAP },
	{ "39 bits", TEST_VTD, TEST_VTD_CAP ^ 3ULL << 9, TEST_VTD_ECAP },
	{ "4 KiB only", TEST_VTD, TEST_VTD_CAP & ~(3ULL << 34), TEST_VTD_ECAP },
	{ "2 MiB at most", TEST_VTD, TEST_VTD_CAP & ~(2ULL << 34), TEST_VTD_ECAP },
	{ "no flush of pages", TEST_VTD, TEST_VTD_CAP & ~(1ULL << 39), TEST_VTD_ECAP },
	{ "caching mode", TEST_VTD, TEST_VTD_CAP | 1ULL << 7, TEST_VTD_ECAP },
	{ "not coherent", TEST_VTD, TEST_VTD_CAP, TEST_VTD_ECAP & ~1ULL },
	{ "no queue", TEST_VTD, TEST_VTD_CAP | 1ULL << 4, TEST_VTD_ECAP & ~2ULL },
	{ "nothing", TEST_VTD,
	  ((TEST_VTD_CAP & ~(3ULL << 34 | 1ULL << 39)) ^ 3ULL << 9) | 1ULL << 7,
	  TEST_VTD_ECAP & ~3ULL },
	{ "AMD-Vi", TEST_AMDVI, 1u << 27, 1u << 6 },
	{ "caching AMD-Vi", TEST_AMDVI, 1u << 27 | 1u << 26, 1u << 6 },
	{ "old AMD-Vi", TEST_AMDVI, 0, 0 },
};

static struct iommu_info info;
static struct domain *dom;
static struct test_function unit_function;
static uint64_t rng_state, free_at_start, boots = 1;

static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng_state >> 33) % below;
}

/* --- The machine ----------------------------------------------------------- */

/* A machine with @units such units; the IOMMU driver has not started. */
static void machine(const struct variant *v, unsigned int units)
{
	static const struct port_ioapic ioapic = { .base = 0xfec00000, .pins = 24, .id = 2 };

	test_machine_init(PAGES, 2);
	test_iommu_reset();
	memset(&iommu, 0, sizeof(iommu));
	memset(&info, 0, sizeof(info));
	memset(&unit_function, 0, sizeof(unit_function));
	info.kind = v->kind == TEST_VTD ? IOMMU_VTD : IOMMU_AMDVI;
	info.nr_units = units;
	for (unsigned int i = 0; i < units; i++) {
		info.unit[i] = (struct iommu_desc){
			.base = TEST_IOMMU_BASE + i * 0x10000, .rid = 0x10, .last_rid = 0x1ff,
			.size = v->kind == TEST_VTD ? 0x1000 : 0x4000, .capability = 0x40,
		};
		test_iommu_add(i, v->kind, v->cap, v->ecap);
	}
	test_function_add(&unit_function, 0x10, 0);
	memcpy(unit_function.config + 0x40, &v->cap, 4);
	test_ioapic_add(&ioapic);
	page_fail_after = 0;
	rng_state = 3;
	free_at_start = page_free_count();
	/* What was counted before is long ago. */
	test_advance_ns(boots++ * 20000000000ULL);
	hv_options.iommu = true;
}

static void start(const struct variant *v)
{
	machine(v, 1);
	iommu_init(&info, 2, false);
	assert_true(iommu_present());
	dom = make_domain(1, PAGES, 1000);
	assert_int_equal(iommu_domain_init(dom), 0);
}

static void finish(void)
{
	end_domain(dom);
	for (unsigned int i = 0; i < iommu.nr_units; i++) {
		iommu.ops->stop(&iommu.unit[i]);
		assert_null(iommu.unit[i].queue);
	}
	if (iommu.remap)
		hv_free_pages(iommu.remap, iommu.remap_order);
	test_machine_fini();
	test_iommu_reset();
}

static int set(uint64_t gfn, unsigned int order, uint64_t mfn, enum p2m_type type)
{
	int rc;

	write_lock(&dom->p2m.lock);
	rc = p2m_set(dom, GFN(gfn), order, MFN(mfn), type);
	p2m_flush(dom);
	write_unlock(&dom->p2m.lock);
	return rc;
}

static void poll(void)
{
	test_advance_ns(100000000);
	test_run_timers(0);
}

static unsigned int count_log(const char *text)
{
	const char *at = test_console_output();
	unsigned int n = 0;

	for (; (at = strstr(at, text)); at++)
		n++;
	return n;
}

static void expect_log(const char *text, unsigned int times)
{
	if (count_log(text) != times)
		fail_msg("%u times '%s' in: %s", count_log(text), text, test_console_output());
}

/* --- Devices --------------------------------------------------------------- */

static void test_blocked_until_given(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		start(&variants[i]);
		assert_int_equal(set(5, 0, FAR + 5, P2M_RAM), 0);
		for (uint32_t rid = 0; rid < RIDS; rid += 0x107)
			assert_int_equal(test_dma(0, (uint16_t)rid, 5 << 12, false), BLOCKED);
		assert_int_equal(test_dma(0, DEVICE, 0x123000, true), BLOCKED);
		assert_int_equal(iommu_assign(dom, DEVICE), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x5008, true), (FRAME(FAR + 5) | 8));
		assert_int_equal(test_dma(0, DEVICE, 0x6000, true), BLOCKED);
		/* Its neighbours and the same one of another bus are not it. */
		assert_int_equal(test_dma(0, DEVICE + 1, 0x5000, true), BLOCKED);
		assert_int_equal(test_dma(0, DEVICE ^ 0x100, 0x5000, true), BLOCKED);
		/* And taken away again, whatever the unit remembers of it. */
		assert_int_equal(iommu_assign(NULL, DEVICE), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x5000, true), BLOCKED);
		assert_int_equal(iommu_assign(dom, 1u << 16 | DEVICE), -XEN_ENODEV);
		iommu_assign_all(dom);
		assert_int_equal(test_dma(0, DEVICE, 0x5000, true), FRAME(FAR + 5));
		assert_int_equal(test_dma(0, 0x1f8, 0x5000, true), FRAME(FAR + 5));
		assert_int_equal(set(5, 0, 0, P2M_HOLE), 0);
		assert_int_equal(test_dma(0, 0x1f8, 0x5000, true), BLOCKED);
		finish();
	}
}

static void test_amd_range(void **state)
{
	(void)state;
	start(&variants[9]);
	assert_int_equal(iommu_assign(dom, 0x200), -XEN_ENODEV);
	iommu_assign_all(dom);
	assert_int_equal(test_dma(0, 0x200, 0x5000, true), BLOCKED);
	finish();
}

/* Two domains, a device each. */
static void test_two_domains(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		struct domain *first, *second;

		start(&variants[i]);
		first = dom;
		second = make_domain(2, PAGES, 1000);
		assert_int_equal(iommu_domain_init(second), 0);
		assert_int_equal(set(7, 0, FAR + 1, P2M_RAM), 0);
		dom = second;
		assert_int_equal(set(7, 0, FAR + 2, P2M_RAM_RO), 0);
		assert_int_equal(iommu_assign(first, DEVICE), 0);
		assert_int_equal(iommu_assign(second, DEVICE + 1), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x7000, true), FRAME(FAR + 1));
		assert_int_equal(test_dma(0, DEVICE + 1, 0x7000, false), FRAME(FAR + 2));
		assert_int_equal(test_dma(0, DEVICE + 1, 0x7000, true), BLOCKED);
		/* From one to the other. */
		assert_int_equal(iommu_assign(second, DEVICE), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x7000, false), FRAME(FAR + 2));
		assert_int_equal(set(7, 0, 0, P2M_HOLE), 0);
		/* The end of one is no matter to the other. */
		assert_int_equal(iommu_assign(first, DEVICE), 0);
		end_domain(second);
		dom = first;
		assert_int_equal(test_dma(0, DEVICE + 1, 0x7000, false), BLOCKED);
		assert_int_equal(test_dma(0, DEVICE, 0x7000, true), FRAME(FAR + 1));
		assert_int_equal(set(7, 0, 0, P2M_HOLE), 0);
		finish();
	}
}

/* --- Maps ------------------------------------------------------------------ */

static const unsigned int rights_of[P2M_TYPE_COUNT] = {
	[P2M_RAM] = 3, [P2M_RAM_RO] = 1, [P2M_GRANT_RW] = 3, [P2M_GRANT_RO] = 1, [P2M_FOREIGN] = 3,
};

static struct { enum p2m_type type; uint64_t mfn; } model[SPAN];

static const char *variant_name;

static void check_page(unsigned int i)
{
	uint64_t at = (uint64_t)(BASE + i) << 12 | 0x10, to = model[i].mfn << 12 | 0x10;
	unsigned int rights = rights_of[model[i].type];

	if (test_dma(0, DEVICE, at, false) != (rights & 1 ? to : BLOCKED) ||
	    test_dma(0, DEVICE, at, true) != (rights & 2 ? to : BLOCKED))
		fail_msg("%s: page %u, type %d, goes to %lx and not %lx", variant_name, i,
			 model[i].type, test_dma(0, DEVICE, at, false), to);
}

static void random_step(void)
{
	static const enum p2m_type types[] = {
		P2M_HOLE, P2M_RAM, P2M_RAM, P2M_RAM_RO, P2M_GRANT_RW, P2M_GRANT_RO, P2M_MMIO,
	};
	unsigned int order = rng(8) ? 0 : rng(12) ? 9 : 18;
	unsigned int i = rng(SPAN) >> order << order, n = 1u << (order > 11 ? 11 : order);
	enum p2m_type type = types[rng(ARRAY_SIZE(types))];
	/* Few differences, so that neighbours merge. */
	uint64_t mfn = FAR + ((uint64_t)rng(2) << 18) + i;
	bool run = rng(10) == 0;
	int rc;

	if (rng(16) == 0) {
		write_lock(&dom->p2m.lock);
		(void)!p2m_split(dom, GFN(BASE + i));
		write_unlock(&dom->p2m.lock);
		return;
	}
	page_fail_after = rng(3) ? 0 : 1 + rng(6);
	/* A run of pages one by one, which ends as a big one. */
	for (unsigned int j = 0; run && order == 9 && j < n; j++) {
		rc = set(BASE + i + j, 0, mfn + j, type);
		if (!rc) {
			model[i + j].type = type;
			model[i + j].mfn = mfn + j;
		}
	}
	rc = run && order == 9 ? -XEN_EEXIST : set(BASE + i, order, mfn, type);
	page_fail_after = 0;
	assert_true(!rc || rc == -XEN_ENOMEM || (rc == -XEN_EEXIST && order));
	for (unsigned int j = 0; !rc && j < n; j++) {
		model[i + j].type = type;
		model[i + j].mfn = mfn + j;
	}
	for (unsigned int j = 0; j < 8; j++)
		check_page(i + rng(n));
	check_page(rng(SPAN));
}

static void test_follows_p2m(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		start(&variants[v]);
		memset(model, 0, sizeof(model));
		variant_name = variants[v].name;
		assert_int_equal(iommu_assign(dom, DEVICE), 0);
		for (unsigned int round = 0; round < 600; round++) {
			random_step();
			if (round % 100 == 99) {
				for (unsigned int i = 0; i < SPAN; i++)
					check_page(i);
			}
		}
		/* Pages of other types hold no reference that the end would drop. */
		for (unsigned int i = 0; i < SPAN; i++) {
			assert_int_equal(set(BASE + i, 0, 0, P2M_HOLE), 0);
			model[i].type = P2M_HOLE;
			check_page(i);
		}
		for (unsigned int i = SPAN; i < 1u << 18; i += 512)
			assert_true(!set(BASE + i, 9, 0, P2M_HOLE));
		assert_int_equal(test_dma(0, DEVICE, (uint64_t)(BASE + (1 << 17)) << 12, false),
				 BLOCKED);
		finish();
	}
}

/* A page that goes is out of reach before it is somebody else's. */
static void test_released_pages(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		start(&variants[v]);
		assert_int_equal(iommu_assign(dom, DEVICE), 0);
		assert_int_equal(p2m_populate(dom, GFN(512), 9), 0);
		for (unsigned int i = 0; i < 512; i++)
			assert_int_not_equal(test_dma(0, DEVICE, (512 + i) << 12, true), BLOCKED);
		assert_int_equal(p2m_release(dom, GFN(512 + 7), 1), 0);
		assert_int_equal(test_dma(0, DEVICE, (512 + 7) << 12, true), BLOCKED);
		assert_int_not_equal(test_dma(0, DEVICE, (512 + 8) << 12, true), BLOCKED);
		assert_int_equal(p2m_release(dom, GFN(512), 7), 0);
		assert_int_equal(p2m_release(dom, GFN(512 + 8), 504), 0);
		for (unsigned int i = 0; i < 512; i++)
			assert_int_equal(test_dma(0, DEVICE, (512 + i) << 12, false), BLOCKED);
		finish();
	}
}

/* By privilege, and what is the hypervisor's. */
static void test_others_pages(void **state)
{
	void *pages;

	(void)state;
	start(&variants[0]);
	pages = hv_alloc_pages(1);
	iommu_assign_all(dom);
	assert_int_equal(set(5, 0, virt_to_mfn(pages).v, P2M_FOREIGN), 0);
	assert_int_equal(set(6, 0, virt_to_mfn(pages).v + 1, P2M_SHARED), 0);
	assert_int_equal(test_dma(0, DEVICE, 0x5000, true), table_paddr(pages));
	assert_int_equal(test_dma(0, DEVICE, 0x6000, false), BLOCKED);
	assert_int_equal(set(5, 0, 0, P2M_HOLE), 0);
	assert_int_equal(set(6, 0, 0, P2M_HOLE), 0);
	assert_int_equal(test_dma(0, DEVICE, 0x5000, true), BLOCKED);
	hv_free_pages(pages, 1);
	finish();
}

/* Nothing to do costs no command, and several changes cost one. */
static void test_flushes_are_few(void **state)
{
	unsigned int before;

	(void)state;
	start(&variants[0]);
	assert_int_equal(set(1, 0, FAR, P2M_RAM), 0);
	before = test_iommu[0].commands;
	assert_int_equal(set(2, 0, FAR, P2M_RAM), 0);
	assert_int_equal(set(1, 0, FAR, P2M_RAM), 0);
	p2m_flush(dom);
	assert_int_equal(test_iommu[0].commands, before);
	write_lock(&dom->p2m.lock);
	assert_int_equal(p2m_set(dom, GFN(1), 0, INVALID_MFN, P2M_HOLE), 0);
	write_unlock(&dom->p2m.lock);
	before = test_iommu[0].commands;
	p2m_flush(dom);
	p2m_flush(dom);
	assert_int_equal(test_iommu[0].commands, before + 1);
	assert_int_equal(set(2, 0, 0, P2M_HOLE), 0);
	finish();
}

/* Memory beyond what a unit of three levels reaches does not get in its way. */
static void test_beyond_width(void **state)
{
	(void)state;
	start(&variants[1]);
	assert_int_equal(iommu_assign(dom, DEVICE), 0);
	assert_int_equal(set(1 << 27, 0, FAR, P2M_RAM), 0);
	assert_int_equal(set(3, 0, FAR + 3, P2M_RAM), 0);
	assert_int_equal(test_dma(0, DEVICE, 1ULL << 39, false), BLOCKED);
	assert_int_equal(test_dma(0, DEVICE, 0x3000, false), FRAME(FAR + 3));
	poll();
	expect_log("at 8000000000 blocked: beyond the width of addresses", 1);
	assert_int_equal(set(1 << 27, 0, 0, P2M_HOLE), 0);
	assert_int_equal(set(3, 0, 0, P2M_HOLE), 0);
	finish();
}

/* --- Regions firmware reserves --------------------------------------------- */

#define RESERVED 0x100000u		/* frames, above RAM */

static void test_reserved(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		machine(&variants[v], 1);
		info.reserved[0] = (struct iommu_region){ 0x1000, 0x3000 };	/* RAM */
		info.reserved[1] = (struct iommu_region){ (RESERVED + 5) * PAGE_SIZE,
							  (RESERVED + 7) * PAGE_SIZE };
		info.nr_reserved = 2;
		iommu_init(&info, 1, false);
		expect_log("1 regions that firmware reserves for devices are ignored", 1);
		dom = make_domain(1, PAGES, 1000);
		dom->privileged = true;
		assert_int_equal(iommu_domain_init(dom), 0);
		iommu_assign_all(dom);
#define REACHES(gfn) (test_dma(0, DEVICE, (uint64_t)(gfn) << 12, true) == (uint64_t)(gfn) << 12)
		assert_false(REACHES(1));
		assert_false(REACHES(RESERVED + 4));
		assert_true(REACHES(RESERVED + 5));
		assert_true(REACHES(RESERVED + 6));
		assert_false(REACHES(RESERVED + 7));
		/* CPUs' view of it is no matter, nor are big pieces around it. */
		assert_int_equal(set(RESERVED, 9, RESERVED, P2M_MMIO), 0);
		assert_true(REACHES(RESERVED + 5));
		assert_int_equal(set(RESERVED, 9, 0, P2M_HOLE), 0);
		assert_int_equal(set(RESERVED, 18, RESERVED, P2M_MMIO), 0);
		assert_true(REACHES(RESERVED + 6));
		assert_false(REACHES(RESERVED + 7));
		assert_int_equal(set(RESERVED, 18, 0, P2M_HOLE), 0);
		/* Something else mapped there, and gone: not that stays. */
		assert_int_equal(set(RESERVED + 6, 0, FAR, P2M_GRANT_RW), 0);
		assert_int_equal(test_dma(0, DEVICE, (RESERVED + 6) * PAGE_SIZE, true),
				 FAR * PAGE_SIZE);
		assert_int_equal(set(RESERVED + 6, 0, 0, P2M_HOLE), 0);
		assert_true(REACHES(RESERVED + 6));
		finish();
	}
}

static void test_reserved_is_for_the_privileged(void **state)
{
	(void)state;
	machine(&variants[0], 1);
	info.reserved[0] = (struct iommu_region){ RESERVED * PAGE_SIZE,
						  (RESERVED + 1) * PAGE_SIZE };
	info.nr_reserved = 1;
	iommu_init(&info, 1, false);
	dom = make_domain(1, PAGES, 1000);
	assert_int_equal(iommu_domain_init(dom), 0);
	iommu_assign_all(dom);
	assert_false(REACHES(RESERVED));
	finish();
}

/* --- Faults ---------------------------------------------------------------- */

static void test_fault_is_told(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		bool amd = variants[v].kind == TEST_AMDVI;

		start(&variants[v]);
		assert_int_equal(iommu_assign(dom, 0x1a3), 0);
		assert_int_equal(iommu_assign(NULL, 0x1a2), 0);
		assert_int_equal(test_dma(0, 0x1a3, 0xabc000, true), BLOCKED);
		assert_int_equal(test_dma(0, 0x1a3, 0xdef000, false), BLOCKED);
		assert_int_equal(test_dma(0, 0x1a4, 0xfed000, true), BLOCKED);
		assert_int_equal(test_dma(0, 0x1a2, 0x777000, true), BLOCKED);
		poll();
		expect_log("iommu: device 0000:01:14.3 of test: write at abc000 blocked", 1);
		expect_log(amd ? "blocked: not mapped" : "blocked: not writable", amd ? 3 : 1);
		expect_log("iommu: device 0000:01:14.3 of test: read at def000 blocked", 1);
		expect_log("iommu: device 0000:01:14.4 of nobody: write at fed000 blocked", 1);
		/* Taken away on purpose: silent. */
		expect_log("0000:01:14.2", 0);
		poll();
		expect_log("blocked", 3);
		finish();
	}
}

static void test_cut_off(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		unsigned int reads = 0;

		start(&variants[v]);
		iommu_assign_all(dom);
		assert_int_equal(set(5, 0, FAR, P2M_RAM), 0);
		for (unsigned int i = 0; i < 31; i++) {
			test_dma(0, 0x108, 0x9000, false);
			poll();
		}
		expect_log("device 0000:01:01.0 of test: read at 9000 blocked", 8);
		expect_log("cut off", 0);
		assert_int_not_equal(test_dma(0, 0x108, 0x5000, false), BLOCKED);
		test_dma(0, 0x108, 0x9000, false);
		poll();
		expect_log("device 0000:01:01.0 of test is cut off", 1);
		assert_int_equal(test_dma(0, 0x108, 0x5000, false), BLOCKED);
		/* The others of the domain go on, and it is silent now. */
		assert_int_not_equal(test_dma(0, 0x109, 0x5000, false), BLOCKED);
		poll();
		expect_log("blocked", 8);
		/* Given anew it works. */
		assert_int_equal(iommu_assign(dom, 0x108), 0);
		assert_int_not_equal(test_dma(0, 0x108, 0x5000, false), BLOCKED);
		/* A fault every second is no reason: not that many come together. */
		for (unsigned int i = 0; i < 100; i++) {
			test_dma(0, 0x110, 0x9000, false);
			test_advance_ns(900000000);
			poll();
			reads += test_dma(0, 0x110, 0x5000, false) != BLOCKED;
		}
		assert_int_equal(reads, 100);
		assert_int_equal(set(5, 0, 0, P2M_HOLE), 0);
		finish();
	}
}

/* A device without an owner has nothing to lose, but does not fill the log. */
static void test_nobodys_faults(void **state)
{
	(void)state;
	start(&variants[0]);
	for (unsigned int i = 0; i < 50; i++) {
		test_dma(0, 0x120, 0x9000, true);
		poll();
	}
	expect_log("0000:01:04.0 of nobody", 8);
	expect_log("cut off", 0);
	finish();
}

/* More devices at fault than are remembered; the loudest is found all the same. */
static void test_many_suspects(void **state)
{
	(void)state;
	start(&variants[9]);
	iommu_assign_all(dom);
	for (unsigned int i = 0; i < 40; i++) {
		test_dma(0, 0x150, 0x9000, true);
		test_dma(0, (uint16_t)(i + 0x30), 0x9000, true);
		poll();
	}
	expect_log("0000:01:0a.0 of test is cut off", 1);
	expect_log("is cut off", 1);
	finish();
}

/* More faults than a unit can note. */
static void test_overflow(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		start(&variants[v]);
		iommu_assign_all(dom);
		for (unsigned int round = 0; round < 3; round++) {
			for (unsigned int i = 0; i < 400; i++)
				test_dma(0, (uint16_t)(round * 8), 0x9000, true);
			poll();
		}
		for (unsigned int round = 0; round < 3; round++) {
			char name[32];

			snprintf(name, sizeof(name), "0000:00:%02x.0 of test: write", round);
			assert_true(count_log(name) >= 4);
		}
		finish();
	}
}

static void test_amd_without_log(void **state)
{
	(void)state;
	start(&variants[9]);
	poll();
	expect_log("does not say which", 0);
	unit_function.config[7] = 0x08;		/* PCI status: signalled an abort */
	poll();
	expect_log("the unit at fed90000 blocked a device and does not say which", 1);
	unit_function.config[7] = 0;
	poll();
	expect_log("does not say which", 1);
	/* An event that is not about a device. */
	iommu.unit[0].amd.events[0][0] = 5ULL << 60 | 0x77;
	iommu_write64(&iommu.unit[0], 0x2018, 16);
	poll();
	expect_log("the unit at fed90000 reports 5000000000000077", 1);
	finish();
}

/* --- Units that fail ------------------------------------------------------- */

/* In a process of its own: the lock stays held. */
static bool panics(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		test_iommu[0].hang = true;
		_exit(TEST_PANICS(set(5, 0, 0, P2M_HOLE)) &&
		      strstr(test_panic_text, "does not answer") ? 0 : 1);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void test_stuck_unit(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		machine(&variants[v], 1);
		test_iommu[0].hang = true;
		iommu_init(&info, 1, false);
		assert_false(iommu_present());
		expect_log("the unit at fed90000 does not work", 1);
		expect_log("no IOMMU: devices can reach all of memory", 1);
		assert_int_equal(page_free_count(), free_at_start);
		test_machine_fini();
		test_iommu_reset();

		/* Once it works that is the end: frames would go while devices use them. */
		start(&variants[v]);
		assert_int_equal(set(5, 0, FAR, P2M_RAM), 0);
		assert_true(panics());
		assert_int_equal(set(5, 0, 0, P2M_HOLE), 0);
		finish();
	}
}

static void test_second_unit_fails(void **state)
{
	(void)state;
	machine(&variants[0], 2);
	test_iommu[1].hang = true;
	iommu_init(&info, 1, false);
	assert_false(iommu_present());
	assert_int_equal(page_free_count(), free_at_start);
	/* The first is off again, so devices work as they do without. */
	assert_int_equal(test_dma(0, DEVICE, 0x5000, true), 0x5000);
	assert_int_equal(iommu_domain_init(NULL), -XEN_ENODEV);
	assert_true(iommu_owns(TEST_IOMMU_BASE));
	test_machine_fini();
	test_iommu_reset();
}

static void test_two_units(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		machine(&variants[v], 2);
		info.unit[1].segment = 1;
		info.unit[1].rid = 0x18;
		iommu_init(&info, 1, false);
		assert_true(iommu_present());
		dom = make_domain(1, PAGES, 1000);
		assert_int_equal(iommu_domain_init(dom), 0);
		assert_int_equal(set(5, 0, FAR, P2M_RAM), 0);
		assert_int_equal(iommu_assign(dom, 1u << 16 | DEVICE), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x5000, true), BLOCKED);
		assert_int_equal(test_dma(1, DEVICE, 0x5000, true), FAR * PAGE_SIZE);
		iommu_assign_all(dom);
		assert_int_equal(test_dma(0, DEVICE, 0x5000, true), FAR * PAGE_SIZE);
		/* Both forget. */
		assert_int_equal(set(5, 0, 0, P2M_HOLE), 0);
		assert_int_equal(test_dma(0, DEVICE, 0x5000, true), BLOCKED);
		assert_int_equal(test_dma(1, DEVICE, 0x5000, true), BLOCKED);
		poll();
		expect_log("device 0001:01:01.0 of test: write", 1);
		finish();
	}
}

static void test_bad_firmware(void **state)
{
	(void)state;
	/* Registers in RAM, no registers, a unit without page tables of a width we know. */
	for (unsigned int i = 0; i < 4; i++) {
		machine(&variants[0], 1);
		info.unit[0].base = (uint64_t[]){ 0x5000, TEST_IOMMU_BASE + 0x10000,
						  TEST_IOMMU_BASE, TEST_IOMMU_BASE }[i];
		if (i == 2)
			test_iommu_add(0, TEST_VTD, TEST_VTD_CAP & ~(3ULL << 9), TEST_VTD_ECAP);
		info.broken = i == 3;
		iommu_init(&info, 1, false);
		assert_false(iommu_present());
		assert_int_equal(page_free_count(), free_at_start);
		expect_log("no IOMMU: devices can reach all of memory", 1);
		test_machine_fini();
		test_iommu_reset();
	}
}

static void test_option_and_absence(void **state)
{
	(void)state;
	machine(&variants[0], 1);
	hv_options.iommu = false;
	iommu_init(&info, 1, false);
	assert_false(iommu_present());
	expect_log("no IOMMU (iommu=no): devices can reach all of memory", 1);
	/* Still nobody's. */
	assert_true(iommu_owns(TEST_IOMMU_BASE));
	test_machine_fini();
	machine(&variants[0], 0);
	info.kind = IOMMU_NONE;
	iommu_init(&info, 1, false);
	assert_false(iommu_present());
	expect_log("no IOMMU: devices can reach all of memory", 1);
	test_machine_fini();
	test_iommu_reset();
}

/* Every allocation fails in turn; nothing stays. */
static void test_out_of_memory(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		bool done = false;

		for (unsigned int n = 1; !done; n++) {
			machine(&variants[v], 1);
			page_fail_after = n;
			iommu_init(&info, 1, false);
			done = page_fail_after;
			page_fail_after = 0;
			if (!iommu_present())
				assert_int_equal(page_free_count(), free_at_start);
			test_machine_fini();
			test_iommu_reset();
		}
		machine(&variants[v], 1);
		info.reserved[0] = (struct iommu_region){ RESERVED * PAGE_SIZE,
							  (RESERVED + 1) * PAGE_SIZE };
		info.nr_reserved = 1;
		iommu_init(&info, 1, false);
		dom = make_domain(1, PAGES, 1000);
		dom->privileged = true;
		for (unsigned int n = 1; ; n++) {
			uint64_t before = page_free_count();
			int rc;

			page_fail_after = n;
			rc = iommu_domain_init(dom);
			page_fail_after = 0;
			if (!rc)
				break;
			assert_int_equal(rc, -XEN_ENOMEM);
			assert_null(dom->iommu);
			assert_int_equal(page_free_count(), before);
		}
		if (variants[v].kind == TEST_VTD) {
			page_fail_after = 1;
			assert_int_equal(iommu_assign(dom, DEVICE), -XEN_ENOMEM);
			page_fail_after = 0;
			assert_int_equal(test_dma(0, DEVICE, RESERVED * PAGE_SIZE, true), BLOCKED);
		}
		finish();
	}
}

static void test_too_many_domains(void **state)
{
	struct domain *all[MAX_MAPS];

	(void)state;
	start(&variants[0]);
	for (unsigned int i = 2; i < MAX_MAPS; i++) {
		all[i] = make_domain((domid_t)i, PAGES, 1000);
		assert_int_equal(iommu_domain_init(all[i]), 0);
	}
	all[0] = make_domain(50, PAGES, 1000);
	assert_int_equal(iommu_domain_init(all[0]), -XEN_ENOSPC);
	end_domain(all[3]);
	assert_int_equal(iommu_domain_init(all[0]), 0);
	for (unsigned int i = 0; i < MAX_MAPS; i++) {
		if (i != 1 && i != 3)
			end_domain(all[i]);
	}
	finish();
}

/* --- Registers, rules, interrupts ------------------------------------------ */

static void test_registers_are_kept(void **state)
{
	(void)state;
	for (unsigned int v = 0; v < ARRAY_SIZE(variants); v++) {
		bool amd = variants[v].kind == TEST_AMDVI;

		start(&variants[v]);
		assert_true(iommu_owns(TEST_IOMMU_BASE));
		assert_int_equal(iommu_owns(TEST_IOMMU_BASE + 0x1000), amd);
		assert_int_equal(iommu_owns(TEST_IOMMU_BASE + 0x3000), amd);
		assert_false(iommu_owns(TEST_IOMMU_BASE + 0x4000));
		assert_false(iommu_owns(TEST_IOMMU_BASE - 0x1000));
		assert_int_equal(iommu_is_unit(0x10), amd);
		assert_false(iommu_is_unit(0x11));
		assert_false(iommu_is_unit(0x10010));
		if (!amd) {
			/* On, in its own way and no more in firmware's. */
			assert_int_equal(test_iommu_reg(0, 0x18) >> 32 & 0x82000000, 0x80000000);
			assert_int_equal((uint32_t)test_iommu_reg(0, 0x60) >> 31, 0);
		}
		finish();
	}
	/* Fault records behind the first page. */
	start(&(struct variant){ "far", TEST_VTD, TEST_VTD_CAP | 0x120ULL << 24, TEST_VTD_ECAP });
	assert_true(iommu_owns(TEST_IOMMU_BASE + 0x1000));
	assert_false(iommu_owns(TEST_IOMMU_BASE + 0x2000));
	test_dma(0, DEVICE, 0x4000, true);
	poll();
	expect_log("0000:01:01.0 of nobody: write at 4000 blocked: given to nobody", 1);
	finish();
}

static void test_amd_rules(void **state)
{
	uint64_t (*devices)[4];

	(void)state;
	machine(&variants[9], 1);
	info.rule[0] = (struct iommu_rule){ .unit = 0, .flags = 0xd7, .first = 0x20, .last = 0x21 };
	info.rule[1] = (struct iommu_rule){ .unit = 1, .flags = 0xff, .first = 0x30, .last = 0x30 };
	info.nr_rules = 2;
	info.unit[0].flags = 0xff;
	iommu_init(&info, 1, false);
	devices = iommu.unit[0].amd.devices;
	assert_int_equal(devices[0x20][0], 3);
	assert_int_equal(devices[0x21][1], 1ULL << 40);
	assert_int_equal(devices[0x21][2], 7ULL << 56 | 3ULL << 62);
	assert_int_equal(devices[0x22][2] | devices[0x30][2], 0);
	assert_int_equal(test_iommu_reg(0, 0x18) & 0xf02, 0xf02);
	dom = make_domain(1, PAGES, 1000);
	assert_int_equal(iommu_domain_init(dom), 0);
	iommu_assign_all(dom);
	assert_int_equal(devices[0x21][1], 1ULL << 40 | 1);
	assert_int_equal(devices[0x21][2], 7ULL << 56 | 3ULL << 62);
	finish();
}

#define REMAP_ECAP (TEST_VTD_ECAP | 3ULL << 3)

static void start_remapping(unsigned int cpus, bool x2apic, uint64_t ecap, unsigned int ioapic)
{
	machine(&(struct variant){ "remaps", TEST_VTD, TEST_VTD_CAP, ecap }, 1);
	info.remaps_interrupts = true;
	info.ioapic[0] = (struct iommu_ioapic){ .id = (uint8_t)ioapic, .rid = 0xf0f8 };
	info.nr_ioapics = 1;
	iommu_init(&info, cpus, x2apic);
	dom = make_domain(1, PAGES, 1000);
}

static void test_remapping(void **state)
{
	unsigned int before;
	int i;

	(void)state;
	start_remapping(3, false, REMAP_ECAP, 2);
	expect_log("interrupts remapped", 1);
	assert_int_equal(iommu_ioapic_rid(2), 0xf0f8);
	assert_int_equal(iommu_ioapic_rid(3), -1);
	/* 4 pages for 3 CPUs, 1024 entries. */
	assert_int_equal(test_iommu_reg(0, 0xb8), table_paddr(iommu.remap) | 9);
	assert_true(test_iommu_reg(0, 0x18) >> 32 & 1u << 25);
	i = iommu_remap(2, 5, 0x41, 0x108, false);
	assert_int_equal(i, 0x241);
	assert_int_equal(iommu.remap[i][0], 5ULL << 40 | 0x41 << 16 | 1);
	assert_int_equal(iommu.remap[i][1], 1 << 18 | 0x108);
	before = test_iommu[0].commands;
	assert_int_equal(iommu_remap(2, 5, 0x41, 0x108, false), i);
	assert_int_equal(test_iommu[0].commands, before);
	assert_int_equal(iommu_remap(2, 5, 0x41, 0xf0f8, true), i);
	assert_int_equal(test_iommu[0].commands, before + 1);
	assert_int_equal(iommu.remap[i][0], 5ULL << 40 | 0x41 << 16 | 1 << 4 | 1);
	assert_int_equal(iommu.remap[i][1], 1 << 18 | 0xf0f8);
	finish();
	start_remapping(1, true, REMAP_ECAP, 2);
	assert_int_equal(test_iommu_reg(0, 0xb8), table_paddr(iommu.remap) | 1 << 11 | 7);
	i = iommu_remap(0, 0x12345, 0x41, 0x108, false);
	assert_int_equal(iommu.remap[i][0] >> 32, 0x12345);
	finish();
}

static void test_no_remapping(void **state)
{
	(void)state;
	/* No such unit; not by IDs of 32 bits; no queue; an IO-APIC of nobody; AMD-Vi. */
	for (unsigned int i = 0; i < 5; i++) {
		uint64_t ecap = i == 0 ? TEST_VTD_ECAP : i == 1 ? REMAP_ECAP & ~(1ULL << 4) :
				i == 2 ? REMAP_ECAP & ~2ULL : REMAP_ECAP;

		if (i == 4)
			start(&variants[9]);
		else
			start_remapping(2, i == 1, ecap, i == 3 ? 7 : 2);
		expect_log("interrupts not remapped", 1);
		assert_int_equal(iommu_remap(0, 0, 0x41, 0x108, false), -1);
		finish();
	}
}

/* --- Tables of the firmware ------------------------------------------------ */

static const uint8_t dmar[] = {
	[37] = 1,			/* remaps interrupts */
	/* A unit with an IO-APIC, a bridge with a path of two, and another unit. */
	[48] = 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0,
	3, 8, 0, 0, 2, 0xf0, 0x1f, 0, 2, 8, 0, 0, 0, 0, 1, 0,
	[80] = 0, 0, 16, 0, 1, 0, 7, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0,
	/* Reserved: a page and a bit; then one that ends before it begins. */
	[96] = 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0x10, 0xd0, 0, 0, 0, 0,
	0, 0x11, 0x10, 0xd0, 0, 0, 0, 0,
	[120] = 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
	/* Something new. */
	[144] = 9, 0, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
};

static void test_dmar(void **state)
{
	(void)state;
	memset(&info, 0, sizeof(info));
	dmar_parse(&info, dmar, sizeof(dmar));
	assert_int_equal(info.kind, IOMMU_VTD);
	assert_false(info.broken);
	assert_true(info.remaps_interrupts);
	assert_int_equal(info.nr_units, 2);
	assert_int_equal(info.unit[0].base, 0xfed90000);
	assert_int_equal(info.unit[0].size, 0x1000);
	assert_int_equal(info.unit[1].base, 0xfed91000);
	assert_int_equal(info.unit[1].segment, 7);
	assert_int_equal(info.nr_ioapics, 1);
	assert_int_equal(info.ioapic[0].id, 2);
	assert_int_equal(info.ioapic[0].rid, 0xf0f8);
	assert_int_equal(info.nr_reserved, 1);
	assert_int_equal(info.reserved[0].start, 0xd0100000);
	assert_int_equal(info.reserved[0].end, 0xd0102000);
	assert_int_equal(info.dropped, 1);
}

static void test_dmar_damage(void **state)
{
	static const struct { uint32_t at; uint8_t v; } damage[] = {
		{ 50, 0 }, { 50, 15 }, { 51, 0xff },	/* lengths of blocks */
		{ 65, 0 }, { 65, 5 }, { 73, 40 },	/* and of scopes */
		{ 56, 0x80 }, { 146, 40 },
	};
	uint8_t t[48 + 40 * 16] = { 0 };

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(damage); i++) {
		uint8_t copy[sizeof(dmar)];

		memcpy(copy, dmar, sizeof(dmar));
		copy[damage[i].at] = damage[i].v;
		memset(&info, 0, sizeof(info));
		dmar_parse(&info, copy, sizeof(copy));
		assert_true(info.broken);
	}
	/* More units than there is room for: those left out would let all through. */
	for (unsigned int i = 0; i < 40; i++)
		memcpy(t + 48 + i * 16, (uint8_t[]){ 0, 0, 16, 0, 0, 0, 0, 0, 0, (uint8_t)(i << 4),
						     (uint8_t)(1 + (i >> 4)) }, 11);
	for (unsigned int n = 31; n < 34; n++) {
		memset(&info, 0, sizeof(info));
		dmar_parse(&info, t, 48 + n * 16);
		assert_int_equal(info.broken, n > MAX_IOMMUS);
		assert_true(info.nr_units <= MAX_IOMMUS);
	}
	/* The other kind of table as well. */
	ivrs_parse(&info, t, 48);
	assert_true(info.broken);
}

static const uint8_t ivrs[] = {
	/* The old form: all, some with rules; a range of an alias; an IO-APIC. */
	[48] = 0x10, 0x0f, 64, 0, 0x02, 0, 0x40, 0, 0, 0, 0xd8, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0,
	0, 0, 0, 0,
	2, 0x08, 0, 0xd7, 3, 0x10, 0, 0x20, 4, 0xff, 0, 0,
	67, 0, 2, 0, 0, 0, 0, 0, 4, 0xff, 3, 0, 72, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
	/* The new form of the same, with a name of two letters. */
	[112] = 0x40, 0x0f, 72, 0, 0x02, 0, 0x40, 0, 0, 0, 0xd8, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0,
	[152] = 240, [173] = 2, 'a', 'b', 1, 0, 0, 0, 0, 0, 0, 0,
	/* A region all may use. */
	[184] = 0x20, 1, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0xd0, 0, 0, 0, 0,
	0, 0x30, 0, 0, 0, 0, 0, 0,
};

static void test_ivrs(void **state)
{
	uint8_t copy[sizeof(ivrs)];

	(void)state;
	memset(&info, 0, sizeof(info));
	ivrs_parse(&info, ivrs, 112);
	assert_int_equal(info.kind, IOMMU_AMDVI);
	assert_false(info.broken);
	assert_int_equal(info.nr_units, 1);
	assert_int_equal(info.unit[0].base, 0xfed80000);
	assert_int_equal(info.unit[0].size, 0x4000);
	assert_int_equal(info.unit[0].rid, 2);
	assert_int_equal(info.unit[0].capability, 0x40);
	assert_int_equal(info.unit[0].flags, 0xf);
	assert_int_equal(info.unit[0].last_rid, 0x3ff);
	assert_int_equal(info.nr_rules, 2);
	assert_int_equal(info.rule[0].flags, 0xd7);
	assert_int_equal(info.rule[0].first, 8);
	assert_int_equal(info.rule[0].last, 8);
	assert_int_equal(info.rule[1].first, 0x10);
	assert_int_equal(info.rule[1].last, 0xff);
	memset(&info, 0, sizeof(info));
	ivrs_parse(&info, ivrs, sizeof(ivrs));
	assert_false(info.broken);
	assert_int_equal(info.nr_units, 1);
	assert_int_equal(info.unit[0].last_rid, 0xffff);
	assert_int_equal(info.reserved[0].start, 0xd0200000);
	assert_int_equal(info.reserved[0].end, 0xd0203000);
	/* Lengths that lead out of the block or nowhere. */
	for (unsigned int i = 0; i < 3; i++) {
		memcpy(copy, ivrs, sizeof(copy));
		copy[(unsigned int[]){ 50, 173, 114 }[i]] = (uint8_t[]){ 66, 200, 0 }[i];
		memset(&info, 0, sizeof(info));
		ivrs_parse(&info, copy, sizeof(copy));
		assert_true(info.broken);
	}
}

/* Any bytes in tables of exactly their size. */
static void test_random_tables(void **state)
{
	(void)state;
	rng_state = 11;
	for (unsigned int round = 0; round < 20000; round++) {
		bool amd = rng(2);
		uint32_t len = amd ? sizeof(ivrs) : sizeof(dmar), cut = rng(4) ? len : rng(len);
		uint8_t *t = malloc(cut + !cut);

		assert_non_null(t);
		memcpy(t, amd ? ivrs : dmar, cut);
		for (unsigned int n = rng(6); n && cut; n--)
			t[rng(cut)] = (uint8_t)(rng(2) ? rng(256) : 0xff);
		memset(&info, 0, sizeof(info));
		(amd ? ivrs_parse : dmar_parse)(&info, t, cut);
		assert_true(info.nr_units <= MAX_IOMMUS && info.nr_rules <= MAX_IOMMU_RULES);
		for (unsigned int i = 0; i < info.nr_reserved; i++) {
			const struct iommu_region *r = &info.reserved[i];

			assert_true(r->start < r->end && !((r->start | r->end) & ~PAGE_MASK));
		}
		free(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocked_until_given),
		cmocka_unit_test(test_amd_range),
		cmocka_unit_test(test_two_domains),
		cmocka_unit_test(test_follows_p2m),
		cmocka_unit_test(test_released_pages),
		cmocka_unit_test(test_others_pages),
		cmocka_unit_test(test_flushes_are_few),
		cmocka_unit_test(test_beyond_width),
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_reserved_is_for_the_privileged),
		cmocka_unit_test(test_fault_is_told),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_nobodys_faults),
		cmocka_unit_test(test_many_suspects),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_amd_without_log),
		cmocka_unit_test(test_stuck_unit),
		cmocka_unit_test(test_second_unit_fails),
		cmocka_unit_test(test_two_units),
		cmocka_unit_test(test_bad_firmware),
		cmocka_unit_test(test_option_and_absence),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_too_many_domains),
		cmocka_unit_test(test_registers_are_kept),
		cmocka_unit_test(test_amd_rules),
		cmocka_unit_test(test_remapping),
		cmocka_unit_test(test_no_remapping),
		cmocka_unit_test(test_dmar),
		cmocka_unit_test(test_dmar_damage),
		cmocka_unit_test(test_ivrs),
		cmocka_unit_test(test_random_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
