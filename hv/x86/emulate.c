/* SPDX-License-Identifier: MIT */
/*
 * The instructions that touch trapped memory or ports. See emulate.h.
 */
#include "hospes/emulate.h"

#include "hospes/guest_access.h"
#include "hospes/lib.h"

#define FLAGS_ALL (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)
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
	return o == OPD_RM ? in->rm : o == OPD_REG ? in->reg : GPR_RAX;
}

/* --- Memory ------------------------------------------------------------- */

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
	bool ok;

	if (e->mode != INSN_MODE_64 || nr >= SEG_FS)
		e->ops->segment(e, nr, &s);
	*out = s.base + off;
	if (e->mode == INSN_MODE_64) {
		ok = gva_is_canonical(*out) && gva_is_canonical(*out + len - 1);
	} else {
		*out = (uint32_t)*out;
		ok = segment_allows(&s, off, off + len - 1, write);
	}
	e->vector = nr == SEG_SS ? VECTOR_SS : VECTOR_GP;
	e->error = 0;
	return ok;
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

static bool mem_access(struct emul *e, enum guest_seg seg, uint64_t off, unsigned int len,
		       uint64_t *val, bool write)
{
	gva_t addr;

	return linear(e, seg, off, len, write, &addr) && e->ops->access(e, addr, val, len, write);
}

static bool operand_get(struct emul *e, enum insn_operand o, uint64_t off, unsigned int bytes,
			uint64_t *val)
{
	*val = 0;
	if (o == OPD_RM && e->insn->is_mem)
		return mem_access(e, e->insn->seg, off, bytes, val, false);
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
		return mem_access(e, e->insn->seg, off, bytes, &val, true);
	reg_put(e, operand_reg(e->insn, o), val, bytes);
	return true;
}

/* --- Arithmetic --------------------------------------------------------- */

static uint32_t result_flags(uint64_t res, unsigned int bytes)
{
	res &= mask_of(bytes);
	return (res ? 0 : RFLAGS_ZF) | (res >> (8 * bytes - 1) ? RFLAGS_SF : 0) |
	       (__builtin_parityll(res & 0xff) ? 0 : RFLAGS_PF);
}

/* The carry, or borrow, out of every bit decides CF, AF and OF. */
static uint64_t add_sub(bool minus, uint64_t a, uint64_t b, uint64_t carry, unsigned int bytes,
			uint32_t *flags)
{
	uint64_t res = minus ? a - b - carry : a + b + carry;
	uint64_t x = minus ? ~a : a, out = (x & b) | ((x | b) & (minus ? res : ~res));
	unsigned int msb = 8 * bytes - 1;

	*flags = result_flags(res, bytes) | (out >> msb & 1 ? RFLAGS_CF : 0) |
		 (out & 8 ? RFLAGS_AF : 0) | ((out >> msb ^ out >> (msb - 1)) & 1 ? RFLAGS_OF : 0);
	return res;
}

static uint64_t bit_op(enum insn_op op, uint64_t dst, unsigned int bit, uint32_t *flags)
{
	*flags = (*flags & ~RFLAGS_CF) | ((dst >> bit) & 1 ? RFLAGS_CF : 0);
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
	uint32_t cf = *flags & RFLAGS_CF;
	enum insn_op op = e->insn->op;
	uint64_t res;

	switch ((int)op) {
	case INSN_ADD: case INSN_XADD: case INSN_ADC:
		return add_sub(false, dst, src, op == INSN_ADC ? cf : 0, n, flags);
	case INSN_SUB: case INSN_CMP: case INSN_SBB:
		return add_sub(true, dst, src, op == INSN_SBB ? cf : 0, n, flags);
	case INSN_NEG:
		return add_sub(true, 0, dst, 0, n, flags);
	case INSN_INC: case INSN_DEC:
		res = add_sub(op == INSN_DEC, dst, 1, 0, n, flags);
		*flags = (*flags & ~RFLAGS_CF) | cf;
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
		return bit_op(op, dst, src & (8 * n - 1), flags);
	case INSN_CMPXCHG:
		add_sub(true, reg_get(e, GPR_RAX, n), dst, 0, n, flags);
		return *flags & RFLAGS_ZF ? src : dst;
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

/*
 * What an operation does with its operands, or a string operation with memory
 * at SI and DI, port and accumulator.
 */
enum {
	RD = 1, RS = 2, WR = 4, SWAP = 8 /* the source gets the old destination */,
	FROM_SI = 16, FROM_DI = 32, FROM_PORT = 64, TO_DI = 128, TO_PORT = 256, TO_ACC = 512,
	COMPARE = 1024, STRING = FROM_SI | FROM_DI | FROM_PORT | TO_DI,
};

static const uint16_t traits[INSN_OP_COUNT] = {
	[INSN_ADD ... INSN_XOR] = RD | RS | WR, [INSN_CMP] = RD | RS, [INSN_TEST] = RD | RS,
	[INSN_INC ... INSN_NEG] = RD | WR, [INSN_BT] = RD | RS,
	[INSN_BTS ... INSN_BTC] = RD | RS | WR, [INSN_MOV ... INSN_MOVBE] = RS | WR,
	[INSN_XCHG] = RD | RS | WR | SWAP, [INSN_CMPXCHG] = RD | RS | WR,
	[INSN_XADD] = RD | RS | WR | SWAP,
	[INSN_MOVS] = FROM_SI | TO_DI, [INSN_CMPS] = FROM_SI | FROM_DI | COMPARE,
	[INSN_STOS] = TO_DI, [INSN_LODS] = FROM_SI | TO_ACC, [INSN_SCAS] = FROM_DI | COMPARE,
	[INSN_INS] = FROM_PORT | TO_DI, [INSN_OUTS] = FROM_SI | TO_PORT,
};

static void set_flags(struct emul *e, uint32_t flags)
{
	e->regs->rflags = (e->regs->rflags & ~FLAGS_ALL) | (flags & FLAGS_ALL);
}

/* BT and its like with a register as bit number reach beyond the operand. */
static uint64_t bit_string(const struct insn *in, uint64_t off, uint64_t bit)
{
	unsigned int shift = in->op_bytes == 8 ? 6 : in->op_bytes == 4 ? 5 : 4;
	int64_t index = (int64_t)sign_extend(bit, in->op_bytes) >> shift;

	return (off + (uint64_t)index * in->op_bytes) & mask_of(in->addr_bytes);
}

static bool emulate_plain(struct emul *e, unsigned int does)
{
	const struct insn *in = e->insn;
	uint64_t dst = 0, src = 0, res, off = in->is_mem ? effective(e) : 0;
	uint32_t flags = (uint32_t)e->regs->rflags;

	if ((does & RS) && !operand_get(e, in->src, off, in->src_bytes, &src))
		return false;
	if (in->op >= INSN_BT && in->op <= INSN_BTC && in->is_mem && in->src == OPD_REG)
		off = bit_string(in, off, src);
	if ((does & RD) && !operand_get(e, in->dst, off, in->op_bytes, &dst))
		return false;
	res = compute(e, dst, src, &flags);
	/* Memory first: nothing has changed when it faults. */
	if ((does & WR) && !operand_put(e, in->dst, off, in->op_bytes, res))
		return false;
	if (does & SWAP)
		reg_put(e, operand_reg(in, in->src), dst, in->op_bytes);
	if (in->op == INSN_CMPXCHG && !(flags & RFLAGS_ZF))
		gpr_put(&e->regs->gpr[GPR_RAX], dst, in->op_bytes);
	set_flags(e, flags);
	e->regs->rip += in->len;
	return true;
}

/* --- Strings ------------------------------------------------------------ */

static void advance(struct emul *e, unsigned int nr)
{
	uint64_t step = e->insn->op_bytes;

	if (e->regs->rflags & RFLAGS_DF)
		step = 0 - step;
	gpr_put(&e->regs->gpr[nr], e->regs->gpr[nr] + step, e->insn->addr_bytes);
}

/* One iteration. */
static bool string_step(struct emul *e, unsigned int does)
{
	const struct insn *in = e->insn;
	unsigned int n = in->op_bytes;
	uint64_t si = reg_get(e, GPR_RSI, in->addr_bytes), di = reg_get(e, GPR_RDI, in->addr_bytes);
	uint16_t port = (uint16_t)e->regs->gpr[GPR_RDX];
	uint64_t val = e->regs->gpr[GPR_RAX] & mask_of(n), other = 0;
	uint32_t flags;

	if ((does & FROM_SI) && !mem_access(e, in->seg, si, n, &val, false))
		return false;
	if ((does & FROM_DI) && !mem_access(e, SEG_ES, di, n, &other, false))
		return false;
	if (does & FROM_PORT)
		val = e->ops->in(e, port, n);
	if ((does & TO_DI) && !mem_access(e, SEG_ES, di, n, &val, true))
		return false;
	if (does & TO_PORT)
		e->ops->out(e, port, n, (uint32_t)val);
	if (does & TO_ACC)
		gpr_put(&e->regs->gpr[GPR_RAX], val, n);
	if (does & COMPARE) {
		add_sub(true, val, other, 0, n, &flags);
		set_flags(e, flags);
	}
	if (does & FROM_SI)
		advance(e, GPR_RSI);
	if (does & (FROM_DI | TO_DI))
		advance(e, GPR_RDI);
	return true;
}

static bool emulate_string(struct emul *e, unsigned int does)
{
	const struct insn *in = e->insn;
	uint64_t *rcx = &e->regs->gpr[GPR_RCX];
	uint64_t count = in->rep ? *rcx & mask_of(in->addr_bytes) : 1;
	bool until_equal = in->rep == REPNE;

	for (unsigned int i = 0; count && i < EMUL_REP_MAX; i++) {
		if (!string_step(e, does))
			return false;
		count--;
		if (!in->rep)
			break;
		gpr_put(rcx, count, in->addr_bytes);
		if ((does & COMPARE) && !!(e->regs->rflags & RFLAGS_ZF) == until_equal)
			count = 0;
	}
	if (!count)
		e->regs->rip += in->len;
	return true;
}

bool emulate(struct emul *e)
{
	unsigned int does = traits[e->insn->op];

	return does & STRING ? emulate_string(e, does) : emulate_plain(e, does);
}
