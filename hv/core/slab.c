/* SPDX-License-Identifier: MIT */
/*
 * Small allocations of the hypervisor: pages divided into equal objects of
 * 32 bytes to 2 KiB, whole blocks of pages above that.
 *
 * Owns: the lists of slab pages with room, one per size, under `lock`
 * (LOCK_HEAP; never held together with the page allocator's). A free object's
 * first byte is the index of the next free one; contents are zeroed on the
 * way out.
 */
#include "hospes/lib.h"
#include "hospes/page.h"
#include "hospes/spinlock.h"

#define MIN_SHIFT 5u
#define MAX_SHIFT 11u
#define MAX_SIZE (1u << 20)
#define NO_OBJECT 0xffu

static struct spinlock lock = SPINLOCK(LOCK_HEAP);
static struct page_list partial[MAX_SHIFT + 1];	/* pages with room, by size */

/* A fresh page of free objects, in no list yet. */
static struct page *slab_create(unsigned int shift)
{
	uint8_t *va = hv_alloc_pages(0);
	unsigned int count = (unsigned int)(PAGE_SIZE >> shift);
	struct page *pg;

	if (!va)
		return NULL;
	for (unsigned int i = 0; i < count; i++)
		va[i << shift] = (uint8_t)(i + 1 < count ? i + 1 : NO_OBJECT);
	pg = &frame_table[virt_to_mfn(va).v];
	pg->flags |= PAGE_SLAB;
	pg->order = (uint8_t)shift;
	pg->slab_first = 0;
	pg->slab_used = 0;
	return pg;
}

void slab_init(void)
{
	memset(partial, 0, sizeof(partial));
}

void *hv_alloc(size_t size)
{
	unsigned int shift = MAX((unsigned int)(fls64(size - 1) + 1), MIN_SHIFT);
	struct page *pg;
	uint8_t *obj;

	if (!size || size > MAX_SIZE)
		return NULL;
	if (shift > MAX_SHIFT)
		return hv_alloc_pages(shift > PAGE_SHIFT ? shift - PAGE_SHIFT : 0);
	if (page_fail_now())
		return NULL;
	spin_lock(&lock);
	if (!partial[shift].first) {
		spin_unlock(&lock);
		pg = slab_create(shift);
		if (!pg)
			return NULL;
		spin_lock(&lock);
		page_list_add(&partial[shift], pg, true);
	}
	pg = &frame_table[partial[shift].first];
	obj = (uint8_t *)mfn_to_virt(page_to_mfn(pg)) + ((size_t)pg->slab_first << shift);
	pg->slab_first = *obj;
	pg->slab_used++;
	if (pg->slab_first == NO_OBJECT)
		page_list_del(&partial[shift], pg);
	spin_unlock(&lock);
	memset(obj, 0, size);
	return obj;
}

void hv_free(void *p)
{
	struct page *pg;
	bool empty;

	if (!p)
		return;
	pg = &frame_table[virt_to_mfn(p).v];
	if (!(pg->flags & PAGE_SLAB)) {
		hv_free_pages(p, pg->order);
		return;
	}
	ASSERT(pg->slab_used && ((uintptr_t)p & ((1u << pg->order) - 1)) == 0);
	spin_lock(&lock);
	if (pg->slab_first == NO_OBJECT)
		page_list_add(&partial[pg->order], pg, true);
	*(uint8_t *)p = pg->slab_first;
	pg->slab_first = (uint8_t)(((uintptr_t)p & ~PAGE_MASK) >> pg->order);
	empty = --pg->slab_used == 0;
	if (empty)
		page_list_del(&partial[pg->order], pg);
	spin_unlock(&lock);
	if (empty) {
		pg->flags &= (uint8_t)~PAGE_SLAB;
		pg->order = 0;
		hv_free_pages(mfn_to_virt(page_to_mfn(pg)), 0);
	}
}
