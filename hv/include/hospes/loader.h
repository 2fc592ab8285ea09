/* SPDX-License-Identifier: MIT */
/*
 * Recognising kernels in boot modules: ELF as it is, or a bzImage, whose
 * payload stays packed here and is unpacked inside the guest (unpack/).
 *
 * Context: any, no locks. Input: a file from a boot loader, nothing trusted.
 */
#ifndef HOSPES_LOADER_H
#define HOSPES_LOADER_H

#include "hospes/elf.h"

struct kernel_image {
	const uint8_t *file;		/* what to load: the module, borrowed, or the unpacker */
	struct elf_image elf;		/* its headers */
	const uint8_t *payload;		/* within the module; NULL: not packed */
	uint64_t payload_size;
	uint64_t start;			/* where it wants to be */
	uint64_t end;			/* lowest possible end of the kernel in memory */
};

/* NULL and *k, or what is wrong and the remedy. */
const char *kernel_parse(const uint8_t *file, uint64_t size, struct kernel_image *k);

#endif
