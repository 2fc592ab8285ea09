/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what firmware and boot loaders hand over. The first byte chooses:
 * ACPI tables or a boot protocol. The rest is memory from the BIOS area on;
 * with an odd first byte checksums of tables are put right, or few got far.
 */
#include <stdlib.h>
#include <string.h>

#include "port/metal/firmware.h"

#define BASE 0xe0000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *memory;
static size_t memory_size;

static const void *map(paddr_t start, uint64_t len)
{
	if (start < BASE || !range_within(start - BASE, len, memory_size))
		return NULL;
	return memory + (start - BASE);
}

/* Everything that looks like a table sums to zero: its length is at byte 4. */
static void fix_sums(void)
{
	static const char *const names[] = { "APIC", "FACP", "HPET", "DSDT", "XSDT", "RSDT",
					     "DMAR", "IVRS" };

	for (size_t at = 0; at + 36 <= memory_size; at += 4) {
		uint32_t len = 0, sum_at = 9;
		uint8_t sum = 0;

		if (!memcmp(memory + at, "RSD PTR ", 8)) {
			len = 20;
			sum_at = 8;
		}
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (!memcmp(memory + at, names[i], 4))
				memcpy(&len, memory + at + 4, sizeof(len));
		}
		if (len <= sum_at || len > memory_size - at)
			continue;
		memory[at + sum_at] = 0;
		for (uint32_t i = 0; i < len; i++)
			sum = (uint8_t)(sum + memory[at + i]);
		memory[at + sum_at] = (uint8_t)-sum;
	}
}

static void check_iommu(const struct iommu_info *info)
{
	bool bad = info->nr_units > MAX_IOMMUS || info->nr_rules > MAX_IOMMU_RULES ||
		   info->nr_ioapics > MAX_IOAPICS || info->nr_reserved > MAX_RESERVED;

	for (unsigned int i = 0; !bad && i < info->nr_units; i++)
		bad = !info->unit[i].base || info->unit[i].base % PAGE_SIZE;
	for (unsigned int i = 0; !bad && i < info->nr_reserved; i++)
		bad = info->reserved[i].start >= info->reserved[i].end;
	for (unsigned int i = 0; !bad && i < info->nr_rules; i++)
		bad = info->rule[i].unit >= info->nr_units;
	if (bad)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t magic[] = { 0x2badb002, 0x36d76289, 0x336ec578 };
	static struct boot_data boot;
	struct acpi_info acpi;

	if (size < 2)
		return 0;
	memory_size = size - 1;
	memory = malloc(memory_size);
	if (!memory)
		abort();
	memcpy(memory, data + 1, memory_size);
	if (data[0] & 1) {
		fix_sums();
		(void)!acpi_parse(&acpi, data[0] & 2 ? BASE : 0, map);
		if (acpi.nr_cpus > MAX_PCPUS || acpi.nr_ioapics - 1 >= MAX_IOAPICS)
			abort();
		check_iommu(&acpi.iommu);
	} else {
		(void)!boot_parse(&boot, magic[data[0] / 2 % 3], BASE, map, 0x200000, 0x280000);
		for (unsigned int i = 0; i < boot.info.nr_modules; i++) {
			const struct boot_module *m = &boot.info.modules[i];

			if (!ranges_contain(&boot.ram, m->start, m->size) ||
			    strlen(m->cmdline) >= BOOT_TEXT_MAX)
				abort();
		}
	}
	free(memory);
	return 0;
}
