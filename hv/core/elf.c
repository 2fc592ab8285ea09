/* SPDX-License-Identifier: MIT */
/*
 * ELF headers and the PVH note. See elf.h.
 */
#include "hospes/elf.h"

#include "hospes/lib.h"

#define PT_LOAD 1u
#define PT_NOTE 4u
#define NOTE_PHYS32_ENTRY 18u
#define NOTE_HEADER 12u

/* Where the fields of headers lie, and how wide addresses are. */
static const struct layout {
	uint8_t word;
	uint8_t phoff, phentsize, phnum;	/* in the file header */
	uint8_t phsize, offset, paddr, filesz, memsz;	/* in a program header */
} layouts[] = {
	{ 4, 28, 42, 44, 32, 4, 12, 16, 20 },
	{ 8, 32, 54, 56, 56, 8, 24, 32, 40 },
};

/* A little-endian number of @size bytes. */
static uint64_t load(const uint8_t *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static const char *add_segment(struct elf_image *elf, const struct elf_range *r)
{
	if (!r->memsz)
		return NULL;
	if (elf->nr_segments == ELF_SEGMENTS_MAX)
		return "the kernel has too many segments";
	if (r->filesz > r->memsz || !range_within(r->paddr, r->memsz, 1ULL << 32))
		return "a segment of the kernel does not fit below 4 GiB";
	if (r->paddr < elf->end)
		return "the kernel's segments overlap or are not in order";
	elf->end = r->paddr + r->memsz;
	elf->segment[elf->nr_segments++] = *r;
	return NULL;
}

/* The PVH entry among the notes at [p, end), or 0. */
static uint32_t find_entry(const uint8_t *p, const uint8_t *end)
{
	while (end - p >= (long)NOTE_HEADER) {
		uint64_t name = load(p, 4), len = load(p + 4, 4), left = (uint64_t)(end - p);
		uint64_t value = NOTE_HEADER + ALIGN_UP(name, 4UL);

		if (!range_within(value, len, left))
			break;
		if (load(p + 8, 4) == NOTE_PHYS32_ENTRY && name == 4 &&
		    !memcmp(p + NOTE_HEADER, "Xen", 4) && (len == 4 || len == 8))
			return len == 8 && load(p + value + 4, 4) ? 0 : load_le32(p + value);
		p += MIN(left, value + ALIGN_UP(len, 4UL));
	}
	return 0;
}

static const char *add_header(const struct layout *l, const uint8_t *ph, const uint8_t *file,
			      uint64_t have, uint64_t size, struct elf_image *elf)
{
	uint32_t type = load_le32(ph);
	struct elf_range r = {
		.offset = load(ph + l->offset, l->word),
		.filesz = load(ph + l->filesz, l->word),
		.paddr = load(ph + l->paddr, l->word),
		.memsz = load(ph + l->memsz, l->word),
	};

	if (type != PT_LOAD && type != PT_NOTE)
		return NULL;
	if (!range_within(r.offset, r.filesz, size))
		return "a segment of the kernel lies outside of its file";
	if (type == PT_LOAD)
		return add_segment(elf, &r);
	if (!elf->entry && range_within(r.offset, r.filesz, have))
		elf->entry = find_entry(file + r.offset, file + r.offset + r.filesz);
	return NULL;
}

const char *elf_parse(const uint8_t *file, uint64_t have, uint64_t size, struct elf_image *elf)
{
	const struct layout *l;
	uint64_t phoff, phnum;
	const char *error = NULL;

	*elf = (struct elf_image){ 0 };
	if (have < 64 || memcmp(file, "\177ELF", 4) || (file[4] != 1 && file[4] != 2) ||
	    file[5] != 1)
		return "the kernel is no ELF file for x86";
	l = &layouts[file[4] - 1];
	phoff = load(file + l->phoff, l->word);
	phnum = load(file + l->phnum, 2);
	if (load(file + l->phentsize, 2) != l->phsize ||
	    !range_within(phoff, phnum * l->phsize, have))
		return "the kernel's program headers are not in its file";
	for (uint64_t i = 0; i < phnum && !error; i++)
		error = add_header(l, file + phoff + i * l->phsize, file, have, size, elf);
	if (error)
		return error;
	if (!elf->nr_segments)
		return "the kernel has no segments";
	return elf->entry ? NULL : "the kernel has no PVH entry: it must be built with CONFIG_PVH";
}
