/* SPDX-License-Identifier: MIT */
/*
 * From the payload of a bzImage to a kernel at its place.
 *
 * The whole ELF file is unpacked to such an address that every segment then
 * moves down, or not at all, and no move overwrites what is still to move.
 * That address is known from the start of the file, so that is unpacked
 * first, aside.
 */
#include "unpack/unpack.h"

#include "hospes/lib.h"

#define TRAILER 4
#define HEAD_SIZE 4096

static const char too_small[] = "the guest's memory is too small for this kernel: raise memory=";

static const char *decode(struct unpack *u)
{
	return *u->in == (uint8_t)LZ4_MAGIC[0] ? lz4_unpack(u) : xz_unpack(u);
}

static uint64_t lowest_place(const struct elf_image *elf)
{
	uint64_t at = 0;

	for (unsigned int i = 0; i < elf->nr_segments; i++)
		at = MAX(at, elf->segment[i].paddr - MIN(elf->segment[i].paddr,
							 elf->segment[i].offset));
	return at;
}

/* Segments rise and do not overlap, and each lies at or below where it moves from. */
static void place_segments(const struct elf_image *elf, const uint8_t *file, uint8_t *memory)
{
	const struct elf_range *s, *end = elf->segment + elf->nr_segments;

	for (s = elf->segment; s < end; s++) {
		if (memory + s->paddr != file + s->offset)
			memmove(memory + s->paddr, file + s->offset, s->filesz);
	}
	for (s = elf->segment; s < end; s++)
		memset(memory + s->paddr + s->filesz, 0, s->memsz - s->filesz);
}

const char *unpack_kernel(const uint8_t *payload, size_t size, uint8_t *memory, uint64_t room,
			  uint32_t *entry)
{
	static uint8_t head[HEAD_SIZE];
	static struct elf_image elf;
	struct unpack u = { payload, payload + size - TRAILER, head, head + sizeof(head) };
	const char *error;
	uint64_t total, at;

	if (size <= TRAILER)
		return "the payload is empty";
	total = load_le32(u.in_end);
	(void)decode(&u);	/* errors are found again */
	(void)elf_parse(head, (size_t)(u.out - head), total, &elf);
	at = lowest_place(&elf);
	if (!range_within(at, total, room))
		return too_small;
	u = (struct unpack){ payload, u.in_end, memory + at, memory + at + total };
	error = decode(&u);
	if (!error && u.out != u.out_end)
		error = "the kernel is shorter than its payload says";
	if (!error)
		error = elf_parse(memory + at, total, total, &elf);
	if (!error && (at < lowest_place(&elf) || elf.end > room))
		error = too_small;
	if (error)
		return error;
	place_segments(&elf, memory + at, memory);
	*entry = elf.entry;
	return NULL;
}
