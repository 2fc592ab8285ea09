/* SPDX-License-Identifier: MIT */
/*
 * What devices may reach: VT-d and AMD-Vi, implemented by the port.
 *
 * A domain with an IOMMU map (d->iommu) has a page table for devices beside
 * its nested one; p2m.c keeps the two in step. Every device starts blocked and
 * reaches memory through the map of the domain it was given to. What it tries
 * beyond that is blocked, logged, and costs it its access when it goes on.
 *
 * Locks: the tables of a map belong to the write side of its domain's p2m
 * lock; units, devices and what waits for a flush to LOCK_IOMMU, taken inside.
 */
#ifndef HOSPES_IOMMU_H
#define HOSPES_IOMMU_H

#include "hospes/types.h"

struct domain;
struct iommu_map;

#define DMA_NONE 0u
#define DMA_READ 1u
#define DMA_WRITE 2u

/* A PCI function: segment, bus, device, function. */
#define SBDF(seg, bus, dev, fn) \
	((uint32_t)(seg) << 16 | (uint32_t)(bus) << 8 | (uint32_t)(dev) << 3 | (uint32_t)(fn))

/* Are devices confined? Constant from before the first domain on. */
bool iommu_present(void);

/* Is there a register of an IOMMU in that page? No domain may have it. */
bool iommu_owns(paddr_t page);

/* Is that function an IOMMU itself? No domain may configure it. */
bool iommu_is_unit(uint32_t sbdf);

/*
 * Gives @d an empty map, before it has any memory; it follows the p2m from
 * then on. A privileged domain's has the regions that firmware reserves for
 * devices in it. -XEN_ENODEV without an IOMMU, -XEN_ENOSPC, -XEN_ENOMEM.
 */
int iommu_domain_init(struct domain *d) __must_check;

/*
 * Blocks all devices of @d and frees its map. Takes the p2m lock. When it
 * returns no device uses the domain's memory. Fine for a domain without one.
 */
void iommu_domain_destroy(struct domain *d);

/*
 * Gives a function to @d, which has a map, or (NULL) to nobody: then it is blocked
 * silently. One that was cut off for its faults works again. -XEN_ENOMEM,
 * -XEN_ENODEV: no unit for it.
 */
int iommu_assign(struct domain *d, uint32_t sbdf) __must_check;

/* Gives @d, which has a map, all functions that nobody has, present or not. */
void iommu_assign_all(struct domain *d);

/*
 * For p2m.c, write lock held and the map there. Sets what devices may do with
 * [gfn, gfn + 2^order), order 0, 9 or 18, instead of what they could; frames
 * that go away are in use until iommu_flush(). -XEN_ENOMEM leaves all as it was.
 */
int iommu_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, unsigned int rights)
	__must_check;

/* Splits what maps @gfn, so that iommu_set() of order 0 there needs no memory. -XEN_ENOMEM. */
int iommu_split(struct domain *d, gfn_t gfn) __must_check;

/* No device uses what was taken out of @d's map before this call. Any lock below LOCK_IOMMU. */
void iommu_flush(struct domain *d);

#endif
