/* SPDX-License-Identifier: MIT */
/*
 * A control domain, number 0, for the tests of the toolstack's calls, and how it
 * makes them: the struct lies at CTL_PTR, arrays and bitmaps at CTL_BUF.
 */
#ifndef HOSPES_CTL_CALLS_H
#define HOSPES_CTL_CALLS_H

#include "hospes/ctl.h"
#include "real_domain.h"

#define CTL_PTR 0x2000u
#define CTL_BUF 0x3000u

static struct domain *control;
static struct vcpu *priv;		/* its vCPU 0, current */

static inline void control_new(uint64_t pages, unsigned int ncpus)
{
	machine_new(pages, ncpus);
	control = guest_new(0, 2, true);
	priv = control->vcpus[0];
	assert_ptr_equal(guest_run(priv), priv);
}

static inline void control_end(void)
{
	assert_true(guest_end(control));
	assert_int_equal(page_free_count(), page_total_count());
	test_machine_fini();
}

static inline struct xen_domctl *domctl_op(void) { return guest_mem(control, CTL_PTR); }
static inline struct xen_sysctl *sysctl_op(void) { return guest_mem(control, CTL_PTR); }
static inline struct xen_platform_op *platform_op(void) { return guest_mem(control, CTL_PTR); }
static inline void *ctl_buf(void) { return guest_mem(control, CTL_BUF); }

static inline int64_t domctl(uint32_t cmd, domid_t id)
{
	struct xen_domctl *op = domctl_op();

	op->cmd = cmd;
	op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
	op->domain = id;
	return hcall(priv, __HYPERVISOR_domctl, CTL_PTR, 0, 0);
}

static inline int64_t sysctl(uint32_t cmd)
{
	struct xen_sysctl *op = sysctl_op();

	op->cmd = cmd;
	op->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
	return hcall(priv, __HYPERVISOR_sysctl, CTL_PTR, 0, 0);
}

static inline int64_t platform(uint32_t cmd)
{
	struct xen_platform_op *op = platform_op();

	op->cmd = cmd;
	op->interface_version = XENPF_INTERFACE_VERSION;
	return hcall(priv, __HYPERVISOR_platform_op, CTL_PTR, 0, 0);
}

/* As xl makes it: PVH, two vCPUs. */
static inline int64_t create(domid_t id)
{
	domctl_op()->u.createdomain = (struct xen_domctl_createdomain){
		.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap, .max_vcpus = 2,
		.max_evtchn_port = 1023, .max_grant_frames = -1, .max_maptrack_frames = -1,
		.grant_opts = 2, .arch.emulation_flags = XEN_X86_EMU_LAPIC, .handle = { 1, 2, 3 },
	};
	return domctl(XEN_DOMCTL_createdomain, id);
}

static inline domid_t create_ok(void)
{
	assert_int_equal(create(0), 0);
	return domctl_op()->domain;
}

static inline int64_t max_mem(domid_t id, uint64_t pages)
{
	domctl_op()->u.max_mem.max_memkb = pages * 4;
	return domctl(XEN_DOMCTL_max_mem, id);
}

static inline void destroy_ok(domid_t id)
{
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
	assert_true(guest_gone(id));
}

/* One memory_op: the struct at CTL_PTR. */
#define MEMOP(cmd, type, ...)								\
	(memcpy(guest_mem(control, CTL_PTR), &(type){ __VA_ARGS__ }, sizeof(type)),	\
	 hcall(priv, __HYPERVISOR_memory_op, cmd, CTL_PTR, 0))

/* @nr single pages of @id from @gfn on; how many there were. */
static inline int64_t fill(domid_t id, uint64_t gfn, uint64_t nr)
{
	uint64_t *list = ctl_buf();

	for (uint64_t i = 0; i < nr; i++)
		list[i] = gfn + i;
	return MEMOP(XENMEM_populate_physmap, struct xen_memory_reservation,
		     .extent_start.p = (void *)(uintptr_t)CTL_BUF, .nr_extents = nr, .domid = id);
}

/* Maps @gfn of @id at @at in the control domain; the error of the element. */
static inline int foreign(domid_t id, uint64_t gfn, uint64_t at)
{
	uint64_t *buf = ctl_buf();

	buf[0] = gfn;
	buf[1] = at;
	if (MEMOP(XENMEM_add_to_physmap_batch, struct xen_add_to_physmap_batch,
		  .domid = DOMID_SELF, .space = XENMAPSPACE_gmfn_foreign, .size = 1,
		  .u.foreign_domid = id, .idxs.p = (void *)(uintptr_t)CTL_BUF,
		  .gpfns.p = (void *)(uintptr_t)(CTL_BUF + 8),
		  .errs.p = (void *)(uintptr_t)(CTL_BUF + 16)))
		abort();
	return (int)buf[2];
}

/* Maps grant frame @frame of @id at @at. */
static inline int64_t acquire(domid_t id, uint64_t frame, uint64_t at)
{
	*(uint64_t *)ctl_buf() = at;
	return MEMOP(XENMEM_acquire_resource, struct xen_mem_acquire_resource, .domid = id,
		     .type = XENMEM_resource_grant_table, .nr_frames = 1, .frame = frame,
		     .frame_list.p = (void *)(uintptr_t)CTL_BUF);
}

static inline int64_t unmap(uint64_t at)
{
	return MEMOP(XENMEM_remove_from_physmap, struct xen_remove_from_physmap,
		     .domid = DOMID_SELF, .gpfn = at);
}

#endif
