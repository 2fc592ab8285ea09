/* SPDX-License-Identifier: MIT */
/*
 * Reading ELF kernels, 32 and 64 bits, for PVH.
 *
 * Used by the hypervisor for kernels that come unpacked and by the unpacker
 * for the others. Input: nothing is trusted. Errors are texts, NULL is none.
 */
#ifndef HOSPES_ELF_H
#define HOSPES_ELF_H

#include "hospes/types.h"

#define ELF_SEGMENTS_MAX 16u
#define ELF_NOTES_MAX 4u
#define ELF_HEAD_SIZE 4096u	/* all headers must lie this near to the start */

struct elf_range {
	uint64_t offset, filesz;	/* within the file */
	uint64_t paddr, memsz;		/* within 4 GiB; memsz >= filesz */
};

struct elf_image {
	unsigned int nr_segments, nr_notes;
	uint64_t end;			/* of the last segment in memory */
	struct elf_range segment[ELF_SEGMENTS_MAX];	/* rising, disjoint */
	struct elf_range note[ELF_NOTES_MAX];
};

/* Checks and reads the headers: @size bytes at @head, of a file of @file_size. */
const char *elf_parse(const uint8_t *head, size_t size, uint64_t file_size,
		      struct elf_image *elf);

/* Finds the PVH entry in the notes of the whole file. */
const char *elf_entry(const uint8_t *file, const struct elf_image *elf, uint32_t *entry);

#endif
