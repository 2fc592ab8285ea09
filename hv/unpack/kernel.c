/* SPDX-License-Identifier: MIT */
/*
 * From the payload of a bzImage to a kernel at its place.
 *
 * The whole ELF file is unpacked to such an address that every segment then
 * moves down, or not at all, and no move overwrites what is still to move.
 * That address is known from the first page of the file, so that page is
 * unpacked first, aside.
 */
#include "unpack/unpack.h"

#include "hospes/elf.h"
#include "hospes/lib.h"

#define LOWEST (1ULL << 20)
#define TRAILER 4

const char unpack_full[] = "the kernel is longer than its payload says";

static uint8_t head[ELF_HEAD_SIZE];
static struct elf_image elf;

static const char *decode(struct unpack *u)
{
	if (*u->in == (uint8_t)LZ4_MAGIC[0])
		return lz4_unpack(u);
	return xz_unpack(u);
}

static uint64_t output_address(void)
{
	uint64_t at = LOWEST;

	for (unsigned int i = 0; i < elf.nr_segments; i++) {
		const struct elf_range *s = &elf.segment[i];

		if (s->paddr > s->offset)
			at = MAX(at, s->paddr - s->offset);
	}
	return at;
}

/* Segments rise and do not overlap, and each lies at or below where it moves from. */
static void place_segments(const uint8_t *file, uint8_t *memory)
{
	for (unsigned int i = 0; i < elf.nr_segments; i++) {
		const struct elf_range *s = &elf.segment[i];

		if (memory + s->paddr != file + s->offset)
			memmove(memory + s->paddr, file + s->offset, s->filesz);
	}
	for (unsigned int i = 0; i < elf.nr_segments; i++) {
		const struct elf_range *s = &elf.segment[i];

		memset(memory + s->paddr + s->filesz, 0, s->memsz - s->filesz);
	}
}

const char *unpack_kernel(const uint8_t *payload, size_t size, uint8_t *memory, uint64_t room,
			  uint32_t *entry)
{
	struct unpack u = { payload, payload + size - TRAILER, head, head + sizeof(head) };
	const char *error;
	uint64_t total, at;

	if (size <= TRAILER)
		return "the payload is empty";
	total = load_le32(u.in_end);
	error = decode(&u);
	if (error && error != unpack_full)
		return error;
	error = elf_parse(head, (size_t)(u.out - head), total, &elf);
	if (error)
		return error;
	at = output_address();
	if (!range_within(at, total, room) || elf.end > room)
		return "the guest's memory is too small for this kernel: raise memory=";
	u = (struct unpack){ payload, payload + size - TRAILER, memory + at, memory + at + total };
	error = decode(&u);
	if (error)
		return error;
	if (u.out != u.out_end)
		return "the kernel is shorter than its payload says";
	error = elf_entry(memory + at, &elf, entry);
	if (!error)
		place_segments(memory + at, memory);
	return error;
}
