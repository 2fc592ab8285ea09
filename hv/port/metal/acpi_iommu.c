/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables about IOMMUs: DMAR (VT-d) and IVRS (AMD-Vi).
 *
 * A table that does not hold together is marked broken, as a unit that stays
 * unknown would let its devices through.
 */
#include "port/metal/firmware.h"

#define FIRST_BLOCK 48u		/* of both tables */
#define DMAR_REGS 0x1000u
#define IVRS_REGS 0x4000u

/* Some bytes of a table: a block in it, an entry in a block. */
struct span {
	const uint8_t *bytes;
	uint32_t length;
};

/* A little-endian field; 0 outside. */
static uint64_t get(const struct span *s, uint32_t off, unsigned int size)
{
	uint64_t v = 0;

	if (range_within(off, size, s->length))
		memcpy(&v, s->bytes + off, size);
	return v;
}

/* The part of @s at @off with that length, which must be there and hold @min bytes. */
static bool part(const struct span *s, uint32_t off, uint64_t length, uint32_t min,
		 struct span *out)
{
	*out = (struct span){ s->bytes + off, (uint32_t)length };
	return length >= min && range_within(off, length, s->length);
}

static struct iommu_desc *add_unit(struct iommu_info *info, paddr_t base, uint64_t size,
				   uint64_t segment)
{
	struct iommu_desc *u = info->unit;

	for (; u < &info->unit[info->nr_units]; u++) {
		if (u->base == base)
			return u;
	}
	if (info->nr_units == MAX_IOMMUS || !base || base % PAGE_SIZE || base >> 52) {
		info->broken = true;
		return NULL;
	}
	info->nr_units++;
	*u = (struct iommu_desc){
		.base = base, .size = size, .segment = (uint16_t)segment,
	};
	return u;
}

static void add_reserved(struct iommu_info *info, paddr_t start, uint64_t length)
{
	struct iommu_region *r = &info->reserved[info->nr_reserved];
	paddr_t end;

	if (!length || length > MAX_RESERVED_SIZE || add_overflows(start, length, &end) ||
	    end >> 48 || info->nr_reserved == MAX_RESERVED) {
		info->dropped++;
		return;
	}
	*r = (struct iommu_region){ ALIGN_DOWN(start, PAGE_SIZE), ALIGN_UP(end, PAGE_SIZE) };
	info->nr_reserved++;
}

/* --- DMAR ---------------------------------------------------------------- */

enum { DMAR_UNIT = 0, DMAR_RESERVED = 1, SCOPE_IOAPIC = 3 };

/* Which requester ID IO-APICs have, to know who sends which interrupt. */
static void parse_scopes(struct iommu_info *info, const struct span *block, unsigned int unit)
{
	struct span s;

	for (uint32_t off = 16; off < block->length; off += s.length) {
		if (!part(block, off, get(block, off + 1, 1), 6, &s)) {
			info->broken = true;
			return;
		}
		if (get(&s, 0, 1) != SCOPE_IOAPIC || info->nr_ioapics == MAX_IOAPICS)
			continue;
		info->ioapic[info->nr_ioapics++] = (struct iommu_ioapic){
			.id = (uint8_t)get(&s, 4, 1), .unit = (uint8_t)unit,
			.rid = (uint16_t)(get(&s, 5, 1) << 8 | get(&s, 6, 1) << 3 | get(&s, 7, 1)),
		};
	}
}

static void parse_dmar_block(struct iommu_info *info, const struct span *b)
{
	uint64_t type = get(b, 0, 2), base = get(b, 8, 8);
	struct iommu_desc *u;

	if (type == DMAR_UNIT) {
		u = add_unit(info, base, DMAR_REGS, get(b, 6, 2));
		if (u)
			parse_scopes(info, b, (unsigned int)(u - info->unit));
	} else if (type == DMAR_RESERVED) {
		add_reserved(info, base, get(b, 16, 8) - base + 1);
	}
}

void dmar_parse(struct iommu_info *info, const uint8_t *table, uint32_t length)
{
	const struct span t = { table, length };
	struct span b;

	info->broken |= info->kind != IOMMU_NONE;
	info->kind = IOMMU_VTD;
	info->remaps_interrupts = get(&t, 37, 1) & 1;
	for (uint32_t off = FIRST_BLOCK; off < length; off += b.length) {
		if (!part(&t, off, get(&t, off + 2, 2), 16, &b)) {
			info->broken = true;
			return;
		}
		parse_dmar_block(info, &b);
	}
}

/* --- IVRS ---------------------------------------------------------------- */

/* Entries of a unit's block; those left out change nothing for us. */
enum { DEV_ALL = 1, DEV_SELECT = 2, DEV_START = 3, DEV_END = 4, DEV_ALIAS = 66,
       DEV_ALIAS_START = 67, DEV_EXT = 70, DEV_EXT_START = 71 };

/* How long an entry of that type is; one type says so itself. */
static uint64_t entry_length(const struct span *block, uint32_t off)
{
	uint64_t type = get(block, off, 1);

	return type == 240 ? 22 + get(block, off + 21, 1) : 4ULL << (type >> 6);
}

static void add_rule(struct iommu_info *info, struct iommu_desc *u, uint64_t first, uint64_t last,
		     uint64_t flags)
{
	u->last_rid = (uint16_t)MAX(u->last_rid, last);
	if (!flags || info->nr_rules == MAX_IOMMU_RULES)
		return;
	info->rule[info->nr_rules++] = (struct iommu_rule){
		.unit = (uint8_t)(u - info->unit), .flags = (uint8_t)flags,
		.first = (uint16_t)first, .last = (uint16_t)last,
	};
}

static void parse_devices(struct iommu_info *info, struct iommu_desc *u, const struct span *block,
			  uint32_t off)
{
	uint64_t start = 0, start_flags = 0;
	struct span e;

	for (; off < block->length; off += e.length) {
		uint64_t type = get(block, off, 1), rid = get(block, off + 1, 2);
		uint64_t flags = get(block, off + 3, 1);

		if (!part(block, off, entry_length(block, off), 4, &e)) {
			info->broken = true;
			return;
		}
		if (type == DEV_ALL) {
			add_rule(info, u, 0, UINT16_MAX, flags);
		} else if (type == DEV_SELECT || type == DEV_ALIAS || type == DEV_EXT) {
			add_rule(info, u, rid, rid, flags);
		} else if (type == DEV_START || type == DEV_ALIAS_START || type == DEV_EXT_START) {
			start = rid;
			start_flags = flags;
		} else if (type == DEV_END) {
			add_rule(info, u, start, rid, start_flags);
		}
	}
}

static void parse_ivrs_block(struct iommu_info *info, const struct span *b)
{
	uint64_t type = get(b, 0, 1);
	struct iommu_desc *u;

	if (type == 0x10 || type == 0x11 || type == 0x40) {
		u = add_unit(info, get(b, 8, 8), IVRS_REGS, get(b, 16, 2));
		if (!u)
			return;
		u->rid = (uint16_t)get(b, 4, 2);
		u->capability = (uint8_t)get(b, 6, 1);
		u->flags = (uint8_t)get(b, 1, 1);
		parse_devices(info, u, b, type == 0x10 ? 24 : 40);
	} else if (type >= 0x20 && type <= 0x22) {
		add_reserved(info, get(b, 16, 8), get(b, 24, 8));
	}
}

void ivrs_parse(struct iommu_info *info, const uint8_t *table, uint32_t length)
{
	const struct span t = { table, length };
	struct span b;

	info->broken |= info->kind != IOMMU_NONE;
	info->kind = IOMMU_AMDVI;
	for (uint32_t off = FIRST_BLOCK; off < length; off += b.length) {
		if (!part(&t, off, get(&t, off + 2, 2), 24, &b)) {
			info->broken = true;
			return;
		}
		parse_ivrs_block(info, &b);
	}
}
