/* SPDX-License-Identifier: MIT */
/*
 * The model-specific registers that neither cpu->msr_* nor the APIC answers.
 *
 * Owns: vcpu.msr. Everything runs on the vCPU's own CPU, without locks. The
 * guest chooses number and value; what no row of the table names is #GP.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define VENDOR_AMD 0x68747541u		/* "Auth", leaf 0 EBX */
#define VENDOR_HYGON 0x6f677948u	/* "Hygo" */

#define MSR_TSC 0x10u

#define MTRR_CAP 0x508u			/* 8 variable ranges, fixed ones, write combining */
#define MTRR_DEF_VALID 0xcffu
#define MTRR_DEF_RESET 0x806u		/* enabled, write-back */
#define MTRR_MASK_VALID 0x800u		/* the valid bit of a mask register */
#define MTRR_TYPES 0x73u		/* types 0, 1, 4, 5, 6 */
#define MCG_CAP 2u			/* two banks */
#define MISC_ENABLE 0x1801u		/* fast strings; no BTS, no PEBS */
#define HWCR_TSC_FREQ_SEL (1u << 24)	/* the TSC counts at the rate of P0 */
#define DE_CFG 2u			/* LFENCE serialises */

enum vendor { ANY, AMD, INTEL };

struct access {
	const struct row *row;
	uint64_t *slot;		/* of plain storage, else NULL */
	uint32_t nr;		/* of the MSR in its row */
	uint64_t val;		/* to write */
};

struct row {
	uint32_t first, last;
	bool (*write)(struct vcpu *v, struct access *a);	/* false: #GP; NULL: always */
	uint64_t value;		/* of constants */
	uint16_t slot;		/* of plain storage: where in struct vcpu */
	enum vendor vendor;
};

static uint64_t current_value(const struct access *a)
{
	return a->slot ? *a->slot : a->row->value;
}

/* --- Kinds of writes ---------------------------------------------------- */

/* What is there already may be written. */
static bool write_same(struct vcpu *v, struct access *a)
{
	return a->val == current_value(a);
}

/* Kept when there is a place for it, else dropped. */
static bool write_any(struct vcpu *v, struct access *a)
{
	if (a->slot)
		*a->slot = a->val;
	return true;
}

/* The counter itself, or its adjustment: both move by the same. */
static bool write_tsc(struct vcpu *v, struct access *a)
{
	uint64_t delta = a->val - (a->slot ? *a->slot : port_tsc() + v->tsc_offset);

	v->tsc_offset += delta;
	v->msr.tsc_adjust += delta;
	cpu->set_tsc_offset(v, v->tsc_offset);
	vlapic_tsc_changed(v);
	pvclock_update(v);
	return true;
}

/* --- Memory types: stored for the guest to read; nested paging ignores them --- */

static bool valid_type(uint64_t type)
{
	return type < 8 && (MTRR_TYPES >> type & 1);
}

static bool write_mtrr_def(struct vcpu *v, struct access *a)
{
	return !(a->val & ~(uint64_t)MTRR_DEF_VALID) && valid_type(a->val & 0xff) &&
	       write_any(v, a);
}

static bool write_mtrr_fixed(struct vcpu *v, struct access *a)
{
	for (unsigned int i = 0; i < 64; i += 8)
		if (!valid_type(a->val >> i & 0xff))
			return false;
	return write_any(v, a);
}

/* Pairs of base (with the type) and mask (with the valid bit). */
static bool write_mtrr_var(struct vcpu *v, struct access *a)
{
	uint64_t address = ((1ULL << v->domain->policy->maxphysaddr) - 1) & PAGE_MASK;
	bool is_mask = a->nr & 1;

	return !(a->val & ~(address | (is_mask ? MTRR_MASK_VALID : 0xff))) &&
	       (is_mask || valid_type(a->val & 0xff)) && write_any(v, a);
}

static bool write_hypercall_page(struct vcpu *v, struct access *a)
{
	return hypercall_page_write(v->domain, a->val) == 0;
}

/* --- The table ------------------------------------------------------------ */

#define CONSTS(first, last, value, write, vendor) { first, last, write, value, 0, vendor }
#define CONST(nr, value, write, vendor) CONSTS(nr, nr, value, write, vendor)
#define SLOTS(first, last, field, write, vendor) \
	{ first, last, write, 0, offsetof(struct vcpu, msr.field), vendor }
#define SLOT(nr, field, write, vendor) SLOTS(nr, nr, field, write, vendor)

/* Sorted, disjoint. */
static const struct row rows[] = {
	/* TSC, which msr_read() knows better; PLATFORM_ID, FEATURE_CONTROL: locked. */
	CONST(MSR_TSC, 0, write_tsc, ANY), CONST(0x17, 0, NULL, INTEL), CONST(0x3a, 1, NULL, INTEL),
	SLOT(0x3b, tsc_adjust, write_tsc, ANY),
	/* Microcode level, PLATFORM_INFO; MISC_FEATURES_ENABLES; MCG_STATUS. */
	CONST(0x8b, 0, write_same, ANY), CONST(0xce, 0, NULL, INTEL),
	CONST(0xfe, MTRR_CAP, NULL, ANY), CONST(0x140, 0, write_same, INTEL),
	CONST(0x179, MCG_CAP, NULL, ANY), CONST(0x17a, 0, write_same, ANY),
	/* PERF_STATUS, PERF_CTL, THERM_STATUS; DEBUGCTL. */
	CONSTS(0x198, 0x199, 0, NULL, INTEL), CONST(0x19c, 0, NULL, INTEL),
	CONST(0x1a0, MISC_ENABLE, write_any, INTEL), CONST(0x1d9, 0, write_same, ANY),
	SLOTS(0x200, 0x20f, mtrr_var, write_mtrr_var, ANY),
	SLOT(0x250, mtrr_fixed[0], write_mtrr_fixed, ANY),
	SLOTS(0x258, 0x259, mtrr_fixed[1], write_mtrr_fixed, ANY),
	SLOTS(0x268, 0x26f, mtrr_fixed[3], write_mtrr_fixed, ANY),
	SLOT(0x2ff, mtrr_def, write_mtrr_def, ANY),
	/* Two machine check banks that never report anything: control, then three more. */
	SLOT(0x400, mc_ctl[0], write_any, ANY), CONSTS(0x401, 0x403, 0, write_any, ANY),
	SLOT(0x404, mc_ctl[1], write_any, ANY), CONSTS(0x405, 0x407, 0, write_any, ANY),
	CONST(0x40000000, 0, write_hypercall_page, ANY),
	/* Performance counters, SYSCFG; HWCR, NB_CFG; interrupt pending message, DE_CFG. */
	CONSTS(0xc0010000, 0xc0010007, 0, write_any, AMD), CONST(0xc0010010, 0, write_same, AMD),
	SLOT(0xc0010015, hwcr, write_same, AMD), CONST(0xc001001f, 0, write_same, AMD),
	CONST(0xc0010055, 0, write_same, AMD), CONST(0xc0011029, DE_CFG, write_same, AMD),
};

static bool vendor_fits(const struct vcpu *v, enum vendor vendor)
{
	uint32_t ebx = v->domain->policy->basic[0].ebx;

	return vendor == ANY || (ebx == VENDOR_AMD || ebx == VENDOR_HYGON) == (vendor == AMD);
}

static bool find(struct vcpu *v, uint32_t msr, struct access *a)
{
	size_t low = 0, high = ARRAY_SIZE(rows);

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (msr > rows[mid].last)
			low = mid + 1;
		else
			high = mid;
	}
	a->row = &rows[index_nospec(low, ARRAY_SIZE(rows))];
	a->nr = msr - a->row->first;
	a->slot = a->row->slot ? (uint64_t *)(void *)((char *)v + a->row->slot) +
			index_nospec(a->nr, a->row->last - a->row->first + 1) : NULL;
	return a->nr <= a->row->last - a->row->first && vendor_fits(v, a->row->vendor);
}

bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct access a;

	if (!find(v, msr, &a))
		return false;
	*val = msr == MSR_TSC ? port_tsc() + v->tsc_offset : current_value(&a);
	return true;
}

bool msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct access a;

	if (!find(v, msr, &a) || !a.row->write)
		return false;
	a.val = val;
	return a.row->write(v, &a);
}

void msr_vcpu_init(struct vcpu *v)
{
	memset(&v->msr, 0, sizeof(v->msr));
	v->msr.mtrr_def = MTRR_DEF_RESET;
	v->msr.xcr0 = 1;
	if (v->domain->policy->ext[7].edx & FEATURE_INVTSC)
		v->msr.hwcr = HWCR_TSC_FREQ_SEL;
}
