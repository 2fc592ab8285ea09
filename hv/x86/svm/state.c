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

#define VECTOR_DB 1
#define VECTOR_AC 17
#define VECTOR_MC 18

#define K(kind) ((kind) + 1)

/* Exit code to exit_kind + 1, and so what is intercepted; 0: never asked for. */
static const uint8_t exit_kinds[SVM_EXIT_INTERCEPTS] = {
	[SVM_EXIT_CR8_WRITE] = K(EXIT_CR_ACCESS),
	/*
	 * #DB and #AC, because a guest can make their delivery raise them again
	 * for ever, and no interrupt would get through.
	 */
	[SVM_EXIT_EXCEPTION + VECTOR_DB] = K(EXIT_EXCEPTION),
	[SVM_EXIT_EXCEPTION + VECTOR_AC] = K(EXIT_EXCEPTION),
	[SVM_EXIT_EXCEPTION + VECTOR_MC] = K(EXIT_EXCEPTION),
	[SVM_EXIT_INTR] = K(EXIT_INTERRUPT), [SVM_EXIT_NMI] = K(EXIT_NMI),
	[SVM_EXIT_INIT] = K(EXIT_INTERRUPT), [SVM_EXIT_VINTR] = K(EXIT_IRQ_WINDOW),
	[SVM_EXIT_RDPMC] = K(EXIT_RDPMC), [SVM_EXIT_CPUID] = K(EXIT_CPUID),
	[SVM_EXIT_RSM] = K(EXIT_UNDEFINED), [SVM_EXIT_IRET] = K(EXIT_IRQ_WINDOW),
	[SVM_EXIT_INVD] = K(EXIT_WBINVD), [SVM_EXIT_PAUSE] = K(EXIT_PAUSE),
	[SVM_EXIT_HLT] = K(EXIT_HLT), [SVM_EXIT_INVLPGA] = K(EXIT_UNDEFINED),
	[SVM_EXIT_IOIO] = K(EXIT_IO), [SVM_EXIT_MSR] = K(EXIT_MSR_READ),
	[SVM_EXIT_SHUTDOWN] = K(EXIT_SHUTDOWN), [SVM_EXIT_VMRUN] = K(EXIT_UNDEFINED),
	[SVM_EXIT_VMMCALL] = K(EXIT_HYPERCALL), [SVM_EXIT_VMLOAD] = K(EXIT_UNDEFINED),
	[SVM_EXIT_VMSAVE] = K(EXIT_UNDEFINED), [SVM_EXIT_STGI] = K(EXIT_UNDEFINED),
	[SVM_EXIT_CLGI] = K(EXIT_UNDEFINED), [SVM_EXIT_SKINIT] = K(EXIT_UNDEFINED),
	[SVM_EXIT_ICEBP] = K(EXIT_EXCEPTION), [SVM_EXIT_WBINVD] = K(EXIT_WBINVD),
	[SVM_EXIT_MONITOR] = K(EXIT_MWAIT), [SVM_EXIT_MWAIT] = K(EXIT_MWAIT),
	[SVM_EXIT_XSETBV] = K(EXIT_XSETBV), [SVM_EXIT_RDPRU] = K(EXIT_UNDEFINED),
	[SVM_EXIT_INVLPGB] = K(EXIT_UNDEFINED), [SVM_EXIT_MCOMMIT] = K(EXIT_UNDEFINED),
	[SVM_EXIT_TLBSYNC] = K(EXIT_UNDEFINED),
};

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

	for (unsigned int code = 0; code < SVM_EXIT_INTERCEPTS; code++)
		vmcb_intercept(b, code, exit_kinds[code]);
	/* These only while an event waits for them. */
	vmcb_intercept(b, SVM_EXIT_CR8_WRITE, false);
	vmcb_intercept(b, SVM_EXIT_VINTR, false);
	vmcb_intercept(b, SVM_EXIT_IRET, false);
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
	vmcb_intercept(b, SVM_EXIT_IRET, false);
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

/* --- MSRs that exit and live here: the rest is not intercepted, or not the CPU's --- */

/* A speculation control and its valid bits, as far as the guest's CPUID offers them. */
static uint64_t *spec_msr(struct vcpu *v, uint32_t msr, uint64_t *valid)
{
	uint32_t features = v->domain->policy->ext[8].ebx;
	struct svm_vcpu *s = svm_vcpu(v);

	if (msr == MSR_SPEC_CTRL)	/* IBRS, STIBP; SSBD */
		*valid = ((features >> 14) & 3) | ((features >> 22) & 4);
	else
		*valid = msr == MSR_VIRT_SPEC ? (features >> 23) & 4 : 0;
	if (!*valid)
		return NULL;
	return msr == MSR_SPEC_CTRL ? &s->spec_ctrl : &s->virt_spec;
}

/* RDTSCP or RDPID shows it. */
static bool has_tsc_aux(struct vcpu *v)
{
	const struct cpu_policy *p = v->domain->policy;

	return svm.tsc_aux && ((p->ext[1].edx & (1u << 27)) || (p->leaf7[0].ecx & (1u << 22)));
}

bool svm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const struct vmcb *b = svm_vcpu(v)->vmcb;
	uint64_t valid, *spec = spec_msr(v, msr, &valid);

	if (msr == MSR_EFER)
		*val = b->efer & ~EFER_SVME;
	else if (msr == MSR_PAT)
		*val = b->g_pat;
	else if (msr == MSR_TSC_AUX && has_tsc_aux(v))
		*val = v->msr.tsc_aux;
	else if (spec)
		*val = *spec;
	else
		return false;
	return true;
}

static bool efer_write(struct vcpu *v, struct vmcb *b, uint64_t val)
{
	if (val & ~(v->domain->policy->efer_valid | EFER_LMA))
		return false;
	if (((val ^ b->efer) & EFER_LME) && (b->cr0 & CR0_PG))
		return false;
	b->efer = (val & ~EFER_LMA) | (b->efer & EFER_LMA) | EFER_SVME;
	b->clean &= ~CLEAN_CR;
	return true;
}

static bool pat_write(struct vmcb *b, uint64_t val)
{
	if (!pat_valid(val))
		return false;
	b->g_pat = val;
	b->clean &= ~CLEAN_NP;
	return true;
}

bool svm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val, int *fault)
{
	struct vmcb *b = svm_vcpu(v)->vmcb;
	uint64_t valid, *spec = spec_msr(v, msr, &valid);

	if (msr == MSR_EFER) {
		*fault = !efer_write(v, b, val);
	} else if (msr == MSR_PAT) {
		*fault = !pat_write(b, val);
	} else if (msr == MSR_TSC_AUX && has_tsc_aux(v)) {
		*fault = val >> 32 != 0;
		v->msr.tsc_aux = (uint32_t)val;
		insn_wrmsr(MSR_TSC_AUX, v->msr.tsc_aux);
	} else if (msr == MSR_PRED_CMD && (v->domain->policy->ext[8].ebx & (1u << 12))) {
		*fault = val > 1 || (val && !insn_wrmsr_safe(MSR_PRED_CMD, val));
	} else if (spec) {
		*fault = (val & ~valid) != 0;
		*spec = val & valid;
	} else {
		return false;
	}
	return true;
}

/* --- Exits -------------------------------------------------------------- */

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
	unsigned int vector = exit->raw == SVM_EXIT_ICEBP ? VECTOR_DB :
		(unsigned int)exit->raw - SVM_EXIT_EXCEPTION;

	if (vector == VECTOR_MC)
		panic("machine check while a guest ran");
	exit->exception.vector = (uint8_t)vector;
	exit->exception.icebp = exit->raw == SVM_EXIT_ICEBP;
	exit->exception.has_error = vector == VECTOR_AC;
	exit->exception.error = (uint32_t)b->exit_info1;
}

static void decode_npf(const struct vmcb *b, struct vm_exit *exit)
{
	exit->npf.gpa = b->exit_info2;
	exit->npf.present = b->exit_info1 & 1;
	exit->npf.write = b->exit_info1 & 2;
	exit->npf.exec = b->exit_info1 & 16;
	exit->npf.insn = (svm.features & SVM_ASSISTS) && (b->insn_len & 15) == 15 ? b->insn : NULL;
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
	static const char rows[][16] = {
		"rax rcx rdx rbx", "rsp rbp rsi rdi", "r8  r9  r10 r11", "r12 r13 r14 r15" };
	const struct vmcb *b = svm_vcpu(v)->vmcb;
	const uint64_t *r = v->regs.gpr;

	log_err("rip %016lx rflags %08lx cpl %u shadow %lu", v->regs.rip, v->regs.rflags, b->cpl,
		b->int_shadow);
	for (unsigned int i = 0; i < GPR_COUNT; i += 4)
		log_err("%s %016lx %016lx %016lx %016lx", rows[i / 4], r[i], r[i + 1], r[i + 2],
			r[i + 3]);
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
