/* SPDX-License-Identifier: MIT */
/*
 * Makes ELF kernels for the tests of loaders.
 */
#ifndef HOSPES_ELF_MAKER_H
#define HOSPES_ELF_MAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct elf_part {
	uint64_t paddr, filesz, memsz, offset;
};

static inline size_t elf_note_offset(bool wide, unsigned int n)
{
	return wide ? 64 + 56 * (n + 1) : 52 + 32 * (n + 1);
}

static inline void elf_put(uint8_t *p, uint64_t v, unsigned int size)
{
	memcpy(p, &v, size);
}

static inline void elf_phdr(uint8_t *p, bool wide, uint32_t type, const struct elf_part *s)
{
	memset(p, 0, wide ? 56 : 32);
	elf_put(p, type, 4);
	elf_put(p + (wide ? 8 : 4), s->offset, wide ? 8 : 4);
	elf_put(p + (wide ? 24 : 12), s->paddr, wide ? 8 : 4);
	elf_put(p + (wide ? 32 : 16), s->filesz, wide ? 8 : 4);
	elf_put(p + (wide ? 40 : 20), s->memsz, wide ? 8 : 4);
}

/* Puts headers and the PVH note at the start of @file; the segments keep what is there. */
static inline size_t elf_make(uint8_t *file, bool wide, const struct elf_part *parts,
			      unsigned int n, uint32_t entry)
{
	struct elf_part note = { .filesz = 20, .memsz = 20, .offset = elf_note_offset(wide, n) };
	uint8_t *ph = file + (wide ? 64 : 52);
	size_t end = note.offset + 20;

	memset(file, 0, 64);
	memcpy(file, wide ? "\177ELF\2\1\1" : "\177ELF\1\1\1", 7);
	elf_put(file + (wide ? 32 : 28), (uint64_t)(ph - file), wide ? 8 : 4);
	elf_put(file + (wide ? 54 : 42), wide ? 56 : 32, 2);
	elf_put(file + (wide ? 56 : 44), n + 1, 2);
	for (unsigned int i = 0; i < n; i++, ph += wide ? 56 : 32) {
		elf_phdr(ph, wide, 1, &parts[i]);
		if (parts[i].offset + parts[i].filesz > end)
			end = parts[i].offset + parts[i].filesz;
	}
	elf_phdr(ph, wide, 4, &note);
	memcpy(file + note.offset, "\4\0\0\0\4\0\0\0\22\0\0\0Xen", 16);
	elf_put(file + note.offset + 16, entry, 4);
	return end;
}

#endif
