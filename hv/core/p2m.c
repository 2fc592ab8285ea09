/* SPDX-License-Identifier: MIT */
/*
 * Guest physical address spaces in AMD's nested page table format.
 *
 * Owns: the table pages of every domain, under d->p2m.lock (write side). Each
 * is a page of the hypervisor whose struct page counts the entries in use, so
 * that an empty table is freed, and one that becomes full is looked at once
 * for merging.
 *
 * CPUs walk the tables meanwhile: every change is one 64-bit store, a present
 * entry turns absent and is flushed before it names another frame, and a table
 * page is freed after a flush.
 */
#include "hospes/p2m.h"

#include "hospes/domain.h"
#include "hospes/lib.h"
#include "hospes/pcpu.h"

#define TOP_LEVEL 3u		/* level n entries map 2^(9 n) frames */
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

/* Entries of these types go away one by one: merging them would not last. */
#define MERGEABLE (1u << P2M_RAM | 1u << P2M_RAM_RO | 1u << P2M_MMIO)

static enum p2m_type e_type(uint64_t e)
{
	return (enum p2m_type)(e >> P2M_E_TYPE_SHIFT & 7);
}

static bool is_table(uint64_t e, unsigned int level)
{
	return level && p2m_e_is_table(e);
}

static unsigned int index_at(gfn_t gfn, unsigned int level)
{
	return (unsigned int)(gfn.v >> 9 * level) & (ENTRIES - 1);
}

static void store(uint64_t *slot, uint64_t e)
{
	__atomic_store_n(slot, e, __ATOMIC_RELEASE);
}

static uint16_t *used(const uint64_t *table)
{
	return &frame_table[virt_to_mfn(table).v].p2m_used;
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

static void table_free(struct p2m *p, uint64_t *table)
{
	p->tables--;
	hv_free_pages(table, 0);
}

static void tree_free(struct p2m *p, uint64_t *table, unsigned int level)
{
	for (unsigned int i = 0; level && i < ENTRIES; i++) {
		if (is_table(table[i], level))
			tree_free(p, p2m_e_table(table[i]), level - 1);
	}
	table_free(p, table);
}

/* Fills the new @table of @level with what the entry above maps by itself. */
static void table_fill(uint64_t *table, unsigned int level, uint64_t above)
{
	uint64_t step = PAGE_SIZE << 9 * level;

	if (!above)
		return;
	if (!level)
		above &= ~P2M_E_BIG;
	for (unsigned int i = 0; i < ENTRIES; i++, above += step)
		table[i] = above;
	*used(table) = ENTRIES;
}

/*
 * Puts tables of the levels from, from - 1, ... to under the entry @slot on
 * the way to @gfn. What it maps stays mapped. All pages are taken first.
 */
static int grow(struct p2m *p, uint64_t *slot, gfn_t gfn, unsigned int from, unsigned int to)
{
	uint64_t *tables[TOP_LEVEL];
	uint64_t above = *slot;
	unsigned int nr = 0, count = from - to + 1;

	for (; nr < count; nr++) {
		tables[nr] = table_alloc(p);
		if (!tables[nr])
			goto err_free;
	}
	for (nr = 0; nr < count; nr++) {
		unsigned int level = from - nr;
		uint64_t *next = &tables[nr][index_at(gfn, level)];

		table_fill(tables[nr], level, above);
		above = *next;
		if (level == to)
			break;
		*used(tables[nr]) += !above;
		*next = mfn_to_paddr(virt_to_mfn(tables[nr + 1])) | E_TABLE;
	}
	*used((uint64_t *)((uintptr_t)slot & PAGE_MASK)) += !*slot;
	store(slot, mfn_to_paddr(virt_to_mfn(tables[0])) | E_TABLE);
	return 0;

err_free:
	while (nr-- > 0)
		table_free(p, tables[nr]);
	return -XEN_ENOMEM;
}

/*
 * Walks to the table of @level, making it when @make; path[l] is the entry of
 * level l passed on the way. *table is NULL where there is a hole instead.
 */
static int descend(struct p2m *p, gfn_t gfn, unsigned int level, bool make, uint64_t **path,
		   uint64_t **table)
{
	uint64_t *t = p->root;

	for (unsigned int l = TOP_LEVEL; l > level; l--) {
		uint64_t *slot = &t[index_at(gfn, l)];

		if (unlikely(!is_table(*slot, l))) {
			int rc;

			*table = NULL;
			if (!*slot && !make)
				return 0;
			rc = grow(p, slot, gfn, l - 1, level);
			if (rc)
				return rc;
		}
		path[l] = slot;
		t = p2m_e_table(*slot);
	}
	*table = t;
	return 0;
}

/* Frees @table of @level if it is empty, and those above that become so. */
static void prune(struct domain *d, uint64_t **path, uint64_t *table, unsigned int level)
{
	while (level < TOP_LEVEL && !*used(table)) {
		uint64_t *slot = path[++level];
		uint64_t *parent = (uint64_t *)((uintptr_t)slot & PAGE_MASK);

		store(slot, 0);
		--*used(parent);
		p2m_flush(d);
		/* It is all zeros: the next mapping nearby need not scrub one. */
		if (!d->p2m.spare) {
			d->p2m.spare = table;
			d->p2m.tables--;
		} else {
			table_free(&d->p2m, table);
		}
		table = parent;
	}
}

/* Can one entry above stand for the whole table? Looks at the ends first. */
static bool is_run(const uint64_t *table, unsigned int level)
{
	uint64_t step = PAGE_SIZE << 9 * level;
	uint64_t first = table[0];

	if (*used(table) != ENTRIES || !(1u << e_type(first) & MERGEABLE) ||
	    (first & P2M_E_ADDR & (step * ENTRIES - 1)) ||
	    table[ENTRIES - 1] != first + step * (ENTRIES - 1))
		return false;
	for (unsigned int i = 1; i < ENTRIES - 1; i++) {
		if (table[i] != first + step * i)
			return false;
	}
	return true;
}

/* Replaces @table of @level, and those above, by big mappings where they are runs. */
static void merge(struct domain *d, uint64_t **path, uint64_t *table, unsigned int level)
{
	while (level < TOP_LEVEL - 1 && is_run(table, level)) {
		uint64_t *slot = path[++level];

		store(slot, table[0] | P2M_E_BIG);
		p2m_flush(d);
		table_free(&d->p2m, table);
		table = (uint64_t *)((uintptr_t)slot & PAGE_MASK);
	}
}

/* --- Entries ------------------------------------------------------------ */

/* Keeps struct page's note of where a page of the hypervisor is mapped. */
static void note_shared(uint64_t e, uint64_t from, uint64_t to)
{
	struct page *pg;

	if (likely(e_type(e) != P2M_SHARED))
		return;
	pg = mfn_to_page(paddr_to_mfn(e & P2M_E_ADDR));
	if (pg && (!from || pg->shared_gfn == from))
		pg->shared_gfn = to;
}

/* Makes entries absent that are about to name other frames; true: flush. */
static bool break_entries(uint64_t *slot, unsigned int count, unsigned int level, uint64_t e)
{
	bool broken = false;

	for (unsigned int i = 0; i < count; i++) {
		if (!slot[i] || (!e && !is_table(slot[i], level)))
			continue;
		store(&slot[i], slot[i] & ~P2M_E_P);
		broken = true;
	}
	return broken;
}

/* Writes @count entries from @e on. Returns by how many more are in use. */
static int write_entries(struct p2m *p, uint64_t *slot, unsigned int count, unsigned int level,
			 uint64_t e, gfn_t gfn)
{
	uint64_t step = PAGE_SIZE << 9 * level;
	int more = 0;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t old = slot[i];

		note_shared(old, gfn.v + 1, 0);
		if (old) {
			p->changes++;
			more--;
		}
		if (e)
			more++;
		store(&slot[i], e);
		note_shared(e, 0, gfn.v + 1);
		if (unlikely(is_table(old | P2M_E_P, level)) && old)
			tree_free(p, p2m_e_table(old), level - 1);
		if (e)
			e += step;
	}
	return more;
}

int p2m_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, enum p2m_type type)
{
	struct p2m *p = &d->p2m;
	uint64_t frames = 1ULL << order, e = 0;
	unsigned int level = MIN(order / 9, 2u), count;
	uint64_t *path[TOP_LEVEL + 1];
	uint64_t *table, *slot;
	int rc;

	if (order > PAGE_MAX_ORDER || !range_within(gfn.v, frames, P2M_MAX_GFN) ||
	    (gfn.v & (frames - 1)) || (type == P2M_SHARED && order))
		return -XEN_EINVAL;
	if (type != P2M_HOLE) {
		if (!range_within(mfn.v, frames, P2M_E_ADDR >> PAGE_SHIFT) ||
		    (mfn.v & (frames - 1)))
			return -XEN_EINVAL;
		e = mfn_to_paddr(mfn) | type_flags[type] | (uint64_t)type << P2M_E_TYPE_SHIFT;
		if (level)
			e |= P2M_E_BIG;
	}
	rc = descend(p, gfn, level, e, path, &table);
	if (rc || !table)
		return rc;
	slot = &table[index_at(gfn, level)];
	count = 1u << (order - 9 * level);
	if (break_entries(slot, count, level, e))
		p2m_flush(d);
	*used(table) = (uint16_t)(*used(table) + write_entries(p, slot, count, level, e, gfn));
	if (!e) {
		prune(d, path, table, level);
		return 0;
	}
	if (gfn.v + frames - 1 > p->max_gfn.v)
		p->max_gfn = GFN(gfn.v + frames - 1);
	merge(d, path, table, level);
	return 0;
}

int p2m_split(struct domain *d, gfn_t gfn)
{
	uint64_t *path[TOP_LEVEL + 1];
	uint64_t *table;

	if (gfn.v >= P2M_MAX_GFN)
		return -XEN_EINVAL;
	return descend(&d->p2m, gfn, 0, false, path, &table);
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
		atomic_fetch_add_explicit(&d->flush_waits, 1, memory_order_relaxed);
		/* Kick again now and then: it may have left and come back unseen. */
		for (; atomic_load(&pcpus[i]->in_guest) == v; port_relax()) {
			if (spins++ % 1024 == 0)
				port_kick(i);
		}
	}
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

	if (p->root)
		tree_free(p, p->root, TOP_LEVEL);
	p->root = NULL;
	if (p->spare)
		hv_free_pages(p->spare, 0);
	p->spare = NULL;
}

void p2m_put_entry(struct p2m_entry e)
{
	if (e.type == P2M_RAM || e.type == P2M_RAM_RO || e.type == P2M_FOREIGN)
		page_put(&frame_table[e.mfn.v]);
}

/* Looks at teardown_gfn and moves on; frames of a big mapping are noted for later. */
static void teardown_entry(struct domain *d)
{
	struct p2m *p = &d->p2m;
	gfn_t gfn = p->teardown_gfn;
	struct p2m_entry e = p2m_get(p, gfn);

	p->teardown_gfn = GFN(ALIGN_DOWN(gfn.v, 1ULL << e.order) + (1ULL << e.order));
	if (e.type == P2M_HOLE)
		return;
	/* Exactly one entry: needs no memory. */
	if (p2m_set(d, gfn, e.order, INVALID_MFN, P2M_HOLE))
		panic("p2m: teardown of a whole entry failed");
	if (!e.order) {
		p2m_put_entry(e);
	} else if (e.type != P2M_MMIO) {
		p->teardown_mfn = e.mfn;
		p->teardown_left = 1ULL << e.order;
	}
}

bool p2m_teardown_step(struct domain *d)
{
	struct p2m *p = &d->p2m;
	bool done = !p->root;

	if (done)
		return true;
	write_lock(&p->lock);
	for (unsigned int i = 0; i < TEARDOWN_BATCH && !done; i++) {
		if (p->teardown_left) {
			p->teardown_left--;
			page_put(&frame_table[p->teardown_mfn.v++]);
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

static bool is_hole(const struct p2m *p, gfn_t gfn, uint64_t count)
{
	for (uint64_t i = gfn.v; i < gfn.v + count;) {
		struct p2m_entry e = p2m_get(p, GFN(i));

		if (e.type != P2M_HOLE)
			return false;
		i = ALIGN_DOWN(i, 1ULL << e.order) + (1ULL << e.order);
	}
	return true;
}

static void put_frames(mfn_t mfn, unsigned int order)
{
	for (uint64_t i = 0; i < 1ULL << order; i++)
		page_put(&frame_table[mfn.v + i]);
}

/* The size to try when 2^order frames do not fit. */
static unsigned int smaller(unsigned int order)
{
	return order > PAGE_ORDER_2M ? PAGE_ORDER_2M : PAGE_ORDER_4K;
}

static int release_range(struct domain *d, gfn_t gfn, uint64_t count)
{
	while (count) {
		struct p2m_entry e;
		unsigned int piece;
		int rc = -XEN_ENOENT;

		write_lock(&d->p2m.lock);
		e = p2m_get(&d->p2m, gfn);
		for (piece = e.order; piece; piece = smaller(piece)) {
			if (count >> piece && !(gfn.v & ((1ULL << piece) - 1)))
				break;
		}
		if (e.type == P2M_RAM || e.type == P2M_RAM_RO)
			rc = p2m_set(d, gfn, piece, INVALID_MFN, P2M_HOLE);
		if (!rc)
			p2m_flush(d);
		write_unlock(&d->p2m.lock);
		if (rc)
			return rc;
		put_frames(e.mfn, piece);
		gfn = gfn_add(gfn, 1ULL << piece);
		count -= 1ULL << piece;
	}
	return 0;
}

/* One piece: 2^order contiguous frames. */
static int populate_piece(struct domain *d, gfn_t gfn, unsigned int order)
{
	mfn_t mfn;
	int rc;

	rc = page_alloc_domain(d, order, &mfn);
	if (rc)
		return rc;
	write_lock(&d->p2m.lock);
	/* Teardown takes the lock after `dying` is set: it finds what we add now. */
	if (domain_is_dying(d))
		rc = -XEN_ESRCH;
	else if (!is_hole(&d->p2m, gfn, 1ULL << order))
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
	unsigned int piece = order > PAGE_ORDER_2M && order < PAGE_ORDER_1G ? PAGE_ORDER_2M : order;
	uint64_t pos = 0;
	int rc, undo;

	if (order > PAGE_MAX_ORDER || !range_within(gfn.v, 1ULL << order, P2M_MAX_GFN))
		return -XEN_EINVAL;
	while (gfn.v & ((1ULL << piece) - 1))
		piece = smaller(piece);
	while (pos < 1ULL << order) {
		rc = populate_piece(d, gfn_add(gfn, pos), piece);
		if (rc == -XEN_ENOMEM && piece)
			piece = smaller(piece);
		else if (rc)
			goto err_release;
		else
			pos += 1ULL << piece;
	}
	return 0;

err_release:
	/* Whole pieces: fails only where others changed the range meanwhile. */
	undo = release_range(d, gfn, pos);
	return undo == -XEN_ENOMEM ? undo : rc;
}

int p2m_release_extent(struct domain *d, gfn_t gfn, unsigned int order)
{
	if (order > PAGE_MAX_ORDER)
		return -XEN_EINVAL;
	return release_range(d, gfn, 1ULL << order);
}
