/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine control block of AMD-V: APM volume 2, appendix B.
 */
#ifndef HOSPES_VMCB_H
#define HOSPES_VMCB_H

#include "hospes/regs.h"
#include "hospes/types.h"

/* Exit codes. Those below 0xc0 are also numbers of bits in intercept[]. */
enum {
	SVM_EXIT_CR8_WRITE = 0x18, SVM_EXIT_EXCEPTION = 0x40 /* + vector */,
	SVM_EXIT_INTR = 0x60, SVM_EXIT_NMI, SVM_EXIT_INIT = 0x63, SVM_EXIT_VINTR,
	SVM_EXIT_RDPMC = 0x6f, SVM_EXIT_CPUID = 0x72, SVM_EXIT_RSM, SVM_EXIT_IRET,
	SVM_EXIT_INVD = 0x76, SVM_EXIT_PAUSE, SVM_EXIT_HLT, SVM_EXIT_INVLPGA = 0x7a,
	SVM_EXIT_IOIO, SVM_EXIT_MSR, SVM_EXIT_SHUTDOWN = 0x7f, SVM_EXIT_VMRUN,
	SVM_EXIT_VMMCALL, SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI, SVM_EXIT_CLGI,
	SVM_EXIT_SKINIT, SVM_EXIT_ICEBP = 0x88, SVM_EXIT_WBINVD, SVM_EXIT_MONITOR,
	SVM_EXIT_MWAIT, SVM_EXIT_XSETBV = 0x8d, SVM_EXIT_RDPRU, SVM_EXIT_INVLPGB = 0xa0,
	SVM_EXIT_MCOMMIT = 0xa3, SVM_EXIT_TLBSYNC, SVM_EXIT_INTERCEPTS = 0xc0,
	SVM_EXIT_NPF = 0x400,
};

/* clean: the CPU may use its cached copy of these fields. */
#define CLEAN_INTERCEPTS	(1u << 0)
#define CLEAN_ASID		(1u << 2)
#define CLEAN_TPR		(1u << 3)
#define CLEAN_NP		(1u << 4)
#define CLEAN_CR		(1u << 5)
#define CLEAN_DR		(1u << 6)
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

struct vmcb {
	/* control area */
	uint32_t intercept[SVM_EXIT_INTERCEPTS / 32];
	uint8_t pad1[0x3c - 0x18];
	uint16_t pause_threshold, pause_count;
	uint64_t iopm, msrpm, tsc_offset;
	uint32_t asid, tlb_control, int_ctl, int_vector;
	uint64_t int_shadow;
	uint64_t exit_code, exit_info1, exit_info2;
	uint32_t exit_int_info, exit_int_error;
	uint64_t np_enable;
	uint8_t pad2[0xa8 - 0x98];
	uint32_t event_inj, event_error;
	uint64_t ncr3;
	uint8_t pad3[0xc0 - 0xb8];
	uint32_t clean;
	uint64_t next_rip;
	uint8_t insn_len, insn[15];
	uint8_t pad4[0x400 - 0xe0];

	/* state save area */
	struct guest_segment seg[SEG_COUNT];
	uint8_t pad5[0x4cb - 0x4a0];
	uint8_t cpl;
	uint64_t efer;
	uint8_t pad6[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t pad7[0x5d8 - 0x580];
	uint64_t rsp;
	uint8_t pad8[0x5f8 - 0x5e0];
	uint64_t rax, star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	uint8_t pad9[0x668 - 0x648];
	uint64_t g_pat;
	uint8_t pad10[0x1000 - 0x670];
};

static inline void vmcb_intercept(struct vmcb *b, unsigned int code, bool on)
{
	uint32_t bit = 1u << (code % 32);

	b->intercept[code / 32] = (b->intercept[code / 32] & ~bit) | (on ? bit : 0);
	b->clean &= ~CLEAN_INTERCEPTS;
}

#define VMCB_AT(field, off) \
	_Static_assert(offsetof(struct vmcb, field) == (off), "VMCB offset of " #field)

/* The first field behind every padding. */
VMCB_AT(pause_threshold, 0x3c); VMCB_AT(event_inj, 0xa8); VMCB_AT(clean, 0xc0);
VMCB_AT(next_rip, 0xc8); VMCB_AT(seg, 0x400); VMCB_AT(cpl, 0x4cb); VMCB_AT(efer, 0x4d0);
VMCB_AT(cr4, 0x548); VMCB_AT(rsp, 0x5d8); VMCB_AT(rax, 0x5f8); VMCB_AT(g_pat, 0x668);
_Static_assert(sizeof(struct vmcb) == PAGE_SIZE, "VMCB size");

#endif
