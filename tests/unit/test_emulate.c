/* SPDX-License-Identifier: MIT */
/*
 * The emulator against the CPU that runs this test: the same bytes, the same
 * registers and memory, the same outcome. Then segments, faults and ports,
 * which an ordinary process cannot try.
 */
#include "unit.h"

#include <cpuid.h>
#include <sys/mman.h>

#include "hospes/emulate.h"
#include "hospes/lib.h"

#define ARITH 0x8d5u		/* CF PF AF ZF SF OF */
#define AF 0x10u
#define CF 0x01u
#define DF 0x400u

/* --- The CPU as a reference --------------------------------------------- */

__asm__(
	".text\n"
	"native_call:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	push %rdi\n"
	"	mov %rsi, native_code(%rip)\n"
	"	pushq 136(%rdi); popfq\n"
	"	mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp; mov 48(%rdi), %rsi; mov 64(%rdi), %r8; mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10; mov 88(%rdi), %r11; mov 96(%rdi), %r12; mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14; mov 120(%rdi), %r15; mov 56(%rdi), %rdi\n"
	"	call *native_code(%rip)\n"
	"	push %rdi\n"
	"	mov 8(%rsp), %rdi\n"
	"	popq 56(%rdi)\n"
	"	pushfq; popq 136(%rdi)\n"
	"	cld\n"
	"	mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
	"	mov %rbp, 40(%rdi); mov %rsi, 48(%rdi); mov %r8, 64(%rdi); mov %r9, 72(%rdi)\n"
	"	mov %r10, 80(%rdi); mov %r11, 88(%rdi); mov %r12, 96(%rdi); mov %r13, 104(%rdi)\n"
	"	mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
	"	pop %rdi\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	".local native_code\n"
	".comm native_code,8,8\n");

void native_call(struct guest_regs *regs, void *code);

static uint8_t *code_page;

static int setup(void **state)
{
	code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return code_page == MAP_FAILED;
}

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Values near the edges of all sizes turn up often. */
static uint64_t rnd_value(void)
{
	static const uint64_t edges[] = {
		0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, ~0ULL };

	return rnd() & 1 ? rnd() : edges[rnd() % ARRAY_SIZE(edges)] + (rnd() % 3) - 1;
}

/* --- Memory of the emulated guest: this process ------------------------- */

struct space {
	uint8_t *base;
	size_t size;
	struct guest_segment seg[SEG_COUNT];
	uint32_t in_value, out_value;
	uint16_t port;
	unsigned int nr_in, nr_out;
	gva_t bad;		/* a page fault from here on */
};

static bool present(struct emul *e, gva_t addr, unsigned int len, bool write)
{
	struct space *s = e->data;

	if (addr >= (uintptr_t)s->base && addr + len <= (uintptr_t)s->base + s->size &&
	    (!s->bad || addr + len <= s->bad))
		return true;
	e->vector = 14;
	e->error = write ? 2 : 0;
	e->cr2 = addr;
	return false;
}

static bool do_access(struct emul *e, gva_t addr, void *buf, unsigned int len, bool write)
{
	void *mem = (void *)(uintptr_t)addr;

	if (!present(e, addr, len, write))
		return false;
	memcpy(write ? mem : buf, write ? buf : mem, len);
	return true;
}

static void do_segment(struct emul *e, enum guest_seg nr, struct guest_segment *seg)
{
	*seg = ((struct space *)e->data)->seg[nr];
}

static uint32_t do_in(struct emul *e, uint16_t port, unsigned int size)
{
	struct space *s = e->data;

	s->port = port;
	s->nr_in++;
	assert_true(size == 1 || size == 2 || size == 4);
	return s->in_value++;
}

static void do_out(struct emul *e, uint16_t port, unsigned int size, uint32_t value)
{
	struct space *s = e->data;

	s->port = port;
	s->out_value = value;
	s->nr_out++;
}

static const struct emul_ops ops = { do_access, do_segment, do_in, do_out };

static bool run(struct space *s, struct guest_regs *regs, const uint8_t *bytes,
			    enum insn_mode mode, struct emul *e)
{
	struct insn in;

	assert_int_equal(insn_decode(bytes, 15, mode, &in), 0);
	*e = (struct emul){ .insn = &in, .mode = mode, .regs = regs, .ops = &ops, .data = s };
	return emulate(e);
}

/* --- Differential ------------------------------------------------------- */

#define MEM 256
#define MIDDLE 128

struct form {
	const char *name;
	uint8_t opcode[3];
	uint8_t len;
	int8_t reg;		/* modrm.reg of a group, -1: a register */
	uint8_t imm;		/* bytes of it; 4 means operand size, at most 4 */
	bool byte;		/* operands are bytes */
	bool mem_only;
	uint32_t undefined;	/* flags nobody promises */
};

#define ALU_FORMS(op, n, undef) \
	{ op, { n }, 1, -1, 0, true, false, undef }, \
	{ op, { n + 1 }, 1, -1, 0, false, false, undef }, \
	{ op, { n + 2 }, 1, -1, 0, true, false, undef }, \
	{ op, { n + 3 }, 1, -1, 0, false, false, undef }, \
	{ op " imm", { 0x80 }, 1, n / 8, 1, true, false, undef }, \
	{ op " imm", { 0x81 }, 1, n / 8, 4, false, false, undef }, \
	{ op " imm8", { 0x83 }, 1, n / 8, 1, false, false, undef }
#define BIT_UNDEF (ARITH & ~(CF | 0x40))

static const struct form forms[] = {
	ALU_FORMS("add", 0x00, 0), ALU_FORMS("or", 0x08, AF), ALU_FORMS("adc", 0x10, 0),
	ALU_FORMS("sbb", 0x18, 0), ALU_FORMS("and", 0x20, AF), ALU_FORMS("sub", 0x28, 0),
	ALU_FORMS("xor", 0x30, AF), ALU_FORMS("cmp", 0x38, 0),
	{ "test", { 0x84 }, 1, -1, 0, true, false, AF },
	{ "test", { 0x85 }, 1, -1, 0, false, false, AF },
	{ "test imm", { 0xf6 }, 1, 0, 1, true, false, AF },
	{ "test imm", { 0xf7 }, 1, 0, 4, false, false, AF },
	{ "not", { 0xf6 }, 1, 2, 0, true, false, 0 }, { "not", { 0xf7 }, 1, 2, 0, false, false, 0 },
	{ "neg", { 0xf6 }, 1, 3, 0, true, false, 0 }, { "neg", { 0xf7 }, 1, 3, 0, false, false, 0 },
	{ "inc", { 0xfe }, 1, 0, 0, true, false, 0 }, { "inc", { 0xff }, 1, 0, 0, false, false, 0 },
	{ "dec", { 0xfe }, 1, 1, 0, true, false, 0 }, { "dec", { 0xff }, 1, 1, 0, false, false, 0 },
	{ "mov", { 0x88 }, 1, -1, 0, true, false, 0 },
	{ "mov", { 0x89 }, 1, -1, 0, false, false, 0 },
	{ "mov", { 0x8a }, 1, -1, 0, true, false, 0 },
	{ "mov", { 0x8b }, 1, -1, 0, false, false, 0 },
	{ "mov imm", { 0xc6 }, 1, 0, 1, true, false, 0 },
	{ "mov imm", { 0xc7 }, 1, 0, 4, false, false, 0 },
	{ "movsxd", { 0x63 }, 1, -1, 0, false, false, 0 },
	{ "movzx8", { 0x0f, 0xb6 }, 2, -1, 0, false, true, 0 },
	{ "movzx16", { 0x0f, 0xb7 }, 2, -1, 0, false, false, 0 },
	{ "movsx8", { 0x0f, 0xbe }, 2, -1, 0, false, true, 0 },
	{ "movsx16", { 0x0f, 0xbf }, 2, -1, 0, false, false, 0 },
	{ "movbe", { 0x0f, 0x38, 0xf0 }, 3, -1, 0, false, true, 0 },
	{ "movbe", { 0x0f, 0x38, 0xf1 }, 3, -1, 0, false, true, 0 },
	{ "xchg", { 0x86 }, 1, -1, 0, true, false, 0 },
	{ "xchg", { 0x87 }, 1, -1, 0, false, false, 0 },
	{ "xadd", { 0x0f, 0xc0 }, 2, -1, 0, true, true, 0 },
	{ "xadd", { 0x0f, 0xc1 }, 2, -1, 0, false, true, 0 },
	{ "cmpxchg", { 0x0f, 0xb0 }, 2, -1, 0, true, false, 0 },
	/* CPUs differ in whether one that fails clears the upper half of a register */
	{ "cmpxchg", { 0x0f, 0xb1 }, 2, -1, 0, false, true, 0 },
	{ "bt", { 0x0f, 0xa3 }, 2, -1, 0, false, false, BIT_UNDEF },
	{ "bts", { 0x0f, 0xab }, 2, -1, 0, false, false, BIT_UNDEF },
	{ "btr", { 0x0f, 0xb3 }, 2, -1, 0, false, false, BIT_UNDEF },
	{ "btc", { 0x0f, 0xbb }, 2, -1, 0, false, false, BIT_UNDEF },
	{ "bt imm", { 0x0f, 0xba }, 2, 4, 1, false, false, BIT_UNDEF },
	{ "bts imm", { 0x0f, 0xba }, 2, 5, 1, false, false, BIT_UNDEF },
	{ "btr imm", { 0x0f, 0xba }, 2, 6, 1, false, false, BIT_UNDEF },
	{ "btc imm", { 0x0f, 0xba }, 2, 7, 1, false, false, BIT_UNDEF },
};

/* Not RSP; and with byte operands and no REX, 4 to 7 are AH to BH. */
static unsigned int pick_reg(bool byte)
{
	unsigned int r;

	do {
		r = rnd() % 8;
	} while (r == 4 && !byte);
	return r;
}

/* One random instance of a form. Returns its length; *mem: it works on memory at RBX. */
static unsigned int encode(const struct form *f, uint8_t out[16], bool *mem)
{
	unsigned int n = 0, size = 4, rex = 0, reg, rm = 3;

	*mem = f->mem_only || (rnd() & 1);
	if (!f->byte && rnd() % 3 == 0) {
		out[n++] = 0x66;
		size = 2;
	}
	if (rnd() % 3 == 0) {
		/* Not B with memory: that is at RBX; and SPL to DIL are left out. */
		rex = 0x40 | (rnd() & 0xc) | (*mem ? 0 : rnd() & 1);
		out[n++] = (uint8_t)rex;
		if (rex & 8)
			size = 8;
	}
	reg = f->reg >= 0 ? (unsigned int)f->reg : pick_reg(f->byte && !rex);
	if (!*mem)
		rm = pick_reg(f->byte && !rex);
	memcpy(out + n, f->opcode, f->len);
	n += f->len;
	out[n++] = (uint8_t)((*mem ? 0 : 0xc0) | reg << 3 | rm);
	for (unsigned int i = 0; i < MIN(f->imm, size); i++)
		out[n++] = (uint8_t)rnd_value();
	return n;
}

static bool has_movbe(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 22));
}

static void compare(const struct form *f, const uint8_t *bytes, unsigned int len,
		    const struct guest_regs *got, const struct guest_regs *want, uint32_t undefined)
{
	bool same = !((got->rflags ^ want->rflags) & ARITH & ~undefined) &&
		    got->rip == want->rip + len;

	for (unsigned int i = 0; i < 16; i++)
		same = same && (i == GPR_RSP || got->gpr[i] == want->gpr[i]);
	if (same)
		return;
	fprintf(stderr, "%s:", f->name);
	for (unsigned int i = 0; i < len; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fprintf(stderr, "\nflags %#lx, CPU %#lx\n", got->rflags, want->rflags);
	for (unsigned int i = 0; i < 16; i++)
		fprintf(stderr, "r%u %#lx, CPU %#lx\n", i, got->gpr[i], want->gpr[i]);
	fail();
}

static void test_against_cpu(void **state)
{
	uint8_t mem_a[MEM], before[MEM], native[MEM];
	struct space s = { .base = mem_a, .size = MEM };

	seed = 20260101;
	for (unsigned int round = 0; round < 60000; round++) {
		const struct form *f = &forms[rnd() % ARRAY_SIZE(forms)];
		struct guest_regs a, b;
		uint8_t bytes[16] = { 0 };
		bool mem, bit_string;
		struct emul e;
		unsigned int len;

		if (!strcmp(f->name, "movbe") && !has_movbe())
			continue;
		len = encode(f, bytes, &mem);
		bit_string = mem && f->reg < 0 && (f->undefined & BIT_UNDEF) == BIT_UNDEF;
		for (unsigned int i = 0; i < 16; i++)
			a.gpr[i] = bit_string ? rnd() % 800 - 400 : rnd_value();
		for (unsigned int i = 0; i < MEM; i++)
			mem_a[i] = (uint8_t)(rnd() & 1 ? rnd() : 0);
		a.rip = 0x1000;
		a.rflags = 0x202 | (rnd() & ARITH);
		if (rnd() & 1)	/* so that CMPXCHG succeeds at times */
			memcpy(mem_a + MIDDLE, &a.gpr[GPR_RAX], 8);
		memcpy(before, mem_a, MEM);
		if (bit_string && ((bytes[len - 1] >> 3) & 7) == 3)
			continue;	/* RBX as bit number would be an address */
		if (mem)
			a.gpr[GPR_RBX] = (uintptr_t)mem_a + MIDDLE;
		b = a;
		memcpy(code_page, bytes, len);
		code_page[len] = 0xc3;
		native_call(&b, code_page);
		memcpy(native, mem_a, MEM);
		memcpy(mem_a, before, MEM);
		assert_true(run(&s, &a, bytes, INSN_MODE_64, &e));
		compare(f, bytes, len, &a, &b, f->undefined);
		if (memcmp(mem_a, native, MEM))
			fail_msg("%s: memory differs", f->name);
	}
}

static void test_strings_against_cpu(void **state)
{
	static const uint8_t opcodes[] = {
		0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	static uint8_t mem_a[8192], mem_b[8192];
	struct space s = { .base = mem_a, .size = sizeof(mem_a) };

	seed = 7;
	for (unsigned int round = 0; round < 4000; round++) {
		struct form f = { .name = "string" };
		struct guest_regs a = { .rip = 0x1000 }, b;
		uint8_t bytes[16] = { 0 };
		unsigned int len = 0, calls = 0;
		uint64_t rip = a.rip;
		struct emul e;

		if (rnd() % 3)
			bytes[len++] = rnd() & 1 ? 0xf2 : 0xf3;
		if (rnd() % 3 == 0)
			bytes[len++] = 0x66;
		if (rnd() % 3 == 0)
			bytes[len++] = 0x48;
		bytes[len++] = opcodes[rnd() % ARRAY_SIZE(opcodes)];
		/* Few different bytes: comparisons run on for some while. */
		for (size_t i = 0; i < sizeof(mem_a); i++)
			mem_a[i] = mem_b[i] = rnd() % 64 ? 0x11 : 0x22;
		for (unsigned int i = 0; i < 16; i++)
			a.gpr[i] = rnd_value();
		a.gpr[GPR_RAX] = 0x1111111111111111ULL;
		a.gpr[GPR_RCX] = rnd() % 300;
		a.gpr[GPR_RSI] = (uintptr_t)mem_a + 3000 + rnd() % 64;
		a.gpr[GPR_RDI] = (uintptr_t)mem_a + 3000 + rnd() % 2000;
		a.rflags = 0x202 | (rnd() & (ARITH | DF));
		b = a;
		b.gpr[GPR_RSI] += (uint64_t)(mem_b - mem_a);
		b.gpr[GPR_RDI] += (uint64_t)(mem_b - mem_a);
		memcpy(code_page, bytes, len);
		code_page[len] = 0xc3;
		native_call(&b, code_page);
		while (a.rip == rip) {
			assert_true(run(&s, &a, bytes, INSN_MODE_64, &e));
			assert_true(++calls <= 4);
		}
		b.gpr[GPR_RSI] -= (uint64_t)(mem_b - mem_a);
		b.gpr[GPR_RDI] -= (uint64_t)(mem_b - mem_a);
		compare(&f, bytes, len, &a, &b, 0);
		assert_memory_equal(mem_a, mem_b, sizeof(mem_a));
	}
}

/* --- What a process cannot try ------------------------------------------ */

/* Instructions run with segments of 16-bit or 32-bit code, based at the test's memory. */
static uint8_t low[8192];

static struct space flat_space(void)
{
	struct space s = { .base = low, .size = sizeof(low) };

	memset(low, 0, sizeof(low));
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		s.seg[i] = (struct guest_segment){ 0x10, 0xc93, 0xffffffff, 0 };
	return s;
}

static void test_limits_and_types(void **state)
{
	static const uint8_t store[16] = { 0x89, 0x03 };		/* mov %eax, (%ebx) */
	static const uint8_t load_ss[16] = { 0x36, 0x8b, 0x03 };	/* mov %ss:(%ebx), %eax */
	static const struct {
		uint16_t attr;
		uint32_t limit, ebx;
		bool load_ok, store_ok;
	} rows[] = {
		{ 0x0c93, 0xfff, 0xffc, true, true },
		{ 0x0c93, 0xfff, 0xffd, false, false },
		{ 0x0c93, 0xffffffff, 0xfffffffd, false, false },
		{ 0x0c13, 0xfff, 0, false, false },	/* not present */
		{ 0x0c91, 0xfff, 0, true, false },	/* read-only data */
		{ 0x0c9b, 0xfff, 0, true, false },	/* readable code */
		{ 0x0c99, 0xfff, 0, false, false },	/* execute-only code */
		{ 0x0497, 0xfff, 0xfff, false, false },	/* expand-down */
		{ 0x0497, 0xfff, 0x1000, true, true },
		{ 0x0097, 0xfff, 0xfffd, false, false },
		{ 0x0097, 0xfff, 0xfffc, true, true },
	};
	struct emul e;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct space s = flat_space();
		/* A base that brings the address into the memory there is. */
		uint64_t base = (uintptr_t)low - rows[i].ebx;
		struct guest_regs regs = { .gpr[GPR_RBX] = rows[i].ebx, .rip = 0x100 };
		bool load, stored;

		/* Linear addresses are 32 bits wide here: reads do not reach memory. */
		s.seg[SEG_SS] = s.seg[SEG_DS] =
			(struct guest_segment){ 0x10, rows[i].attr, rows[i].limit, base };
		stored = run(&s, &regs, store, INSN_MODE_32, &e);
		assert_false(stored);
		assert_int_equal(e.vector, rows[i].store_ok ? 14 : 13);
		load = run(&s, &regs, load_ss, INSN_MODE_32, &e);
		assert_false(load);
		assert_int_equal(e.vector, rows[i].load_ok ? 14 : 12);
		assert_int_equal(regs.rip, 0x100);
	}
}

static void test_canonical(void **state)
{
	static const uint8_t store[16] = { 0x48, 0x89, 0x03 };		/* mov %rax, (%rbx) */
	static const uint8_t push_like[16] = { 0x48, 0x89, 0x45, 0 };	/* mov %rax, 0(%rbp) */
	struct space s = flat_space();
	struct guest_regs regs = { .gpr[GPR_RBX] = 0x7ffffffffffaULL,
				   .gpr[GPR_RBP] = 0x800000000000ULL };
	struct emul e;

	assert_false(run(&s, &regs, store, INSN_MODE_64, &e));
	assert_int_equal(e.vector, 13);
	assert_int_equal(e.error, 0);
	assert_false(run(&s, &regs, push_like, INSN_MODE_64, &e));
	assert_int_equal(e.vector, 12);
	regs.gpr[GPR_RBX] = 0x7ffffffffff0ULL;	/* canonical, only not there */
	assert_false(run(&s, &regs, store, INSN_MODE_64, &e));
	assert_int_equal(e.vector, 14);
	assert_int_equal(e.error, 2);
	assert_int_equal(e.cr2, 0x7ffffffffff0ULL);
}

static void test_addressing(void **state)
{
	/* mov 0x10(%rip), %eax; mov 8(%rax,%rcx,4), %edx; mov %fs:(%rbx), %esi; a32 mov (%ebx) */
	static const uint8_t rip_rel[16] = { 0x8b, 0x05, 0x10, 0, 0, 0 };
	static const uint8_t sib[16] = { 0x8b, 0x54, 0x88, 0x08 };
	static const uint8_t fs[16] = { 0x64, 0x8b, 0x33 };
	static const uint8_t a32[16] = { 0x67, 0x8b, 0x33 };
	struct space s = flat_space();
	uint64_t at = (uintptr_t)low;
	struct guest_regs regs = { .rip = at };
	struct emul e;

	for (unsigned int i = 0; i < sizeof(low) / 4; i++)
		memcpy(low + 4 * i, &i, 4);
	low[0x16] = 0x77;
	assert_true(run(&s, &regs, rip_rel, INSN_MODE_64, &e));
	assert_int_equal(regs.rip, at + 6);
	assert_int_equal(regs.gpr[GPR_RAX] & 0xff, 0x77);
	regs.gpr[GPR_RAX] = at;
	regs.gpr[GPR_RCX] = 10;
	assert_true(run(&s, &regs, sib, INSN_MODE_64, &e));
	assert_int_equal(regs.gpr[GPR_RDX], 12);
	s.seg[SEG_FS].base = at - 0x1000;
	regs.gpr[GPR_RBX] = 0x1020;
	assert_true(run(&s, &regs, fs, INSN_MODE_64, &e));
	assert_int_equal(regs.gpr[GPR_RSI], 8);
	regs.gpr[GPR_RBX] = at;		/* cut to 32 bits, that is somewhere else */
	assert_false(run(&s, &regs, a32, INSN_MODE_64, &e));
	assert_int_equal(e.cr2, (uint32_t)at);
}

/* A fault in the midst of a REP leaves the registers at the iteration that faulted. */
static void test_rep_fault(void **state)
{
	static const uint8_t rep_stos[16] = { 0xf3, 0xaa };
	struct space s = flat_space();
	struct guest_regs regs = { .gpr[GPR_RCX] = 100, .gpr[GPR_RDI] = (uintptr_t)low,
				   .gpr[GPR_RAX] = 0x5a, .rip = 0x100, .rflags = 2 };
	struct emul e;

	s.bad = (uintptr_t)low + 30;
	assert_false(run(&s, &regs, rep_stos, INSN_MODE_64, &e));
	assert_int_equal(e.vector, 14);
	assert_int_equal(e.cr2, (uintptr_t)low + 30);
	assert_int_equal(regs.gpr[GPR_RCX], 70);
	assert_int_equal(regs.gpr[GPR_RDI], (uintptr_t)low + 30);
	assert_int_equal(regs.rip, 0x100);
	s.bad = 0;
	assert_true(run(&s, &regs, rep_stos, INSN_MODE_64, &e));
	assert_int_equal(regs.gpr[GPR_RCX], 0);
	assert_int_equal(regs.rip, 0x102);
	assert_int_equal(low[99], 0x5a);
	assert_int_equal(low[100], 0);
}

/* With 16-bit addresses only SI, DI and CX count and change. */
static void test_16bit_string(void **state)
{
	static const uint8_t lods[16] = { 0xf3, 0xac };
	struct space s = flat_space();
	struct guest_regs regs = { .gpr[GPR_RCX] = 0xabcd0000, .gpr[GPR_RSI] = 0xffff0000,
				   .rip = 0x100, .rflags = 2 };
	struct emul e;

	/* CX is 0: nothing happens, and it is over. */
	assert_true(run(&s, &regs, lods, INSN_MODE_16, &e));
	assert_int_equal(regs.rip, 0x102);
	assert_int_equal(regs.gpr[GPR_RSI], 0xffff0000);
	/* The address is base + SI, not base + ESI. */
	regs.gpr[GPR_RCX] = 0xabcd0001;
	s.seg[SEG_DS] = (struct guest_segment){ 0, 0x93, 0xffff, 0x20000 };
	assert_false(run(&s, &regs, lods, INSN_MODE_16, &e));
	assert_int_equal(e.cr2, 0x20000);
}

static void test_ports(void **state)
{
	static const uint8_t rep_ins[16] = { 0xf3, 0x66, 0x6d };	/* rep insw */
	static const uint8_t rep_outs[16] = { 0xf3, 0x6e };		/* rep outsb */
	struct space s = flat_space();
	struct guest_regs regs = { .gpr[GPR_RCX] = 200, .gpr[GPR_RDI] = (uintptr_t)low,
				   .gpr[GPR_RDX] = 0x10060, .rip = 0x100, .rflags = 2 };
	struct emul e;

	s.in_value = 0x1234;
	assert_true(run(&s, &regs, rep_ins, INSN_MODE_64, &e));
	assert_int_equal(s.nr_in, EMUL_REP_MAX);
	assert_int_equal(regs.gpr[GPR_RCX], 200 - EMUL_REP_MAX);
	assert_int_equal(regs.rip, 0x100);
	assert_int_equal(s.port, 0x60);
	assert_true(run(&s, &regs, rep_ins, INSN_MODE_64, &e));
	assert_int_equal(s.nr_in, 200);
	assert_int_equal(regs.rip, 0x103);
	assert_int_equal(low[0] | low[1] << 8, 0x1234);
	assert_int_equal(low[398] | low[399] << 8, 0x1234 + 199);

	regs.gpr[GPR_RCX] = 3;
	regs.gpr[GPR_RSI] = (uintptr_t)low + 1;
	assert_true(run(&s, &regs, rep_outs, INSN_MODE_64, &e));
	assert_int_equal(s.nr_out, 3);
	assert_int_equal(s.out_value, 0x12);
	assert_int_equal(regs.gpr[GPR_RSI], (uintptr_t)low + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_cpu),
		cmocka_unit_test(test_strings_against_cpu),
		cmocka_unit_test(test_limits_and_types),
		cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_addressing),
		cmocka_unit_test(test_rep_fault),
		cmocka_unit_test(test_16bit_string),
		cmocka_unit_test(test_ports),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
