/* SPDX-License-Identifier: MIT */
/*
 * Executes one decoded instruction for a guest whose access trapped.
 *
 * Pure logic: memory, segments and ports come through callbacks. Registers
 * change only as far as the instruction got; RIP moves on when it is done, so
 * a string operation that stops in between simply runs again.
 */
#ifndef HOSPES_EMULATE_H
#define HOSPES_EMULATE_H

#include "hospes/decode.h"
#include "hospes/regs.h"

struct emul {
	const struct insn *insn;
	enum insn_mode mode;
	struct guest_regs *regs;
	const struct emul_ops *ops;
	void *data;		/* of the callbacks */

	uint8_t vector;		/* of the fault */
	uint32_t error;
	uint64_t cr2;		/* for vector 14 */
};

struct emul_ops {
	/* Linear addresses, at most 8 bytes. False: the fault is filled in. */
	bool (*access)(struct emul *e, gva_t addr, void *buf, unsigned int len, bool write);
	void (*segment)(struct emul *e, enum guest_seg nr, struct guest_segment *seg);
	uint32_t (*in)(struct emul *e, uint16_t port, unsigned int size);
	void (*out)(struct emul *e, uint16_t port, unsigned int size, uint32_t value);
};

/* Iterations of a REP instruction in one call. */
#define EMUL_REP_MAX 128u

/* One of INSN_ADD to INSN_OUTS. False: the fault in @e is to be injected. */
bool emulate(struct emul *e) __must_check;

#endif
