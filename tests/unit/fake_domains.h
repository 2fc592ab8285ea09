/* SPDX-License-Identifier: MIT */
/*
 * Small domains of one vCPU for the tests of memory: with nothing in their
 * address space, and ended to the last page.
 */
#ifndef HOSPES_FAKE_DOMAINS_H
#define HOSPES_FAKE_DOMAINS_H

#include "hospes/domain.h"
#include "port/testport.h"

/* @tables: the limit of p2m tables, 0 = the default. */
static inline struct domain *make_domain(domid_t id, uint64_t max_pages, uint32_t tables)
{
	struct domain_create c = {
		.id = id, .name = "test", .nr_vcpus = 1, .max_pages = max_pages,
		.max_evtchn_port = 1023, .max_grant_frames = 4, .max_maptrack_frames = 4,
		.max_grant_version = 1,
	};
	struct domain *d;

	assert_int_equal(domain_create(&c, &d), 0);
	if (tables)
		d->p2m.tables_max = tables;
	return d;
}

/* Nothing else may refer to it or to its pages. */
static inline void end_domain(struct domain *d)
{
	domid_t id = d->id;

	domain_destroy(d);
	while (domain_reap_step())
		;
	assert_null(domain_get_by_id(id));
}

/* The owner of a frame, or NULL for the hypervisor's own and free ones. */
static inline struct domain *page_owner(const struct page *pg)
{
	return (pg->flags & PAGE_FREE) || !pg->owner ? NULL : domain_by_slot(pg->owner - 1);
}

/* The machine's RAM counts as scrubbed: for big machines, which stay sparse. */
static inline void make_all_clean(void)
{
	for (uint64_t i = 0; i < frame_table_size; i++)
		frame_table[i].flags &= (uint8_t)~PAGE_DIRTY;
}

#endif
