/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine control block of AMD-V: APM volume 2, appendix B.
 */
#ifndef HOSPES_VMCB_H
#define HOSPES_VMCB_H

#include "hospes/types.h"

/* intercept[VMCB_MISC1] */
#define I1_INTR		(1u << 0)
#define I1_NMI		(1u << 1)
#define I1_INIT		(1u << 3)
#define I1_VINTR	(1u << 4)
#define I1_RDPMC	(1u << 15)
#define I1_CPUID	(1u << 18)
#define I1_RSM		(1u << 19)
#define I1_IRET		(1u << 20)
#define I1_INVD		(1u << 22)
#define I1_PAUSE	(1u << 23)
#define I1_HLT		(1u << 24)
#define I1_INVLPGA	(1u << 26)
#define I1_IOIO		(1u << 27)
#define I1_MSR		(1u << 28)
#define I1_FERR		(1u << 30)
#define I1_SHUTDOWN	(1u << 31)

/* intercept[VMCB_MISC2] */
#define I2_VMRUN	(1u << 0)
#define I2_VMMCALL	(1u << 1)
#define I2_VMLOAD	(1u << 2)
#define I2_VMSAVE	(1u << 3)
#define I2_STGI		(1u << 4)
#define I2_CLGI		(1u << 5)
#define I2_SKINIT	(1u << 6)
#define I2_ICEBP	(1u << 8)
#define I2_WBINVD	(1u << 9)
#define I2_MONITOR	(1u << 10)
#define I2_MWAIT	(1u << 11)
#define I2_XSETBV	(1u << 13)
#define I2_RDPRU	(1u << 14)

/* intercept[VMCB_MISC3] */
#define I3_INVLPGB	(1u << 0)
#define I3_MCOMMIT	(1u << 3)
#define I3_TLBSYNC	(1u << 4)

enum { VMCB_CR, VMCB_DR, VMCB_EXCEPTIONS, VMCB_MISC1, VMCB_MISC2, VMCB_MISC3 };

/* clean: the CPU may use its cached copy of these fields. */
#define CLEAN_INTERCEPTS	(1u << 0)
#define CLEAN_ASID		(1u << 2)
#define CLEAN_TPR		(1u << 3)
#define CLEAN_NP		(1u << 4)
#define CLEAN_CR		(1u << 5)
#define CLEAN_DR		(1u << 6)
#define CLEAN_DT		(1u << 7)
#define CLEAN_SEG		(1u << 8)
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

/* exit codes */
#define SVM_EXIT_EXCEPTION	0x40u
#define SVM_EXIT_IRET		0x74u
#define SVM_EXIT_IOIO		0x7bu
#define SVM_EXIT_MSR		0x7cu
#define SVM_EXIT_ICEBP		0x88u
#define SVM_EXIT_NPF		0x400u
#define SVM_EXIT_INVALID	0xffffffffu	/* 64 bits of ones on real CPUs */

struct vmcb_seg {
	uint16_t sel;
	uint16_t attr;		/* as in struct guest_segment */
	uint32_t limit;
	uint64_t base;
};

struct vmcb {
	/* control area */
	uint32_t intercept[6];
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

#define VMCB_AT(field, off) \
	_Static_assert(offsetof(struct vmcb, field) == (off), "VMCB offset of " #field)

VMCB_AT(pause_threshold, 0x3c);
VMCB_AT(pause_count, 0x3e);
VMCB_AT(iopm, 0x40);
VMCB_AT(msrpm, 0x48);
VMCB_AT(tsc_offset, 0x50);
VMCB_AT(asid, 0x58);
VMCB_AT(tlb_control, 0x5c);
VMCB_AT(int_ctl, 0x60);
VMCB_AT(int_shadow, 0x68);
VMCB_AT(exit_code, 0x70);
VMCB_AT(exit_info1, 0x78);
VMCB_AT(exit_info2, 0x80);
VMCB_AT(exit_int_info, 0x88);
VMCB_AT(np_enable, 0x90);
VMCB_AT(event_inj, 0xa8);
VMCB_AT(ncr3, 0xb0);
VMCB_AT(clean, 0xc0);
VMCB_AT(next_rip, 0xc8);
VMCB_AT(insn_len, 0xd0);
VMCB_AT(es, 0x400);
VMCB_AT(gdtr, 0x460);
VMCB_AT(idtr, 0x480);
VMCB_AT(tr, 0x490);
VMCB_AT(cpl, 0x4cb);
VMCB_AT(efer, 0x4d0);
VMCB_AT(cr4, 0x548);
VMCB_AT(dr7, 0x560);
VMCB_AT(rflags, 0x570);
VMCB_AT(rip, 0x578);
VMCB_AT(rsp, 0x5d8);
VMCB_AT(rax, 0x5f8);
VMCB_AT(star, 0x600);
VMCB_AT(kernel_gs_base, 0x620);
VMCB_AT(sysenter_cs, 0x628);
VMCB_AT(cr2, 0x640);
VMCB_AT(g_pat, 0x668);
_Static_assert(sizeof(struct vmcb) == PAGE_SIZE, "VMCB size");

#endif
