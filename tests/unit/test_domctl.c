/* SPDX-License-Identifier: MIT */
/*
 * domctl as the control domain's toolstack calls it: answers, refusals, what
 * becomes of domains, and that nothing of them stays.
 */
#include "unit.h"

#include "ctl_calls.h"
#include "hospes/gnttab.h"

#define MS 1000000ULL

static int setup(void **state)
{
	(void)state;
	control_new(8192, 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	control_end();
	return 0;
}

/* With one more reference, which the caller gives back. */
static struct domain *get(domid_t id)
{
	struct domain *d = domain_get_by_id(id);

	assert_non_null(d);
	return d;
}

static struct xen_domctl_getdomaininfo info_of(domid_t id)
{
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, id), 0);
	assert_int_equal(domctl_op()->domain, id);
	assert_int_equal(domctl_op()->u.getdomaininfo.domain, id);
	return domctl_op()->u.getdomaininfo;
}

/* --- The frame ------------------------------------------------------------ */

static const struct row { uint32_t cmd, flags; } rows[] = {
#define DOMCTL(nr, name, ctl_flags) { nr, ctl_flags },
#include "hospes/ctl.def"
};

static const struct row *row_of(uint32_t cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].cmd == cmd)
			return &rows[i];
	}
	return NULL;
}

static void test_frame(void **state)
{
	static const uint32_t odd[] = { 128 + 3, 1000, 1001, 1002, 1003, 1u << 31, ~0u };
	struct domain *d = guest_new(3, 1, false);
	struct xen_domctl *op = guest_mem(d, CTL_PTR);
	struct vcpu *v = d->vcpus[0];

	(void)state;
	assert_int_equal(hcall(priv, 36, GUEST_BAD, 0, 0), -XEN_EFAULT);
	assert_int_equal(hcall(priv, 36, GUEST_PAGES * PAGE_SIZE - 143, 0, 0), -XEN_EFAULT);
	domctl_op()->interface_version = 0x16;
	domctl_op()->cmd = 9999;
	assert_int_equal(hcall(priv, 36, CTL_PTR, 0, 0), -XEN_EACCES);
	assert_int_equal(domctl(9999, 77), -XEN_ESRCH);
	assert_int_equal(domctl(9999, 3), -XEN_ENOSYS);
	for (uint32_t cmd = 0; cmd < 128; cmd++) {
		if (!row_of(cmd))
			assert_int_equal(domctl(cmd, 3), -XEN_ENOSYS);
	}
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		assert_int_equal(domctl(odd[i], 3), -XEN_ENOSYS);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		memset(&domctl_op()->u, 0xff, sizeof(op->u));
		if (!(rows[i].flags & CTL_ANY))
			assert_int_equal(domctl(rows[i].cmd, 77), -XEN_ESRCH);
		if (rows[i].flags & CTL_OTHER)
			assert_int_equal(domctl(rows[i].cmd, 0), -XEN_EINVAL);
		assert_int_equal(domctl(rows[i].cmd, DOMID_SELF), rows[i].flags & CTL_ANY ?
				 -XEN_EINVAL : -XEN_ESRCH);
		/* Others are refused after the version and the domain were looked at. */
		*op = (struct xen_domctl){ .cmd = rows[i].cmd, .domain = 3 };
		assert_int_equal(hcall(v, 36, GUEST_BAD, 0, 0), -XEN_EFAULT);
		assert_int_equal(hcall(v, 36, CTL_PTR, 0, 0), -XEN_EACCES);
		op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
		assert_int_equal(hcall(v, 36, CTL_PTR, 0, 0), -XEN_EPERM);
		op->domain = 77;
		assert_int_equal(hcall(v, 36, CTL_PTR, 0, 0),
				 rows[i].flags & CTL_ANY ? -XEN_EPERM : -XEN_ESRCH);
	}
	assert_int_equal(atomic_load(&d->refs), 1);
	assert_true(guest_end(d));
}

/* A struct that can be read but not written: only what is written back says so. */
static void test_write_back(void **state)
{
	struct domain *d = guest_new(3, 1, false);
	mfn_t mfn = p2m_get(&control->p2m, GFN(2)).mfn;

	(void)state;
	write_lock(&control->p2m.lock);
	assert_int_equal(p2m_set(control, GFN(2), 0, mfn, P2M_RAM_RO), 0);
	write_unlock(&control->p2m.lock);
	assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 3), 0);
	assert_int_equal(d->pause_count, 1);
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 3), -XEN_EFAULT);
	write_lock(&control->p2m.lock);
	assert_int_equal(p2m_set(control, GFN(2), 0, mfn, P2M_RAM), 0);
	write_unlock(&control->p2m.lock);
	assert_true(guest_end(d));
}

/* --- Creation ------------------------------------------------------------- */

static void test_create(void **state)
{
	const uint8_t handle[16] = { 1, 2, 3 };
	domid_t id = create_ok();
	struct xen_domctl_getdomaininfo i = info_of(id);
	struct domain *d = get(id);

	(void)state;
	/* As seen on Xen: hvm, paused, hap, no shutdown code. */
	assert_int_equal(i.flags, 0xff010a);
	assert_int_equal(i.tot_pages + i.max_pages + i.outstanding_pages, 0);
	assert_int_equal(i.shr_pages + i.paged_pages + i.cpu_time, 0);
	assert_true(i.shared_info_frame == ~0ULL);
	assert_int_equal(i.nr_online_vcpus, 0);
	assert_int_equal(i.max_vcpu_id, 1);
	assert_memory_equal(i.handle, handle, 16);
	assert_int_equal(i.gpaddr_bits, d->policy->maxphysaddr);
	assert_int_equal(i.arch_config.emulation_flags, XEN_X86_EMU_LAPIC);
	assert_int_equal(i.cpupool + i.ssidref, 0);
	assert_false(d->privileged);
	assert_int_equal(gnttab_max_frames(d, false), 64);
	assert_int_equal(d->evtchn.max_port, 1023);
	domain_put(d);
	/* Another gets the next id, a dead one's is not given out at once. */
	assert_int_equal(create(0), 0);
	assert_int_equal(domctl_op()->domain, id + 1);
	destroy_ok((domid_t)(id + 1));
	assert_int_equal(create(DOMID_INVALID), 0);
	assert_int_equal(domctl_op()->domain, id + 2);
	assert_int_equal(create(0xffff), 0);
	assert_int_equal(domctl_op()->domain, id + 3);
	/* One may be asked for. */
	assert_int_equal(create(500), 0);
	assert_int_equal(domctl_op()->domain, 500);
	assert_int_equal(create(500), -XEN_EEXIST);
	domctl_op()->u.createdomain.flags |= XEN_DOMCTL_CDF_xs_domain;
	assert_int_equal(domctl(XEN_DOMCTL_createdomain, 501), 0);
	assert_true(info_of(501).flags & XEN_DOMINF_xs_domain);
	for (domid_t n = id; n <= id + 3; n++) {
		if (n != id + 1)
			destroy_ok(n);
	}
	destroy_ok(500);
	destroy_ok(501);
}

static void test_create_errors(void **state)
{
#define REFUSE(rc, field, value)							\
	do {										\
		create(600);								\
		destroy_ok(600);							\
		domctl_op()->u.createdomain.field = value;				\
		assert_int_equal(domctl(XEN_DOMCTL_createdomain, 600), rc);		\
	} while (0)
	(void)state;
	REFUSE(-XEN_EINVAL, flags, 0);
	REFUSE(-XEN_EINVAL, flags, 1);
	REFUSE(-XEN_EINVAL, flags, 2);
	REFUSE(-XEN_EINVAL, flags, 3 | XEN_DOMCTL_CDF_iommu);
	REFUSE(-XEN_EINVAL, flags, 3 | XEN_DOMCTL_CDF_nested_virt);
	REFUSE(-XEN_EINVAL, flags, 3 | XEN_DOMCTL_CDF_vpmu);
	REFUSE(-XEN_EINVAL, flags, 3 | 0x100);
	REFUSE(-XEN_EINVAL, flags, 3 | 0x80000000);
	REFUSE(-XEN_EINVAL, iommu_opts, 1);
	REFUSE(-XEN_EINVAL, max_vcpus, 0);
	REFUSE(-XEN_EINVAL, max_vcpus, 129);
	REFUSE(-XEN_EINVAL, max_vcpus, ~0u);
	REFUSE(-XEN_EINVAL, grant_opts, 0);
	REFUSE(-XEN_EINVAL, grant_opts, 3);
	REFUSE(-XEN_EINVAL, grant_opts, 0x12);
	REFUSE(-XEN_EINVAL, max_grant_frames, 0);
	REFUSE(-XEN_EINVAL, vmtrace_size, 4096);
	REFUSE(-XEN_EINVAL, arch.misc_flags, 1);
	REFUSE(-XEN_EOPNOTSUPP, arch.emulation_flags, 0);
	REFUSE(-XEN_EOPNOTSUPP, arch.emulation_flags, 0x1ff);
	REFUSE(-XEN_ESRCH, cpupool_id, 1);
}

/* Whatever allocation fails, nothing stays. */
static void test_create_failures(void **state)
{
	uint64_t free = page_free_count();
	unsigned int n = 0;
	int64_t rc;

	(void)state;
	do {
		domctl_op()->u.createdomain.max_vcpus = 40;	/* needs a dummy info page */
		page_fail_after = ++n;
		rc = create(0);
		page_fail_after = 0;
		if (rc) {
			assert_int_equal(rc, -XEN_ENOMEM);
			assert_int_equal(page_free_count(), free);
		}
	} while (rc);
	assert_true(n > 10);
	destroy_ok(domctl_op()->domain);
	assert_int_equal(page_free_count(), free);
}

/* --- Information ---------------------------------------------------------- */

static void test_next_domain(void **state)
{
	static const domid_t ids[] = { 3, 40, 1023 + 40, 1024 + 50, 0x7fef };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(create(ids[i]), 0);
	/* The list is walked by asking for the one from the last on. */
	for (size_t i = 0, next = 1; i < ARRAY_SIZE(ids); i++, next = ids[i - 1] + 1u) {
		assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, (domid_t)next), 0);
		assert_int_equal(domctl_op()->domain, ids[i]);
		assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, ids[i]), 0);
		assert_int_equal(domctl_op()->u.getdomaininfo.domain, ids[i]);
	}
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 0), 0);
	assert_int_equal(domctl_op()->u.getdomaininfo.domain, 0);
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, DOMID_FIRST_RESERVED), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 0xffff), -XEN_EINVAL);
	destroy_ok(0x7fef);
	assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 1024 + 51), -XEN_ESRCH);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(ids); i++)
		destroy_ok(ids[i]);
}

static void test_info(void **state)
{
	struct domain *d = guest_new(3, 3, false);
	struct xen_domctl_getdomaininfo i;
	struct vcpu *v = d->vcpus[0];

	(void)state;
	/* The control domain runs; this one waits for the CPU, then runs, then blocks. */
	assert_int_equal(info_of(0).flags, 0xff0122);
	i = info_of(3);
	assert_int_equal(i.flags, 0xff0102);
	assert_int_equal(i.nr_online_vcpus, 1);
	assert_int_equal(i.max_vcpu_id, 2);
	assert_int_equal(i.tot_pages, GUEST_PAGES);
	assert_int_equal(i.max_pages, 2 * GUEST_PAGES);
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), v);
	test_advance_ns(7 * MS);
	assert_int_equal(info_of(3).flags, 0xff0122);
	vcpu_pause_set(v, PAUSE_BLOCKED);
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), priv);
	test_advance_ns(7 * MS);
	i = info_of(3);
	assert_int_equal(i.flags, 0xff0112);
	assert_int_equal(i.cpu_time, 7 * MS);
	domctl_op()->u.getvcpuinfo.vcpu = 0;
	assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 3), 0);
	assert_int_equal(domctl_op()->u.getvcpuinfo.online, 1);
	assert_int_equal(domctl_op()->u.getvcpuinfo.blocked, 1);
	assert_int_equal(domctl_op()->u.getvcpuinfo.running, 0);
	assert_int_equal(domctl_op()->u.getvcpuinfo.cpu_time, 7 * MS);
	assert_int_equal(domctl_op()->u.getvcpuinfo.cpu, 0);
	domctl_op()->u.getvcpuinfo.vcpu = 2;
	assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 3), 0);
	assert_int_equal(domctl_op()->u.getvcpuinfo.online, 0);
	domctl_op()->u.getvcpuinfo.vcpu = 3;
	assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 3), -XEN_ESRCH);
	domctl_op()->u.getvcpuinfo.vcpu = 128;
	assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 3), -XEN_EINVAL);
	domctl_op()->u.getvcpuinfo.vcpu = 0;
	assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 0), 0);
	assert_int_equal(domctl_op()->u.getvcpuinfo.running, 1);
	/* Where it has its shared info. */
	*(struct xen_add_to_physmap *)guest_mem(d, 0x2000) = (struct xen_add_to_physmap){
		.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 0x777 };
	assert_int_equal(hcall(v, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, 0x2000, 0), 0);
	assert_int_equal(info_of(3).shared_info_frame, 0x777);
	domain_shutdown(d, SHUTDOWN_crash);
	assert_int_equal(info_of(3).flags & ~XEN_DOMINF_blocked, 0x030106);
	assert_true(guest_end(d));
}

/* --- Pausing, shutdown, resumption ---------------------------------------- */

static void test_pause(void **state)
{
	struct domain *d = guest_new(3, 2, false);
	struct vcpu *v = d->vcpus[0];

	(void)state;
	assert_true(d->has_run);
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), v);
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	vcpu_pause_set(v, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), priv);
	vcpu_pause_clear(v, PAUSE_BLOCKED);
	assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 3), 0);
	assert_false(v->sched.loaded);
	assert_true(info_of(3).flags & XEN_DOMINF_paused);
	assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 3), 0);
	assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 3), 0);
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_null(guest_next());
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), priv);
	assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 3), 0);
	assert_false(info_of(3).flags & XEN_DOMINF_paused);
	assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 3), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 0), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 0), -XEN_EINVAL);
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), v);
	assert_true(guest_end(d));
}

/* A port of @v's bound to a VIRQ. */
static uint32_t bind_virq(struct vcpu *v, uint32_t virq)
{
	struct evtchn_bind_virq *b = guest_mem(v->domain, 0x2000);

	*b = (struct evtchn_bind_virq){ .virq = virq };
	assert_int_equal(hcall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, 0x2000, 0), 0);
	return b->port;
}

/* Is the event of @port pending? Not any more. */
static bool take_event(struct domain *d, uint32_t port)
{
	uint64_t *word = &d->shared->evtchn_pending[port / 64], bit = 1ULL << port % 64;
	bool pending = *word & bit;

	*word &= ~bit;
	return pending;
}

static void test_shutdown(void **state)
{
	struct domain *d = guest_new(3, 2, false);
	uint32_t port = bind_virq(priv, VIRQ_DOM_EXC);
	struct vcpu *v = d->vcpus[0];

	(void)state;
	assert_false(take_event(control, port));
	domain_shutdown(d, SHUTDOWN_suspend);
	assert_true(take_event(control, port));
	assert_int_equal(info_of(3).flags >> 16, SHUTDOWN_suspend);
	assert_true(info_of(3).flags & XEN_DOMINF_shutdown);
	domain_shutdown(d, SHUTDOWN_crash);
	assert_false(take_event(control, port));
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_null(guest_next());
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), priv);
	/* It stays until the toolstack destroys or resumes it. */
	assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 0), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 3), 0);
	assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 3), 0);
	assert_int_equal(info_of(3).flags, 0xff0102);
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_next(), v);
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	/* A second time, with a code said beforehand; nothing undoes an end. */
	d->shutdown_code = SHUTDOWN_watchdog;
	d->shutdown_code_set = true;
	domain_shutdown(d, SHUTDOWN_poweroff);
	assert_true(take_event(control, port));
	assert_int_equal(info_of(3).flags >> 16, SHUTDOWN_watchdog);
	assert_ptr_equal(guest_next(), priv);
	domain_get(d);
	domain_destroy(d);
	assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 3), 0);
	assert_false(vcpu_runnable(v));
	assert_true(info_of(3).flags & XEN_DOMINF_dying);
	while (domain_reap_step())
		;
	assert_true(take_event(control, port));
	domain_put(d);
	assert_true(guest_gone(3));
	assert_true(take_event(control, port));
}

static void test_subscribe(void **state)
{
	struct domain *d = guest_new(3, 1, false);
	struct evtchn_alloc_unbound *a = guest_mem(d, 0x2000);
	struct evtchn_bind_interdomain *b = guest_mem(control, 0x2000);
	uint32_t port, mine, virq = bind_virq(priv, VIRQ_DOM_EXC);

	(void)state;
	*a = (struct evtchn_alloc_unbound){ DOMID_SELF, 0, 0 };
	assert_int_equal(hcall(d->vcpus[0], 32, EVTCHNOP_alloc_unbound, 0x2000, 0), 0);
	port = a->port;
	*b = (struct evtchn_bind_interdomain){ .remote_dom = 3, .remote_port = port };
	assert_int_equal(hcall(priv, 32, EVTCHNOP_bind_interdomain, 0x2000, 0), 0);
	mine = b->local_port;
	assert_true(take_event(control, mine));
	domctl_op()->u.subscribe.port = port;
	assert_int_equal(domctl(XEN_DOMCTL_subscribe, 3), 0);
	domain_shutdown(d, SHUTDOWN_crash);
	assert_false(take_event(control, mine));
	assert_true(take_event(control, virq));
	domain_resume(d);
	domain_shutdown(d, SHUTDOWN_suspend);
	assert_true(take_event(control, mine));
	assert_false(take_event(control, virq));
	/* A port that cannot send is as good as none. */
	domctl_op()->u.subscribe.port = 99999;
	assert_int_equal(domctl(XEN_DOMCTL_subscribe, 3), 0);
	domain_resume(d);
	domain_shutdown(d, SHUTDOWN_suspend);
	assert_false(take_event(control, mine));
	assert_true(take_event(control, virq));
	assert_true(guest_end(d));
}

static void test_virq_handler(void **state)
{
	struct domain *d = guest_new(3, 1, false);
	uint32_t mine = bind_virq(priv, VIRQ_CON_RING), its = bind_virq(d->vcpus[0], VIRQ_CON_RING);
	static const uint32_t bad[] = { VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENPMU, 24, ~0u };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		domctl_op()->u.set_virq_handler.virq = bad[i];
		assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 3), -XEN_EINVAL);
	}
	evtchn_global_virq(VIRQ_CON_RING);
	assert_true(take_event(control, mine));
	assert_false(take_event(d, its));
	domctl_op()->u.set_virq_handler.virq = VIRQ_CON_RING;
	assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 3), 0);
	evtchn_global_virq(VIRQ_CON_RING);
	assert_false(take_event(control, mine));
	assert_true(take_event(d, its));
	/* It goes: back to where it was. */
	assert_true(guest_end(d));
	evtchn_global_virq(VIRQ_CON_RING);
	assert_true(take_event(control, mine));
}

/* --- The end -------------------------------------------------------------- */

static void test_destroy(void **state)
{
	uint64_t free = page_free_count();
	domid_t id = create_ok();
	struct domain *d = get(id);

	(void)state;
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, 0), -XEN_EINVAL);
	assert_int_equal(max_mem(id, 600), 0);
	assert_int_equal(fill(id, 0x100, 500), 500);
	assert_int_equal(fill(id, 0x1000, 101), 100);
	assert_int_equal(atomic_load(&d->tot_pages), 600);
	/* When it returns the memory is free; the last reference is ours. */
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
	assert_int_equal(atomic_load(&d->tot_pages), 0);
	assert_true(page_free_count() >= free - 100);
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
	assert_true(domctl(XEN_DOMCTL_getdomaininfo, id) == 0);
	assert_int_equal(fill(id, 0, 1), 0);
	domain_put(d);
	assert_true(guest_gone(id));
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), -XEN_ESRCH);
	assert_int_equal(page_free_count(), free);
}

/* Other work goes before; who goes on with it when it is over hears of success. */
static void test_destroy_continues(void **state)
{
	struct hypercall hc = { .nr = __HYPERVISOR_domctl, .arg = { CTL_PTR } };
	domid_t id = create_ok();
	unsigned int rounds = 0;
	int64_t rc;

	(void)state;
	assert_int_equal(max_mem(id, 3000), 0);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(fill(id, 0x400 * i, 500), 500);
	*domctl_op() = (struct xen_domctl){ .cmd = XEN_DOMCTL_destroydomain, .domain = id,
					    .interface_version = XEN_DOMCTL_INTERFACE_VERSION };
	do {
		atomic_store(&port_this_pcpu()->softirqs, 1);
		rc = hypercall_dispatch(priv, &hc);
		rounds++;
	} while (rc == HC_CONTINUE);
	assert_int_equal(rc, 0);
	assert_true(rounds > 5);
	assert_true(guest_gone(id));
	atomic_store(&port_this_pcpu()->softirqs, 0);
	assert_int_equal(hypercall_dispatch(priv, &hc), 0);
	hc.arg[1] = 0;
	assert_int_equal(hypercall_dispatch(priv, &hc), -XEN_ESRCH);
}

/* A domain that its builder still works on: it is destroyed once that is done. */
static void test_destroy_building(void **state)
{
	const struct domain_create c = { .id = 30, .name = "new", .nr_vcpus = 1, .max_pages = 9,
					 .max_evtchn_port = 127, .building = true };
	struct hypercall hc = { .nr = __HYPERVISOR_domctl, .arg = { CTL_PTR } };
	uint64_t free = page_free_count();
	struct domain *d;

	(void)state;
	assert_int_equal(domain_create(&c, &d), 0);
	assert_int_equal(fill(30, 0, 9), 9);
	*domctl_op() = (struct xen_domctl){ .cmd = XEN_DOMCTL_destroydomain, .domain = 30,
					    .interface_version = XEN_DOMCTL_INTERFACE_VERSION };
	for (unsigned int i = 0; i < 50; i++) {
		assert_int_equal(hypercall_dispatch(priv, &hc), HC_CONTINUE);
		test_advance_ns(MS);
		test_run_timers(port_this_pcpu()->cpu_id);
		assert_ptr_equal(domain_by_slot(30), d);
		assert_int_equal(atomic_load(&d->tot_pages), 9);
	}
	assert_false(guest_gone(30));
	atomic_store(&d->building, false);
	assert_true(guest_gone(30));
	assert_int_equal(hypercall_dispatch(priv, &hc), 0);
	assert_int_equal(page_free_count(), free);
}

/* Others hold pages of it, or its grant table: it is listed as dying as long. */
static void test_destroy_held(void **state)
{
	uint32_t port = bind_virq(priv, VIRQ_DOM_EXC);
	uint64_t free = page_free_count();
	domid_t id = create_ok();

	(void)state;
	assert_int_equal(max_mem(id, 10), 0);
	assert_int_equal(fill(id, 5, 2), 2);
	assert_int_equal(foreign(id, 5, 700), 0);
	assert_int_equal(foreign(id, 9, 701), -XEN_EINVAL);
	assert_int_equal(acquire(id, 0, 702), 0);
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
	assert_true(take_event(control, port));
	assert_int_equal(info_of(id).tot_pages, 1);
	assert_true(info_of(id).flags & XEN_DOMINF_dying);
	assert_false(guest_gone(id));
	assert_int_equal(unmap(700), 0);
	assert_false(guest_gone(id));
	assert_true(info_of(id).flags & XEN_DOMINF_dying);
	assert_false(take_event(control, port));
	assert_int_equal(unmap(702), 0);
	assert_true(guest_gone(id));
	assert_true(take_event(control, port));
	assert_int_equal(domctl(XEN_DOMCTL_pausedomain, id), -XEN_ESRCH);
	/* What is left are the control domain's own tables for these addresses. */
	assert_in_range(page_free_count(), free - 2, free);
}

/* --- Limits --------------------------------------------------------------- */

static void test_limits(void **state)
{
	domid_t id = create_ok();
	struct domain *d = get(id);
	struct xen_domctl_paging_mempool *pool = &domctl_op()->u.paging_mempool;

	(void)state;
	domctl_op()->u.max_vcpus.max = 2;
	assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, id), 0);
	assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, id), 0);
	assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, 0), -XEN_EINVAL);
	domctl_op()->u.max_vcpus.max = 3;
	assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, id), -XEN_EINVAL);
	/* Nothing before somebody says how much. */
	assert_int_equal(fill(id, 0, 1), 0);
	assert_int_equal(max_mem(id, 20), 0);
	assert_int_equal(info_of(id).max_pages, 20);
	assert_int_equal(fill(id, 0, 30), 20);
	assert_int_equal(max_mem(id, 5), 0);
	assert_int_equal(fill(id, 100, 1), 0);
	assert_int_equal(info_of(id).tot_pages, 20);
	domctl_op()->u.max_mem.max_memkb = UINT64_MAX;
	assert_int_equal(domctl(XEN_DOMCTL_max_mem, id), 0);
	assert_int_equal(fill(id, 100, 5), 5);
	/* Page tables. */
	assert_int_equal(domctl(XEN_DOMCTL_get_paging_mempool_size, id), 0);
	assert_int_equal(pool->size, 256 * PAGE_SIZE);
	pool->size = 0x340000;
	assert_int_equal(domctl(XEN_DOMCTL_set_paging_mempool_size, id), 0);
	pool->size = 0x340001;
	assert_int_equal(domctl(XEN_DOMCTL_set_paging_mempool_size, id), -XEN_EINVAL);
	pool->size = 1ULL << 50;
	assert_int_equal(domctl(XEN_DOMCTL_set_paging_mempool_size, id), -XEN_ENOMEM);
	assert_int_equal(domctl(XEN_DOMCTL_get_paging_mempool_size, id), 0);
	assert_int_equal(pool->size, 0x340000);
	assert_int_equal(d->p2m.tables_max, 0x340);
	pool->size = 0;
	assert_int_equal(domctl(XEN_DOMCTL_set_paging_mempool_size, id), 0);
	assert_int_equal(fill(id, 0x8000000, 1), 0);
	domain_put(d);
	destroy_ok(id);
}

/* --- Scheduling ----------------------------------------------------------- */

static void test_scheduler(void **state)
{
	struct xen_domctl_scheduler_op *s = &domctl_op()->u.scheduler_op;
	domid_t id = create_ok();
	struct domain *d = get(id);

	(void)state;
	*s = (struct xen_domctl_scheduler_op){ .sched_id = 6, .cmd = XEN_DOMCTL_SCHEDOP_getinfo };
	assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), 0);
	assert_int_equal(s->u.credit2.weight, 256);
	assert_int_equal(s->u.credit2.cap, 0);
	s->cmd = XEN_DOMCTL_SCHEDOP_putinfo;
	s->u.credit2 = (struct xen_domctl_sched_credit2){ .weight = 512, .cap = 50 };
	assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), 0);
	assert_int_equal(d->sched.weight, 512);
	assert_int_equal(d->sched.cap, 50);
	assert_int_equal(d->vcpus[1]->sched.weight, 512);
	s->u.credit2 = (struct xen_domctl_sched_credit2){ .weight = 0, .cap = 0 };
	assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), 0);
	assert_int_equal(d->sched.weight, 512);
	assert_int_equal(d->sched.cap, 0);
	s->u.credit2 = (struct xen_domctl_sched_credit2){ .weight = 1, .cap = 65535 };
	assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), -XEN_EINVAL);
	assert_int_equal(d->sched.weight, 512);
	for (s->cmd = 2; s->cmd < 5; s->cmd++)
		assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), -XEN_EINVAL);
	s->cmd = XEN_DOMCTL_SCHEDOP_getinfo;
	s->sched_id = 5;
	assert_int_equal(domctl(XEN_DOMCTL_scheduler_op, id), -XEN_EINVAL);
	domain_put(d);
	destroy_ok(id);
}

static int64_t affinity(uint32_t cmd, domid_t id, uint32_t vcpu, uint32_t flags, uint32_t bits)
{
	const struct xenctl_bitmap map = { .bitmap.p = (void *)(uintptr_t)CTL_BUF,
					   .nr_bits = bits };

	domctl_op()->u.vcpuaffinity = (struct xen_domctl_vcpuaffinity){
		.vcpu = vcpu, .flags = flags, .cpumap_hard = map, .cpumap_soft = map };
	domctl_op()->u.vcpuaffinity.cpumap_soft.bitmap.p = (void *)(uintptr_t)(CTL_BUF + 0x100);
	return domctl(cmd, id);
}

static void test_affinity(void **state)
{
	uint8_t *hard = ctl_buf(), *soft = hard + 0x100;
	const uint32_t set = XEN_DOMCTL_setvcpuaffinity, read = XEN_DOMCTL_getvcpuaffinity;
	domid_t id;
	struct vcpu *v;

	(void)state;
	control_end();
	control_new(8192, 4);
	hard = ctl_buf();
	soft = hard + 0x100;
	id = create_ok();
	v = get(id)->vcpus[1];
	/* Bits beyond the map are no CPUs; the answer covers the whole map. */
	memset(hard, 0xfe, 0x200);
	assert_int_equal(affinity(set, id, 1, 3, 3), 0);
	assert_int_equal(hard[0], 0x06);
	assert_int_equal(hard[1], 0xfe);
	assert_int_equal(soft[0], 0x06);
	assert_int_equal(v->sched.affinity, 6);
	assert_int_equal(v->soft_affinity, 6);
	memset(hard, 0xff, 0x200);
	assert_int_equal(affinity(set, id, 1, XEN_VCPUAFFINITY_SOFT, 100), 0);
	assert_int_equal(hard[0], 0xff);
	assert_int_equal(soft[0], 0x06);
	assert_int_equal(soft[12], 0);
	assert_int_equal(soft[13], 0xff);
	memset(hard, 0xff, 0x200);
	assert_int_equal(affinity(read, id, 1, 3, 64), 0);
	assert_int_equal(hard[0], 0x06);
	assert_int_equal(soft[0], 0xff);
	assert_int_equal(affinity(read, id, 1, 0, 64), 0);
	/* More than there can be CPUs. */
	assert_int_equal(affinity(read, id, 1, 1, ~0u), 0);
	assert_int_equal(hard[511], 0);
	/* None left; unknown vCPUs; maps that are not there. */
	memset(hard, 0, 0x200);
	assert_int_equal(affinity(set, id, 1, 1, 64), -XEN_EINVAL);
	hard[0] = 0xf0;
	assert_int_equal(affinity(set, id, 1, 1, 64), -XEN_EINVAL);
	assert_int_equal(affinity(set, id, 1, 1, 0), -XEN_EINVAL);
	assert_int_equal(v->sched.affinity, 6);
	assert_int_equal(affinity(set, id, 2, 1, 64), -XEN_ESRCH);
	assert_int_equal(affinity(read, id, ~0u, 1, 64), -XEN_ESRCH);
	affinity(read, id, 1, 1, 64);
	domctl_op()->u.vcpuaffinity.cpumap_hard.bitmap.p = (void *)(uintptr_t)GUEST_BAD;
	assert_int_equal(domctl(set, id), -XEN_EFAULT);
	assert_int_equal(domctl(read, id), -XEN_EFAULT);
	domctl_op()->u.vcpuaffinity.flags = XEN_VCPUAFFINITY_SOFT;
	domctl_op()->u.vcpuaffinity.cpumap_soft.bitmap.p = (void *)(uintptr_t)GUEST_BAD;
	assert_int_equal(domctl(set, id), -XEN_EFAULT);
	assert_int_equal(domctl(read, id), -XEN_EFAULT);
	/* An override by the guest itself ends. */
	priv->pinned_from = 3;
	hard[0] = 0x0f;
	assert_int_equal(affinity(set, 0, 0, 1, 8), 0);
	assert_int_equal(priv->pinned_from, 0);
	domain_put(v->domain);
	destroy_ok(id);
}

static void test_nodes(void **state)
{
	struct xenctl_bitmap *map = &domctl_op()->u.nodeaffinity.nodemap;
	uint8_t *buf = ctl_buf();

	(void)state;
	*map = (struct xenctl_bitmap){ .bitmap.p = (void *)(uintptr_t)CTL_BUF, .nr_bits = 64 };
	buf[0] = 1;
	assert_int_equal(domctl(XEN_DOMCTL_setnodeaffinity, 0), 0);
	buf[0] = 2;
	assert_int_equal(domctl(XEN_DOMCTL_setnodeaffinity, 0), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_getnodeaffinity, 0), 0);
	assert_int_equal(buf[0], 1);
	map->bitmap.p = (void *)(uintptr_t)GUEST_BAD;
	assert_int_equal(domctl(XEN_DOMCTL_setnodeaffinity, 0), -XEN_EFAULT);
	assert_int_equal(domctl(XEN_DOMCTL_getnodeaffinity, 0), -XEN_EFAULT);
}

/* --- Settings ------------------------------------------------------------- */

static void test_settings(void **state)
{
	struct domain *d = guest_new(3, 2, false);
	const uint8_t handle[16] = { 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6 };
	uint32_t sec = d->shared->wc_sec, version = d->shared->wc_version;

	(void)state;
	memcpy(domctl_op()->u.setdomainhandle.handle, handle, 16);
	assert_int_equal(domctl(XEN_DOMCTL_setdomainhandle, 3), 0);
	assert_memory_equal(info_of(3).handle, handle, 16);
	domctl_op()->u.settimeoffset.time_offset_seconds = -3600;
	assert_int_equal(domctl(XEN_DOMCTL_settimeoffset, 3), 0);
	assert_int_equal(d->shared->wc_sec, sec - 3600);
	assert_int_equal(d->shared->wc_version, version + 2);
	domctl_op()->u.settimeoffset.time_offset_seconds = INT64_MIN;
	assert_int_equal(domctl(XEN_DOMCTL_settimeoffset, 3), 0);
	domctl_op()->u.hypercall_init.gmfn = 0x10;
	assert_int_equal(domctl(XEN_DOMCTL_hypercall_init, 3), 0);
	assert_int_equal(*(uint8_t *)guest_mem(d, 0x10000), 0xb8);
	domctl_op()->u.hypercall_init.gmfn = 0x7777;
	assert_int_equal(domctl(XEN_DOMCTL_hypercall_init, 3), -XEN_EINVAL);
	domctl_op()->u.hypercall_init.gmfn = 1ULL << 52 | 0x10;
	assert_int_equal(domctl(XEN_DOMCTL_hypercall_init, 3), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_get_address_size, 3), -XEN_EOPNOTSUPP);
	assert_int_equal(domctl(XEN_DOMCTL_set_address_size, 3), -XEN_EOPNOTSUPP);
	for (uint32_t trigger = 0; trigger < 6; trigger++) {
		domctl_op()->u.sendtrigger = (struct xen_domctl_sendtrigger){ trigger, 0 };
		assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 3),
				 trigger == 0 || trigger == 3 || trigger == 4 ? 0 : -XEN_ENOSYS);
		assert_true(atomic_load(&d->vcpus[0]->nmi_pending));
	}
	domctl_op()->u.sendtrigger.vcpu = 2;
	assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 3), -XEN_ESRCH);
	assert_true(guest_end(d));
}

/* --- Accounting ----------------------------------------------------------- */

#define SLOTS 5u
#define PLACES 40u		/* in the control domain, from gfn 600 on */

/* What the model knows: domains with their pages, and who is mapped where. */
static struct {
	domid_t id;		/* 0: none */
	unsigned int max;
	uint64_t pages;		/* bit per gfn */
} slot[SLOTS];
static domid_t mapped[PLACES];	/* 0: nothing there */
static uint64_t seed;

static unsigned int rnd(unsigned int n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(seed >> 33) % n;
}

static void step_create(unsigned int s)
{
	if (slot[s].id)
		return;
	slot[s].id = create_ok();
	slot[s].max = rnd(60);
	slot[s].pages = 0;
	assert_int_equal(max_mem(slot[s].id, slot[s].max), 0);
}

static void step_pages(unsigned int s)
{
	unsigned int gfn = rnd(64), have = (unsigned int)__builtin_popcountll(slot[s].pages);
	bool there = slot[s].pages >> gfn & 1;

	if (rnd(3)) {
		bool done = fill(slot[s].id, gfn, 1);

		assert_true(!done || (!there && have < slot[s].max));
		/* A page that somebody holds counts as the domain's. */
		slot[s].pages |= (uint64_t)done << gfn;
	} else {
		uint64_t *list = ctl_buf();

		*list = gfn;
		assert_int_equal(MEMOP(XENMEM_decrease_reservation, struct xen_memory_reservation,
				       .extent_start.p = (void *)(uintptr_t)CTL_BUF,
				       .nr_extents = 1, .domid = slot[s].id), there);
		slot[s].pages &= ~(1ULL << gfn);
	}
}

static void step_map(unsigned int s)
{
	unsigned int at = rnd(PLACES), gfn = rnd(64);
	bool grants = !rnd(3);
	int64_t rc = grants ? acquire(slot[s].id, rnd(3), 600 + at) :
			      foreign(slot[s].id, gfn, 600 + at);

	assert_int_equal(rc, grants || slot[s].pages >> gfn & 1 ? 0 : -XEN_EINVAL);
	if (!rc)
		mapped[at] = slot[s].id;
}

static void step_end(unsigned int s)
{
	domid_t id = slot[s].id;
	bool held = false;

	if (rnd(4))
		return;
	slot[s].id = 0;
	assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id), 0);
	for (unsigned int i = 0; i < PLACES; i++)
		held |= mapped[i] == id;
	if (!held)
		assert_true(guest_gone(id));
	assert_int_equal(domctl(XEN_DOMCTL_max_mem, id), held ? 0 : -XEN_ESRCH);
	for (unsigned int i = 0; i < PLACES && held; i++) {
		if (mapped[i] != id)
			continue;
		assert_int_equal(unmap(600 + i), 0);
		mapped[i] = 0;
	}
	assert_true(guest_gone(id));
}

static void step_claim(unsigned int s)
{
	uint64_t have = info_of(slot[s].id).tot_pages, nr = rnd(64);
	bool active = info_of(slot[s].id).outstanding_pages;
	int64_t rc = MEMOP(XENMEM_claim_pages, struct xen_memory_reservation, .nr_extents = nr,
			   .domid = slot[s].id);

	assert_int_equal(rc, nr && (active || nr <= have || nr > slot[s].max) ? -XEN_EINVAL : 0);
	if (!rc)
		assert_int_equal(info_of(slot[s].id).outstanding_pages, nr ? nr - have : 0);
}

/* Free frames, and those that stand ready for the control domain's own tables. */
static uint64_t free_frames(void)
{
	return page_free_count() + control->p2m.tables + !!control->p2m.spare;
}

/* Everything goes; @free is what there was before. */
static void end_all(uint64_t free)
{
	for (unsigned int i = 0; i < PLACES; i++) {
		assert_int_equal(unmap(600 + i), mapped[i] ? 0 : -XEN_ENOENT);
		mapped[i] = 0;
	}
	for (unsigned int s = 0; s < SLOTS; s++) {
		if (slot[s].id)
			destroy_ok(slot[s].id);
		slot[s].id = 0;
	}
	assert_int_equal(page_claimed_count(), 0);
	assert_int_equal(free_frames(), free);
	assert_int_equal(atomic_load(&control->tot_pages), GUEST_PAGES);
}

/* After any sequence of it all. */
static void test_accounting(void **state)
{
	static void (*const steps[])(unsigned int s) = {
		step_pages, step_pages, step_pages, step_map, step_map, step_claim, step_end,
	};
	uint64_t free = free_frames();

	(void)state;
	for (seed = 1; seed < 30; seed++) {
		uint64_t keep = seed;

		for (unsigned int i = 0; i < 150; i++) {
			unsigned int s = rnd(SLOTS);

			step_create(s);
			steps[rnd(ARRAY_SIZE(steps))](s);
		}
		end_all(free);
		seed = keep;
	}
}

/* The same when any allocation may fail: no more than the sums is known. */
static void test_accounting_failures(void **state)
{
	uint64_t free = free_frames();

	(void)state;
	for (unsigned int i = 0; i < 3000; i++) {
		unsigned int s = rnd(SLOTS), at = rnd(PLACES), what = rnd(8);

		page_fail_after = rnd(3) ? 0 : 1 + rnd(5);
		if (!slot[s].id) {
			slot[s].id = create(0) ? 0 : domctl_op()->domain;
			max_mem(slot[s].id ? slot[s].id : 999, 100);
		} else if (what < 4) {
			fill(slot[s].id, rnd(20) * 0x200, rnd(30));
		} else if (what < 6) {
			if (!(what & 1 ? foreign(slot[s].id, rnd(20) * 0x200, 600 + at) :
			      (int)acquire(slot[s].id, rnd(3), 600 + at)))
				mapped[at] = slot[s].id;
		} else if (!rnd(6)) {
			page_fail_after = 0;
			for (unsigned int n = 0; n < PLACES; n++) {
				if (mapped[n] == slot[s].id)
					mapped[n] = unmap(600 + n) ? mapped[n] : 0;
			}
			destroy_ok(slot[s].id);
			slot[s].id = 0;
		}
	}
	page_fail_after = 0;
	end_all(free);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_frame), TEST(test_write_back), TEST(test_create),
		TEST(test_create_errors), TEST(test_create_failures), TEST(test_next_domain),
		TEST(test_info), TEST(test_pause), TEST(test_shutdown), TEST(test_subscribe),
		TEST(test_virq_handler), TEST(test_destroy), TEST(test_destroy_continues),
		TEST(test_destroy_building), TEST(test_destroy_held), TEST(test_limits),
		TEST(test_scheduler), TEST(test_affinity), TEST(test_nodes), TEST(test_settings),
		TEST(test_accounting), TEST(test_accounting_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
