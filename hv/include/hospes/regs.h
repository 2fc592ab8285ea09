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

struct guest_regs {
	uint64_t gpr[GPR_COUNT];
	uint64_t rip;
	uint64_t rflags;
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
	uint16_t sel;
	uint16_t attr;
	uint32_t limit;
	uint64_t base;
};

#endif
