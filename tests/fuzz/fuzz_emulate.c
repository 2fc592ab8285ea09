/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the emulator: any bytes, any registers, segments and memory. Nothing
 * outside the guest's memory is touched, RIP is here or at the next
 * instruction, and a REP instruction does a bounded piece.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/emulate.h"
#include "hospes/lib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t memory[4096];
static const uint8_t *input;
static size_t left;
static unsigned int accesses;

static uint8_t next(void)
{
	if (!left)
		return 0;
	left--;
	return *input++;
}

static void must(bool truth)
{
	if (!truth)
		abort();
}

/* One access in some faults; the memory repeats all over the address space. */
static bool allowed(struct emul *e, gva_t addr, unsigned int len)
{
	must(len >= 1 && len <= 8);
	must(e->mode == INSN_MODE_64 || addr <= UINT32_MAX);
	must(++accesses <= 4 * EMUL_REP_MAX);
	if (left && next() < 16) {
		e->vector = 14;
		e->cr2 = addr;
		return false;
	}
	return true;
}

static bool do_access(struct emul *e, gva_t addr, void *buf, unsigned int len, bool write)
{
	uint8_t *bytes = buf;

	for (unsigned int i = 0; i < len; i++) {
		uint8_t *mem = &memory[(addr + i) % sizeof(memory)];

		*(write ? mem : bytes + i) = *(write ? bytes + i : mem);
	}
	return allowed(e, addr, len);
}

static void do_segment(struct emul *e, enum guest_seg nr, struct guest_segment *seg)
{
	*seg = (struct guest_segment){ .attr = (uint16_t)(0x80 | next() << 8 | next()),
				       .limit = ~0u >> (next() & 31),
				       .base = (uint64_t)next() << 24 };
}

static uint32_t do_in(struct emul *e, uint16_t port, unsigned int size)
{
	must(size == 1 || size == 2 || size == 4);
	must(++accesses <= 4 * EMUL_REP_MAX);
	return ~0u;
}

static void do_out(struct emul *e, uint16_t port, unsigned int size, uint32_t value)
{
	must(size == 4 || !(value >> (8 * size)));
	must(++accesses <= 4 * EMUL_REP_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct emul_ops ops = { do_access, do_segment, do_in, do_out };
	struct guest_regs regs = { .rip = 0x1000 };
	struct insn in;
	struct emul e = { .insn = &in, .regs = &regs, .ops = &ops };
	uint8_t code[INSN_MAX_LEN];

	if (size < 1 + sizeof(code))
		return 0;
	e.mode = data[0] % 3;
	memcpy(code, data + 1, sizeof(code));
	if (insn_decode(code, sizeof(code), e.mode, &in) || in.op < INSN_ADD)
		return 0;
	input = data + 1 + sizeof(code);
	left = size - 1 - sizeof(code);
	accesses = 0;
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		regs.gpr[i] = (uint64_t)(int8_t)next() << (next() & 63);
	regs.rflags = 2 | (next() & 0xd5) | (uint64_t)(next() & 0xc) << 8;
	if (emulate(&e))
		must(regs.rip == 0x1000U + in.len || (regs.rip == 0x1000 && in.rep));
	else
		must(regs.rip == 0x1000 && e.vector >= 12 && e.vector <= 14);
	must((regs.rflags & ~0xcd5ULL) == 2);
	return 0;
}
