/* SPDX-License-Identifier: MIT */
/*
 * What CPU a guest believes to have: CPUID.
 *
 * Owns: host_policy and guest_policy, constant after policy_init_host(). A domain's policy is
 * constant once it runs, so nothing here takes a lock. What is offered stands
 * in the tables; what is not named there the guest does not see.
 */
#include "hospes/policy.h"

#include "hospes/cpu_insn.h"
#include "hospes/domain.h"

#define EXT_BASE 0x80000000u
#define XEN_BASE 0x40000000u
#define BASIC_MAX 0xdu
#define MAXPHYSADDR_MIN 36u

#define FEATURE_APIC (1u << 9)		/* leaf 1 EDX, and AMD's copy of it */
#define FEATURE_HTT (1u << 28)		/* leaf 1 EDX */
#define FEATURE_CMP_LEGACY (1u << 1)	/* leaf 0x80000001 ECX: with HTT, several cores */
#define FEATURE_OSXSAVE (1u << 27)	/* leaf 1 ECX */
#define FEATURE_XSAVE (1u << 26)
#define FEATURE_AVX (1u << 28)
#define FEATURE_AVX512F (1u << 16)	/* leaf 7 EBX */

#define XSTATE_LEGACY 0x3u
#define XSTATE_AVX 0x4u
#define XSTATE_AVX512 0xe0u
#define XSAVE_HEADER_END 576u
#define XSAVE_ALIGNED 0x2u		/* subleaf ECX: 64-byte aligned when compacted */
#define XSAVEC 0x2u

struct cpu_policy host_policy;
struct cpu_policy guest_policy;

/* --- What is offered ---------------------------------------------------- */

/* What a toolstack may make of a register that is offered. */
enum take {
	BITS,		/* clear bits; also of what has no row: that is 0 */
	ANYTHING,	/* names, sizes */
	LESS,
	NOTHING,	/* it is the same on both sides, */
	OURS,		/* or what is asked for does not matter */
};

/* A guest register is (host & allow) | force. Offsets count 32-bit registers. */
struct mask {
	uint16_t first;
	uint8_t count, take;
	uint32_t allow, force;
};

#define ROW(reg, count, take, allow, force) \
	{ offsetof(struct cpu_policy, reg) / 4, count, take, allow, force }
#define REG(reg, allow, force) ROW(reg, 1, BITS, allow, force)
#define INFO(reg, count) ROW(reg, count, ANYTHING, ~0u, 0)
/* The highest leaf, and the vendor. */
#define FIRST(leaf) ROW(leaf.eax, 1, LESS, ~0u, 0), ROW(leaf.ebx, 3, NOTHING, ~0u, 0)

static const struct mask default_masks[] = {
	/* Family, model, stepping; CLFLUSH size, one logical processor. */
	FIRST(basic[0]), INFO(basic[1].eax, 1), ROW(basic[1].ebx, 1, OURS, 0x0000ff00, 0x00010000),
	/* Without MONITOR, VMX, SMX, debug store, PDCM, DCA; x2APIC and TSC deadline are ours. */
	REG(basic[1].ecx, 0x76da3203, 0x81200000),
	/* Without serial number, debug store, thermal control, HTT. The APIC timer never stops. */
	REG(basic[1].edx, 0x078bfbff, 0), INFO(basic[2], 4), REG(basic[6].eax, 0, 0x4),
	/* Without SGX, TSX, MPX, RDT, PT. TSC_ADJUST is ours. */
	ROW(leaf7[0].eax, 1, LESS, ~0u, 0), REG(leaf7[0].ebx, 0xfdbf27e9, 0x2),
	/* Without PKU, WAITPKG, CET, LA57, bus lock detection, ENQCMD, SGX_LC. */
	REG(leaf7[0].ecx, 0x1a405f47, 0),
	/* Without TSX, PCONFIG, CET, AMX, and all that lives in SPEC_CTRL. */
	REG(leaf7[0].edx, 0x0080451c, 0),
	/* AVX-VNNI, BF16, fast string operations; AVX-VNNI-INT8, NE-CONVERT, PREFETCHI. */
	REG(leaf7[1].eax, 0x00001c30, 0), REG(leaf7[1].edx, 0x00004030, 0),

	FIRST(ext[0]), INFO(ext[1].eax, 2),
	/* Without SVM, extended APIC space, OSVW, IBS, SKINIT, LWP, counters, MWAITX. */
	REG(ext[1].ecx, 0x006109e1, 0), REG(ext[1].edx, 0xefd3fbff, 0),
	INFO(ext[2], 5 * 4),
	/* CLZERO, XSAVEERPTR, IBPB, IBRS, STIBP, SSBD; to what the CPU is not vulnerable. */
	REG(ext[7].edx, FEATURE_INVTSC, 0), REG(ext[8].ebx, 0x670fd005, 0),
	/* No data breakpoints nested, LFENCE serialises, null selectors, fast strings. */
	INFO(ext[0x19], 2 * 4), REG(ext[0x21].eax, 0x00000c45, 0),
	/* Sizes of addresses; topology. */
	ROW(ext[8].eax, 1, OURS, 0, 0), ROW(ext[8].ecx, 1, OURS, 0, 0),
	ROW(leaf4, 4 * POLICY_CACHE_SUBLEAVES, OURS, 0, 0), ROW(ext[0x1e], 4, OURS, 0, 0),
	/* Follows from the features. */
	ROW(xstate, 4 * (POLICY_XSTATE_SUBLEAVES - 1), OURS, 0, 0),
};

/* Bits of control registers that come with a feature. */
static const struct {
	uint16_t reg;
	uint8_t bit;
	uint32_t cr4, efer;
} control_bits[] = {
#define BITS(reg, bit, cr4, efer) { offsetof(struct cpu_policy, reg) / 4, bit, cr4, efer }
	/* VME: VME and PVI; DE. PSE; TSC: TSD. PAE; MCE. PGE; FXSR: OSFXSR. SSE: OSXMMEXCPT. */
	BITS(basic[1].edx, 1, 0x3, 0), BITS(basic[1].edx, 2, 1u << 3, 0),
	BITS(basic[1].edx, 3, 1u << 4, 0), BITS(basic[1].edx, 4, 1u << 2, 0),
	BITS(basic[1].edx, 6, 1u << 5, 0), BITS(basic[1].edx, 7, 1u << 6, 0),
	BITS(basic[1].edx, 13, 1u << 7, 0), BITS(basic[1].edx, 24, 1u << 9, 0),
	BITS(basic[1].edx, 25, 1u << 10, 0),
	/* PCID; XSAVE. FSGSBASE; SMEP. SMAP; UMIP. */
	BITS(basic[1].ecx, 17, 1u << 17, 0), BITS(basic[1].ecx, 26, CR4_OSXSAVE, 0),
	BITS(leaf7[0].ebx, 0, 1u << 16, 0), BITS(leaf7[0].ebx, 7, 1u << 20, 0),
	BITS(leaf7[0].ebx, 20, 1u << 21, 0), BITS(leaf7[0].ecx, 2, 1u << 11, 0),
	/* SYSCALL: SCE; NX. FFXSR; LM: LME and LMA. */
	BITS(ext[1].edx, 11, 0, 0x1), BITS(ext[1].edx, 20, 0, 1u << 11),
	BITS(ext[1].edx, 25, 0, 1u << 14), BITS(ext[1].edx, 29, 0, 0x500),
};

#define CR4_ALWAYS (1u << 8)	/* PCE: RDPMC is intercepted anyway */

static uint32_t *reg_at(struct cpu_policy *p, unsigned int nr)
{
	return &p->basic[0].eax + nr;
}

/* --- Making policies ---------------------------------------------------- */

/*
 * What is read of the machine: leaves in a row, or the subleaves of one; and
 * how many of them a toolstack sees, which knows no more.
 */
static const struct {
	uint32_t leaf;
	uint16_t count, shown, first;
	bool subleaves;
} sources[] = {
#define SOURCE(leaf, field, shown, subleaves) \
	{ leaf, ARRAY_SIZE(host_policy.field), shown, offsetof(struct cpu_policy, field) / 4, \
	  subleaves }
	SOURCE(0, basic, BASIC_MAX + 1, false), SOURCE(0x4, leaf4, POLICY_CACHE_SUBLEAVES, true),
	SOURCE(0x7, leaf7, POLICY_LEAF7_SUBLEAVES, true),
	SOURCE(0xd, xstate, POLICY_XSTATE_SUBLEAVES - 1, true),
	SOURCE(EXT_BASE, ext, POLICY_EXT_LEAVES, false),
	SOURCE(EXT_BASE + 0x1d, cache_ext, 0, true),
};

/* Does it have subleaves, and so stands elsewhere? */
static bool is_split(uint32_t leaf)
{
	return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd;
}

/* Size of the XSAVE area for @components. */
static uint32_t xstate_size(const struct cpu_policy *p, uint64_t components, bool compacted)
{
	uint32_t size = XSAVE_HEADER_END;

	for (uint64_t left = components & ~(uint64_t)XSTATE_LEGACY; left; left &= left - 1) {
		const struct cpuid_regs *c = &p->xstate[ffs64(left)];

		size = !compacted ? MAX(size, c->ebx + c->eax) :
		       (c->ecx & XSAVE_ALIGNED ? ALIGN_UP(size, 64) : size) + c->eax;
	}
	return size;
}

static void set_xstate(struct cpu_policy *p)
{
	const struct cpu_policy *host = &host_policy;
	uint64_t mask = XSTATE_LEGACY;

	memset(p->xstate, 0, sizeof(p->xstate));
	p->xcr0_mask = 0;
	if (!(p->basic[1].ecx & FEATURE_XSAVE))
		return;
	if (p->basic[1].ecx & FEATURE_AVX)
		mask |= XSTATE_AVX;
	if (p->leaf7[0].ebx & FEATURE_AVX512F)
		mask |= XSTATE_AVX512;
	mask &= host->xcr0_mask;
	p->xcr0_mask = mask;
	for (unsigned int i = 2; i < POLICY_XSTATE_SUBLEAVES; i++)
		if (mask >> i & 1)
			p->xstate[i] = host->xstate[i];
	p->xstate[0] = (struct cpuid_regs){ (uint32_t)mask, 0, xstate_size(p, mask, false),
					    (uint32_t)(mask >> 32) };
	/* XSAVEOPT, XSAVEC, XGETBV with ECX 1; supervisor states stay hidden. */
	p->xstate[1].eax = host->xstate[1].eax & 0x7;
}

static void set_control_bits(struct cpu_policy *p)
{
	p->cr4_valid = CR4_ALWAYS;
	p->efer_valid = 0;
	for (size_t i = 0; i < ARRAY_SIZE(control_bits); i++) {
		bool offered = *reg_at(p, control_bits[i].reg) >> control_bits[i].bit & 1;

		p->cr4_valid |= offered ? control_bits[i].cr4 : 0;
		p->efer_valid |= offered ? control_bits[i].efer : 0;
	}
}

/* How each register is taken from a toolstack: enum take. */
static uint8_t takes[offsetof(struct cpu_policy, xcr0_mask) / 4];

/* Every vCPU is a package of one core, however many there are. */
static void make_offer(struct cpu_policy *p, struct cpu_policy *host)
{
	memset(p, 0, sizeof(*p));
	memset(takes, BITS, sizeof(takes));
	for (size_t i = 0; i < ARRAY_SIZE(default_masks); i++) {
		const struct mask *m = &default_masks[i];

		memset(&takes[m->first], m->take, m->count);
		for (unsigned int j = m->first; j < m->first + m->count; j++)
			*reg_at(p, j) = (*reg_at(host, j) & m->allow) | m->force;
	}
	p->basic[0].eax = MIN(p->basic[0].eax, BASIC_MAX);
	p->ext[0].eax = MIN(p->ext[0].eax, EXT_BASE + POLICY_EXT_LEAVES - 1);
	p->leaf7[0].eax = MIN(p->leaf7[0].eax, 1U);	/* subleaf 2 is all SPEC_CTRL */
	for (unsigned int i = 0; i < POLICY_CACHE_SUBLEAVES; i++) {
		/* Type, level, flags; shared with nobody. */
		p->leaf4[i] = host->leaf4[i];
		p->leaf4[i].eax &= 0x3fff;
		p->cache_ext[i] = host->cache_ext[i];
		p->cache_ext[i].eax &= 0x3fff;
	}
	p->maxphysaddr = (uint8_t)MIN(host->maxphysaddr, 48U);
	p->ext[8].eax = 48u << 8 | p->maxphysaddr;
	set_xstate(p);
	set_control_bits(p);
}

void policy_init_host(void)
{
	struct cpu_policy *h = &host_policy;

	memset(h, 0, sizeof(*h));
	for (size_t nr = 0; nr < ARRAY_SIZE(sources); nr++) {
		uint32_t leaf = sources[nr].leaf, max, r[4];

		insn_cpuid(leaf & EXT_BASE, 0, r);
		max = r[CPUID_EAX];
		for (uint32_t i = 0; i < sources[nr].count && leaf <= max; i++) {
			insn_cpuid(leaf, sources[nr].subleaves ? i : 0, r);
			memcpy(reg_at(h, sources[nr].first + 4 * i), r, sizeof(r));
			leaf += !sources[nr].subleaves;
		}
	}
	h->xcr0_mask = (uint64_t)h->xstate[0].edx << 32 | h->xstate[0].eax;
	h->maxphysaddr = h->ext[8].eax ? (uint8_t)h->ext[8].eax : 36;
	set_control_bits(h);
	make_offer(&guest_policy, h);
}

/* --- For the toolstack ---------------------------------------------------- */

/*
 * Is that a leaf of @p, be it zero? Toolstacks write a policy back into as many
 * leaves as they read, so we have to count as they do.
 */
static bool has_leaf(const struct cpu_policy *p, uint32_t leaf, uint32_t sub)
{
	if (leaf >= EXT_BASE)
		return leaf <= p->ext[0].eax;
	if (leaf > p->basic[0].eax)
		return leaf >= XEN_BASE;
	return leaf == 0x4 ? !sub || p->leaf4[sub - 1].eax & 0x1f :
	       leaf == 0x7 ? sub <= p->leaf7[0].eax :
	       leaf != 0xd || sub < 2 || p->xcr0_mask >> sub & 1;
}

bool policy_next_leaf(const struct cpu_policy *p, uint32_t *nr, struct xen_cpuid_leaf *out)
{
	/* Zero as far as a toolstack sees: what they say to a guest is ours. */
	static const struct xen_cpuid_leaf others[] = {
		{ .leaf = 0xb }, { XEN_BASE, XEN_CPUID_NO_SUBLEAF, 0, 0, 0, 0 },
		{ XEN_BASE + 0x100, XEN_CPUID_NO_SUBLEAF, 0, 0, 0, 0 },
	};
	uint32_t shown = 0;

	for (uint32_t first = 0, i = 0; i < ARRAY_SIZE(sources); first += sources[i++].shown) {
		for (; *nr - first < sources[i].shown; ) {
			uint32_t n = (*nr)++ - first;
			const uint32_t *r = &p->basic[0].eax + sources[i].first + 4 * n;
			bool sub = sources[i].subleaves;

			*out = (struct xen_cpuid_leaf){ sources[i].leaf + (sub ? 0 : n),
				sub ? n : XEN_CPUID_NO_SUBLEAF, r[0], r[1], r[2], r[3] };
			if ((sub || !is_split(out->leaf)) && has_leaf(p, out->leaf, n))
				return true;
		}
		shown += sources[i].shown;
	}
	for (; *nr - shown < ARRAY_SIZE(others);) {
		*out = others[(*nr)++ - shown];
		if (has_leaf(p, out->leaf, 0))
			return true;
	}
	return false;
}

int policy_put_leaf(struct cpu_policy *p, const struct xen_cpuid_leaf *in)
{
	/* Topology is ours, and what the hypervisor's own leaves say. */
	if ((in->leaf == 0xb && in->subleaf < 2) ||
	    ((in->leaf == XEN_BASE || in->leaf == XEN_BASE + 0x100) &&
	     in->subleaf == XEN_CPUID_NO_SUBLEAF))
		return 0;
	for (uint32_t i = 0; i < ARRAY_SIZE(sources); i++) {
		bool sub = sources[i].subleaves;
		uint32_t n = sub ? in->subleaf : in->leaf - sources[i].leaf;

		if (n >= sources[i].shown || (sub ? in->leaf != sources[i].leaf :
		    is_split(in->leaf) || in->subleaf != XEN_CPUID_NO_SUBLEAF))
			continue;
		n = (uint32_t)index_nospec(n, sources[i].shown);
		memcpy(reg_at(p, sources[i].first + 4 * n), &in->a, sizeof(struct cpuid_regs));
		return 0;
	}
	return -XEN_ERANGE;
}

/* Can register @nr be @asked for? Then it may still turn out otherwise. */
static bool take(uint32_t nr, uint32_t *asked)
{
	uint32_t ours = *reg_at(&guest_policy, nr);

	if (takes[nr] == BITS)
		return !(*asked & ~ours);
	if (takes[nr] == OURS)
		*asked = ours;
	return takes[nr] == LESS ? *asked <= ours : takes[nr] != NOTHING || *asked == ours;
}

/* Leaf and subleaf of register @nr. */
static void name_register(uint32_t nr, uint32_t *leaf, uint32_t *subleaf)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(sources); i++) {
		uint32_t n = (nr - sources[i].first) / 4;

		if (nr < sources[i].first || n >= sources[i].count)
			continue;
		*leaf = sources[i].leaf + (sources[i].subleaves ? 0 : n);
		*subleaf = sources[i].subleaves ? n : XEN_CPUID_NO_SUBLEAF;
	}
}

/* Leaves beyond the last one are not there. */
static void cut(struct cpuid_regs *leaves, uint32_t first, uint32_t count)
{
	for (; first < count; first++)
		leaves[first] = (struct cpuid_regs){ 0, 0, 0, 0 };
}

int policy_level(struct cpu_policy *p, uint32_t *leaf, uint32_t *subleaf)
{
	uint8_t width = (uint8_t)p->ext[8].eax;

	p->basic[1].edx &= ~FEATURE_HTT;
	p->ext[1].ecx &= ~FEATURE_CMP_LEGACY;
	for (uint32_t nr = 0; nr < ARRAY_SIZE(takes); nr++) {
		if (!take(nr, reg_at(p, nr))) {
			name_register(nr, leaf, subleaf);
			return -XEN_EINVAL;
		}
	}
	if (width < MAXPHYSADDR_MIN || width > guest_policy.maxphysaddr) {
		*leaf = EXT_BASE + 8;
		return -XEN_EINVAL;
	}
	p->maxphysaddr = width;
	p->ext[8].eax = 48u << 8 | width;
	if (p->basic[0].eax < 0xd)	/* nobody could tell what it would save */
		p->basic[1].ecx &= ~FEATURE_XSAVE;
	set_xstate(p);
	set_control_bits(p);
	cut(p->basic, p->basic[0].eax + 1, POLICY_BASIC_LEAVES);
	cut(p->ext, p->ext[0].eax < EXT_BASE ? 0 : p->ext[0].eax + 1 - EXT_BASE, POLICY_EXT_LEAVES);
	cut(p->leaf7, p->basic[0].eax < 7 ? 0 : p->leaf7[0].eax + 1, POLICY_LEAF7_SUBLEAVES);
	return 0;
}

/* --- The CPUID instruction ---------------------------------------------- */

static struct cpuid_regs pick(const struct cpuid_regs *table, uint32_t nr, uint32_t count)
{
	return nr < count ? table[index_nospec(nr, count)] : (struct cpuid_regs){ 0, 0, 0, 0 };
}

static void cpuid_features(struct vcpu *v, uint32_t leaf, struct cpuid_regs *out)
{
	struct guest_paging paging;

	if (!vlapic_present(&v->lapic))
		out->edx &= ~FEATURE_APIC;
	if (leaf & EXT_BASE)
		return;
	cpu->get_paging(v, &paging);
	out->ebx |= v->lapic.id << 24;
	if (paging.cr4 & CR4_OSXSAVE)
		out->ecx |= FEATURE_OSXSAVE;
}

/* Levels SMT and core: one of each; the ids above leave a bit between. */
static void cpuid_topology(const struct vcpu *v, uint32_t subleaf, struct cpuid_regs *out)
{
	if (v->domain->policy->basic[0].eax < 0xb)
		return;
	*out = (struct cpuid_regs){ 0, 0, subleaf & 0xff, v->lapic.id };
	if (subleaf < 2)
		*out = (struct cpuid_regs){ 1, 1, (subleaf + 1) << 8 | subleaf, v->lapic.id };
}

static void cpuid_xstate(const struct vcpu *v, uint32_t subleaf, struct cpuid_regs *out)
{
	const struct cpu_policy *p = v->domain->policy;

	*out = pick(p->xstate, subleaf, POLICY_XSTATE_SUBLEAVES);
	if ((subleaf == 0 && p->xcr0_mask) || (subleaf == 1 && (out->eax & XSAVEC)))
		out->ebx = xstate_size(p, v->msr.xcr0, subleaf);
}

/* Subleaf 1: ns = (tsc << shift) * mul >> 32, plus the offset. */
static void cpuid_xen_time(const struct vcpu *v, uint32_t subleaf, struct cpuid_regs *out)
{
	uint64_t base, offset = port_tsc_to_ns(0 - v->tsc_offset) + v->domain->time_offset;
	uint32_t mul;
	int8_t shift;

	if (subleaf == 0) {
		/* The guest reads the real TSC; safe when it never changes its pace. */
		out->eax = v->domain->policy->ext[7].edx & FEATURE_INVTSC ? 0x2 : 0;
		out->ebx = v->domain->tsc_mode;
		out->edx = v->domain->tsc_incarnation;
		out->ecx = (uint32_t)port_tsc_khz;
	} else if (subleaf == 1) {
		port_pvclock_scale(&base, &mul, &shift);
		*out = (struct cpuid_regs){ (uint32_t)offset, (uint32_t)(offset >> 32), mul,
					    (uint32_t)(int32_t)shift };
	} else if (subleaf == 2) {
		out->eax = (uint32_t)port_tsc_khz;
	}
}

static void cpuid_xen(const struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	/* Signature; version; one hypercall page, through this MSR. */
	static const struct cpuid_regs leaves[] = {
		{ XEN_BASE + 5, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX,
		  XEN_CPUID_SIGNATURE_EDX },
		{ ABI_VERSION_MAJOR << 16 | ABI_VERSION_MINOR, 0, 0, 0 },
		{ 1, XEN_BASE, 0, 0 },
	};

	*out = pick(leaves, leaf - XEN_BASE, ARRAY_SIZE(leaves));
	if (leaf == XEN_BASE + 3)
		cpuid_xen_time(v, subleaf, out);
	else if (leaf == XEN_BASE + 4 && subleaf == 0)
		*out = (struct cpuid_regs){
			XEN_HVM_CPUID_IOMMU_MAPPINGS | XEN_HVM_CPUID_VCPU_ID_PRESENT |
			XEN_HVM_CPUID_DOMID_PRESENT | XEN_HVM_CPUID_UPCALL_VECTOR,
			v->id, v->domain->id, 0 };
	/* Leaf 5 is for paravirtual guests, the others do not exist. */
}

void policy_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_regs *out)
{
	const struct cpu_policy *p = v->domain->policy;

	*out = leaf & EXT_BASE ? pick(p->ext, leaf - EXT_BASE, POLICY_EXT_LEAVES) :
				 pick(p->basic, leaf, POLICY_BASIC_LEAVES);
	if (leaf == 0x1 || leaf == EXT_BASE + 0x1)
		cpuid_features(v, leaf, out);
	else if (leaf == 0x4)
		*out = pick(p->leaf4, subleaf, POLICY_CACHE_SUBLEAVES);
	else if (leaf == 0x7)
		*out = pick(p->leaf7, subleaf, POLICY_LEAF7_SUBLEAVES);
	else if (leaf == 0xb)
		cpuid_topology(v, subleaf, out);
	else if (leaf == 0xd)
		cpuid_xstate(v, subleaf, out);
	else if (leaf == EXT_BASE + 0x1d)
		*out = pick(p->cache_ext, subleaf, POLICY_CACHE_SUBLEAVES);
	else if (leaf == EXT_BASE + 0x1e)
		out->eax = p->ext[0].eax >= leaf ? v->lapic.id : 0;
	else if (leaf >> 28 == XEN_BASE >> 28)
		cpuid_xen(v, leaf, subleaf, out);
}
