/* SPDX-License-Identifier: MIT */
/*
 * CPU policies through the toolstack's calls: what is read, what may be asked
 * for, and what the guest then sees.
 */
#include "unit.h"

#include "toolstack.h"

#define NONE XEN_CPUID_NO_SUBLEAF
#define MSRS 0x10000u		/* offset of the MSRs in the buffer */
#define ITSC (1u << 8)

static int setup(void **state)
{
	test_machine_init(8192, 2);
	test_cpuid_set(0x4, 0, 0x1c004121, 0x1c0003f, 0x3f, 0);
	test_cpuid_set(0x4, 1, 0x1c004122, 0x1c0003f, 0x3f, 0);
	test_cpuid_set(0xb, 0, 1, 2, 0x100, 5);
	test_cpuid_set(0xb, 1, 7, 16, 0x201, 5);
	policy_init_host();
	tool = guest_new(1, 1, true);
	assert_ptr_equal(guest_run(tool->vcpus[0]), tool->vcpus[0]);
	target = target_new(2, 2);
	return 0;
}

static int teardown(void **state)
{
	assert_true(tool_end());
	return 0;
}

/* --- Calls --------------------------------------------------------------------------- */

static struct xen_cpuid_leaf *leaves(void)
{
	return tool_buf(0);
}

static struct xen_cpuid_leaf *leaf(uint32_t count, uint32_t nr, uint32_t subleaf)
{
	for (uint32_t i = 0; i < count; i++)
		if (leaves()[i].leaf == nr && leaves()[i].subleaf == subleaf)
			return &leaves()[i];
	return NULL;
}

/* Leaves come to the buffer; returns their number or an errno. */
static int64_t get_system(uint32_t index)
{
	struct xen_sysctl op = { .u.cpu_policy = { index, 120, 2 } };
	int64_t rc;

	HANDLE(op.u.cpu_policy.leaves, 0);
	HANDLE(op.u.cpu_policy.msrs, MSRS);
	rc = sysctl(XEN_SYSCTL_get_cpu_policy, &op);
	return rc ? rc : op.u.cpu_policy.nr_leaves;
}

static uint32_t get_domain(domid_t id)
{
	struct xen_domctl op = { .u.cpu_policy = { .nr_leaves = 120, .nr_msrs = 2 } };

	HANDLE(op.u.cpu_policy.leaves, 0);
	HANDLE(op.u.cpu_policy.msrs, MSRS);
	assert_int_equal(domctl(XEN_DOMCTL_get_cpu_policy, id, &op), 0);
	assert_int_equal(op.u.cpu_policy.nr_msrs, 2);
	return op.u.cpu_policy.nr_leaves;
}

static struct xen_domctl_cpu_policy err;

static int64_t set_domain(domid_t id, uint32_t count, uint32_t nr_msrs)
{
	struct xen_domctl op = { .u.cpu_policy = { .nr_leaves = count, .nr_msrs = nr_msrs } };
	int64_t rc;

	HANDLE(op.u.cpu_policy.leaves, 0);
	HANDLE(op.u.cpu_policy.msrs, MSRS);
	rc = domctl(XEN_DOMCTL_set_cpu_policy, id, &op);
	err = op.u.cpu_policy;
	return rc;
}

/* One leaf, the rest stays as it is. */
static int64_t set_leaf(uint32_t nr, uint32_t subleaf, struct cpuid_regs r)
{
	leaves()[0] = (struct xen_cpuid_leaf){ nr, subleaf, r.eax, r.ebx, r.ecx, r.edx };
	return set_domain(2, 1, 0);
}

static struct cpuid_regs cpuid(struct vcpu *v, uint32_t nr, uint32_t subleaf)
{
	struct cpuid_regs r;

	policy_cpuid(v, nr, subleaf, &r);
	return r;
}

/* --- Reading -------------------------------------------------------------------------- */

static void test_system(void **state)
{
	struct xen_sysctl op = { .u.cpu_policy.index = 5 };
	int64_t n;

	/* Sizes first, as every tool asks. */
	for (uint32_t index = 0; index < 7; index++) {
		op.u.cpu_policy = (struct xen_sysctl_cpu_policy){ .index = index };
		assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op),
				 index == 6 ? -XEN_EINVAL :
				 index == 2 || index == 4 ? -XEN_EOPNOTSUPP : 0);
		assert_int_equal(op.u.cpu_policy.nr_leaves, index < 6 && index != 2 && index != 4 ?
				 120 : 0);
	}
	n = get_system(XEN_SYSCTL_cpu_policy_raw);
	assert_in_range(n, 20, 120);
	assert_int_equal(leaf((uint32_t)n, 0, NONE)->a, 0x10);
	assert_int_equal(leaf((uint32_t)n, 0x8000000a, NONE)->b, 0x8000);	/* SVM */
	assert_int_equal(leaf((uint32_t)n, 0x4, 1)->a, 0x1c004122);
	assert_null(leaf((uint32_t)n, 0x4, NONE));
	assert_null(leaf((uint32_t)n, 0x7, NONE));
	assert_int_equal(leaf((uint32_t)n, 0xd, 2)->a, 0x100);
	n = get_system(XEN_SYSCTL_cpu_policy_hvm_default);
	assert_in_range(n, 15, 120);
	assert_int_equal(leaf((uint32_t)n, 0x8000000a, NONE)->b, 0);
	assert_int_equal(leaf((uint32_t)n, 0, NONE)->a, 0xd);
	/* Nothing beyond what tools know. */
	for (uint32_t i = 0; i < n; i++) {
		const struct xen_cpuid_leaf *l = &leaves()[i];

		assert_true(l->leaf <= 0xd || (l->leaf >= 0x80000000 && l->leaf <= 0x80000021) ||
			    l->leaf == 0x40000000 || l->leaf == 0x40000100);
		assert_int_equal(l->subleaf != NONE, l->leaf == 4 || l->leaf == 7 ||
				 l->leaf == 0xb || l->leaf == 0xd);
		assert_true(l->subleaf == NONE || l->subleaf < 63);
	}
	assert_memory_equal(tool_buf(MSRS), (&(struct xen_msr_entry[2]){ { 0xce, 0, 0 },
			    { 0x10a, 0, 0 } }), 32);
	op.u.cpu_policy = (struct xen_sysctl_cpu_policy){ .index = 5, ._rsvd = 1 };
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op), -XEN_EINVAL);
	op.u.cpu_policy = (struct xen_sysctl_cpu_policy){ .index = 5, .nr_leaves = 3 };
	HANDLE(op.u.cpu_policy.leaves, 0);
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op), -XEN_ENOBUFS);
	HANDLE_BAD(op.u.cpu_policy.leaves);
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op), -XEN_EFAULT);
	op.u.cpu_policy.leaves.p = NULL;
	HANDLE(op.u.cpu_policy.msrs, 0);
	op.u.cpu_policy.nr_msrs = 1;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op), -XEN_ENOBUFS);
	HANDLE_BAD(op.u.cpu_policy.msrs);
	op.u.cpu_policy.nr_msrs = 2;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_policy, &op), -XEN_EFAULT);
}

static void test_featureset(void **state)
{
	struct xen_sysctl op = { .u.cpu_featureset.index = 1 };
	const uint32_t *words = tool_buf(0);

	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), 0);
	assert_int_equal(op.u.cpu_featureset.nr_features, 19);
	HANDLE(op.u.cpu_featureset.features, 0);
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), 0);
	assert_int_equal(words[0], 0x178bfbff);
	assert_int_equal(words[1], 0x7ed8320b);
	assert_int_equal(words[5], 0x219c97a9);
	assert_int_equal(words[11], 0x4d);
	assert_int_equal(words[16], 0);
	op.u.cpu_featureset.index = XEN_SYSCTL_cpu_featureset_hvm;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), 0);
	assert_int_equal(words[0], guest_policy.basic[1].edx);
	/* Less room than there is to tell: what fits, and word of it. */
	op.u.cpu_featureset.nr_features = 2;
	((uint32_t *)tool_buf(0))[2] = 77;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), -XEN_ENOBUFS);
	assert_int_equal(op.u.cpu_featureset.nr_features, 2);
	assert_int_equal(words[2], 77);
	op.u.cpu_featureset.index = XEN_SYSCTL_cpu_featureset_pv;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), -XEN_EOPNOTSUPP);
	op.u.cpu_featureset.index = 6;
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), -XEN_EINVAL);
	op.u.cpu_featureset.index = 0;
	HANDLE_BAD(op.u.cpu_featureset.features);
	assert_int_equal(sysctl(XEN_SYSCTL_get_cpu_featureset, &op), -XEN_EFAULT);
}

/* --- Setting -------------------------------------------------------------------------- */

/*
 * What the tools make of the default for a guest: HTT, twice as many logical
 * processors, no INVTSC; every leaf they know, the hypervisor's and topology with it.
 */
static uint32_t edit_as_tools_do(uint32_t n)
{
	struct xen_cpuid_leaf *l = leaf(n, 1, NONE);

	l->d |= 1u << 28;
	l->b = (l->b & 0xff00ffff) | 2u << 16;
	leaf(n, 0x80000001, NONE)->c &= ~2u;
	leaf(n, 0x80000007, NONE)->d &= ~ITSC;
	leaf(n, 0x80000008, NONE)->c = 0x0001;
	leaf(n, 0x4, 0)->a |= 1u << 26;
	*leaf(n, 0xb, 0) = (struct xen_cpuid_leaf){ 0xb, 0, 1, 2, 0x100, 0 };
	leaves()[n++] = (struct xen_cpuid_leaf){ 0xb, 1, 0, 0, 0x201, 0 };
	return n;
}

static void test_builder(void **state)
{
	struct vcpu *v = target->vcpus[1];
	struct cpuid_regs before[4], after;

	for (uint32_t i = 0; i < 4; i++)
		before[i] = cpuid(v, 1 + 3 * i, 0);
	assert_int_equal(set_domain(2, edit_as_tools_do((uint32_t)get_system(5)), 2), 0);
	/* Its topology is what it was, whatever they think of it. */
	for (uint32_t i = 0; i < 4; i++) {
		after = cpuid(v, 1 + 3 * i, 0);
		assert_memory_equal(&after, &before[i], sizeof(after));
	}
	assert_int_equal(cpuid(v, 1, 0).ebx >> 24, 2);
	assert_int_equal(cpuid(v, 0xb, 0).edx, 2);
	assert_int_equal(cpuid(v, 0x80000008, 0).ecx, 0);
	assert_int_equal(cpuid(v, 0x80000007, 0).edx & ITSC, 0);
	assert_int_equal(cpuid(v, 0x40000000, 0).ebx, XEN_CPUID_SIGNATURE_EBX);
	assert_int_equal(v->msr.hwcr, 0);		/* came with INVTSC */
	assert_int_equal(target->policy->cr4_valid, guest_policy.cr4_valid);
}

/* What one domain has another can be given, and has it then. */
static void test_move(void **state)
{
	static struct xen_cpuid_leaf was[120];
	uint32_t n;

	get_system(5);
	assert_int_equal(set_leaf(0x80000002, NONE, (struct cpuid_regs){ 1, 2, 3, 4 }), 0);
	assert_int_equal(set_leaf(1, NONE, (struct cpuid_regs){
				  0x600f20, 0, 0x81200001, 0x78bfbff }), 0);
	n = get_domain(2);
	memcpy(was, leaves(), n * sizeof(was[0]));
	assert_true(guest_end(target));
	test_set_cpu(0);
	target = target_new(2, 2);
	memcpy(leaves(), was, n * sizeof(was[0]));
	assert_int_equal(set_domain(2, n, 2), 0);
	assert_int_equal(get_domain(2), n);
	assert_memory_equal(leaves(), was, n * sizeof(was[0]));
	assert_int_equal(cpuid(target->vcpus[0], 1, 0).eax, 0x600f20);
	assert_int_equal(cpuid(target->vcpus[0], 0x80000002, 0).ecx, 3);
}

static void test_less(void **state)
{
	struct cpu_policy *p = target->policy;
	struct cpuid_regs r = guest_policy.basic[1];

	assert_int_equal(p->xcr0_mask, 7);
	assert_int_equal(p->xstate[0].ecx, 832);
	r.ecx &= ~(1u << 28);				/* AVX */
	assert_int_equal(set_leaf(1, NONE, r), 0);
	assert_int_equal(p->xcr0_mask, 3);
	assert_int_equal(p->xstate[0].ecx, 576);
	assert_int_equal(p->xstate[2].eax, 0);
	r.ecx &= ~(1u << 26);				/* XSAVE */
	assert_int_equal(set_leaf(1, NONE, r), 0);
	assert_int_equal(p->xcr0_mask, 0);
	assert_false(p->cr4_valid & CR4_OSXSAVE);
	/* Gone once, they may come back before it runs. */
	assert_int_equal(set_leaf(1, NONE, guest_policy.basic[1]), 0);
	assert_int_equal(p->xcr0_mask, 7);
	r = guest_policy.ext[1];
	r.edx &= ~(1u << 20);				/* NX */
	assert_int_equal(set_leaf(0x80000001, NONE, r), 0);
	assert_false(p->efer_valid & EFER_NX);
	/* Narrower addresses, fewer leaves. */
	r = guest_policy.ext[8];
	r.eax = 40;
	assert_int_equal(set_leaf(0x80000008, NONE, r), 0);
	assert_int_equal(p->maxphysaddr, 40);
	assert_int_equal(cpuid(target->vcpus[0], 0x80000008, 0).eax, 0x3028);
	r = guest_policy.ext[0];
	r.eax = 0x80000004;
	assert_int_equal(set_leaf(0x80000000, NONE, r), 0);
	assert_int_equal(cpuid(target->vcpus[0], 0x80000005, 0).eax, 0);
	r = guest_policy.basic[0];
	r.eax = 6;
	p->maxphysaddr = 40;
	p->ext[8].eax = 40;
	assert_int_equal(set_leaf(0, NONE, r), 0);
	assert_int_equal(cpuid(target->vcpus[0], 7, 0).ebx, 0);
	assert_int_equal(cpuid(target->vcpus[0], 0xd, 0).eax, 0);
	/* Nor is there extended state that a save would not see. */
	assert_int_equal(cpuid(target->vcpus[0], 1, 0).ecx & 1u << 26, 0);
	assert_int_equal(target->policy->xcr0_mask, 0);
	assert_int_equal(target->policy->cr4_valid & CR4_OSXSAVE, 0);
}

static void assert_refused(int64_t rc, int64_t want, uint32_t nr, uint32_t subleaf, uint32_t msr)
{
	static struct cpu_policy before;

	assert_int_equal(rc, want);
	assert_int_equal(err.err_leaf, nr);
	assert_int_equal(err.err_subleaf, subleaf);
	assert_int_equal(err.err_msr, msr);
	before = guest_policy;
	assert_memory_equal(target->policy, &before, sizeof(before));
}

static void test_refused(void **state)
{
	struct xen_msr_entry *msrs = tool_buf(MSRS);
	struct cpuid_regs r;

#define REFUSE(nr, subleaf, source, ...)						\
	do {										\
		r = guest_policy.source;						\
		__VA_ARGS__;								\
		assert_refused(set_leaf(nr, subleaf, r), -XEN_EINVAL, nr, subleaf, ~0u);	\
	} while (0)
	REFUSE(0, NONE, basic[0], r.eax++);
	REFUSE(0, NONE, basic[0], r.ebx ^= 1);				/* another vendor */
	REFUSE(1, NONE, basic[1], r.ecx |= 1u << 5);			/* VMX */
	REFUSE(1, NONE, basic[1], r.edx |= 1u << 21);
	REFUSE(5, NONE, basic[5], r.eax = 1);				/* not offered at all */
	REFUSE(7, 0, leaf7[0], r.eax++);
	REFUSE(7, 0, leaf7[0], r.ebx |= 1u << 11);			/* RTM */
	REFUSE(7, 1, leaf7[1], r.ecx |= 1);
	REFUSE(0x80000000, NONE, ext[0], r.eax++);
	REFUSE(0x80000001, NONE, ext[1], r.ecx |= 1u << 2);		/* SVM */
	REFUSE(0x8000000a, NONE, ext[10], r.eax = 1);
	REFUSE(0x80000008, NONE, ext[8], r.ebx = ~0u);
	REFUSE(0x80000008, NONE, ext[8], r.eax++);
	REFUSE(0x80000008, NONE, ext[8], r.eax = 20);
#undef REFUSE
	r = (struct cpuid_regs){ 0, 0, 0, 0 };
	/* Leaves nobody knows, or with a subleaf where there is none. */
	assert_refused(set_leaf(0xe, NONE, r), -XEN_ERANGE, 0xe, NONE, ~0u);
	assert_refused(set_leaf(0x80000022, NONE, r), -XEN_ERANGE, 0x80000022, NONE, ~0u);
	assert_refused(set_leaf(4, 6, r), -XEN_ERANGE, 4, 6, ~0u);
	assert_refused(set_leaf(4, NONE, r), -XEN_ERANGE, 4, NONE, ~0u);
	assert_refused(set_leaf(7, 3, r), -XEN_ERANGE, 7, 3, ~0u);
	assert_refused(set_leaf(0xb, 2, r), -XEN_ERANGE, 0xb, 2, ~0u);
	assert_refused(set_leaf(0xd, 63, r), -XEN_ERANGE, 0xd, 63, ~0u);
	assert_refused(set_leaf(1, 0, r), -XEN_ERANGE, 1, 0, ~0u);
	assert_refused(set_leaf(0x40000001, NONE, r), -XEN_ERANGE, 0x40000001, NONE, ~0u);
	assert_refused(set_leaf(0x40000000, 0, r), -XEN_ERANGE, 0x40000000, 0, ~0u);
	assert_refused(set_leaf(UINT32_MAX, NONE, r), -XEN_ERANGE, UINT32_MAX, NONE, ~0u);
	/* MSRs: two are known, with nothing in them. */
	msrs[0] = (struct xen_msr_entry){ 0xce, 0, 0 };
	msrs[1] = (struct xen_msr_entry){ 0x10a, 0, 1 };
	assert_refused(set_domain(2, 0, 2), -XEN_EINVAL, ~0u, ~0u, 0x10a);
	msrs[1] = (struct xen_msr_entry){ 0x10a, 1, 0 };
	assert_refused(set_domain(2, 0, 2), -XEN_EINVAL, ~0u, ~0u, 0x10a);
	msrs[1] = (struct xen_msr_entry){ 0x10b, 0, 0 };
	assert_refused(set_domain(2, 0, 2), -XEN_ERANGE, ~0u, ~0u, 0x10b);
	assert_refused(set_domain(2, 121, 0), -XEN_E2BIG, ~0u, ~0u, ~0u);
	assert_refused(set_domain(2, 0, 3), -XEN_E2BIG, ~0u, ~0u, ~0u);
	page_fail_after = 1;
	assert_refused(set_domain(2, 0, 0), -XEN_ENOMEM, ~0u, ~0u, ~0u);
	page_fail_after = 0;
	assert_int_equal(set_domain(1, 0, 0), -XEN_EINVAL);
	assert_int_equal(set_domain(9, 0, 0), -XEN_ESRCH);
}

static void test_bad_memory(void **state)
{
	struct xen_domctl op = { .u.cpu_policy = { .nr_leaves = 1 } };

	HANDLE_BAD(op.u.cpu_policy.leaves);
	assert_int_equal(domctl(XEN_DOMCTL_set_cpu_policy, 2, &op), -XEN_EFAULT);
	op.u.cpu_policy = (struct xen_domctl_cpu_policy){ .nr_msrs = 1 };
	HANDLE_BAD(op.u.cpu_policy.msrs);
	assert_int_equal(domctl(XEN_DOMCTL_set_cpu_policy, 2, &op), -XEN_EFAULT);
	op.u.cpu_policy = (struct xen_domctl_cpu_policy){ .nr_leaves = 120 };
	HANDLE_BAD(op.u.cpu_policy.leaves);
	assert_int_equal(domctl(XEN_DOMCTL_get_cpu_policy, 2, &op), -XEN_EFAULT);
	HANDLE(op.u.cpu_policy.leaves, 0);
	op.u.cpu_policy.nr_leaves = 1;
	assert_int_equal(domctl(XEN_DOMCTL_get_cpu_policy, 2, &op), -XEN_ENOBUFS);
	/* One that has run keeps what it has seen. */
	domain_unpause(target);
	assert_int_equal(set_domain(2, 0, 0), -XEN_EEXIST);
	domain_pause(target);
	assert_int_equal(set_domain(2, 0, 0), -XEN_EEXIST);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_system), T(test_featureset), T(test_builder), T(test_move), T(test_less),
		T(test_refused), T(test_bad_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
