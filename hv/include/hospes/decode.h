/* SPDX-License-Identifier: MIT */
/*
 * x86 instruction decoder for what is emulated and what exits without a length.
 *
 * The bytes come from the guest and are hostile. No function here keeps state,
 * takes a lock or touches memory other than its arguments; all may be called
 * anywhere. What is decoded may differ from what the CPU executed, because
 * another vCPU can rewrite the bytes: callers check insn.op against the exit.
 */
#ifndef HOSPES_DECODE_H
#define HOSPES_DECODE_H

#include "hospes/types.h"

#define INSN_MAX_LEN 15
#define INSN_NO_REG 0xff

/* Default size of the code segment; 16 is real mode, vm86 and 16-bit protected mode. */
enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

enum insn_op {
	INSN_OTHER = 0,		/* nothing to do with here; not decoded */
	/* exactly one encoding without prefixes: insn_length_fast() knows them */
	INSN_CPUID, INSN_RDMSR, INSN_WRMSR, INSN_VMMCALL, INSN_HLT, INSN_PAUSE, INSN_XSETBV,
	INSN_INVD, INSN_WBINVD, INSN_ICEBP,
	INSN_FIXED_COUNT, INSN_MOV_TO_CR = INSN_FIXED_COUNT,
	/* emulated; those that use ports last */
	INSN_ADD, INSN_OR, INSN_ADC, INSN_SBB, INSN_AND, INSN_SUB, INSN_XOR, INSN_CMP, INSN_TEST,
	INSN_INC, INSN_DEC, INSN_NOT, INSN_NEG, INSN_BT, INSN_BTS, INSN_BTR, INSN_BTC,
	INSN_MOV, INSN_MOVZX, INSN_MOVSX, INSN_MOVBE, INSN_XCHG, INSN_CMPXCHG, INSN_XADD,
	INSN_MOVS, INSN_CMPS, INSN_STOS, INSN_LODS, INSN_SCAS, INSN_INS, INSN_OUTS,
	INSN_OP_COUNT,
};

enum insn_operand { OPD_NONE, OPD_RM, OPD_REG, OPD_ACC, OPD_IMM };

struct insn {
	uint8_t len;
	uint8_t op;		/* enum insn_op */
	uint16_t opcode;	/* with 0x0f or 0x38 above it for those maps */
	uint8_t op_bytes, src_bytes;	/* 1, 2, 4 or 8; the source is smaller for MOVZX, MOVSX */
	uint8_t addr_bytes;	/* 2, 4 or 8 */
	uint8_t dst, src;	/* enum insn_operand */
	uint8_t rep;		/* 0, 0xf2 or 0xf3: the last one seen */
	uint8_t rex;		/* 0 or 0x40..0x4f */
	uint8_t seg;		/* enum guest_seg of the memory operand, overrides applied */
	bool opsize, lock;	/* prefix seen */
	bool is_mem;		/* OPD_RM is in memory at base + (index << scale) + disp */
	bool rip_relative;	/* add the address of the next instruction */
	uint8_t modrm, reg, rm;	/* reg and rm extended by REX; rm only if !is_mem */
	uint8_t base, index, scale;	/* base, index: GPR_* or INSN_NO_REG */
	uint64_t disp, imm;	/* sign-extended from their sizes in the encoding */
};

/*
 * Decode one instruction out of avail bytes of guest input.
 * Returns 0 and fills *out; -XEN_EFAULT: it goes on past avail, come again with
 * more; -XEN_E2BIG: longer than 15 bytes (the CPU raises #GP); -XEN_EOPNOTSUPP:
 * not one that is known here. On an error only out->opcode may be of use.
 */
int __must_check insn_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode,
			     struct insn *out);

struct insn_pattern {
	uint32_t bytes, mask;	/* little endian, as loaded */
	uint32_t len;
};

extern const struct insn_pattern insn_patterns[INSN_FIXED_COUNT];

/*
 * The quick way to the length of an op < INSN_FIXED_COUNT, in any mode:
 * 0 when there are prefixes, too few bytes, or anything else to think about.
 */
static inline unsigned int insn_length_fast(const uint8_t *bytes, size_t avail, enum insn_op op)
{
	const struct insn_pattern *p = &insn_patterns[op];
	uint32_t v;

	if (unlikely(avail < sizeof(v)))
		return 0;
	__builtin_memcpy(&v, bytes, sizeof(v));
	return likely(((v ^ p->bytes) & p->mask) == 0) ? p->len : 0;
}

#endif
