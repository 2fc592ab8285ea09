/* SPDX-License-Identifier: MIT */
/*
 * What a VMCB says: registers of the guest, why it exited, its MSRs.
 *
 * The CPU checks what a guest does to its own registers; what comes from
 * elsewhere is checked here, before VMRUN could refuse it.
 */
#include "x86/svm/svm.h"

#include "hospes/abi.h"
#include "hospes/cpu_insn.h"
#include "hospes/lib.h"
#include "hospes/log.h"

#define EFER_KNOWN 0xcd01ULL	/* SCE, LME, LMA, NXE, FFXSR, TCE */
#define PAT_RESET 0x0007040600070406ULL

/* CPUID 80000008 EBX */
#define FEAT_IBPB	(1u << 12)
#define FEAT_SPEC_CTRL	(1u << 14 | 1u << 15 | 1u << 24)	/* IBRS, STIBP, SSBD */
#define FEAT_VIRT_SSBD	(1u << 25)

#define SPEC_CTRL_VALID 7u
#define VIRT_SPEC_VALID 4u

#define VECTOR_MC 18

void svm_vmcb_init(struct svm_vcpu *s)
{
	static const struct guest_system reset = {
		.cr0 = 0x60000010, .dr6 = 0xffff0ff0, .dr7 = 0x400, .pat = PAT_RESET,
		.gdt_limit = 0xffff, .idt_limit = 0xffff,
		.seg = {
			[SEG_ES] = { 0, 0x93, 0xffff, 0 },
			[SEG_CS] = { 0xf000, 0x9b, 0xffff, 0xffff0000 },
			[SEG_SS] = { 0, 0x93, 0xffff, 0 },
			[SEG_DS] = { 0, 0x93, 0xffff, 0 },
			[SEG_FS] = { 0, 0x93, 0xffff, 0 },
			[SEG_GS] = { 0, 0x93, 0xffff, 0 },
			[SEG_LDTR] = { 0, 0x82, 0xffff, 0 },
			[SEG_TR] = { 0, 0x8b, 0xffff, 0 },
		},
	};
	struct vmcb *b = s->vmcb;

	/*
	 * #DB and #AC, because a guest can make their delivery raise them again
	 * for ever, and no interrupt would get through.
	 */
	b->intercept[VMCB_EXCEPTIONS] = 1u << 1 | 1u << 17 | 1u << VECTOR_MC;
	b->intercept[VMCB_MISC1] = I1_INTR | I1_NMI | I1_INIT | I1_RDPMC | I1_CPUID | I1_RSM |
		I1_INVD | I1_PAUSE | I1_HLT | I1_INVLPGA | I1_IOIO | I1_MSR | I1_FERR | I1_SHUTDOWN;
	b->intercept[VMCB_MISC2] = I2_VMRUN | I2_VMMCALL | I2_VMLOAD | I2_VMSAVE | I2_STGI |
		I2_CLGI | I2_SKINIT | I2_ICEBP | I2_WBINVD | I2_MONITOR | I2_MWAIT | I2_XSETBV |
		I2_RDPRU;
	b->intercept[VMCB_MISC3] = I3_INVLPGB | I3_MCOMMIT | I3_TLBSYNC;
	if (svm.features & SVM_PAUSE)
		b->pause_count = 3000;
	if (svm.features & SVM_PAUSE_THR)
		b->pause_threshold = 128;
	b->iopm = mfn_to_paddr(virt_to_mfn(svm.iopm));
	b->msrpm = mfn_to_paddr(virt_to_mfn(svm.msrpm));
	b->int_ctl = INT_MASKING;
	b->np_enable = 1;
	b->ncr3 = s->vcpu->domain->p2m.root_paddr;
	if (svm_set_system(s->vcpu, &reset))
		panic("reset state refused");
	s->vcpu->regs.rip = 0xfff0;
	s->vcpu->regs.rflags = 2;
}

static struct vmcb_seg *vmcb_seg(struct vmcb *b, enum guest_seg nr)
{
	static const uint16_t at[SEG_COUNT] = {
		[SEG_ES] = offsetof(struct vmcb, es), [SEG_CS] = offsetof(struct vmcb, cs),
		[SEG_SS] = offsetof(struct vmcb, ss), [SEG_DS] = offsetof(struct vmcb, ds),
		[SEG_FS] = offsetof(struct vmcb, fs), [SEG_GS] = offsetof(struct vmcb, gs),
		[SEG_LDTR] = offsetof(struct vmcb, ldtr), [SEG_TR] = offsetof(struct vmcb, tr),
	};

	return (struct vmcb_seg *)(void *)((char *)b + at[nr]);
}

void svm_get_segment(struct vcpu *v, enum guest_seg nr, struct guest_segment *seg)
{
	const struct vmcb_seg *s = vmcb_seg(svm_vcpu(v)->vmcb, nr);

	*seg = (struct guest_segment){ s->sel, s->attr, s->limit, s->base };
}

void svm_get_paging(struct vcpu *v, struct guest_paging *g)
{
	const struct vmcb *b = svm_vcpu(v)->vmcb;

	g->cr0 = b->cr0;
	g->cr3 = b->cr3;
	g->cr4 = b->cr4;
	g->efer = b->efer & ~EFER_SVME;
	g->cpl = b->cpl;
	g->nx = b->efer & EFER_NX;
	g->wp = b->cr0 & CR0_WP;
	g->smep = b->cr4 & CR4_SMEP;
}

/* The fields that are the same on both sides. */
#define PLAIN_FIELDS(F) \
	F(cr0) F(cr2) F(cr3) F(cr4) F(dr6) F(dr7) F(star) F(lstar) F(cstar) F(sfmask) \
	F(kernel_gs_base) F(sysenter_cs) F(sysenter_esp) F(sysenter_eip) F(cpl)

void svm_get_system(struct vcpu *v, struct guest_system *sys)
{
	const struct vmcb *b = svm_vcpu(v)->vmcb;

#define GET(f) sys->f = b->f;
	PLAIN_FIELDS(GET)
#undef GET
	sys->efer = b->efer & ~EFER_SVME;
	sys->pat = b->g_pat;
	sys->gdt_base = b->gdtr.base;
	sys->gdt_limit = b->gdtr.limit;
	sys->idt_base = b->idtr.base;
	sys->idt_limit = b->idtr.limit;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		svm_get_segment(v, i, &sys->seg[i]);
}

static bool pat_valid(uint64_t pat)
{
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int type = (pat >> (8 * i)) & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static bool system_valid(const struct guest_system *s)
{
	bool paging = s->cr0 & CR0_PG, lma = paging && (s->efer & EFER_LME);

	if ((s->cr0 | s->cr4 | s->dr6 | s->dr7) >> 32 || s->cr3 >> 52 || s->efer & ~EFER_KNOWN)
		return false;
	if ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD))
		return false;
	if (paging && !(s->cr0 & CR0_PE))
		return false;
	if (lma && (!(s->cr4 & CR4_PAE) || (s->seg[SEG_CS].attr & 0x600) == 0x600))
		return false;
	return s->cpl <= 3 && pat_valid(s->pat);
}

int svm_set_system(struct vcpu *v, const struct guest_system *sys)
{
	struct svm_vcpu *st = svm_vcpu(v);
	struct vmcb *b = st->vmcb;

	if (!system_valid(sys))
		return -XEN_EINVAL;
	st->nmi_masked = st->nmi_iret = false;
	b->intercept[VMCB_MISC1] &= ~I1_IRET;
	b->event_inj = 0;
#define SET(f) b->f = sys->f;
	PLAIN_FIELDS(SET)
#undef SET
	b->efer = (sys->efer & ~EFER_LMA) | EFER_SVME;
	if ((sys->efer & EFER_LME) && (sys->cr0 & CR0_PG))
		b->efer |= EFER_LMA;
	b->g_pat = sys->pat;
	b->gdtr = (struct vmcb_seg){ .limit = sys->gdt_limit, .base = sys->gdt_base };
	b->idtr = (struct vmcb_seg){ .limit = sys->idt_limit, .base = sys->idt_base };
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		const struct guest_segment *g = &sys->seg[i];

		*vmcb_seg(b, i) = (struct vmcb_seg){ g->sel, g->attr & 0xfff, g->limit, g->base };
	}
	b->int_shadow = 0;
	b->clean = 0;
	return 0;
}

/* --- MSRs that exit and live here --------------------------------------- */

/* Which speculation MSR this is, when the guest's CPUID offers it. */
static uint64_t *spec_msr(struct vcpu *v, uint32_t msr, uint64_t *valid)
{
	struct svm_vcpu *s = svm_vcpu(v);
	uint32_t offered = v->domain->policy->ext[8].ebx;

	if (msr == MSR_SPEC_CTRL && svm.spec_ctrl && (offered & FEAT_SPEC_CTRL)) {
		*valid = SPEC_CTRL_VALID;
		return &s->spec_ctrl;
	}
	if (msr == MSR_VIRT_SPEC && svm.virt_spec && (offered & FEAT_VIRT_SSBD)) {
		*valid = VIRT_SPEC_VALID;
		return &s->virt_spec_ctrl;
	}
	return NULL;
}

bool svm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const struct vmcb *b = svm_vcpu(v)->vmcb;
	const uint64_t *spec;
	uint64_t valid;

	switch (msr) {
	case MSR_EFER:
		*val = b->efer & ~EFER_SVME;
		return true;
	case MSR_PAT:
		*val = b->g_pat;
		return true;
	case MSR_SPEC_CTRL:
	case MSR_VIRT_SPEC:
		spec = spec_msr(v, msr, &valid);
		if (spec)
			*val = *spec;
		return spec;
	case MSR_TSC_AUX:
		*val = v->msr.tsc_aux;
		return svm.tsc_aux;
	default:
		return false;
	}
}

static int efer_write(struct vcpu *v, uint64_t val)
{
	struct vmcb *b = svm_vcpu(v)->vmcb;

	if (val & ~(v->domain->policy->efer_valid | EFER_LMA))
		return 1;
	if (((val ^ b->efer) & EFER_LME) && (b->cr0 & CR0_PG))
		return 1;
	b->efer = (val & ~EFER_LMA) | (b->efer & EFER_LMA) | EFER_SVME;
	b->clean &= ~CLEAN_CR;
	return 0;
}

bool svm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val, int *fault)
{
	struct vmcb *b = svm_vcpu(v)->vmcb;
	uint64_t *spec, valid;

	*fault = 0;
	switch (msr) {
	case MSR_EFER:
		*fault = efer_write(v, val);
		return true;
	case MSR_PAT:
		*fault = !pat_valid(val);
		if (!*fault)
			b->g_pat = val;
		b->clean &= ~CLEAN_NP;
		return true;
	case MSR_SPEC_CTRL:
	case MSR_VIRT_SPEC:
		spec = spec_msr(v, msr, &valid);
		*fault = spec && (val & ~valid);
		if (spec && !*fault)
			*spec = val;
		return spec;
	case MSR_PRED_CMD:
		if (!svm.ibpb || !(v->domain->policy->ext[8].ebx & FEAT_IBPB))
			return false;
		*fault = val > 1;
		if (val == 1)
			insn_wrmsr(MSR_PRED_CMD, 1);
		return true;
	case MSR_TSC_AUX:
		if (!svm.tsc_aux)
			return false;
		*fault = val >> 32 != 0;
		if (!*fault) {
			v->msr.tsc_aux = val;
			insn_wrmsr(MSR_TSC_AUX, val);
		}
		return true;
	default:
		return false;
	}
}

/* --- Exits -------------------------------------------------------------- */

#define K(kind) ((kind) + 1)

/* Exit code to exit_kind + 1; 0 for what is never asked for. */
static const uint8_t exit_kinds[0x90] = {
	[0x41] = K(EXIT_EXCEPTION), [0x51] = K(EXIT_EXCEPTION), [0x52] = K(EXIT_EXCEPTION),
	[0x60] = K(EXIT_INTERRUPT), [0x61] = K(EXIT_NMI), [0x63] = K(EXIT_INTERRUPT),
	[0x64] = K(EXIT_IRQ_WINDOW), [0x6f] = K(EXIT_RDPMC), [0x72] = K(EXIT_CPUID),
	[0x73] = K(EXIT_UNDEFINED), [SVM_EXIT_IRET] = K(EXIT_IRQ_WINDOW),
	[0x76] = K(EXIT_WBINVD), [0x77] = K(EXIT_PAUSE), [0x78] = K(EXIT_HLT),
	[0x7a] = K(EXIT_UNDEFINED), [SVM_EXIT_IOIO] = K(EXIT_IO),
	[SVM_EXIT_MSR] = K(EXIT_MSR_READ), [0x7f] = K(EXIT_SHUTDOWN),
	[0x80] = K(EXIT_UNDEFINED), [0x81] = K(EXIT_HYPERCALL), [0x82] = K(EXIT_UNDEFINED),
	[0x83] = K(EXIT_UNDEFINED), [0x84] = K(EXIT_UNDEFINED), [0x85] = K(EXIT_UNDEFINED),
	[0x86] = K(EXIT_UNDEFINED), [SVM_EXIT_ICEBP] = K(EXIT_EXCEPTION),
	[0x89] = K(EXIT_WBINVD), [0x8a] = K(EXIT_MWAIT), [0x8b] = K(EXIT_MWAIT),
	[0x8c] = K(EXIT_MWAIT), [0x8d] = K(EXIT_XSETBV), [0x8e] = K(EXIT_UNDEFINED),
};

static void decode_io(const struct vmcb *b, struct vm_exit *exit)
{
	uint32_t info = (uint32_t)b->exit_info1;

	exit->insn_len = (uint8_t)(b->exit_info2 - b->rip);
	exit->io.port = (uint16_t)(info >> 16);
	exit->io.size = (info >> 4) & 7;	/* one bit per size: 1, 2, 4 */
	exit->io.in = info & 1;
	exit->io.string = info & 4;
	exit->io.rep = info & 8;
}

static void decode_exception(const struct vmcb *b, struct vm_exit *exit)
{
	unsigned int vector = exit->raw == SVM_EXIT_ICEBP ? 1 : exit->raw - SVM_EXIT_EXCEPTION;

	if (vector == VECTOR_MC)
		panic("machine check while a guest ran");
	exit->exception.vector = (uint8_t)vector;
	exit->exception.icebp = exit->raw == SVM_EXIT_ICEBP;
	exit->exception.has_error = vector == 17;
	exit->exception.error = (uint32_t)b->exit_info1;
}

static void decode_npf(const struct vmcb *b, struct vm_exit *exit)
{
	exit->npf.gpa = b->exit_info2;
	exit->npf.present = b->exit_info1 & 1;
	exit->npf.write = b->exit_info1 & 2;
	exit->npf.exec = b->exit_info1 & 16;
	exit->npf.insn = b->insn;
	exit->npf.insn_avail = svm.features & SVM_ASSISTS ? b->insn_len & 15 : 0;
}

void svm_decode_exit(struct vcpu *v, struct vm_exit *exit)
{
	const struct vmcb *b = svm_vcpu(v)->vmcb;
	uint64_t code = b->exit_code;
	uint64_t len = b->next_rip - b->rip;

	exit->raw = code;
	exit->insn_len = (svm.features & SVM_NRIP) && len <= 15 ? (uint8_t)len : 0;
	if (likely(code < ARRAY_SIZE(exit_kinds) && exit_kinds[code])) {
		exit->kind = exit_kinds[code] - 1u;
		if (exit->kind == EXIT_MSR_READ)
			exit->kind += b->exit_info1 & 1;
		else if (exit->kind == EXIT_IO)
			decode_io(b, exit);
		else if (exit->kind == EXIT_EXCEPTION)
			decode_exception(b, exit);
	} else if (code == SVM_EXIT_NPF) {
		exit->kind = EXIT_NPF;
		decode_npf(b, exit);
	} else {
		/* QEMU gives 32 bits of it. */
		exit->kind = (uint32_t)code == SVM_EXIT_INVALID ? EXIT_INVALID : EXIT_UNKNOWN;
	}
}

/* --- Last words --------------------------------------------------------- */

void svm_dump(struct vcpu *v)
{
	static const char names[SEG_COUNT][5] = {
		"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };
	const struct vmcb *b = svm_vcpu(v)->vmcb;
	const uint64_t *r = v->regs.gpr;

	log_err("rip %016lx rsp %016lx rflags %08lx cpl %u shadow %lu", v->regs.rip, r[GPR_RSP],
		v->regs.rflags, b->cpl, b->int_shadow);
	log_err("rax %016lx rbx %016lx rcx %016lx", r[GPR_RAX], r[GPR_RBX], r[GPR_RCX]);
	log_err("rdx %016lx rsi %016lx rdi %016lx", r[GPR_RDX], r[GPR_RSI], r[GPR_RDI]);
	log_err("rbp %016lx r8  %016lx r9  %016lx", r[GPR_RBP], r[GPR_R8], r[GPR_R9]);
	log_err("r10 %016lx r11 %016lx r12 %016lx", r[GPR_R10], r[GPR_R11], r[GPR_R12]);
	log_err("r13 %016lx r14 %016lx r15 %016lx", r[GPR_R13], r[GPR_R14], r[GPR_R15]);
	log_err("cr0 %08lx cr2 %016lx cr3 %012lx cr4 %08lx efer %04lx", b->cr0, b->cr2, b->cr3,
		b->cr4, b->efer);
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		struct guest_segment s;

		svm_get_segment(v, i, &s);
		log_err("%-4s %04x attr %03x limit %08x base %016lx", names[i], s.sel, s.attr,
			s.limit, s.base);
	}
	log_err("gdt %016lx+%x idt %016lx+%x", b->gdtr.base, b->gdtr.limit, b->idtr.base,
		b->idtr.limit);
	log_err("exit %lx info %lx %lx during %08x, queued %08x", b->exit_code, b->exit_info1,
		b->exit_info2, b->exit_int_info, b->event_inj);
}
