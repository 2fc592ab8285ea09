/* SPDX-License-Identifier: MIT */
/*
 * The small calls: vm_assist, console_io, xenpmu_op.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

/* The one assist that means something outside paravirtual guests. */
static bool assist_is_known(const struct hypercall *hc)
{
	return (uint32_t)hc->arg[1] == VMASST_TYPE_runstate_update_flag;
}

int64_t vmassist_enable(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)arg;
	if (!assist_is_known(hc))
		return -XEN_EINVAL;
	atomic_fetch_or(&v->domain->vm_assist, 1u << VMASST_TYPE_runstate_update_flag);
	return 0;
}

int64_t vmassist_disable(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)arg;
	if (!assist_is_known(hc))
		return -XEN_EINVAL;
	atomic_fetch_and(&v->domain->vm_assist, ~(1u << VMASST_TYPE_runstate_update_flag));
	return 0;
}

/* (count, buffer): the control domain's words on the serial line. */
int64_t consoleio_write(struct vcpu *v, struct hypercall *hc, void *arg)
{
	uint32_t left = (uint32_t)hc->arg[1];
	char chunk[128];

	(void)arg;
	while (left) {
		uint32_t n = MIN(left, sizeof(chunk));

		if (copy_from_guest(v, chunk, hc->arg[2], n))
			return -XEN_EFAULT;
		port_console_write(chunk, n);
		left -= n;
		hc->arg[1] = left;
		hc->arg[2] += n;
		if (left && hypercall_preempt(v))
			return HC_CONTINUE;
	}
	return 0;
}

/* Input goes to the guest in focus, through its ring: none ever waits here. */
int64_t consoleio_read(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)v;
	(void)hc;
	(void)arg;
	return 0;
}

int64_t xenpmu_refuse(struct vcpu *v, struct hypercall *hc, void *arg)
{
	(void)v;
	(void)hc;
	(void)arg;
	return -XEN_EOPNOTSUPP;		/* guests get no performance counters */
}
