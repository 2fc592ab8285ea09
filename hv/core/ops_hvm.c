/* SPDX-License-Identifier: MIT */
/*
 * hvm_op: parameters of the platform, upcall vectors, odds and ends.
 *
 * Locks: the domain's for its parameters.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define VECTOR_MIN 0x10u		/* below are exceptions */
#define CALLBACK_TYPE 56		/* bits of HVM_PARAM_CALLBACK_IRQ */
#define CALLBACK_VECTOR 2u		/* the type that means something without a PIC */

/* --- Parameters ----------------------------------------------------------- */

#define P_GET	0x1u		/* the guest may read its own */
#define P_SET	0x2u		/* the guest may set its own */
#define P_ONCE	0x4u		/* keeps its first value but 0 */
#define P_GONE	0x8u		/* of the past: nobody may */
#define RW (P_GET | P_SET)
#define ZERO_ONLY 0x1		/* a feature that is not offered: off is all there is */

struct param_rule {
	uint16_t flags, values;	/* P_*; unless 0, a bit for every value allowed */
};

/* The builder and the control domain may do what no rule forbids to all. */
static const struct param_rule param_rules[HVM_NR_PARAMS] = {
	[HVM_PARAM_CALLBACK_IRQ] = { RW, 0 },
	[HVM_PARAM_STORE_PFN] = { P_GET, 0 }, [HVM_PARAM_STORE_EVTCHN] = { RW, 0 },
	[HVM_PARAM_PAE_ENABLED] = { P_GONE, 0 },
	[HVM_PARAM_IOREQ_PFN ... HVM_PARAM_BUFIOREQ_PFN] = { P_ONCE, 0 },
	[HVM_PARAM_VIRIDIAN] = { 0, ZERO_ONLY }, [HVM_PARAM_TIMER_MODE] = { 0, 0x000f },
	[HVM_PARAM_DM_DOMAIN] = { P_GONE, 0 }, [HVM_PARAM_ACPI_S_STATE] = { 0, 0x0009 },
	[HVM_PARAM_VM86_TSS] = { RW, 0 },
	[HVM_PARAM_CONSOLE_PFN] = { P_GET, 0 }, [HVM_PARAM_CONSOLE_EVTCHN] = { RW, 0 },
	[HVM_PARAM_ACPI_IOPORTS_LOCATION] = { RW, 0x0003 },
	[HVM_PARAM_MEMORY_EVENT_CR0 ... HVM_PARAM_BUFIOREQ_EVTCHN] = { P_GONE, 0 },
	[HVM_PARAM_MEMORY_EVENT_MSR] = { P_GONE, 0 },
	[HVM_PARAM_TRIPLE_FAULT_REASON] = { 0, 0x003f },
	[HVM_PARAM_IOREQ_SERVER_PFN ... HVM_PARAM_NR_IOREQ_SERVER_PAGES] = { P_ONCE, 0 },
	[HVM_PARAM_VM_GENERATION_ID_ADDR] = { RW, 0 }, [HVM_PARAM_ALTP2M] = { P_GET, ZERO_ONLY },
	[HVM_PARAM_X87_FIP_WIDTH] = { RW, 0x0111 }, [HVM_PARAM_VM86_TSS_SIZED] = { RW, 0 },
	[HVM_PARAM_MCA_CAP] = { 0, ZERO_ONLY },
};

/* @value comes from the guest. Domain lock held. */
static int param_set(const struct param_rule *rule, uint64_t *param, uint64_t value)
{
	if (rule->values && (value > 15 || !(rule->values & 1u << value)))
		return -XEN_EINVAL;
	if (rule->flags & P_ONCE && *param && *param != value)
		return -XEN_EEXIST;
	write_once(*param, value);	/* a triple fault looks without the lock */
	return 0;
}

/* How upcalls get to vCPUs that have no vector of their own. Domain lock held. */
static void set_callback(struct domain *d, uint64_t value)
{
	bool valid = value >> CALLBACK_TYPE == CALLBACK_VECTOR && (uint8_t)value >= VECTOR_MIN;

	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct vcpu *v = d->vcpus[i];

		atomic_store(&v->callback_vector, valid && !read_once(v->upcall_vector) ?
			     (uint8_t)value : 0);
		vcpu_notify(v);		/* of what was raised before there was a vector */
	}
}

/* Get and set. */
int64_t hvmop_param(struct vcpu *v, struct hypercall *hc, void *arg)
{
	bool set = hc->op == HVMOP_set_param;
	const struct param_rule *rule;
	struct xen_hvm_param *p = arg;
	struct domain *d;
	uint64_t i;
	int rc;

	if (p->index >= HVM_NR_PARAMS)
		return -XEN_EINVAL;
	rc = domain_find_target(v, p->domid, &d);
	if (rc)
		return rc;
	i = index_nospec(p->index, HVM_NR_PARAMS);
	rule = &param_rules[i];
	spin_lock(&d->lock);
	if (rule->flags & P_GONE)
		rc = -XEN_EINVAL;
	else if (!(rule->flags & (set ? P_SET : P_GET)) && !v->domain->privileged)
		rc = -XEN_EPERM;
	else if (set)
		rc = param_set(rule, &d->params[i], p->value);
	else
		p->value = d->params[i];
	if (set && !rc && i == HVM_PARAM_CALLBACK_IRQ)
		set_callback(d, p->value);
	spin_unlock(&d->lock);
	domain_put(d);
	return rc;
}

/* --- The rest ------------------------------------------------------------- */

int64_t hvmop_set_evtchn_upcall_vector(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_hvm_evtchn_upcall_vector *u = arg;
	struct vcpu *t = domain_vcpu(v->domain, u->vcpu);

	if (u->vector < VECTOR_MIN)
		return -XEN_EINVAL;
	if (!t)
		return -XEN_ENOENT;
	spin_lock(&t->domain->lock);
	write_once(t->upcall_vector, u->vector);
	atomic_store(&t->callback_vector, 0);
	spin_unlock(&t->domain->lock);
	/* What was raised before there was a vector. */
	if (read_once(t->info->evtchn_upcall_pending))
		vcpu_mark_upcall(t);
	return 0;
}

int64_t hvmop_get_mem_type(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_hvm_get_mem_type *m = arg;
	enum p2m_type type;
	struct domain *d;
	int rc = domain_find_target(v, m->domid, &d);

	if (rc)
		return rc;
	read_lock(&d->p2m.lock);
	type = p2m_get(&d->p2m, GFN(m->pfn)).type;
	read_unlock(&d->p2m.lock);
	domain_put(d);
	m->mem_type = p2m_is_writable(type) ? HVMMEM_ram_rw :
		      p2m_is_ram(type) ? HVMMEM_ram_ro : HVMMEM_mmio_dm;
	return 0;
}

int64_t hvmop_get_time(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_hvm_get_time *t = arg;

	t->now = domain_time_ns(v->domain);
	return 0;
}

int64_t hvmop_flush_tlbs(struct vcpu *v, struct hypercall *hc, void *arg)
{
	if (hc->ptr)
		return -XEN_EINVAL;
	p2m_flush(v->domain);
	return 0;
}

/* A hint for shadow page tables, which nested paging does not have. */
int64_t hvmop_pagetable_dying(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_hvm_pagetable_dying *p = arg;
	bool own = p->domid == DOMID_SELF || p->domid == v->domain->id;

	return own ? -XEN_EINVAL : -XEN_EOPNOTSUPP;
}
