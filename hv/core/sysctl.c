/* SPDX-License-Identifier: MIT */
/*
 * sysctl: what the toolstack asks about the host.
 *
 * Arrays are of CPUs or domains, of which there are few: they are written in one go.
 */
#include "hospes/console.h"
#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/log.h"

#define EXT_BASE 0x80000000u
#define EXT_TOPOLOGY 0x1eu	/* leaf 0x8000001E: threads of a core in EBX */
#define NODE_DISTANCE 10u	/* of a node to itself */

/* Copies element @i of an array; a NULL array takes nothing. */
static int put_element(struct vcpu *v, gva_t array, uint64_t i, const void *elem, size_t size)
{
	return array ? copy_to_guest(v, array + i * size, elem, size) : 0;
}

/* --- The machine ----------------------------------------------------------- */

static uint32_t threads_per_core(void)
{
	const struct cpuid_regs *ext = host_policy.ext;

	if (ext[0].eax < EXT_BASE + EXT_TOPOLOGY)
		return 1;
	return MIN((ext[EXT_TOPOLOGY].ebx >> 8 & 0xff) + 1, port_nr_pcpus());
}

int64_t sysctl_physinfo(struct vcpu *v, struct xen_sysctl *op)
{
	const struct cpu_policy *h = &host_policy;

	op->u.physinfo = (struct xen_sysctl_physinfo){
		.threads_per_core = threads_per_core(),
		.cores_per_socket = port_nr_pcpus() / threads_per_core(),
		.nr_cpus = port_nr_pcpus(), .max_cpu_id = port_nr_pcpus() - 1, .nr_nodes = 1,
		.cpu_khz = (uint32_t)port_tsc_khz,
		.capabilities = XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap |
				XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2,
		.total_pages = page_total_count(), .free_pages = page_free_count(),
		.outstanding_pages = page_claimed_count(), .max_mfn = frame_table_size - 1,
		.hw_cap = { h->basic[1].edx, h->basic[1].ecx, h->ext[1].edx, h->ext[1].ecx,
			    h->xstate[1].eax, h->leaf7[0].ebx, h->leaf7[0].ecx, h->ext[7].edx },
	};
	return 0;
}

int64_t sysctl_sched_id(struct vcpu *v, struct xen_sysctl *op)
{
	op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;	/* its parameters mean the same */
	return 0;
}

int64_t sysctl_getcpuinfo(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_getcpuinfo *g = &op->u.getcpuinfo;

	g->nr_cpus = MIN(g->max_cpus, port_nr_pcpus());
	for (uint32_t i = 0; i < g->nr_cpus; i++) {
		struct xen_sysctl_cpuinfo info = { .idletime = sched_idle_ns(pcpus[i]) };

		if (put_element(v, guest_handle(g->info), i, &info, sizeof(info)))
			return -XEN_EFAULT;
	}
	return 0;
}

/* Memory is one heap on one node. */
int64_t sysctl_availheap(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_availheap *a = &op->u.availheap;

	a->avail_bytes = a->node > 0 ? 0 : page_free_count() << PAGE_SHIFT;
	return 0;
}

int64_t sysctl_cputopoinfo(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_cputopoinfo *t = &op->u.cputopoinfo;
	gva_t array = guest_handle(t->cputopo);
	uint32_t nr = array ? MIN(t->num_cpus, port_nr_pcpus()) : 0;

	for (uint32_t i = 0; i < nr; i++) {
		struct xen_sysctl_cputopo topo = { .core = i / threads_per_core() };

		if (put_element(v, array, i, &topo, sizeof(topo)))
			return -XEN_EFAULT;
	}
	t->num_cpus = port_nr_pcpus();
	return 0;
}

int64_t sysctl_numainfo(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_numainfo *n = &op->u.numainfo;
	struct xen_sysctl_meminfo info = { .memsize = page_total_count() << PAGE_SHIFT,
					   .memfree = page_free_count() << PAGE_SHIFT };
	uint32_t distance = NODE_DISTANCE;

	if (n->num_nodes &&
	    (put_element(v, guest_handle(n->meminfo), 0, &info, sizeof(info)) ||
	     put_element(v, guest_handle(n->distance), 0, &distance, sizeof(distance))))
		return -XEN_EFAULT;
	n->num_nodes = 1;
	return 0;
}

/* --- Domains --------------------------------------------------------------- */

int64_t sysctl_getdomaininfolist(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_getdomaininfolist *l = &op->u.getdomaininfolist;
	struct xen_domctl_getdomaininfo info;
	uint32_t id = l->first_domain, nr;
	int rc = 0;

	for (nr = 0; nr < l->max_domains && id < DOMID_FIRST_RESERVED && !rc; nr++) {
		struct domain *d = domain_get_from((domid_t)id);

		if (!d)
			break;
		domctl_fill_info(d, &info);
		id = d->id + 1u;
		domain_put(d);
		rc = copy_to_guest(v, guest_handle(l->buffer) + nr * sizeof(info), &info,
				   sizeof(info));
	}
	l->num_domains = nr;
	return rc;
}

static void count_domain(struct domain *d, void *nr)
{
	++*(uint32_t *)nr;
}

/* All CPUs and domains are in pool 0, and stay there. */
int64_t sysctl_cpupool_op(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_cpupool_op *c = &op->u.cpupool_op;

	if (c->op == XEN_SYSCTL_CPUPOOL_OP_FREEINFO)
		return ctl_put_mask(v, &c->cpumap, 0);
	if (!c->op || c->op > XEN_SYSCTL_CPUPOOL_OP_FREEINFO)
		return -XEN_ENOSYS;
	if (c->op != XEN_SYSCTL_CPUPOOL_OP_INFO)
		return -XEN_EOPNOTSUPP;
	if (c->cpupool_id)
		return -XEN_ENOENT;
	c->sched_id = XEN_SCHEDULER_CREDIT2;
	c->n_dom = 0;
	domain_for_each(count_domain, &c->n_dom);
	return ctl_put_mask(v, &c->cpumap, ~0ULL >> (64 - port_nr_pcpus()));
}

/* --- The log, and the key menu --------------------------------------------- */

/*
 * Where to read the log from: the guest knows the low half of a position. Else
 * from where it was cleared last.
 */
static uint64_t log_position(const struct xen_sysctl_readconsole *r, uint64_t cleared)
{
	uint64_t end = ~0ULL;
	uint32_t behind;

	(void)log_read(&end, NULL, 0);
	behind = (uint32_t)end - r->index;
	if (r->incremental && behind <= MIN(end - cleared, LOG_RING_SIZE))
		return end - behind;
	return cleared;
}

int64_t sysctl_readconsole(struct vcpu *v, struct xen_sysctl *op)
{
	static uint64_t cleared;	/* position up to which it was read and cleared; atomic */
	struct xen_sysctl_readconsole *r = &op->u.readconsole;
	uint64_t pos = log_position(r, read_once(cleared));
	uint32_t done = 0;
	char piece[256];
	size_t n;

	while (done < r->count &&
	       (n = log_read(&pos, piece, MIN(r->count - done, sizeof(piece))))) {
		if (copy_to_guest(v, guest_handle(r->buffer) + done, piece, n))
			return -XEN_EFAULT;
		done += (uint32_t)n;
	}
	if (r->clear)
		write_once(cleared, pos);
	r->count = done;
	r->index = (uint32_t)pos;
	return 0;
}

/* One key at a time; what is left stands in the struct when it continues. */
int64_t sysctl_debug_keys(struct vcpu *v, struct xen_sysctl *op)
{
	struct xen_sysctl_debug_keys *k = &op->u.debug_keys;
	gva_t at = guest_handle(k->keys);
	char key;

	for (; k->nr_keys; k->nr_keys--, at++) {
		if (copy_from_guest(v, &key, at, 1))
			return -XEN_EFAULT;
		key_press(key, true);
		if (k->nr_keys > 1 && hypercall_preempt(v)) {
			k->nr_keys--;
			k->keys.p = (const char *)(uintptr_t)(at + 1);
			return HC_CONTINUE;
		}
	}
	return 0;
}
