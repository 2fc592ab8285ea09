/* SPDX-License-Identifier: MIT */
/*
 * A domain's physical address space: guest frame -> machine frame, kept in
 * the very page tables the CPU walks (AMD nested paging format; a VT-x
 * implementation supplies its own entry format through cpu.h).
 *
 * Locks: d->p2m.lock. Readers may rely on a frame they found staying the
 * domain's only while they hold the read side, or after page_get().
 */
#ifndef HOSPES_P2M_H
#define HOSPES_P2M_H

#include "hospes/page.h"
#include "hospes/spinlock.h"

struct domain;
struct pcpu;
struct vcpu;

enum p2m_type {
	P2M_HOLE = 0,		/* nothing: reads all ones, writes dropped */
	P2M_RAM,		/* the domain's own page, one reference held */
	P2M_RAM_RO,		/* own page, not writable */
	P2M_SHARED,		/* a page of the hypervisor's (shared info, grant frames) */
	P2M_GRANT_RW,		/* another domain's page by grant */
	P2M_GRANT_RO,
	P2M_FOREIGN,		/* another domain's page by privilege */
	P2M_MMIO,		/* a device's, uncached */
	P2M_TYPE_COUNT,
};

/* Highest guest frame number + 1 that may be mapped (48-bit addresses). */
#define P2M_MAX_GFN (1ULL << 36)

struct p2m {
	struct rwlock lock;
	uint64_t *root;		/* owned; top level table */
	uint64_t root_paddr;
	uint32_t tables;	/* page table pages in use; lock */
	uint32_t tables_max;	/* the domain's limit for them */
	gfn_t max_gfn;		/* highest ever mapped */
	atomic_ulong flush_gen;	/* bumped when entries are removed; see p2m_flush() */
};

struct p2m_entry {
	mfn_t mfn;		/* of the very frame asked for */
	enum p2m_type type;
	uint8_t order;		/* size of the mapping it is part of */
};

int p2m_init(struct domain *d, uint32_t tables_max) __must_check;

/* Frees the tables. All entries' references must have been dropped. */
void p2m_destroy(struct domain *d);

/* What is at @gfn. Caller holds the lock, either side. */
struct p2m_entry p2m_get(const struct p2m *p, gfn_t gfn);

/*
 * Maps or (type P2M_HOLE) unmaps 2^order frames, splitting and merging
 * bigger mappings as needed. Caller holds the write lock, has dealt with the
 * old entries' references, and calls p2m_flush() before it lets go of frames
 * that became unreachable. -XEN_ENOMEM leaves the tables as they were.
 */
int p2m_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, enum p2m_type type)
	__must_check;

/*
 * No vCPU of @d uses translations from before this call once it returns.
 * Spins at most until other CPUs left the guest; they need no lock for that.
 */
void p2m_flush(struct domain *d);

/* Is a guest write / read to such an entry allowed? */
static inline bool p2m_is_writable(enum p2m_type t)
{
	return t == P2M_RAM || t == P2M_SHARED || t == P2M_GRANT_RW || t == P2M_FOREIGN;
}

static inline bool p2m_is_ram(enum p2m_type t)
{
	return t != P2M_HOLE && t != P2M_MMIO;
}

/*
 * The page behind @gfn with a reference, only if it is the domain's own RAM
 * and (for @write) writable; else NULL. Takes the read lock.
 */
struct page *p2m_get_page(struct domain *d, gfn_t gfn, bool write);

/*
 * Populates [gfn, gfn + 2^order) with fresh RAM. Errors as p2m_set() and
 * page_alloc_domain(). -XEN_EEXIST if something is mapped there.
 */
int p2m_populate(struct domain *d, gfn_t gfn, unsigned int order) __must_check;

/*
 * Removes the own RAM page at @gfn and drops its reference.
 * -XEN_ENOENT when there is no RAM of the domain's.
 */
int p2m_release_ram(struct domain *d, gfn_t gfn) __must_check;

/*
 * Tears down a bounded number of entries, dropping references. Returns true
 * when nothing is left. For a domain whose vCPUs run no more.
 */
bool p2m_teardown_step(struct domain *d);

#endif
