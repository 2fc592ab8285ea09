/* SPDX-License-Identifier: MIT */
/*
 * What CPU a guest believes to have: CPUID.
 *
 * Owns: host_policy, constant after policy_init_host(). A domain's policy is
 * constant once it runs, so nothing here takes a lock. What is offered stands
 * in the tables; what is not named there the guest does not see.
 */
#include "hospes/policy.h"

#include "hospes/cpu_insn.h"
#include "hospes/domain.h"
#include "hospes/lib.h"

#define EXT_BASE 0x80000000u
#define XEN_BASE 0x40000000u
#define XEN_LEAVES 6u

/* Leaves with bits that depend on the vCPU, or with subleaves. */
#define LEAF_FEATURES 0x1u
#define LEAF_CACHE 0x4u
#define LEAF_FEATURES7 0x7u
#define LEAF_TOPOLOGY 0xbu
#define LEAF_XSTATE 0xdu
#define LEAF_EXT_FEATURES 0x1u
#define LEAF_EXT_ADDRESS 0x8u
#define LEAF_EXT_CACHE 0x1du
#define LEAF_EXT_TOPOLOGY 0x1eu
#define BASIC_MAX LEAF_XSTATE

#define FEATURE_APIC (1u << 9)		/* leaf 1 EDX, and AMD's copy of it */
#define FEATURE_OSXSAVE (1u << 27)	/* leaf 1 ECX */
#define FEATURE_XSAVE (1u << 26)
#define FEATURE_AVX (1u << 28)
#define FEATURE_AVX512F (1u << 16)	/* leaf 7 EBX */
#define FEATURE_INVTSC (1u << 8)	/* leaf 0x80000007 EDX */

#define XSTATE_LEGACY 0x3u
#define XSTATE_AVX 0x4u
#define XSTATE_AVX512 0xe0u
#define XSAVE_HEADER_END 576u
#define XSAVE_ALIGNED 0x2u		/* subleaf ECX: 64-byte aligned when compacted */
#define XSAVEC 0x2u

#define CR4_OSXSAVE (1u << 18)

struct cpu_policy host_policy;

/* --- What is offered ---------------------------------------------------- */

/* A guest register is (host & allow) | force. Offsets count 32-bit registers. */
struct mask {
	uint16_t first, count;
	uint32_t allow, force;
};

#define REG(reg, allow, force) { offsetof(struct cpu_policy, reg) / 4, 1, allow, force }
#define LEAF(leaf) { offsetof(struct cpu_policy, leaf) / 4, 4, ~0u, 0 }

static const struct mask default_masks[] = {
	LEAF(basic[0]),
	/* Family, model, stepping; CLFLUSH size, one logical processor. */
	REG(basic[1].eax, ~0u, 0),
	REG(basic[1].ebx, 0x0000ff00, 0x00010000),
	/* Without MONITOR, VMX, SMX, debug store, PDCM, DCA; x2APIC and TSC deadline are ours. */
	REG(basic[1].ecx, 0x76da3203, 0x81200000),
	/* Without serial number, debug store, thermal control, HTT. */
	REG(basic[1].edx, 0x078bfbff, 0),
	LEAF(basic[2]),
	/* The APIC timer never stops. */
	REG(basic[6].eax, 0, 0x4),
	REG(leaf7[0].eax, ~0u, 0),
	/* Without SGX, TSX, MPX, RDT, PT. TSC_ADJUST is ours. */
	REG(leaf7[0].ebx, 0xfdbf27e9, 0x2),
	/* Without PKU, WAITPKG, CET, LA57, bus lock detection, ENQCMD, SGX_LC. */
	REG(leaf7[0].ecx, 0x1a405f47, 0),
	/* Without TSX, PCONFIG, CET, AMX, and all that lives in SPEC_CTRL. */
	REG(leaf7[0].edx, 0x0080451c, 0),
	/* AVX-VNNI, BF16, fast string operations; AVX-VNNI-INT8, NE-CONVERT, PREFETCHI. */
	REG(leaf7[1].eax, 0x00001c30, 0),
	REG(leaf7[1].edx, 0x00004030, 0),

	LEAF(ext[0]),
	REG(ext[1].eax, ~0u, 0),
	REG(ext[1].ebx, ~0u, 0),
	/* Without SVM, extended APIC space, OSVW, IBS, SKINIT, LWP, counters, MWAITX. */
	REG(ext[1].ecx, 0x006109e1, 0),
	REG(ext[1].edx, 0xefd3fbff, 0),
	LEAF(ext[2]), LEAF(ext[3]), LEAF(ext[4]), LEAF(ext[5]), LEAF(ext[6]),
	REG(ext[7].edx, FEATURE_INVTSC, 0),
	/* CLZERO, XSAVEERPTR, IBPB, and what the CPU is not vulnerable to. One core. */
	REG(ext[8].ebx, 0x64001005, 0),
	LEAF(ext[0x19]),
	LEAF(ext[0x1a]),
	/* No data breakpoints nested, LFENCE serialises, null selectors, fast strings. */
	REG(ext[0x21].eax, 0x00000c45, 0),
};

/* Bits of control registers that come with a feature. */
static const struct {
	uint16_t reg;
	uint8_t bit;
	uint32_t cr4, efer;
} control_bits[] = {
#define CONTROL(reg, bit, cr4, efer) { offsetof(struct cpu_policy, reg) / 4, bit, cr4, efer }
	CONTROL(basic[1].edx, 1, 0x3, 0),		/* VME: VME, PVI */
	CONTROL(basic[1].edx, 2, 1u << 3, 0),		/* DE */
	CONTROL(basic[1].edx, 3, 1u << 4, 0),		/* PSE */
	CONTROL(basic[1].edx, 4, 1u << 2, 0),		/* TSC: TSD */
	CONTROL(basic[1].edx, 6, 1u << 5, 0),		/* PAE */
	CONTROL(basic[1].edx, 7, 1u << 6, 0),		/* MCE */
	CONTROL(basic[1].edx, 13, 1u << 7, 0),		/* PGE */
	CONTROL(basic[1].edx, 24, 1u << 9, 0),		/* FXSR: OSFXSR */
	CONTROL(basic[1].edx, 25, 1u << 10, 0),		/* SSE: OSXMMEXCPT */
	CONTROL(basic[1].ecx, 17, 1u << 17, 0),		/* PCID */
	CONTROL(basic[1].ecx, 26, CR4_OSXSAVE, 0),
	CONTROL(leaf7[0].ebx, 0, 1u << 16, 0),		/* FSGSBASE */
	CONTROL(leaf7[0].ebx, 7, 1u << 20, 0),		/* SMEP */
	CONTROL(leaf7[0].ebx, 20, 1u << 21, 0),		/* SMAP */
	CONTROL(leaf7[0].ecx, 2, 1u << 11, 0),		/* UMIP */
	CONTROL(ext[1].edx, 11, 0, 0x1),		/* SYSCALL: SCE */
	CONTROL(ext[1].edx, 20, 0, 1u << 11),		/* NX */
	CONTROL(ext[1].edx, 25, 0, 1u << 14),		/* FFXSR */
	CONTROL(ext[1].edx, 29, 0, 0x500),		/* LM: LME, LMA */
};

#define CR4_ALWAYS (1u << 8)	/* PCE: RDPMC is intercepted anyway */

static uint32_t *reg_at(struct cpu_policy *p, unsigned int nr)
{
	return &p->basic[0].eax + nr;
}

/* --- Making policies ---------------------------------------------------- */

static void read_leaf(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	uint32_t r[4];

	insn_cpuid(leaf, subleaf, r);
	*out = (struct cpuid_regs){ r[CPUID_EAX], r[CPUID_EBX], r[CPUID_ECX], r[CPUID_EDX] };
}

/* @nr leaves from @base on as far as the CPU has them. */
static void read_leaves(uint32_t base, unsigned int nr, struct cpuid_regs *out)
{
	uint32_t max;

	read_leaf(base, 0, out);
	max = out[0].eax;
	for (uint32_t i = 1; i < nr && max >= base && i <= max - base; i++)
		read_leaf(base + i, 0, &out[i]);
}

static void read_subleaves(uint32_t leaf, unsigned int nr, struct cpuid_regs *out)
{
	for (uint32_t i = 0; i < nr; i++)
		read_leaf(leaf, i, &out[i]);
}

/* Size of the XSAVE area for @components. */
static uint32_t xstate_size(const struct cpu_policy *p, uint64_t components, bool compacted)
{
	uint32_t size = XSAVE_HEADER_END;

	for (uint64_t left = components & ~(uint64_t)XSTATE_LEGACY; left; left &= left - 1) {
		const struct cpuid_regs *c = &p->xstate[ffs64(left)];

		if (!compacted) {
			size = MAX(size, c->ebx + c->eax);
			continue;
		}
		if (c->ecx & XSAVE_ALIGNED)
			size = ALIGN_UP(size, 64);
		size += c->eax;
	}
	return size;
}

static void set_xstate(struct cpu_policy *p, const struct cpu_policy *host)
{
	uint64_t mask = XSTATE_LEGACY;

	if (!(p->basic[LEAF_FEATURES].ecx & FEATURE_XSAVE))
		return;
	if (p->basic[LEAF_FEATURES].ecx & FEATURE_AVX)
		mask |= XSTATE_AVX;
	if (p->leaf7[0].ebx & FEATURE_AVX512F)
		mask |= XSTATE_AVX512;
	mask &= (uint64_t)host->xstate[0].edx << 32 | host->xstate[0].eax;
	p->xcr0_mask = mask;
	for (unsigned int i = 2; i < POLICY_XSTATE_SUBLEAVES; i++) {
		if (mask >> i & 1)
			p->xstate[i] = host->xstate[i];
	}
	p->xstate[0].eax = (uint32_t)mask;
	p->xstate[0].ecx = xstate_size(p, mask, false);
	p->xstate[0].edx = (uint32_t)(mask >> 32);
	/* XSAVEOPT, XSAVEC, XGETBV with ECX 1; supervisor states stay hidden. */
	p->xstate[1].eax = host->xstate[1].eax & 0x7;
}

static void set_control_bits(struct cpu_policy *p)
{
	p->cr4_valid = CR4_ALWAYS;
	for (size_t i = 0; i < ARRAY_SIZE(control_bits); i++) {
		if (*reg_at(p, control_bits[i].reg) >> control_bits[i].bit & 1) {
			p->cr4_valid |= control_bits[i].cr4;
			p->efer_valid |= control_bits[i].efer;
		}
	}
}

void policy_init_host(void)
{
	struct cpu_policy *h = &host_policy;

	memset(h, 0, sizeof(*h));
	read_leaves(0, POLICY_BASIC_LEAVES, h->basic);
	read_leaves(EXT_BASE, POLICY_EXT_LEAVES, h->ext);
	if (h->basic[0].eax >= LEAF_CACHE)
		read_subleaves(LEAF_CACHE, POLICY_CACHE_SUBLEAVES, h->leaf4);
	if (h->basic[0].eax >= LEAF_FEATURES7) {
		read_leaf(LEAF_FEATURES7, 0, &h->leaf7[0]);
		read_subleaves(LEAF_FEATURES7, MIN(h->leaf7[0].eax + 1, POLICY_LEAF7_SUBLEAVES),
			       h->leaf7);
	}
	if (h->basic[0].eax >= LEAF_XSTATE)
		read_subleaves(LEAF_XSTATE, POLICY_XSTATE_SUBLEAVES, h->xstate);
	if (h->ext[0].eax >= EXT_BASE + LEAF_EXT_CACHE)
		read_subleaves(EXT_BASE + LEAF_EXT_CACHE, POLICY_CACHE_SUBLEAVES, h->cache_ext);
	h->xcr0_mask = (uint64_t)h->xstate[0].edx << 32 | h->xstate[0].eax;
	h->maxphysaddr = h->ext[0].eax >= EXT_BASE + LEAF_EXT_ADDRESS ?
			 (uint8_t)h->ext[LEAF_EXT_ADDRESS].eax : 36;
	set_control_bits(h);
}

void policy_default(struct cpu_policy *p, unsigned int nr_vcpus)
{
	struct cpu_policy *host = &host_policy;

	/* Every vCPU is a package of one core, however many there are. */
	(void)nr_vcpus;
	memset(p, 0, sizeof(*p));
	for (size_t i = 0; i < ARRAY_SIZE(default_masks); i++) {
		const struct mask *m = &default_masks[i];

		for (unsigned int j = m->first; j < m->first + m->count; j++)
			*reg_at(p, j) = (*reg_at(host, j) & m->allow) | m->force;
	}
	p->basic[0].eax = MIN(p->basic[0].eax, BASIC_MAX);
	p->ext[0].eax = MIN(p->ext[0].eax, EXT_BASE + POLICY_EXT_LEAVES - 1);
	p->leaf7[0].eax = MIN(p->leaf7[0].eax, 1U);
	for (unsigned int i = 0; i < POLICY_CACHE_SUBLEAVES; i++) {
		/* Type, level, flags; shared with nobody. */
		p->leaf4[i] = host->leaf4[i];
		p->leaf4[i].eax &= 0x3fff;
		p->cache_ext[i] = host->cache_ext[i];
		p->cache_ext[i].eax &= 0x3fff;
	}
	p->maxphysaddr = (uint8_t)MIN(host->maxphysaddr, 48U);
	p->ext[LEAF_EXT_ADDRESS].eax = 48u << 8 | p->maxphysaddr;
	set_xstate(p, host);
	set_control_bits(p);
}

/* --- The CPUID instruction ---------------------------------------------- */

static void cpuid_xstate(const struct vcpu *v, const struct cpu_policy *p, uint32_t subleaf,
			 struct cpuid_regs *out)
{
	if (subleaf >= POLICY_XSTATE_SUBLEAVES)
		return;
	*out = p->xstate[index_nospec(subleaf, POLICY_XSTATE_SUBLEAVES)];
	if (subleaf == 0 && p->xcr0_mask)
		out->ebx = xstate_size(p, v->msr.xcr0, false);
	else if (subleaf == 1 && (out->eax & XSAVEC))
		out->ebx = xstate_size(p, v->msr.xcr0, true);
}

/* Levels SMT and core: one of each; the ids above leave a bit between. */
static void cpuid_topology(const struct vcpu *v, uint32_t subleaf, struct cpuid_regs *out)
{
	out->ecx = subleaf & 0xff;
	out->edx = v->lapic.id;
	if (subleaf < 2) {
		out->eax = 1;
		out->ebx = 1;
		out->ecx |= (subleaf + 1) << 8;
	}
}

static void cpuid_basic(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	const struct cpu_policy *p = v->domain->policy;
	struct guest_paging paging;

	switch (leaf) {
	case LEAF_FEATURES:
		*out = p->basic[LEAF_FEATURES];
		out->ebx |= v->lapic.id << 24;
		if (!vlapic_present(&v->lapic))
			out->edx &= ~FEATURE_APIC;
		cpu->get_paging(v, &paging);
		if (paging.cr4 & CR4_OSXSAVE)
			out->ecx |= FEATURE_OSXSAVE;
		break;
	case LEAF_CACHE:
		if (subleaf < POLICY_CACHE_SUBLEAVES)
			*out = p->leaf4[index_nospec(subleaf, POLICY_CACHE_SUBLEAVES)];
		break;
	case LEAF_FEATURES7:
		if (subleaf < POLICY_LEAF7_SUBLEAVES)
			*out = p->leaf7[index_nospec(subleaf, POLICY_LEAF7_SUBLEAVES)];
		break;
	case LEAF_TOPOLOGY:
		if (p->basic[0].eax >= LEAF_TOPOLOGY)
			cpuid_topology(v, subleaf, out);
		break;
	case LEAF_XSTATE:
		cpuid_xstate(v, p, subleaf, out);
		break;
	default:
		*out = p->basic[index_nospec(leaf, POLICY_BASIC_LEAVES)];
		break;
	}
}

static void cpuid_ext(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	const struct cpu_policy *p = v->domain->policy;

	switch (leaf) {
	case LEAF_EXT_CACHE:
		if (subleaf < POLICY_CACHE_SUBLEAVES)
			*out = p->cache_ext[index_nospec(subleaf, POLICY_CACHE_SUBLEAVES)];
		break;
	case LEAF_EXT_TOPOLOGY:
		if (p->ext[0].eax >= EXT_BASE + LEAF_EXT_TOPOLOGY)
			out->eax = v->lapic.id;
		break;
	default:
		*out = p->ext[index_nospec(leaf, POLICY_EXT_LEAVES)];
		if (leaf == LEAF_EXT_FEATURES && !vlapic_present(&v->lapic))
			out->edx &= ~FEATURE_APIC;
		break;
	}
}

/* Subleaf 1: ns = (tsc << shift) * mul >> 32, less the offset. */
static void cpuid_xen_time(const struct vcpu *v, uint32_t subleaf, struct cpuid_regs *out)
{
	uint64_t base, offset;
	int8_t shift;

	switch (subleaf) {
	case 0:
		/* The guest reads the real TSC; safe when it never changes its pace. */
		out->eax = v->domain->policy->ext[7].edx & FEATURE_INVTSC ? 0x2 : 0;
		out->ecx = (uint32_t)port_tsc_khz();
		break;
	case 1:
		port_pvclock_scale(&base, &out->ecx, &shift);
		offset = port_tsc_to_ns(0 - v->tsc_offset);
		out->eax = (uint32_t)offset;
		out->ebx = (uint32_t)(offset >> 32);
		out->edx = (uint32_t)(int32_t)shift;
		break;
	case 2:
		out->eax = (uint32_t)port_tsc_khz();
		break;
	default:
		break;
	}
}

static void cpuid_xen(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	switch (leaf) {
	case 0:
		*out = (struct cpuid_regs){ XEN_BASE + XEN_LEAVES - 1, XEN_CPUID_SIGNATURE_EBX,
					    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX };
		break;
	case 1:
		out->eax = ABI_VERSION_MAJOR << 16 | ABI_VERSION_MINOR;
		break;
	case 2:		/* one hypercall page, through this MSR */
		out->eax = 1;
		out->ebx = XEN_BASE;
		break;
	case 3:
		cpuid_xen_time(v, subleaf, out);
		break;
	case 4:
		if (subleaf)
			break;
		out->eax = XEN_HVM_CPUID_IOMMU_MAPPINGS | XEN_HVM_CPUID_VCPU_ID_PRESENT |
			   XEN_HVM_CPUID_DOMID_PRESENT | XEN_HVM_CPUID_UPCALL_VECTOR;
		out->ebx = v->id;
		out->ecx = v->domain->id;
		break;
	default:
		break;
	}
}

void policy_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	*out = (struct cpuid_regs){ 0, 0, 0, 0 };
	if (leaf < POLICY_BASIC_LEAVES)
		cpuid_basic(v, leaf, subleaf, out);
	else if (leaf - EXT_BASE < POLICY_EXT_LEAVES)
		cpuid_ext(v, leaf - EXT_BASE, subleaf, out);
	else if (leaf - XEN_BASE < XEN_LEAVES)
		cpuid_xen(v, leaf - XEN_BASE, subleaf, out);
}
