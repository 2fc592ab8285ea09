/* SPDX-License-Identifier: MIT */
/*
 * What guests to start: configuration text, checked, as fixed-size structures.
 *
 * Context: boot CPU, before any guest runs; no locks. Input: command line and
 * boot modules, nothing trusted.
 */
#ifndef HOSPES_GUEST_CONFIG_H
#define HOSPES_GUEST_CONFIG_H

#include "hospes/port.h"
#include "hospes/types.h"

#define GUESTS_MAX 32U
#define GUEST_VCPUS_MAX 128U
#define GUEST_NAME_SIZE 32
#define GUEST_ARGS_SIZE 1024
#define GUEST_MODULE_SIZE 64
#define GUEST_MEMORY_MIN (1ULL << 20)
#define GUEST_MEMORY_MAX (1ULL << 40)

enum guest_on_crash { ON_CRASH_DESTROY, ON_CRASH_RESTART, ON_CRASH_PRESERVE };
enum guest_evtchn { GUEST_EVTCHN_FIFO, GUEST_EVTCHN_2LEVEL };

struct guest_config {
	char name[GUEST_NAME_SIZE];
	char args[GUEST_ARGS_SIZE];
	char kernel[GUEST_MODULE_SIZE];	/* as written: a module's name, or #index */
	char initrd[GUEST_MODULE_SIZE];	/* empty: none */
	uint64_t memory;		/* bytes, whole pages */
	uint64_t cpus;			/* mask of physical CPUs; 0: any */
	uint32_t vcpus;			/* 1..GUEST_VCPUS_MAX */
	uint32_t weight;
	uint32_t cap;			/* percent of one CPU; 0: none */
	uint32_t rt[2];			/* period, budget in us; 0: not real-time */
	uint32_t max_grant_frames;
	int32_t kernel_module;		/* index into boot_info.modules */
	int32_t initrd_module;		/* the same, -1: none */
	uint8_t on_crash;		/* enum guest_on_crash */
	uint8_t evtchn;			/* enum guest_evtchn: the newest ABI offered */
	bool control;			/* the control domain: privileged, with the devices */
	/* The builder's: when it started last, how often in a row it ended soon after. */
	uint64_t started;
	uint32_t short_lives;
};

struct guest_list {
	unsigned int nr;
	unsigned int rejected;		/* lines with an error, all logged */
	struct guest_config guest[GUESTS_MAX];	/* the control domain first, if there is one */
	/* Work space: boot stacks are small. */
	char line[2048];
	char word[GUEST_ARGS_SIZE + 32];
};

/* As port_map_boot(). */
typedef const void *(*map_module_fn)(paddr_t start, uint64_t size);

/*
 * Collects the control domain from control="..." of the command line, the
 * guests from every guest="..." of it and every
 * line of the boot modules named "config" or "*.cfg". When there is no such
 * line at all, module 0 is the kernel and module 1 the initrd of one guest.
 * A line with an error is logged with its guest, key and remedy, counted in
 * list->rejected, and does not stop the others.
 */
void guest_list_load(const struct boot_info *info, map_module_fn map, struct guest_list *list);

#endif
