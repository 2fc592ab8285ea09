/* SPDX-License-Identifier: MIT */
/*
 * What the files of the AMD-V part share: svm.c (CPUs, world switch),
 * state.c (registers, events and MSRs in a VMCB), exit decoding in between.
 */
#ifndef HOSPES_SVM_H
#define HOSPES_SVM_H

#include "hospes/domain.h"
#include "x86/svm/vmcb.h"

/* CPUID 8000000A EDX */
#define SVM_NPT		(1u << 0)
#define SVM_NRIP	(1u << 3)
#define SVM_FLUSH_ASID	(1u << 6)
#define SVM_ASSISTS	(1u << 7)
#define SVM_PAUSE	(1u << 10)
#define SVM_PAUSE_THR	(1u << 12)

#define CPUID_IBPB	(1u << 12)	/* 80000008 EBX */

enum {
	MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49, MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_PAT = 0x277,
};
#define MSR_EFER	0xc0000080u
#define MSR_STAR	0xc0000081u
#define MSR_LSTAR	0xc0000082u
#define MSR_CSTAR	0xc0000083u
#define MSR_SFMASK	0xc0000084u
#define MSR_FS_BASE	0xc0000100u
#define MSR_GS_BASE	0xc0000101u
#define MSR_KERNEL_GS	0xc0000102u
#define MSR_TSC_AUX	0xc0000103u
#define MSR_VIRT_SPEC	0xc001011fu

struct svm_pcpu;

/* What v->cpu_state points to. The CPU that runs the vCPU owns it. */
struct svm_vcpu {
	struct vmcb vmcb;
	struct svm_pcpu *here;		/* the CPU it is or was last loaded on */
	uint64_t asid_gen;		/* of that CPU, when it gave the ASID */
	uint64_t flush_gen;		/* the p2m's, when last flushed */
	uint64_t spec_ctrl, virt_spec;	/* the guest's; the host's are zero */
	uint64_t dr[4];
	uint64_t iret_rip;
	bool window;			/* asked for at the next entry */
	bool nmi_masked;		/* from injection until after the IRET */
	bool nmi_iret;			/* the IRET is at iret_rip */
	_Alignas(64) uint32_t xsave[];	/* as large as svm.order leaves room for */
};

static inline struct svm_vcpu *svm_vcpu(const struct vcpu *v)
{
	return v->cpu_state;
}

static inline struct vmcb *svm_vmcb(const struct vcpu *v)
{
	return &svm_vcpu(v)->vmcb;
}

/* What the machine offers, equal on all CPUs. Set by svm_pcpu_init(). */
struct svm_machine {
	uint32_t features;		/* CPUID 8000000A EDX */
	uint32_t nr_asids;
	bool ibpb, tsc_aux;
	uint64_t xmask;			/* XSAVE components to switch */
	size_t xsave_size;		/* of the area for them */
	unsigned int order;		/* of struct svm_vcpu, in pages */
	uint64_t *iopm, *msrpm;		/* owned, shared by all vCPUs */
};
extern struct svm_machine svm;

/*
 * Assembly: runs the guest until it exits. GIF is 0 and the guest's VMLOAD
 * state loaded only inside; @gpr is struct guest_regs.gpr without RAX and
 * RSP, which are in the VMCB. Guest values are gone from registers after.
 */
void svm_enter(paddr_t vmcb, uint64_t *gpr, paddr_t host_vmcb);

/* Translates what the VMCB says about the last exit. */
void svm_decode_exit(struct vcpu *v, struct vm_exit *exit);

/* Puts a fresh VMCB into the state after reset. */
void svm_vmcb_init(struct vcpu *v);

void svm_get_system(struct vcpu *v, struct guest_system *sys);
int svm_set_system(struct vcpu *v, const struct guest_system *sys);
bool svm_system_valid(const struct guest_system *s);
void svm_get_paging(struct vcpu *v, struct guest_paging *g);
void svm_get_segment(struct vcpu *v, enum guest_seg nr, struct guest_segment *seg);
bool svm_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
bool svm_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
void svm_dump(struct vcpu *v);

#endif
