/* SPDX-License-Identifier: MIT */
/*
 * Fake IOMMUs: VT-d and AMD-Vi units with registers, queues, fault records and
 * caches that forget only what they are told to. A unit that is not coherent
 * sees memory as it was when it was last written back.
 */
#ifndef HOSPES_TESTIOMMU_H
#define HOSPES_TESTIOMMU_H

#include "port/metal/iommu_private.h"
#include "port/testport.h"

#define TEST_IOMMUS 2u
#define TEST_IOMMU_BASE 0xfed90000ULL	/* of unit 0; the next ones follow at 64 KiB */

struct test_iommu {
	enum { TEST_VTD = 1, TEST_AMDVI } kind;
	uint64_t cap, ecap;	/* AMD-Vi: word of the PCI capability; features */
	bool hang;		/* takes no command any more */
	unsigned int commands;	/* invalidations so far, waits not counted */
	unsigned int written_back; /* times */
};

extern struct test_iommu test_iommu[TEST_IOMMUS];

/* Usual capabilities: 48 bits, all page sizes, queue, coherent. */
#define TEST_VTD_CAP (0x20ULL << 24 | 1ULL << 10 | 3ULL << 34 | 1ULL << 39 | 3ULL << 40 |	\
		      9ULL << 48 | 3ULL << 54)
#define TEST_VTD_ECAP (3ULL | 0x10ULL << 8)

/* Forgets all; units of that kind with these registers. After test_machine_init(). */
void test_iommu_reset(void);
void test_iommu_add(unsigned int nr, int kind, uint64_t cap, uint64_t ecap);

/* A device behind unit @nr reads or writes: where it gets to, ~0 when it is blocked. */
paddr_t test_dma(unsigned int nr, uint16_t rid, uint64_t address, bool write);

/* A register as it stands. */
uint64_t test_iommu_reg(unsigned int nr, uint32_t at);

/* What counts as RAM, for iommu_in_ram(): all of the machine's unless set. */
extern paddr_t test_ram_start, test_ram_end;

#endif
