/* SPDX-License-Identifier: MIT */
/*
 * What is common to the ACPI tables of all kinds of guests.
 */
#ifndef HOSPES_ACPI_PRIVATE_H
#define HOSPES_ACPI_PRIVATE_H

#include "hospes/types.h"

struct table {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __packed;

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t checksum_all, pad[3];
} __packed;

_Static_assert(sizeof(struct rsdp) == 36, "RSDP of revision 2");

/* The header, last: the check sum covers the rest. */
void acpi_finish(void *table, const char *signature, uint8_t revision, size_t length);
void acpi_finish_rsdp(struct rsdp *r, uint64_t xsdt);

#endif
