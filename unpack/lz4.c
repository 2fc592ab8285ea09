/* SPDX-License-Identifier: MIT */
/*
 * LZ4 in its old frame format: a magic, then blocks with their packed size
 * in front. Debian's cloud kernel is packed this way.
 */
#include "unpack/unpack.h"

#include "hospes/lib.h"

#define MIN_MATCH 4u
#define TAIL 16u	/* literals that are copied whole when there is room for it */

static const char corrupt[] = "the lz4 stream is damaged";

/* Adds the bytes that continue a length of 15. False when the input ends. */
static bool length_more(const uint8_t **in, const uint8_t *end, size_t *len)
{
	uint8_t byte;

	do {
		if (*in == end)
			return false;
		byte = *(*in)++;
		*len += byte;
	} while (byte == 255);
	return true;
}

/* One block at u->in up to @end. */
static const char *block_unpack(struct unpack *u, const uint8_t *end)
{
	const uint8_t *start = u->out, *in = u->in;
	uint8_t *out = u->out;

	while (in < end) {
		uint8_t token = *in++;
		size_t len = token >> 4, dist, room;

		if (len < 15 && end - in >= (long)TAIL && u->out_end - out >= (long)TAIL) {
			__builtin_memcpy(out, in, TAIL);
		} else {
			if (len == 15 && !length_more(&in, end, &len))
				break;
			if (len > (size_t)(end - in))
				break;
			if (len > (size_t)(u->out_end - out)) {
				memcpy(out, in, (size_t)(u->out_end - out));
				out = u->out_end;
				break;
			}
			memcpy(out, in, len);
		}
		in += len;
		out += len;
		if (in == end) {	/* the last sequence has literals only */
			u->in = in;
			u->out = out;
			return NULL;
		}
		if (end - in < 2)
			break;
		dist = (size_t)in[0] | (size_t)in[1] << 8;
		in += 2;
		len = token & 15;
		if (len == 15 && !length_more(&in, end, &len))
			break;
		len += MIN_MATCH;
		if (dist - 1 >= (size_t)(out - start))
			break;
		room = (size_t)(u->out_end - out);
		out = copy_match(out, dist, MIN(len, room), u->out_end);
		if (len > room)
			break;
	}
	u->out = out;
	return corrupt;
}

const char *lz4_unpack(struct unpack *u)
{
	const char *error = NULL;

	if (u->in_end - u->in < (long)LZ4_MAGIC_SIZE || memcmp(u->in, LZ4_MAGIC, LZ4_MAGIC_SIZE))
		return corrupt;
	u->in += LZ4_MAGIC_SIZE;
	while (!error && u->in < u->in_end) {
		size_t left = (size_t)(u->in_end - u->in), size;

		if (left < 4 || left - 4 < load_le32(u->in))
			return corrupt;
		size = load_le32(u->in);
		u->in += 4;
		error = block_unpack(u, u->in + size);
	}
	return error;
}
