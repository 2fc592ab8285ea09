/* SPDX-License-Identifier: MIT */
/*
 * Walks of guest page tables in every paging mode, rights against a formula,
 * accessed and dirty bits, copies across pages, pins.
 */
#include "unit.h"

#include "fake_domains.h"
#include "hospes/guest_access.h"
#include "hospes/lib.h"

#define PG (1ULL << 31)
#define WP (1ULL << 16)
#define PSE (1ULL << 4)
#define PAE (1ULL << 5)
#define LMA (1ULL << 10)
#define NXE (1ULL << 11)
#define SMEP (1ULL << 20)

#define P 1ULL
#define W 2ULL
#define U 4ULL
#define A 0x20ULL
#define D 0x40ULL
#define PS 0x80ULL
#define NX (1ULL << 63)

#define GUEST_PAGES 1024u

static struct domain *dom;
static struct vcpu *vcpu;
static uint64_t rng_state;

static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(rng_state >> 33) % below;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(4096, 1);
	page_fail_after = 0;
	rng_state = 3;
	dom = make_domain(1, 4096, 0);
	vcpu = dom->vcpus[0];
	/* 2 MiB in one mapping, then 512 frames of their own. */
	assert_int_equal(p2m_populate(dom, GFN(0), 9), 0);
	for (unsigned int i = 512; i < GUEST_PAGES; i++)
		assert_int_equal(p2m_populate(dom, GFN((i ^ 1)), 0), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	end_domain(dom);
	test_machine_fini();
	return 0;
}

static void *at(gpa_t gpa)
{
	struct p2m_entry e = p2m_get(&dom->p2m, gpa_to_gfn(gpa));

	assert_int_equal(e.type, P2M_RAM);
	return (uint8_t *)mfn_to_virt(e.mfn) + gpa % PAGE_SIZE;
}

static void put64(gpa_t gpa, uint64_t val)
{
	memcpy(at(gpa), &val, sizeof(val));
}

static uint64_t get64(gpa_t gpa)
{
	uint64_t val;

	memcpy(&val, at(gpa), sizeof(val));
	return val;
}

static void put32(gpa_t gpa, uint32_t val)
{
	memcpy(at(gpa), &val, sizeof(val));
}

static void mode(uint64_t cr0, uint64_t cr4, uint64_t efer, uint64_t cr3)
{
	struct guest_system *s = &test_vcpu(vcpu)->sys;

	s->cr0 = cr0;
	s->cr4 = cr4;
	s->efer = efer;
	s->cr3 = cr3;
}

static int walk(gva_t va, unsigned int access, gpa_t *gpa, uint32_t *pf)
{
	int rc;

	*gpa = 0xdead;
	*pf = 0xdead;
	read_lock(&dom->p2m.lock);
	rc = guest_walk(vcpu, va, access, gpa, pf);
	read_unlock(&dom->p2m.lock);
	return rc;
}

static void expect(gva_t va, unsigned int access, gpa_t want)
{
	uint32_t pf;
	gpa_t gpa;

	assert_int_equal(walk(va, access, &gpa, &pf), 0);
	assert_int_equal(gpa, want);
}

static void expect_fault(gva_t va, unsigned int access, uint32_t code)
{
	uint32_t pf;
	gpa_t gpa;

	assert_int_equal(walk(va, access, &gpa, &pf), -XEN_EFAULT);
	assert_int_equal(pf, code);
}

/* --- Modes -------------------------------------------------------------- */

static void test_off(void **state)
{
	(void)state;
	mode(1, 0, 0, 0);
	expect(0x1234, WALK_WRITE, 0x1234);
	expect(0x500001234, 0, 0x1234);
}

/* Tables at 0x1000..: PML4, PDPT, PD, PT; va 0xffff800000000000 + x. */
#define KERNEL 0xffff800000000000ULL

static void make_long(uint64_t flags)
{
	for (gpa_t t = 0x1000; t < 0x5000; t += PAGE_SIZE)
		memset(at(t), 0, PAGE_SIZE);
	put64(0x1000 + 256 * 8, 0x2000 | flags);
	put64(0x2000, 0x3000 | flags);
	put64(0x3000, 0x4000 | flags);
	put64(0x4000 + 3 * 8, 0x200000 | flags);
	put64(0x3000 + 5 * 8, 0xa00000 | flags | PS);
	put64(0x2000 + 7 * 8, 0x40000000 | flags | PS);
	mode(PG | WP | 1, PAE, LMA | NXE, 0x1000);
}

static void test_long(void **state)
{
	(void)state;
	make_long(P | W);
	expect(KERNEL + 0x3123, 0, 0x200123);
	expect(KERNEL + 0x3123, WALK_WRITE, 0x200123);
	expect(KERNEL + 5 * 0x200000 + 0x12345, 0, 0xa12345);
	expect(KERNEL + 7 * 0x40000000ull + 0x1234567, 0, 0x41234567);
	expect_fault(KERNEL + 0x4000, 0, 0);
	expect_fault(KERNEL + 0x4000, WALK_WRITE | WALK_USER, 2 | 4);
	expect_fault(KERNEL + 0x200000, 0, 0);
	expect_fault(KERNEL + (1ull << 39), 0, 0);
	expect_fault(KERNEL ^ (1ull << 63), 0, 0);	/* not canonical */
	expect_fault(KERNEL + 0x3000, WALK_USER, 1 | 4);
	/* Bits of the root that are not its address. */
	mode(PG | WP | 1, PAE, LMA | NXE, 0x1000 | 0xfff | NX);
	expect(KERNEL + 0x3123, 0, 0x200123);
	/* A table where there is no memory, or which the CPU may not write. */
	put64(0x2000, (GUEST_PAGES << PAGE_SHIFT) | P | W);
	expect_fault(KERNEL + 0x3000, 0, 0);
	mode(PG | WP | 1, PAE, LMA | NXE, 1ull << 50);
	expect_fault(KERNEL + 0x3000, 0, 0);
}

static void test_reserved(void **state)
{
	(void)state;
	make_long(P | W);
	put64(0x1000 + 256 * 8, 0x2000 | P | W | PS);
	expect_fault(KERNEL + 0x3000, 0, 1 | 8);
	put64(0x1000 + 256 * 8, P | W | PS);
	expect_fault(KERNEL + 0x3000, 0, 1 | 8);
	make_long(P | W);
	put64(0x3000 + 5 * 8, 0xa02000 | P | W | PS);
	expect_fault(KERNEL + 5 * 0x200000, WALK_WRITE, 1 | 2 | 8);
	put64(0x3000 + 5 * 8, 0xa01000 | P | W | PS);	/* PAT is not reserved */
	expect(KERNEL + 5 * 0x200000, 0, 0xa00000);
	put64(0x4000 + 3 * 8, 0x200000 | P | W | NX);
	expect(KERNEL + 0x3000, 0, 0x200000);
	mode(PG | WP | 1, PAE, LMA, 0x1000);
	expect_fault(KERNEL + 0x3000, 0, 1 | 8);
}

static void test_pae(void **state)
{
	(void)state;
	for (gpa_t t = 0x1000; t < 0x4000; t += PAGE_SIZE)
		memset(at(t), 0, PAGE_SIZE);
	/* Pointers anywhere at 32 bytes; bits 5 and 6 may be set in them. */
	put64(0x1040 + 3 * 8, 0x2000 | P | A | D);
	put64(0x2000 + 511 * 8, 0x3000 | P | W | U);
	put64(0x3000 + 511 * 8, 0x200000 | P | W | U | NX);
	put64(0x2000 + 1 * 8, (3ull << 32) | P | W | U | PS);
	mode(PG | WP | 1, PAE, NXE, 0x1040 | 0x18);
	expect(0xfffff678, WALK_USER | WALK_WRITE, 0x200678);
	expect(0x5fffff678, WALK_USER, 0x200678);
	expect(0xc0212345, WALK_USER, (3ull << 32) | 0x12345);
	expect_fault(0x3ffff678, 0, 0);
	assert_int_equal(get64(0x1040 + 3 * 8), 0x2000 | P | A | D);
	put64(0x1040, 0x2000 | P);
	expect(0x00212345, 0, (3ull << 32) | 0x12345);
	assert_int_equal(get64(0x1040), 0x2000 | P);
}

static void test_legacy(void **state)
{
	(void)state;
	memset(at(0x1000), 0, PAGE_SIZE);
	memset(at(0x2000), 0, PAGE_SIZE);
	put32(0x1000 + 4 * 768, 0x2000 | P | W | U);
	put32(0x2000 + 4 * 5, 0x200000 | P | W);
	/* PSE-36: bits 13 and up are address bits 32 and up. */
	put32(0x1000 + 4 * 1, 0x00c00000 | 1 << 14 | P | W | PS);
	mode(PG | WP | 1, PSE, 0, 0x1fff);
	expect(0xc0005abc, WALK_WRITE, 0x200abc);
	expect(0x00712345, 0, (2ull << 32) | 0xf12345);
	expect_fault(0xc0005abc, WALK_USER, 1 | 4);
	expect_fault(0xc0006000, WALK_WRITE, 2);
	expect_fault(0x01000000, 0, 0);
	assert_int_equal(get64(0x2000 + 4 * 4) >> 32, 0x200000 | P | W | A | D);
	/* Without PSE the bit means nothing: a table with no memory behind it. */
	mode(PG | WP | 1, 0, 0, 0x1000);
	expect_fault(0x00712345, 0, 0);
}

/* --- Rights ------------------------------------------------------------- */

/* What the manuals say, written down another way than the code does. */
static bool may(uint64_t upper, uint64_t leaf, unsigned int access, bool wp)
{
	bool user_page = (upper & U) && (leaf & U), writable = (upper & W) && (leaf & W);

	if (access & WALK_USER) {
		if (!user_page)
			return false;
		if ((access & WALK_WRITE) && !writable)
			return false;
	} else if ((access & WALK_WRITE) && !writable && wp) {
		return false;
	}
	return true;
}

static void test_rights(void **state)
{
	static const unsigned int accesses[] = {
		0, WALK_WRITE, WALK_USER, WALK_USER | WALK_WRITE,
	};

	(void)state;
	for (unsigned int i = 0; i < 64 * 8 * ARRAY_SIZE(accesses); i++) {
		unsigned int access = accesses[i / 512], level = rng(3);
		bool wp = i & 1, smep = i & 2, nxe = i & 4;
		uint64_t upper = (i & 8 ? W : 0) | (i & 16 ? U : 0) | (i & 32 && nxe ? NX : 0);
		uint64_t leaf = (i & 64 ? W : 0) | (i & 128 ? U : 0) | (i & 256 && nxe ? NX : 0);
		bool legacy = !((upper | leaf) & NX) && !nxe && rng(2);
		uint32_t code = 1 | (access & WALK_WRITE ? 2 : 0) | (access & WALK_USER ? 4 : 0);
		gva_t va = legacy ? 0x3000 : KERNEL + 0x3000;

		if (legacy) {
			put32(0x1000, 0x2000 | P | (uint32_t)upper);
			put32(0x2000 + 4 * 3, 0x200000 | P | (uint32_t)leaf);
			mode(PG | (wp ? WP : 0), PSE | (smep ? SMEP : 0), 0, 0x1000);
		} else {
			make_long(P | W | U);
			/* One of the three upper levels takes rights away. */
			put64(level ? 0x1000u + level * 0x1000u : 0x1000u + 256 * 8,
			      (0x2000 + level * 0x1000) | P | upper);
			put64(0x4000 + 3 * 8, 0x200000 | P | leaf);
			mode(PG | (wp ? WP : 0), PAE | (smep ? SMEP : 0), LMA | (nxe ? NXE : 0),
			     0x1000);
		}
		if (may(upper, leaf, access, wp)) {
			expect(va, access, 0x200000);
		} else {
			expect_fault(va, access, code);
			/* Nothing was accessed. */
			if (!legacy)
				assert_int_equal(get64(0x4000 + 3 * 8), 0x200000 | P | leaf);
		}
	}
}

static void test_accessed_dirty(void **state)
{
	(void)state;
	make_long(P | W);
	expect(KERNEL + 0x3000, 0, 0x200000);
	assert_int_equal(get64(0x1000 + 256 * 8), 0x2000 | P | W | A);
	assert_int_equal(get64(0x2000), 0x3000 | P | W | A);
	assert_int_equal(get64(0x3000), 0x4000 | P | W | A);
	assert_int_equal(get64(0x4000 + 3 * 8), 0x200000 | P | W | A);
	expect(KERNEL + 0x3000, WALK_WRITE, 0x200000);
	assert_int_equal(get64(0x3000), 0x4000 | P | W | A);
	assert_int_equal(get64(0x4000 + 3 * 8), 0x200000 | P | W | A | D);
}

/* --- Copies ------------------------------------------------------------- */

/* Maps the 256 pages from @gpa on at KERNEL + 1 MiB, in an order of their own. */
static void map_buffer(gpa_t gpa)
{
	for (unsigned int i = 0; i < 256; i++)
		put64(0x4000 + (256 + i) * 8, (gpa + ((i * 37 % 256) << PAGE_SHIFT)) | P | W);
}

static void test_copy(void **state)
{
	static uint8_t shadow[256 * 4096], buf[256 * 4096];
	gva_t base = KERNEL + 0x100000;

	(void)state;
	make_long(P | W);
	map_buffer(0x200000);
	for (unsigned int i = 0; i < sizeof(shadow); i++)
		shadow[i] = (uint8_t)(i * 31 + (i >> 12));
	assert_int_equal(copy_to_guest(vcpu, base, shadow, sizeof(shadow)), 0);
	for (unsigned int i = 0; i < 400; i++) {
		size_t len = rng(4) ? rng(64) : rng(20000), off = rng(sizeof(shadow) - 20000);
		size_t got;

		assert_int_equal(copy_from_guest(vcpu, buf, base + off, len), 0);
		assert_memory_equal(buf, shadow + off, len);
		for (size_t b = 0; b < len; b++)
			shadow[off + b] = (uint8_t)rng(256);
		assert_int_equal(copy_to_guest(vcpu, base + off, shadow + off, len), 0);
		assert_int_equal(guest_fetch(vcpu, base + off, buf, 15, &got), 0);
		assert_int_equal(got, 15);
		assert_memory_equal(buf, shadow + off, 15);
	}
	/* Page by page in physical order. */
	for (unsigned int i = 0; i < 256; i++)
		assert_memory_equal(at(0x200000 + ((i * 37 % 256) << PAGE_SHIFT)),
				    shadow + i * 4096, 4096);
	/* Up to the last byte, not beyond; wrapping round the address space. */
	assert_int_equal(copy_from_guest(vcpu, buf, base + sizeof(shadow) - 8, 8), 0);
	assert_int_equal(copy_from_guest(vcpu, buf, base + sizeof(shadow) - 8, 9), -XEN_EFAULT);
	assert_int_equal(copy_to_guest(vcpu, base + sizeof(shadow) - 8, buf, 9), -XEN_EFAULT);
	assert_int_equal(copy_from_guest(vcpu, buf, UINT64_MAX - 3, 8), -XEN_EFAULT);
	assert_int_equal(copy_from_guest(vcpu, buf, 0, 0), 0);
	lock_check_none();
}

/* What was translated before is seen anew after every kind of change. */
static void test_memo(void **state)
{
	gva_t va = KERNEL + 0x3008, big = KERNEL + 5 * 0x200000 + 8;
	uint64_t val, changes;

	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		put64(0x200008 + i * PAGE_SIZE, i);
	make_long(P | W);
	put64(0x3000 + 5 * 8, 0x200000 | P | W | PS);
	for (unsigned int i = 0; i < 200; i++) {
		unsigned int page = rng(8), change = rng(9);
		gfn_t frame = GFN(change == 5 ? 0x200 + page : 3);
		int want = 0, want_write = 0;

		put64(0x4000 + 3 * 8, (0x200000 + page * PAGE_SIZE) | P | W | (rng(2) ? A | D : 0));
		mode(PG | WP | 1, PAE, LMA | NXE, 0x1000);
		assert_int_equal(copy_from_guest(vcpu, &val, va, 8), 0);
		assert_int_equal(val, page);
		assert_int_equal(copy_to_guest(vcpu, va, &val, 8), 0);
		assert_int_equal(copy_from_guest(vcpu, &val, big, 8), 0);
		assert_int_equal(val, 0);
		/* A frame that no walk came by goes and comes without a trace. */
		changes = dom->p2m.changes;
		assert_int_equal(p2m_release(dom, GFN(GUEST_PAGES - 1), 1), 0);
		assert_int_equal(p2m_populate(dom, GFN(GUEST_PAGES - 1), 0), 0);
		assert_int_equal(dom->p2m.changes, changes);
		switch (change) {
		case 0:		/* gone, or not writable, at some level */
			want = want_write = -XEN_EFAULT;
			put64((gpa_t[]){ 0x1800, 0x2000, 0x3000, 0x4018 }[rng(4)], 0);
			break;
		case 1:
			want_write = -XEN_EFAULT;
			put64(0x4000 + 3 * 8, (0x200000 + page * PAGE_SIZE) | P);
			break;
		case 2:
			want_write = -XEN_EFAULT;
			put64(0x2000, 0x3000 | P);
			break;
		case 3:		/* which a mode without WP does not mind */
			put64(0x2000, 0x3000 | P);
			mode(PG | 1, PAE, LMA | NXE, 0x1000);
			break;
		case 4:		/* another root */
			want = want_write = -XEN_EFAULT;
			mode(PG | WP | 1, PAE, LMA | NXE, 0x5000);
			break;
		case 5:		/* the frame behind it, or one of a table, goes */
		case 6:
			want = want_write = -XEN_EFAULT;
			assert_int_equal(p2m_release(dom, frame, 1), 0);
			break;
		case 7:		/* NX without NXE is reserved */
			put64(0x4000 + 3 * 8, (0x200000 + page * PAGE_SIZE) | P | W | NX);
			assert_int_equal(copy_from_guest(vcpu, &val, va, 8), 0);
			want = want_write = -XEN_EFAULT;
			mode(PG | WP | 1, PAE, LMA, 0x1000);
			break;
		default:
			break;
		}
		assert_int_equal(copy_from_guest(vcpu, &val, va, 8), want);
		val = page;
		assert_int_equal(copy_to_guest(vcpu, va, &val, 8), want_write);
		if (change == 5 || change == 6) {
			assert_int_equal(p2m_populate(dom, frame, 0), 0);
			put64(0x200008 + page * PAGE_SIZE, page);
		}
		make_long(P | W);
		put64(0x3000 + 5 * 8, 0x200000 | P | W | PS);
		assert_int_equal(get64(0x200008 + page * PAGE_SIZE), page);
	}
}

static void test_fetch(void **state)
{
	uint8_t buf[16];
	size_t got;

	(void)state;
	/* User page, no rights of any kind but presence; nothing changes in it. */
	make_long(P | W);
	put64(0x4000 + 3 * 8, 0x200000 | P | NX);
	mode(PG | WP | 1, PAE | SMEP, LMA | NXE, 0x1000);
	memset(at(0x200000), 0x90, PAGE_SIZE);
	assert_int_equal(guest_fetch(vcpu, KERNEL + 0x3ff8, buf, 15, &got), -XEN_EFAULT);
	assert_int_equal(got, 8);
	assert_int_equal(buf[7], 0x90);
	assert_int_equal(get64(0x4000 + 3 * 8), 0x200000 | P | NX);
	assert_int_equal(guest_fetch(vcpu, KERNEL + 0x4000, buf, 15, &got), -XEN_EFAULT);
	assert_int_equal(got, 0);
	read_lock(&dom->p2m.lock);
	assert_ptr_equal(guest_code(vcpu, KERNEL + 0x3ff8, &got), at(0x200ff8));
	assert_int_equal(got, 8);
	assert_null(guest_code(vcpu, KERNEL + 0x4000, &got));
	read_unlock(&dom->p2m.lock);
	mode(PG | WP | 1, 0, 0, 0x1000);
	put32(0x1000, 0x2000 | P);
	put32(0x2000 + 12, 0x200000 | P);
	assert_int_equal(guest_fetch(vcpu, 0x3000, buf, 15, &got), 0);
	assert_int_equal(get64(0x2000 + 8) >> 32, 0x200000 | P);
}

/* What lies behind the address decides too. */
static void test_types(void **state)
{
	static const struct { enum p2m_type type; bool read, write; } rows[] = {
		{ P2M_HOLE, 0, 0 }, { P2M_RAM, 1, 1 }, { P2M_RAM_RO, 1, 0 }, { P2M_SHARED, 1, 1 },
		{ P2M_GRANT_RW, 1, 1 }, { P2M_GRANT_RO, 1, 0 }, { P2M_FOREIGN, 1, 1 },
		{ P2M_MMIO, 0, 0 },
	};
	void *page = hv_alloc_pages(0);
	uint32_t val;

	(void)state;
	mode(1, 0, 0, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		int read = rows[i].read ? 0 : -XEN_EFAULT, write = rows[i].write ? 0 : -XEN_EFAULT;

		write_lock(&dom->p2m.lock);
		assert_int_equal(p2m_set(dom, GFN(0x5000), 0, virt_to_mfn(page), rows[i].type), 0);
		write_unlock(&dom->p2m.lock);
		assert_int_equal(copy_from_guest(vcpu, &val, 0x5000008, 4), read);
		assert_int_equal(copy_to_guest(vcpu, 0x5000008, &val, 4), write);
		assert_int_equal(guest_phys_write(dom, 0x5000008, &val, 4), write);
	}
	hv_free_pages(page, 0);
}

static void test_phys(void **state)
{
	static uint8_t a[9000], b[9000];

	(void)state;
	for (unsigned int i = 0; i < sizeof(a); i++)
		a[i] = (uint8_t)rng(256);
	assert_int_equal(guest_phys_write(dom, 0x1ff123, a, sizeof(a)), 0);
	assert_true(test_guest_read(dom, 0x1ff123, b, sizeof(b)));
	assert_memory_equal(a, b, sizeof(a));
	assert_memory_equal(at(0x200000), a + 0xedd, 4096);
	assert_int_equal(guest_phys_write(dom, 0x3ff000, a, sizeof(a)), -XEN_EFAULT);
	assert_int_equal(guest_phys_write(dom, UINT64_MAX - 10, b, 20), -XEN_EFAULT);
	assert_int_equal(guest_phys_write(dom, 1ull << 60, b, 20), -XEN_EFAULT);
}

static void test_pin(void **state)
{
	struct guest_pin pin = { 0 };

	(void)state;
	guest_unpin(&pin);
	assert_int_equal(guest_pin(dom, GFN(GUEST_PAGES), &pin), -XEN_EINVAL);
	assert_int_equal(guest_pin(dom, GFN(3), &pin), 0);
	assert_ptr_equal(pin.va, at(0x3000));
	assert_int_equal(atomic_load(&pin.page->refs), 2);
	assert_int_equal(p2m_release(dom, GFN(3), 1), 0);
	strcpy(pin.va, "still ours");
	assert_int_equal(atomic_load(&dom->tot_pages), GUEST_PAGES);
	guest_unpin(&pin);
	assert_null(pin.page);
	assert_int_equal(atomic_load(&dom->tot_pages), GUEST_PAGES - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pae, setup, teardown),
		cmocka_unit_test_setup_teardown(test_legacy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_accessed_dirty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fetch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_types, setup, teardown),
		cmocka_unit_test_setup_teardown(test_phys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pin, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
