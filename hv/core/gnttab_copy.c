/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: copying between pages, granted or own.
 *
 * Locks: none across the copy. Both pages are held meanwhile, by a use of the
 * grant or by a reference.
 */
#include "gnttab_private.h"

/* @use has no owner when it is a page of the caller's own. */
static void close_side(const struct grant_use *use, const struct gnttab_copy_ptr *p, bool write)
{
	if (use->owner) {
		gnttab_release(use->owner, p->u.ref, !write);
		return;
	}
	if (write)
		page_mark_written(use->page);
	page_put(use->page);
}

static int16_t open_side(struct domain *d, const struct gnttab_copy_ptr *p, uint16_t len,
			 bool granted, bool write, struct grant_use *use)
{
	domid_t owner = p->domid == DOMID_SELF ? d->id : p->domid;
	int16_t status;

	if (!granted) {
		if (p->domid != DOMID_SELF)
			return GNTST_permission_denied;
		use->owner = NULL;
		use->page = p2m_get_page(d, GFN(p->u.gmfn), write);
		return use->page ? GNTST_okay : GNTST_bad_page;
	}
	status = gnttab_acquire(owner, p->u.ref, d->id, !write, false, use);
	if (status == GNTST_okay &&
	    (p->offset < use->start || p->offset + len > use->start + use->len)) {
		close_side(use, p, write);
		status = GNTST_general_error;
	}
	return status;
}

int16_t gnttab_copy_one(struct domain *d, void *elem)
{
	const struct gnttab_copy *op = elem;
	struct grant_use src, dst;
	int16_t status;

	if (op->source.offset + op->len > (int)PAGE_SIZE ||
	    op->dest.offset + op->len > (int)PAGE_SIZE)
		return GNTST_bad_copy_arg;
	status = open_side(d, &op->source, op->len, op->flags & GNTCOPY_source_gref, false, &src);
	if (status != GNTST_okay)
		return status;
	status = open_side(d, &op->dest, op->len, op->flags & GNTCOPY_dest_gref, true, &dst);
	if (status == GNTST_okay) {
		uint8_t *to = mfn_to_virt(page_to_mfn(dst.page));
		uint8_t *from = mfn_to_virt(page_to_mfn(src.page));

		/* It may be one page. */
		memmove(to + op->dest.offset, from + op->source.offset, op->len);
		close_side(&dst, &op->dest, true);
	}
	close_side(&src, &op->source, false);
	return status;
}
