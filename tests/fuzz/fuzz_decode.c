/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the instruction decoder: any bytes in any mode.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/abi.h"
#include "hospes/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
	if (!truth)
		abort();
}

/* A decoded instruction is in bounds and depends on no byte behind its end. */
static void check_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode)
{
	struct insn in, again;
	int rc = insn_decode(bytes, avail, mode, &in);

	if (rc) {
		must(rc == -XEN_EFAULT || rc == -XEN_E2BIG || rc == -XEN_EOPNOTSUPP);
		must(rc != -XEN_EFAULT || avail < INSN_MAX_LEN);
		return;
	}
	must(in.len >= 1 && in.len <= INSN_MAX_LEN && in.len <= avail);
	must(in.op < INSN_OP_COUNT);
	must(in.op_bytes == 1 || in.op_bytes == 2 || in.op_bytes == 4 || in.op_bytes == 8);
	must(in.addr_bytes == 2 || in.addr_bytes == 4 || in.addr_bytes == 8);
	if (in.op < INSN_FIXED_COUNT && insn_length_fast(bytes, avail, in.op))
		must(insn_length_fast(bytes, avail, in.op) == in.len);
	must(insn_decode(bytes, in.len, mode, &again) == 0);
	must(memcmp(&in, &again, sizeof(in)) == 0);
	must(insn_decode(bytes, in.len - 1U, mode, &again) == -XEN_EFAULT);
}

/* First byte: mode; the rest: code, in a buffer that ends where it ends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *code;

	if (size < 2)
		return 0;
	code = malloc(size - 1);
	must(code != NULL);
	memcpy(code, data + 1, size - 1);
	check_decode(code, size - 1, data[0] % 3);
	free(code);
	return 0;
}
