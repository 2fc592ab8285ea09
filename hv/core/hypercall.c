/* SPDX-License-Identifier: MIT */
/*
 * Hypercall dispatch: registers in, table, registers out.
 *
 * The table is made from hospes/hypercalls.def alone. Guest-chosen numbers
 * index it through masks, and are then compared with the number in the row,
 * so that no compiler can drop the masks and no CPU speculate past an end.
 */
#include "hospes/hypercall.h"

#include "hospes/domain.h"

#define NR_CALLS 64u		/* powers of two, to be masks */
#define NR_OPS 32u
#define MEMOP_BITS 6		/* memory_op's progress lies above its operation */
#define SLICE_NS 100000u	/* how long a long call may go on uninterrupted */

struct call {
	uint64_t nr;
	uint32_t op_mask;		/* significant bits of the operation */
	uint8_t op_arg, ptr_arg;
	struct hypercall_op op[NR_OPS];
};

#define NONE 0				/* any argument does: nobody looks at ptr */
static const struct call calls[NR_CALLS] = {
#define CALL(number, name, arg, bits, ptr) \
	[number].nr = number, [number].op_mask = (uint32_t)((1ULL << (bits)) - 1), \
	[number].op_arg = arg, [number].ptr_arg = ptr,
#define OP(call, number, name, function, bytes, hc_flags) \
	[__HYPERVISOR_##call].op[number] = { function, number, bytes, hc_flags },
#include "hospes/hypercalls.def"
};

#define OP(call, nr, name, handler, size, flags) \
	_Static_assert((size) <= HC_MAX_ARG, "argument of " #name " does not fit");
#include "hospes/hypercalls.def"

/* What a flag other than IN and OUT asks for. 0 or the errno to answer. */
static int64_t prepare(struct vcpu *v, struct hypercall *hc, unsigned int flags)
{
	if (flags & HC_PRIV && !v->domain->privileged)
		return -XEN_EPERM;
	if (flags & HC_VCPU) {
		hc->vcpu = domain_vcpu(v->domain, (uint32_t)hc->arg[1]);
		if (!hc->vcpu)
			return -XEN_ENOENT;
	}
	if (flags & HC_LONG && !hc->in_multicall)
		v->long_since = port_time_ns();
	return 0;
}

/* With the argument struct: in, handler, out. */
static int64_t run_with_struct(struct vcpu *v, struct hypercall *hc, const struct hypercall_op *op)
{
	uint8_t arg[HC_MAX_ARG] __aligned(8);
	int64_t rc;

	if (!(op->flags & HC_IN))
		memset(arg, 0, op->size);	/* nothing of ours leaks through padding */
	else if (copy_from_guest(v, arg, hc->ptr, op->size))
		return op->flags & HC_COUNT ? (int64_t)(hc->arg[0] >> MEMOP_BITS) : -XEN_EFAULT;
	rc = op->handler(v, hc, arg);
	if (op->flags & HC_OUT && rc >= 0 && copy_to_guest(v, hc->ptr, arg, op->size))
		return -XEN_EFAULT;
	return rc;
}

int64_t hypercall_dispatch(struct vcpu *v, struct hypercall *hc)
{
	const struct call *c = &calls[hc->nr & (NR_CALLS - 1)];
	uint32_t nr = (uint32_t)hc->arg[c->op_arg] & c->op_mask;
	const struct hypercall_op *op = &c->op[nr & (NR_OPS - 1)];
	int64_t rc;

	/* Compares with loaded data: they do not let the masks be dropped. */
	if (unlikely(c->nr != hc->nr || op->nr != nr || !op->handler))
		return -XEN_ENOSYS;
	hc->op = nr & (NR_OPS - 1);	/* safe as an index of what handlers have */
	hc->ptr = hc->arg[c->ptr_arg];
	if (op->flags & ~(HC_IN | HC_OUT)) {
		rc = prepare(v, hc, op->flags);
		if (unlikely(rc))
			return rc;
	}
	return op->size ? run_with_struct(v, hc, op) : op->handler(v, hc, NULL);
}

bool hypercall_preempt(struct vcpu *v)
{
	const struct pcpu *p = port_this_pcpu();

	/* Interrupts are off here: the clock stands in for those that wait. */
	return atomic_load_explicit(&p->softirqs, memory_order_relaxed) ||
	       port_time_ns() - v->long_since > SLICE_NS;
}

/* Where the arguments are in the 64-bit convention. */
static const uint8_t arg_regs[5] = { GPR_RDI, GPR_RSI, GPR_RDX, GPR_R10, GPR_R8 };

bool hypercall_exit(struct vcpu *v)
{
	uint64_t *gpr = v->regs.gpr;
	struct hypercall hc = { .nr = gpr[GPR_RAX], .arg = {
		gpr[GPR_RDI], gpr[GPR_RSI], gpr[GPR_RDX], gpr[GPR_R10], gpr[GPR_R8] } };
	int64_t rc;
	gva_t ip;

	if (unlikely(cpu->get_cpl(v) > 0))
		rc = -XEN_EPERM;
	else if (unlikely(cpu->get_code(v, &ip) != INSN_MODE_64))
		rc = -XEN_ENOSYS;	/* the 32-bit ABI is not offered */
	else
		rc = hypercall_dispatch(v, &hc);
	if (likely(rc != HC_CONTINUE)) {
		gpr[GPR_RAX] = (uint64_t)rc;
		return true;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(arg_regs); i++)
		gpr[arg_regs[i]] = hc.arg[i];
	return false;
}

/* --- multicall ----------------------------------------------------------- */

/* Runs the entry at @at. Its result goes to the guest, or where to go on. */
static int64_t multicall_entry(struct vcpu *v, gva_t at)
{
	struct hypercall hc = { .in_multicall = true };
	struct multicall_entry e;
	int64_t rc;

	if (copy_from_guest(v, &e, at, sizeof(e)))
		return -XEN_EFAULT;
	hc.nr = e.op;
	memcpy(hc.arg, e.args, sizeof(hc.arg));
	rc = hypercall_dispatch(v, &hc);
	if (rc == HC_CONTINUE)
		memcpy(e.args, hc.arg, sizeof(hc.arg));
	else
		e.result = (uint64_t)rc;
	if (copy_to_guest(v, at, &e, sizeof(e)))
		return -XEN_EFAULT;
	return rc == HC_CONTINUE ? rc : 0;
}

int64_t hypercall_multicall(struct vcpu *v, struct hypercall *hc, void *arg)
{
	uint32_t left = (uint32_t)hc->arg[1];
	int64_t rc;

	if (hc->in_multicall)
		return -XEN_EINVAL;
	while (left) {
		rc = multicall_entry(v, hc->arg[0]);
		if (rc)
			return rc;
		hc->arg[0] += sizeof(struct multicall_entry);
		hc->arg[1] = --left;
		if (left && hypercall_preempt(v))
			return HC_CONTINUE;
	}
	return 0;
}

/* --- The page of stubs ---------------------------------------------------- */

#define STUB_SIZE 32u
#define STUB_IRET 23u	/* a call for paravirtual guests: does not return here */

int hypercall_page_write(struct domain *d, gpa_t gpa)
{
	struct page *pg = gpa & ~PAGE_MASK ? NULL : p2m_get_page(d, gpa_to_gfn(gpa), true);
	uint8_t *page, *stub;

	if (!pg)
		return -XEN_EINVAL;
	page = mfn_to_virt(page_to_mfn(pg));
	page_mark_written(pg);
	memset(page, 0xcc, PAGE_SIZE);
	for (uint32_t nr = 0; nr < PAGE_SIZE / STUB_SIZE; nr++) {
		stub = page + nr * STUB_SIZE;
		stub[0] = 0xb8;				/* mov $nr, %eax */
		memcpy(stub + 1, &nr, sizeof(nr));
		memcpy(stub + 5, cpu->hypercall_insn, sizeof(cpu->hypercall_insn));
		stub[8] = 0xc3;				/* ret */
	}
	memcpy(page + STUB_IRET * STUB_SIZE, "\x0f\x0b", 2);	/* ud2 */
	page_put(pg);
	return 0;
}
