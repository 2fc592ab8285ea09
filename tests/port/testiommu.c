/* SPDX-License-Identifier: MIT */
/*
 * Fake IOMMUs. See testiommu.h.
 */
#include "port/testiommu.h"

#include <stdlib.h>
#include <string.h>

#define CACHED 1024u
#define REGS 0x4000u
#define BLOCKED UINT64_MAX
#define READ 1u
#define WRITE 2u

struct test_iommu test_iommu[TEST_IOMMUS];
paddr_t test_ram_start, test_ram_end;

/* What a unit remembers: requesters, and translations of a domain ID. */
static struct hw {
	uint8_t regs[REGS];
	struct { bool valid; uint64_t e[2]; } requester[RIDS];
	struct cached {
		bool valid;
		unsigned int id, order, rights;
		uint64_t page, to;
	} iotlb[CACHED];
	unsigned int next;
} *hw[TEST_IOMMUS];

static uint8_t *shadow;		/* RAM as units see it that are not coherent */

static unsigned int nr_of(const struct iommu_unit *u)
{
	return (unsigned int)((u->desc->base - TEST_IOMMU_BASE) >> 16) % TEST_IOMMUS;
}

static uint64_t reg(unsigned int nr, uint32_t at)
{
	uint64_t v;

	memcpy(&v, hw[nr]->regs + at, 8);
	return v;
}

static void set_reg(unsigned int nr, uint32_t at, uint64_t v)
{
	memcpy(hw[nr]->regs + at, &v, 8);
}

static uint32_t reg32(unsigned int nr, uint32_t at)
{
	uint32_t v;

	memcpy(&v, hw[nr]->regs + at, 4);
	return v;
}

static void set_reg32(unsigned int nr, uint32_t at, uint32_t v)
{
	memcpy(hw[nr]->regs + at, &v, 4);
}

static bool coherent(unsigned int nr)
{
	return test_iommu[nr].kind == TEST_AMDVI || (test_iommu[nr].ecap & 1);
}

/* A 64-bit word of memory as the unit sees it. */
static uint64_t mem(unsigned int nr, paddr_t at)
{
	uint64_t v;

	if (at / PAGE_SIZE >= frame_table_size)
		abort();
	memcpy(&v, (coherent(nr) ? port_directmap : shadow) + at, 8);
	return v;
}

static uint64_t bits(uint64_t v, unsigned int low, unsigned int nr)
{
	return v >> low & ((1ULL << nr) - 1);
}

/* --- Caches ---------------------------------------------------------------- */

/* Translations wholly inside go: one of a big page needs to be named wholly. */
static void drop(unsigned int nr, bool any_id, uint64_t id, uint64_t page, unsigned int order)
{
	test_iommu[nr].commands++;
	for (unsigned int i = 0; i < CACHED; i++) {
		struct cached *c = &hw[nr]->iotlb[i];

		if ((any_id || c->id == id) && c->page >= page &&
		    (order >= 52 || c->page + (1ULL << c->order) <= page + (1ULL << order)))
			c->valid = false;
	}
}

static void drop_requesters(unsigned int nr, bool all, uint64_t rid)
{
	test_iommu[nr].commands++;
	for (unsigned int i = 0; i < RIDS; i++) {
		if (all || i == rid)
			hw[nr]->requester[i].valid = false;
	}
}

static struct cached *find(unsigned int nr, uint64_t id, uint64_t page)
{
	for (unsigned int i = 0; i < CACHED; i++) {
		struct cached *c = &hw[nr]->iotlb[i];

		if (c->valid && c->id == id && c->page == page >> c->order << c->order)
			return c;
	}
	return NULL;
}

static struct cached *keep(unsigned int nr, struct cached c)
{
	struct cached *slot = &hw[nr]->iotlb[hw[nr]->next++ % CACHED];

	*slot = c;
	return slot;
}

/* --- VT-d ------------------------------------------------------------------ */

static void vtd_command(unsigned int nr, uint64_t low, uint64_t high)
{
	uint64_t scope = bits(low, 4, 2);

	switch (low & 15) {
	case 1:
		drop_requesters(nr, true, 0);
		break;
	case 2:
		drop(nr, scope == 1, bits(low, 16, 16), scope == 3 ? high >> 12 : 0,
		     scope == 3 ? (unsigned int)(high & 63) : 52);
		break;
	case 4:
		test_iommu[nr].commands++;
		break;
	case 5:
		if (bits(low, 5, 1)) {
			uint32_t data = (uint32_t)(low >> 32);

			memcpy(port_directmap + high, &data, 4);
		}
		break;
	default:
		abort();
	}
}

static void vtd_write(unsigned int nr, uint32_t at, uint64_t v)
{
	uint32_t iotlb = (uint32_t)bits(test_iommu[nr].ecap, 8, 10) * 16;
	uint64_t queue = reg(nr, 0x90) & ~0xfffULL;

	if (at == 0x18) {
		set_reg32(nr, 0x1c, (uint32_t)(v & 0xc7000000) | (reg32(nr, 0x1c) & 0x41000000));
	} else if (at == 0x28 && v >> 63) {
		drop_requesters(nr, true, 0);
		set_reg(nr, at, v & ~(1ULL << 63));
	} else if (at == iotlb + 8 && v >> 63) {
		uint64_t scope = bits(v, 60, 2), pages = reg(nr, iotlb);

		drop(nr, scope == 1, bits(v, 32, 16), scope == 3 ? pages >> 12 : 0,
		     scope == 3 ? (unsigned int)(pages & 63) : 52);
		set_reg(nr, at, v & ~(1ULL << 63));
	} else if (at == 0x88) {
		/* As far as it is switched on; the head follows the tail. */
		for (; reg32(nr, 0x1c) & 1u << 26 && reg(nr, 0x80) != v;
		     set_reg(nr, 0x80, (reg(nr, 0x80) + 16) & 0xfff))
			vtd_command(nr, mem(nr, queue + reg(nr, 0x80)),
				    mem(nr, queue + reg(nr, 0x80) + 8));
	} else if (at == 0x34) {
		set_reg32(nr, at, reg32(nr, at) & ~(uint32_t)v);
	}
}

static void vtd_fault(unsigned int nr, uint16_t rid, uint64_t address, bool write, uint64_t why)
{
	uint32_t first = (uint32_t)bits(test_iommu[nr].cap, 24, 10) * 16;
	uint32_t count = (uint32_t)bits(test_iommu[nr].cap, 40, 8) + 1;
	uint32_t status = reg32(nr, 0x34);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = first + i * 16;

		if (reg(nr, at + 8) >> 63)
			continue;
		set_reg(nr, at, address & PAGE_MASK);
		set_reg(nr, at + 8, 1ULL << 63 | (write ? 0 : 1ULL << 62) | why << 32 | rid);
		set_reg32(nr, 0x34, status | 2 | (status & 2 ? 0 : i << 8));
		return;
	}
	set_reg32(nr, 0x34, status | 1);
}

/* The context entry of @rid, or why there is none. */
static uint64_t vtd_requester(unsigned int nr, uint16_t rid, uint64_t e[2])
{
	uint64_t root = mem(nr, (reg(nr, 0x20) & PAGE_MASK) + (rid >> 8) * 16u);

	if (!(root & 1))
		return 1;
	e[0] = mem(nr, (root & PAGE_MASK) + (rid & 255) * 16u);
	e[1] = mem(nr, (root & PAGE_MASK) + (rid & 255) * 16u + 8);
	return e[0] & 1 ? 0 : 2;
}

static uint64_t vtd_walk(unsigned int nr, const uint64_t ctx[2], uint64_t address, struct cached *c)
{
	unsigned int levels = bits(ctx[1], 0, 3) == 2 ? 4 : 3;
	uint64_t e = ctx[0] & PAGE_MASK;

	if (!bits(test_iommu[nr].cap, levels == 4 ? 10 : 9, 1))
		return 3;
	if (address >> (12 + 9 * levels))
		return 4;
	c->rights = READ | WRITE;
	for (unsigned int level = levels; level-- > 0;) {
		bool big;

		e = mem(nr, (e & DMA_ADDR) + bits(address, 12 + 9 * level, 9) * 8);
		big = level && e & 0x80;
		c->rights &= (unsigned int)(e & 3);
		if (!(e & 3))
			return 0;
		if (big && !bits(test_iommu[nr].cap, 33 + level, 1))
			return 0xc;
		if (level && !big)
			continue;
		c->order = 9 * level;
		c->to = (e & DMA_ADDR) >> 12;
		if (c->to & ((1ULL << c->order) - 1))
			return 0xc;
		break;
	}
	return 0;
}

static paddr_t vtd_dma(unsigned int nr, uint16_t rid, uint64_t address, bool write)
{
	uint64_t *e = hw[nr]->requester[rid].e, page = address >> 12, why;
	struct cached *c, walked = { .valid = true };

	if (!(reg32(nr, 0x1c) >> 31))
		return address;
	if (!hw[nr]->requester[rid].valid) {
		why = vtd_requester(nr, rid, e);
		if (why) {
			hw[nr]->requester[rid].valid = bits(test_iommu[nr].cap, 7, 1);
			if (!(why == 2 && e[0] & 2))
				vtd_fault(nr, rid, address, write, why);
			return BLOCKED;
		}
		hw[nr]->requester[rid].valid = true;
	}
	if (!(e[0] & 1))
		return BLOCKED;
	c = find(nr, bits(e[1], 8, 16), page);
	if (!c) {
		why = vtd_walk(nr, e, address, &walked);
		if (why) {
			vtd_fault(nr, rid, address, write, why);
			return BLOCKED;
		}
		walked.id = (unsigned int)bits(e[1], 8, 16);
		walked.page = page >> walked.order << walked.order;
		/* What is not there is remembered only in caching mode. */
		c = walked.rights || bits(test_iommu[nr].cap, 7, 1) ? keep(nr, walked) : &walked;
	}
	if (!(c->rights & (write ? WRITE : READ))) {
		vtd_fault(nr, rid, address, write, write ? 5 : 6);
		return BLOCKED;
	}
	return (c->to + page - c->page) << 12 | (address & 0xfff);
}

/* --- AMD-Vi ---------------------------------------------------------------- */

static void amd_command(unsigned int nr, uint64_t low, uint64_t high)
{
	unsigned int order = 0;

	switch (low >> 60) {
	case 1:
		if (low & 1)
			memcpy(port_directmap + (low & 0x000ffffffffffff8ULL), &high, 8);
		break;
	case 2:
		drop_requesters(nr, false, low & 0xffff);
		break;
	case 3:
		/* The zero above the run of ones ends what is named. */
		if (high & 1)
			order = (unsigned int)__builtin_ctzll(~(high >> 12)) + 1;
		drop(nr, false, bits(low, 32, 16), high >> 12 >> order << order, order);
		break;
	case 8:
		if (!bits(test_iommu[nr].ecap, 6, 1))
			abort();
		drop_requesters(nr, true, 0);
		drop(nr, true, 0, 0, 52);
		break;
	default:
		abort();
	}
}

static void amd_write(unsigned int nr, uint32_t at, uint64_t v)
{
	uint64_t queue = reg(nr, 8) & 0x000ffffffffff000ULL;

	for (; at == 0x2008 && reg(nr, 0x18) & 1u << 12 && reg(nr, 0x2000) != v;
	     set_reg(nr, 0x2000, (reg(nr, 0x2000) + 16) & 0xfff))
		amd_command(nr, mem(nr, queue + reg(nr, 0x2000)),
			    mem(nr, queue + reg(nr, 0x2000) + 8));
	if (at == 0x2020)
		set_reg(nr, at, reg(nr, at) & ~v);
}

static void amd_event(unsigned int nr, uint16_t rid, uint64_t address, bool write, uint64_t code)
{
	uint64_t at = reg(nr, 0x2018), next = (at + 16) & 0xfff;
	uint64_t e[2] = { code << 60 | (write ? 1ULL << 53 : 0) | rid, address };

	if (!(reg(nr, 0x18) & 4) || reg(nr, 0x2020) & 1)
		return;
	if (next == reg(nr, 0x2010)) {
		set_reg(nr, 0x2020, reg(nr, 0x2020) | 1);
		return;
	}
	memcpy(port_directmap + (reg(nr, 0x10) & 0x000ffffffffff000ULL) + at, e, 16);
	set_reg(nr, 0x2018, next);
}

static void amd_walk(unsigned int nr, uint64_t dte, uint64_t address, struct cached *c)
{
	unsigned int level = (unsigned int)bits(dte, 9, 3);
	uint64_t e = dte;

	c->rights = (unsigned int)bits(dte, 61, 2);
	if (level && level < 6 && address >> (12 + 9 * level)) {
		c->rights = 0;
		return;
	}
	if (!level)
		c->to = address >> 12;
	while (level) {
		unsigned int at = level;

		e = mem(nr, (e & DMA_ADDR) + bits(address, 3 + 9 * at, 9) * 8);
		c->rights &= (unsigned int)bits(e, 61, 2);
		level = (unsigned int)bits(e, 9, 3);
		if (!(e & 1) || level >= at) {
			c->rights = c->order = 0;
			return;
		}
		c->order = 9 * (at - 1);
		c->to = (e & DMA_ADDR) >> 12;
	}
}

static paddr_t amd_dma(unsigned int nr, uint16_t rid, uint64_t address, bool write)
{
	uint64_t base = reg(nr, 0), *e = hw[nr]->requester[rid].e, page = address >> 12;
	struct cached *c, walked = { .valid = true };

	if (!(reg(nr, 0x18) & 1))
		return address;
	if (rid >= (bits(base, 0, 9) + 1) * 128) {
		amd_event(nr, rid, address, write, 1);
		return BLOCKED;
	}
	if (!hw[nr]->requester[rid].valid) {
		for (unsigned int i = 0; i < 2; i++)
			e[i] = mem(nr, (base & 0x000ffffffffff000ULL) + rid * 32u + i * 8u);
		hw[nr]->requester[rid].valid = true;
	}
	if (!(e[0] & 1))
		return address;
	c = find(nr, e[1] & 0xffff, page);
	if (!c || !bits(e[0], 9, 3)) {
		amd_walk(nr, e[0], address, &walked);
		walked.id = e[1] & 0xffff;
		walked.page = page >> walked.order << walked.order;
		c = walked.rights || test_iommu[nr].cap & 1u << 26 ? keep(nr, walked) : &walked;
	}
	if (!(c->rights & (write ? WRITE : READ))) {
		if (!bits(e[1], 34, 1))
			amd_event(nr, rid, address, write, 2);
		return BLOCKED;
	}
	return (c->to + page - c->page) << 12 | (address & 0xfff);
}

/* --- For tests ------------------------------------------------------------- */

void test_iommu_reset(void)
{
	memset(test_iommu, 0, sizeof(test_iommu));
	for (unsigned int i = 0; i < TEST_IOMMUS; i++) {
		free(hw[i]);
		hw[i] = NULL;
	}
	free(shadow);
	shadow = NULL;
	test_ram_start = 0;
	test_ram_end = UINT64_MAX;
}

void test_iommu_add(unsigned int nr, int kind, uint64_t cap, uint64_t ecap)
{
	if (!shadow)
		shadow = calloc(frame_table_size, PAGE_SIZE);
	free(hw[nr]);
	hw[nr] = calloc(1, sizeof(*hw[nr]));
	if (!shadow || !hw[nr])
		abort();
	test_ram_end = frame_table_size << PAGE_SHIFT;
	test_iommu[nr] = (struct test_iommu){ .kind = kind, .cap = cap, .ecap = ecap };
	if (kind == TEST_VTD) {
		set_reg(nr, 8, cap);
		set_reg(nr, 0x10, ecap);
		set_reg32(nr, 0x1c, 1u << 31 | 1u << 25);	/* firmware left it on */
		set_reg32(nr, 0x64, 1u << 31);
	} else {
		set_reg(nr, 0x30, ecap);
	}
}

uint64_t test_iommu_reg(unsigned int nr, uint32_t at)
{
	return reg(nr, at);
}

paddr_t test_dma(unsigned int nr, uint16_t rid, uint64_t address, bool write)
{
	return (test_iommu[nr].kind == TEST_VTD ? vtd_dma : amd_dma)(nr, rid, address, write);
}

/* --- The way to the hardware ----------------------------------------------- */

bool iommu_map_regs(struct iommu_unit *u, uint64_t size)
{
	if (iommu_in_ram(u->desc->base, u->desc->base + size) || size > REGS || !hw[nr_of(u)])
		return false;
	u->regs = hw[nr_of(u)]->regs;
	u->regs_size = size;
	return true;
}

uint32_t iommu_read32(const struct iommu_unit *u, uint32_t at)
{
	return reg32(nr_of(u), at);
}

uint64_t iommu_read64(const struct iommu_unit *u, uint32_t at)
{
	return reg(nr_of(u), at);
}

static bool read_only(unsigned int nr, uint32_t at)
{
	if (test_iommu[nr].kind == TEST_VTD)
		return at == 0x08 || at == 0x10 || at == 0x1c || at == 0x34 || at == 0x80;
	return at == 0x30 || at == 0x2020;
}

static void write_reg(unsigned int nr, uint32_t at, uint64_t v, size_t size)
{
	uint32_t first = (uint32_t)bits(test_iommu[nr].cap, 24, 10) * 16;

	if (test_iommu[nr].kind == TEST_VTD && at >= first && at % 16 == 12) {
		if (v >> 31)			/* of a fault record: write 1 to clear */
			set_reg32(nr, at, 0);
		return;
	}
	if (!read_only(nr, at))
		memcpy(hw[nr]->regs + at, &v, size);
	if (!test_iommu[nr].hang)
		(test_iommu[nr].kind == TEST_VTD ? vtd_write : amd_write)(nr, at, v);
}

void iommu_write32(struct iommu_unit *u, uint32_t at, uint32_t v)
{
	write_reg(nr_of(u), at, v, 4);
}

void iommu_write64(struct iommu_unit *u, uint32_t at, uint64_t v)
{
	write_reg(nr_of(u), at, v, 8);
}

void iommu_write_back(const void *p, size_t len)
{
	size_t at = (size_t)((const uint8_t *)p - port_directmap);

	for (unsigned int i = 0; i < TEST_IOMMUS; i++)
		test_iommu[i].written_back++;
	memcpy(shadow + at, p, len);
}

bool iommu_in_ram(paddr_t start, paddr_t end)
{
	return start < test_ram_end && test_ram_start < end;
}

void iommu_relax(void)
{
	test_advance_ns(IOMMU_TIMEOUT_NS / 10);
}
