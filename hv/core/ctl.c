/* SPDX-License-Identifier: MIT */
/*
 * The frame of domctl, sysctl and platform_op: fetch, check, dispatch, write back.
 *
 * All three begin with a command and an interface version, and are only for the
 * control domain; the order of the refusals is the published one. No lock is
 * held around a handler: what it changes has a lock of its own.
 */
#include "hospes/ctl.h"

#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define NR_OPS 128u		/* a power of two, to be a mask */
#define MASK_WORDS 64u
#define AGAIN 0x646f6d63746c2b31ULL	/* argument 1 of a domctl that continues; it has none */

struct ctl_op {
	union {
		domctl_fn *domctl;
		sysctl_fn *sysctl;
		platform_fn *platform;
	};
	uint32_t cmd;
	uint32_t flags;
};

union ctl_arg {
	struct { uint32_t cmd, version; };
	struct xen_domctl domctl;
	struct xen_sysctl sysctl;
	struct xen_platform_op platform;
};

static const struct ctl_op domctls[NR_OPS] = {
#define DOMCTL(nr, name, ctl_flags) \
	[nr] = { .domctl = domctl_##name, .cmd = nr, .flags = ctl_flags },
#include "hospes/ctl.def"
};

static const struct ctl_op sysctls[NR_OPS] = {
#define SYSCTL(nr, name, ctl_flags) \
	[nr] = { .sysctl = sysctl_##name, .cmd = nr, .flags = ctl_flags },
#include "hospes/ctl.def"
};

static const struct ctl_op platform_ops[NR_OPS] = {
#define PLATFORM(nr, name, ctl_flags) \
	[nr] = { .platform = platform_##name, .cmd = nr, .flags = ctl_flags },
#include "hospes/ctl.def"
};

/* The row of @cmd; as in hypercall.c, the compare does not let the mask be dropped. */
static const struct ctl_op *lookup(const struct ctl_op *ops, uint32_t cmd)
{
	const struct ctl_op *row = &ops[cmd & (NR_OPS - 1)];

	return row->cmd == cmd && row->domctl ? row : NULL;
}

/* --- Bitmaps --------------------------------------------------------------- */

int ctl_get_mask(struct vcpu *v, const struct xenctl_bitmap *map, uint64_t *mask)
{
	uint32_t bits = MIN(map->nr_bits, 64u);

	*mask = 0;
	if (copy_from_guest(v, mask, guest_handle(map->bitmap), (bits + 7) / 8))
		return -XEN_EFAULT;
	*mask &= bits ? ~0ULL >> (64 - bits) : 0;
	return 0;
}

int ctl_put_mask(struct vcpu *v, const struct xenctl_bitmap *map, uint64_t mask)
{
	/* More than anybody has CPUs; what lies behind is not looked at. */
	uint64_t words[MASK_WORDS] = { mask };

	return copy_to_guest(v, guest_handle(map->bitmap), words,
			     MIN((map->nr_bits + 7ULL) / 8, sizeof(words)));
}

/* --- The frame ------------------------------------------------------------- */

static int fetch(struct vcpu *v, const struct hypercall *hc, union ctl_arg *arg, size_t size,
		 uint32_t version)
{
	if (copy_from_guest(v, arg, hc->arg[0], size))
		return -XEN_EFAULT;
	return arg->version == version ? 0 : -XEN_EACCES;
}

static int64_t finish(struct vcpu *v, const struct hypercall *hc, const union ctl_arg *arg,
		      size_t size, unsigned int flags, int64_t rc)
{
	bool back = rc >= 0 || rc == HC_CONTINUE ? flags & CTL_OUT : flags & CTL_ERR;

	return back && copy_to_guest(v, hc->arg[0], arg, size) ? -XEN_EFAULT : rc;
}

int64_t ctl_domctl(struct vcpu *v, struct hypercall *hc, void *unused)
{
	struct domain *d = NULL;
	const struct ctl_op *op;
	union ctl_arg arg;
	int64_t rc = fetch(v, hc, &arg, sizeof(arg.domctl), XEN_DOMCTL_INTERFACE_VERSION);

	if (rc)
		return rc;
	op = lookup(domctls, arg.cmd);
	if (!op || !(op->flags & CTL_ANY)) {
		d = domain_get_by_id(arg.domctl.domain);
		if (!d)
			return op && op->flags & CTL_END && hc->arg[1] == AGAIN ? 0 : -XEN_ESRCH;
	}
	if (!v->domain->privileged)
		rc = -XEN_EPERM;
	else if (!op)
		rc = -XEN_ENOSYS;
	else if (op->flags & CTL_OTHER && d == v->domain)
		rc = -XEN_EINVAL;
	else
		rc = finish(v, hc, &arg, sizeof(arg.domctl), op->flags,
			    op->domctl(v, d, &arg.domctl));
	if (d)
		domain_put(d);
	if (rc == HC_CONTINUE)
		hc->arg[1] = AGAIN;
	return rc;
}

int64_t ctl_sysctl(struct vcpu *v, struct hypercall *hc, void *unused)
{
	union ctl_arg arg;
	const struct ctl_op *op;
	int64_t rc = fetch(v, hc, &arg, sizeof(arg.sysctl), XEN_SYSCTL_INTERFACE_VERSION);

	if (rc)
		return rc;
	if (!v->domain->privileged)
		return -XEN_EPERM;
	op = lookup(sysctls, arg.cmd);
	if (!op)
		return -XEN_ENOSYS;
	rc = op->sysctl(v, &arg.sysctl);
	return finish(v, hc, &arg, sizeof(arg.sysctl), op->flags, rc);
}

int64_t ctl_platform_op(struct vcpu *v, struct hypercall *hc, void *unused)
{
	union ctl_arg arg;
	const struct ctl_op *op;
	int64_t rc = fetch(v, hc, &arg, sizeof(arg.platform), XENPF_INTERFACE_VERSION);

	if (rc)
		return rc;
	if (!v->domain->privileged)
		return -XEN_EPERM;
	op = lookup(platform_ops, arg.cmd);
	if (!op)
		return -XEN_ENOSYS;
	rc = op->platform(v, &arg.platform);
	return finish(v, hc, &arg, sizeof(arg.platform), op->flags, rc);
}
