/* SPDX-License-Identifier: MIT */
/*
 * Pairing heap: a tree in which no child is smaller than its parent. Merging
 * two makes one a child of the other; taking the root out merges its children
 * in pairs from left to right, then the pairs from right to left.
 */
#include "hospes/heap.h"

/* Two roots without siblings become one. */
static struct heap_node *merge(struct heap_node *a, struct heap_node *b)
{
	struct heap_node *parent, *child;

	if (!a || !b)
		return a ? a : b;
	parent = b->key < a->key ? b : a;
	child = parent == a ? b : a;
	child->prev = parent;
	child->next = parent->child;
	if (parent->child)
		parent->child->prev = child;
	parent->child = child;
	return parent;
}

/* Cuts the first one off a list of siblings. */
static struct heap_node *cut(struct heap_node **list)
{
	struct heap_node *n = *list;

	if (n) {
		*list = n->next;
		n->next = NULL;
	}
	return n;
}

static struct heap_node *merge_siblings(struct heap_node *list)
{
	struct heap_node *pairs = NULL, *root = NULL, *n;

	while ((n = cut(&list))) {
		n = merge(n, cut(&list));
		n->next = pairs;
		pairs = n;
	}
	while ((n = cut(&pairs)))
		root = merge(root, n);
	return root;
}

void heap_insert(struct heap *h, struct heap_node *n, uint64_t key)
{
	*n = (struct heap_node){ .key = key };
	h->first = merge(h->first, n);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
	struct heap_node *rest = merge_siblings(n->child);

	n->child = NULL;
	if (n == h->first) {
		h->first = rest;
	} else {
		if (n->prev->child == n)
			n->prev->child = n->next;
		else
			n->prev->next = n->next;
		if (n->next)
			n->next->prev = n->prev;
		h->first = merge(h->first, rest);
	}
	if (h->first)
		h->first->prev = NULL;
}

struct heap_node *heap_next(const struct heap_node *n)
{
	if (n->child)
		return n->child;
	while (!n->next) {
		while (n->prev && n->prev->child != n)
			n = n->prev;
		n = n->prev;
		if (!n)
			return NULL;
	}
	return n->next;
}
