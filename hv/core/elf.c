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
	uint8_t word, header;
	uint8_t phoff, phentsize, phnum;	/* in the file header */
	uint8_t phsize, offset, paddr, filesz, memsz;	/* in a program header */
} layouts[] = {
	{ 4, 52, 28, 42, 44, 32, 4, 12, 16, 20 },
	{ 8, 64, 32, 54, 56, 56, 8, 24, 32, 40 },
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

static const char *add_header(const struct layout *l, const uint8_t *ph, uint64_t file_size,
			      struct elf_image *elf)
{
	uint32_t type = (uint32_t)load(ph, 4);
	struct elf_range r = {
		.offset = load(ph + l->offset, l->word),
		.filesz = load(ph + l->filesz, l->word),
		.paddr = load(ph + l->paddr, l->word),
		.memsz = load(ph + l->memsz, l->word),
	};

	if (type != PT_LOAD && type != PT_NOTE)
		return NULL;
	if (!range_within(r.offset, r.filesz, file_size))
		return "a segment of the kernel lies outside of its file";
	if (type == PT_LOAD)
		return add_segment(elf, &r);
	if (elf->nr_notes < ELF_NOTES_MAX)
		elf->note[elf->nr_notes++] = r;
	return NULL;
}

const char *elf_parse(const uint8_t *head, size_t size, uint64_t file_size,
		      struct elf_image *elf)
{
	const struct layout *l;
	uint64_t phoff, phnum;
	const char *error;

	elf->nr_segments = 0;
	elf->nr_notes = 0;
	elf->end = 0;
	if (size < 64 || memcmp(head, "\177ELF", 4) || (head[4] != 1 && head[4] != 2) ||
	    head[5] != 1)
		return "the kernel is no ELF file for x86";
	l = &layouts[head[4] - 1];
	phoff = load(head + l->phoff, l->word);
	phnum = load(head + l->phnum, 2);
	if (load(head + l->phentsize, 2) != l->phsize ||
	    !range_within(phoff, phnum * l->phsize, size))
		return "the kernel's program headers are not at the start of its file";
	for (uint64_t i = 0; i < phnum; i++) {
		error = add_header(l, head + phoff + i * l->phsize, file_size, elf);
		if (error)
			return error;
	}
	return elf->nr_segments ? NULL : "the kernel has no segments";
}

/* The PVH entry among the notes at [p, end)? */
static bool find_note(const uint8_t *p, const uint8_t *end, uint32_t *entry)
{
	while (end - p >= (long)NOTE_HEADER) {
		uint64_t name = load(p, 4), len = load(p + 4, 4), left = (uint64_t)(end - p);
		uint64_t value = NOTE_HEADER + ALIGN_UP(name, 4UL);

		if (!range_within(value, len, left))
			return false;
		if (load(p + 8, 4) == NOTE_PHYS32_ENTRY && name == 4 &&
		    !memcmp(p + NOTE_HEADER, "Xen", 4) && (len == 4 || len == 8)) {
			*entry = (uint32_t)load(p + value, 4);
			return len == 4 || !load(p + value + 4, 4);
		}
		p += MIN(left, value + ALIGN_UP(len, 4UL));
	}
	return false;
}

const char *elf_entry(const uint8_t *file, const struct elf_image *elf, uint32_t *entry)
{
	for (unsigned int i = 0; i < elf->nr_notes; i++) {
		const uint8_t *p = file + elf->note[i].offset;

		if (find_note(p, p + elf->note[i].filesz, entry))
			return NULL;
	}
	return "the kernel has no PVH entry: it must be built with CONFIG_PVH";
}
