/* SPDX-License-Identifier: MIT */
/*
 * CPU policies for the toolstack: reading the host's and a domain's, and
 * setting a domain's before it runs.
 *
 * Locks: the domain's, for its policy.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"

/* PLATFORM_INFO, ARCH_CAPABILITIES: known to policies, but no guest has a bit in them. */
static const uint32_t policy_msrs[POLICY_MAX_MSRS] = { 0xce, 0x10a };

/* Guests are in hardware only, so of six policies in a row two do not exist. */
static const struct cpu_policy *const system_policies[] = {
	[XEN_SYSCTL_cpu_policy_raw] = &host_policy, [XEN_SYSCTL_cpu_policy_host] = &host_policy,
	[XEN_SYSCTL_cpu_policy_pv_max] = NULL, [XEN_SYSCTL_cpu_policy_hvm_max] = &guest_policy,
	[XEN_SYSCTL_cpu_policy_pv_default] = NULL,
	[XEN_SYSCTL_cpu_policy_hvm_default] = &guest_policy,
};
/* As with feature sets. */
_Static_assert(XEN_SYSCTL_cpu_featureset_host == XEN_SYSCTL_cpu_policy_host &&
	       XEN_SYSCTL_cpu_featureset_pv == XEN_SYSCTL_cpu_policy_pv_max &&
	       XEN_SYSCTL_cpu_featureset_hvm == XEN_SYSCTL_cpu_policy_hvm_max &&
	       XEN_SYSCTL_cpu_featureset_pv_max == XEN_SYSCTL_cpu_policy_pv_default &&
	       XEN_SYSCTL_cpu_featureset_hvm_max == XEN_SYSCTL_cpu_policy_hvm_default, "order");

static int find_policy(uint32_t index, const struct cpu_policy **p)
{
	if (index >= ARRAY_SIZE(system_policies))
		return -XEN_EINVAL;
	*p = system_policies[index_nospec(index, ARRAY_SIZE(system_policies))];
	return *p ? 0 : -XEN_EOPNOTSUPP;
}

/* --- Reading ---------------------------------------------------------------- */

/* The counts are what there is room for before, and what there is after. */
static int put_leaves(struct vcpu *v, const struct cpu_policy *p, gva_t to, uint32_t *count)
{
	struct xen_cpuid_leaf leaf;
	uint32_t pos = 0, n = 0;

	if (!to) {
		*count = POLICY_MAX_LEAVES;
		return 0;
	}
	for (; policy_next_leaf(p, &pos, &leaf); n++) {
		if (n == *count)
			return -XEN_ENOBUFS;
		if (copy_to_guest(v, to + n * sizeof(leaf), &leaf, sizeof(leaf)))
			return -XEN_EFAULT;
	}
	*count = n;
	return 0;
}

static int put_msrs(struct vcpu *v, gva_t to, uint32_t *count)
{
	struct xen_msr_entry msrs[POLICY_MAX_MSRS] = {
		{ .idx = policy_msrs[0] }, { .idx = policy_msrs[1] } };

	if (to && *count < POLICY_MAX_MSRS)
		return -XEN_ENOBUFS;
	*count = POLICY_MAX_MSRS;
	return to && copy_to_guest(v, to, msrs, sizeof(msrs)) ? -XEN_EFAULT : 0;
}

int64_t sysctl_get_cpu_policy(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_cpu_policy *c = &op->u.cpu_policy;
	const struct cpu_policy *p;
	int rc = c->_rsvd ? -XEN_EINVAL : find_policy(c->index, &p);

	if (!rc)
		rc = put_leaves(v, p, guest_handle(c->leaves), &c->nr_leaves);
	return rc ? rc : put_msrs(v, guest_handle(c->msrs), &c->nr_msrs);
}

int64_t domctl_get_cpu_policy(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_cpu_policy *c = &op->u.cpu_policy;
	int rc = put_leaves(v, d->policy, guest_handle(c->leaves), &c->nr_leaves);

	return rc ? rc : put_msrs(v, guest_handle(c->msrs), &c->nr_msrs);
}

#define WORD(reg) (offsetof(struct cpu_policy, reg) / sizeof(uint32_t))

int64_t sysctl_get_cpu_featureset(struct vcpu *v, struct xen_sysctl *op)
{
	/* Two words are an MSR's, of which nothing is shown: as a register that is 0. */
	static const uint16_t words[] = {
		WORD(basic[1].edx), WORD(basic[1].ecx), WORD(ext[1].edx), WORD(ext[1].ecx),
		WORD(xstate[1].eax), WORD(leaf7[0].ebx), WORD(leaf7[0].ecx), WORD(ext[7].edx),
		WORD(ext[8].ebx), WORD(leaf7[0].edx), WORD(leaf7[1].eax), WORD(ext[0x21].eax),
		WORD(leaf7[1].ebx), WORD(leaf7[2].edx), WORD(leaf7[1].ecx), WORD(leaf7[1].edx),
		WORD(ext[0x11]), WORD(ext[0x11]), WORD(ext[0x21].ecx),
	};
	struct xen_sysctl_cpu_featureset *c = &op->u.cpu_featureset;
	uint32_t set[ARRAY_SIZE(words)], n = MIN(c->nr_features, (uint32_t)ARRAY_SIZE(words));
	gva_t to = guest_handle(c->features);
	const struct cpu_policy *p;
	int rc;

	if (!to) {
		c->nr_features = ARRAY_SIZE(words);
		return 0;
	}
	rc = find_policy(c->index, &p);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < n; i++)
		set[i] = (&p->basic[0].eax)[words[i]];
	if (copy_to_guest(v, to, set, n * sizeof(set[0])))
		return -XEN_EFAULT;
	c->nr_features = n;
	return n < ARRAY_SIZE(words) ? -XEN_ENOBUFS : 0;
}

/* --- Setting ---------------------------------------------------------------- */

static int take_leaves(struct vcpu *v, struct cpu_policy *p, struct xen_domctl_cpu_policy *c)
{
	gva_t from = guest_handle(c->leaves);
	struct xen_cpuid_leaf leaf;

	for (uint32_t i = 0; i < c->nr_leaves; i++) {
		int rc;

		if (copy_from_guest(v, &leaf, from + i * sizeof(leaf), sizeof(leaf)))
			return -XEN_EFAULT;
		rc = policy_put_leaf(p, &leaf);
		if (rc) {
			c->err_leaf = leaf.leaf;
			c->err_subleaf = leaf.subleaf;
			return rc;
		}
	}
	return 0;
}

static int take_msrs(struct vcpu *v, struct xen_domctl_cpu_policy *c)
{
	gva_t from = guest_handle(c->msrs);
	struct xen_msr_entry msr;

	for (uint32_t i = 0; i < c->nr_msrs; i++) {
		if (copy_from_guest(v, &msr, from + i * sizeof(msr), sizeof(msr)))
			return -XEN_EFAULT;
		if (!msr.flags && !msr.val && (msr.idx == policy_msrs[0] ||
					       msr.idx == policy_msrs[1]))
			continue;
		c->err_msr = msr.idx;
		return msr.flags || msr.val ? -XEN_EINVAL : -XEN_ERANGE;
	}
	return 0;
}

/* What depends on the policy starts anew with it. */
static int set_policy(struct domain *d, const struct cpu_policy *p)
{
	int rc = -XEN_EEXIST;

	spin_lock(&d->lock);
	if (!d->has_run) {
		*d->policy = *p;
		for (unsigned int i = 0; i < d->nr_vcpus; i++)
			msr_vcpu_init(d->vcpus[i]);
		rc = 0;
	}
	spin_unlock(&d->lock);
	return rc;
}

/* Leaves that are not sent stay as they are. */
int64_t domctl_set_cpu_policy(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_cpu_policy *c = &op->u.cpu_policy;
	struct cpu_policy *p;
	int rc;

	c->err_leaf = c->err_subleaf = c->err_msr = UINT32_MAX;
	if (d->has_run)
		return -XEN_EEXIST;
	if (c->nr_leaves > POLICY_MAX_LEAVES || c->nr_msrs > POLICY_MAX_MSRS)
		return -XEN_E2BIG;
	p = hv_alloc(sizeof(*p));
	if (!p)
		return -XEN_ENOMEM;
	*p = *d->policy;
	rc = take_leaves(v, p, c);
	if (!rc)
		rc = take_msrs(v, c);
	if (!rc)
		rc = policy_level(p, &c->err_leaf, &c->err_subleaf);
	if (!rc)
		rc = set_policy(d, p);
	hv_free(p);
	return rc;
}
