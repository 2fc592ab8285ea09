/* SPDX-License-Identifier: MIT */
/*
 * A control domain, 1, and a domain for it to work on, 2, that has not run yet;
 * and the calls of the toolstack, through the dispatcher and with their structs in
 * the control domain's memory.
 */
#ifndef HOSPES_TOOLSTACK_H
#define HOSPES_TOOLSTACK_H

#include "real_domain.h"

#define TOOL_OP 0x4000u			/* where the structs are, */
#define TOOL_BUF 0x10000u		/* and what they point to */
#define TOOL_BUF_SIZE 0x40000u

static struct domain *tool, *target;

static inline struct domain *target_new(domid_t id, unsigned int nr_vcpus)
{
	const struct domain_create c = {
		.id = id, .name = "target", .nr_vcpus = nr_vcpus, .max_pages = 4 * GUEST_PAGES,
		.max_evtchn_port = 1023, .max_grant_frames = 4, .max_maptrack_frames = 4,
		.max_grant_version = 1,
	};
	struct domain *d;

	if (domain_create(&c, &d))
		abort();
	return d;
}

static inline void tool_start(uint64_t pages, unsigned int nr_vcpus)
{
	machine_new(pages, 2);
	tool = guest_new(1, 1, true);
	if (guest_run(tool->vcpus[0]) != tool->vcpus[0])
		abort();
	target = target_new(2, nr_vcpus);
}

static inline bool tool_end(void)
{
	bool gone = guest_end(target) && guest_end(tool);

	test_machine_fini();
	return gone;
}

/* Where a handle of the toolstack points. */
static inline void *tool_buf(uint64_t offset)
{
	return guest_mem(tool, TOOL_BUF + offset);	/* one piece of 2 MiB */
}

#define HANDLE(h, offset) ((h).p = (void *)(uintptr_t)(TOOL_BUF + (offset)))
#define HANDLE_BAD(h) ((h).p = (void *)GUEST_BAD)

/* The struct comes back in @op. */
static inline int64_t domctl(uint32_t cmd, domid_t id, struct xen_domctl *op)
{
	struct xen_domctl *there = guest_mem(tool, TOOL_OP);
	int64_t rc;

	op->cmd = cmd;
	op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
	op->domain = id;
	*there = *op;
	rc = hcall(tool->vcpus[0], __HYPERVISOR_domctl, TOOL_OP, 0, 0);
	*op = *there;
	return rc;
}

static inline int64_t sysctl(uint32_t cmd, struct xen_sysctl *op)
{
	struct xen_sysctl *there = guest_mem(tool, TOOL_OP);
	int64_t rc;

	op->cmd = cmd;
	op->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
	*there = *op;
	rc = hcall(tool->vcpus[0], __HYPERVISOR_sysctl, TOOL_OP, 0, 0);
	*op = *there;
	return rc;
}

#endif
