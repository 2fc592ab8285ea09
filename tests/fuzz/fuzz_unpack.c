/* SPDX-License-Identifier: MIT */
/*
 * The unpacker on a hostile payload: stays inside its buffers, and a decoder cut short by a small
 * buffer has produced the same bytes as with a big one.
 */
#include <stdlib.h>

#include "hospes/lib.h"
#include "unpack/unpack.h"

#define ROOM (2u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *decode(const uint8_t *data, size_t size, uint8_t *out, size_t *room)
{
	struct unpack u = { data, data + size, out, out + *room };
	const char *error;

	if (size && *data == 'L') {	/* LZMA2 alone: no check sum stands in the way */
		u.in++;
		error = lzma2_unpack(&u);
	} else {
		error = size && *data == 0xfd ? xz_unpack(&u) : lz4_unpack(&u);
	}
	*room = (size_t)(u.out - out);
	return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *big = malloc(ROOM), *small;
	size_t got = ROOM, part;
	uint32_t entry;

	if (!decode(data, size, big, &got) && got) {
		part = 1 + got / 2;
		small = malloc(part);
		if (part < got && !decode(data, size, small, &part))
			abort();
		/* The x86 filter cannot undo a branch that is cut at the end. */
		if (part > 8 && memcmp(big, small, part - 8))
			abort();
		free(small);
	}
	if (size > 4)
		(void)unpack_kernel(data, size, big, ROOM, &entry);
	free(big);
	return 0;
}
