/* SPDX-License-Identifier: MIT */
/*
 * What the files of the grant tables share: one domain's table, the grants in
 * use, and the tracking of its own mappings of other domains' pages.
 */
#ifndef HOSPES_GNTTAB_PRIVATE_H
#define HOSPES_GNTTAB_PRIVATE_H

#include "hospes/domain.h"
#include "hospes/gnttab.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define ACTIVE_PER_FRAME 512u		/* entries of a version 1 frame */

/* One grant that somebody uses. All zero: nobody. Grant lock. */
struct grant_active {
	struct page *page;		/* ref while in use */
	uint16_t uses[2];		/* [readonly] */
	domid_t user;
	bool writable;			/* the owner may write the page itself */
};

struct grant_frame {
	void *shared;			/* owned; entries, also the guest's */
	grant_status_t *status;		/* owned; for version 2, one per 8 frames of entries */
	struct grant_active *active;	/* owned */
};

/* What a handle stands for. */
struct grant_mapping {
	struct domain *owner;		/* ref: outlives the mapping */
	struct page *page;		/* borrowed from the grant in use */
	uint64_t gfn;
	union {
		uint32_t ref;
		uint32_t next;		/* free: handle + 1 of the next one, 0 = none */
	};
	bool used;			/* false: free, or its unmapping waits for a flush */
	bool readonly;
};

#define MAPPINGS_PER_PAGE ((uint32_t)(PAGE_SIZE / sizeof(struct grant_mapping)))

struct grant_table {
	struct spinlock lock;		/* LOCK_GRANT: this block */
	unsigned int version, max_version;
	unsigned int nr_frames, max_frames, nr_active;

	/* The domain's own mappings, as its p2m: d->p2m.lock, write side. */
	struct grant_mapping **maptrack; /* owned; pages, allocated on demand */
	uint32_t nr_mappings, max_mappings;
	uint32_t free_mapping;		/* as grant_mapping.next */
	uint32_t released;		/* how far gnttab_release_step() has come */

	struct grant_frame frame[];	/* grant lock; [max_frames] */
};

/* What a grant in use gives access to: [start, start + len) of a page. */
struct grant_use {
	struct domain *owner;		/* ref, and */
	struct page *page;		/* stays, until gnttab_release() */
	uint16_t start, len;
};

/*
 * Marks grant @ref of domain @owner as in use by domain @user, in the guest's
 * view too. @whole: refuse what gives a part of a page only. Returns GNTST_*.
 */
int16_t gnttab_acquire(domid_t owner, grant_ref_t ref, domid_t user, bool readonly, bool whole,
		       struct grant_use *use);
void gnttab_release(struct domain *owner, grant_ref_t ref, bool readonly);

/*
 * What the operations over an array of the guest's do for one element: GNTST_*,
 * and unmapping for @n elements at once when all that is done.
 */
typedef int16_t gnttab_one_fn(struct domain *d, void *elem);
gnttab_one_fn gnttab_map_one, gnttab_unmap_one, gnttab_copy_one;
void gnttab_unmap_finish(struct domain *d, const void *elems, unsigned int n);

#endif
