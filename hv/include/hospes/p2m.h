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

#include "hospes/lib.h"
#include "hospes/page.h"
#include "hospes/spinlock.h"

struct domain;

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
	uint64_t *spare;	/* owned; an empty table kept for the next one; lock */
	uint32_t tables, tables_max; /* page table pages in use, and at most; lock */
	gfn_t max_gfn;		/* highest ever mapped */
	uint64_t changes;	/* how often a frame with PAGE_WALKED went; write lock */
	gfn_t teardown_gfn;	/* where p2m_teardown_step() goes on, */
	mfn_t teardown_mfn;	/* and the frames it still holds references to */
	uint64_t teardown_left;
	bool log_dirty;		/* somebody asks what the guest writes; write lock */
	uint32_t write_faults;	/* since then, or the last look; lock */
	atomic_ulong flush_gen;	/* bumped when entries are removed; see p2m_flush() */
};

struct p2m_entry {
	mfn_t mfn;		/* of the very frame asked for */
	enum p2m_type type;
	uint8_t order;		/* size of the mapping it is part of */
};

/* -XEN_ENOMEM. Nothing else of @d is needed. */
int p2m_init(struct domain *d, uint32_t tables_max) __must_check;

/* Frees the tables, and first what p2m_teardown_step() has left. */
void p2m_destroy(struct domain *d);

/*
 * Entries as the CPU reads them. The type stands in three bits it ignores; a
 * hole is 0. Accessed and dirty are always set, so the CPU never writes here.
 */
#define P2M_E_P		0x001ULL
#define P2M_E_W		0x002ULL
#define P2M_E_U		0x004ULL	/* nested walks count as user accesses */
#define P2M_E_UC	0x018ULL
#define P2M_E_AD	0x060ULL
#define P2M_E_BIG	0x080ULL	/* maps 2 MiB or 1 GiB itself */
#define P2M_E_NX	(1ULL << 63)
#define P2M_E_TYPE_SHIFT 9
#define P2M_E_ADDR	0x000ffffffffff000ULL

static inline uint64_t *p2m_e_table(uint64_t e)
{
	return (uint64_t *)(void *)(port_directmap + (e & P2M_E_ADDR));
}

/* Does the entry point to a table? Not for the lowest level. */
static inline bool p2m_e_is_table(uint64_t e) { return (e & (P2M_E_P | P2M_E_BIG)) == P2M_E_P; }

static inline enum p2m_type p2m_e_type(uint64_t e)
{
	return (enum p2m_type)(e >> P2M_E_TYPE_SHIFT & 7);
}

/*
 * The entry, as it stands, that maps @gfn, 0 for a hole; with its size. Inline:
 * a walk of guest page tables asks five times. Caller holds the lock.
 */
static inline uint64_t p2m_lookup(const struct p2m *p, gfn_t gfn, unsigned int *order)
{
	uint64_t e;

	*order = 27;
	if (unlikely(gfn.v >= P2M_MAX_GFN))
		return 0;
	e = p->root[index_nospec(gfn.v, P2M_MAX_GFN) >> 27];
	if (unlikely(!p2m_e_is_table(e)))
		return e;
	*order = PAGE_ORDER_1G;
	e = p2m_e_table(e)[gfn.v >> 18 & 511];
	if (!p2m_e_is_table(e))
		return e;
	*order = PAGE_ORDER_2M;
	e = p2m_e_table(e)[gfn.v >> 9 & 511];
	if (!p2m_e_is_table(e))
		return e;
	*order = PAGE_ORDER_4K;
	return p2m_e_table(e)[gfn.v & 511];
}

/*
 * What is at @gfn. Caller holds the lock, either side. A hole's order tells
 * how much around @gfn is known to be empty.
 */
static inline struct p2m_entry p2m_get(const struct p2m *p, gfn_t gfn)
{
	unsigned int order;
	uint64_t e = p2m_lookup(p, gfn, &order);

	return (struct p2m_entry){
		.mfn = MFN(((e & P2M_E_ADDR) >> PAGE_SHIFT) + (gfn.v & ((1ULL << order) - 1))),
		.type = p2m_e_type(e), .order = (uint8_t)order,
	};
}

/*
 * Maps or (type P2M_HOLE) unmaps 2^order frames, order 0, 9 or 18, splitting and
 * merging bigger mappings as needed; -XEN_EEXIST where there are smaller ones.
 * @gfn is aligned and below P2M_MAX_GFN, else -XEN_EINVAL. Caller holds the
 * write lock, has dealt with the old entry's references, and calls p2m_flush()
 * before it lets go of frames that became unreachable. -XEN_ENOMEM leaves the
 * tables as they were. P2M_SHARED frames are mapped one by one, and struct page
 * says where.
 */
int p2m_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, enum p2m_type type)
	__must_check;

/*
 * Splits what maps @gfn down to 4 KiB, so that making @gfn a hole cannot fail.
 * Write lock held. -XEN_ENOMEM.
 */
int p2m_split(struct domain *d, gfn_t gfn) __must_check;

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

static inline bool p2m_is_grant(enum p2m_type t) { return t == P2M_GRANT_RW || t == P2M_GRANT_RO; }
static inline bool p2m_is_ram(enum p2m_type t) { return t != P2M_HOLE && t != P2M_MMIO; }

/*
 * The page behind @gfn with a reference, only if it is the domain's own RAM
 * and (for @write) writable; else NULL. Takes the read lock.
 */
struct page *p2m_get_page(struct domain *d, gfn_t gfn, bool write);

/* --- Which pages are written (logdirty.c) --- */

/* An entry of what may be written, though this is to be noticed first. */
static inline bool p2m_e_is_protected(uint64_t e)
{
	return (e & (P2M_E_P | P2M_E_W)) == P2M_E_P && p2m_is_writable(p2m_e_type(e));
}

/* The hypervisor writes to @gfn, mapped by @e: notes it. False: that is not allowed. Lock held. */
bool p2m_note_write(uint64_t e, gfn_t gfn, unsigned int order) __must_check;

/* The guest wrote to @gfn and faulted: lets it, if the entry still is a protected one. */
void p2m_write_fault(struct domain *d, gfn_t gfn);

/* Puts what lies around @gfn, mapped by 4 KiB, into one piece if it can be. Write lock held. */
void p2m_merge(struct domain *d, gfn_t gfn);

/*
 * Populates [gfn, gfn + 2^order) with fresh RAM, order up to 18, in the biggest
 * pieces that alignment and free memory allow; all or nothing. Takes the write
 * lock. Errors as p2m_set() and page_alloc_domain(). -XEN_EEXIST if something
 * is mapped there, -XEN_ESRCH for a dying domain.
 */
int p2m_populate(struct domain *d, gfn_t gfn, unsigned int order) __must_check;

/*
 * Removes @count own RAM pages from @gfn on and drops their references.
 * Takes the write lock. -XEN_ENOENT where there is no RAM of the domain's:
 * what lies before is gone then. -XEN_ENOMEM: a big mapping cannot be split.
 */
int p2m_release(struct domain *d, gfn_t gfn, uint64_t count) __must_check;

/* Drops the reference that an entry, just removed, held on its frame. */
void p2m_put_entry(struct p2m_entry e);

/*
 * Tears down a bounded number of entries, dropping references. Returns true
 * when nothing is left. For a domain whose vCPUs run no more.
 */
bool p2m_teardown_step(struct domain *d);

#endif
