/* SPDX-License-Identifier: MIT */
/*
 * The page allocator: buddy lists over the frame table, owners, references.
 *
 * Owns: frame_table and the lists of free blocks, under heap.lock (LOCK_HEAP).
 * Frames become dirty when they are freed and are scrubbed when they are
 * allocated, or before that by page_scrub_step(); never under the lock.
 *
 * A free block counts how many of its first frames are known to be clean.
 * Scrubbing and merging keep this prefix, so blocks merge whatever their
 * state is; the flag of each frame says exactly which ones are dirty.
 */
#include "hospes/page.h"

#include "hospes/domain.h"

#define SCRUB_ORDER 4u			/* frames cleared in one step: 2^4 */
#define REFS_MAX 0x7fffffffu

struct page *frame_table;
uint64_t frame_table_size;
unsigned int page_fail_after;

/* In each list all fully scrubbed blocks stand before all others. */
static struct {
	struct spinlock lock;
	struct page_list list[PAGE_MAX_ORDER + 1];
	uint32_t orders;			/* bit per list that is not empty */
	uint64_t free;
	uint64_t claimed;			/* of them, for some domain alone */
	uint64_t total;
} heap;

static uint32_t frame_nr(const struct page *pg)
{
	return (uint32_t)(pg - frame_table);
}

void page_list_add(struct page_list *l, struct page *pg, bool front)
{
	uint32_t nr = frame_nr(pg);

	pg->next = front ? l->first : 0;
	pg->prev = front ? 0 : l->last;
	*(pg->next ? &frame_table[pg->next].prev : &l->last) = nr;
	*(pg->prev ? &frame_table[pg->prev].next : &l->first) = nr;
}

void page_list_del(struct page_list *l, struct page *pg)
{
	*(pg->next ? &frame_table[pg->next].prev : &l->last) = pg->prev;
	*(pg->prev ? &frame_table[pg->prev].next : &l->first) = pg->next;
}

/* --- Free blocks; all under heap.lock ----------------------------------- */

static void block_insert(uint32_t nr, unsigned int order, uint32_t clean)
{
	struct page *pg = &frame_table[nr];

	pg->flags |= PAGE_FREE;
	pg->order = (uint8_t)order;
	pg->clean = clean;
	page_list_add(&heap.list[order], pg, clean >> order);
	heap.orders |= 1u << order;
}

/* Returns the length of the clean prefix it had. */
static uint32_t block_remove(struct page *pg)
{
	unsigned int order = pg->order;
	uint32_t clean = pg->clean;

	page_list_del(&heap.list[order], pg);
	if (!heap.list[order].first)
		heap.orders &= ~(1u << order);
	pg->flags &= (uint8_t)~PAGE_FREE;
	pg->owner = 0;
	return clean;
}

/* Frees a block, merging it with its buddies. */
static void block_put(uint32_t nr, unsigned int order, uint32_t clean)
{
	heap.free += 1u << order;
	for (; order < PAGE_MAX_ORDER; order++) {
		uint32_t size = 1u << order;
		uint32_t buddy = nr ^ size;
		struct page *pg = &frame_table[buddy];
		uint32_t other;

		if (buddy >= frame_table_size || !(pg->flags & PAGE_FREE) || pg->order != order)
			break;
		other = block_remove(pg);
		if (buddy < nr)
			clean = other == size ? size + clean : other;
		else if (clean == size)
			clean += other;
		nr &= ~size;
	}
	block_insert(nr, order, clean);
}

/* Takes 2^order frames out of the smallest block that has them. */
static struct page *block_take(unsigned int order)
{
	int found = ffs64((uint64_t)heap.orders >> order << order);
	uint32_t nr, clean;

	if (found < 0)
		return NULL;
	nr = heap.list[found].first;
	clean = block_remove(&frame_table[nr]);
	for (unsigned int o = (unsigned int)found; o > order;) {
		uint32_t half = 1u << --o;

		block_insert(nr + half, o, clean > half ? clean - half : 0);
		clean = MIN(clean, half);
	}
	heap.free -= 1u << order;
	return &frame_table[nr];
}

/* The first frame of the free block with frame @nr in it; 0: that is not free. */
static uint32_t block_of(uint32_t nr)
{
	for (unsigned int order = 0; order <= PAGE_MAX_ORDER; order++) {
		uint32_t first = nr >> order << order;

		if ((frame_table[first].flags & PAGE_FREE) && frame_table[first].order == order)
			return first;
	}
	return 0;
}

/* Takes the very block of 2^order frames at @nr out of the free one around it. */
static bool block_take_at(uint32_t nr, unsigned int order)
{
	uint32_t first = block_of(nr), clean;
	unsigned int o = frame_table[first].order;

	if (!first || o < order)
		return false;
	clean = block_remove(&frame_table[first]);
	while (o > order) {
		uint32_t half = 1u << --o;

		if (nr < first + half) {
			block_insert(first + half, o, clean > half ? clean - half : 0);
			clean = MIN(clean, half);
		} else {
			block_insert(first, o, MIN(clean, half));
			clean = clean > half ? clean - half : 0;
			first += half;
		}
	}
	heap.free -= 1u << order;
	return true;
}

/* --- Allocation --------------------------------------------------------- */

static void scrub(struct page *pg)
{
	if (pg->flags & PAGE_DIRTY) {
		memset(mfn_to_virt(page_to_mfn(pg)), 0, PAGE_SIZE);
		pg->flags &= (uint8_t)~PAGE_DIRTY;
	}
}

/* Makes the frames of a block that was just taken @owner's. */
static void give(struct page *pg, unsigned int order, uint32_t owner)
{
	for (struct page *p = pg; p < pg + (1u << order); p++) {
		scrub(p);
		p->shared_gfn = 0;
		p->owner = owner;
		p->p2m_used = 0;
		atomic_store_explicit(&p->refs, !!owner, memory_order_relaxed);
	}
	pg->order = (uint8_t)order;
}

/*
 * Takes a block for @d, or for the hypervisor itself, from frame @nr on, 0: from anywhere.
 * What others claim is not for it, what it gets counts against its own claim. Heap lock held.
 */
static struct page *block_take_for(struct domain *d, unsigned int order, uint32_t nr)
{
	uint64_t count = 1ULL << order, own = 0;
	struct page *pg = NULL;

	if (unlikely(heap.claimed) && d)
		own = MIN(d->claim, count);
	if (likely(heap.free >= heap.claimed - own + count))
		pg = !nr ? block_take(order) : block_take_at(nr, order) ? &frame_table[nr] : NULL;
	if (own && pg) {
		heap.claimed -= own;
		d->claim -= own;
	}
	return pg;
}

/* As above, and makes the frames the taker's. */
static struct page *alloc_frames(struct domain *d, unsigned int order, uint32_t nr)
{
	struct page *pg;

	if (page_fail_now())
		return NULL;
	spin_lock(&heap.lock);
	pg = block_take_for(d, order, nr);
	spin_unlock(&heap.lock);
	if (pg)
		give(pg, order, d ? d->slot + 1 : 0);
	return pg;
}

static void free_frames(struct page *pg, unsigned int order)
{
	for (struct page *p = pg; p < pg + (1u << order); p++) {
		p->owner = 0;
		p->flags = PAGE_MANAGED | PAGE_DIRTY;
	}
	spin_lock(&heap.lock);
	block_put(frame_nr(pg), order, 0);
	spin_unlock(&heap.lock);
}

/* --- Start of day ------------------------------------------------------- */

uint64_t page_table_bytes(paddr_t ram_end)
{
	return (ram_end >> PAGE_SHIFT) * sizeof(struct page);
}

void page_init(void *table, paddr_t ram_end)
{
	memset(&heap, 0, sizeof(heap));
	spin_init(&heap.lock, LOCK_HEAP);
	frame_table = table;
	/* Frame numbers are 32 bits wide in the lists: 16 TiB. */
	frame_table_size = MIN(ram_end >> PAGE_SHIFT, (uint64_t)UINT32_MAX);
	memset(table, 0, frame_table_size * sizeof(struct page));
	slab_init();
}

void page_add_range(mfn_t start, uint64_t count)
{
	/* Number 0 ends lists, so frame 0 is never ours to give. */
	uint64_t nr = MAX(start.v, 1ULL);
	uint64_t end;

	if (add_overflows(start.v, count, &end) || end > frame_table_size)
		end = frame_table_size;
	for (uint64_t i = nr; i < end; i++)
		frame_table[i].flags = PAGE_MANAGED | PAGE_DIRTY;
	spin_lock(&heap.lock);
	while (nr < end) {
		unsigned int order = MIN((unsigned int)ffs64(nr), (unsigned int)fls64(end - nr));

		order = MIN(order, PAGE_MAX_ORDER);
		block_put((uint32_t)nr, order, 0);
		heap.total += 1ULL << order;
		nr += 1ULL << order;
	}
	spin_unlock(&heap.lock);
}

/* --- Public ------------------------------------------------------------- */

struct page *mfn_to_page(mfn_t mfn)
{
	if (mfn.v >= frame_table_size || !(frame_table[mfn.v].flags & PAGE_MANAGED))
		return NULL;
	return &frame_table[mfn.v];
}

void *hv_alloc_pages(unsigned int order)
{
	struct page *pg = alloc_frames(NULL, order, 0);

	return pg ? mfn_to_virt(page_to_mfn(pg)) : NULL;
}

void hv_free_pages(void *va, unsigned int order)
{
	struct page *pg = &frame_table[virt_to_mfn(va).v];

	ASSERT((pg->flags & ~PAGE_WALKED) == PAGE_MANAGED && pg->owner == 0 && pg->order == order);
	free_frames(pg, order);
}

/* Frames charged to @d's quota, from frame @nr on, 0: any. */
static int alloc_charged(struct domain *d, unsigned int order, uint32_t nr, mfn_t *mfn)
{
	unsigned long count = 1UL << order;
	struct page *pg = NULL;
	int rc = -XEN_E2BIG;

	/* Reserve first: two CPUs must not both see room for the last frame. */
	if (atomic_fetch_add_explicit(&d->tot_pages, count, memory_order_relaxed) + count <=
	    read_once(d->max_pages)) {
		pg = alloc_frames(d, order, nr);
		rc = pg ? 0 : -XEN_ENOMEM;
	}
	if (pg)
		*mfn = page_to_mfn(pg);
	else
		atomic_fetch_sub_explicit(&d->tot_pages, count, memory_order_relaxed);
	return rc;
}

int page_alloc_domain(struct domain *d, unsigned int order, mfn_t *mfn)
{
	return alloc_charged(d, order, 0, mfn);
}

int page_alloc_domain_at(struct domain *d, unsigned int order, mfn_t mfn)
{
	if (!mfn.v || !range_within(mfn.v, 1UL << order, frame_table_size))
		return -XEN_ENOMEM;
	return alloc_charged(d, order, (uint32_t)mfn.v, &mfn);
}

mfn_t page_free_run(mfn_t from, uint64_t *count)
{
	uint64_t nr = from.v, end;

	spin_lock(&heap.lock);
	while (nr < frame_table_size && !(frame_table[nr].flags & PAGE_FREE))
		nr++;
	for (end = nr; end < frame_table_size && frame_table[end].flags & PAGE_FREE;)
		end += 1ULL << frame_table[end].order;
	spin_unlock(&heap.lock);
	*count = end - nr;
	return MFN(nr);
}

bool page_get(struct page *pg)
{
	if (likely(atomic_fetch_add_explicit(&pg->refs, 1, memory_order_relaxed) < REFS_MAX))
		return true;
	atomic_fetch_sub_explicit(&pg->refs, 1, memory_order_relaxed);
	return false;
}

void page_put(struct page *pg)
{
	struct domain *d;

	ASSERT(pg->owner && !(pg->flags & PAGE_FREE));
	if (atomic_fetch_sub_explicit(&pg->refs, 1, memory_order_acq_rel) != 1)
		return;
	d = domain_by_slot(pg->owner - 1);
	free_frames(pg, PAGE_ORDER_4K);
	/* Last: with its final frame a dying domain may vanish. */
	atomic_fetch_sub_explicit(&d->tot_pages, 1, memory_order_release);
}

bool page_scrub_step(void)
{
	struct page *pg = NULL;
	unsigned int order;
	uint32_t nr, clean;

	/* Who allocates or frees must not queue behind all idle CPUs. */
	if (!spin_trylock(&heap.lock))
		return true;
	for (order = PAGE_MAX_ORDER + 1; !pg && order-- > 0;) {
		uint32_t last = heap.list[order].last;

		if (last && !(frame_table[last].clean >> order))
			pg = &frame_table[last];
	}
	if (!pg) {
		spin_unlock(&heap.lock);
		return false;
	}
	nr = frame_nr(pg);
	heap.free -= 1u << MIN(order, SCRUB_ORDER);
	clean = block_remove(pg);
	/* Keep the part where the clean prefix ends; the rest stays allocatable. */
	while (order > SCRUB_ORDER) {
		uint32_t half = 1u << --order;

		if (clean >= half) {
			block_insert(nr, order, half);
			nr += half;
			clean -= half;
		} else {
			block_insert(nr + half, order, 0);
		}
	}
	spin_unlock(&heap.lock);

	for (uint32_t i = 0; i < 1u << order; i++)
		scrub(&frame_table[nr + i]);
	spin_lock(&heap.lock);
	block_put(nr, order, 1u << order);
	spin_unlock(&heap.lock);
	return true;
}

int page_claim(struct domain *d, uint64_t count)
{
	uint64_t pages = atomic_load_explicit(&d->tot_pages, memory_order_relaxed);
	int rc = 0;

	spin_lock(&heap.lock);
	if (!count) {
		heap.claimed -= d->claim;
		d->claim = 0;
	} else if (d->claim || count <= pages || count > read_once(d->max_pages) ||
		   domain_is_dying(d)) {
		rc = -XEN_EINVAL;
	} else if (count - pages > heap.free - MIN(heap.claimed, heap.free)) {
		rc = -XEN_ENOMEM;
	} else {
		d->claim = count - pages;
		heap.claimed += d->claim;
	}
	spin_unlock(&heap.lock);
	return rc;
}

uint64_t page_claimed_count(void)
{
	return read_once(heap.claimed);
}

uint64_t page_free_count(void)
{
	return read_once(heap.free);
}

uint64_t page_total_count(void)
{
	return heap.total;
}
