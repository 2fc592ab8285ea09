/* SPDX-License-Identifier: MIT */
/* The grant table operations over arrays, each by its name; see gnttabop_batch(). */
#ifndef HOSPES_TEST_GNTTAB_CALLS_H
#define HOSPES_TEST_GNTTAB_CALLS_H

#define BATCH_CALL(name, number) \
	static int64_t name(struct vcpu *v, struct hypercall *hc, void *arg) \
	{ \
		hc->op = number; \
		return gnttabop_batch(v, hc, arg); \
	}

BATCH_CALL(gnttabop_map, GNTTABOP_map_grant_ref)
BATCH_CALL(gnttabop_unmap, GNTTABOP_unmap_grant_ref)
BATCH_CALL(gnttabop_copy, GNTTABOP_copy)
BATCH_CALL(gnttabop_swap, GNTTABOP_swap_grant_ref)

#endif
