/* SPDX-License-Identifier: MIT */
/*
 * platform_op: the machine's clock and processors, for the control domain's kernel.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"

#define NSEC_PER_SEC 1000000000ULL

static void update_wallclock(struct domain *d, void *data)
{
	spin_lock(&d->lock);
	pvclock_update_wallclock(d);
	spin_unlock(&d->lock);
}

/* It was so late at @system_time on the scale of port_time_ns(). Wraps like the ABI's numbers. */
static int64_t settime(uint64_t secs, uint32_t nsecs, uint64_t system_time)
{
	write_once(port_wallclock_base_ns, secs * NSEC_PER_SEC + nsecs - system_time);
	domain_for_each(update_wallclock, NULL);
	return 0;
}

int64_t platform_settime64(struct vcpu *v, struct xen_platform_op *op)
{
	const struct xenpf_settime64 *t = &op->u.settime64;

	return t->mbz ? -XEN_EINVAL : settime(t->secs, t->nsecs, t->system_time);
}

int64_t platform_settime32(struct vcpu *v, struct xen_platform_op *op)
{
	const struct xenpf_settime32 *t = &op->u.settime32;

	return settime(t->secs, t->nsecs, t->system_time);
}

int64_t platform_get_cpuinfo(struct vcpu *v, struct xen_platform_op *op)
{
	struct xenpf_pcpuinfo *info = &op->u.pcpu_info;
	const struct pcpu *p;

	info->max_present = port_nr_pcpus() - 1;
	info->flags = XEN_PCPU_FLAGS_INVALID;
	if (info->xen_cpuid >= port_nr_pcpus())
		return 0;
	p = pcpus[index_nospec(info->xen_cpuid, MAX_PCPUS)];
	info->flags = XEN_PCPU_FLAGS_ONLINE;
	info->apic_id = p->apic_id;
	info->acpi_id = p->acpi_id;
	return 0;
}

/* All CPUs are of one kind. */
int64_t platform_get_cpu_version(struct vcpu *v, struct xen_platform_op *op)
{
	struct xenpf_pcpu_version *info = &op->u.pcpu_version;
	const struct cpuid_regs *vendor = &host_policy.basic[0];
	uint32_t signature = host_policy.basic[1].eax, family = signature >> 8 & 0xf;

	info->max_present = port_nr_pcpus() - 1;
	memset(info->vendor_id, 0, sizeof(info->vendor_id));
	info->family = info->model = info->stepping = 0;
	if (info->xen_cpuid >= port_nr_pcpus())
		return 0;
	memcpy(info->vendor_id, &vendor->ebx, 4);
	memcpy(info->vendor_id + 4, &vendor->edx, 4);
	memcpy(info->vendor_id + 8, &vendor->ecx, 4);
	info->model = signature >> 4 & 0xf;
	if (family >= 6)
		info->model |= signature >> 12 & 0xf0;
	info->family = family == 0xf ? family + (signature >> 20 & 0xff) : family;
	info->stepping = signature & 0xf;
	return 0;
}
