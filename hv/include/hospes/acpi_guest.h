/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables: of a static guest RSDP, XSDT, FADT, MADT, DSDT; of the control
 * domain RSDP, XSDT and MADT, which lead to the firmware's.
 *
 * Context: any, no locks. Input: the hypervisor's own; the firmware's MADT.
 */
#ifndef HOSPES_ACPI_GUEST_H
#define HOSPES_ACPI_GUEST_H

#include "hospes/types.h"

/* Bytes the tables take; the RSDP comes first. */
size_t acpi_guest_size(unsigned int nr_vcpus);

/* Writes them to @buf, zeroed and of that size, for guest physical address @gpa. */
void acpi_guest_build(uint8_t *buf, gpa_t gpa, unsigned int nr_vcpus);

/* The same for the control domain. */
size_t acpi_control_size(unsigned int nr_vcpus);
void acpi_control_build(uint8_t *buf, gpa_t gpa, unsigned int nr_vcpus);

#endif
