/* SPDX-License-Identifier: MIT */
/*
 * The small calls: vm_assist, console_io, xenpmu_op.
 */
#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"

/* One assist means something outside paravirtual guests. */
int64_t vmassist_set(struct vcpu *v, struct hypercall *hc, void *arg)
{
	if ((uint32_t)hc->arg[1] != VMASST_TYPE_runstate_update_flag)
		return -XEN_EINVAL;
	write_once(v->domain->runstate_flag, hc->op == VMASST_CMD_enable);
	return 0;
}

/* (count, buffer): the control domain's words on the serial line, piece by piece. */
int64_t consoleio_write(struct vcpu *v, struct hypercall *hc, void *arg)
{
	char piece[128];
	uint32_t count = (uint32_t)hc->arg[1], n = MIN(count, sizeof(piece));

	if (copy_from_guest(v, piece, hc->arg[2], n))
		return -XEN_EFAULT;
	console_control_write(v->domain, piece, n);
	hc->arg[1] = count - n;
	hc->arg[2] += n;
	return n < count ? HC_CONTINUE : 0;
}

/* (size, buffer): what was typed while the control domain had the focus. */
int64_t consoleio_read(struct vcpu *v, struct hypercall *hc, void *arg)
{
	char piece[128];
	uint32_t size = (uint32_t)hc->arg[1];
	size_t n = console_control_read(v->domain, piece, MIN(size, sizeof(piece)));

	return copy_to_guest(v, hc->arg[2], piece, n) ? -XEN_EFAULT : (int64_t)n;
}

int64_t xenpmu_refuse(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return -XEN_EOPNOTSUPP;		/* guests get no performance counters */
}
