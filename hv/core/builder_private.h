/* SPDX-License-Identifier: MIT */
/*
 * What builder.c and control.c share: the work space of one build.
 */
#ifndef HOSPES_BUILDER_PRIVATE_H
#define HOSPES_BUILDER_PRIVATE_H

#include "hospes/domain.h"
#include "hospes/guest_config.h"
#include "hospes/loader.h"

#define MIB (1UL << 20)
#define BOOT_MAP_END (1ULL << 30)	/* of what Linux has mapped when it reads its start info */

#define NO_MEMORY "the hypervisor is out of memory: start fewer guests, or give them less"
#define TOO_SMALL "memory=%luM is too small: kernel, initrd and tables need at least %luM"

/* One page: all that the guest is told at its entry. */
struct info_page {
	struct hvm_start_info info;
	struct hvm_modlist_entry initrd;
	struct hvm_memmap_table_entry memmap[E820_MAX];
	char cmdline[GUEST_ARGS_SIZE + 16];
};
_Static_assert(sizeof(struct info_page) <= PAGE_SIZE, "the start info is one page");

/* Work space of one build. */
struct build {
	const struct guest_config *config;
	struct domain *d;			/* NULL: not yet created */
	struct kernel_image kernel;
	const uint8_t *initrd;			/* NULL: none */
	uint64_t initrd_size;
	gpa_t low_end, high_end;
	gpa_t at_console, at_acpi, at_info, at_initrd;
	gpa_t at_program, at_payload;		/* 0 unless the kernel is packed */
	const char *more_args;			/* behind those of the configuration; NULL: none */
	char error[100];
	size_t acpi_size;
	struct info_page page;
};

/* Steps of a build return NULL, or why there is no guest and the remedy. */

/*
 * Decides where in the memory that ends at @end everything lies that is put there.
 * The kernel is taken to lie below it.
 */
const char *builder_place(struct build *b, gpa_t end);

/* The control domain's (control.c). */
const char *control_add_memory(struct build *b);
const char *control_add_devices(struct build *b);

#endif
