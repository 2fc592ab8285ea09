/* SPDX-License-Identifier: MIT */
/*
 * Machine frames: who owns each, who refers to it, and the allocator.
 *
 * Every managed frame has a 16-byte struct page. A frame is free (in a buddy
 * list), the hypervisor's own, or a domain's. A domain's frame starts with
 * one reference, held by the p2m entry that maps it (or by whoever allocated
 * it); grants, foreign mappings and pinned pages add theirs. When the last
 * one goes the frame returns to the allocator and to the owner's quota.
 * No frame reaches a new owner unscrubbed. A domain must keep its slot in the
 * domain table until its tot_pages is 0: others' references outlive its p2m.
 */
#ifndef HOSPES_PAGE_H
#define HOSPES_PAGE_H

#include <stdatomic.h>

#include "hospes/types.h"

struct domain;

#define PAGE_ORDER_4K 0u
#define PAGE_ORDER_2M 9u
#define PAGE_ORDER_1G 18u
#define PAGE_MAX_ORDER 18u

#define PAGE_FREE	0x01u	/* starts a free block; order is valid */
#define PAGE_DIRTY	0x02u	/* free, and must be scrubbed before use */
#define PAGE_MANAGED	0x04u	/* belongs to the allocator at all */
#define PAGE_SLAB	0x08u	/* divided into small allocations (slab.c) */
#define PAGE_WALKED	0x10u	/* memos of guest walks point here (guest_access.c); atomic */
#define PAGE_WRITTEN	0x20u	/* since it was last looked at (logdirty.c); atomic */

struct page {
	union {
		/* Free block or slab: frame numbers, 0 = none; heap or slab lock. */
		struct { uint32_t next, prev; };
		/* A domain's frame. */
		struct { atomic_uint refs; uint32_t pad; };
		/* The hypervisor's, shown to a guest: gfn + 1, 0 = nowhere; p2m lock. */
		uint64_t shared_gfn;
		/* Nested page table: an entry that stood against merging; p2m lock. */
		uint32_t p2m_odd;
	};
	union {
		uint32_t owner;		/* in use: domain slot + 1, 0 for the hypervisor */
		uint32_t clean;		/* free block: that many first frames are scrubbed */
	};
	uint8_t order;		/* of the free block or allocation that starts here */
	uint8_t flags;		/* free: heap lock; in use: constant but for the atomic ones */
	union {
		struct { uint8_t slab_first, slab_used; };	/* slab lock */
		uint16_t p2m_used;	/* nested page table: entries in use; p2m lock */
		uint16_t shared_slot;	/* the hypervisor's, shown to others: whose, slot + 1 */
	};
};
_Static_assert(sizeof(struct page) == 16, "0.4 % of memory");

extern struct page *frame_table;	/* indexed by mfn */
extern uint64_t frame_table_size;	/* number of entries */

/* Linked through next and prev; zeroed is empty. */
struct page_list {
	uint32_t first, last;	/* frame numbers, 0 = none */
};

void page_list_add(struct page_list *l, struct page *pg, bool front);
void page_list_del(struct page_list *l, struct page *pg);

/*
 * Start of day. @table has room for page_table_bytes(ram_end) and is zeroed
 * here; then each usable range is added once.
 */
uint64_t page_table_bytes(paddr_t ram_end);
void page_init(void *table, paddr_t ram_end);
void page_add_range(mfn_t start, uint64_t count);

/* The struct page of a managed frame, or NULL for anything else. */
struct page *mfn_to_page(mfn_t mfn);
static inline mfn_t page_to_mfn(const struct page *pg) { return MFN((uint64_t)(pg - frame_table)); }

/*
 * 2^order scrubbed frames for the hypervisor itself. Returns the mapped
 * address or NULL. Freed by hv_free_pages() with the same order.
 */
void *hv_alloc_pages(unsigned int order);
void hv_free_pages(void *va, unsigned int order);

/* Small zeroed allocations, up to 1 MiB; NULL when memory is out. */
void *hv_alloc(size_t size);
void hv_free(void *p);		/* NULL is fine */

/*
 * 2^order scrubbed frames for @d, charged to its quota, each with one
 * reference. Returns 0, -XEN_ENOMEM (no memory) or -XEN_E2BIG (over quota).
 */
int page_alloc_domain(struct domain *d, unsigned int order, mfn_t *mfn) __must_check;

/*
 * As above, but the very frames from @mfn on, aligned to their number;
 * -XEN_ENOMEM, too, when one of them is not free. Frame 0 never is.
 */
int page_alloc_domain_at(struct domain *d, unsigned int order, mfn_t mfn) __must_check;

/*
 * The first run of free frames that begins at or behind @from (which is not inside of a
 * free block): where, and *count, 0 for none. Slow: for the start of day.
 */
mfn_t page_free_run(mfn_t from, uint64_t *count);

/*
 * Another reference to a domain's frame. The caller knows the frame cannot
 * vanish meanwhile (p2m lock held and mapped, or a reference held). Fails,
 * returning false, only when the count would overflow.
 */
bool page_get(struct page *pg) __must_check;

/*
 * A domain's frame is written, past the entry of its own p2m that would show it:
 * the caller holds the p2m lock, or a reference and tells before it drops it.
 */
static inline void page_mark_written(struct page *pg)
{
	if (unlikely(!(__atomic_load_n(&pg->flags, __ATOMIC_RELAXED) & PAGE_WRITTEN)))
		__atomic_fetch_or(&pg->flags, PAGE_WRITTEN, __ATOMIC_RELAXED);
}

static inline void page_clear_written(struct page *pg)
{
	if (__atomic_load_n(&pg->flags, __ATOMIC_RELAXED) & PAGE_WRITTEN)
		__atomic_fetch_and(&pg->flags, (uint8_t)~PAGE_WRITTEN, __ATOMIC_RELAXED);
}

/* Drops a reference; the last one scrubs (lazily) and frees. */
void page_put(struct page *pg);

/*
 * Scrubs a few free frames ahead of need; true when more remain. For the idle
 * loop: any CPU, no locks held. A few frames are out of reach meanwhile.
 */
bool page_scrub_step(void);

/*
 * Keeps frames free for @d until it has @count in all; 0: no longer. What it gets
 * counts against it. -XEN_EINVAL: it has so many or may not, has a claim, or is dying;
 * -XEN_ENOMEM: there are not so many. A domain's claim ends before it does.
 */
int page_claim(struct domain *d, uint64_t count);

/* Frames free now, how many of them are claimed, and managed in all. */
uint64_t page_free_count(void);
uint64_t page_claimed_count(void);
uint64_t page_total_count(void);

/* For failure injection in tests: fails the n-th next allocation; 0 = off. */
extern unsigned int page_fail_after;

static inline bool page_fail_now(void) { return page_fail_after && --page_fail_after == 0; }

/* Forgets all small allocations; for page_init(). */
void slab_init(void);

#endif
