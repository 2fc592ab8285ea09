/* SPDX-License-Identifier: MIT */
/*
 * A priority queue without allocation: a pairing heap whose nodes lie inside
 * the queued objects. Insertion and a look at the first take constant time,
 * removal of any node takes O(log n) on average.
 *
 * Locks: the owner's. Nodes are zeroed before first use.
 */
#ifndef HOSPES_HEAP_H
#define HOSPES_HEAP_H

#include "hospes/types.h"

struct heap_node {
	uint64_t key;
	struct heap_node *child;	/* the first of them */
	struct heap_node *next;		/* sibling */
	struct heap_node *prev;		/* sibling, or the parent of a first child */
};

struct heap {
	struct heap_node *first;	/* smallest key; NULL: empty */
};

void heap_insert(struct heap *h, struct heap_node *n, uint64_t key);
void heap_remove(struct heap *h, struct heap_node *n);

/* Visits all nodes, parents first: the one after @n, or NULL. Start with h->first. */
struct heap_node *heap_next(const struct heap_node *n);

#endif
