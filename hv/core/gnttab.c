/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: the table itself, its versions, and taking grants into use.
 *
 * Locks: gt->lock of the granting domain. The entries are the guest's too; it
 * may change them at any time, and revokes by compare-and-swap of an entry
 * whose "in use" bits are clear. So these bits are set the same way, and what
 * they protect is read afterwards.
 */
#include "gnttab_private.h"

#define RESERVED_REFS 8u		/* console, xenstore: survive a change of version */
#define STATUS_PER_PAGE (PAGE_SIZE / sizeof(grant_status_t))
#define FRAMES_PER_STATUS 8u
#define MAX_FRAMES 16384u		/* references fit 24 bits */
#define MAX_MAPTRACK_FRAMES 65536u
#define BATCH_BYTES 512u
#define STATUS_INDEX 0x80000000u	/* published: asks for a status frame */
#define CLAIM_TRIES 4u			/* the guest may change its entry that often */
#define NOT_WHOLE (GTF_sub_page | GTF_PWT | GTF_PCD | GTF_PAT)

/* --- The table ---------------------------------------------------------- */

/* Where all about one grant is. */
struct grant {
	uint32_t *entry;		/* begins with flags and domid */
	uint16_t *status;		/* has the "in use" bits: in version 1 the flags */
	struct grant_active *act;
};

/* Entries are 8 bytes in version 1 and 16 in version 2. */
static inline unsigned int entry_shift(const struct grant_table *gt)
{
	return gt->version + 2;
}

static inline uint64_t nr_entries(const struct grant_table *gt)
{
	return (uint64_t)gt->nr_frames << (PAGE_SHIFT - entry_shift(gt));
}

/* @ref is below nr_entries(). */
static inline struct grant grant_at(struct grant_table *gt, grant_ref_t ref)
{
	uint64_t at, i = index_nospec(ref, nr_entries(gt));
	struct grant g;

	at = i << entry_shift(gt);
	g.entry = (uint32_t *)gt->frame[at >> PAGE_SHIFT].shared + (at & ~PAGE_MASK) / 4;
	g.status = (uint16_t *)g.entry;
	if (gt->version == 2)
		g.status = &gt->frame[i / STATUS_PER_PAGE].status[i % STATUS_PER_PAGE];
	g.act = &gt->frame[i / ACTIVE_PER_FRAME].active[i % ACTIVE_PER_FRAME];
	return g;
}

static uint64_t frame_of(const struct grant_table *gt, const void *entry)
{
	if (gt->version == 1)
		return read_once(((const struct grant_entry_v1 *)entry)->frame);
	return read_once(((const union grant_entry_v2 *)entry)->full_page.frame);
}

/* Whatever it gets before memory is out waits for the next attempt. */
static int grow(struct grant_table *gt, unsigned int frames)
{
	for (; gt->nr_frames < frames; gt->nr_frames++) {
		struct grant_frame *f = &gt->frame[gt->nr_frames];
		struct grant_frame *group = &gt->frame[gt->nr_frames / FRAMES_PER_STATUS];

		if (!f->active)
			f->active = hv_alloc(ACTIVE_PER_FRAME * sizeof(f->active[0]));
		if (!f->shared)
			f->shared = hv_alloc_pages(PAGE_ORDER_4K);
		if (!group->status)
			group->status = hv_alloc_pages(PAGE_ORDER_4K);
		if (!f->active || !f->shared || !group->status)
			return -XEN_ENOMEM;
	}
	return 0;
}

int gnttab_get_frame(struct domain *d, uint64_t idx, mfn_t *mfn)
{
	struct grant_table *gt = d->grants;
	bool status = idx & STATUS_INDEX;
	uint64_t nr = idx & ~(uint64_t)STATUS_INDEX;
	uint64_t frames = status ? nr * FRAMES_PER_STATUS + 1 : nr + 1;
	int err = -XEN_EINVAL;

	if (nr >= MAX_FRAMES || frames > gt->max_frames)
		return -XEN_EINVAL;
	nr = index_nospec(nr, gt->max_frames);
	spin_lock(&gt->lock);
	if (!status || gt->version == 2)
		err = grow(gt, (unsigned int)frames);
	if (!err)
		*mfn = virt_to_mfn(status ? (void *)gt->frame[nr].status : gt->frame[nr].shared);
	spin_unlock(&gt->lock);
	return err;
}

unsigned int gnttab_max_frames(const struct domain *d, bool status)
{
	return status ? (d->grants->max_frames - 1) / FRAMES_PER_STATUS + 1 : d->grants->max_frames;
}

/* --- Taking into use ---------------------------------------------------- */

/* @head is the first word of an entry, flags and domid, read at once. */
static bool head_permits(uint32_t head, domid_t user, uint16_t bits, bool whole)
{
	uint32_t refused = (whole ? NOT_WHOLE : 0) | (bits & GTF_writing ? GTF_readonly : 0);

	return (head & GTF_type_mask) == GTF_permit_access && head >> 16 == user &&
	       !(head & refused);
}

/* Clears the "in use" bits that no use stands behind. */
static inline void unclaim(const struct grant *g)
{
	uint16_t bits = g->act->uses[false] ? 0 : GTF_writing;

	if (!g->act->page)
		bits |= GTF_reading;
	if (bits)
		__atomic_fetch_and(g->status, (uint16_t)~bits, __ATOMIC_SEQ_CST);
}

/* Sets "in use" bits, if the entry permits it at that very moment. */
static inline bool claim(const struct grant *g, bool v2, domid_t user, uint16_t bits, bool whole)
{
	uint32_t head = read_once(*g->entry);

	if (v2) {
		__atomic_fetch_or(g->status, bits, __ATOMIC_SEQ_CST);
		head = __atomic_load_n(g->entry, __ATOMIC_SEQ_CST);
		return head_permits(head, user, bits, whole);
	}
	for (unsigned int n = 0; n < CLAIM_TRIES && head_permits(head, user, bits, whole); n++) {
		if (__atomic_compare_exchange_n(g->entry, &head, head | bits, false,
						__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return true;
	}
	return false;
}

/* The first use fixes the page; later ones find it fixed. */
static inline int16_t use_page(struct domain *owner, const struct grant *g, domid_t user,
			       bool readonly)
{
	struct grant_active *act = g->act;

	if (!act->page) {
		gfn_t gfn = GFN(frame_of(owner->grants, g->entry));

		act->page = p2m_get_page(owner, gfn, true);
		act->writable = act->page;
		if (!act->page && readonly)
			act->page = p2m_get_page(owner, gfn, false);
		if (!act->page)
			return GNTST_bad_page;
		act->user = user;
		owner->grants->nr_active++;
	} else if (act->user != user || (!readonly && !act->writable) ||
		   act->uses[readonly] == UINT16_MAX) {
		return GNTST_general_error;
	}
	act->uses[readonly]++;
	return GNTST_okay;
}

int16_t gnttab_acquire(domid_t id, grant_ref_t ref, domid_t user, bool readonly, bool whole,
		       struct grant_use *use)
{
	uint16_t bits = readonly ? GTF_reading : GTF_reading | GTF_writing;
	struct domain *owner = domain_get_by_id(id);
	int16_t status = GNTST_bad_domain;
	const union grant_entry_v2 *v2;
	struct grant_table *gt;
	struct grant g;

	if (!owner)
		return status;
	if (domain_is_dying(owner))
		goto out_put;
	gt = owner->grants;
	status = GNTST_bad_gntref;
	spin_lock(&gt->lock);
	if (ref >= nr_entries(gt))
		goto out;
	g = grant_at(gt, ref);
	status = GNTST_general_error;
	if (claim(&g, gt->version == 2, user, bits, whole))
		status = use_page(owner, &g, user, readonly);
	if (status != GNTST_okay) {
		unclaim(&g);
		goto out;
	}
	*use = (struct grant_use){ .owner = owner, .page = g.act->page, .len = PAGE_SIZE };
	v2 = (const void *)g.entry;
	if (gt->version == 2 && (read_once(v2->hdr.flags) & GTF_sub_page)) {
		use->start = read_once(v2->sub_page.page_off);
		use->len = read_once(v2->sub_page.length);
	}
out:
	spin_unlock(&gt->lock);
out_put:
	if (status != GNTST_okay)
		domain_put(owner);
	return status;
}

void gnttab_release(struct domain *owner, grant_ref_t ref, bool readonly)
{
	struct grant_table *gt = owner->grants;
	struct page *page = NULL;
	struct grant g;

	spin_lock(&gt->lock);
	g = grant_at(gt, ref);
	if (!readonly)
		page_mark_written(g.act->page);
	if (!--g.act->uses[readonly] && !g.act->uses[!readonly]) {
		page = g.act->page;
		g.act->page = NULL;
		gt->nr_active--;
	}
	unclaim(&g);
	spin_unlock(&gt->lock);
	if (page)
		page_put(page);
	domain_put(owner);
}

/* --- Hypercalls --------------------------------------------------------- */

/* The domain an operation on one table is about, with a reference. GNTST_*. */
static int16_t find_target(struct vcpu *v, domid_t id, struct domain **out)
{
	int err = domain_find_target(v, id, out);

	if (err)
		return err == -XEN_ESRCH ? GNTST_bad_domain : GNTST_permission_denied;
	return GNTST_okay;
}

int64_t gnttabop_query_size(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct gnttab_query_size *op = arg;
	struct domain *d;

	if ((uint32_t)hc->arg[2] != 1)
		return -XEN_EINVAL;
	op->status = find_target(v, op->dom, &d);
	if (op->status == GNTST_okay) {
		op->nr_frames = read_once(d->grants->nr_frames);
		op->max_nr_frames = d->grants->max_frames;
		domain_put(d);
	}
	return 0;
}

/* Where the guest has put the first @nr frames of its table: all ones for nowhere. */
static int list_frames(struct vcpu *v, struct grant_table *gt, gva_t list, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++, list += sizeof(uint64_t)) {
		struct page *pg = mfn_to_page(virt_to_mfn(gt->frame[i].shared));
		uint64_t gfn = read_once(pg->shared_gfn) - 1;

		if (copy_to_guest(v, list, &gfn, sizeof(gfn)))
			return -XEN_EFAULT;
	}
	return 0;
}

int64_t gnttabop_setup_table(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct gnttab_setup_table *op = arg;
	struct grant_table *gt;
	struct domain *d;
	int err = 0;

	if ((uint32_t)hc->arg[2] != 1)
		return -XEN_EINVAL;
	op->status = find_target(v, op->dom, &d);
	if (op->status != GNTST_okay)
		return 0;
	gt = d->grants;
	spin_lock(&gt->lock);
	if (op->nr_frames > gt->max_frames || grow(gt, op->nr_frames))
		op->status = GNTST_general_error;
	spin_unlock(&gt->lock);
	if (op->status == GNTST_okay)
		err = list_frames(v, gt, guest_handle(op->frame_list), op->nr_frames);
	domain_put(d);
	return err;
}

/* Clears the table, but for grants through reserved references if both versions can say them. */
static void change_version(struct grant_table *gt, unsigned int version)
{
	uint64_t frames[RESERVED_REFS];
	uint32_t heads[RESERVED_REFS];

	for (grant_ref_t ref = 0; ref < RESERVED_REFS; ref++) {
		const uint32_t *entry = grant_at(gt, ref).entry;

		heads[ref] = read_once(*entry);
		frames[ref] = frame_of(gt, entry);
		if ((heads[ref] & GTF_type_mask) != GTF_permit_access ||
		    (version == 1 && (frames[ref] > UINT32_MAX || heads[ref] & GTF_sub_page)))
			frames[ref] = heads[ref] = 0;
	}
	for (unsigned int i = 0; i < gt->nr_frames; i++) {
		memset(gt->frame[i].shared, 0, PAGE_SIZE);
		if (gt->frame[i].status)
			memset(gt->frame[i].status, 0, PAGE_SIZE);
	}
	gt->version = version;
	for (grant_ref_t ref = 0; ref < RESERVED_REFS; ref++) {
		uint32_t *entry = grant_at(gt, ref).entry;

		if (version == 1)
			((struct grant_entry_v1 *)entry)->frame = (uint32_t)frames[ref];
		else
			((union grant_entry_v2 *)(void *)entry)->full_page.frame = frames[ref];
		*entry = heads[ref];
	}
}

int64_t gnttabop_set_version(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct grant_table *gt = v->domain->grants;
	const struct gnttab_set_version *op = arg;
	int err = 0;

	if (op->version != 1 && op->version != 2)
		return -XEN_EINVAL;
	if (op->version > gt->max_version)
		return -XEN_ENOSYS;
	spin_lock(&gt->lock);
	if (op->version != gt->version && gt->nr_active)
		err = -XEN_EBUSY;
	else if (op->version != gt->version)
		change_version(gt, op->version);
	spin_unlock(&gt->lock);
	return err;
}

int64_t gnttabop_get_version(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct gnttab_get_version *op = arg;
	struct domain *d;
	int err = domain_find_target(v, op->dom, &d);

	if (err)
		return err;
	op->version = read_once(d->grants->version);
	domain_put(d);
	return 0;
}

static int16_t swap_one(struct domain *d, void *elem)
{
	const struct gnttab_swap_grant_ref *op = elem;
	struct grant_table *gt = d->grants;
	int16_t status = GNTST_bad_gntref;
	union grant_entry_v2 tmp;
	struct grant a, b;
	size_t size;

	spin_lock(&gt->lock);
	if (op->ref_a >= nr_entries(gt) || op->ref_b >= nr_entries(gt))
		goto out;
	a = grant_at(gt, op->ref_a);
	b = grant_at(gt, op->ref_b);
	status = GNTST_eagain;
	if (a.act->page || b.act->page)
		goto out;
	size = 1UL << entry_shift(gt);
	memcpy(&tmp, a.entry, size);
	memmove(a.entry, b.entry, size);
	memcpy(b.entry, &tmp, size);
	status = GNTST_okay;
out:
	spin_unlock(&gt->lock);
	return status;
}

/* By operation: size of an element, where its status is in it, what is done. */
#define BATCH(type, one, finish) { sizeof(struct type), offsetof(struct type, status), one, finish }
static const struct batch {
	size_t size, status;
	gnttab_one_fn *one;
	void (*finish)(struct domain *d, const void *elems, unsigned int n);	/* or NULL */
} batches[] = {
	[GNTTABOP_map_grant_ref] = BATCH(gnttab_map_grant_ref, gnttab_map_one, NULL),
	[GNTTABOP_unmap_grant_ref] =
		BATCH(gnttab_unmap_grant_ref, gnttab_unmap_one, gnttab_unmap_finish),
	[GNTTABOP_copy] = BATCH(gnttab_copy, gnttab_copy_one, NULL),
	[GNTTABOP_swap_grant_ref] = BATCH(gnttab_swap_grant_ref, swap_one, NULL),
};

/* Some elements at a time, copied in before and out after. */
int64_t gnttabop_batch(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct batch *batch = &batches[hc->op];
	uint8_t elems[BATCH_BYTES] __aligned(8);
	uint32_t count = (uint32_t)hc->arg[2];

	if (count >> 31)
		return -XEN_EINVAL;
	while (count) {
		uint32_t n = MIN(count, (uint32_t)(BATCH_BYTES / batch->size));
		size_t bytes = n * batch->size;

		if (copy_from_guest(v, elems, hc->arg[1], bytes))
			return -XEN_EFAULT;
		for (uint8_t *elem = elems; elem < elems + bytes; elem += batch->size)
			*(int16_t *)(void *)(elem + batch->status) = batch->one(v->domain, elem);
		if (batch->finish)
			batch->finish(v->domain, elems, n);
		if (copy_to_guest(v, hc->arg[1], elems, bytes))
			return -XEN_EFAULT;
		hc->arg[1] += bytes;
		count -= n;
		hc->arg[2] = count;
		if (count && hypercall_preempt(v))
			return HC_CONTINUE;
	}
	return 0;
}

/* --- Life --------------------------------------------------------------- */

int gnttab_init(struct domain *d, unsigned int max_frames, unsigned int max_maptrack_frames,
		unsigned int max_version)
{
	struct grant_table *gt;

	max_frames = MAX(1u, MIN(max_frames, MAX_FRAMES));
	max_maptrack_frames = MIN(max_maptrack_frames, MAX_MAPTRACK_FRAMES);
	gt = hv_alloc(sizeof(*gt) + max_frames * sizeof(gt->frame[0]));
	if (!gt)
		return -XEN_ENOMEM;
	spin_init(&gt->lock, LOCK_GRANT);
	gt->version = 1;
	gt->max_version = max_version;
	gt->max_frames = max_frames;
	gt->max_mappings = max_maptrack_frames * MAPPINGS_PER_PAGE;
	gt->maptrack = hv_alloc(MAX(1u, max_maptrack_frames) * sizeof(gt->maptrack[0]));
	d->grants = gt;
	return gt->maptrack ? grow(gt, 1) : -XEN_ENOMEM;
}

void gnttab_destroy(struct domain *d)
{
	struct grant_table *gt = d->grants;

	if (!gt)
		return;
	for (unsigned int i = 0; i < gt->max_frames; i++) {
		if (gt->frame[i].shared)
			hv_free_pages(gt->frame[i].shared, PAGE_ORDER_4K);
		if (gt->frame[i].status)
			hv_free_pages(gt->frame[i].status, PAGE_ORDER_4K);
		hv_free(gt->frame[i].active);
	}
	for (uint32_t i = 0; i < gt->nr_mappings / MAPPINGS_PER_PAGE; i++)
		hv_free_pages(gt->maptrack[i], PAGE_ORDER_4K);
	hv_free(gt->maptrack);
	hv_free(gt);
	d->grants = NULL;
}
