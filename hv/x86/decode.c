/* SPDX-License-Identifier: MIT */
/*
 * x86 instruction decoder, driven by a table per opcode map. It knows what is
 * emulated and what exits without a length; anything else is not decoded.
 */
#include "hospes/decode.h"

#include "hospes/abi.h"
#include "hospes/regs.h"

/* Attributes of an opcode: kind of immediate in the low bits, then flags. */
enum {
	IB = 1,		/* one byte */
	IZ,		/* operand size, at most 4 bytes */
	IMOFFS,		/* an address instead of modrm */
	IMM_MASK = 3,
	M = 0x04,	/* has modrm */
	B = 0x08,	/* byte operands */
	RR = 0x10,	/* modrm names registers whatever mod says */
};
#define SRC(bytes) ((bytes) << 5)	/* a source of another size: 1, 2 or 4 */

/* Values of entry.op beyond enum insn_op: groups, from which modrm.reg selects. */
enum { GRP3 = INSN_OP_COUNT, GRP_INC, GRP8, GRP11, GRP_ALU };

struct entry {
	uint8_t op;	/* enum insn_op or a group */
	uint8_t form;	/* enum insn_operand: destination << 4 | source */
	uint8_t attr;
};

#define E(nr, op, dst, src, attr) [nr] = { op, (OPD_##dst << 4) | OPD_##src, attr }
/* The operation on bytes, and on larger operands behind it. */
#define BW(nr, op, dst, src, attr) \
	E(nr, op, dst, src, (attr) | B), E((nr) + 1, op, dst, src, attr)
#define ALU(nr, op) \
	BW(nr, op, RM, REG, M), BW((nr) + 2, op, REG, RM, M), \
	E((nr) + 4, op, ACC, IMM, IB | B), E((nr) + 5, op, ACC, IMM, IZ)

static const struct entry map_legacy[256] = {
	ALU(0x00, INSN_ADD), ALU(0x08, INSN_OR), ALU(0x10, INSN_ADC), ALU(0x18, INSN_SBB),
	ALU(0x20, INSN_AND), ALU(0x28, INSN_SUB), ALU(0x30, INSN_XOR), ALU(0x38, INSN_CMP),
	E(0x63, INSN_MOVSX, REG, RM, M | SRC(4)),
	BW(0x6c, INSN_INS, NONE, NONE, 0), BW(0x6e, INSN_OUTS, NONE, NONE, 0),
	BW(0x80, GRP_ALU, RM, IMM, M | IZ), E(0x83, GRP_ALU, RM, IMM, M | IB),
	BW(0x84, INSN_TEST, RM, REG, M), BW(0x86, INSN_XCHG, RM, REG, M),
	BW(0x88, INSN_MOV, RM, REG, M), BW(0x8a, INSN_MOV, REG, RM, M),
	E(0x90, INSN_PAUSE, NONE, NONE, 0),
	BW(0xa0, INSN_MOV, ACC, RM, IMOFFS), BW(0xa2, INSN_MOV, RM, ACC, IMOFFS),
	BW(0xa4, INSN_MOVS, NONE, NONE, 0), BW(0xa6, INSN_CMPS, NONE, NONE, 0),
	BW(0xa8, INSN_TEST, ACC, IMM, IZ), BW(0xaa, INSN_STOS, NONE, NONE, 0),
	BW(0xac, INSN_LODS, NONE, NONE, 0), BW(0xae, INSN_SCAS, NONE, NONE, 0),
	BW(0xc6, GRP11, RM, IMM, M | IZ),
	E(0xf1, INSN_ICEBP, NONE, NONE, 0), E(0xf4, INSN_HLT, NONE, NONE, 0),
	BW(0xf6, GRP3, RM, NONE, M), BW(0xfe, GRP_INC, RM, NONE, M),
};

static const struct entry map_0f[256] = {
	E(0x01, INSN_VMMCALL, NONE, NONE, M), E(0x08, INSN_INVD, NONE, NONE, 0),
	E(0x09, INSN_WBINVD, NONE, NONE, 0), E(0x22, INSN_MOV_TO_CR, REG, RM, M | RR),
	E(0x30, INSN_WRMSR, NONE, NONE, 0), E(0x32, INSN_RDMSR, NONE, NONE, 0),
	E(0xa2, INSN_CPUID, NONE, NONE, 0),
	E(0xa3, INSN_BT, RM, REG, M), E(0xab, INSN_BTS, RM, REG, M),
	E(0xb3, INSN_BTR, RM, REG, M), E(0xbb, INSN_BTC, RM, REG, M),
	E(0xba, GRP8, RM, IMM, M | IB), BW(0xb0, INSN_CMPXCHG, RM, REG, M),
	E(0xb6, INSN_MOVZX, REG, RM, M | SRC(1)), E(0xb7, INSN_MOVZX, REG, RM, M | SRC(2)),
	E(0xbe, INSN_MOVSX, REG, RM, M | SRC(1)), E(0xbf, INSN_MOVSX, REG, RM, M | SRC(2)),
	BW(0xc0, INSN_XADD, RM, REG, M), E(0xc3, INSN_MOV, RM, REG, M),	/* the last: MOVNTI */
};

static const struct entry map_0f38[256] = {
	E(0xf0, INSN_MOVBE, REG, RM, M), E(0xf1, INSN_MOVBE, RM, REG, M),
};

static const uint8_t groups[][8] = {
	[GRP3 - INSN_OP_COUNT] = { INSN_TEST, INSN_TEST, INSN_NOT, INSN_NEG },
	[GRP_INC - INSN_OP_COUNT] = { INSN_INC, INSN_DEC },
	[GRP8 - INSN_OP_COUNT] = { 0, 0, 0, 0, INSN_BT, INSN_BTS, INSN_BTR, INSN_BTC },
	[GRP11 - INSN_OP_COUNT] = { INSN_MOV },
	[GRP_ALU - INSN_OP_COUNT] = { INSN_ADD, INSN_OR, INSN_ADC, INSN_SBB,
				      INSN_AND, INSN_SUB, INSN_XOR, INSN_CMP },
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

/* Prefixes up to and including REX; returns the byte after them. */
static uint8_t decode_prefixes(struct cursor *c, enum insn_mode mode, struct insn *in,
			       bool *addrsize)
{
	for (;;) {
		uint8_t b = take_byte(c);

		if ((b & 0xe7) == 0x26)		/* ES, CS, SS, DS: in 64-bit mode without effect, */
			in->seg = mode == INSN_MODE_64 ? in->seg : (b >> 3) & 3;
		else if ((b & 0xfe) == 0x64)	/* which cancels no FS or GS either */
			in->seg = b & 7;
		else if (b == 0x66)
			in->opsize = true;
		else if (b == 0x67)
			*addrsize = true;
		else if (b == 0xf0)
			in->lock = true;
		else if ((b & 0xfe) == 0xf2)
			in->rep = b;
		else if (mode != INSN_MODE_64 || (b & 0xf0) != 0x40)
			return b;
		/* REX counts only right before the opcode. */
		in->rex = (b & 0xf0) == 0x40 ? b : 0;
	}
}

static const struct entry *decode_opcode(struct cursor *c, struct insn *in, uint8_t b)
{
	in->opcode = b;
	if (b != 0x0f)
		return &map_legacy[b];
	b = take_byte(c);
	in->opcode = 0x0f00 | b;
	if (b != 0x38)
		return &map_0f[b];
	b = take_byte(c);
	in->opcode = 0x3800 | b;
	return &map_0f38[b];
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
	if (attr & B)
		in->op_bytes = 1;
	else if (in->op == INSN_INS || in->op == INSN_OUTS)	/* these have no 8-byte form */
		in->op_bytes = MIN(in->op_bytes, 4U);
	in->src_bytes = attr >> 5 ? attr >> 5 : in->op_bytes;
}

static void decode_mem16(struct cursor *c, struct insn *in, unsigned int mod)
{
	static const uint8_t bases[8] = {
		GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP, GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX };
	unsigned int rm = in->modrm & 7;

	if (mod == 0 && rm == 6) {
		in->disp = take_signed(c, 2);
		return;
	}
	in->base = bases[rm];
	if (rm < 4)
		in->index = rm & 1 ? GPR_RDI : GPR_RSI;
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

/* An immediate, or an address; IZ means a byte, too, for byte operands. */
static void decode_imm(struct cursor *c, struct insn *in, uint8_t kind)
{
	if (kind == IMOFFS) {
		in->disp = take_signed(c, in->addr_bytes);
		in->is_mem = true;
	} else if (kind) {
		in->imm = take_signed(c, kind == IB ? 1 : MIN(in->op_bytes, 4U));
	}
}

/*
 * What a prefix, modrm or the mode turns into another operation than the table's.
 * Returns the kind of immediate.
 */
static uint8_t decode_special(struct insn *in, uint8_t imm, enum insn_mode mode)
{
	if (in->opcode == 0x0f01 && in->modrm == 0xd1)
		in->op = INSN_XSETBV;
	else if ((in->opcode == 0x63 && mode != INSN_MODE_64) ||	/* ARPL, not MOVSXD */
		 (in->opcode == 0x90 && in->rep != 0xf3) ||
		 (in->opcode == 0x0f01 && in->modrm != 0xd9) ||
		 (in->op == INSN_MOVBE && in->rep == 0xf2))		/* CRC32 */
		in->op = INSN_OTHER;
	if ((in->opcode & ~1) != 0xf6 || in->op != INSN_TEST)
		return imm;
	in->src = OPD_IMM;
	return IZ;
}

int insn_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode, struct insn *in)
{
	struct cursor c = { .bytes = bytes, .avail = avail };
	const struct entry *e;
	bool addrsize = false;

	*in = (struct insn){ .seg = INSN_NO_REG, .base = INSN_NO_REG, .index = INSN_NO_REG };
	e = decode_opcode(&c, in, decode_prefixes(&c, mode, in, &addrsize));
	in->op = e->op;
	in->dst = e->form >> 4;
	in->src = e->form & 15;
	decode_sizes(in, mode, addrsize, e->attr);
	if (e->attr & M)
		decode_modrm(&c, mode, in, e->attr);
	if (e->op >= INSN_OP_COUNT)
		in->op = groups[e->op - INSN_OP_COUNT][(in->modrm >> 3) & 7];
	decode_imm(&c, in, decode_special(in, e->attr & IMM_MASK, mode));
	if (in->seg == INSN_NO_REG)
		in->seg = in->base == GPR_RSP || in->base == GPR_RBP ? SEG_SS : SEG_DS;
	in->len = (uint8_t)c.pos;
	return c.rc ? c.rc : in->op ? 0 : -XEN_EOPNOTSUPP;
}
