/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: mapping other domains' pages, and undoing it.
 *
 * Locks: the p2m lock of the mapping domain covers its handles too, so that
 * they and its entries change together.
 */
#include "gnttab_private.h"

#define RELEASE_STEP 32u
#define REFUSED_FLAGS (GNTMAP_device_map | GNTMAP_application_map | GNTMAP_contains_pte)

/* --- Handles; p2m lock held ---------------------------------------------- */

static struct grant_mapping *mapping_of(struct grant_table *gt, uint32_t handle)
{
	return &gt->maptrack[handle / MAPPINGS_PER_PAGE][handle % MAPPINGS_PER_PAGE];
}

static void push_free(struct grant_table *gt, uint32_t handle)
{
	struct grant_mapping *m = mapping_of(gt, handle);

	m->next = gt->free_mapping;
	gt->free_mapping = handle + 1;
}

/* Makes more free handles. False: out of memory, or at the limit. */
static bool grow_maptrack(struct grant_table *gt)
{
	struct grant_mapping **page = &gt->maptrack[gt->nr_mappings / MAPPINGS_PER_PAGE];

	if (gt->nr_mappings == gt->max_mappings)
		return false;
	*page = hv_alloc_pages(PAGE_ORDER_4K);
	if (!*page)
		return false;
	gt->nr_mappings += MAPPINGS_PER_PAGE;
	for (uint32_t n = 1; n <= MAPPINGS_PER_PAGE; n++)
		push_free(gt, gt->nr_mappings - n);
	return true;
}

/* --- Map ---------------------------------------------------------------- */

/* What was there goes: RAM is given back, a page of the hypervisor's unhooked. */
static int16_t place(struct domain *d, const struct grant_use *use,
		     struct gnttab_map_grant_ref *op)
{
	struct grant_table *gt = d->grants;
	bool readonly = op->flags & GNTMAP_readonly;
	enum p2m_type type = readonly ? P2M_GRANT_RO : P2M_GRANT_RW;
	struct p2m_entry old = { .type = P2M_HOLE };
	gfn_t gfn = gpa_to_gfn(op->host_addr);
	int16_t status = GNTST_no_space;
	struct grant_mapping *m;

	write_lock(&d->p2m.lock);
	if (!gt->free_mapping && !grow_maptrack(gt))
		goto out;
	status = GNTST_general_error;
	old = p2m_get(&d->p2m, gfn);
	if (p2m_is_grant(old.type) ||
	    p2m_set(d, gfn, PAGE_ORDER_4K, page_to_mfn(use->page), type))
		goto out;
	status = GNTST_okay;
	op->handle = gt->free_mapping - 1;
	m = mapping_of(gt, op->handle);
	gt->free_mapping = m->next;
	*m = (struct grant_mapping){ .owner = use->owner, .page = use->page, .gfn = gfn.v,
				     .ref = op->ref, .used = true, .readonly = readonly };
out:
	write_unlock(&d->p2m.lock);
	if (status == GNTST_okay && old.type != P2M_HOLE) {
		p2m_flush(d);
		p2m_put_entry(old);
	}
	return status;
}

int16_t gnttab_map_one(struct domain *d, void *elem)
{
	struct gnttab_map_grant_ref *op = elem;
	bool readonly = op->flags & GNTMAP_readonly;
	struct grant_use use;
	int16_t status;

	if (!(op->flags & (GNTMAP_device_map | GNTMAP_host_map)))
		return GNTST_bad_gntref;
	if ((op->flags & REFUSED_FLAGS) || (op->host_addr & ~PAGE_MASK) ||
	    op->host_addr >> PAGE_SHIFT >= P2M_MAX_GFN)
		return GNTST_general_error;
	status = gnttab_acquire(op->dom, op->ref, d->id, readonly, true, &use);
	if (status != GNTST_okay)
		return status;
	status = place(d, &use, op);
	if (status == GNTST_okay)
		op->dev_bus_addr = mfn_to_paddr(page_to_mfn(use.page));
	else
		gnttab_release(use.owner, op->ref, readonly);
	return status;
}

/* --- Unmap -------------------------------------------------------------- */

/* Nobody can reach the frame through this mapping any more. */
static void drop_mapping(struct domain *d, uint32_t handle)
{
	struct grant_mapping *m = mapping_of(d->grants, handle);

	gnttab_release(m->owner, m->ref, m->readonly);
	write_lock(&d->p2m.lock);
	m->used = false;
	push_free(d->grants, handle);
	write_unlock(&d->p2m.lock);
}

/* The frame may be used until the next p2m_flush(), and stays as long. */
int16_t gnttab_unmap_one(struct domain *d, void *elem)
{
	const struct gnttab_unmap_grant_ref *op = elem;
	struct grant_table *gt = d->grants;
	int16_t status = GNTST_bad_handle;
	struct grant_mapping *m;
	struct p2m_entry e;

	write_lock(&d->p2m.lock);
	if (op->handle >= gt->nr_mappings)
		goto out;
	m = mapping_of(gt, (uint32_t)index_nospec(op->handle, gt->nr_mappings));
	if (!m->used)
		goto out;
	/* Without an address there is nothing to undo, as published. */
	status = GNTST_okay;
	if (!op->host_addr)
		goto out;
	status = GNTST_general_error;
	e = p2m_get(&d->p2m, GFN(m->gfn));
	if (op->host_addr == gfn_to_gpa(GFN(m->gfn)) &&
	    (e.type == P2M_GRANT_RW || e.type == P2M_GRANT_RO) &&
	    e.mfn.v == page_to_mfn(m->page).v &&
	    !p2m_set(d, GFN(m->gfn), PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE)) {
		m->used = false;
		status = GNTST_okay;
	}
out:
	write_unlock(&d->p2m.lock);
	return status;
}

void gnttab_unmap_finish(struct domain *d, const void *elems, unsigned int n)
{
	const struct gnttab_unmap_grant_ref *op = elems;

	p2m_flush(d);
	for (; n-- > 0; op++) {
		if (op->status == GNTST_okay && op->host_addr)
			drop_mapping(d, op->handle);
	}
}

/* No vCPU of it runs any more, and the whole p2m goes next: its entries can stay. */
bool gnttab_release_step(struct domain *d)
{
	struct grant_table *gt = d->grants;
	uint32_t end = MIN(gt->released + RELEASE_STEP, gt->nr_mappings);

	for (; gt->released < end; gt->released++) {
		if (mapping_of(gt, gt->released)->used)
			drop_mapping(d, gt->released);
	}
	return end == gt->nr_mappings;
}
