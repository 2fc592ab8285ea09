/* SPDX-License-Identifier: MIT */
/*
 * Hypercall dispatch. hospes/hypercalls.def is the one table of all calls
 * and sub-operations; this is what a handler sees of it.
 */
#ifndef HOSPES_HYPERCALL_H
#define HOSPES_HYPERCALL_H

#include "hospes/types.h"

struct domain;
struct vcpu;

/* Returned by a handler that did a bounded piece and set hc->arg to go on. */
#define HC_CONTINUE INT64_MIN

#define HC_MAX_ARG 128u		/* largest fixed argument struct, bytes */

struct hypercall {
	uint64_t nr;
	uint64_t arg[5];	/* as in rdi, rsi, rdx, r10, r8; rewritten to continue */
	uint64_t op;		/* the sub-operation */
	gva_t ptr;		/* where the argument struct lies in the guest */
	struct vcpu *vcpu;	/* the vCPU that argument 1 names, with HC_VCPU */
	bool in_multicall;
};

/*
 * A handler runs on @v, the current vCPU. @arg is the hypervisor's copy of
 * the argument struct (fetched once; NULL where the table gives no struct);
 * it is copied back after a result >= 0 where the table says OUT. Returns
 * the ABI's result (>= 0 or a negative errno) or HC_CONTINUE.
 */
typedef int64_t hypercall_fn(struct vcpu *v, struct hypercall *hc, void *arg);

/* Table row of one sub-operation. */
struct hypercall_op {
	hypercall_fn *handler;	/* NULL: there is none */
	uint32_t nr;
	uint16_t size;		/* of the argument struct, 0 = handler copies itself */
	uint16_t flags;		/* HC_* */
};

#define HC_IN	0x1u		/* fetch the struct */
#define HC_OUT	0x2u		/* write it back on success */
#define HC_PRIV	0x4u		/* control domain only, else -EPERM */
#define HC_LONG	0x8u		/* may return HC_CONTINUE */
#define HC_COUNT 0x20u		/* memory_op: an unreadable struct reads as "so many done" */
#define HC_VCPU	0x10u		/* argument 1 is a vCPU of the caller's domain, else -ENOENT */

/* Prototypes of all handlers, from the table. */
#define OP(call, nr, name, handler, size, flags) hypercall_fn handler;
#include "hospes/hypercalls.def"

/*
 * Runs one hypercall of @v with @hc filled from its registers. Returns the
 * result for rax, or HC_CONTINUE.
 */
int64_t hypercall_dispatch(struct vcpu *v, struct hypercall *hc);

/*
 * The exit: reads the registers, dispatches, writes rax. False: registers are
 * set so that the same instruction, run again, goes on with the call.
 */
bool hypercall_exit(struct vcpu *v) __must_check;

/*
 * Guest write of MSR 0x40000000: fills the page at @gpa of @d with hypercall stubs.
 * -XEN_EINVAL (the guest gets #GP) when that is not a page of its own RAM.
 */
int hypercall_page_write(struct domain *d, gpa_t gpa) __must_check;

/*
 * True when a long operation should stop here and continue later: other work
 * waits for this CPU, or the call took long enough. Ask after a piece of work,
 * never before the first, so that every round makes progress.
 */
bool hypercall_preempt(struct vcpu *v);

#endif
