/* SPDX-License-Identifier: MIT */
/*
 * Grant tables v1 and v2: a domain lets others map or copy its pages.
 *
 * Locks: grant table (LOCK_GRANT) of the granting domain; what a domain maps
 * itself is under its p2m lock, as these entries are.
 */
#ifndef HOSPES_GNTTAB_H
#define HOSPES_GNTTAB_H

#include "hospes/types.h"

struct domain;
struct grant_table;

#define GNTTAB_FRAMES_DEFAULT 64u
#define GNTTAB_MAPTRACK_DEFAULT 1024u

/* One shared frame exists from the start. -XEN_ENOMEM: still to be destroyed. */
int gnttab_init(struct domain *d, unsigned int max_frames, unsigned int max_maptrack_frames,
		unsigned int max_version) __must_check;

/*
 * Drops a bounded number of the mappings @d holds on other domains' pages.
 * True when none is left. For a dying domain.
 */
bool gnttab_release_step(struct domain *d);
void gnttab_destroy(struct domain *d);

/*
 * XENMAPSPACE_grant_table: the machine frame of grant frame @idx (bit 31 for
 * v2 status frames), growing the table as needed. -XEN_EINVAL, -XEN_ENOMEM.
 */
int gnttab_get_frame(struct domain *d, uint64_t idx, mfn_t *mfn) __must_check;

/* How many frames of entries, or of status, the table may have. */
unsigned int gnttab_max_frames(const struct domain *d, bool status);

#endif
