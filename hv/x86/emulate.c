/* SPDX-License-Identifier: MIT */
/*
 * The instructions that touch trapped memory or ports. See emulate.h.
 */
#include "hospes/emulate.h"

#include "hospes/lib.h"

#define FLAG_CF (1u << 0)
#define FLAG_PF (1u << 2)
#define FLAG_AF (1u << 4)
#define FLAG_ZF (1u << 6)
#define FLAG_SF (1u << 7)
#define FLAG_DF (1u << 10)
#define FLAG_OF (1u << 11)
#define FLAGS_ALL (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define VECTOR_SS 12
#define VECTOR_GP 13

#define REPNE 0xf2

static uint64_t mask_of(unsigned int bytes)
{
	return ~0ULL >> (64 - 8 * bytes);
}

static uint64_t sign_extend(uint64_t v, unsigned int bytes)
{
	unsigned int shift = 64 - 8 * bytes;

	return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* --- Registers ---------------------------------------------------------- */

/* Without REX the byte registers 4 to 7 are AH, CH, DH, BH. */
static bool is_high_byte(const struct insn *in, unsigned int nr, unsigned int bytes)
{
	return bytes == 1 && !in->rex && nr >= 4 && nr < 8;
}

static uint64_t reg_get(const struct emul *e, unsigned int nr, unsigned int bytes)
{
	if (is_high_byte(e->insn, nr, bytes))
		return (e->regs->gpr[nr - 4] >> 8) & 0xff;
	return e->regs->gpr[nr] & mask_of(bytes);
}

/* Writes as the CPU does: 32 bits clear the upper half, less leaves the rest. */
static void gpr_put(uint64_t *reg, uint64_t val, unsigned int bytes)
{
	if (bytes >= 4)
		*reg = val & mask_of(bytes);
	else
		*reg = (*reg & ~mask_of(bytes)) | (val & mask_of(bytes));
}

static void reg_put(struct emul *e, unsigned int nr, uint64_t val, unsigned int bytes)
{
	uint64_t *high = &e->regs->gpr[nr & 3];

	if (is_high_byte(e->insn, nr, bytes))
		*high = (*high & ~0xff00ULL) | (val & 0xff) << 8;
	else
		gpr_put(&e->regs->gpr[nr], val, bytes);
}

static unsigned int operand_reg(const struct insn *in, enum insn_operand o)
{
	switch ((int)o) {
	case OPD_RM:
		return in->rm;
	case OPD_REG:
		return in->reg;
	default:
		return GPR_RAX;
	}
}

static void retire(struct emul *e)
{
	e->regs->rip += e->insn->len;
	if (e->mode != INSN_MODE_64)
		e->regs->rip = (uint32_t)e->regs->rip;
}

/* --- Memory ------------------------------------------------------------- */

static bool fault(struct emul *e, uint8_t vector)
{
	e->vector = vector;
	e->has_error = true;
	e->error = 0;
	return false;
}

/* Type and limit outside 64-bit mode. */
static bool segment_allows(const struct guest_segment *s, uint64_t off, uint64_t last, bool write)
{
	bool code = s->attr & 8, rw = s->attr & 2, down = (s->attr & 0xc) == 4;

	if (!(s->attr & 0x80) || (write ? code || !rw : code && !rw))
		return false;
	if (down)
		return off > s->limit && last <= (s->attr & 0x400 ? 0xffffffffULL : 0xffffULL);
	return last <= s->limit;
}

static bool linear(struct emul *e, enum guest_seg nr, uint64_t off, unsigned int len, bool write,
		   gva_t *out)
{
	struct guest_segment s = { .base = 0 };
	uint8_t vector = nr == SEG_SS ? VECTOR_SS : VECTOR_GP;
	uint64_t last;

	if (e->mode != INSN_MODE_64 || nr >= SEG_FS)
		e->ops->segment(e, nr, &s);
	*out = s.base + off;
	last = (e->mode == INSN_MODE_64 ? *out : off) + len - 1;
	if (e->mode == INSN_MODE_64)
		return (sign_extend(*out, 6) == *out && sign_extend(last, 6) == last) ||
		       fault(e, vector);
	*out = (uint32_t)*out;
	return segment_allows(&s, off, last, write) || fault(e, vector);
}

/* The offset of the memory operand in its segment. */
static uint64_t effective(const struct emul *e)
{
	const struct insn *in = e->insn;
	uint64_t off = in->disp;

	if (in->rip_relative)
		off += e->regs->rip + in->len;
	if (in->base != INSN_NO_REG)
		off += e->regs->gpr[in->base];
	if (in->index != INSN_NO_REG)
		off += e->regs->gpr[in->index] << in->scale;
	return off & mask_of(in->addr_bytes);
}

static bool mem_read(struct emul *e, enum guest_seg seg, uint64_t off, unsigned int len,
		     uint64_t *val)
{
	gva_t addr;

	*val = 0;
	return linear(e, seg, off, len, false, &addr) && e->ops->read(e, addr, val, len);
}

static bool mem_write(struct emul *e, enum guest_seg seg, uint64_t off, unsigned int len,
		      uint64_t val)
{
	gva_t addr;

	return linear(e, seg, off, len, true, &addr) && e->ops->write(e, addr, &val, len);
}

static bool operand_get(struct emul *e, enum insn_operand o, uint64_t off, unsigned int bytes,
			uint64_t *val)
{
	if (o == OPD_RM && e->insn->is_mem)
		return mem_read(e, e->insn->seg, off, bytes, val);
	if (o == OPD_IMM)
		*val = e->insn->imm & mask_of(bytes);
	else
		*val = reg_get(e, operand_reg(e->insn, o), bytes);
	return true;
}

static bool operand_put(struct emul *e, enum insn_operand o, uint64_t off, unsigned int bytes,
			uint64_t val)
{
	if (o == OPD_RM && e->insn->is_mem)
		return mem_write(e, e->insn->seg, off, bytes, val);
	reg_put(e, operand_reg(e->insn, o), val, bytes);
	return true;
}

/* --- Arithmetic --------------------------------------------------------- */

static uint32_t result_flags(uint64_t res, unsigned int bytes)
{
	uint32_t f = 0;

	res &= mask_of(bytes);
	if (!res)
		f |= FLAG_ZF;
	if (res >> (8 * bytes - 1))
		f |= FLAG_SF;
	if (!__builtin_parityll(res & 0xff))
		f |= FLAG_PF;
	return f;
}

/* The carries out of every bit decide CF, AF and OF, for sums and differences alike. */
static uint32_t carry_flags(uint64_t carries, unsigned int bytes)
{
	unsigned int msb = 8 * bytes - 1;
	uint32_t f = 0;

	if ((carries >> msb) & 1)
		f |= FLAG_CF;
	if ((carries >> 3) & 1)
		f |= FLAG_AF;
	if (((carries >> msb) ^ (carries >> (msb - 1))) & 1)
		f |= FLAG_OF;
	return f;
}

static uint64_t add(uint64_t a, uint64_t b, uint64_t carry, unsigned int bytes, uint32_t *flags)
{
	uint64_t res = a + b + carry;

	*flags = result_flags(res, bytes) | carry_flags((a & b) | ((a | b) & ~res), bytes);
	return res;
}

static uint64_t sub(uint64_t a, uint64_t b, uint64_t borrow, unsigned int bytes, uint32_t *flags)
{
	uint64_t res = a - b - borrow;

	*flags = result_flags(res, bytes) | carry_flags((~a & b) | ((~a | b) & res), bytes);
	return res;
}

static uint64_t bit_op(enum insn_op op, uint64_t dst, unsigned int bit, uint32_t *flags)
{
	*flags = (*flags & ~FLAG_CF) | ((dst >> bit) & 1 ? FLAG_CF : 0);
	if (op == INSN_BTS)
		return dst | 1ULL << bit;
	if (op == INSN_BTR)
		return dst & ~(1ULL << bit);
	return op == INSN_BTC ? dst ^ 1ULL << bit : dst;
}

/* The new destination; *flags holds the old flags and gets the new ones. */
static uint64_t compute(struct emul *e, uint64_t dst, uint64_t src, uint32_t *flags)
{
	unsigned int n = e->insn->op_bytes;
	uint32_t cf = *flags & FLAG_CF;
	uint64_t res;

	switch ((int)e->insn->op) {
	case INSN_ADD: case INSN_XADD:
		return add(dst, src, 0, n, flags);
	case INSN_ADC:
		return add(dst, src, cf, n, flags);
	case INSN_SUB: case INSN_CMP:
		return sub(dst, src, 0, n, flags);
	case INSN_SBB:
		return sub(dst, src, cf, n, flags);
	case INSN_NEG:
		return sub(0, dst, 0, n, flags);
	case INSN_INC:
		res = add(dst, 1, 0, n, flags);
		*flags = (*flags & ~FLAG_CF) | cf;
		return res;
	case INSN_DEC:
		res = sub(dst, 1, 0, n, flags);
		*flags = (*flags & ~FLAG_CF) | cf;
		return res;
	case INSN_AND: case INSN_TEST:
		res = dst & src;
		break;
	case INSN_OR:
		res = dst | src;
		break;
	case INSN_XOR:
		res = dst ^ src;
		break;
	case INSN_NOT:
		return ~dst;
	case INSN_BT: case INSN_BTS: case INSN_BTR: case INSN_BTC:
		return bit_op(e->insn->op, dst, src & (8 * n - 1), flags);
	case INSN_CMPXCHG:
		sub(reg_get(e, GPR_RAX, n), dst, 0, n, flags);
		return *flags & FLAG_ZF ? src : dst;
	case INSN_MOVSX:
		return sign_extend(src, e->insn->src_bytes);
	case INSN_MOVBE:
		return __builtin_bswap64(src) >> (64 - 8 * n);
	default:	/* MOV, MOVZX, XCHG */
		return src;
	}
	*flags = result_flags(res, n);
	return res;
}

/* What an operation does with its operands; 0: not known here. */
enum { RD = 1, RS = 2, WR = 4, SWAP = 8 /* the source gets the old destination */ };

static const uint8_t traits[INSN_OP_COUNT] = {
	[INSN_ADD] = RD | RS | WR, [INSN_OR] = RD | RS | WR, [INSN_ADC] = RD | RS | WR,
	[INSN_SBB] = RD | RS | WR, [INSN_AND] = RD | RS | WR, [INSN_SUB] = RD | RS | WR,
	[INSN_XOR] = RD | RS | WR, [INSN_CMP] = RD | RS, [INSN_TEST] = RD | RS,
	[INSN_INC] = RD | WR, [INSN_DEC] = RD | WR, [INSN_NOT] = RD | WR, [INSN_NEG] = RD | WR,
	[INSN_BT] = RD | RS, [INSN_BTS] = RD | RS | WR, [INSN_BTR] = RD | RS | WR,
	[INSN_BTC] = RD | RS | WR, [INSN_MOV] = RS | WR, [INSN_MOVZX] = RS | WR,
	[INSN_MOVSX] = RS | WR, [INSN_MOVBE] = RS | WR, [INSN_XCHG] = RD | RS | WR | SWAP,
	[INSN_CMPXCHG] = RD | RS | WR, [INSN_XADD] = RD | RS | WR | SWAP,
};

/* BT and its like with a register as bit number reach beyond the operand. */
static uint64_t bit_string(const struct insn *in, uint64_t off, uint64_t bit)
{
	unsigned int shift = in->op_bytes == 8 ? 6 : in->op_bytes == 4 ? 5 : 4;
	int64_t index = (int64_t)sign_extend(bit, in->op_bytes) >> shift;

	return (off + (uint64_t)index * in->op_bytes) & mask_of(in->addr_bytes);
}

static enum emul_result emulate_plain(struct emul *e, uint8_t does)
{
	const struct insn *in = e->insn;
	uint64_t dst = 0, src = 0, res, off = in->is_mem ? effective(e) : 0;
	uint32_t flags = (uint32_t)e->regs->rflags;

	if ((does & RS) && !operand_get(e, in->src, off, in->src_bytes, &src))
		return EMUL_FAULT;
	if (in->op >= INSN_BT && in->op <= INSN_BTC && in->is_mem && in->src == OPD_REG)
		off = bit_string(in, off, src);
	if ((does & RD) && !operand_get(e, in->dst, off, in->op_bytes, &dst))
		return EMUL_FAULT;
	res = compute(e, dst, src, &flags);
	/* Memory first: nothing has changed when it faults. */
	if ((does & WR) && !operand_put(e, in->dst, off, in->op_bytes, res))
		return EMUL_FAULT;
	if (does & SWAP)
		reg_put(e, operand_reg(in, in->src), dst, in->op_bytes);
	if (in->op == INSN_CMPXCHG && !(flags & FLAG_ZF))
		gpr_put(&e->regs->gpr[GPR_RAX], dst, in->op_bytes);
	e->regs->rflags = (e->regs->rflags & ~(uint64_t)FLAGS_ALL) | (flags & FLAGS_ALL);
	retire(e);
	return EMUL_OK;
}

/* --- Strings ------------------------------------------------------------ */

enum {
	FROM_SI = 1, FROM_DI = 2, FROM_PORT = 4, TO_DI = 8, TO_PORT = 16, TO_ACC = 32, COMPARE = 64,
};

static uint8_t string_traits(enum insn_op op)
{
	switch ((int)op) {
	case INSN_MOVS: return FROM_SI | TO_DI;
	case INSN_CMPS: return FROM_SI | FROM_DI | COMPARE;
	case INSN_STOS: return TO_DI;
	case INSN_LODS: return FROM_SI | TO_ACC;
	case INSN_SCAS: return FROM_DI | COMPARE;
	case INSN_INS: return FROM_PORT | TO_DI;
	case INSN_OUTS: return FROM_SI | TO_PORT;
	default: return 0;
	}
}

static void advance(struct emul *e, unsigned int nr)
{
	uint64_t step = e->insn->op_bytes;

	if (e->regs->rflags & FLAG_DF)
		step = 0 - step;
	gpr_put(&e->regs->gpr[nr], e->regs->gpr[nr] + step, e->insn->addr_bytes);
}

/* One iteration. */
static bool string_step(struct emul *e, uint8_t does)
{
	const struct insn *in = e->insn;
	unsigned int n = in->op_bytes;
	uint64_t si = reg_get(e, GPR_RSI, in->addr_bytes), di = reg_get(e, GPR_RDI, in->addr_bytes);
	uint16_t port = (uint16_t)e->regs->gpr[GPR_RDX];
	uint64_t val = e->regs->gpr[GPR_RAX] & mask_of(n), other;
	uint32_t flags;

	if ((does & FROM_SI) && !mem_read(e, in->seg, si, n, &val))
		return false;
	if ((does & FROM_DI) && !mem_read(e, SEG_ES, di, n, &other))
		return false;
	if (does & FROM_PORT)
		val = e->ops->in(e, port, n);
	if ((does & TO_DI) && !mem_write(e, SEG_ES, di, n, val))
		return false;
	if (does & TO_PORT)
		e->ops->out(e, port, n, (uint32_t)val);
	if (does & TO_ACC)
		gpr_put(&e->regs->gpr[GPR_RAX], val, n);
	if (does & COMPARE) {
		sub(val, other, 0, n, &flags);
		e->regs->rflags = (e->regs->rflags & ~(uint64_t)FLAGS_ALL) | flags;
	}
	if (does & FROM_SI)
		advance(e, GPR_RSI);
	if (does & (FROM_DI | TO_DI))
		advance(e, GPR_RDI);
	return true;
}

static enum emul_result emulate_string(struct emul *e, uint8_t does)
{
	const struct insn *in = e->insn;
	uint64_t *rcx = &e->regs->gpr[GPR_RCX];
	uint64_t count = in->rep ? *rcx & mask_of(in->addr_bytes) : 1;
	bool until_equal = in->rep == REPNE;

	for (unsigned int i = 0; count && i < EMUL_REP_MAX; i++) {
		if (!string_step(e, does))
			return EMUL_FAULT;
		count--;
		if (!in->rep)
			break;
		gpr_put(rcx, count, in->addr_bytes);
		if ((does & COMPARE) && !!(e->regs->rflags & FLAG_ZF) == until_equal)
			count = 0;
	}
	if (!count)
		retire(e);
	return EMUL_OK;
}

enum emul_result emulate(struct emul *e)
{
	uint8_t string = string_traits(e->insn->op), plain = traits[e->insn->op];

	if (string)
		return emulate_string(e, string);
	return plain ? emulate_plain(e, plain) : EMUL_UNHANDLED;
}
