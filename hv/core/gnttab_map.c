/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: mapping other domains' pages, and undoing it.
 *
 * Locks: gt->maptrack_lock of the mapping domain covers which handles are in
 * use; a handle in state MAPPING_BUSY belongs to the CPU that made it so.
 */
#include "gnttab_private.h"

#define RELEASE_STEP 32u
#define REFUSED_FLAGS (GNTMAP_device_map | GNTMAP_application_map | GNTMAP_contains_pte)

/* --- Handles ------------------------------------------------------------ */

static struct grant_mapping *mapping_of(struct grant_table *gt, uint32_t handle)
{
	return &gt->maptrack[handle / MAPPINGS_PER_PAGE][handle % MAPPINGS_PER_PAGE];
}

/* Maptrack lock held. */
static void push_free(struct grant_table *gt, uint32_t handle)
{
	struct grant_mapping *m = mapping_of(gt, handle);

	m->state = MAPPING_FREE;
	m->next = gt->free_mapping;
	gt->free_mapping = handle + 1;
}

static bool grow_maptrack(struct grant_table *gt)
{
	uint32_t first = gt->nr_mappings;
	struct grant_mapping *page;

	if (first == gt->max_mappings)
		return false;
	page = hv_alloc_pages(PAGE_ORDER_4K);
	if (!page)
		return false;
	gt->maptrack[first / MAPPINGS_PER_PAGE] = page;
	gt->nr_mappings += (uint32_t)MAPPINGS_PER_PAGE;
	for (uint32_t i = gt->nr_mappings; i-- > first;)
		push_free(gt, i);
	return true;
}

static bool alloc_handle(struct grant_table *gt, uint32_t *handle)
{
	struct grant_mapping *m;
	bool found;

	spin_lock(&gt->maptrack_lock);
	found = gt->free_mapping || grow_maptrack(gt);
	if (found) {
		*handle = gt->free_mapping - 1;
		m = mapping_of(gt, *handle);
		gt->free_mapping = m->next;
		m->state = MAPPING_BUSY;
	}
	spin_unlock(&gt->maptrack_lock);
	return found;
}

static void free_handle(struct grant_table *gt, uint32_t handle)
{
	spin_lock(&gt->maptrack_lock);
	push_free(gt, handle);
	spin_unlock(&gt->maptrack_lock);
}

/* Its fields, or its entry in the p2m, are as they were or should be. */
static void set_used(struct grant_mapping *m)
{
	__atomic_store_n(&m->state, MAPPING_USED, __ATOMIC_RELEASE);
}

/* --- The physical address space ----------------------------------------- */

/* What was at @gfn goes: RAM is given back, a page of the hypervisor's unhooked. */
static int16_t place(struct domain *d, gfn_t gfn, mfn_t mfn, enum p2m_type type)
{
	struct p2m_entry old;
	int err = -XEN_EINVAL;

	write_lock(&d->p2m.lock);
	old = p2m_get(&d->p2m, gfn);
	if (old.type <= P2M_SHARED || old.type == P2M_FOREIGN)
		err = p2m_set(d, gfn, PAGE_ORDER_4K, mfn, type);
	write_unlock(&d->p2m.lock);
	if (err)
		return GNTST_general_error;
	if (old.type != P2M_HOLE)
		p2m_flush(d);
	p2m_put_entry(old);
	return GNTST_okay;
}

/* The frame may be used until the next p2m_flush(). */
static int unplace(struct domain *d, const struct grant_mapping *m)
{
	struct p2m_entry e;
	int err = -XEN_EINVAL;

	write_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, GFN(m->gfn));
	if ((e.type == P2M_GRANT_RW || e.type == P2M_GRANT_RO) &&
	    e.mfn.v == page_to_mfn(m->page).v)
		err = p2m_set(d, GFN(m->gfn), PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE);
	write_unlock(&d->p2m.lock);
	return err;
}

/* --- Map ---------------------------------------------------------------- */

static int16_t map_grant(struct domain *d, struct domain *owner, struct gnttab_map_grant_ref *op)
{
	bool readonly = op->flags & GNTMAP_readonly;
	gfn_t gfn = gpa_to_gfn(op->host_addr);
	struct grant_mapping *m;
	struct grant_use use;
	uint32_t handle;
	int16_t status;

	if (!alloc_handle(d->grants, &handle))
		return GNTST_no_space;
	status = gnttab_acquire(owner, op->ref, d->id, readonly, true, &use);
	if (status != GNTST_okay)
		goto err_handle;
	status = place(d, gfn, page_to_mfn(use.page), readonly ? P2M_GRANT_RO : P2M_GRANT_RW);
	if (status != GNTST_okay)
		goto err_release;
	domain_get(owner);
	m = mapping_of(d->grants, handle);
	m->owner = owner;
	m->page = use.page;
	m->gfn = gfn.v;
	m->ref = op->ref;
	m->readonly = readonly;
	set_used(m);
	op->handle = handle;
	op->dev_bus_addr = mfn_to_paddr(page_to_mfn(use.page));
	return GNTST_okay;

err_release:
	gnttab_release(owner, op->ref, readonly);
err_handle:
	free_handle(d->grants, handle);
	return status;
}

static int16_t map_one(struct domain *d, struct gnttab_map_grant_ref *op)
{
	struct domain *owner;
	int16_t status = GNTST_bad_domain;

	if (!(op->flags & (GNTMAP_device_map | GNTMAP_host_map)))
		return GNTST_bad_gntref;
	if ((op->flags & REFUSED_FLAGS) || (op->host_addr & ~PAGE_MASK) ||
	    op->host_addr >> PAGE_SHIFT >= P2M_MAX_GFN)
		return GNTST_general_error;
	owner = domain_get_by_id(op->dom);
	if (!owner)
		return GNTST_bad_domain;
	if (!domain_is_dying(owner))
		status = map_grant(d, owner, op);
	domain_put(owner);
	return status;
}

static void map_batch(struct domain *d, void *elems, unsigned int n)
{
	struct gnttab_map_grant_ref *op = elems;

	for (; n-- > 0; op++)
		op->status = map_one(d, op);
}

int64_t gnttabop_map(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return gnttab_for_each(v, hc, sizeof(struct gnttab_map_grant_ref), map_batch);
}

/* --- Unmap -------------------------------------------------------------- */

/* After the flush: nobody can reach the frame through this mapping. */
static void drop_mapping(struct grant_table *gt, uint32_t handle)
{
	struct grant_mapping *m = mapping_of(gt, handle);
	struct domain *owner = m->owner;

	gnttab_release(owner, m->ref, m->readonly);
	free_handle(gt, handle);
	domain_put(owner);
}

/* True when the mapping is gone from the p2m and only waits for the flush. */
static bool unmap_one(struct domain *d, struct gnttab_unmap_grant_ref *op)
{
	struct grant_table *gt = d->grants;
	struct grant_mapping *m = NULL;

	op->status = GNTST_bad_handle;
	spin_lock(&gt->maptrack_lock);
	if (op->handle < gt->nr_mappings)
		m = mapping_of(gt, (uint32_t)index_nospec(op->handle, gt->nr_mappings));
	if (m && __atomic_load_n(&m->state, __ATOMIC_ACQUIRE) == MAPPING_USED) {
		op->status = GNTST_okay;
		if (op->host_addr && op->host_addr != gfn_to_gpa(GFN(m->gfn)))
			op->status = GNTST_general_error;
		else if (op->host_addr)
			m->state = MAPPING_BUSY;
	}
	spin_unlock(&gt->maptrack_lock);
	/* Without an address there is nothing to undo, as published. */
	if (op->status != GNTST_okay || !op->host_addr)
		return false;
	if (!unplace(d, m))
		return true;
	set_used(m);
	op->status = GNTST_general_error;
	return false;
}

static void unmap_batch(struct domain *d, void *elems, unsigned int n)
{
	struct gnttab_unmap_grant_ref *op = elems;
	uint32_t gone[GNTTAB_BATCH_BYTES / sizeof(*op)];
	unsigned int nr = 0;

	for (; n-- > 0; op++) {
		if (unmap_one(d, op))
			gone[nr++] = op->handle;
	}
	if (nr)
		p2m_flush(d);
	while (nr-- > 0)
		drop_mapping(d->grants, gone[nr]);
}

int64_t gnttabop_unmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return gnttab_for_each(v, hc, sizeof(struct gnttab_unmap_grant_ref), unmap_batch);
}

bool gnttab_release_step(struct domain *d)
{
	struct grant_table *gt = d->grants;
	uint32_t end = MIN(gt->released + RELEASE_STEP, gt->nr_mappings);
	uint32_t first = gt->released;

	/* Nobody else touches them now. Entries that resist go with the whole p2m. */
	for (uint32_t i = first; i < end; i++) {
		if (mapping_of(gt, i)->state == MAPPING_USED)
			(void)unplace(d, mapping_of(gt, i));
	}
	p2m_flush(d);
	for (uint32_t i = first; i < end; i++) {
		if (mapping_of(gt, i)->state == MAPPING_USED)
			drop_mapping(gt, i);
	}
	gt->released = end;
	return end == gt->nr_mappings;
}
