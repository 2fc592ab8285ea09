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
#define GNTTAB_BATCH_BYTES 512u

/* One grant that somebody uses. All zero: nobody. Grant lock. */
struct grant_active {
	struct page *page;		/* ref while in use */
	uint16_t readers, writers;
	domid_t user;
	bool writable;			/* the owner may write the page itself */
};

struct grant_frame {
	void *shared;			/* owned; entries, also the guest's */
	grant_status_t *status;		/* owned; for version 2, one per 8 frames of entries */
	struct grant_active *active;	/* owned */
};

enum mapping_state { MAPPING_FREE, MAPPING_BUSY, MAPPING_USED };

struct grant_mapping {
	struct domain *owner;		/* ref: outlives the mapping */
	struct page *page;		/* borrowed from the grant in use */
	uint64_t gfn;
	union {
		uint32_t ref;
		uint32_t next;		/* free: handle + 1 of the next one, 0 = none */
	};
	uint8_t state;			/* enum mapping_state; release to MAPPING_USED */
	bool readonly;
};

#define MAPPINGS_PER_PAGE (PAGE_SIZE / sizeof(struct grant_mapping))

struct grant_table {
	struct spinlock lock;		/* LOCK_GRANT: this block */
	unsigned int version, max_version;
	unsigned int nr_frames, max_frames, nr_active;

	struct spinlock maptrack_lock;	/* LOCK_MAPTRACK: this block */
	struct grant_mapping **maptrack; /* owned; pages, allocated on demand */
	uint32_t nr_mappings, max_mappings;
	uint32_t free_mapping;		/* as grant_mapping.next */
	uint32_t released;		/* how far gnttab_release_step() has come */

	struct grant_frame frame[];	/* grant lock; [max_frames] */
};

/* What a grant in use gives access to: [start, start + len) of a page. */
struct grant_use {
	struct page *page;		/* stays until gnttab_release() */
	uint16_t start, len;
};

/*
 * Marks grant @ref of @owner as in use by domain @user, in the guest's view
 * too. @whole: refuse what gives a part of a page only. Returns GNTST_*.
 */
int16_t gnttab_acquire(struct domain *owner, grant_ref_t ref, domid_t user, bool readonly,
		       bool whole, struct grant_use *use);
void gnttab_release(struct domain *owner, grant_ref_t ref, bool readonly);

/*
 * Runs @fn over the guest's array of @size byte elements, some at a time,
 * copied in before and out after. Errors are in the elements' status.
 */
int64_t gnttab_for_each(struct vcpu *v, struct hypercall *hc, size_t size,
			void (*fn)(struct domain *d, void *elems, unsigned int n));

#endif
