/* SPDX-License-Identifier: MIT */
/*
 * sysctl and platform_op: what the control domain learns of the host, reads of the
 * log, and what it may set.
 */
#include "unit.h"

#include "ctl_calls.h"
#include "hospes/console.h"
#include "hospes/log.h"

#define CPUS 3u
#define MS 1000000ULL
#define BUF(field, type) ((field).p = (type *)(uintptr_t)CTL_BUF)
#define BAD(field) ((field).p = (void *)(uintptr_t)GUEST_BAD)

static int setup(void **state)
{
	(void)state;
	control_new(4096, CPUS);
	host_policy.ext[0x1e].ebx = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	control_end();
	return 0;
}

/* --- The frames ----------------------------------------------------------- */

static const struct row { uint64_t call, cmd; } rows[] = {
#define SYSCTL(nr, name, flags) { __HYPERVISOR_sysctl, nr },
#define PLATFORM(nr, name, flags) { __HYPERVISOR_platform_op, nr },
#include "hospes/ctl.def"
};

static bool listed(uint64_t call, uint64_t cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].call == call && rows[i].cmd == cmd)
			return true;
	}
	return false;
}

static void frame(uint64_t call, uint32_t version)
{
	struct domain *d = guest_new(3, 1, false);
	struct { uint32_t cmd, version; } *op = guest_mem(control, CTL_PTR),
					  *its = guest_mem(d, CTL_PTR);

	assert_int_equal(hcall(priv, call, GUEST_BAD, 0, 0), -XEN_EFAULT);
	assert_int_equal(hcall(priv, call, GUEST_PAGES * PAGE_SIZE - 135, 0, 0), -XEN_EFAULT);
	for (uint32_t cmd = 0; cmd < 300; cmd++) {
		op->cmd = its->cmd = cmd;
		op->version = its->version = version + 1;
		assert_int_equal(hcall(priv, call, CTL_PTR, 0, 0), -XEN_EACCES);
		assert_int_equal(hcall(d->vcpus[0], call, CTL_PTR, 0, 0), -XEN_EACCES);
		op->version = its->version = version;
		assert_int_equal(hcall(d->vcpus[0], call, CTL_PTR, 0, 0), -XEN_EPERM);
		if (!listed(call, cmd))
			assert_int_equal(hcall(priv, call, CTL_PTR, 0, 0), -XEN_ENOSYS);
	}
	assert_true(guest_end(d));
}

static void test_frames(void **state)
{
	(void)state;
	frame(__HYPERVISOR_sysctl, XEN_SYSCTL_INTERFACE_VERSION);
	frame(__HYPERVISOR_platform_op, XENPF_INTERFACE_VERSION);
}

/* --- The machine ---------------------------------------------------------- */

static void test_physinfo(void **state)
{
	struct xen_sysctl_physinfo *p = &sysctl_op()->u.physinfo;

	(void)state;
	assert_int_equal(page_claim(control, GUEST_PAGES + 7), 0);
	memset(p, 0xff, sizeof(*p));
	assert_int_equal(sysctl(XEN_SYSCTL_physinfo), 0);
	assert_int_equal(p->nr_cpus, CPUS);
	assert_int_equal(p->max_cpu_id, CPUS - 1);
	assert_int_equal(p->nr_nodes, 1);
	assert_int_equal(p->max_node_id, 0);
	assert_int_equal(p->cpu_khz, port_tsc_khz);
	assert_int_equal(p->capabilities, 0x309);
	assert_int_equal(p->arch_capabilities, 0);
	assert_int_equal(p->total_pages, page_total_count());
	assert_int_equal(p->free_pages, page_free_count());
	assert_int_equal(p->outstanding_pages, 7);
	assert_int_equal(p->max_mfn, 4095);
	assert_int_equal(p->scrub_pages, 0);
	assert_int_equal(p->threads_per_core, 1);
	assert_int_equal(p->cores_per_socket, CPUS);
	assert_int_equal(p->hw_cap[0], host_policy.basic[1].edx);
	assert_int_equal(p->hw_cap[5], host_policy.leaf7[0].ebx);
	/* Two threads a core, and a leaf that is not there. */
	host_policy.ext[0].eax = 0x8000001e;
	host_policy.ext[0x1e].ebx = 0x100;
	assert_int_equal(sysctl(XEN_SYSCTL_physinfo), 0);
	assert_int_equal(p->threads_per_core, 2);
	assert_int_equal(p->cores_per_socket, 1);
	host_policy.ext[0].eax = 0x8000001d;
	assert_int_equal(sysctl(XEN_SYSCTL_physinfo), 0);
	assert_int_equal(p->threads_per_core, 1);
	assert_int_equal(sysctl(XEN_SYSCTL_sched_id), 0);
	assert_int_equal(sysctl_op()->u.sched_id.sched_id, 6);
}

static void test_topology(void **state)
{
	struct xen_sysctl_cputopoinfo *t = &sysctl_op()->u.cputopoinfo;
	struct xen_sysctl_numainfo *n = &sysctl_op()->u.numainfo;
	struct xen_sysctl_cputopo *topo = ctl_buf();
	uint64_t *mem = ctl_buf();
	uint32_t *distance = guest_mem(control, CTL_BUF + 0x100);

	(void)state;
	*t = (struct xen_sysctl_cputopoinfo){ 0 };
	assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo), 0);
	assert_int_equal(t->num_cpus, CPUS);
	BUF(t->cputopo, struct xen_sysctl_cputopo);
	memset(topo, 0xff, 0x100);
	t->num_cpus = 2;
	assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo), 0);
	assert_int_equal(t->num_cpus, CPUS);
	assert_int_equal(topo[1].core, 1);
	assert_int_equal(topo[1].socket + topo[1].node, 0);
	assert_int_equal(topo[2].core, ~0u);
	t->num_cpus = ~0u;
	assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo), 0);
	assert_int_equal(topo[2].core, 2);
	assert_int_equal(topo[3].core, ~0u);
	BAD(t->cputopo);
	assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo), -XEN_EFAULT);

	*n = (struct xen_sysctl_numainfo){ 0 };
	assert_int_equal(sysctl(XEN_SYSCTL_numainfo), 0);
	assert_int_equal(n->num_nodes, 1);
	memset(mem, 0xff, 0x200);
	BUF(n->meminfo, xen_sysctl_meminfo_t);
	n->num_nodes = 0;
	assert_int_equal(sysctl(XEN_SYSCTL_numainfo), 0);
	assert_true(mem[0] == ~0ULL);
	n->num_nodes = 5;
	n->distance.p = (void *)(uintptr_t)(CTL_BUF + 0x100);
	assert_int_equal(sysctl(XEN_SYSCTL_numainfo), 0);
	assert_int_equal(mem[0], page_total_count() << PAGE_SHIFT);
	assert_int_equal(mem[1], page_free_count() << PAGE_SHIFT);
	assert_true(mem[2] == ~0ULL);
	assert_int_equal(distance[0], 10);
	assert_int_equal(distance[1], ~0u);
	BAD(n->distance);
	assert_int_equal(sysctl(XEN_SYSCTL_numainfo), -XEN_EFAULT);
	BAD(n->meminfo);
	assert_int_equal(sysctl(XEN_SYSCTL_numainfo), -XEN_EFAULT);
}

static void test_use(void **state)
{
	struct xen_sysctl_getcpuinfo *c = &sysctl_op()->u.getcpuinfo;
	struct xen_sysctl_availheap *a = &sysctl_op()->u.availheap;
	uint64_t *idle = ctl_buf(), before;

	(void)state;
	*c = (struct xen_sysctl_getcpuinfo){ .max_cpus = 64 };
	BUF(c->info, xen_sysctl_cpuinfo_t);
	assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo), 0);
	assert_int_equal(c->nr_cpus, CPUS);
	before = idle[priv->sched.cpu];
	test_advance_ns(5 * MS);
	c->max_cpus = 64;
	assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo), 0);
	for (unsigned int i = 0; i < CPUS; i++) {
		assert_true(idle[i] == (i == priv->sched.cpu ? before : port_time_ns()));
	}
	vcpu_pause_set(priv, PAUSE_BLOCKED);
	assert_null(guest_next());
	test_advance_ns(9 * MS);
	vcpu_pause_clear(priv, PAUSE_BLOCKED);
	assert_ptr_equal(guest_run(priv), priv);
	c->max_cpus = 64;
	assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo), 0);
	assert_in_range(idle[priv->sched.cpu], before + 9 * MS, before + 10 * MS);
	c->max_cpus = 1;
	idle[1] = 77;
	assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo), 0);
	assert_int_equal(c->nr_cpus, 1);
	assert_int_equal(idle[1], 77);
	BAD(c->info);
	assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo), -XEN_EFAULT);

	*a = (struct xen_sysctl_availheap){ .node = -1 };
	assert_int_equal(sysctl(XEN_SYSCTL_availheap), 0);
	assert_int_equal(a->avail_bytes, page_free_count() << PAGE_SHIFT);
	a->node = 0;
	assert_int_equal(sysctl(XEN_SYSCTL_availheap), 0);
	assert_int_equal(a->avail_bytes, page_free_count() << PAGE_SHIFT);
	a->node = 1;
	assert_int_equal(sysctl(XEN_SYSCTL_availheap), 0);
	assert_int_equal(a->avail_bytes, 0);
}

/* --- Domains -------------------------------------------------------------- */

static void test_list(void **state)
{
	struct xen_sysctl_getdomaininfolist *l = &sysctl_op()->u.getdomaininfolist;
	struct xen_domctl_getdomaininfo *info = ctl_buf();
	struct domain *a = guest_new(9, 1, false), *b = guest_new(4, 1, false);

	(void)state;
	*l = (struct xen_sysctl_getdomaininfolist){ .max_domains = 1024 };
	BUF(l->buffer, xen_domctl_getdomaininfo_t);
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 3);
	assert_int_equal(info[0].domain, 0);
	assert_int_equal(info[1].domain, 4);
	assert_int_equal(info[2].domain, 9);
	assert_int_equal(info[2].tot_pages, GUEST_PAGES);
	assert_true(info[0].flags & XEN_DOMINF_running);
	l->first_domain = 5;
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 1);
	assert_int_equal(info[0].domain, 9);
	l->first_domain = 10;
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 0);
	l->first_domain = 0xffff;
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 0);
	l->first_domain = 0;
	l->max_domains = 2;
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 2);
	l->max_domains = 0;
	BAD(l->buffer);
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), 0);
	assert_int_equal(l->num_domains, 0);
	l->max_domains = 1;
	assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist), -XEN_EFAULT);
	assert_true(guest_end(a));
	assert_true(guest_end(b));
}

static void test_pool(void **state)
{
	struct xen_sysctl_cpupool_op *c = &sysctl_op()->u.cpupool_op;
	uint8_t *map = ctl_buf();

	(void)state;
	memset(map, 0xff, 16);
	*c = (struct xen_sysctl_cpupool_op){ .op = XEN_SYSCTL_CPUPOOL_OP_INFO,
					     .cpumap.nr_bits = 16 };
	BUF(c->cpumap.bitmap, uint8_t);
	assert_int_equal(sysctl(XEN_SYSCTL_cpupool_op), 0);
	assert_int_equal(c->cpupool_id, 0);
	assert_int_equal(c->sched_id, 6);
	assert_int_equal(c->n_dom, 1);
	assert_int_equal(map[0], 7);
	assert_int_equal(map[1], 0);
	assert_int_equal(map[2], 0xff);
	c->cpupool_id = 1;
	assert_int_equal(sysctl(XEN_SYSCTL_cpupool_op), -XEN_ENOENT);
	c->op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
	assert_int_equal(sysctl(XEN_SYSCTL_cpupool_op), 0);
	assert_int_equal(map[0], 0);
	BAD(c->cpumap.bitmap);
	assert_int_equal(sysctl(XEN_SYSCTL_cpupool_op), -XEN_EFAULT);
	for (c->op = 0; c->op < 10; c->op++) {
		if (c->op != 3 && c->op != 7)
			assert_int_equal(sysctl(XEN_SYSCTL_cpupool_op), c->op && c->op < 7 ?
					 -XEN_EOPNOTSUPP : -XEN_ENOSYS);
	}
}

/* --- The log, and the key menu -------------------------------------------- */

/* One call; the text ends with a 0. */
static const char *console(bool clear, bool incremental, uint32_t index, uint32_t count)
{
	struct xen_sysctl_readconsole *r = &sysctl_op()->u.readconsole;

	*r = (struct xen_sysctl_readconsole){ .clear = clear, .incremental = incremental,
					      .index = index, .count = count };
	BUF(r->buffer, char);
	assert_int_equal(sysctl(XEN_SYSCTL_readconsole), 0);
	assert_true(r->count <= count);
	((char *)ctl_buf())[r->count] = 0;
	return ctl_buf();
}

static void test_console(void **state)
{
	struct xen_sysctl_readconsole *r = &sysctl_op()->u.readconsole;
	uint32_t index, all;

	(void)state;
	log_info("first line");
	console(true, false, 0, 0x10000);
	log_info("second line");
	/* Twice the same, as long as it is not cleared; then what came since. */
	assert_non_null(strstr(console(false, false, 0, 4000), "second line\n"));
	assert_null(strstr(ctl_buf(), "first line"));
	assert_non_null(strstr(console(false, false, 0, 4000), "second line\n"));
	index = r->index;
	all = r->count;
	assert_int_equal(strlen(console(false, true, index, 4000)), 0);
	log_info("third line");
	assert_non_null(strstr(console(false, true, index, 4000), "third line\n"));
	assert_null(strstr(ctl_buf(), "second line"));
	/* In small pieces, on from where the last one ended. */
	console(false, false, 0, 10);
	for (uint32_t n = r->count; n < all; n += r->count) {
		assert_int_equal(strlen(console(false, true, r->index, 10)), 10);
		if (n > 2 * all)
			fail();
	}
	/* A place that never was, or is overwritten: all there is. */
	assert_non_null(strstr(console(false, true, index - 0x20000000, 4000), "second line\n"));
	assert_non_null(strstr(console(false, true, index + 5000, 4000), "second line\n"));
	/* Cleared as far as it was read. */
	console(true, false, 0, all);
	assert_non_null(strstr(console(true, false, 0, 4000), "third line\n"));
	assert_int_equal(strlen(console(false, false, 0, 4000)), 0);
	for (unsigned int i = 0; i < 3000; i++)
		log_info("a line of many, so many that the first ones are overwritten %u", i);
	console(false, false, 0, 100);
	assert_int_equal(r->count, 100);
	log_info("more");
	BAD(r->buffer);
	r->count = 10;
	assert_int_equal(sysctl(XEN_SYSCTL_readconsole), -XEN_EFAULT);
}

static int64_t keys(const char *text, uint32_t nr)
{
	struct xen_sysctl_debug_keys *k = &sysctl_op()->u.debug_keys;

	memcpy(ctl_buf(), text, strlen(text));
	*k = (struct xen_sysctl_debug_keys){ .nr_keys = nr };
	BUF(k->keys, const char);
	return sysctl(XEN_SYSCTL_debug_keys);
}

static void test_keys(void **state)
{
	struct hypercall hc = { .nr = __HYPERVISOR_sysctl, .arg = { CTL_PTR } };

	(void)state;
	console(true, false, 0, 0x10000);
	test_console_clear();
	assert_int_equal(keys("m", 1), 0);
	assert_non_null(strstr(test_console_output(), "free "));
	/* It is in the log, for who reads that; from the keyboard it is not. */
	assert_non_null(strstr(console(true, false, 0, 4000), "free "));
	key_press('m', false);
	assert_int_equal(strlen(console(false, false, 0, 4000)), 0);
	assert_int_equal(keys("", 0), 0);
	test_console_clear();
	keys("dm", 0);
	sysctl_op()->u.debug_keys.nr_keys = 2;
	atomic_store(&port_this_pcpu()->softirqs, 1);
	assert_int_equal(hypercall_dispatch(priv, &hc), HC_CONTINUE);
	assert_non_null(strstr(test_console_output(), "test"));
	assert_null(strstr(test_console_output(), "free "));
	assert_int_equal(hypercall_dispatch(priv, &hc), 0);
	assert_non_null(strstr(test_console_output(), "free "));
	atomic_store(&port_this_pcpu()->softirqs, 0);
	BAD(sysctl_op()->u.debug_keys.keys);
	sysctl_op()->u.debug_keys.nr_keys = 1;
	assert_int_equal(sysctl(XEN_SYSCTL_debug_keys), -XEN_EFAULT);
}

/* --- platform_op ---------------------------------------------------------- */

static void test_settime(void **state)
{
	struct domain *d = guest_new(3, 1, false);
	uint64_t before = port_wallclock_base_ns;

	(void)state;
	platform_op()->u.settime64 = (struct xenpf_settime64){
		.secs = 0x123456789, .nsecs = 5, .system_time = 1000000005 };
	assert_int_equal(platform(XENPF_settime64), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct shared_info *s = (i ? d : control)->shared;

		assert_int_equal(s->wc_sec, 0x23456789 - 1);
		assert_int_equal(s->wc_sec_hi, 1);
		assert_int_equal(s->wc_nsec, 0);
		assert_false(s->wc_version & 1);
	}
	platform_op()->u.settime64.mbz = 1;
	platform_op()->u.settime64.secs = 7;
	assert_int_equal(platform(XENPF_settime64), -XEN_EINVAL);
	assert_int_equal(d->shared->wc_sec_hi, 1);
	platform_op()->u.settime32 = (struct xenpf_settime32){ .secs = 77, .nsecs = 999999999 };
	assert_int_equal(platform(XENPF_settime32), 0);
	assert_int_equal(d->shared->wc_sec, 77);
	assert_int_equal(d->shared->wc_nsec, 999999999);
	/* Who comes later gets it, too. */
	assert_true(guest_end(d));
	d = guest_new(3, 1, false);
	assert_int_equal(d->shared->wc_sec, 77);
	assert_true(guest_end(d));
	port_wallclock_base_ns = before;
}

static void test_cpus(void **state)
{
	struct xenpf_pcpuinfo *p = &platform_op()->u.pcpu_info;
	struct xenpf_pcpu_version *c = &platform_op()->u.pcpu_version;

	(void)state;
	pcpus[2]->apic_id = 6;
	pcpus[2]->acpi_id = 9;
	*p = (struct xenpf_pcpuinfo){ .xen_cpuid = 2 };
	assert_int_equal(platform(XENPF_get_cpuinfo), 0);
	assert_int_equal(p->max_present, CPUS - 1);
	assert_int_equal(p->flags, XEN_PCPU_FLAGS_ONLINE);
	assert_int_equal(p->apic_id, 6);
	assert_int_equal(p->acpi_id, 9);
	for (p->xen_cpuid = CPUS; p->xen_cpuid && p->xen_cpuid < 1u << 31; p->xen_cpuid *= 2) {
		assert_int_equal(platform(XENPF_get_cpuinfo), 0);
		assert_int_equal(p->flags, XEN_PCPU_FLAGS_INVALID);
		assert_int_equal(p->max_present, CPUS - 1);
	}
	*c = (struct xenpf_pcpu_version){ .xen_cpuid = 1 };
	assert_int_equal(platform(XENPF_get_cpu_version), 0);
	assert_memory_equal(c->vendor_id, "AuthenticAMD", 12);
	host_policy.basic[1].eax = 0x00a20f12;
	assert_int_equal(platform(XENPF_get_cpu_version), 0);
	assert_int_equal(c->family, 0x19);
	assert_int_equal(c->model, 0x21);
	assert_int_equal(c->stepping, 2);
	host_policy.basic[1].eax = 0x543;
	assert_int_equal(platform(XENPF_get_cpu_version), 0);
	assert_int_equal(c->family, 5);
	assert_int_equal(c->model, 4);
	c->xen_cpuid = CPUS;
	assert_int_equal(platform(XENPF_get_cpu_version), 0);
	assert_int_equal(c->max_present, CPUS - 1);
	assert_int_equal(c->vendor_id[0] + c->family + c->model + c->stepping, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_frames), TEST(test_physinfo), TEST(test_topology), TEST(test_use),
		TEST(test_list), TEST(test_pool), TEST(test_console), TEST(test_keys),
		TEST(test_settime), TEST(test_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
