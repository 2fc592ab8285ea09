/* SPDX-License-Identifier: MIT */
/*
 * What CPU a guest believes to have: CPUID leaves and MSRs as data.
 *
 * One policy per domain, levelled from the machine's by tables, immutable
 * once the domain runs.
 */
#ifndef HOSPES_POLICY_H
#define HOSPES_POLICY_H

#include "hospes/abi.h"
#include "hospes/regs.h"
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

/* The machine's own policy, read once at start of day with insn_cpuid(); guest_policy, too. */
void policy_init_host(void);
extern struct cpu_policy host_policy;

/* The default for new guests, and the most they can have: host ANDed with what we offer. */
extern struct cpu_policy guest_policy;

/* Can a guest with policy @p set XCR0 so? */
static inline bool policy_xcr0_valid(const struct cpu_policy *p, uint64_t xcr0)
{
	uint64_t avx512 = xcr0 & XCR0_AVX512;

	return (xcr0 & XCR0_X87) && !(xcr0 & ~p->xcr0_mask) &&
	       (!(xcr0 & XCR0_AVX) || (xcr0 & XCR0_SSE)) &&
	       (!avx512 || (avx512 == XCR0_AVX512 && (xcr0 & XCR0_AVX)));
}

/* The most leaves a toolstack can read or set, and MSRs. */
#define POLICY_MAX_LEAVES 120u
#define POLICY_MAX_MSRS 2u

/*
 * Reads a policy leaf by leaf: from *@nr, 0 at first, goes on to the next one up to the
 * highest, zero or not. False: there is none.
 */
bool policy_next_leaf(const struct cpu_policy *p, uint32_t *nr, struct xen_cpuid_leaf *out);
/*
 * Stores a leaf a toolstack asks for, unchecked, or passes over one that is ours to
 * answer. -XEN_ERANGE: no such leaf. When all are stored policy_level() makes a
 * policy of it: -XEN_EINVAL and where, when it asks for what we do not offer.
 */
int policy_put_leaf(struct cpu_policy *p, const struct xen_cpuid_leaf *in) __must_check;
int policy_level(struct cpu_policy *p, uint32_t *leaf, uint32_t *subleaf) __must_check;

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
