/* SPDX-License-Identifier: MIT */
/*
 * AMD-V: switching it on, vCPUs coming and going, the world switch.
 *
 * Owns: struct svm_pcpu of each CPU, struct svm_vcpu of each vCPU. No locks:
 * a vCPU's state is touched on the CPU that has it loaded, or while it is
 * paused.
 */
#include "x86/svm/svm.h"

#include "hospes/abi.h"
#include "hospes/cpu_insn.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/pcpu.h"

#define XMASK_KNOWN 0x2e7ULL	/* x87, SSE, AVX, AVX-512, PKRU */
#define XSAVE_MIN 576u		/* legacy area and header */
#define XSAVE_MXCSR 6u		/* a 32-bit word in it */
#define IOPM_SIZE (3 * PAGE_SIZE)
#define MAPS_ORDER 3u		/* with the 8 KiB of the MSRs' behind it */

#define CS_LONG 0x200u
#define WITH_ERROR 0x27d00u	/* #DF, #TS, #NP, #SS, #GP, #PF, #AC */

#define CPUID_SVM	(1u << 2)	/* 80000001 ECX */
#define CPUID_XSAVE	(1u << 26)	/* 1 ECX */

#define MSR_VM_CR	0xc0010114u
#define VM_CR_SVMDIS	(1u << 4)
#define MSR_VM_HSAVE_PA	0xc0010117u

struct svm_machine svm;

static struct svm_pcpu {
	struct pcpu *pcpu;
	paddr_t host_vmcb;		/* the host's VMLOAD state, owned */
	uint32_t next_asid;
	uint64_t asid_gen;		/* starts at 1; a vCPU's 0 is never valid */
	_Atomic(struct domain *) last;	/* whose vCPU was loaded last; cleared from any CPU */
} svm_pcpus[MAX_PCPUS];

/* --- Once per machine and CPU ------------------------------------------- */

/* Two bits per MSR, read and write, in one block for each range of 8,192. */
static void pass_msr(uint32_t msr)
{
	uint64_t bit = (msr & 0x1fff) * 2 + (msr >= 0xc0000000 ? 2048 * 8 : 0);

	svm.msrpm[bit / 64] &= ~(3ULL << (bit % 64));
}

static int probe_machine(void)
{
	/* What the CPU switches with the VMCB or by VMLOAD needs no exit. */
	static const uint32_t passed[] = {
		MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE, MSR_GS_BASE,
		MSR_KERNEL_GS, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
	};
	const struct cpu_policy *host = &host_policy;
	uint64_t tsc_aux;

	svm.iopm = hv_alloc_pages(MAPS_ORDER);
	if (!svm.iopm)
		return -XEN_ENOMEM;
	memset(svm.iopm, 0xff, PAGE_SIZE << MAPS_ORDER);
	svm.msrpm = svm.iopm + IOPM_SIZE / sizeof(*svm.iopm);
	for (unsigned int i = 0; i < ARRAY_SIZE(passed); i++)
		pass_msr(passed[i]);

	svm.features = host->ext[10].edx;
	svm.nr_asids = host->ext[10].ebx;
	svm.ibpb = host->ext[8].ebx & CPUID_IBPB;
	svm.tsc_aux = insn_rdmsr_safe(MSR_TSC_AUX, &tsc_aux);
	svm.xmask = host->xcr0_mask & XMASK_KNOWN;
	svm.xsave_size = XSAVE_MIN;
	for (unsigned int i = 2; i < 10; i++) {
		const struct cpuid_regs *x = &host->xstate[i];

		if (svm.xmask >> i & 1)
			svm.xsave_size = MAX(svm.xsave_size, (size_t)x->eax + x->ebx);
	}
	while ((PAGE_SIZE << svm.order) < sizeof(struct svm_vcpu) + svm.xsave_size)
		svm.order++;
	return 0;
}

/* Why this CPU cannot run guests, or NULL. */
static const char *unusable(void)
{
	uint32_t leaf1[4], ext1[4], svm_leaf[4];
	uint64_t vm_cr;

	insn_cpuid(1, 0, leaf1);
	insn_cpuid(0x80000001, 0, ext1);
	insn_cpuid(0x8000000a, 0, svm_leaf);
	if (!(ext1[CPUID_ECX] & CPUID_SVM))
		return "no AMD-V";
	if (insn_rdmsr_safe(MSR_VM_CR, &vm_cr) && (vm_cr & VM_CR_SVMDIS))
		return "AMD-V is switched off in the firmware's setup";
	if (!(svm_leaf[CPUID_EDX] & SVM_NPT) || svm_leaf[CPUID_EBX] < 2)
		return "AMD-V without nested paging";
	if (!(leaf1[CPUID_ECX] & CPUID_XSAVE))
		return "no XSAVE";
	if (svm.iopm && (svm.features & ~svm_leaf[CPUID_EDX] ||
			 svm.nr_asids > svm_leaf[CPUID_EBX]))
		return "AMD-V with less features than the first CPU has";
	return NULL;
}

static int svm_pcpu_init(struct pcpu *p)
{
	struct svm_pcpu *sp = &svm_pcpus[p->cpu_id];
	const char *reason = unusable();
	void *pages;
	int rc;

	if (reason) {
		log_err("CPU %u cannot run guests: %s", p->cpu_id, reason);
		return -XEN_ENODEV;
	}
	rc = svm.iopm ? 0 : probe_machine();
	if (rc)
		return rc;
	pages = hv_alloc_pages(1);	/* what VMRUN saves of the host, what VMSAVE does */
	if (!pages)
		return -XEN_ENOMEM;
	sp->host_vmcb = mfn_to_paddr(virt_to_mfn(pages)) + PAGE_SIZE;
	sp->next_asid = 1;
	sp->asid_gen = 1;
	sp->pcpu = p;

	insn_write_cr4(insn_read_cr4() | CR4_OSFXSR | CR4_OSXSAVE);
	insn_wrmsr(MSR_EFER, insn_rdmsr(MSR_EFER) | EFER_SVME);
	insn_wrmsr(MSR_VM_HSAVE_PA, sp->host_vmcb - PAGE_SIZE);
	insn_vmsave(sp->host_vmcb);
	return 0;
}

/* --- vCPUs -------------------------------------------------------------- */

static int svm_vcpu_init(struct vcpu *v)
{
	struct svm_vcpu *s = hv_alloc_pages(svm.order);

	if (!s)
		return -XEN_ENOMEM;
	v->cpu_state = s;
	s->xsave[XSAVE_MXCSR] = 0x1f80;	/* all else is initial as zeros */
	svm_vmcb_init(v);
	return 0;
}

static void svm_vcpu_destroy(struct vcpu *v)
{
	if (!v->cpu_state)
		return;
	/* The next domain may get this one's address, and must not pass for it. */
	for (unsigned int i = 0; i < port_nr_pcpus(); i++) {
		struct domain *old = v->domain;

		atomic_compare_exchange_strong(&svm_pcpus[i].last, &old, NULL);
	}
	hv_free_pages(v->cpu_state, svm.order);
	v->cpu_state = NULL;
}

/* QEMU's AMD-V does not intercept XSETBV: what the guest set is in the CPU only. */
static void xcr0_out(struct vcpu *v)
{
	v->msr.xcr0 = insn_xgetbv(0) & svm.xmask;
}

static void svm_load(struct vcpu *v)
{
	struct svm_pcpu *sp = &svm_pcpus[port_this_pcpu()->cpu_id];
	struct svm_vcpu *s = svm_vcpu(v);

	if (s->here != sp) {
		s->here = sp;
		s->asid_gen = 0;
		s->vmcb.clean = 0;
	}
	if (atomic_exchange_explicit(&sp->last, v->domain, memory_order_relaxed) != v->domain &&
	    svm.ibpb)
		insn_wrmsr(MSR_PRED_CMD, 1);
	if (svm.tsc_aux)
		insn_wrmsr(MSR_TSC_AUX, v->msr.tsc_aux);
	insn_write_drs(s->dr);
	/* Components the guest switched off in XCR0 keep their state, too. */
	insn_xsetbv(0, svm.xmask);
	insn_xrstor(s->xsave, svm.xmask);
	insn_xsetbv(0, v->msr.xcr0 | XCR0_X87);
}

static void svm_save(struct vcpu *v)
{
	struct svm_vcpu *s = svm_vcpu(v);

	xcr0_out(v);
	insn_xsetbv(0, svm.xmask);
	insn_xsave(s->xsave, svm.xmask);
	insn_read_drs(s->dr);
}

/* --- The world switch --------------------------------------------------- */

/* The vCPU must not use translations it may have in the TLB. */
static void new_translations(struct svm_vcpu *s, uint64_t flush_gen)
{
	struct svm_pcpu *sp = s->here;
	struct vmcb *b = &s->vmcb;

	s->flush_gen = flush_gen;
	if (s->asid_gen == sp->asid_gen && (svm.features & SVM_FLUSH_ASID)) {
		b->tlb_control = TLB_FLUSH_ASID;
		return;
	}
	if (sp->next_asid == svm.nr_asids) {
		sp->next_asid = 1;
		sp->asid_gen++;
		b->tlb_control = TLB_FLUSH_ALL;
	}
	b->asid = sp->next_asid++;
	s->asid_gen = sp->asid_gen;
	b->clean &= ~CLEAN_ASID;
}

static void set_spec_ctrl(const struct svm_vcpu *s, uint64_t spec_ctrl, uint64_t virt_spec)
{
	if (s->spec_ctrl)
		insn_wrmsr(MSR_SPEC_CTRL, spec_ctrl);
	if (s->virt_spec)
		insn_wrmsr(MSR_VIRT_SPEC, virt_spec);
}

/* An exit came while an event was being delivered: deliver it again. */
static void requeue_event(struct vmcb *b)
{
	uint32_t info = b->exit_int_info, type = (info >> EVENT_TYPE_SHIFT) & 7;
	uint32_t vector = info & 0xff;

	/* INT n, INT3, INTO: RIP is still there, so they simply run again. */
	if (type == EVENT_SOFT_INT ||
	    (type == EVENT_EXCEPTION && (vector == VECTOR_BP || vector == VECTOR_OF)))
		return;
	b->event_inj = info;
	b->event_error = b->exit_int_error;
}

/* What rarely needs care after an exit. */
static void after_exit(struct svm_vcpu *s)
{
	struct vmcb *b = &s->vmcb;

	b->tlb_control = 0;
	b->event_inj = 0;
	if (b->exit_int_info & EVENT_VALID)
		requeue_event(b);
	if (s->window) {
		s->window = false;
		b->int_ctl &= ~(INT_IRQ | INT_PRIO_MASK);
		b->clean &= ~CLEAN_TPR;
		vmcb_intercept(b, SVM_EXIT_VINTR, false);
		vmcb_intercept(b, SVM_EXIT_CR8_WRITE, false);
	}
	if (s->nmi_iret && b->rip != s->iret_rip)
		s->nmi_iret = s->nmi_masked = false;
	if (b->exit_code == SVM_EXIT_IRET) {
		/* NMIs are masked until the IRET is done, which the next exit shows. */
		vmcb_intercept(b, SVM_EXIT_IRET, false);
		s->nmi_iret = true;
		s->iret_rip = b->rip;
	}
}

static void registers_in(struct vcpu *v, struct vmcb *b)
{
	uint8_t cr8 = vlapic_get_cr8(&v->lapic);

	b->rax = v->regs.gpr[GPR_RAX];
	b->rsp = v->regs.gpr[GPR_RSP];
	b->rflags = v->regs.rflags;
	if (b->rip != v->regs.rip) {
		/* An instruction was completed for the guest. */
		if (!(b->seg[SEG_CS].attr & CS_LONG))
			v->regs.rip = (uint32_t)v->regs.rip;
		b->rip = v->regs.rip;
		b->rflags &= ~RFLAGS_RF;
		b->int_shadow = 0;
	}
	if (unlikely((b->int_ctl & INT_TPR_MASK) != cr8)) {
		b->int_ctl = (b->int_ctl & ~INT_TPR_MASK) | cr8;
		b->clean &= ~CLEAN_TPR;
	}
}

static void registers_out(struct vcpu *v, const struct vmcb *b)
{
	v->regs.gpr[GPR_RAX] = b->rax;
	v->regs.gpr[GPR_RSP] = b->rsp;
	v->regs.rflags = b->rflags;
	v->regs.rip = b->rip;
	if (unlikely((b->int_ctl & INT_TPR_MASK) != vlapic_get_cr8(&v->lapic)))
		vlapic_set_cr8(v, b->int_ctl & INT_TPR_MASK);
}

static void svm_run(struct vcpu *v, struct vm_exit *exit)
{
	struct svm_vcpu *s = svm_vcpu(v);
	struct svm_pcpu *sp = s->here;
	struct pcpu *p = sp->pcpu;
	struct vmcb *b = &s->vmcb;
	uint64_t flush_gen;
	bool rare;

	registers_in(v, b);
	/* Either p2m_flush() sees us inside and kicks, or we see its new generation. */
	atomic_store_explicit(&p->in_guest, v, memory_order_seq_cst);
	flush_gen = atomic_load_explicit(&v->domain->p2m.flush_gen, memory_order_seq_cst);
	if (unlikely(flush_gen != s->flush_gen || s->asid_gen != sp->asid_gen))
		new_translations(s, flush_gen);
	rare = b->tlb_control | b->event_inj | s->window | s->nmi_masked;

	if (unlikely(s->spec_ctrl | s->virt_spec))
		set_spec_ctrl(s, s->spec_ctrl, s->virt_spec);
	svm_enter(mfn_to_paddr(virt_to_mfn(b)), v->regs.gpr, sp->host_vmcb);
	if (unlikely(s->spec_ctrl | s->virt_spec))
		set_spec_ctrl(s, 0, 0);
	atomic_store_explicit(&p->in_guest, NULL, memory_order_release);
	b->clean = CLEAN_ALL;
	if (unlikely(rare || (b->exit_int_info & EVENT_VALID)))
		after_exit(s);
	registers_out(v, b);
	svm_decode_exit(v, exit);
	if (exit->kind == EXIT_CPUID)
		xcr0_out(v);
}

/* --- Events ------------------------------------------------------------- */

/* Not after the instruction was completed here. */
static bool in_shadow(const struct vcpu *v)
{
	const struct vmcb *b = svm_vmcb(v);

	return (b->int_shadow & 1) && b->rip == v->regs.rip;
}

static bool svm_event_pending(struct vcpu *v)
{
	return svm_vmcb(v)->event_inj & EVENT_VALID;
}

static bool svm_can_interrupt(struct vcpu *v)
{
	return (v->regs.rflags & RFLAGS_IF) && !in_shadow(v) && !svm_event_pending(v);
}

static bool svm_can_nmi(struct vcpu *v)
{
	return !svm_vcpu(v)->nmi_masked && !in_shadow(v) && !svm_event_pending(v);
}

static void svm_inject(struct vcpu *v, enum event_type type, uint8_t vector, uint32_t error,
		       uint64_t extra)
{
	struct svm_vcpu *s = svm_vcpu(v);
	struct vmcb *b = &s->vmcb;

	b->event_inj = vector | (uint32_t)type << EVENT_TYPE_SHIFT | EVENT_VALID;
	b->event_error = error;
	if (type == EVENT_NMI) {
		s->nmi_masked = true;
		s->nmi_iret = false;
		vmcb_intercept(b, SVM_EXIT_IRET, true);
	} else if (type == EVENT_EXCEPTION) {
		if (WITH_ERROR >> vector & 1)
			b->event_inj |= EVENT_HAS_ERROR;
		if (vector == VECTOR_PF)
			b->cr2 = extra;
		else if (vector == VECTOR_DB)
			b->dr6 |= extra;
		b->clean &= ~(CLEAN_CR2 | CLEAN_DR);
	}
}

static void svm_irq_window(struct vcpu *v, unsigned int prio)
{
	struct svm_vcpu *s = svm_vcpu(v);
	struct vmcb *b = &s->vmcb;

	s->window = true;
	/*
	 * Not V_IRQ for what the TPR holds back: QEMU lets equal priorities
	 * through. And with V_IRQ it aborts when a write of CR8 opens the window.
	 */
	vmcb_intercept(b, SVM_EXIT_CR8_WRITE, true);
	if (prio <= vlapic_get_cr8(&v->lapic) || (prio == PRIO_NMI && s->nmi_masked))
		return;
	prio = MIN(prio, 15u);
	b->int_ctl = (b->int_ctl & ~INT_PRIO_MASK) | INT_IRQ | prio << INT_PRIO_SHIFT;
	b->clean &= ~CLEAN_TPR;
	vmcb_intercept(b, SVM_EXIT_VINTR, true);
}

/* --- Small things ------------------------------------------------------- */

static uint8_t svm_get_cpl(struct vcpu *v)
{
	return svm_vmcb(v)->cpl;
}

static enum insn_mode svm_get_code(struct vcpu *v, gva_t *ip)
{
	const struct vmcb *b = svm_vmcb(v);

	return cpu_code(b->cr0, b->efer, &b->seg[SEG_CS], &v->regs, ip);
}

static void svm_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
	struct vmcb *b = svm_vmcb(v);

	b->tsc_offset = offset;
	b->clean &= ~CLEAN_INTERCEPTS;
}

static uint8_t *svm_xsave_area(struct vcpu *v, size_t *size)
{
	*size = svm.xsave_size;
	return (uint8_t *)svm_vcpu(v)->xsave;
}

const struct cpu_ops svm_ops = {
	.pcpu_init = svm_pcpu_init, .vcpu_init = svm_vcpu_init, .vcpu_destroy = svm_vcpu_destroy,
	.load = svm_load, .save = svm_save, .run = svm_run,
	.get_system = svm_get_system, .set_system = svm_set_system,
	.system_valid = svm_system_valid, .xsave_area = svm_xsave_area,
	.get_paging = svm_get_paging, .get_segment = svm_get_segment,
	.get_code = svm_get_code, .get_cpl = svm_get_cpl,
	.can_interrupt = svm_can_interrupt, .can_nmi = svm_can_nmi,
	.event_pending = svm_event_pending, .inject = svm_inject, .irq_window = svm_irq_window,
	.msr_read = svm_msr_read, .msr_write = svm_msr_write,
	.set_tsc_offset = svm_set_tsc_offset, .dump = svm_dump,
	.hypercall_insn = { 0x0f, 0x01, 0xd9 },
};
