/* SPDX-License-Identifier: MIT */
/*
 * What the files of the IOMMU driver share: iommu.c with the domains' maps,
 * vtd.c and amdvi.c with the units, iommu_regs.c with the way to the hardware.
 *
 * Locks: everything about units and devices is under LOCK_IOMMU.
 */
#ifndef HOSPES_METAL_IOMMU_PRIVATE_H
#define HOSPES_METAL_IOMMU_PRIVATE_H

#include "hospes/iommu.h"
#include "hospes/page.h"
#include "hospes/spinlock.h"
#include "port/metal/firmware.h"

#define QUEUE_SLOTS 256u	/* of 16 bytes: a page */
#define RIDS 65536u		/* requester IDs of a segment: bus << 8 | device << 3 | function */
#define MAX_MAPS 16u		/* with 0, which is nobody's; what any VT-d unit can tell apart */

/* A domain's page table for devices, of four levels; its index is the domain ID of units. */
struct iommu_map {
	struct domain *domain;		/* borrowed: lives longer; NULL: not in use */
	uint64_t *root;			/* owned */
	bool reserved;			/* has the regions that firmware reserves */

	/* LOCK_IOMMU; pending is looked at without it. */
	atomic_bool pending;		/* something is, or is being, flushed */
	gfn_t first, last;		/* what changed since the last flush */
	struct page_list retired;	/* tables taken out since; p2m_used is the level */
};

/* The domain ID of a map, or of none. */
#define map_id(m) ((m) ? (unsigned int)((m) - iommu.map) : 0u)

struct iommu_unit {
	const struct iommu_desc *desc;
	volatile uint8_t *regs;
	uint64_t regs_size;
	uint64_t (*queue)[2];		/* owned; commands to the unit */
	uint32_t tail;			/* the slot of the next one */
	uint32_t sequence;		/* of the last wait, */
	uint32_t *done;			/* owned; which the unit writes here */
	union {
		struct {
			uint64_t cap, ecap;
			uint32_t command;	/* what is switched on */
			bool stuck;		/* a command did not end */
			uint64_t (*root)[2], (*shared)[2]; /* owned; the latter for most buses */
		} vtd;
		struct {
			uint64_t (*devices)[4];	/* owned; of last_rid + 1 */
			uint64_t (*events)[2];	/* owned */
			uint64_t features;
		} amd;
	};
};

/* How entries of the page tables look. Bit 8 is ours in both formats: a table is below. */
#define DMA_TABLE 0x100ULL
#define DMA_ADDR 0x000ffffffffff000ULL

struct dma_format {
	uint64_t hole, table, leaf;
	uint64_t next;			/* times the level: where a table is below */
	uint64_t big;			/* maps more than 4 KiB itself */
	uint64_t rights[4];		/* by DMA_* */
};

struct iommu_ops {
	const char *name;
	struct dma_format format;
	/* Maps and reads the registers, starts with all devices blocked. */
	bool (*start)(struct iommu_unit *u);
	void (*stop)(struct iommu_unit *u);
	/* @map is the requester's from now on, NULL: blocked, silently. -XEN_ENOMEM. */
	int (*set_device)(struct iommu_unit *u, uint16_t rid, const struct iommu_map *map);
	/* @to is from now on that of all whose map has the ID @from; one of both is nobody's. */
	void (*move)(struct iommu_unit *u, unsigned int from, const struct iommu_map *to);
	/* The domain ID of its map, 0 for none. */
	unsigned int (*owner)(const struct iommu_unit *u, uint16_t rid);
	/* Begins to forget translations of a map; wait() ends it, false: it does not end. */
	void (*flush)(struct iommu_unit *u, unsigned int id, gfn_t gfn, unsigned int order);
	bool (*wait)(struct iommu_unit *u);
	/* Calls iommu_fault() for what the unit noted since. */
	void (*poll)(struct iommu_unit *u);
	/* Interrupts go through iommu.remap, or no longer; NULL: they never do. */
	bool (*remap)(struct iommu_unit *u, bool on);
	/* The unit reads entry @index again. */
	void (*remap_changed)(struct iommu_unit *u, unsigned int index);
};

extern const struct iommu_ops vtd_ops, amdvi_ops;

/* What the units of this machine have in common; units narrow it at their start. */
struct iommu_host {
	const struct iommu_ops *ops;	/* NULL: no IOMMU in use */
	const struct iommu_info *firmware; /* unit by unit */
	unsigned int nr_units;
	struct iommu_unit unit[MAX_IOMMUS];
	unsigned int leaf_level;	/* highest at which an entry may map memory */
	bool coherent;			/* units see what is in the caches */
	bool flush_new;			/* units remember also what was not mapped */
	struct iommu_map map[MAX_MAPS];
	bool can_remap;			/* all units have interrupt remapping */
	bool x2apic;
	unsigned int remap_order;	/* of the table, in pages */
	uint64_t (*remap)[2];		/* owned; by CPU and vector. NULL: not in use */
};

extern struct iommu_host iommu;

static inline paddr_t table_paddr(const void *p)
{
	return mfn_to_paddr(virt_to_mfn(p)) | ((uintptr_t)p & ~PAGE_MASK);
}

/* A device did what it may not. Lock held. */
void iommu_fault(struct iommu_unit *u, uint16_t rid, uint64_t address, bool write,
		 const char *reason);
/* The unit blocked something and has no record of it. Lock held. */
void iommu_fault_unknown(struct iommu_unit *u);

/* --- The way to the hardware (iommu_regs.c; faked in unit tests) ---------- */

bool iommu_map_regs(struct iommu_unit *u, uint64_t size) __must_check;
uint32_t iommu_read32(const struct iommu_unit *u, uint32_t reg);
uint64_t iommu_read64(const struct iommu_unit *u, uint32_t reg);
void iommu_write32(struct iommu_unit *u, uint32_t reg, uint32_t v);
void iommu_write64(struct iommu_unit *u, uint32_t reg, uint64_t v);
/* Out of the caches, for units that do not look there. */
void iommu_write_back(const void *p, size_t len);
/* Is some of it RAM, or the hypervisor? */
bool iommu_in_ram(paddr_t start, paddr_t end);
/* Between two looks at something that should come to pass. */
void iommu_relax(void);

/* One change of what a unit reads: seen whole, and after what was changed before. */
static inline void dma_write(uint64_t *at, uint64_t v)
{
	__atomic_store_n(at, v, __ATOMIC_RELEASE);
	if (!iommu.coherent)
		iommu_write_back(at, sizeof(*at));
}

#define IOMMU_TIMEOUT_NS 1000000000ULL

/* Waits until @cond, though not for ever: its value. */
#define iommu_await(cond)							\
	({									\
		uint64_t end_ = port_time_ns() + IOMMU_TIMEOUT_NS;		\
		bool ok_;							\
										\
		while (!(ok_ = (cond)) && port_time_ns() < end_)		\
			iommu_relax();						\
		ok_;								\
	})

#endif
