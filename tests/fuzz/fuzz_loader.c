/* SPDX-License-Identifier: MIT */
/*
 * Kernel files from a boot loader: what is accepted lies within the file and below 4 GiB.
 */
#include <stdlib.h>

#include "hospes/lib.h"
#include "hospes/loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kernel_image k;
	uint64_t end = 0;

	if (kernel_parse(data, size, &k))
		return 0;
	if (k.payload) {
		check(range_within((uint64_t)(k.payload - data), k.payload_size, size));
		return 0;
	}
	check(k.elf.entry);
	check(k.elf.nr_segments && k.elf.nr_segments <= ELF_SEGMENTS_MAX);
	for (unsigned int i = 0; i < k.elf.nr_segments; i++) {
		const struct elf_range *s = &k.elf.segment[i];

		check(range_within(s->offset, s->filesz, size));
		check(s->paddr >= end && s->memsz && s->memsz >= s->filesz);
		check(range_within(s->paddr, s->memsz, 1ULL << 32));
		end = s->paddr + s->memsz;
	}
	check(end == k.end);
	return 0;
}
