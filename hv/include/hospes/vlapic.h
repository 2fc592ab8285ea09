/* SPDX-License-Identifier: MIT */
/*
 * The local APIC a guest sees: xAPIC page and x2APIC MSRs, timer, IPIs.
 *
 * Requests (IRR bits) arrive from any CPU by atomics; all else is the vCPU's
 * own, touched on the CPU that runs it.
 */
#ifndef HOSPES_VLAPIC_H
#define HOSPES_VLAPIC_H

#include <stdatomic.h>

#include "hospes/timer.h"

struct domain;
struct vcpu;

#define APIC_DEFAULT_BASE 0xfee00000ULL
#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_EXTD (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)

struct vlapic {
	uint64_t base_msr;
	uint32_t id;			/* 2 * vcpu id */
	atomic_ulong irr[4];		/* any CPU sets */
	uint64_t isr[4], tmr[4];
	atomic_bool irr_pending;	/* hint: some irr bit may be set */
	uint32_t tpr, svr, esr, esr_latch, ldr, dfr, tdcr, tmict;
	uint64_t icr;
	uint32_t lvt[7];		/* CMCI, timer, thermal, perf, lint0, lint1, error */
	uint64_t tsc_deadline;
	uint64_t timer_start;		/* ns, of the current count */
	struct timer timer;
	bool hw_disabled;
};

void vlapic_init(struct vcpu *v);
void vlapic_reset(struct vcpu *v);
void vlapic_destroy(struct vcpu *v);

/* Requests interrupt @vector at @v and wakes or kicks it. Any context. */
void vlapic_request(struct vcpu *v, uint8_t vector);

/* Highest vector deliverable now, or -1; and: it is being delivered. */
int vlapic_pending(struct vcpu *v);
void vlapic_accept(struct vcpu *v, uint8_t vector);

/*
 * Register access of the current vCPU. @offset as in the xAPIC page. False:
 * no such register or reserved bits (x2APIC: #GP; xAPIC: ignored / zero).
 */
bool vlapic_read(struct vcpu *v, uint32_t offset, uint32_t *val);
bool vlapic_write(struct vcpu *v, uint32_t offset, uint32_t val);

/* MSR 0x1b and 0x800..0x8ff and 0x6e0. False: #GP. */
bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

/* Is [gpa, gpa + 4096) the page of v's xAPIC, enabled in xAPIC mode? */
bool vlapic_claims(const struct vcpu *v, gpa_t gpa);

/* CR8, and the priority below which nothing is delivered. */
static inline uint8_t vlapic_get_cr8(const struct vlapic *l) { return (uint8_t)(l->tpr >> 4); }
void vlapic_set_cr8(struct vcpu *v, uint64_t cr8);

/* Event channel upcall: the vector set by HVMOP_set_evtchn_upcall_vector. */
void vlapic_upcall(struct vcpu *v);

/* The vCPU moves to this CPU: take the timer along. */
void vlapic_migrate(struct vcpu *v);

#endif
