/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder: lengths against objdump's, operands by example, and
 * the errors of short, long and undefined input.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/decode.h"
#include "hospes/regs.h"

static const struct length_row {
	int mode;
	const char *before, *after;
	const char *lengths;
} length_rows[] = {
#include "decode_lengths.h"
};

static enum insn_mode mode_of(int bits)
{
	return bits == 16 ? INSN_MODE_16 : bits == 32 ? INSN_MODE_32 : INSN_MODE_64;
}

static size_t put_hex(uint8_t *out, const char *hex)
{
	size_t n = 0;

	for (; hex[0] && hex[1]; hex += 2) {
		unsigned int v;

		if (sscanf(hex, "%2x", &v) != 1)
			abort();
		out[n++] = (uint8_t)v;
	}
	return n;
}

static void test_lengths(void **state)
{
	unsigned int compared = 0, known = 0, failed = 0;

	(void)state;
	for (size_t r = 0; r < ARRAY_SIZE(length_rows); r++) {
		const struct length_row *row = &length_rows[r];

		for (unsigned int op = 0; op < 256; op++) {
			char digit[2] = { row->lengths[op], 0 };
			unsigned int want = (unsigned int)strtoul(digit, NULL, 16);
			uint8_t bytes[32];
			struct insn in;
			size_t n;
			int rc;

			if (!want)
				continue;
			memset(bytes, 0x90, sizeof(bytes));
			n = put_hex(bytes, row->before);
			bytes[n] = (uint8_t)op;
			put_hex(bytes + n + 1, row->after);
			rc = insn_decode(bytes, sizeof(bytes), mode_of(row->mode), &in);
			compared++;
			known += !rc;
			if (rc == -XEN_EOPNOTSUPP || (!rc && in.len == want))
				continue;
			print_error("mode %d: %s %02x %s: rc %d length %u, objdump says %u\n",
				    row->mode, row->before, op, row->after, rc, in.len, want);
			failed++;
		}
	}
	assert_int_equal(failed, 0);
	assert_true(compared > 30000 && known > 9000);
}

/* A short input asks for more at every cut, whatever lies behind the cut. */
static void test_short_input(void **state)
{
	(void)state;
	for (size_t r = 0; r < ARRAY_SIZE(length_rows); r++) {
		const struct length_row *row = &length_rows[r];

		for (unsigned int op = 0; op < 256; op++) {
			uint8_t bytes[32];
			struct insn in, again;
			size_t n;

			memset(bytes, 0x90, sizeof(bytes));
			n = put_hex(bytes, row->before);
			bytes[n] = (uint8_t)op;
			put_hex(bytes + n + 1, row->after);
			if (insn_decode(bytes, 15, mode_of(row->mode), &in))
				continue;
			for (n = 0; n < in.len; n++) {
				uint8_t *cut = malloc(n ? n : 1);

				memcpy(cut, bytes, n);
				assert_int_equal(insn_decode(cut, n, mode_of(row->mode), &again),
						 -XEN_EFAULT);
				free(cut);
			}
			assert_int_equal(insn_decode(bytes, in.len, mode_of(row->mode), &again), 0);
			assert_memory_equal(&in, &again, sizeof(in));
		}
	}
}

static void test_errors(void **state)
{
	uint8_t bytes[16];
	struct insn in;

	(void)state;
	memset(bytes, 0x66, sizeof(bytes));
	assert_int_equal(insn_decode(bytes, 16, INSN_MODE_64, &in), -XEN_E2BIG);
	assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &in), -XEN_E2BIG);
	assert_int_equal(insn_decode(bytes, 14, INSN_MODE_64, &in), -XEN_EFAULT);
	bytes[14] = 0xf4;
	assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &in), 0);
	assert_int_equal(in.len, 15);
	bytes[14] = 0xa8;
	assert_int_equal(insn_decode(bytes, 16, INSN_MODE_64, &in), -XEN_E2BIG);
	put_hex(bytes, "63000f04ff");
	assert_int_equal(insn_decode(bytes, 16, INSN_MODE_64, &in), 0);
	assert_int_equal(insn_decode(bytes, 16, INSN_MODE_32, &in), -XEN_EOPNOTSUPP);
	assert_int_equal(insn_decode(bytes + 2, 14, INSN_MODE_64, &in), -XEN_EOPNOTSUPP);
	put_hex(bytes, "ffff");
	assert_int_equal(insn_decode(bytes, 16, INSN_MODE_32, &in), -XEN_EOPNOTSUPP);
}

/* What can exit on AMD-V without a length, and what it must be recognised as. */
static const struct {
	const char *hex;
	uint8_t op;
	uint8_t fast;	/* insn_length_fast() knows it */
} exits[] = {
	{ "0fa2", INSN_CPUID, 1 }, { "0f32", INSN_RDMSR, 1 }, { "0f30", INSN_WRMSR, 1 },
	{ "0f01d9", INSN_VMMCALL, 1 }, { "0f01c1", INSN_OTHER, 0 }, { "f4", INSN_HLT, 1 },
	{ "f390", INSN_PAUSE, 1 }, { "0f31", INSN_OTHER, 0 }, { "0f01f9", INSN_OTHER, 0 },
	{ "0f33", INSN_OTHER, 0 }, { "0f01fd", INSN_OTHER, 0 }, { "0f01d1", INSN_XSETBV, 1 },
	{ "0f08", INSN_INVD, 1 }, { "0f09", INSN_WBINVD, 1 }, { "0f01c8", INSN_OTHER, 0 },
	{ "0f01c9", INSN_OTHER, 0 }, { "0f06", INSN_OTHER, 0 }, { "0faa", INSN_OTHER, 0 },
	{ "0f01d8", INSN_OTHER, 0 }, { "0f01da", INSN_OTHER, 0 }, { "0f01db", INSN_OTHER, 0 },
	{ "0f01dc", INSN_OTHER, 0 }, { "0f01dd", INSN_OTHER, 0 }, { "0f01de", INSN_OTHER, 0 },
	{ "0f01df", INSN_OTHER, 0 }, { "f1", INSN_ICEBP, 1 }, { "cc", INSN_OTHER, 0 },
	{ "660fa2", INSN_CPUID, 0 }, { "2e0f32", INSN_RDMSR, 0 }, { "f30f09", INSN_WBINVD, 0 },
	{ "cd80", INSN_OTHER, 0 }, { "0f013b", INSN_OTHER, 0 }, { "0f01f3", INSN_OTHER, 0 },
	{ "0f0133", INSN_OTHER, 0 }, { "0f01e3", INSN_OTHER, 0 }, { "0f0123", INSN_OTHER, 0 },
	{ "0f22d8", INSN_MOV_TO_CR, 0 }, { "0f20c0", INSN_OTHER, 0 },
	{ "0f2003", INSN_OTHER, 0 }, { "0f23f8", INSN_OTHER, 0 },
	{ "0f21f8", INSN_OTHER, 0 }, { "cf", INSN_OTHER, 0 }, { "9c", INSN_OTHER, 0 },
	{ "9d", INSN_OTHER, 0 }, { "660f38820a", INSN_OTHER, 0 }, { "e460", INSN_OTHER, 0 },
	{ "ef", INSN_OTHER, 0 }, { "f36c", INSN_INS, 0 }, { "f26f", INSN_OUTS, 0 },
	{ "90", INSN_OTHER, 0 }, { "0f01f8", INSN_OTHER, 0 }, { "0f0113", INSN_OTHER, 0 },
};

static void test_exits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
		for (enum insn_mode mode = INSN_MODE_16; mode <= INSN_MODE_64; mode++) {
			uint8_t bytes[16] = { 0 };
			size_t n = put_hex(bytes, exits[i].hex);
			enum insn_op op = exits[i].op;
			int fast = exits[i].fast ? (int)n : 0;
			struct insn in;

			if (op == INSN_OTHER) {
				assert_int_equal(insn_decode(bytes, n, mode, &in), -XEN_EOPNOTSUPP);
				continue;
			}
			assert_int_equal(insn_decode(bytes, n, mode, &in), 0);
			assert_int_equal(in.len, n);
			assert_int_equal(in.op, op);
			assert_int_equal(insn_decode(bytes, n - 1, mode, &in), -XEN_EFAULT);
			if (op >= INSN_FIXED_COUNT)
				continue;
			assert_int_equal(insn_length_fast(bytes, 15, op), fast);
			assert_int_equal(insn_length_fast(bytes, 3, op), 0);
			bytes[n - 1] ^= 0x80;
			assert_int_equal(insn_length_fast(bytes, 15, op), 0);
		}
	}
}

#define NO INSN_NO_REG

static const struct {
	const char *hex;
	int mode;
	struct insn want;	/* the fields that compare() looks at */
} operands[] = {
	/* mov %eax,0x80(%rbx,%r9,4) */
	{ "4289848b80000000", 64, { .op = INSN_MOV, .op_bytes = 4, .src_bytes = 4, .addr_bytes = 8,
	  .dst = OPD_RM, .src = OPD_REG, .seg = SEG_DS, .is_mem = true, .base = GPR_RBX,
	  .index = GPR_R9, .scale = 2, .disp = 0x80 } },
	/* movzbl %fs:-1(%rbp),%r10d */
	{ "64440fb655ff", 64, { .op = INSN_MOVZX, .op_bytes = 4, .src_bytes = 1, .addr_bytes = 8,
	  .dst = OPD_REG, .src = OPD_RM, .seg = SEG_FS, .is_mem = true, .reg = GPR_R10,
	  .base = GPR_RBP, .index = NO, .disp = ~0ULL } },
	/* movl $-2,0x10(%rip) as movq */
	{ "48c70510000000feffffff", 64, { .op = INSN_MOV, .op_bytes = 8, .src_bytes = 8,
	  .addr_bytes = 8, .dst = OPD_RM, .src = OPD_IMM, .seg = SEG_DS, .is_mem = true,
	  .rip_relative = true, .base = NO, .index = NO, .disp = 0x10, .imm = ~1ULL } },
	/* mov 0xfee00020,%eax; 32-bit code, default and %cs */
	{ "a12000e0fe", 32, { .op = INSN_MOV, .op_bytes = 4, .src_bytes = 4, .addr_bytes = 4,
	  .dst = OPD_ACC, .src = OPD_RM, .seg = SEG_DS, .is_mem = true, .base = NO, .index = NO,
	  .disp = 0xfffffffffee00020 } },
	{ "2ea12000e0fe", 32, { .op = INSN_MOV, .op_bytes = 4, .src_bytes = 4, .addr_bytes = 4,
	  .dst = OPD_ACC, .src = OPD_RM, .seg = SEG_CS, .is_mem = true, .base = NO, .index = NO,
	  .disp = 0xfffffffffee00020 } },
	/* %es means nothing in 64-bit mode; (%r12) still needs a SIB byte and is not %ss */
	{ "264188442401", 64, { .op = INSN_MOV, .op_bytes = 1, .src_bytes = 1, .addr_bytes = 8,
	  .dst = OPD_RM, .src = OPD_REG, .seg = SEG_DS, .is_mem = true, .base = GPR_R12,
	  .index = NO, .disp = 1 } },
	/* orb $1,-2(%bp,%si) in 16-bit code */
	{ "804afe01", 16, { .op = INSN_OR, .op_bytes = 1, .src_bytes = 1, .addr_bytes = 2,
	  .dst = OPD_RM, .src = OPD_IMM, .seg = SEG_SS, .is_mem = true, .reg = 1,
	  .base = GPR_RBP, .index = GPR_RSI, .disp = ~1ULL, .imm = 1 } },
	/* testl $5,(%esp) with both size prefixes in 16-bit code */
	{ "6667f7042405000000", 16, { .op = INSN_TEST, .op_bytes = 4, .src_bytes = 4,
	  .addr_bytes = 4, .dst = OPD_RM, .src = OPD_IMM, .seg = SEG_SS, .is_mem = true,
	  .base = GPR_RSP, .index = NO, .imm = 5 } },
	/* movbe %ecx,(%rdi) */
	{ "0f38f10f", 64, { .op = INSN_MOVBE, .op_bytes = 4, .src_bytes = 4, .addr_bytes = 8,
	  .dst = OPD_RM, .src = OPD_REG, .seg = SEG_DS, .is_mem = true, .reg = 1,
	  .base = GPR_RDI, .index = NO } },
};

static void compare(const struct insn *got, const struct insn *want)
{
	assert_int_equal(got->op, want->op);
	assert_int_equal(got->op_bytes, want->op_bytes);
	assert_int_equal(got->src_bytes, want->src_bytes);
	assert_int_equal(got->addr_bytes, want->addr_bytes);
	assert_int_equal(got->dst, want->dst);
	assert_int_equal(got->src, want->src);
	assert_int_equal(got->seg, want->seg);
	assert_int_equal(got->is_mem, want->is_mem);
	assert_int_equal(got->rip_relative, want->rip_relative);
	assert_int_equal(got->reg, want->reg);
	assert_int_equal(got->base, want->base);
	assert_int_equal(got->index, want->index);
	assert_int_equal(got->scale, want->scale);
	assert_int_equal(got->disp, want->disp);
	assert_int_equal(got->imm, want->imm);
}

static void test_operands(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(operands); i++) {
		uint8_t bytes[16] = { 0 };
		size_t n = put_hex(bytes, operands[i].hex);
		struct insn in;

		assert_int_equal(insn_decode(bytes, n, mode_of(operands[i].mode), &in), 0);
		assert_int_equal(in.len, n);
		compare(&in, &operands[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_short_input),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_exits),
		cmocka_unit_test(test_operands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
