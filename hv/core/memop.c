/* SPDX-License-Identifier: MIT */
/*
 * memory_op: what a guest may change about its own physical address space,
 * and a privileged domain about others'.
 *
 * Looking up what lies at a frame and replacing it is one step under the p2m's
 * write lock. Progress of long operations stands in the command from bit 6 on,
 * as published.
 */
#include "hospes/domain.h"
#include "hospes/gnttab.h"
#include "hospes/hypercall.h"

#define PROGRESS_SHIFT 6
#define MAX_EXTENTS (1ULL << 26)	/* more would not fit into the progress */

/* The @i-th piece of an operation on @d, whose argument is @arg. */
typedef int piece_fn(struct vcpu *v, const struct hypercall *hc, struct domain *d,
		     const void *arg, uint64_t i);

/*
 * Does @count pieces of an operation on domain @id, less those done before.
 * 0, an error, or HC_CONTINUE. The progress in the command says how many are done.
 */
static int64_t for_each(struct vcpu *v, struct hypercall *hc, domid_t id, piece_fn *fn,
			const void *arg, uint64_t count)
{
	uint64_t first = hc->arg[0] >> PROGRESS_SHIFT, done;
	struct domain *d;
	int64_t rc;

	rc = domain_find_target(v, id, &d);
	if (rc)
		return rc;
	for (done = first; !rc && done < count; done += !rc) {
		if (done > first && hypercall_preempt(v))
			rc = HC_CONTINUE;
		else
			rc = fn(v, hc, d, arg, done);
	}
	hc->arg[0] = hc->op | done << PROGRESS_SHIFT;
	domain_put(d);
	return rc;
}

/* --- Reservations ------------------------------------------------------- */

static int extent_one(struct vcpu *v, const struct hypercall *hc, struct domain *d,
		      const void *arg, uint64_t i)
{
	const struct xen_memory_reservation *r = arg;
	xen_pfn_t gfn;

	if (copy_from_guest(v, &gfn, guest_handle(r->extent_start) + i * sizeof(gfn), sizeof(gfn)))
		return -XEN_EFAULT;
	return hc->op == XENMEM_populate_physmap ? p2m_populate(d, GFN(gfn), r->extent_order) :
	       p2m_release(d, GFN(gfn), 1ULL << r->extent_order);
}

/*
 * Populates or releases. By the ABI every error, even of the arguments, ends
 * with the number of extents done so far, never with an errno.
 */
int64_t memop_reservation(struct vcpu *v, struct hypercall *hc, void *arg)
{
	unsigned int max_order = v->domain->privileged ? PAGE_ORDER_1G : PAGE_ORDER_2M;
	const struct xen_memory_reservation *r = arg;

	if (r->nr_extents < MAX_EXTENTS && r->extent_order <= max_order &&
	    !(r->mem_flags & XENMEMF_populate_on_demand) &&
	    for_each(v, hc, r->domid, extent_one, r, r->nr_extents) == HC_CONTINUE)
		return HC_CONTINUE;
	return (int64_t)(hc->arg[0] >> PROGRESS_SHIFT);
}

/* --- Queries ------------------------------------------------------------ */

int64_t memop_query(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct domain *d;
	int64_t rc = domain_find_target(v, *(const domid_t *)arg, &d);

	if (rc)
		return rc;
	if (hc->op == XENMEM_current_reservation)
		rc = (int64_t)atomic_load_explicit(&d->tot_pages, memory_order_relaxed);
	else if (hc->op == XENMEM_maximum_reservation)
		rc = (int64_t)read_once(d->max_pages);
	else
		rc = (int64_t)read_once(d->p2m.max_gfn.v);
	domain_put(d);
	return rc;
}

int64_t memop_memory_map(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_memory_map *map = arg;
	struct domain *d = v->domain;
	int64_t rc = -XEN_ENOSYS;

	spin_lock(&d->lock);
	if (d->nr_e820) {
		map->nr_entries = MIN(map->nr_entries, d->nr_e820);
		rc = copy_to_guest(v, guest_handle(map->buffer), d->e820,
				   map->nr_entries * sizeof(d->e820[0]));
	}
	spin_unlock(&d->lock);
	return rc;
}

int64_t memop_set_memory_map(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_foreign_memory_map *f = arg;
	gva_t from = guest_handle(f->map.buffer);
	unsigned int nr = f->map.nr_entries;
	struct e820entry_abi *map;	/* too big for the stack */
	struct domain *d;
	int64_t rc;

	if (nr > E820_MAX)
		return -XEN_EINVAL;
	rc = domain_find_target(v, f->domid, &d);
	if (rc)
		return rc;
	map = hv_alloc(sizeof(d->e820));
	rc = map ? copy_from_guest(v, map, from, nr * sizeof(map[0])) : -XEN_ENOMEM;
	if (!rc) {
		spin_lock(&d->lock);
		memcpy(d->e820, map, nr * sizeof(map[0]));
		d->nr_e820 = nr;
		spin_unlock(&d->lock);
	}
	hv_free(map);
	domain_put(d);
	return rc;
}

/* --- Promises of memory ------------------------------------------------- */

int64_t memop_claim_pages(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_memory_reservation *r = arg;
	struct domain *d;
	int64_t rc;

	if (guest_handle(r->extent_start) || r->extent_order || r->mem_flags)
		return -XEN_EINVAL;
	d = domain_get_by_id(r->domid);
	if (!d)
		return -XEN_EINVAL;
	rc = page_claim(d, r->nr_extents);
	domain_put(d);
	return rc;
}

/* Nobody has pages that are populated on demand: every target is reached at once. */
int64_t memop_pod_target(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_pod_target *t = arg;
	struct domain *d;
	int64_t rc = domain_find_target(v, t->domid, &d);

	if (rc)
		return rc;
	if (hc->op == XENMEM_set_pod_target && t->target_pages > read_once(d->max_pages))
		rc = -XEN_EINVAL;
	t->tot_pages = atomic_load_explicit(&d->tot_pages, memory_order_relaxed);
	t->pod_cache_pages = t->pod_entries = 0;
	domain_put(d);
	return rc;
}

/* Pages are never shared to save memory. */
int64_t memop_sharing_counter(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return 0;
}

int64_t memop_get_vnumainfo(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_vnuma_topology_info *info = arg;
	struct domain *d;
	int64_t rc = domain_find_target(v, info->domid, &d);

	if (rc)
		return rc;
	domain_put(d);
	return -XEN_EOPNOTSUPP;		/* no guest is told of nodes */
}

/* --- Mapping what is there already -------------------------------------- */

/* May a mapping of the new @type, a hole to remove, take the place of @old? */
static int may_replace(struct domain *d, enum p2m_type old, enum p2m_type type)
{
	if (type == P2M_HOLE && old == P2M_HOLE)
		return -XEN_ENOENT;
	if (type != P2M_HOLE && domain_is_dying(d))
		return -XEN_ESRCH;
	/* Entries that have an owner's book behind them go away through it only. */
	return p2m_is_grant(old) ? -XEN_EPERM : 0;
}

/*
 * Puts in place of what is at @gfn, whose reference goes: @mfn with its
 * reference (P2M_FOREIGN), the hypervisor's page @mfn (P2M_SHARED), the own page
 * at @from (P2M_RAM), or nothing (P2M_HOLE). A page that was elsewhere moves.
 */
static int replace(struct domain *d, gfn_t gfn, enum p2m_type type, mfn_t mfn, gfn_t from)
{
	struct p2m *p = &d->p2m;
	struct p2m_entry old, gone = { .type = P2M_HOLE }, new = { .mfn = mfn, .type = type };
	int rc = -XEN_EINVAL;

	write_lock(&p->lock);
	old = p2m_get(p, gfn);
	if (type == P2M_SHARED)		/* 0, nowhere, wraps to INVALID_GFN */
		from = GFN(frame_table[mfn.v].shared_gfn - 1);
	else if (type == P2M_RAM)
		new = p2m_get(p, from);
	if (type != P2M_RAM || new.type == P2M_RAM || new.type == P2M_RAM_RO)
		rc = may_replace(d, old.type, type);
	if (rc || from.v == gfn.v)
		goto out;
	/* First what can fail, so that nothing needs to be undone. */
	if (from.v != INVALID_GFN.v)
		rc = p2m_split(d, from);
	if (!rc)
		rc = p2m_set(d, gfn, PAGE_ORDER_4K, new.mfn, new.type);
	if (rc)
		goto out;
	if (from.v != INVALID_GFN.v)
		rc = p2m_set(d, from, PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE);
	p2m_flush(d);
	gone = old;
out:
	write_unlock(&p->lock);
	p2m_put_entry(gone);
	return rc;
}

static int map_one(struct domain *d, unsigned int space, uint64_t idx, gfn_t gfn)
{
	mfn_t mfn = virt_to_mfn(d->shared);
	int rc = -XEN_EINVAL;

	if (gfn.v >= P2M_MAX_GFN)
		return rc;
	if (space == XENMAPSPACE_gmfn || space == XENMAPSPACE_gmfn_range)
		return replace(d, gfn, P2M_RAM, INVALID_MFN, GFN(idx));
	if (space == XENMAPSPACE_grant_table)
		rc = gnttab_get_frame(d, idx, &mfn);
	else if (space == XENMAPSPACE_shared_info && !idx)
		rc = 0;
	return rc ? rc : replace(d, gfn, P2M_SHARED, mfn, INVALID_GFN);
}

static int add_one(struct vcpu *v, const struct hypercall *hc, struct domain *d, const void *arg,
		   uint64_t i)
{
	const struct xen_add_to_physmap *a = arg;

	if (a->space == XENMAPSPACE_gmfn_foreign)
		return -XEN_ENOSYS;
	return map_one(d, a->space, a->idx + i, GFN(a->gpfn + i));
}

int64_t memop_add_to_physmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_add_to_physmap *a = arg;
	uint64_t count = a->space == XENMAPSPACE_gmfn_range ? a->size : 1;

	return for_each(v, hc, a->domid, add_one, a, count);
}

/* A page of @from, by privilege. */
static int map_foreign(struct vcpu *v, struct domain *d, domid_t from, uint64_t idx, gfn_t gfn)
{
	struct domain *owner;
	struct page *pg;
	int rc;

	if (!v->domain->privileged || from == v->domain->id)
		return -XEN_EPERM;
	owner = domain_get_by_id(from);
	if (!owner)
		return from == DOMID_XEN ? -XEN_EINVAL : -XEN_ESRCH;	/* it shares nothing */
	pg = gfn.v < P2M_MAX_GFN ? p2m_get_page(owner, GFN(idx), true) : NULL;
	domain_put(owner);
	if (!pg)
		return -XEN_EINVAL;
	rc = replace(d, gfn, P2M_FOREIGN, page_to_mfn(pg), INVALID_GFN);
	if (rc)
		page_put(pg);
	return rc;
}

/* One element of a batch: -XEN_EFAULT only when an array cannot be reached. */
static int batch_one(struct vcpu *v, const struct hypercall *hc, struct domain *d,
		     const void *arg, uint64_t i)
{
	const struct xen_add_to_physmap_batch *b = arg;
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
	bool mmio = b->space == XENMAPSPACE_dev_mmio;
	int64_t rc, refuse = 0;

	if (b->space == XENMAPSPACE_gmfn_range || (mmio && b->u.res0))
		refuse = -XEN_EOPNOTSUPP;
	else if (mmio)
		refuse = -XEN_EACCES;
	rc = for_each(v, hc, b->domid, batch_one, b, refuse ? 0 : b->size);
	return rc ? rc : refuse;
}

int64_t memop_remove_from_physmap(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_remove_from_physmap *r = arg;
	struct domain *d;
	int64_t rc = domain_find_target(v, r->domid, &d);

	if (rc)
		return rc;
	rc = replace(d, GFN(r->gpfn), P2M_HOLE, INVALID_MFN, INVALID_GFN);
	domain_put(d);
	return rc;
}

/* --- Frames behind another domain's grant table --------------------------- */

/* Maps frame @i of the resource where the caller's list says. */
static int acquire_one(struct vcpu *v, const struct hypercall *hc, struct domain *owner,
		       const void *arg, uint64_t i)
{
	const struct xen_mem_acquire_resource *r = arg;
	bool status = r->id == XENMEM_resource_grant_table_id_status;
	uint64_t idx = r->frame + i;
	xen_pfn_t gfn;
	mfn_t mfn;
	int rc;

	if (idx >= XENMAPIDX_grant_table_status)
		return -XEN_EINVAL;
	if (copy_from_guest(v, &gfn, guest_handle(r->frame_list) + i * sizeof(gfn), sizeof(gfn)))
		return -XEN_EFAULT;
	idx |= status ? XENMAPIDX_grant_table_status : 0;
	rc = gfn < P2M_MAX_GFN ? gnttab_get_frame(owner, idx, &mfn) : -XEN_EINVAL;
	if (rc)
		return rc;
	/* The entry refers to the domain, which keeps its table as long. */
	domain_get(owner);
	frame_table[mfn.v].shared_slot = (uint16_t)(owner->slot + 1);
	rc = replace(v->domain, GFN(gfn), P2M_FOREIGN, mfn, INVALID_GFN);
	if (rc)
		domain_put(owner);
	return rc;
}

/* The refusals, in the published order; 0: it is the grant table, and those frames may exist. */
static int check_resource(const struct vcpu *v, const struct xen_mem_acquire_resource *r)
{
	if (r->pad)
		return -XEN_EINVAL;
	if (r->domid == v->domain->id)
		return -XEN_EPERM;
	if (r->frame + r->nr_frames < r->frame || (r->frame + r->nr_frames) >> 32)
		return -XEN_EINVAL;
	return 0;
}

int64_t memop_acquire_resource(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_mem_acquire_resource *r = arg;
	struct domain *d;
	int64_t rc;

	if (!v->domain->privileged)
		return -XEN_EACCES;
	rc = check_resource(v, r);
	if (rc)
		return rc;
	d = domain_get_by_id(r->domid);
	if (!d)
		return -XEN_ESRCH;
	if (r->type != XENMEM_resource_grant_table)
		rc = r->type == XENMEM_resource_ioreq_server ? -XEN_ENOENT : -XEN_EOPNOTSUPP;
	else if (r->id > XENMEM_resource_grant_table_id_status)
		rc = -XEN_EINVAL;
	else if (guest_handle(r->frame_list))
		rc = for_each(v, hc, r->domid, acquire_one, r, r->nr_frames);
	else if (r->nr_frames)
		rc = -XEN_EINVAL;
	else
		r->nr_frames = gnttab_max_frames(d, r->id);
	domain_put(d);
	return rc;
}
