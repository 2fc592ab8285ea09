/* SPDX-License-Identifier: MIT */
/*
 * The xz container as kernels use it: LZMA2, before it optionally the x86
 * filter, and CRC32 of every block. The index behind the blocks is not read:
 * it says nothing about the data that the blocks' own check sums do not.
 */
#include "unpack/unpack.h"

#include "hospes/lib.h"

#define HEADER_SIZE 12
#define FILTER_X86 4u
#define FILTER_LZMA2 0x21u
#define CHECK_CRC32 1u

static const char corrupt[] = "the xz stream is damaged";

/* --- CRC32, eight bytes a step ------------------------------------------ */

static uint32_t crc_table[8][256];

static void crc_init(void)
{
	for (uint32_t i = 0; i < 8 * 256; i++) {
		uint32_t c = i < 256 ? i : crc_table[i / 256 - 1][i % 256];

		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
		crc_table[i / 256][i % 256] = c;
	}
}

uint32_t crc32(const uint8_t *buf, size_t size)
{
	uint32_t (*const t)[256] = crc_table;
	uint32_t crc = ~0u;

	if (!t[0][1])
		crc_init();
	for (; size >= 8; size -= 8, buf += 8) {
		uint32_t a = load_le32(buf) ^ crc, b = load_le32(buf + 4);

		crc = t[7][a & 0xff] ^ t[6][a >> 8 & 0xff] ^ t[5][a >> 16 & 0xff] ^ t[4][a >> 24] ^
		      t[3][b & 0xff] ^ t[2][b >> 8 & 0xff] ^ t[1][b >> 16 & 0xff] ^ t[0][b >> 24];
	}
	while (size--)
		crc = crc >> 8 ^ t[0][(crc ^ *buf++) & 0xff];
	return ~crc;
}

/* --- The x86 filter ------------------------------------------------------ */

/* Index of the next CALL or JMP opcode at or behind @i, or @end. */
static size_t next_branch(const uint8_t *buf, size_t i, size_t end)
{
	const uint64_t ones = 0x0101010101010101ULL;

	for (; i + 8 <= end; i += 8) {
		uint64_t v;

		/* A byte of v becomes zero where the opcode is E8 or E9. */
		__builtin_memcpy(&v, buf + i, sizeof(v));
		v = (v & ones * 0xfe) ^ ones * 0xe8;
		v = (v - ones) & ~v & ones * 0x80;
		if (v)
			return i + (size_t)__builtin_ctzll(v) / 8;
	}
	while (i < end && (buf[i] & 0xfe) != 0xe8)
		i++;
	return i;
}

/* Would the top byte of an operand make it a near target? */
static bool is_near(uint32_t byte)
{
	return (byte & 0xff) == 0 || (byte & 0xff) == 0xff;
}

/* The operand of the branch before @next, with an unconverted opcode @back bytes before it. */
static uint32_t undo_operand(uint32_t value, uint32_t next, unsigned int back)
{
	for (;;) {
		uint32_t rel = value - next;

		if (!back || !is_near(rel >> (24 - 8 * back)))
			return (rel & 0x01ffffff) | (0 - (rel & 0x01000000));
		value = rel ^ ((1u << (32 - 8 * back)) - 1);
	}
}

/*
 * A branch is left alone when its operand is no near target, and where bytes
 * that look like opcodes crowd so that the filter could not have been sure:
 * history holds which of the three bytes before were opcodes left alone.
 */
void bcj_x86_undo(uint8_t *buf, size_t size)
{
	size_t end = size < 5 ? 0 : size - 4, i = 0;
	unsigned int history = 0;

	while (i < end) {
		bool branch;
		unsigned int back;
		uint32_t operand;

		if (!history)
			i = next_branch(buf, i, end);
		if (i >= end)
			break;
		back = (unsigned int)(fls64(history) + 1);
		branch = (buf[i] & 0xfe) == 0xe8;
		if (!branch || !is_near(buf[i + 4]) || (history & (history - 1)) ||
		    (back && is_near(buf[i + 4 - back]))) {
			history = (history << 1 | branch) & 7;
			i++;
			continue;
		}
		operand = undo_operand(load_le32(buf + i + 1), (uint32_t)i + 5, back);
		__builtin_memcpy(buf + i + 1, &operand, sizeof(operand));
		history = 0;
		i += 5;
	}
}

/* --- The container ------------------------------------------------------- */

/* A number in groups of seven bits, lowest first. False when it does not end in time. */
static bool read_number(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
	*out = 0;
	for (unsigned int shift = 0; shift < 63 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;

		*out |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return byte || !shift;
	}
	return false;
}

/* Reads a block's header behind its size byte: is it what we can decode? */
static const char *block_header(const uint8_t *p, const uint8_t *end, bool *x86)
{
	uint8_t flags = *p++;
	uint64_t id, size, skip;

	if (flags & 0x3e)
		return "the xz filters are unknown: only LZMA2 and x86 are supported";
	if ((flags & 0x40 && !read_number(&p, end, &skip)) ||
	    (flags & 0x80 && !read_number(&p, end, &skip)))
		return corrupt;
	*x86 = flags & 1;
	for (unsigned int i = 0; i <= *x86; i++) {
		if (!read_number(&p, end, &id) || !read_number(&p, end, &size) ||
		    size > (size_t)(end - p))
			return corrupt;
		if (id != (i < *x86 ? FILTER_X86 : FILTER_LZMA2) || size != (i == *x86))
			return "the xz filters are unknown: only LZMA2 and x86 are supported";
		p += size;
	}
	while (p < end) {
		if (*p++)
			return corrupt;
	}
	return NULL;
}

/* One block; its header has been found to start at u->in. */
static const char *block_unpack(struct unpack *u)
{
	const uint8_t *start = u->in;
	size_t header = (size_t)(*start + 1) * 4;
	uint8_t *out = u->out;
	const char *error;
	bool x86;

	if (header + 4 > (size_t)(u->in_end - start) ||
	    crc32(start, header - 4) != load_le32(start + header - 4))
		return corrupt;
	error = block_header(start + 1, start + header - 4, &x86);
	if (error)
		return error;
	u->in += header;
	error = lzma2_unpack(u);
	if (x86)
		bcj_x86_undo(out, (size_t)(u->out - out));
	if (error)
		return error;
	for (; (u->in - start) % 4; u->in++) {
		if (u->in == u->in_end || *u->in)
			return corrupt;
	}
	if (u->in_end - u->in < 4)
		return corrupt;
	u->in += 4;
	return crc32(out, (size_t)(u->out - out)) == load_le32(u->in - 4) ? NULL :
	       "the xz check sum is wrong";
}

const char *xz_unpack(struct unpack *u)
{
	const uint8_t *head = u->in;
	const char *error = NULL;

	if (u->in_end - head < HEADER_SIZE || memcmp(head, XZ_MAGIC, XZ_MAGIC_SIZE) ||
	    crc32(head + 6, 2) != load_le32(head + 8))
		return corrupt;
	if (head[6] || head[7] != CHECK_CRC32)
		return "the xz check is not CRC32: pack with xz --check=crc32";
	u->in += HEADER_SIZE;
	while (!error && u->in < u->in_end && *u->in)
		error = block_unpack(u);
	return error ? error : u->in < u->in_end ? NULL : corrupt;
}
