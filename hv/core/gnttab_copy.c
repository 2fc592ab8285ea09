/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: copying between pages, granted or own.
 *
 * Locks: none across the copy. Both pages are held meanwhile, by a use of the
 * grant or by a reference.
 */
#include "gnttab_private.h"

/* One side of a copy. owner is NULL for a page of the caller's own. */
struct side {
	struct domain *owner;		/* ref */
	struct grant_use use;
};

static void close_side(const struct side *s, const struct gnttab_copy_ptr *p, bool write)
{
	if (s->owner) {
		gnttab_release(s->owner, p->u.ref, !write);
		domain_put(s->owner);
	} else {
		page_put(s->use.page);
	}
}

static int16_t open_grant(struct domain *d, const struct gnttab_copy_ptr *p, uint16_t len,
			  bool write, struct side *s)
{
	int16_t status = GNTST_bad_domain;

	s->owner = domain_get_by_id(p->domid == DOMID_SELF ? d->id : p->domid);
	if (!s->owner)
		return GNTST_bad_domain;
	if (!domain_is_dying(s->owner))
		status = gnttab_acquire(s->owner, p->u.ref, d->id, !write, false, &s->use);
	if (status != GNTST_okay) {
		domain_put(s->owner);
		return status;
	}
	if (p->offset >= s->use.start && p->offset + len <= s->use.start + s->use.len)
		return GNTST_okay;
	close_side(s, p, write);
	return GNTST_general_error;
}

static int16_t open_side(struct domain *d, const struct gnttab_copy_ptr *p, uint16_t len,
			 bool granted, bool write, struct side *s)
{
	if (granted)
		return open_grant(d, p, len, write, s);
	if (p->domid != DOMID_SELF)
		return GNTST_permission_denied;
	s->owner = NULL;
	s->use.page = p2m_get_page(d, GFN(p->u.gmfn), write);
	return s->use.page ? GNTST_okay : GNTST_bad_page;
}

static int16_t copy_one(struct domain *d, const struct gnttab_copy *op)
{
	struct side src, dst;
	int16_t status;

	if (op->source.offset + op->len > (int)PAGE_SIZE ||
	    op->dest.offset + op->len > (int)PAGE_SIZE)
		return GNTST_bad_copy_arg;
	status = open_side(d, &op->source, op->len, op->flags & GNTCOPY_source_gref, false, &src);
	if (status != GNTST_okay)
		return status;
	status = open_side(d, &op->dest, op->len, op->flags & GNTCOPY_dest_gref, true, &dst);
	if (status == GNTST_okay) {
		uint8_t *to = (uint8_t *)mfn_to_virt(page_to_mfn(dst.use.page)) + op->dest.offset;
		uint8_t *from = (uint8_t *)mfn_to_virt(page_to_mfn(src.use.page)) +
				op->source.offset;

		memmove(to, from, op->len);	/* it may be one page */
		close_side(&dst, &op->dest, true);
	}
	close_side(&src, &op->source, false);
	return status;
}

static void copy_batch(struct domain *d, void *elems, unsigned int n)
{
	struct gnttab_copy *op = elems;

	for (; n-- > 0; op++)
		op->status = copy_one(d, op);
}

int64_t gnttabop_copy(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return gnttab_for_each(v, hc, sizeof(struct gnttab_copy), copy_batch);
}
