/* SPDX-License-Identifier: MIT */
/*
 * A priority queue without allocation: a skew heap whose nodes lie inside the
 * queued objects. A look at the first takes constant time, insertion and
 * removal of any node take O(log n) on average over many.
 *
 * Locks: the owner's.
 */
#ifndef HOSPES_HEAP_H
#define HOSPES_HEAP_H

#include "hospes/types.h"

struct heap_node {
	uint64_t key;
	struct heap_node *left, *right, *parent;
};

struct heap {
	struct heap_node *first;	/* smallest key; NULL: empty */
};

void heap_insert(struct heap *h, struct heap_node *n, uint64_t key);
void heap_remove(struct heap *h, struct heap_node *n);

/* Visits all nodes, parents first: the one after @n, or NULL. Start with h->first. */
struct heap_node *heap_next(const struct heap_node *n);

#endif
