/* SPDX-License-Identifier: MIT */
/*
 * The unpacker: a program of ours that runs inside a new guest and unpacks
 * its kernel there, so that no byte of a compressed kernel is decoded in the
 * hypervisor. The decoders build in unit tests as well.
 *
 * They work in one call from buffer to buffer: the output is the dictionary.
 * A stream decoder with a dictionary of its own (liblzma needs 32 MiB for
 * Debian's kernels) would not fit a guest of 96 MiB.
 *
 * Input: whatever the payload holds; nothing is trusted.
 */
#ifndef HOSPES_UNPACK_H
#define HOSPES_UNPACK_H

#include "hospes/elf.h"

#define XZ_MAGIC "\xfd" "7zXZ"		/* and a zero byte: its string's end */
#define XZ_MAGIC_SIZE 6u
#define LZ4_MAGIC "\x02\x21\x4c\x18"
#define LZ4_MAGIC_SIZE 4u

/* The program, an ELF file made by the build: position independent, linked at 0. */
extern const uint8_t unpack_elf[], unpack_elf_end[];

/* A decoder's work: it moves in and out on. */
struct unpack {
	const uint8_t *in, *in_end;
	uint8_t *out, *out_end;
};

/*
 * Decode u->in. NULL when all is well, or what is wrong: also when u->out_end
 * comes before the end; all but the last bytes before u->out are right then.
 */
const char *xz_unpack(struct unpack *u);
const char *lz4_unpack(struct unpack *u);

/* The LZMA2 chunks of one xz block. */
const char *lzma2_unpack(struct unpack *u);

/* Undoes the x86 filter: relative branch targets that were made absolute. */
void bcj_x86_undo(uint8_t *buf, size_t size);

uint32_t crc32(const uint8_t *buf, size_t size);

/*
 * Unpacks the ELF kernel in @payload, whose last four bytes are its unpacked
 * size, to the physical addresses it asks for, counted from @memory on; uses
 * nothing from @room on. NULL and *entry, or what is wrong.
 */
const char *unpack_kernel(const uint8_t *payload, size_t size, uint8_t *memory, uint64_t room,
			  uint32_t *entry);

/*
 * Repeats @len bytes from @dist back, eight at a time where there is room
 * before @limit: what is written too much is overwritten later. A short
 * pattern is laid out once until it repeats at a distance of eight or more.
 */
static inline uint8_t *copy_match(uint8_t *out, size_t dist, size_t len, const uint8_t *limit)
{
	uint8_t *end = out + len, *from = out - dist;
	uint64_t word;

	if ((size_t)(limit - out) >= len + 8) {
		while (dist < 8 && out < end) {
			for (size_t i = 0; i < dist; i++)
				out[i] = from[i];
			out += dist;
			dist *= 2;
		}
		while (out < end) {
			__builtin_memcpy(&word, from, 8);
			__builtin_memcpy(out, &word, 8);
			from += 8;
			out += 8;
		}
		return end;
	}
	while (out < end)
		*out++ = *from++;
	return end;
}

#endif
