/* SPDX-License-Identifier: MIT */
/*
 * Guest physical address spaces in AMD's nested page table format.
 *
 * Owns: the table pages of every domain, under d->p2m.lock (write side). Each
 * is a page of the hypervisor whose struct page counts the entries in use, so
 * that an empty table is freed, and a full one is looked at for merging.
 *
 * CPUs walk the tables meanwhile: every change is one 64-bit store, a present
 * entry turns absent and is flushed before it names another frame, and a table
 * page is freed after a flush.
 */
#include "hospes/p2m.h"

#include "hospes/domain.h"
#include "hospes/iommu.h"

#define TOP_LEVEL 3u		/* entries of level n map 2^(9 n) frames */
#define ENTRIES 512u
#define TEARDOWN_BATCH 512u

#define E_OWN (P2M_E_P | P2M_E_U | P2M_E_AD)
#define E_TABLE (E_OWN | P2M_E_W)

static const uint64_t type_flags[P2M_TYPE_COUNT] = {
	[P2M_RAM] = E_OWN | P2M_E_W,
	[P2M_RAM_RO] = E_OWN,
	[P2M_SHARED] = E_OWN | P2M_E_W | P2M_E_NX,
	[P2M_GRANT_RW] = E_OWN | P2M_E_W | P2M_E_NX,
	[P2M_GRANT_RO] = E_OWN | P2M_E_NX,
	[P2M_FOREIGN] = E_OWN | P2M_E_W | P2M_E_NX,
	[P2M_MMIO] = E_OWN | P2M_E_W | P2M_E_UC,
};

/* Entries of these types hold a reference to their frame. */
#define REFERRING (1u << P2M_RAM | 1u << P2M_RAM_RO | 1u << P2M_FOREIGN)

/* Entries of these types go away one by one: merging them would not last. */
#define MERGEABLE (1u << P2M_RAM | 1u << P2M_RAM_RO | 1u << P2M_MMIO)

/* What devices may do with such pages. */
static const uint8_t dma_rights[P2M_TYPE_COUNT] = {
	[P2M_RAM] = DMA_READ | DMA_WRITE,
	[P2M_RAM_RO] = DMA_READ,
	[P2M_GRANT_RW] = DMA_READ | DMA_WRITE,
	[P2M_GRANT_RO] = DMA_READ,
	[P2M_FOREIGN] = DMA_READ | DMA_WRITE,
};

static struct page *page_of(const uint64_t *slot)
{
	return &frame_table[virt_to_mfn(slot).v];
}

static void set_entry(uint64_t *slot, uint64_t e)
{
	struct page *pg = page_of(slot);

	pg->p2m_used = (uint16_t)(pg->p2m_used + !!e - !!*slot);
	__atomic_store_n(slot, e, __ATOMIC_RELEASE);
}

/* --- Tables ------------------------------------------------------------- */

static uint64_t *table_alloc(struct p2m *p)
{
	uint64_t *table = p->spare;

	p->spare = NULL;
	if (!table && p->tables < p->tables_max)
		table = hv_alloc_pages(0);
	if (table)
		p->tables++;
	return table;
}

/* An @empty one is all zeros: kept, the next mapping nearby need not scrub one. */
static void table_free(struct p2m *p, uint64_t *table, bool empty)
{
	p->tables--;
	if (empty && !p->spare)
		p->spare = table;
	else
		hv_free_pages(table, 0);
}

/* Devices first: afterwards nothing can fail, and p2m_flush() is still to come. */
static int set_dma(struct domain *d, gfn_t gfn, unsigned int level, uint64_t e)
{
	if (likely(!d->iommu))
		return 0;
	return iommu_set(d, gfn, 9 * level, paddr_to_mfn(e & P2M_E_ADDR),
			 dma_rights[p2m_e_type(e)]);
}

/* Fills the new @table of @level with what the entry above maps by itself. */
static void table_fill(uint64_t *table, unsigned int level, uint64_t above)
{
	if (!level)
		above &= ~P2M_E_BIG;
	for (unsigned int i = 0; i < ENTRIES; i++, above += PAGE_SIZE << 9 * level)
		table[i] = above;
	page_of(table)->p2m_used = ENTRIES;
}

/*
 * The entry that can stand for the whole @table of @level, or 0. Where the
 * last look at a full table ended is looked at first: it does not change often.
 */
static uint64_t big_entry(const uint64_t *table, unsigned int level)
{
	uint64_t step = PAGE_SIZE << 9 * level, first = table[0];
	struct page *pg = page_of(table);

	if (level >= TOP_LEVEL - 1 || pg->p2m_used != ENTRIES ||
	    !(1u << p2m_e_type(first) & MERGEABLE) || (first & P2M_E_ADDR & (step * ENTRIES - 1)) ||
	    table[pg->p2m_odd] != first + step * pg->p2m_odd)
		return 0;
	for (uint32_t i = 1; i < ENTRIES; i++) {
		if (table[i] != first + step * i) {
			pg->p2m_odd = i;
			return 0;
		}
	}
	return first | P2M_E_BIG;
}

/* Takes tables above @gfn away that became empty or a run, from that of path[level] up. */
static void tidy(struct domain *d, gfn_t gfn, uint64_t **path, unsigned int level)
{
	for (; level < TOP_LEVEL; level++) {
		uint64_t *table = (uint64_t *)((uintptr_t)path[level] & PAGE_MASK);
		uint64_t big = big_entry(table, level);

		if (!big && page_of(table)->p2m_used)
			return;
		set_entry(path[level + 1], big);
		/* Devices are as well off with what they have. */
		if (level + 1 < TOP_LEVEL)
			(void)!set_dma(d, GFN(gfn.v >> 9 * (level + 1) << 9 * (level + 1)),
				       level + 1, big);
		p2m_flush(d);
		table_free(&d->p2m, table, !big);
	}
}

/*
 * Walks to the entry for @gfn at @level, path[l] is the one of level l passed
 * on the way. Big mappings are split, and tables made where there is a hole
 * when @make, else path[level] is NULL then.
 */
static int descend(struct domain *d, gfn_t gfn, unsigned int level, bool make, uint64_t **path)
{
	uint64_t *table = d->p2m.root;

	for (unsigned int l = TOP_LEVEL;; l--) {
		uint64_t *slot = &table[gfn.v >> 9 * l & (ENTRIES - 1)];

		path[l] = slot;
		if (l == level)
			return 0;
		if (likely(p2m_e_is_table(*slot))) {
			table = p2m_e_table(*slot);
			continue;
		}
		path[level] = NULL;
		if (!*slot && !make)
			return 0;
		table = table_alloc(&d->p2m);
		if (!table) {
			tidy(d, gfn, path, l);
			return -XEN_ENOMEM;
		}
		if (*slot)
			table_fill(table, l - 1, *slot);
		set_entry(slot, mfn_to_paddr(virt_to_mfn(table)) | E_TABLE);
	}
}

/* --- Entries ------------------------------------------------------------ */

/*
 * Before @e goes from @gfn: struct page's note of where a page of the
 * hypervisor is mapped, and walks remembered that may have come by.
 */
static void forget(struct p2m *p, uint64_t e, unsigned int level, gfn_t gfn)
{
	struct page *pg = mfn_to_page(paddr_to_mfn(e & P2M_E_ADDR));

	if (level || (pg && (pg->flags & PAGE_WALKED)))
		p->changes++;
	if (p2m_e_type(e) == P2M_SHARED && pg->shared_gfn == gfn.v + 1)
		pg->shared_gfn = 0;
}

/* Is it of interest when a page of somebody else is written? */
static bool is_watched(mfn_t mfn)
{
	uint32_t owner = frame_table[mfn.v].owner;

	return owner && read_once(domain_by_slot(owner - 1)->p2m.log_dirty);
}

int p2m_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, enum p2m_type type)
{
	struct p2m *p = &d->p2m;
	uint64_t last = gfn.v + (1ULL << order) - 1, old, e = 0;
	unsigned int level = order / 9;
	uint64_t *path[TOP_LEVEL + 1], *slot;
	int rc;

	if (gfn.v >= P2M_MAX_GFN || (gfn.v & ((1ULL << order) - 1)))
		return -XEN_EINVAL;
	if (type != P2M_HOLE)
		e = mfn_to_paddr(mfn) | type_flags[type] | (uint64_t)type << P2M_E_TYPE_SHIFT |
		    (level ? P2M_E_BIG : 0);
	if (type == P2M_FOREIGN && is_watched(mfn))
		e &= ~P2M_E_W;
	rc = descend(d, gfn, level, e, path);
	slot = path[level];
	if (rc || !slot)
		return rc;
	old = *slot;
	if (level && p2m_e_is_table(old))
		return -XEN_EEXIST;
	rc = set_dma(d, gfn, level, e);
	if (unlikely(rc)) {
		tidy(d, gfn, path, level);
		return rc;
	}
	if (old) {
		forget(p, old, level, gfn);
		if (e) {
			__atomic_store_n(slot, old & ~P2M_E_P, __ATOMIC_RELEASE);
			p2m_flush(d);
		}
	}
	set_entry(slot, e);
	if (e && last > p->max_gfn.v)
		p->max_gfn = GFN(last);
	if (type == P2M_SHARED)
		frame_table[mfn.v].shared_gfn = gfn.v + 1;
	tidy(d, gfn, path, level);
	return 0;
}

int p2m_split(struct domain *d, gfn_t gfn)
{
	uint64_t *path[TOP_LEVEL + 1];
	int rc = gfn.v < P2M_MAX_GFN ? descend(d, gfn, 0, false, path) : -XEN_EINVAL;

	return rc || likely(!d->iommu) ? rc : iommu_split(d, gfn);
}

void p2m_merge(struct domain *d, gfn_t gfn)
{
	uint64_t *path[TOP_LEVEL + 1];

	if (!descend(d, gfn, 0, false, path) && path[0])
		tidy(d, gfn, path, 0);
}

void p2m_flush(struct domain *d)
{
	/*
	 * The entry path publishes in_guest, then reads flush_gen; we do it the
	 * other way round. So either it sees the new number or we see it inside.
	 */
	atomic_fetch_add(&d->p2m.flush_gen, 1);
	for (unsigned int i = 0; i < port_nr_pcpus(); i++) {
		struct vcpu *v = atomic_load(&pcpus[i]->in_guest);
		unsigned int spins = 0;

		/* v may be gone by now, then its memory says nothing of harm. */
		if (!v || v->domain != d)
			continue;
		/* Kick again now and then: it may have left and come back unseen. */
		for (; atomic_load(&pcpus[i]->in_guest) == v; port_relax()) {
			if (spins++ % 1024 == 0)
				port_kick(i);
		}
	}
	if (unlikely(d->iommu))
		iommu_flush(d);
}

/* --- Life --------------------------------------------------------------- */

int p2m_init(struct domain *d, uint32_t tables_max)
{
	struct p2m *p = &d->p2m;

	memset(p, 0, sizeof(*p));
	rw_init(&p->lock, LOCK_P2M);
	p->tables_max = tables_max;
	p->changes = 1;		/* 0 marks memos of walks as void */
	p->root = table_alloc(p);
	if (!p->root)
		return -XEN_ENOMEM;
	p->root_paddr = mfn_to_paddr(virt_to_mfn(p->root));
	return 0;
}

void p2m_destroy(struct domain *d)
{
	struct p2m *p = &d->p2m;

	if (!p->root)
		return;
	while (!p2m_teardown_step(d))
		;
	hv_free(p->root);
	hv_free(p->spare);
	p->root = p->spare = NULL;
}

/* What an entry holds: the page, or the domain of a page of the hypervisor's. */
static void put_frame(struct page *pg)
{
	if (likely(pg->owner))
		page_put(pg);
	else
		domain_put(domain_by_slot(pg->shared_slot - 1u));
}

void p2m_put_entry(struct p2m_entry e)
{
	if (REFERRING >> e.type & 1)
		put_frame(&frame_table[e.mfn.v]);
}

/* Looks at teardown_gfn and moves on; frames to let go of are noted for later. */
static void teardown_entry(struct domain *d)
{
	struct p2m *p = &d->p2m;
	gfn_t gfn = p->teardown_gfn;
	struct p2m_entry e = p2m_get(p, gfn);

	p->teardown_gfn = GFN((gfn.v | ((1ULL << e.order) - 1)) + 1);
	if (e.type == P2M_HOLE)
		return;
	/* Exactly one entry: needs no memory. */
	if (p2m_set(d, gfn, e.order, INVALID_MFN, P2M_HOLE))
		panic("p2m: teardown of a whole entry failed");
	if (REFERRING >> e.type & 1) {
		p->teardown_mfn = e.mfn;
		p->teardown_left = 1ULL << e.order;
	}
}

bool p2m_teardown_step(struct domain *d)
{
	struct p2m *p = &d->p2m;
	bool done = false;

	if (!p->root)
		return true;
	write_lock(&p->lock);
	for (unsigned int i = 0; i < TEARDOWN_BATCH && !done; i++) {
		if (p->teardown_left) {
			p->teardown_left--;
			put_frame(&frame_table[p->teardown_mfn.v++]);
		} else if (p->teardown_gfn.v <= p->max_gfn.v) {
			teardown_entry(d);
		} else {
			done = true;
		}
	}
	write_unlock(&p->lock);
	return done;
}

/* --- RAM ---------------------------------------------------------------- */

struct page *p2m_get_page(struct domain *d, gfn_t gfn, bool write)
{
	struct page *pg = NULL;
	struct p2m_entry e;

	read_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, gfn);
	if (e.type == P2M_RAM || (e.type == P2M_RAM_RO && !write)) {
		pg = &frame_table[e.mfn.v];
		if (!page_get(pg))
			pg = NULL;
	}
	read_unlock(&d->p2m.lock);
	return pg;
}

static void put_frames(mfn_t mfn, unsigned int order)
{
	for (uint64_t i = 0; i < 1ULL << order; i++)
		page_put(&frame_table[mfn.v + i]);
}

/* The order, @max or smaller, of the biggest piece at @gfn within @count frames. */
static unsigned int piece_order(gfn_t gfn, uint64_t count, unsigned int max)
{
	while (max && (!(count >> max) || (gfn.v & ((1ULL << max) - 1))))
		max -= PAGE_ORDER_2M;
	return max;
}

int p2m_release(struct domain *d, gfn_t gfn, uint64_t count)
{
	while (count) {
		struct p2m_entry e;
		unsigned int order;
		int rc = -XEN_ENOENT;

		write_lock(&d->p2m.lock);
		e = p2m_get(&d->p2m, gfn);
		order = piece_order(gfn, count, e.order);
		if (e.type == P2M_RAM || e.type == P2M_RAM_RO)
			rc = p2m_set(d, gfn, order, INVALID_MFN, P2M_HOLE);
		if (!rc)
			p2m_flush(d);
		write_unlock(&d->p2m.lock);
		if (rc)
			return rc;
		put_frames(e.mfn, order);
		gfn = gfn_add(gfn, 1ULL << order);
		count -= 1ULL << order;
	}
	return 0;
}

/* One piece: 2^order contiguous frames. */
static int populate_piece(struct domain *d, gfn_t gfn, unsigned int order)
{
	struct p2m_entry e;
	mfn_t mfn = MFN(gfn.v);
	/* A device that the control domain drives may use guest frame numbers as they are. */
	int rc = d->devices ? page_alloc_domain_at(d, order, mfn) :
		 page_alloc_domain(d, order, &mfn);

	if (rc)
		return rc;
	write_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, gfn);
	/* Teardown takes the lock after `dying` is set: it finds what we add now. */
	if (domain_is_dying(d))
		rc = -XEN_ESRCH;
	else if (e.type != P2M_HOLE || e.order < order)	/* no table is empty */
		rc = -XEN_EEXIST;
	else
		rc = p2m_set(d, gfn, order, mfn, P2M_RAM);
	write_unlock(&d->p2m.lock);
	if (rc)
		put_frames(mfn, order);
	return rc;
}

int p2m_populate(struct domain *d, gfn_t gfn, unsigned int order)
{
	uint64_t count = 1ULL << order, done = 0;
	unsigned int max = PAGE_ORDER_1G;

	if (!range_within(gfn.v, count, P2M_MAX_GFN))
		return -XEN_EINVAL;
	while (done < count) {
		gfn_t at = gfn_add(gfn, done);
		unsigned int piece = piece_order(at, count - done, max);
		int rc = populate_piece(d, at, piece);

		if (!rc) {
			done += 1ULL << piece;
		} else if (rc == -XEN_ENOMEM && piece) {
			max = piece - PAGE_ORDER_2M;
		} else {
			/* Whole pieces: fails only where others changed the range meanwhile. */
			int undo = p2m_release(d, gfn, done);

			return undo == -XEN_ENOMEM ? undo : rc;
		}
	}
	return 0;
}
