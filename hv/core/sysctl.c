/* SPDX-License-Identifier: MIT */
/*
 * sysctl: what the toolstack asks about the host.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"

int64_t sysctl_sched_id(struct vcpu *v, struct xen_sysctl *op)
{
	op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;	/* its parameters mean the same */
	return 0;
}
