/* SPDX-License-Identifier: MIT */
/*
 * What boot loaders and firmware hand over, as pure logic: it builds in unit
 * tests and fuzzers too.
 *
 * Context: the boot CPU, once. Input: every table is taken for hostile; it
 * is reached only through a phys_map_fn, and every length is checked against it.
 */
#ifndef HOSPES_METAL_FIRMWARE_H
#define HOSPES_METAL_FIRMWARE_H

#include "hospes/lib.h"
#include "hospes/port.h"

/* Makes [start, start + len) readable; NULL when that cannot be. */
typedef const void *(*phys_map_fn)(paddr_t start, uint64_t len);

/* Copies @len bytes out, however they are aligned. */
static inline bool __must_check phys_read(phys_map_fn map, paddr_t start, void *to, size_t len)
{
	const void *from = map(start, len);

	if (!from)
		return false;
	memcpy(to, from, len);
	return true;
}

/* --- Ranges of physical memory: page aligned, disjoint ------------------- */

#define MAX_RANGES 128
#define MAX_RAM (1ULL << 44)	/* frame numbers in struct page have 32 bits */

struct range_list {
	unsigned int nr;
	struct range { paddr_t start, end; } r[MAX_RANGES];
};

/*
 * Adds the whole pages of [start, end), or takes every page that it touches
 * out. Ranges that touch become one. When the list is full memory is lost,
 * never invented.
 */
void ranges_add(struct range_list *l, paddr_t start, paddr_t end);
void ranges_sub(struct range_list *l, paddr_t start, paddr_t end);

/* Is all of it inside one range? Any input. */
bool ranges_contain(const struct range_list *l, paddr_t start, uint64_t size);

/* Takes @size bytes (whole pages) that end at or below @limit; 0 when there are none. */
paddr_t ranges_take(struct range_list *l, uint64_t size, paddr_t limit);

/*
 * Takes room for the frame table. RAM so far above the rest that they cannot
 * hold its part of the table is dropped. *@end: where the table ends; 0: no room.
 */
paddr_t ranges_take_frame_table(struct range_list *l, paddr_t *end);

/* The end of the highest range. */
paddr_t ranges_end(const struct range_list *l);

/* --- Boot protocols ------------------------------------------------------ */

#define BOOT_TEXT_MAX 16384

struct boot_data {
	struct boot_info info;
	phys_map_fn map;
	const char *protocol;
	paddr_t rsdp;		/* 0: not told */
	struct range_list ram;	/* less everything the memory map calls otherwise */
	unsigned int dropped;	/* modules that were outside of RAM or too many */
	unsigned int pass;
	size_t text_used;	/* BOOT_TEXT_MAX - 1: there was too much, it is cut */
	char text[BOOT_TEXT_MAX];
};

/*
 * Reads the information at @info of the protocol that @magic names. Modules
 * are kept only where they lie in RAM and clear of [image, image_end).
 * -XEN_EINVAL: unknown protocol, or no memory map.
 */
int __must_check boot_parse(struct boot_data *b, uint32_t magic, paddr_t info, phys_map_fn map,
			    paddr_t image, paddr_t image_end);

/* --- ACPI ---------------------------------------------------------------- */

#define MAX_IOAPICS 8
#define MAX_SEGMENTS 8

/* What firmware says of IOMMUs (acpi_iommu.c). */
#define MAX_IOMMUS 32u
#define MAX_IOMMU_RULES 64u
#define MAX_RESERVED 32u
#define MAX_RESERVED_SIZE (4ULL << 30)

struct iommu_info {
	enum { IOMMU_NONE, IOMMU_VTD, IOMMU_AMDVI } kind;
	bool broken;			/* there may be more units than these */
	bool remaps_interrupts;
	unsigned int nr_units, nr_reserved, nr_ioapics, nr_rules;
	unsigned int dropped;		/* reserved regions that make no sense, or were too many */
	struct iommu_desc {
		paddr_t base;
		uint64_t size;		/* of its registers, at least */
		uint16_t segment;
		uint16_t rid, last_rid;	/* AMD-Vi: its own; the highest it is responsible for */
		uint8_t capability;	/* where in its configuration space */
		uint8_t flags;
	} unit[MAX_IOMMUS];
	struct iommu_region { paddr_t start, end; } reserved[MAX_RESERVED]; /* for devices */
	struct iommu_ioapic { uint8_t id, unit; uint16_t rid; } ioapic[MAX_IOAPICS];
	struct iommu_rule { uint8_t unit, flags; uint16_t first, last; } rule[MAX_IOMMU_RULES];
};

struct acpi_info {
	unsigned int nr_cpus;
	uint32_t apic_id[MAX_PCPUS];	/* enabled CPUs, no duplicates */
	uint32_t uid[MAX_PCPUS];	/* what other tables call them */
	unsigned int nr_ioapics;
	struct { paddr_t address; uint32_t gsi_base; } ioapic[MAX_IOAPICS];
	struct { uint32_t gsi; uint16_t flags; } isa_irq[16];
	unsigned int nr_segments;	/* of configuration space in memory */
	struct pci_segment segment[MAX_SEGMENTS];
	paddr_t hpet;			/* 0: none; the same for the ports below */
	uint16_t reset_port;
	uint8_t reset_value;
	uint16_t smi_command;		/* where acpi_enable switches ACPI mode on */
	uint8_t acpi_enable;
	uint16_t pm1a_control, pm1b_control;
	bool has_s5;
	uint8_t s5_type[2];		/* what powers off, for PM1a and PM1b */
	unsigned int nr_tables;		/* what the root names, broken ones left out */
	struct boot_acpi_table tables[64];
	struct iommu_info iommu;
};

/*
 * Fills @a from the tables behind @rsdp, or behind the one found in the BIOS
 * area when @rsdp is 0. What is missing or broken leaves the defaults of a PC.
 * -XEN_ENODEV: no usable root table.
 */
int __must_check acpi_parse(struct acpi_info *a, paddr_t rsdp, phys_map_fn map);

/* One such table, header included: any bytes. */
void dmar_parse(struct iommu_info *info, const uint8_t *table, uint32_t length);
void ivrs_parse(struct iommu_info *info, const uint8_t *table, uint32_t length);

/*
 * Starts the units, all devices blocked; says what the machine has. Keeps @info.
 * @nr_cpus: so many can be interrupted. @x2apic: by IDs of 32 bits.
 */
void iommu_init(struct iommu_info *info, unsigned int nr_cpus, bool x2apic);

/*
 * The entry of the table that sends interrupts of requester @rid to @vector of CPU
 * number @to; nobody else's come by it. -1: interrupts are not remapped.
 */
int iommu_remap(unsigned int to, uint32_t apic_id, uint8_t vector, uint16_t rid, bool level);

/* The requester ID of the IO-APIC with that ID; -1: firmware does not say. */
int iommu_ioapic_rid(unsigned int id);

#endif
