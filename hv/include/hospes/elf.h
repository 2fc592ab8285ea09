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

struct elf_range {
	uint64_t offset, filesz;	/* within the file */
	uint64_t paddr, memsz;		/* within 4 GiB; memsz >= filesz */
};

struct elf_image {
	uint32_t entry;			/* what its PVH note says; not 0 */
	unsigned int nr_segments;
	uint64_t end;			/* of the last segment in memory */
	struct elf_range segment[ELF_SEGMENTS_MAX];	/* rising, disjoint */
};

/*
 * Checks and reads the headers and the PVH note: of the file's @size bytes
 * the first @have are at @file. *elf is valid, if not complete, after an error.
 */
const char *elf_parse(const uint8_t *file, uint64_t have, uint64_t size, struct elf_image *elf);

static inline uint32_t load_le32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

#endif
