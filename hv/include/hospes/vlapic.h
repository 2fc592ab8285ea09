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

#include "hospes/abi.h"
#include "hospes/timer.h"

struct domain;
struct vcpu;

#define APIC_DEFAULT_BASE 0xfee00000ULL
#define APIC_BASE_BSP (1ULL << 8)
#define APIC_BASE_EXTD (1ULL << 10)
#define APIC_BASE_ENABLE (1ULL << 11)

/* Numbers of registers: offset in the xAPIC page / 16, x2APIC MSR - 0x800. */
enum {
	APIC_ID = 0x02, APIC_VERSION = 0x03, APIC_TPR = 0x08, APIC_PPR = 0x0a, APIC_EOI = 0x0b,
	APIC_LDR = 0x0d, APIC_DFR = 0x0e, APIC_SVR = 0x0f, APIC_ISR = 0x10, APIC_TMR = 0x18,
	APIC_IRR = 0x20, APIC_ESR = 0x28, APIC_LVT_CMCI = 0x2f, APIC_ICR = 0x30, APIC_ICR2 = 0x31,
	APIC_LVT_TIMER = 0x32, APIC_LVT_THERMAL, APIC_LVT_PERF, APIC_LVT_LINT0, APIC_LVT_LINT1,
	APIC_LVT_ERROR, APIC_TMICT = 0x38, APIC_TMCCT = 0x39, APIC_TDCR = 0x3e,
	APIC_SELF_IPI = 0x3f, APIC_REGS = 0x40,
};

struct vlapic {
	uint64_t base_msr;
	uint32_t id;			/* 2 * vcpu id, for good */
	atomic_bool irr_pending;	/* hint: some irr bit may be set */
	uint64_t irr[4];		/* any CPU sets, by atomics */
	uint64_t isr[4];		/* own */
	uint64_t tmr[4];		/* requested by a level; any CPU, by atomics */
	uint32_t reg[APIC_REGS];	/* APIC_*, as far as they are plain storage */
	uint32_t esr_latch;		/* errors since ESR was last written */

	struct spinlock lock;		/* the timer: its handler may run where v was before */
	struct timer timer;
	uint64_t deadline;		/* ns at which the timer expires, 0: not running */
	uint64_t tsc_deadline;
};

/* Power-on: xAPIC mode, software-disabled. Before the vCPU runs. At its end: timer_kill(). */
void vlapic_init(struct vcpu *v);
/* INIT: all registers, but neither mode nor id. The vCPU does not run. */
void vlapic_reset(struct vcpu *v);

/* Requests interrupt @vector at @v and wakes or kicks it. Any context. */
void vlapic_request(struct vcpu *v, uint8_t vector);

/*
 * The message of a device for vCPUs of @d, in the format of an IO-APIC's
 * redirection entry: vector, delivery mode (other than fixed and lowest
 * priority: nothing happens), kind of destination, trigger mode, and above bit
 * 56 the destination. The end of a level interrupt goes to vioapic_eoi(). Any
 * context.
 */
#define APIC_MSG_MODE(m) ((unsigned int)(m) >> 8 & 7)	/* 0 fixed, 1 lowest priority */
#define APIC_MSG_LOGICAL (1u << 11)
#define APIC_MSG_LEVEL (1u << 15)
void vlapic_message(const struct domain *d, uint64_t msg);
/* The physical CPU where a message to one vCPU had best arrive. A guess. */
unsigned int vlapic_message_cpu(const struct domain *d, uint64_t msg);

/* Highest vector deliverable now, or -1; and: it is being delivered. */
int vlapic_pending(struct vcpu *v);
void vlapic_accept(struct vcpu *v, uint8_t vector);
/* The priority class of the highest request when the TPR holds it back, else 0. */
unsigned int vlapic_held_class(const struct vcpu *v);

/*
 * Register access of the current vCPU. @offset as in the xAPIC page. False:
 * no such register or reserved bits (x2APIC: #GP; xAPIC: ignored / zero).
 */
bool vlapic_read(struct vcpu *v, uint32_t offset, uint32_t *val);
bool vlapic_write(struct vcpu *v, uint32_t offset, uint32_t val);

/* MSR 0x1b and 0x800..0x8ff and 0x6e0. False: another MSR, or #GP. */
bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

/* Is [gpa, gpa + 4096) the page of v's xAPIC, enabled in xAPIC mode? */
bool vlapic_claims(const struct vcpu *v, gpa_t gpa);

/*
 * All there is, as the published stream has it, of a vCPU that is paused and whose
 * TSC has been loaded before; registers come second. Bits that nobody can set are
 * passed over. -XEN_EINVAL: not where or what an APIC here can be.
 */
void vlapic_save(const struct vcpu *v, struct hvm_hw_lapic *hw);
void vlapic_save_regs(struct vcpu *v, struct hvm_hw_lapic_regs *hw);
int vlapic_load(struct vcpu *v, const struct hvm_hw_lapic *hw, bool commit) __must_check;
void vlapic_load_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *hw);

/* Not turned off by APIC_BASE: CPUID shows it. */
static inline bool vlapic_present(const struct vlapic *l)
{
	return l->base_msr & APIC_BASE_ENABLE;
}

/* CR8, and the priority below which nothing is delivered. */
static inline uint8_t vlapic_get_cr8(const struct vlapic *l)
{
	return (uint8_t)(l->reg[APIC_TPR] >> 4);
}
void vlapic_set_cr8(struct vcpu *v, uint64_t cr8);

/* The guest's TSC jumped: a TSC deadline falls due at another time. */
void vlapic_tsc_changed(struct vcpu *v);

#endif
