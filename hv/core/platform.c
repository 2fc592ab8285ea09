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
