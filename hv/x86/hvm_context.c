/* SPDX-License-Identifier: MIT */
/*
 * The state of a domain's vCPUs as the published stream of records: for
 * building, saving, restoring. What is in guests' memory or given to them by
 * hypercall is not part of it: the guest sets that up again.
 *
 * A blob is checked as a whole before anything of it is used. The domain is
 * paused meanwhile, so its vCPUs are loaded nowhere and nothing here takes a lock.
 */
#include "hospes/hvm_context.h"

#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/log.h"

#define CR0_ET 0x10u
#define RFLAGS_VALID 0x003f7fd5u
#define MXCSR_RESET 0x1f80u
#define MXCSR_VALID 0xffffu
#define MXCSR_MM (1u << 17)		/* with FEATURE_MISALIGNED */
#define FEATURE_MISALIGNED (1u << 7)	/* leaf 0x80000001 ECX */
#define MSR_PAT 0x277u
#define MSR_MTRR_CAP 0xfeu
#define MSR_MTRR_VAR 0x200u
#define MSR_MTRR_DEF 0x2ffu
#define MTRR_CAP_COUNT 0xffu
#define SCRATCH 4096u			/* the longest record; so much XSAVE never takes */

/* The parts of an XSAVE area. */
#define XSAVE_LEGACY 512u
#define XSAVE_MIN 576u
#define XSAVE_FPU 3u

struct xsave_area {
	uint8_t fpu[24];
	uint32_t mxcsr;
	uint8_t pad[XSAVE_LEGACY - 28];
	uint64_t present, compacted, reserved[6];
};
_Static_assert(sizeof(struct xsave_area) == XSAVE_MIN, "XSAVE header");

/* One save, or one pass over a blob to load. */
struct transfer {
	struct domain *domain;
	uint64_t tsc;		/* the host's: one moment for all vCPUs */
	bool commit;		/* what was checked takes effect now */
	uint64_t up[MAX_VCPUS / 64];	/* which vCPUs have a CPU record */
};

/* --- FPU ------------------------------------------------------------------ */

static struct xsave_area *xsave_area(struct vcpu *v)
{
	size_t size;

	return (struct xsave_area *)(void *)cpu->xsave_area(v, &size);
}

/* XRSTOR would fault on other bits. */
static bool mxcsr_valid(const struct vcpu *v, const void *fpu)
{
	bool mm = v->domain->policy->ext[1].ecx & FEATURE_MISALIGNED;

	return !(((const struct xsave_area *)fpu)->mxcsr & ~(MXCSR_VALID | (mm ? MXCSR_MM : 0)));
}

/* False: it is in its initial state, @fpu stays as it is. */
static bool fpu_save(struct vcpu *v, void *fpu)
{
	const struct xsave_area *x = xsave_area(v);

	if (x->present & XSAVE_FPU)
		memcpy(fpu, x, XSAVE_LEGACY);
	return x->present & XSAVE_FPU;
}

/* NULL: initial. All other components are initial then. */
static void fpu_load(struct vcpu *v, const void *fpu)
{
	struct xsave_area *x = xsave_area(v);

	memset(x, 0, sizeof(*x));
	x->mxcsr = MXCSR_RESET;
	if (!fpu)
		return;
	memcpy(x, fpu, XSAVE_LEGACY);
	x->present = XSAVE_FPU;
}

/* --- CPU ------------------------------------------------------------------ */

#define GPRS(F, c, r) \
	F((c)->rax, (r)->gpr[GPR_RAX]) F((c)->rbx, (r)->gpr[GPR_RBX]) \
	F((c)->rcx, (r)->gpr[GPR_RCX]) F((c)->rdx, (r)->gpr[GPR_RDX]) \
	F((c)->rsp, (r)->gpr[GPR_RSP]) F((c)->rbp, (r)->gpr[GPR_RBP]) \
	F((c)->rsi, (r)->gpr[GPR_RSI]) F((c)->rdi, (r)->gpr[GPR_RDI]) \
	F((c)->r8, (r)->gpr[GPR_R8]) F((c)->r9, (r)->gpr[GPR_R9]) \
	F((c)->r10, (r)->gpr[GPR_R10]) F((c)->r11, (r)->gpr[GPR_R11]) \
	F((c)->r12, (r)->gpr[GPR_R12]) F((c)->r13, (r)->gpr[GPR_R13]) \
	F((c)->r14, (r)->gpr[GPR_R14]) F((c)->r15, (r)->gpr[GPR_R15]) \
	F((c)->rip, (r)->rip) F((c)->rflags, (r)->rflags)

#define SEGMENT(F, c, s, name, nr) \
	F((c)->name##_sel, (s)->seg[nr].sel) F((c)->name##_arbytes, (s)->seg[nr].attr) \
	TABLE(F, c, s, name, nr)
#define TABLE(F, c, s, name, nr) \
	F((c)->name##_limit, (s)->seg[nr].limit) F((c)->name##_base, (s)->seg[nr].base)

#define SYSTEM(F, c, s) \
	F((c)->cr0, (s)->cr0) F((c)->cr2, (s)->cr2) F((c)->cr3, (s)->cr3) F((c)->cr4, (s)->cr4) \
	F((c)->dr0, (s)->dr[0]) F((c)->dr1, (s)->dr[1]) F((c)->dr2, (s)->dr[2]) \
	F((c)->dr3, (s)->dr[3]) F((c)->dr6, (s)->dr6) F((c)->dr7, (s)->dr7) \
	SEGMENT(F, c, s, cs, SEG_CS) SEGMENT(F, c, s, ds, SEG_DS) SEGMENT(F, c, s, es, SEG_ES) \
	SEGMENT(F, c, s, fs, SEG_FS) SEGMENT(F, c, s, gs, SEG_GS) SEGMENT(F, c, s, ss, SEG_SS) \
	SEGMENT(F, c, s, tr, SEG_TR) SEGMENT(F, c, s, ldtr, SEG_LDTR) \
	TABLE(F, c, s, idtr, SEG_IDTR) TABLE(F, c, s, gdtr, SEG_GDTR) \
	F((c)->sysenter_cs, (s)->sysenter_cs) F((c)->sysenter_esp, (s)->sysenter_esp) \
	F((c)->sysenter_eip, (s)->sysenter_eip) F((c)->shadow_gs, (s)->kernel_gs_base) \
	F((c)->msr_lstar, (s)->lstar) F((c)->msr_star, (s)->star) F((c)->msr_cstar, (s)->cstar) \
	F((c)->msr_syscall_mask, (s)->sfmask) F((c)->msr_efer, (s)->efer) \
	F((c)->pending_event, (s)->event) F((c)->error_code, (s)->event_error)

#define SAVE(theirs, ours) theirs = ours;
#define LOAD(theirs, ours) ours = (__typeof__(ours))(theirs);

static size_t save_cpu(const struct transfer *t, struct vcpu *v, void *body)
{
	struct hvm_hw_cpu *c = body;
	struct guest_system s;

	if (atomic_load(&v->pause_flags) & PAUSE_DOWN)
		return 0;
	cpu->get_system(v, &s);
	GPRS(SAVE, c, &v->regs)
	SYSTEM(SAVE, c, &s)
	/* There is no field for the privilege level, and SYSRET leaves it in SS alone. */
	c->ss_arbytes = (c->ss_arbytes & ~0x60u) | (uint32_t)s.cpl << 5;
	c->msr_tsc_aux = v->msr.tsc_aux;
	c->tsc = t->tsc + v->tsc_offset;
	c->flags = fpu_save(v, c->fpu_regs) ? XEN_X86_FPU_INITIALISED : 0;
	return sizeof(*c);
}

/* Older streams have attributes as VT-x does. */
static void fold_attributes(struct guest_segment *seg)
{
	for (unsigned int i = 0; i < SEG_COUNT; i++, seg++) {
		if (seg->attr & 0xf000)
			seg->attr = (uint16_t)((seg->attr & 0xff) | (seg->attr >> 4 & 0xf00));
	}
}

static bool cpu_valid(const struct vcpu *v, const struct hvm_hw_cpu *c,
		      const struct guest_system *s)
{
	const struct cpu_policy *p = v->domain->policy;
	bool fpu = c->flags & XEN_X86_FPU_INITIALISED;

	return !c->pad0 && !(c->flags & ~XEN_X86_FPU_INITIALISED) && (s->cr0 & CR0_ET) &&
	       !(s->cr4 & ~p->cr4_valid) && !(s->efer & ~p->efer_valid) &&
	       !(s->cr3 >> p->maxphysaddr) && !(c->msr_tsc_aux >> 32) &&
	       (!fpu || mxcsr_valid(v, c->fpu_regs)) && cpu->system_valid(s);
}

static int load_cpu(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	const struct hvm_hw_cpu *c = body;
	struct guest_system s;
	struct guest_regs r;

	cpu->get_system(v, &s);		/* for what is not in here */
	GPRS(LOAD, c, &r)
	SYSTEM(LOAD, c, &s)
	r.rflags = (r.rflags & RFLAGS_VALID) | RFLAGS_RESET;
	fold_attributes(s.seg);
	s.cpl = (uint8_t)(s.seg[SEG_SS].attr >> 5 & 3);
	if (!(s.event & EVENT_VALID))
		s.event = 0;
	if (!cpu_valid(v, c, &s))
		return -XEN_EINVAL;
	if (!t->commit)
		return 0;
	if (cpu->set_system(v, &s))
		return -XEN_EINVAL;
	v->regs = r;
	fpu_load(v, c->flags ? c->fpu_regs : NULL);
	v->msr.xcr0 = XCR0_X87;
	v->msr.tsc_aux = c->msr_tsc_aux;
	v->tsc_offset = c->tsc - t->tsc;
	atomic_store(&v->nmi_pending, false);
	atomic_store(&v->startup, STARTUP_NONE);
	v->initialised = true;
	t->up[v->id / 64] |= 1ULL << v->id % 64;
	return 0;
}

/* --- Extended state --------------------------------------------------------- */

static size_t save_xsave(const struct transfer *t, struct vcpu *v, void *body)
{
	const struct cpu_policy *p = v->domain->policy;
	uint64_t mask = p->xcr0_mask, present = xsave_area(v)->present & mask;
	struct hvm_hw_cpu_xsave *rec = body;
	size_t size;
	const uint8_t *area = cpu->xsave_area(v, &size);

	size = MIN(size, p->xstate[0].ecx);
	if (size < XSAVE_MIN || (atomic_load(&v->pause_flags) & PAUSE_DOWN) ||
	    (v->msr.xcr0 == XCR0_X87 && !(present & ~(uint64_t)XSAVE_FPU)))
		return 0;		/* all there is stands in the CPU record */
	memcpy(&rec->save_area, area, size);
	rec->save_area.xsave_hdr.xstate_bv = present;
	rec->xfeature_mask = mask;
	rec->xcr0 = v->msr.xcr0 & mask;
	rec->xcr0_accum = rec->xcr0 | present;
	return offsetof(struct hvm_hw_cpu_xsave, save_area) + size;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	while (len && !p[len - 1])
		len--;
	return !len;
}

static int load_xsave(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	const struct hvm_hw_cpu_xsave *rec = body;
	const struct xsave_area *in = (const void *)&rec->save_area;
	const size_t head = offsetof(struct hvm_hw_cpu_xsave, save_area);
	uint64_t mask = v->domain->policy->xcr0_mask;
	size_t size, have;
	uint8_t *area = cpu->xsave_area(v, &size);

	if (len < head + XSAVE_MIN)
		return -XEN_EINVAL;
	have = len - head;
	if (!policy_xcr0_valid(v->domain->policy, rec->xcr0) ||
	    (in->present & ~(mask | XSAVE_FPU)) || in->compacted ||
	    !all_zero((const uint8_t *)in->reserved, sizeof(in->reserved)) || !mxcsr_valid(v, in))
		return -XEN_EINVAL;
	/* The sender's CPU may have more, as long as the guest did not use it. */
	if (have > size && !all_zero((const uint8_t *)in + size, have - size))
		return -XEN_EOPNOTSUPP;
	if (t->commit) {
		memset(area, 0, size);
		memcpy(area, in, MIN(have, size));
		v->msr.xcr0 = rec->xcr0;
	}
	return 0;
}

/* --- MSRs ------------------------------------------------------------------- */

static bool read_msr(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	return cpu->msr_read(v, msr, val) || msr_read(v, msr, val);
}

static bool write_msr(struct vcpu *v, uint32_t msr, uint64_t val)
{
	return cpu->msr_write(v, msr, val) || msr_write(v, msr, val);
}

/* Writes it, or finds out whether that can be done. All are plain storage. */
static bool load_msr(const struct transfer *t, struct vcpu *v, uint32_t msr, uint64_t val)
{
	uint64_t old;

	return read_msr(v, msr, &old) && write_msr(v, msr, val) &&
	       (t->commit || write_msr(v, msr, old));
}

static size_t save_mtrr(const struct transfer *t, struct vcpu *v, void *body)
{
	struct hvm_hw_mtrr *m = body;

	(void)!cpu->msr_read(v, MSR_PAT, &m->msr_pat_cr);
	memcpy(m->msr_mtrr_var, v->msr.mtrr_var, sizeof(m->msr_mtrr_var));
	memcpy(m->msr_mtrr_fixed, v->msr.mtrr_fixed, sizeof(m->msr_mtrr_fixed));
	(void)!msr_read(v, MSR_MTRR_CAP, &m->msr_mtrr_cap);
	m->msr_mtrr_def_type = v->msr.mtrr_def;
	return sizeof(*m);
}

static int load_mtrr(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	static const uint16_t fixed[NUM_FIXED_MSR] = {
		0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f };
	const struct hvm_hw_mtrr *m = body;
	bool ok = (m->msr_mtrr_cap & MTRR_CAP_COUNT) <= MTRR_VCNT &&
		  load_msr(t, v, MSR_PAT, m->msr_pat_cr) &&
		  load_msr(t, v, MSR_MTRR_DEF, m->msr_mtrr_def_type);

	for (unsigned int i = 0; i < NUM_FIXED_MSR && ok; i++)
		ok = load_msr(t, v, fixed[i], m->msr_mtrr_fixed[i]);
	for (unsigned int i = 0; i < 2 * MTRR_VCNT && ok; i++)
		ok = load_msr(t, v, MSR_MTRR_VAR + i, m->msr_mtrr_var[i]);
	return ok ? 0 : -XEN_EINVAL;
}

/* What has no record of its own: SPEC_CTRL, control of machine check banks, VIRT_SPEC_CTRL. */
static const uint32_t other_msrs[] = { 0x48, 0x400, 0x404, 0xc001011f };

static size_t save_msrs(const struct transfer *t, struct vcpu *v, void *body)
{
	struct hvm_msr *m = body;
	uint64_t val;

	for (unsigned int i = 0; i < ARRAY_SIZE(other_msrs); i++) {
		if (read_msr(v, other_msrs[i], &val) && val)
			m->msr[m->count++] = (struct hvm_one_msr){ other_msrs[i], 0, val };
	}
	return m->count ? offsetof(struct hvm_msr, msr) + m->count * sizeof(m->msr[0]) : 0;
}

static int load_msrs(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	const struct hvm_msr *m = body;

	if (len < offsetof(struct hvm_msr, msr) ||
	    (len - offsetof(struct hvm_msr, msr)) / sizeof(m->msr[0]) != m->count ||
	    (len - offsetof(struct hvm_msr, msr)) % sizeof(m->msr[0]))
		return -XEN_EINVAL;
	for (uint32_t i = 0; i < m->count; i++) {
		unsigned int nr = 0;

		while (nr < ARRAY_SIZE(other_msrs) && other_msrs[nr] != m->msr[i].index)
			nr++;
		if (m->msr[i]._rsvd)
			return -XEN_EOPNOTSUPP;
		if (nr == ARRAY_SIZE(other_msrs))
			return -XEN_ENXIO;
		if (!load_msr(t, v, m->msr[i].index, m->msr[i].val))
			return -XEN_EINVAL;
	}
	return 0;
}

static size_t save_tsc_adjust(const struct transfer *t, struct vcpu *v, void *body)
{
	((struct hvm_tsc_adjust *)body)->tsc_adjust = v->msr.tsc_adjust;
	return sizeof(struct hvm_tsc_adjust);
}

static int load_tsc_adjust(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	if (t->commit)
		v->msr.tsc_adjust = ((const struct hvm_tsc_adjust *)body)->tsc_adjust;
	return 0;
}

static size_t save_vmce(const struct transfer *t, struct vcpu *v, void *body)
{
	return sizeof(struct hvm_vmce_vcpu);	/* no more than two banks that are silent */
}

static int load_vmce(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	return ((const struct hvm_vmce_vcpu *)body)->caps ? -XEN_EPERM : 0;
}

/* --- Local APIC, and what a domain without devices has none of ----------------- */

static size_t save_lapic(const struct transfer *t, struct vcpu *v, void *body)
{
	vlapic_save(v, body);
	return sizeof(struct hvm_hw_lapic);
}

static int load_lapic(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	return vlapic_load(v, body, t->commit);
}

static size_t save_lapic_regs(const struct transfer *t, struct vcpu *v, void *body)
{
	vlapic_save_regs(v, body);
	return sizeof(struct hvm_hw_lapic_regs);
}

static int load_lapic_regs(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	if (t->commit)
		vlapic_load_regs(v, body);
	return 0;
}

static size_t save_irqs(const struct transfer *t, struct vcpu *v, void *body)
{
	return sizeof(struct hvm_hw_isa_irqs);
}

static size_t save_pci_irqs(const struct transfer *t, struct vcpu *v, void *body)
{
	return sizeof(struct hvm_hw_pci_irqs);
}

static int load_nothing(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	return 0;
}

/* --- Streams ------------------------------------------------------------------ */

static size_t save_header(const struct transfer *t, struct vcpu *v, void *body)
{
	*(struct hvm_save_header *)body = (struct hvm_save_header){
		.magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION,
		.cpuid = t->domain->policy->basic[1].eax, .gtsc_khz = (uint32_t)port_tsc_khz };
	return sizeof(struct hvm_save_header);
}

static int load_header(struct transfer *t, struct vcpu *v, const void *body, size_t len)
{
	const struct hvm_save_header *h = body;

	return h->magic == HVM_FILE_MAGIC && h->version == HVM_FILE_VERSION ? 0 : -XEN_EINVAL;
}

#define SIZE_ANY UINT16_MAX	/* up to SCRATCH bytes */

static const struct record {
	uint16_t code;
	uint16_t size;
	bool global;		/* one for all vCPUs, who gets the first */
	bool extends;		/* a shorter one goes on with zeros */
	/* Fills @body, all zeros, for @v, who is paused; returns its length, 0: there is none. */
	size_t (*save)(const struct transfer *t, struct vcpu *v, void *body);
	/* Checks and, with t->commit, uses @body; zeros go on up to its size unless that is any. */
	int (*load)(struct transfer *t, struct vcpu *v, const void *body, size_t len);
} records[] = {
#define RECORD(name, global, extends, save, load) \
	{ HVM_SAVE_CODE(name), HVM_SAVE_LENGTH(name), global, extends, save, load }
	RECORD(HEADER, true, false, save_header, load_header),
	RECORD(CPU, false, true, save_cpu, load_cpu),
	RECORD(LAPIC, false, true, save_lapic, load_lapic),
	RECORD(LAPIC_REGS, false, false, save_lapic_regs, load_lapic_regs),
	RECORD(PCI_IRQ, true, false, save_pci_irqs, load_nothing),
	RECORD(ISA_IRQ, true, false, save_irqs, load_nothing),
	RECORD(PCI_LINK, true, false, save_irqs, load_nothing),
	RECORD(MTRR, false, false, save_mtrr, load_mtrr),
	{ CPU_XSAVE_CODE, SIZE_ANY, false, false, save_xsave, load_xsave },
	RECORD(VMCE_VCPU, false, true, save_vmce, load_vmce),
	RECORD(TSC_ADJUST, false, false, save_tsc_adjust, load_tsc_adjust),
	{ CPU_MSR_CODE, SIZE_ANY, false, false, save_msrs, load_msrs },
};
_Static_assert(sizeof(struct hvm_hw_isa_irqs) == sizeof(struct hvm_hw_pci_link), "one function");

/* Nothing in it changes. */
static size_t max_length(struct vcpu *v, const struct record *r)
{
	size_t area;

	if (r->size != SIZE_ANY)
		return r->size;
	if (r->code == CPU_MSR_CODE)
		return offsetof(struct hvm_msr, msr) + ARRAY_SIZE(other_msrs) *
		       sizeof(struct hvm_one_msr);
	cpu->xsave_area(v, &area);
	return offsetof(struct hvm_hw_cpu_xsave, save_area) + area;
}

size_t hvm_context_max(const struct domain *d)
{
	size_t size = sizeof(struct hvm_save_descriptor);	/* the end */

	for (unsigned int i = 0; i < ARRAY_SIZE(records); i++)
		size += (records[i].global ? 1 : d->nr_vcpus) *
			(sizeof(struct hvm_save_descriptor) + max_length(d->vcpus[0], &records[i]));
	return size;
}

size_t hvm_context_save(struct domain *d, uint8_t *buf)
{
	const struct transfer t = { .domain = d, .tsc = domain_save_tsc(d) };
	struct hvm_save_descriptor *desc = (void *)buf;

	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		vcpu_start(d->vcpus[i]);	/* a start-up IPI may wait to be obeyed */
	for (unsigned int i = 0; i < ARRAY_SIZE(records); i++) {
		unsigned int nr = records[i].global ? 1 : d->nr_vcpus;

		for (unsigned int id = 0; id < nr; id++) {
			size_t len = records[i].save(&t, d->vcpus[id], desc + 1);

			if (!len)
				continue;
			*desc = (struct hvm_save_descriptor){ records[i].code, (uint16_t)id,
							      (uint32_t)len };
			desc = (void *)((uint8_t *)(desc + 1) + len);
		}
	}
	/* The end is a descriptor of zeros. */
	return (size_t)((uint8_t *)(desc + 1) - buf);
}

/* One record: @body is @len bytes of the blob. */
static int load_record(struct transfer *t, const struct hvm_save_descriptor *desc,
		       const uint8_t *body, uint8_t *scratch)
{
	const struct record *r = records;
	struct vcpu *v = domain_vcpu(t->domain, desc->instance);
	size_t full;

	while (r < &records[ARRAY_SIZE(records)] && r->code != desc->typecode)
		r++;
	if (r == &records[ARRAY_SIZE(records)] || !v)
		return -XEN_EINVAL;
	full = r->size == SIZE_ANY ? SCRATCH : r->size;
	if (desc->length > full || (r->size != SIZE_ANY && !r->extends && desc->length < full))
		return -XEN_EINVAL;
	memcpy(scratch, body, desc->length);
	/* One of any size looks at no more than there is, and a blob can have many of them. */
	if (r->size != SIZE_ANY)
		memset(scratch + desc->length, 0, full - desc->length);
	return r->load(t, v, scratch, desc->length);
}

/* All records up to the end, which must come. */
static int load_pass(struct transfer *t, const uint8_t *buf, size_t size, uint8_t *scratch)
{
	struct hvm_save_descriptor desc;
	int rc = 0;

	for (size_t at = 0; !rc; at += desc.length) {
		if (!range_within(at, sizeof(desc), size))
			return -XEN_ENODATA;
		memcpy(&desc, buf + at, sizeof(desc));
		if (!at && desc.typecode != HVM_SAVE_CODE(HEADER))
			return -XEN_ENODATA;
		if (desc.typecode == HVM_SAVE_CODE(END))
			return 0;
		at += sizeof(desc);
		if (!range_within(at, desc.length, size))
			return -XEN_ENODATA;
		rc = load_record(t, &desc, buf + at, scratch);
	}
	return rc;
}

/* What follows from all that was loaded. */
static void settle(const struct transfer *t)
{
	struct domain *d = t->domain;

	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		struct vcpu *v = d->vcpus[i];

		/* One that is yet to begin does so with the time of the first. */
		if (!v->initialised)
			v->tsc_offset = d->vcpus[0]->tsc_offset;
		cpu->set_tsc_offset(v, v->tsc_offset);
		vlapic_tsc_changed(v);
		if (t->up[i / 64] >> i % 64 & 1)
			vcpu_pause_clear(v, PAUSE_DOWN | PAUSE_BLOCKED | PAUSE_POLL);
	}
	/* Its system time and its TSC begin at the same moment, as they ended. */
	spin_lock(&d->lock);
	if (d->has_run)
		d->time_brought = 0;
	domain_set_time(d, t->tsc);
	spin_unlock(&d->lock);
}

int hvm_context_load(struct domain *d, const uint8_t *buf, size_t size)
{
	struct transfer t = { .domain = d, .tsc = port_tsc() };
	uint8_t *scratch = hv_alloc(SCRATCH);
	int rc;

	if (!scratch)
		return -XEN_ENOMEM;
	rc = load_pass(&t, buf, size, scratch);
	if (!rc) {
		for (unsigned int i = 0; i < d->nr_vcpus; i++)
			vcpu_pause_set(d->vcpus[i], PAUSE_DOWN);
		t.commit = true;
		rc = load_pass(&t, buf, size, scratch);
		settle(&t);
	}
	hv_free(scratch);
	return rc;
}

/* --- domctl --------------------------------------------------------------------- */

int64_t domctl_gethvmcontext(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
	gva_t to = guest_handle(c->buffer);
	size_t size = hvm_context_max(d);
	uint8_t *buf;
	int64_t rc = 0;

	if (domain_is_dying(d))
		return -XEN_EINVAL;
	if (!to) {
		c->size = (uint32_t)size;
		return 0;
	}
	if (c->size < size)
		return -XEN_ENOSPC;
	buf = hv_alloc(size);
	if (!buf)
		return -XEN_ENOMEM;
	domain_pause(d);
	c->size = (uint32_t)hvm_context_save(d, buf);
	domain_unpause(d);
	if (copy_to_guest(v, to, buf, c->size))
		rc = -XEN_EFAULT;
	hv_free(buf);
	return rc;
}

static const struct record *find_record(uint32_t code)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(records); i++)
		if (records[i].code == code && code != HVM_SAVE_CODE(HEADER))
			return &records[i];
	return NULL;
}

int64_t domctl_gethvmcontext_partial(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_hvmcontext_partial *c = &op->u.hvmcontext_partial;
	const struct record *r = find_record(c->type);
	struct transfer t = { .domain = d };
	struct vcpu *target = domain_vcpu(d, r && r->global ? 0 : c->instance);
	gva_t to = guest_handle(c->buffer);
	uint8_t *buf;
	int64_t rc = 0;
	size_t len;

	if (!r || domain_is_dying(d))
		return -XEN_EINVAL;
	if (!target || (r->global && c->instance))
		return -XEN_ENOENT;
	buf = hv_alloc(SCRATCH);
	if (!buf)
		return -XEN_ENOMEM;
	domain_pause(d);
	t.tsc = domain_save_tsc(d);
	len = r->save(&t, target, buf);
	domain_unpause(d);
	if (!len)
		rc = -XEN_ENOENT;
	else if (to && c->bufsz < len)
		rc = -XEN_ENOBUFS;
	else if (to && copy_to_guest(v, to, buf, len))
		rc = -XEN_EFAULT;
	c->bufsz = len;
	hv_free(buf);
	return rc;
}

int64_t domctl_sethvmcontext(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	const struct xen_domctl_hvmcontext *c = &op->u.hvmcontext;
	uint8_t *buf;
	int64_t rc = -XEN_EFAULT;

	if (domain_is_dying(d))
		return -XEN_EINVAL;
	if (c->size < sizeof(struct hvm_save_descriptor))
		return -XEN_ENODATA;
	buf = hv_alloc(c->size);
	if (!buf)
		return -XEN_ENOMEM;
	if (!copy_from_guest(v, buf, guest_handle(c->buffer), c->size)) {
		domain_pause(d);
		rc = hvm_context_load(d, buf, c->size);
		domain_unpause(d);
	}
	hv_free(buf);
	return rc;
}

/* Registers as the other format has them, of which a guest in hardware has few. */
static void context_out(struct vcpu *v, struct vcpu_guest_context *c)
{
	struct guest_system s;

	cpu->get_system(v, &s);
	c->flags = VGCF_in_kernel | (fpu_save(v, &c->fpu_ctxt) ? VGCF_i387_valid : 0) |
		   (atomic_load(&v->pause_flags) & PAUSE_DOWN ? 0 : VGCF_online);
	GPRS(SAVE, &c->user_regs, &v->regs)
	c->user_regs.cs = s.seg[SEG_CS].sel;
	c->user_regs.ds = s.seg[SEG_DS].sel;
	c->user_regs.es = s.seg[SEG_ES].sel;
	c->user_regs.fs = s.seg[SEG_FS].sel;
	c->user_regs.gs = s.seg[SEG_GS].sel;
	c->user_regs.ss = s.seg[SEG_SS].sel;
	c->ctrlreg[0] = s.cr0;
	c->ctrlreg[2] = s.cr2;
	c->ctrlreg[3] = s.cr3;
	c->ctrlreg[4] = s.cr4;
	memcpy(c->debugreg, s.dr, sizeof(s.dr));
	c->debugreg[6] = s.dr6;
	c->debugreg[7] = s.dr7;
	c->fs_base = s.seg[SEG_FS].base;
	c->gs_base_kernel = s.cpl ? s.kernel_gs_base : s.seg[SEG_GS].base;
	c->gs_base_user = s.cpl ? s.seg[SEG_GS].base : s.kernel_gs_base;
}

/* General and debug registers, the FPU, online or not: the rest has no effect, as published. */
static int context_in(struct vcpu *v, const struct vcpu_guest_context *c)
{
	bool fpu = c->flags & VGCF_i387_valid;
	struct guest_system s;
	struct guest_regs r;

	cpu->get_system(v, &s);
	memcpy(s.dr, c->debugreg, sizeof(s.dr));
	s.dr6 = c->debugreg[6];
	s.dr7 = c->debugreg[7];
	GPRS(LOAD, &c->user_regs, &r)
	r.rflags = (r.rflags & RFLAGS_VALID) | RFLAGS_RESET;
	if ((fpu && !mxcsr_valid(v, &c->fpu_ctxt)) || cpu->set_system(v, &s))
		return -XEN_EINVAL;
	v->regs = r;
	if (fpu) {
		struct xsave_area *x = xsave_area(v);

		memcpy(x, &c->fpu_ctxt, XSAVE_LEGACY);
		x->present |= XSAVE_FPU;
	}
	if (c->flags & VGCF_online)
		vcpu_pause_clear(v, PAUSE_DOWN);
	else
		vcpu_pause_set(v, PAUSE_DOWN);
	return 0;
}

int64_t domctl_getvcpucontext(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct vcpu *target = domain_vcpu(d, op->u.vcpucontext.vcpu);
	struct vcpu_guest_context *c;
	int64_t rc = -XEN_EFAULT;

	if (!target)
		return -XEN_EINVAL;
	if (!target->initialised)
		return -XEN_ENODATA;
	c = hv_alloc(sizeof(*c));
	if (!c)
		return -XEN_ENOMEM;
	domain_pause(d);
	context_out(target, c);
	domain_unpause(d);
	if (!copy_to_guest(v, guest_handle(op->u.vcpucontext.ctxt), c, sizeof(*c)))
		rc = 0;
	hv_free(c);
	return rc;
}

int64_t domctl_setvcpucontext(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct vcpu *target = domain_vcpu(d, op->u.vcpucontext.vcpu);
	struct vcpu_guest_context *c;
	int64_t rc = -XEN_EFAULT;

	if (!target || !target->initialised)
		return -XEN_EINVAL;
	c = hv_alloc(sizeof(*c));
	if (!c)
		return -XEN_ENOMEM;
	if (!copy_from_guest(v, c, guest_handle(op->u.vcpucontext.ctxt), sizeof(*c))) {
		domain_pause(d);
		rc = context_in(target, c);
		domain_unpause(d);
	}
	hv_free(c);
	return rc;
}
