/* SPDX-License-Identifier: MIT */
/*
 * The state of all vCPUs of a domain as one blob, in the published format.
 *
 * Context: any CPU, no lock held; the domain is paused and not the caller's.
 */
#ifndef HOSPES_HVM_CONTEXT_H
#define HOSPES_HVM_CONTEXT_H

#include "hospes/types.h"

struct domain;

/* The most bytes it takes to save @d. */
size_t hvm_context_max(const struct domain *d);

/* Writes it to @buf, zeroed, aligned and large enough; returns how many bytes it took. */
size_t hvm_context_save(struct domain *d, uint8_t *buf);

/*
 * Loads what stands in @buf, which nobody else can change. vCPUs that have a CPU
 * record come up, all others are down afterwards. Not trusted: -XEN_EINVAL,
 * -XEN_ENODATA (no beginning, or no end) and others, then @d is as it was.
 */
int hvm_context_load(struct domain *d, const uint8_t *buf, size_t size) __must_check;

#endif
