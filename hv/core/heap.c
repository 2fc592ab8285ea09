/* SPDX-License-Identifier: MIT */
/*
 * Skew heap: a binary tree in which no child is less than its parent. Merging
 * two goes down their right edges and swaps the children of each node it
 * passes, which keeps the trees shallow enough on average.
 */
#include "hospes/heap.h"

static struct heap_node *merge(struct heap_node *a, struct heap_node *b, struct heap_node *parent)
{
	struct heap_node *root = NULL, **link = &root;

	while (a && b) {
		struct heap_node *least = b->key < a->key ? b : a;

		b = least == a ? b : a;
		a = least->right;
		least->right = least->left;
		least->parent = parent;
		*link = parent = least;
		link = &least->left;
	}
	*link = a ? a : b;
	if (*link)
		(*link)->parent = parent;
	return root;
}

void heap_insert(struct heap *h, struct heap_node *n, uint64_t key)
{
	*n = (struct heap_node){ .key = key };
	h->first = merge(h->first, n, NULL);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
	struct heap_node *rest = merge(n->left, n->right, n->parent);

	if (!n->parent)
		h->first = rest;
	else if (n->parent->left == n)
		n->parent->left = rest;
	else
		n->parent->right = rest;
}

struct heap_node *heap_next(const struct heap_node *n)
{
	if (n->left || n->right)
		return n->left ? n->left : n->right;
	while (n->parent && (n == n->parent->right || !n->parent->right))
		n = n->parent;
	return n->parent ? n->parent->right : NULL;
}
