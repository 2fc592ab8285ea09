/* SPDX-License-Identifier: MIT */
/*
 * The IOMMU driver's way to the hardware: registers, caches, what is RAM.
 */
#include "port/metal/iommu_private.h"
#include "port/metal/metal.h"

#define CACHE_LINE 64u

bool iommu_map_regs(struct iommu_unit *u, uint64_t size)
{
	if (iommu_in_ram(u->desc->base, u->desc->base + size))
		return false;
	u->regs = map_device(u->desc->base, size);
	u->regs_size = size;
	return true;
}

#define REGISTER(type, read, write)						\
	type read(const struct iommu_unit *u, uint32_t reg)			\
	{									\
		return *(volatile type *)(u->regs + reg);			\
	}									\
	void write(struct iommu_unit *u, uint32_t reg, type v)			\
	{									\
		*(volatile type *)(u->regs + reg) = v;				\
	}
REGISTER(uint32_t, iommu_read32, iommu_write32)
REGISTER(uint64_t, iommu_read64, iommu_write64)

void iommu_write_back(const void *p, size_t len)
{
	const char *line = (const char *)((uintptr_t)p & ~(CACHE_LINE - 1UL));

	for (; line < (const char *)p + len; line += CACHE_LINE)
		__asm__ volatile("clflush %0" : : "m"(*line) : "memory");
	__asm__ volatile("mfence" : : : "memory");
}

bool iommu_in_ram(paddr_t start, paddr_t end)
{
	for (unsigned int i = 0; i < boot.ram.nr; i++) {
		if (start < boot.ram.r[i].end && boot.ram.r[i].start < end)
			return true;
	}
	return start < image_pa(image_end) && image_pa(image_start) < end;
}

void iommu_relax(void)
{
	port_relax();
}
