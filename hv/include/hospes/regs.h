/* SPDX-License-Identifier: MIT */
/*
 * The registers of a guest, in a shape no CPU vendor owns.
 *
 * General registers and segments stand in the order the x86 encoding numbers
 * them, so that a decoded field is an index.
 */
#ifndef HOSPES_REGS_H
#define HOSPES_REGS_H

#include <stdint.h>

enum {
	GPR_RAX = 0, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI,
	GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15,
	GPR_COUNT,
};

/* What somebody here looks at. The bits are ints: their complement has all upper bits. */
enum {
	VECTOR_DB = 1, VECTOR_NMI = 2, VECTOR_BP = 3, VECTOR_OF = 4, VECTOR_UD = 6,
	VECTOR_SS = 12, VECTOR_GP = 13, VECTOR_PF = 14, VECTOR_AC = 17, VECTOR_MC = 18,
};
enum {
	RFLAGS_CF = 1 << 0, RFLAGS_RESET = 1 << 1, RFLAGS_PF = 1 << 2, RFLAGS_AF = 1 << 4,
	RFLAGS_ZF = 1 << 6, RFLAGS_SF = 1 << 7, RFLAGS_TF = 1 << 8, RFLAGS_IF = 1 << 9,
	RFLAGS_DF = 1 << 10, RFLAGS_OF = 1 << 11, RFLAGS_RF = 1 << 16, RFLAGS_VM = 1 << 17,
};
enum {
	CR0_PE = 1 << 0, CR0_WP = 1 << 16, CR0_NW = 1 << 29, CR0_CD = 1 << 30,
	CR4_PSE = 1 << 4, CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXSAVE = 1 << 18,
	EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NX = 1 << 11, EFER_SVME = 1 << 12,
	XCR0_X87 = 1 << 0, XCR0_SSE = 1 << 1, XCR0_AVX = 1 << 2, XCR0_AVX512 = 7 << 5,
	DR6_BS = 1 << 14,
};
#define CR0_PG (1ULL << 31)
#define DR6_RESET 0xffff0ff0u
#define DR7_RESET 0x400u
#define PAT_RESET 0x0007040600070406ULL

struct guest_regs {
	uint64_t gpr[GPR_COUNT];
	uint64_t rip, rflags;
};

/* The first six in encoding order; all as a VMCB has them. */
enum guest_seg {
	SEG_ES = 0, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_GDTR, SEG_LDTR, SEG_IDTR, SEG_TR,
	SEG_COUNT,
};

/*
 * attr: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11. limit is in
 * bytes. GDTR and IDTR have base and limit only.
 */
struct guest_segment {
	uint16_t sel, attr;
	uint32_t limit;
	uint64_t base;
};

#endif
