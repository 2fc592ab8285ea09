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
#include "hospes/devices.h"
#include "hospes/lib.h"
#include "hospes/log.h"

#define EFER_KNOWN 0xcd01ULL	/* SCE, LME, LMA, NXE, FFXSR, TCE */

#define K(kind) ((kind) + 1)

/* Exit code to exit_kind + 1, and so what is intercepted; 0: never asked for. */
static const uint8_t exit_kinds[SVM_EXIT_INTERCEPTS] = {
	[SVM_EXIT_CR8_WRITE] = K(EXIT_CR8_WRITE),
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
	[SVM_EXIT_ICEBP] = K(EXIT_ICEBP), [SVM_EXIT_WBINVD] = K(EXIT_WBINVD),
	[SVM_EXIT_MONITOR] = K(EXIT_UNDEFINED), [SVM_EXIT_MWAIT] = K(EXIT_UNDEFINED),
	[SVM_EXIT_XSETBV] = K(EXIT_XSETBV), [SVM_EXIT_RDPRU] = K(EXIT_UNDEFINED),
	[SVM_EXIT_INVLPGB] = K(EXIT_UNDEFINED), [SVM_EXIT_MCOMMIT] = K(EXIT_UNDEFINED),
	[SVM_EXIT_TLBSYNC] = K(EXIT_UNDEFINED),
};

void svm_vmcb_init(struct vcpu *v)
{
	struct vmcb *b = svm_vmcb(v);

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
	b->iopm = mfn_to_paddr(virt_to_mfn(v->domain->devices ?
					   (void *)v->domain->devices->io_bitmap : svm.iopm));
	b->msrpm = mfn_to_paddr(virt_to_mfn(svm.msrpm));
	b->int_ctl = INT_MASKING;
	b->np_enable = 1;
	b->ncr3 = v->domain->p2m.root_paddr;
	b->efer = EFER_SVME;
	b->g_pat = PAT_RESET;	/* INIT leaves it */
}

void svm_get_segment(struct vcpu *v, enum guest_seg nr, struct guest_segment *seg)
{
	*seg = svm_vmcb(v)->seg[nr];
}

void svm_get_paging(struct vcpu *v, struct guest_paging *g)
{
	const struct vmcb *b = svm_vmcb(v);

	*g = (struct guest_paging){
		.cr0 = b->cr0, .cr3 = b->cr3, .cr4 = b->cr4, .efer = b->efer & ~EFER_SVME,
		.cpl = b->cpl, .nx = b->efer & EFER_NX, .wp = b->cr0 & CR0_WP,
	};
}

/* The fields that are the same on both sides. */
#define PLAIN_FIELDS(F) \
	F(cr0) F(cr2) F(cr3) F(cr4) F(dr6) F(dr7) F(star) F(lstar) F(cstar) F(sfmask) \
	F(kernel_gs_base) F(sysenter_cs) F(sysenter_esp) F(sysenter_eip) F(cpl)

void svm_get_system(struct vcpu *v, struct guest_system *sys)
{
	const struct vmcb *b = svm_vmcb(v);

#define GET(f) sys->f = b->f;
	PLAIN_FIELDS(GET)
#undef GET
	sys->efer = b->efer & ~EFER_SVME;
	sys->pat = b->g_pat;
	memcpy(sys->seg, b->seg, sizeof(sys->seg));
	memcpy(sys->dr, svm_vcpu(v)->dr, sizeof(sys->dr));
	sys->event = b->event_inj & EVENT_VALID ? b->event_inj : 0;
	sys->event_error = sys->event ? b->event_error : 0;
}

/* Eight types of 0, 1, and 4 to 7: bit 1 only together with bit 2. */
static bool pat_valid(uint64_t pat)
{
	return !(pat & 0xf8f8f8f8f8f8f8f8) && !(pat & ~(pat >> 1) & 0x0202020202020202);
}

/* VMRUN knows four types, and exceptions but NMI and those above 31. */
static bool event_valid(const struct guest_system *s)
{
	uint32_t type = (s->event >> EVENT_TYPE_SHIFT) & 7, vector = s->event & 0xff;

	if (!(s->event & EVENT_VALID))
		return !s->event;
	if (s->event & ~(EVENT_VALID | EVENT_HAS_ERROR | 0x7ff))
		return false;
	return type == EVENT_INTR || type == EVENT_SOFT_INT ||
	       (type == EVENT_NMI && vector == VECTOR_NMI) ||
	       (type == EVENT_EXCEPTION && vector < 32 && vector != VECTOR_NMI);
}

bool svm_system_valid(const struct guest_system *s)
{
	bool paging = s->cr0 & CR0_PG, lma = paging && (s->efer & EFER_LME);

	if ((s->cr0 | s->cr4 | s->dr6 | s->dr7) >> 32 || s->cr3 >> 52 || s->efer & ~EFER_KNOWN)
		return false;
	if (((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)) || (paging && !(s->cr0 & CR0_PE)) ||
	    (lma && (!(s->cr4 & CR4_PAE) || (s->seg[SEG_CS].attr & 0x600) == 0x600)))
		return false;
	return s->cpl <= 3 && pat_valid(s->pat) && event_valid(s);
}

int svm_set_system(struct vcpu *v, const struct guest_system *sys)
{
	struct svm_vcpu *s = svm_vcpu(v);
	struct vmcb *b = &s->vmcb;

	if (!svm_system_valid(sys))
		return -XEN_EINVAL;
	s->nmi_masked = (sys->event & 0x7ff) == (EVENT_NMI << EVENT_TYPE_SHIFT | VECTOR_NMI);
	s->nmi_iret = false;
	vmcb_intercept(b, SVM_EXIT_IRET, s->nmi_masked);
#define SET(f) b->f = sys->f;
	PLAIN_FIELDS(SET)
#undef SET
	b->efer = (sys->efer & ~EFER_LMA) | EFER_SVME;
	if ((sys->efer & EFER_LME) && (sys->cr0 & CR0_PG))
		b->efer |= EFER_LMA;
	b->g_pat = sys->pat;
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		b->seg[i] = sys->seg[i];
		b->seg[i].attr &= 0xfff;
	}
	memcpy(s->dr, sys->dr, sizeof(s->dr));
	b->event_inj = sys->event;
	b->event_error = sys->event_error;
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
	const struct vmcb *b = svm_vmcb(v);
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

static bool efer_write(struct vcpu *v, uint64_t val)
{
	struct vmcb *b = svm_vmcb(v);

	if (val & ~(v->domain->policy->efer_valid | EFER_LMA) ||
	    (((val ^ b->efer) & EFER_LME) && (b->cr0 & CR0_PG)))
		return false;
	b->efer = (val & ~EFER_LMA) | (b->efer & EFER_LMA) | EFER_SVME;
	b->clean &= ~CLEAN_CR;
	return true;
}

bool svm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct vmcb *b = svm_vmcb(v);
	uint64_t valid, *spec = spec_msr(v, msr, &valid);

	if (msr == MSR_EFER)
		return efer_write(v, val);
	if (msr == MSR_PRED_CMD && (v->domain->policy->ext[8].ebx & CPUID_IBPB))
		return !val || (val == 1 && insn_wrmsr_safe(MSR_PRED_CMD, val));
	if (msr == MSR_PAT && pat_valid(val)) {
		b->g_pat = val;
		b->clean &= ~CLEAN_NP;
	} else if (msr == MSR_TSC_AUX && has_tsc_aux(v) && !(val >> 32)) {
		v->msr.tsc_aux = val;
		insn_wrmsr(MSR_TSC_AUX, val);
	} else if (spec && !(val & ~valid)) {
		*spec = val;
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
}

static void decode_npf(const struct vmcb *b, struct vm_exit *exit)
{
	exit->npf.gpa = b->exit_info2;
	exit->npf.write = b->exit_info1 & 2;
	exit->npf.exec = b->exit_info1 & 16;
	exit->npf.insn = (svm.features & SVM_ASSISTS) && (b->insn_len & 15) == 15 ? b->insn : NULL;
}

void svm_decode_exit(struct vcpu *v, struct vm_exit *exit)
{
	const struct vmcb *b = svm_vmcb(v);
	uint64_t code = b->exit_code;
	uint64_t len = b->next_rip - b->rip;

	exit->raw = code;
	exit->insn_len = (svm.features & SVM_NRIP) && len <= 15 ? (uint8_t)len : 0;
	if (code == SVM_EXIT_EXCEPTION + VECTOR_MC)
		panic("machine check while a guest ran");
	if (likely(code < ARRAY_SIZE(exit_kinds) && exit_kinds[code])) {
		exit->kind = exit_kinds[code] - 1u;
		if (exit->kind == EXIT_MSR_READ)
			exit->kind += b->exit_info1 & 1;
		else if (exit->kind == EXIT_IO)
			decode_io(b, exit);
		else if (exit->kind == EXIT_EXCEPTION)
			exit->vector = (uint8_t)(code - SVM_EXIT_EXCEPTION);
	} else {
		exit->kind = code == SVM_EXIT_NPF ? EXIT_NPF : EXIT_UNKNOWN;
		decode_npf(b, exit);
	}
}

/* --- Last words --------------------------------------------------------- */

void svm_dump(struct vcpu *v)
{
	static const char names[SEG_COUNT][5] = {
		"es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr" };
	static const char rows[][16] = {
		"rax rcx rdx rbx", "rsp rbp rsi rdi", "r8  r9  r10 r11", "r12 r13 r14 r15" };
	const struct vmcb *b = svm_vmcb(v);
	const uint64_t *r = v->regs.gpr;

	log_err("rip %016lx rflags %08lx cpl %u shadow %lu", v->regs.rip, v->regs.rflags, b->cpl,
		b->int_shadow);
	for (unsigned int i = 0; i < GPR_COUNT; i += 4)
		log_err("%s %016lx %016lx %016lx %016lx", rows[i / 4], r[i], r[i + 1], r[i + 2],
			r[i + 3]);
	log_err("cr0 %08lx cr2 %016lx cr3 %012lx cr4 %08lx efer %04lx", b->cr0, b->cr2, b->cr3,
		b->cr4, b->efer);
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		log_err("%-4s %04x attr %03x limit %08x base %016lx", names[i], b->seg[i].sel,
			b->seg[i].attr, b->seg[i].limit, b->seg[i].base);
	log_err("exit %lx info %lx %lx during %08x, queued %08x", b->exit_code, b->exit_info1,
		b->exit_info2, b->exit_int_info, b->event_inj);
}
