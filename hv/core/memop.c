/* SPDX-License-Identifier: MIT */
/*
 * memory_op: what a guest may change about its own physical address space,
 * and a privileged domain about others'.
 *
 * Each step of an operation holds d->memory_lock (LOCK_MEMORY), so that looking
 * up what lies at a frame and replacing it is one step. Progress of long
 * operations stands in the command from bit 6 on, as published.
 */
#include "hospes/domain.h"
#include "hospes/gnttab.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define PROGRESS_SHIFT 6
#define MAX_EXTENTS (1ULL << 26)	/* more would not fit into the progress */

static uint64_t progress(const struct hypercall *hc)
{
	return hc->arg[0] >> PROGRESS_SHIFT;
}

static int64_t go_on(struct hypercall *hc, uint64_t done)
{
	hc->arg[0] = hc->op | done << PROGRESS_SHIFT;
	return HC_CONTINUE;
}

/* --- Reservations ------------------------------------------------------- */

typedef int extent_fn(struct domain *d, gfn_t gfn, unsigned int order);

/*
 * Runs @fn on each extent. By the ABI every error, even of the arguments, ends
 * with the number of extents done so far, never with an errno.
 */
static int64_t for_each_extent(struct vcpu *v, struct hypercall *hc,
			       const struct xen_memory_reservation *r, extent_fn *fn)
{
	unsigned int max_order = v->domain->privileged ? PAGE_ORDER_1G : PAGE_ORDER_2M;
	uint64_t i = progress(hc), first = i;
	struct domain *d;
	xen_pfn_t gfn;

	if (r->nr_extents >= MAX_EXTENTS || r->extent_order > max_order ||
	    (r->mem_flags & XENMEMF_populate_on_demand) || domain_find_target(v, r->domid, &d))
		return (int64_t)i;
	for (; i < r->nr_extents; i++) {
		int rc;

		if (i > first && hypercall_preempt(v)) {
			domain_put(d);
			return go_on(hc, i);
		}
		if (copy_from_guest(v, &gfn, guest_handle(r->extent_start) + i * sizeof(gfn),
				    sizeof(gfn)))
			break;
		spin_lock(&d->memory_lock);
		rc = fn(d, GFN(gfn), r->extent_order);
		spin_unlock(&d->memory_lock);
		if (rc)
			break;
	}
	domain_put(d);
	return (int64_t)i;
}

static int release_extent(struct domain *d, gfn_t gfn, unsigned int order)
{
	return p2m_release(d, gfn, 1ULL << order);
}

int64_t memop_populate_physmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return for_each_extent(v, hc, arg, p2m_populate);
}

int64_t memop_decrease_reservation(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return for_each_extent(v, hc, arg, release_extent);
}

/* --- Queries ------------------------------------------------------------ */

static uint64_t get_current(struct domain *d)
{
	return atomic_load_explicit(&d->tot_pages, memory_order_relaxed);
}

static uint64_t get_maximum(struct domain *d)
{
	return d->max_pages;
}

static uint64_t get_max_gfn(struct domain *d)
{
	return read_once(d->p2m.max_gfn.v);
}

static int64_t query(struct vcpu *v, const void *arg, uint64_t (*get)(struct domain *d))
{
	struct domain *d;
	int64_t rc = domain_find_target(v, *(const domid_t *)arg, &d);

	if (rc)
		return rc;
	rc = (int64_t)get(d);
	domain_put(d);
	return rc;
}

int64_t memop_current_reservation(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)hc;
	return query(v, arg, get_current);
}

int64_t memop_maximum_reservation(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)hc;
	return query(v, arg, get_maximum);
}

int64_t memop_maximum_gpfn(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)hc;
	return query(v, arg, get_max_gfn);
}

int64_t memop_memory_map(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_memory_map *map = arg;
	struct domain *d = v->domain;
	unsigned int n = MIN(map->nr_entries, d->nr_e820);

	(void)hc;
	if (!d->nr_e820)
		return -XEN_ENOSYS;
	if (copy_to_guest(v, guest_handle(map->buffer), d->e820, n * sizeof(d->e820[0])))
		return -XEN_EFAULT;
	map->nr_entries = n;
	return 0;
}

/* --- Mapping what is there already -------------------------------------- */

/* Entries that have an owner's book behind them go away through it only. */
static bool is_bound(enum p2m_type t)
{
	return t == P2M_GRANT_RW || t == P2M_GRANT_RO || t == P2M_MMIO;
}

/*
 * Puts @mfn at @gfn in place of what is there, whose reference goes, and
 * leaves a hole at @old (INVALID_GFN: it was nowhere). p2m write lock held;
 * *gone is for p2m_put_entry() after it was released.
 */
static int replace(struct domain *d, gfn_t gfn, mfn_t mfn, enum p2m_type type, gfn_t old,
		   struct p2m_entry *gone)
{
	struct p2m_entry e = p2m_get(&d->p2m, gfn);
	bool moves = old.v != INVALID_GFN.v;
	int rc;

	if (domain_is_dying(d))
		return -XEN_ESRCH;
	if (is_bound(e.type))
		return -XEN_EPERM;
	if (moves && old.v == gfn.v)
		return 0;
	/* First what can fail, so that nothing needs to be undone. */
	rc = moves ? p2m_split(d, old) : 0;
	if (!rc)
		rc = p2m_set(d, gfn, PAGE_ORDER_4K, mfn, type);
	if (rc)
		return rc;
	if (moves)
		rc = p2m_set(d, old, PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE);
	p2m_flush(d);
	*gone = e;
	return rc;
}

/* A page of the hypervisor: a second mapping moves it. */
static int map_shared(struct domain *d, mfn_t mfn, gfn_t gfn)
{
	struct p2m_entry gone = { .type = P2M_HOLE };
	uint64_t old;
	int rc;

	write_lock(&d->p2m.lock);
	/* 0, nowhere, wraps to INVALID_GFN. */
	old = frame_table[mfn.v].shared_gfn - 1;
	rc = replace(d, gfn, mfn, P2M_SHARED, GFN(old), &gone);
	write_unlock(&d->p2m.lock);
	p2m_put_entry(gone);
	return rc;
}

static int map_shared_info(struct domain *d, uint64_t idx, gfn_t gfn)
{
	return idx ? -XEN_EINVAL : map_shared(d, virt_to_mfn(d->shared), gfn);
}

static int map_grant_frame(struct domain *d, uint64_t idx, gfn_t gfn)
{
	mfn_t mfn;
	int rc = gnttab_get_frame(d, idx, &mfn);

	return rc ? rc : map_shared(d, mfn, gfn);
}

/* Moves one page of own RAM. */
static int map_gmfn(struct domain *d, uint64_t idx, gfn_t gfn)
{
	struct p2m_entry gone = { .type = P2M_HOLE }, e;
	int rc = -XEN_EINVAL;

	write_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, GFN(idx));
	if (e.type == P2M_RAM || e.type == P2M_RAM_RO)
		rc = replace(d, gfn, e.mfn, e.type, GFN(idx), &gone);
	write_unlock(&d->p2m.lock);
	p2m_put_entry(gone);
	return rc;
}

typedef int map_fn(struct domain *d, uint64_t idx, gfn_t gfn);

static map_fn *const map_space[] = {
	[XENMAPSPACE_shared_info] = map_shared_info,
	[XENMAPSPACE_grant_table] = map_grant_frame,
	[XENMAPSPACE_gmfn] = map_gmfn,
	[XENMAPSPACE_gmfn_range] = map_gmfn,
};

static int map_one(struct domain *d, unsigned int space, uint64_t idx, gfn_t gfn)
{
	int rc;

	if (space >= ARRAY_SIZE(map_space) || gfn.v >= P2M_MAX_GFN)
		return -XEN_EINVAL;
	spin_lock(&d->memory_lock);
	rc = map_space[space](d, idx, gfn);
	spin_unlock(&d->memory_lock);
	return rc;
}

int64_t memop_add_to_physmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_add_to_physmap *a = arg;
	uint64_t i = progress(hc), first = i;
	uint64_t count = a->space == XENMAPSPACE_gmfn_range ? a->size : 1;
	struct domain *d;
	int64_t rc = domain_find_target(v, a->domid, &d);

	if (rc)
		return rc;
	if (a->space == XENMAPSPACE_gmfn_foreign)
		rc = -XEN_ENOSYS;
	for (; !rc && i < count; i++) {
		if (i > first && hypercall_preempt(v)) {
			rc = go_on(hc, i);
			break;
		}
		rc = map_one(d, a->space, a->idx + i, GFN(a->gpfn + i));
	}
	domain_put(d);
	return rc;
}

/* A page of @from, by privilege. */
static int map_foreign(struct vcpu *v, struct domain *d, domid_t from, uint64_t idx, gfn_t gfn)
{
	struct p2m_entry gone = { .type = P2M_HOLE };
	struct domain *owner;
	struct page *pg;
	int rc;

	if (!v->domain->privileged || from == v->domain->id)
		return -XEN_EPERM;
	owner = domain_get_by_id(from);
	if (!owner)
		return -XEN_ESRCH;
	rc = -XEN_EINVAL;
	pg = gfn.v < P2M_MAX_GFN ? p2m_get_page(owner, GFN(idx), true) : NULL;
	domain_put(owner);
	if (!pg)
		return rc;
	spin_lock(&d->memory_lock);
	write_lock(&d->p2m.lock);
	rc = replace(d, gfn, page_to_mfn(pg), P2M_FOREIGN, INVALID_GFN, &gone);
	write_unlock(&d->p2m.lock);
	spin_unlock(&d->memory_lock);
	p2m_put_entry(gone);
	if (rc)
		page_put(pg);
	return rc;
}

/* One element of a batch: -XEN_EFAULT only when an array cannot be reached. */
static int batch_one(struct vcpu *v, struct domain *d, const struct xen_add_to_physmap_batch *b,
		     uint64_t i)
{
	xen_ulong_t idx;
	xen_pfn_t gpfn;
	int32_t rc;

	if (copy_from_guest(v, &idx, guest_handle(b->idxs) + i * sizeof(idx), sizeof(idx)) ||
	    copy_from_guest(v, &gpfn, guest_handle(b->gpfns) + i * sizeof(gpfn), sizeof(gpfn)))
		return -XEN_EFAULT;
	if (b->space == XENMAPSPACE_gmfn_foreign)
		rc = map_foreign(v, d, b->u.foreign_domid, idx, GFN(gpfn));
	else
		rc = map_one(d, b->space, idx, GFN(gpfn));
	return copy_to_guest(v, guest_handle(b->errs) + i * sizeof(rc), &rc, sizeof(rc));
}

int64_t memop_add_to_physmap_batch(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_add_to_physmap_batch *b = arg;
	uint64_t i = progress(hc), first = i;
	struct domain *d;
	int64_t rc = domain_find_target(v, b->domid, &d);

	if (rc)
		return rc;
	if (b->space == XENMAPSPACE_gmfn_range)
		rc = -XEN_EOPNOTSUPP;
	else if (b->space == XENMAPSPACE_dev_mmio)
		rc = b->u.res0 ? -XEN_EOPNOTSUPP : -XEN_EACCES;
	for (; !rc && i < b->size; i++) {
		if (i > first && hypercall_preempt(v)) {
			rc = go_on(hc, i);
			break;
		}
		rc = batch_one(v, d, b, i);
	}
	domain_put(d);
	return rc;
}

int64_t memop_remove_from_physmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_remove_from_physmap *r = arg;
	struct p2m_entry e;
	struct domain *d;
	int64_t rc = domain_find_target(v, r->domid, &d);

	(void)hc;
	if (rc)
		return rc;
	spin_lock(&d->memory_lock);
	write_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, GFN(r->gpfn));
	if (e.type == P2M_HOLE)
		rc = -XEN_ENOENT;
	else if (is_bound(e.type))
		rc = -XEN_EPERM;
	else
		rc = p2m_set(d, GFN(r->gpfn), PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE);
	if (!rc)
		p2m_flush(d);
	write_unlock(&d->p2m.lock);
	spin_unlock(&d->memory_lock);
	if (!rc)
		p2m_put_entry(e);
	domain_put(d);
	return rc;
}

/*
 * Frames of another domain's resources are for its device models, which there
 * are none of; the ladder of refusals is the published one.
 */
int64_t memop_acquire_resource(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_mem_acquire_resource *r = arg;
	struct domain *d;

	(void)hc;
	if (!v->domain->privileged)
		return -XEN_EACCES;
	if (r->pad)
		return -XEN_EINVAL;
	if (r->domid == v->domain->id)
		return -XEN_EPERM;
	d = domain_get_by_id(r->domid);
	if (!d)
		return -XEN_ESRCH;
	domain_put(d);
	return -XEN_EOPNOTSUPP;
}
