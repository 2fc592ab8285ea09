/* SPDX-License-Identifier: MIT */
/*
 * x86 instruction decoder, driven by one table per opcode map.
 *
 * Lengths follow AMD64 APM volume 3: there an operand-size prefix shortens a
 * near branch in 64-bit mode too. Undefined opcodes of the 0F38, 0F3A, VEX,
 * EVEX and XOP maps get the length of their neighbours, not an error.
 */
#include "hospes/decode.h"

#include "hospes/abi.h"
#include "hospes/regs.h"

/* Attributes of an opcode: kind of immediate in the low bits, then flags. */
enum {
	IB = 1,		/* one byte */
	IZ,		/* operand size, at most 4 bytes */
	IV,		/* operand size */
	IW,		/* two bytes */
	IWB,		/* two bytes and one more (ENTER) */
	IAP,		/* far pointer */
	IMOFFS,		/* an address instead of modrm */
	IMM_MASK = 7,
	M = 0x08,	/* has modrm */
	B = 0x10,	/* byte operands */
	NO64 = 0x20,	/* invalid in 64-bit mode */
	RR = 0x40,	/* modrm names registers whatever mod says */
};

/* Values of entry.op beyond enum insn_op: groups, from which modrm.reg selects. */
enum {
	INSN_GRP3 = INSN_OP_COUNT, INSN_GRP4, INSN_GRP5, INSN_GRP8, INSN_GRP11, INSN_GRP_ALU,
	INSN_INVALID,
};

struct entry {
	uint8_t op;
	uint8_t form;	/* enum insn_operand: destination << 4 | source */
	uint8_t attr;
};

#define E(op, dst, src, attr) { INSN_##op, (OPD_##dst << 4) | OPD_##src, (attr) }
#define X(attr) { INSN_OTHER, 0, (attr) }
#define BAD { INSN_INVALID, 0, 0 }
#define X4(attr) X(attr), X(attr), X(attr), X(attr)
#define X8(attr) X4(attr), X4(attr)
#define X16(attr) X8(attr), X8(attr)
#define BW(op, dst, src, attr) E(op, dst, src, (attr) | B), E(op, dst, src, attr)
#define ALU(op) BW(op, RM, REG, M), BW(op, REG, RM, M), \
	E(op, ACC, IMM, IB | B), E(op, ACC, IMM, IZ)

static const struct entry map_legacy[256] = {
	/* 00 */ ALU(ADD), X(NO64), X(NO64), ALU(OR), X(NO64), BAD,
	/* 10 */ ALU(ADC), X(NO64), X(NO64), ALU(SBB), X(NO64), X(NO64),
	/* 20 */ ALU(AND), BAD, X(NO64), ALU(SUB), BAD, X(NO64),
	/* 30 */ ALU(XOR), BAD, X(NO64), ALU(CMP), BAD, X(NO64),
	/* 40 */ X16(NO64), X16(0),
	/* 60 */ X(NO64), X(NO64), X(M | NO64), E(MOVSX, REG, RM, M), BAD, BAD, BAD, BAD,
	/* 68 */ X(IZ), X(M | IZ), X(IB), X(M | IB),
	/* 6C */ BW(INS, NONE, NONE, 0), BW(OUTS, NONE, NONE, 0),
	/* 70 */ X16(IB),
	/* 80 */ E(GRP_ALU, RM, IMM, M | B | IB), E(GRP_ALU, RM, IMM, M | IZ),
	/* 82 */ E(GRP_ALU, RM, IMM, M | B | IB | NO64), E(GRP_ALU, RM, IMM, M | IB),
	/* 84 */ BW(TEST, RM, REG, M), BW(XCHG, RM, REG, M),
	/* 88 */ BW(MOV, RM, REG, M), BW(MOV, REG, RM, M), X4(M),
	/* 90 */ X8(0), X(0), X(0), X(IAP | NO64), X(0), X4(0),
	/* A0 */ BW(MOV, ACC, RM, IMOFFS), BW(MOV, RM, ACC, IMOFFS),
	/* A4 */ BW(MOVS, NONE, NONE, 0), BW(CMPS, NONE, NONE, 0),
	/* A8 */ E(TEST, ACC, IMM, IB | B), E(TEST, ACC, IMM, IZ), BW(STOS, NONE, NONE, 0),
	/* AC */ BW(LODS, NONE, NONE, 0), BW(SCAS, NONE, NONE, 0),
	/* B0 */ X8(IB), X8(IV),
	/* C0 */ X(M | IB), X(M | IB), X(IW), X(0), X(M | NO64), X(M | NO64),
	/* C6 */ E(GRP11, RM, IMM, M | B | IB), E(GRP11, RM, IMM, M | IZ),
	/* C8 */ X(IWB), X(0), X(IW), X(0), X(0), X(IB), X(NO64), X(0),
	/* D0 */ X4(M), X(IB | NO64), X(IB | NO64), X(NO64), X(0), X8(M),
	/* E0 */ X8(IB), X(IZ), X(IZ), X(IAP | NO64), X(IB), X4(0),
	/* F0 */ BAD, E(ICEBP, NONE, NONE, 0), BAD, BAD, E(HLT, NONE, NONE, 0), X(0),
	/* F6 */ BW(GRP3, RM, NONE, M), X4(0), X(0), X(0),
	/* FE */ E(GRP4, RM, NONE, M | B), E(GRP5, RM, NONE, M),
};

static const struct entry map_0f[256] = {
	/* 00 */ X4(M), BAD, X(0), X(0), X(0),
	/* 08 */ E(INVD, NONE, NONE, 0), E(WBINVD, NONE, NONE, 0), BAD, X(0),
	/* 0C */ BAD, X(M), X(0), X(M | IB),
	/* 10 */ X16(M),
	/* 20 */ X(M | RR), X(M | RR), E(MOV_TO_CR, REG, RM, M | RR), X(M | RR),
	/* 24 */ BAD, BAD, BAD, BAD, X8(M),
	/* 30 */ E(WRMSR, NONE, NONE, 0), X(0), E(RDMSR, NONE, NONE, 0), X(0),
	/* 34 */ X(0), X(0), BAD, X(0), BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	/* 40 */ X16(M), X16(M), X16(M),
	/* 70 */ X4(M | IB), X(M), X(M), X(M), X(0), X8(M),
	/* 80 */ X16(IZ), X16(M),
	/* A0 */ X(0), X(0), E(CPUID, NONE, NONE, 0), E(BT, RM, REG, M), X(M | IB), X(M), BAD, BAD,
	/* A8 */ X(0), X(0), X(0), E(BTS, RM, REG, M), X(M | IB), X(M), X(M), X(M),
	/* B0 */ BW(CMPXCHG, RM, REG, M), X(M), E(BTR, RM, REG, M), X(M), X(M),
	/* B6 */ E(MOVZX, REG, RM, M), E(MOVZX, REG, RM, M), X(M), X(M),
	/* BA */ E(GRP8, RM, IMM, M | IB), E(BTC, RM, REG, M), X(M), X(M),
	/* BE */ E(MOVSX, REG, RM, M), E(MOVSX, REG, RM, M),
	/* C0 */ BW(XADD, RM, REG, M), X(M | IB), E(MOV, RM, REG, M),
	/* C4 */ X(M | IB), X(M | IB), X(M | IB), X(M), X8(0),
	/* D0 */ X16(M), X16(M), X16(M),
};

static const struct entry entry_0f38 = X(M);
static const struct entry entry_0f3a = X(M | IB);
static const struct entry entry_xop_a = X(M | IZ);

#define GROUP(name, a, b, c, d, e, f, g, h) \
	[INSN_##name - INSN_OP_COUNT] = { INSN_##a, INSN_##b, INSN_##c, INSN_##d, \
					  INSN_##e, INSN_##f, INSN_##g, INSN_##h }
static const uint8_t groups[][8] = {
	GROUP(GRP3, TEST, TEST, NOT, NEG, OTHER, OTHER, OTHER, OTHER),
	GROUP(GRP4, INC, DEC, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID),
	GROUP(GRP5, INC, DEC, OTHER, OTHER, OTHER, OTHER, OTHER, INVALID),
	GROUP(GRP8, INVALID, INVALID, INVALID, INVALID, BT, BTS, BTR, BTC),
	GROUP(GRP11, MOV, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID, OTHER),
	GROUP(GRP_ALU, ADD, OR, ADC, SBB, AND, SUB, XOR, CMP),
};

#define P1(a) { (a), 0xff, 1 }
#define P2(a, b) { (a) | (b) << 8, 0xffff, 2 }
#define P3(c) { 0x0f | 0x01 << 8 | (uint32_t)(c) << 16, 0xffffff, 3 }

const struct insn_pattern insn_patterns[INSN_FIXED_COUNT] = {
	[INSN_CPUID] = P2(0x0f, 0xa2), [INSN_RDMSR] = P2(0x0f, 0x32), [INSN_WRMSR] = P2(0x0f, 0x30),
	[INSN_VMMCALL] = P3(0xd9), [INSN_HLT] = P1(0xf4), [INSN_PAUSE] = P2(0xf3, 0x90),
	[INSN_XSETBV] = P3(0xd1), [INSN_INVD] = P2(0x0f, 0x08), [INSN_WBINVD] = P2(0x0f, 0x09),
	[INSN_ICEBP] = P1(0xf1),
};

struct cursor {
	const uint8_t *bytes;
	size_t avail;
	size_t pos;
	int rc;		/* the first error; sticky, reads then give 0 */
};

/* The next n bytes, sign-extended. */
static uint64_t take_signed(struct cursor *c, unsigned int n)
{
	uint64_t v = 0;

	if (!c->rc && c->pos + n > INSN_MAX_LEN)
		c->rc = -XEN_E2BIG;
	else if (!c->rc && c->pos + n > c->avail)
		c->rc = -XEN_EFAULT;
	if (c->rc || !n)
		return 0;
	for (unsigned int i = 0; i < n; i++)
		v |= (uint64_t)c->bytes[c->pos++] << (8 * i);
	if (n < 8 && (v >> (8 * n - 1)))
		v |= ~0ULL << (8 * n);
	return v;
}

static uint8_t take_byte(struct cursor *c)
{
	return (uint8_t)take_signed(c, 1);
}

/* What modrm (if any) starts with, without consuming it. */
static uint8_t peek_byte(const struct cursor *c)
{
	return !c->rc && c->pos < c->avail ? c->bytes[c->pos] : 0;
}

/* Prefixes up to and including REX; returns the byte after them. */
static uint8_t decode_prefixes(struct cursor *c, enum insn_mode mode, struct insn *in,
			       bool *addrsize)
{
	for (;;) {
		uint8_t b = take_byte(c);

		switch (b) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			/* 64-bit mode ignores these, also as a cancellation of FS or GS */
			if (mode != INSN_MODE_64)
				in->seg = (b >> 3) & 3;
			break;
		case 0x64: case 0x65:
			in->seg = b & 7;
			break;
		case 0x66:
			in->opsize = true;
			break;
		case 0x67:
			*addrsize = true;
			break;
		case 0xf0:
			in->lock = true;
			break;
		case 0xf2: case 0xf3:
			in->rep = b;
			break;
		default:
			if (mode != INSN_MODE_64 || (b & 0xf0) != 0x40)
				return b;
			in->rex = b;
			continue;
		}
		in->rex = 0;	/* REX counts only right before the opcode */
	}
}

/* Bits of the inverted R, X, B of VEX, EVEX and XOP as a REX prefix. */
static uint8_t vex_rex(uint8_t p0, unsigned int w)
{
	return (uint8_t)(0x40 | ((~p0 >> 5) & 7) | (w ? 8 : 0));
}

/* The entry of an opcode behind VEX (C4, C5), EVEX (62) or XOP (8F). */
static const struct entry *decode_vex(struct cursor *c, struct insn *in, uint8_t kind)
{
	uint8_t p0 = take_byte(c);
	unsigned int map = 1;

	in->vex = true;
	in->map = INSN_MAP_OTHER;
	if (kind == 0xc5) {
		in->rex = vex_rex(p0 | 0x60, 0);
	} else {
		map = kind == 0x62 ? p0 & 7 : p0 & 0x1f;
		in->rex = vex_rex(p0, take_byte(c) & 0x80);
		if (kind == 0x62)
			take_byte(c);
	}
	in->opcode = take_byte(c);
	switch (map) {
	case 1:
		/* imm8 where 0F has one and modrm; of the others only 77 exists */
		return (map_0f[in->opcode].attr & M) || in->opcode == 0x77 ?
			&map_0f[in->opcode] : NULL;
	case 2: case 5: case 6: case 9:
		return &entry_0f38;
	case 3: case 8:
		return &entry_0f3a;
	case 10:
		return &entry_xop_a;
	default:
		return NULL;
	}
}

static bool is_vex(const struct cursor *c, enum insn_mode mode, uint8_t b)
{
	if (b == 0x8f)	/* POP has reg 0, XOP map numbers begin at 8 */
		return (peek_byte(c) & 0x1f) >= 8;
	if (b != 0xc4 && b != 0xc5 && b != 0x62)
		return false;
	/* elsewhere these are LES, LDS and BOUND, which take memory operands only */
	return mode == INSN_MODE_64 || (peek_byte(c) & 0xc0) == 0xc0;
}

static const struct entry *decode_opcode(struct cursor *c, enum insn_mode mode, struct insn *in,
					 uint8_t b)
{
	if (is_vex(c, mode, b))
		return decode_vex(c, in, b);
	in->opcode = b;
	if (b != 0x0f)
		return &map_legacy[b];
	in->opcode = b = take_byte(c);
	in->map = INSN_MAP_0F;
	if (b != 0x38 && b != 0x3a)
		return &map_0f[b];
	in->opcode = take_byte(c);
	in->map = b == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
	return b == 0x38 ? &entry_0f38 : &entry_0f3a;
}

static void decode_sizes(struct insn *in, enum insn_mode mode, bool addrsize, uint8_t attr)
{
	if (mode == INSN_MODE_64) {
		in->addr_bytes = addrsize ? 4 : 8;
		in->op_bytes = in->rex & 8 ? 8 : in->opsize ? 2 : 4;
	} else {
		in->addr_bytes = addrsize == (mode == INSN_MODE_16) ? 4 : 2;
		in->op_bytes = in->opsize == (mode == INSN_MODE_16) ? 4 : 2;
	}
	if (attr & RR)
		in->op_bytes = mode == INSN_MODE_64 ? 8 : 4;
}

static void decode_mem16(struct cursor *c, struct insn *in, unsigned int mod)
{
	static const uint8_t bases[8] = {
		GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX };
	static const uint8_t indexes[4] = { GPR_RSI, GPR_RDI, GPR_RSI, GPR_RDI };
	unsigned int rm = in->modrm & 7;

	if (mod == 0 && rm == 6) {
		in->disp = take_signed(c, 2);
		return;
	}
	in->base = bases[rm];
	if (rm < 4)
		in->index = indexes[rm];
	in->disp = take_signed(c, mod);
}

static void decode_mem(struct cursor *c, enum insn_mode mode, struct insn *in, unsigned int mod)
{
	unsigned int base = in->modrm & 7, index = 4;

	if (base == 4) {
		unsigned int sib = take_byte(c);

		base = sib & 7;
		index = ((sib >> 3) & 7) | (in->rex & 2U) << 2;
		in->scale = (uint8_t)(sib >> 6);
		if (index != 4)
			in->index = (uint8_t)index;
	} else if (base == 5 && mod == 0) {
		in->rip_relative = mode == INSN_MODE_64;
	}
	if (base == 5 && mod == 0)
		mod = 2;
	else
		in->base = (uint8_t)(base | (in->rex & 1U) << 3);
	in->disp = take_signed(c, mod == 2 ? 4 : mod);
}

static void decode_modrm(struct cursor *c, enum insn_mode mode, struct insn *in, uint8_t attr)
{
	unsigned int mod;

	in->modrm = take_byte(c);
	mod = attr & RR ? 3 : in->modrm >> 6;
	in->reg = (uint8_t)(((in->modrm >> 3) & 7) | (in->rex & 4) << 1);
	if (mod == 3) {
		in->rm = (uint8_t)((in->modrm & 7) | (in->rex & 1) << 3);
		return;
	}
	in->is_mem = true;
	if (in->addr_bytes == 2)
		decode_mem16(c, in, mod);
	else
		decode_mem(c, mode, in, mod);
}

static void decode_imm(struct cursor *c, struct insn *in, uint8_t kind)
{
	const unsigned int z = MIN(in->op_bytes, 4U);
	const unsigned int sizes[] = {
		[IB] = 1, [IZ] = z, [IV] = in->op_bytes, [IW] = 2, [IWB] = 3, [IAP] = z + 2,
		[IMOFFS] = 0 };

	in->imm = take_signed(c, sizes[kind]);
	if (kind == IMOFFS) {
		in->disp = take_signed(c, in->addr_bytes);
		in->is_mem = true;
	}
}

/* What a prefix or the mode turns into another operation than the table's. */
static uint8_t decode_special(struct insn *in, uint8_t imm, enum insn_mode mode)
{
	unsigned int opcode = in->opcode | (unsigned int)in->map << 8;

	switch (opcode) {
	case 0x63:		/* ARPL outside 64-bit mode, where it is MOVSXD */
		in->src_bytes = 4;
		if (mode != INSN_MODE_64)
			in->op = INSN_OTHER;
		break;
	case 0x90:
		if (in->rep == 0xf3)
			in->op = INSN_PAUSE;
		break;
	case 0xf6: case 0xf7:
		if (in->op != INSN_TEST)
			break;
		in->src = OPD_IMM;
		return opcode & 1 ? IZ : IB;
	case 0x101:
		for (uint8_t i = 1; i < INSN_FIXED_COUNT && !in->is_mem; i++) {
			if (insn_patterns[i].bytes == (0x10fU | (uint32_t)in->modrm << 16))
				in->op = i;
		}
		break;
	case 0x178:		/* SSE4a EXTRQ and INSERTQ with two immediate bytes */
		return in->opsize || in->rep == 0xf2 ? IW : imm;
	case 0x1b6: case 0x1be:
		in->src_bytes = 1;
		break;
	case 0x1b7: case 0x1bf:
		in->src_bytes = 2;
		break;
	case 0x2f0: case 0x2f1:	/* with F2 these are CRC32 */
		if (in->rep == 0xf2)
			break;
		in->op = INSN_MOVBE;
		in->dst = opcode & 1 ? OPD_RM : OPD_REG;
		in->src = opcode & 1 ? OPD_REG : OPD_RM;
		break;
	case 0x6d: case 0x6f:	/* string I/O has no 8-byte form */
		in->op_bytes = MIN(in->op_bytes, 4U);
		in->src_bytes = in->op_bytes;
		break;
	default:
		break;
	}
	return imm;
}

int insn_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode, struct insn *in)
{
	struct cursor c = { .bytes = bytes, .avail = avail };
	const struct entry *e;
	bool addrsize = false;
	uint8_t imm;

	*in = (struct insn){ .seg = INSN_NO_REG, .base = INSN_NO_REG, .index = INSN_NO_REG };
	e = decode_opcode(&c, mode, in, decode_prefixes(&c, mode, in, &addrsize));
	if (c.rc)
		return c.rc;
	if (!e || e->op == INSN_INVALID || (mode == INSN_MODE_64 && (e->attr & NO64)))
		return -XEN_EOPNOTSUPP;

	in->op = e->op;
	in->dst = e->form >> 4;
	in->src = e->form & 15;
	imm = e->attr & IMM_MASK;
	decode_sizes(in, mode, addrsize, e->attr);
	if (e->attr & M)
		decode_modrm(&c, mode, in, e->attr);
	if (c.rc)
		return c.rc;
	if (e->attr & B)
		in->op_bytes = 1;
	if (in->vex)
		in->op = INSN_OTHER;
	else if (e->op >= INSN_OP_COUNT)
		in->op = groups[e->op - INSN_OP_COUNT][(in->modrm >> 3) & 7];
	if (in->op == INSN_INVALID)
		return -XEN_EOPNOTSUPP;
	in->src_bytes = in->op_bytes;
	if (!in->vex)
		imm = decode_special(in, imm, mode);
	decode_imm(&c, in, imm);
	if (in->seg == INSN_NO_REG)
		in->seg = in->base == GPR_RSP || in->base == GPR_RBP ? SEG_SS : SEG_DS;
	in->len = (uint8_t)c.pos;
	return c.rc;
}
