/* SPDX-License-Identifier: MIT */
/*
 * Real domains on the fake machine, for tests of what guests call. Paging is
 * off in them, so a guest pointer is a guest physical address; RAM is the
 * first 2 MiB.
 */
#ifndef HOSPES_REAL_DOMAIN_H
#define HOSPES_REAL_DOMAIN_H

#include <stdlib.h>
#include <string.h>

#include "hospes/devices.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"
#include "port/testport.h"

#define GUEST_PAGES 512u
#define GUEST_BAD 0x40000000UL		/* nothing is there */

static inline void machine_new(uint64_t pages, unsigned int ncpus)
{
	test_machine_init(pages, ncpus);
	policy_init_host();
}

static inline struct domain *guest_new(domid_t id, unsigned int nr_vcpus, bool privileged)
{
	const struct domain_create c = {
		.id = id, .name = "test", .nr_vcpus = nr_vcpus, .max_pages = 2 * GUEST_PAGES,
		.max_evtchn_port = 1023, .max_grant_frames = 4, .max_maptrack_frames = 4,
		.max_grant_version = 2, .privileged = privileged,
	};
	struct domain *d;

	if (domain_create(&c, &d) || p2m_populate(d, GFN(0), PAGE_ORDER_2M))
		abort();
	d->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
	d->vcpus[0]->initialised = true;
	atomic_store(&d->vcpus[0]->startup, STARTUP_NONE);
	vcpu_pause_clear(d->vcpus[0], PAUSE_DOWN);
	domain_unpause(d);
	return d;
}

/* As @d would have it that is made with devices: but its memory is anywhere. */
static inline void guest_devices(struct domain *d)
{
	if (devices_init(d))
		abort();
}

/* Does all the work that the end of domain @id leaves. False: it does not end. */
static inline bool guest_gone(domid_t id)
{
	for (unsigned int i = 0; i < 10000; i++) {
		struct domain *d;

		for (unsigned int nr = port_nr_pcpus(); nr-- > 0;) {
			test_set_cpu(nr);
			schedule(port_this_pcpu());
		}
		while (domain_reap_step())
			;
		d = domain_get_by_id(id);
		if (!d)
			return !domain_reap_step();
		domain_put(d);
		test_advance_ns(1000000);
		test_run_timers(0);
	}
	return false;
}

static inline bool guest_end(struct domain *d)
{
	domid_t id = d->id;

	domain_destroy(d);
	return guest_gone(id);
}

/* What this CPU runs next, after the timers that are due. */
static inline struct vcpu *guest_next(void)
{
	struct pcpu *p = port_this_pcpu();

	test_run_timers(p->cpu_id);
	atomic_store(&p->softirqs, 0);
	return schedule(p);
}

/* Becomes the CPU that @v waits for, and runs. */
static inline struct vcpu *guest_run(struct vcpu *v)
{
	test_set_cpu(v->sched.cpu);
	return guest_next();
}

/* Where a guest physical address lies in the test's memory. */
static inline void *guest_mem(struct domain *d, gpa_t gpa)
{
	struct p2m_entry e = p2m_get(&d->p2m, gpa_to_gfn(gpa));

	if (!p2m_is_ram(e.type))
		abort();
	return (uint8_t *)mfn_to_virt(e.mfn) + (gpa & ~PAGE_MASK);
}

static inline int64_t hcall(struct vcpu *v, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	struct hypercall hc = { .nr = nr, .arg = { a0, a1, a2 } };
	int64_t rc;

	while ((rc = hypercall_dispatch(v, &hc)) == HC_CONTINUE)
		atomic_store(&port_this_pcpu()->softirqs, 0);
	return rc;
}

/* Maps the grant table at @gfn; grants some pages to domains 1..@peers in turn. */
static inline void guest_map_grants(struct domain *d, uint64_t gfn, unsigned int peers)
{
	struct xen_add_to_physmap *add = guest_mem(d, 0x2000);
	struct grant_entry_v1 *grant;

	*add = (struct xen_add_to_physmap){ DOMID_SELF, 0, XENMAPSPACE_grant_table, 0, gfn };
	if (hcall(d->vcpus[0], __HYPERVISOR_memory_op, XENMEM_add_to_physmap, 0x2000, 0))
		abort();
	grant = guest_mem(d, gfn << PAGE_SHIFT);
	for (uint16_t i = 8; i < 32; i++)
		grant[i] = (struct grant_entry_v1){
			i & 1 ? 1 | GTF_readonly : 1, (domid_t)(1 + i % peers), 16u + i };
}

#endif
