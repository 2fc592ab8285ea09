/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine control block of AMD-V: APM volume 2, appendix B.
 */
#ifndef HOSPES_VMCB_H
#define HOSPES_VMCB_H

#include "hospes/types.h"

/* Exit codes. Those below 0xc0 are also numbers of bits in intercept[]. */
#define SVM_EXIT_CR8_WRITE	0x18u
#define SVM_EXIT_EXCEPTION	0x40u	/* + vector */
#define SVM_EXIT_INTR		0x60u
#define SVM_EXIT_NMI		0x61u
#define SVM_EXIT_INIT		0x63u
#define SVM_EXIT_VINTR		0x64u
#define SVM_EXIT_RDPMC		0x6fu
#define SVM_EXIT_CPUID		0x72u
#define SVM_EXIT_RSM		0x73u
#define SVM_EXIT_IRET		0x74u
#define SVM_EXIT_INVD		0x76u
#define SVM_EXIT_PAUSE		0x77u
#define SVM_EXIT_HLT		0x78u
#define SVM_EXIT_INVLPGA	0x7au
#define SVM_EXIT_IOIO		0x7bu
#define SVM_EXIT_MSR		0x7cu
#define SVM_EXIT_SHUTDOWN	0x7fu
#define SVM_EXIT_VMRUN		0x80u
#define SVM_EXIT_VMMCALL	0x81u
#define SVM_EXIT_VMLOAD		0x82u
#define SVM_EXIT_VMSAVE		0x83u
#define SVM_EXIT_STGI		0x84u
#define SVM_EXIT_CLGI		0x85u
#define SVM_EXIT_SKINIT		0x86u
#define SVM_EXIT_ICEBP		0x88u
#define SVM_EXIT_WBINVD		0x89u
#define SVM_EXIT_MONITOR	0x8au
#define SVM_EXIT_MWAIT		0x8bu
#define SVM_EXIT_XSETBV		0x8du
#define SVM_EXIT_RDPRU		0x8eu
#define SVM_EXIT_INVLPGB	0xa0u
#define SVM_EXIT_MCOMMIT	0xa3u
#define SVM_EXIT_TLBSYNC	0xa4u
#define SVM_EXIT_INTERCEPTS	0xc0u
#define SVM_EXIT_NPF		0x400u
#define SVM_EXIT_INVALID	0xffffffffu	/* 64 bits of ones on real CPUs */

/* clean: the CPU may use its cached copy of these fields. */
#define CLEAN_INTERCEPTS	(1u << 0)
#define CLEAN_ASID		(1u << 2)
#define CLEAN_TPR		(1u << 3)
#define CLEAN_NP		(1u << 4)
#define CLEAN_CR		(1u << 5)
#define CLEAN_CR2		(1u << 9)
#define CLEAN_ALL		0x3ffu

/* int_ctl: the virtual TPR is in bits 3:0. */
#define INT_TPR_MASK	0xfu
#define INT_IRQ		(1u << 8)
#define INT_PRIO_SHIFT	16
#define INT_PRIO_MASK	(0xfu << INT_PRIO_SHIFT)
#define INT_MASKING	(1u << 24)

#define TLB_FLUSH_ALL	1u
#define TLB_FLUSH_ASID	3u

/* event_inj and exit_int_info */
#define EVENT_TYPE_SHIFT 8
#define EVENT_HAS_ERROR	(1u << 11)
#define EVENT_VALID	(1u << 31)

struct vmcb_seg {
	uint16_t sel;
	uint16_t attr;		/* as in struct guest_segment */
	uint32_t limit;
	uint64_t base;
};

struct vmcb {
	/* control area */
	uint32_t intercept[SVM_EXIT_INTERCEPTS / 32];
	uint8_t pad1[0x3c - 0x18];
	uint16_t pause_threshold;
	uint16_t pause_count;
	uint64_t iopm;
	uint64_t msrpm;
	uint64_t tsc_offset;
	uint32_t asid;
	uint32_t tlb_control;
	uint32_t int_ctl;
	uint32_t int_vector;
	uint64_t int_shadow;
	uint64_t exit_code;
	uint64_t exit_info1;
	uint64_t exit_info2;
	uint32_t exit_int_info;
	uint32_t exit_int_error;
	uint64_t np_enable;
	uint8_t pad2[0xa8 - 0x98];
	uint32_t event_inj;
	uint32_t event_error;
	uint64_t ncr3;
	uint64_t lbr;
	uint32_t clean;
	uint32_t pad3;
	uint64_t next_rip;
	uint8_t insn_len;
	uint8_t insn[15];
	uint8_t pad4[0x400 - 0xe0];

	/* state save area */
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t pad5[0x4cb - 0x4a0];
	uint8_t cpl;
	uint32_t pad6;
	uint64_t efer;
	uint8_t pad7[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0;
	uint64_t dr7, dr6;
	uint64_t rflags, rip;
	uint8_t pad8[0x5d8 - 0x580];
	uint64_t rsp;
	uint8_t pad9[0x5f8 - 0x5e0];
	uint64_t rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t cr2;
	uint8_t pad10[0x668 - 0x648];
	uint64_t g_pat;
	uint8_t pad11[0x1000 - 0x670];
};

static inline void vmcb_intercept(struct vmcb *b, unsigned int code, bool on)
{
	uint32_t bit = 1u << (code % 32);

	b->intercept[code / 32] = (b->intercept[code / 32] & ~bit) | (on ? bit : 0);
	b->clean &= ~CLEAN_INTERCEPTS;
}

#define VMCB_AT(field, off) \
	_Static_assert(offsetof(struct vmcb, field) == (off), "VMCB offset of " #field)

VMCB_AT(pause_threshold, 0x3c); VMCB_AT(iopm, 0x40); VMCB_AT(asid, 0x58); VMCB_AT(int_ctl, 0x60);
VMCB_AT(exit_code, 0x70); VMCB_AT(exit_int_info, 0x88); VMCB_AT(event_inj, 0xa8);
VMCB_AT(ncr3, 0xb0); VMCB_AT(clean, 0xc0); VMCB_AT(next_rip, 0xc8); VMCB_AT(es, 0x400);
VMCB_AT(tr, 0x490); VMCB_AT(cpl, 0x4cb); VMCB_AT(efer, 0x4d0); VMCB_AT(cr4, 0x548);
VMCB_AT(rip, 0x578); VMCB_AT(rsp, 0x5d8); VMCB_AT(rax, 0x5f8); VMCB_AT(kernel_gs_base, 0x620);
VMCB_AT(sysenter_cs, 0x628); VMCB_AT(cr2, 0x640); VMCB_AT(g_pat, 0x668);
_Static_assert(sizeof(struct vmcb) == PAGE_SIZE, "VMCB size");

#endif
