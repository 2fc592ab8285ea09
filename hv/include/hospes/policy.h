/* SPDX-License-Identifier: MIT */
/*
 * What CPU a guest believes to have: CPUID leaves and MSRs as data.
 *
 * One policy per domain, levelled from the machine's by tables, immutable
 * once the domain runs.
 */
#ifndef HOSPES_POLICY_H
#define HOSPES_POLICY_H

#include "hospes/types.h"

struct vcpu;

#define FEATURE_INVTSC (1u << 8)	/* leaf 0x80000007 EDX */

struct cpuid_regs { uint32_t eax, ebx, ecx, edx; };

#define POLICY_BASIC_LEAVES 0x18u
#define POLICY_EXT_LEAVES 0x22u
#define POLICY_XSTATE_SUBLEAVES 64u
#define POLICY_LEAF7_SUBLEAVES 3u
#define POLICY_CACHE_SUBLEAVES 6u

struct cpu_policy {
	struct cpuid_regs basic[POLICY_BASIC_LEAVES];
	struct cpuid_regs leaf4[POLICY_CACHE_SUBLEAVES];
	struct cpuid_regs leaf7[POLICY_LEAF7_SUBLEAVES];
	struct cpuid_regs xstate[POLICY_XSTATE_SUBLEAVES];
	struct cpuid_regs ext[POLICY_EXT_LEAVES];
	struct cpuid_regs cache_ext[POLICY_CACHE_SUBLEAVES];	/* 0x8000001D */
	uint64_t xcr0_mask;		/* components the guest may enable */
	uint64_t cr4_valid, efer_valid;	/* bits the guest may set */
	uint8_t maxphysaddr;
};

/* The machine's own policy, read once at start of day with insn_cpuid(). */
void policy_init_host(void);
extern struct cpu_policy host_policy;

/* Fills @p with the default for new guests: host ANDed with what we offer. */
void policy_default(struct cpu_policy *p);

/* The CPUID instruction for the current vCPU, per-vCPU bits included. */
void policy_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out);

/* Sets v->msr to what the CPU has after reset; the builder's MTRRs say write-back. */
void msr_vcpu_init(struct vcpu *v);

/*
 * RDMSR / WRMSR of the current vCPU, after cpu->msr_* and vlapic had their
 * turn. False: #GP(0).
 */
bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

#endif
