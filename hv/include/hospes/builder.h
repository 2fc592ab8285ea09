/* SPDX-License-Identifier: MIT */
/*
 * Building static guests: from boot modules to a domain ready to run.
 *
 * Context: boot CPU at start of day, later any CPU from the idle side, with no
 * lock held and no guest state loaded. Input: kernels and RAM disks from boot
 * modules, nothing trusted.
 */
#ifndef HOSPES_BUILDER_H
#define HOSPES_BUILDER_H

#include "hospes/guest_config.h"

/*
 * Creates the domain @config describes, loads it and unpauses it. False on an
 * error: the reason and the remedy are logged with the guest's name and nothing of
 * the domain stays. @config is borrowed for the domain's life and beyond.
 */
bool builder_start(struct guest_config *config) __must_check;

/*
 * All guests of @list were started: gives the boot modules that none of them starts again
 * from to the page allocator. Start of day.
 */
void builder_free_modules(const struct guest_list *list);

/*
 * The last reference of the domain built from @config has gone, its memory is
 * free: starts the guest again when @again, else says that it ended. A guest
 * that never lives for a second is not started for ever.
 */
void builder_domain_gone(struct guest_config *config, bool again);

#endif
