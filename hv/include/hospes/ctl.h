/* SPDX-License-Identifier: MIT */
/*
 * The toolstack's calls: domctl, sysctl, platform_op. hospes/ctl.def is the
 * one table of their operations; this is what a handler sees of it.
 */
#ifndef HOSPES_CTL_H
#define HOSPES_CTL_H

#include "hospes/abi.h"
#include "hospes/types.h"

struct domain;
struct vcpu;

#define CTL_OUT		0x1u	/* the struct is written back when it succeeds, or continues */
#define CTL_ANY		0x2u	/* domctl: the handler finds the domain, and gets NULL */
#define CTL_OTHER	0x4u	/* domctl: not on the caller's own domain: -EINVAL */
#define CTL_ERR		0x8u	/* written back with an error, too */
#define CTL_END		0x10u	/* domctl: once begun it is done, too, when the domain is gone */

/*
 * A handler runs on @v, the current vCPU, of a privileged domain. @op is the
 * hypervisor's copy of the struct, fetched once; @d the domain it names, with a
 * reference held, alive or dying. Returns the ABI's result (>= 0 or a negative
 * errno), or HC_CONTINUE: then it is called again, with the struct as it stands in
 * the guest; so only with CTL_OUT may it note there how far it came.
 */
typedef int64_t domctl_fn(struct vcpu *v, struct domain *d, struct xen_domctl *op);
typedef int64_t sysctl_fn(struct vcpu *v, struct xen_sysctl *op);
typedef int64_t platform_fn(struct vcpu *v, struct xen_platform_op *op);

/* What getdomaininfo says of @d. No lock held. */
void domctl_fill_info(struct domain *d, struct xen_domctl_getdomaininfo *info);

/*
 * Bitmaps of the ABI as masks: bits that one side does not have are 0. -XEN_EFAULT.
 */
int ctl_get_mask(struct vcpu *v, const struct xenctl_bitmap *map, uint64_t *mask) __must_check;
int ctl_put_mask(struct vcpu *v, const struct xenctl_bitmap *map, uint64_t mask) __must_check;

/* Prototypes of all handlers, from the table. */
#define DOMCTL(cmd, name, flags) domctl_fn domctl_##name;
#define SYSCTL(cmd, name, flags) sysctl_fn sysctl_##name;
#define PLATFORM(cmd, name, flags) platform_fn platform_##name;
#include "hospes/ctl.def"

#endif
