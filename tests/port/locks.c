/* SPDX-License-Identifier: MIT */
/*
 * The run-time check of lock levels. The image does without it.
 *
 * Owns: per CPU the stack of levels held; touched by that CPU only.
 */
#include "hospes/pcpu.h"
#include "hospes/spinlock.h"
#include "port/testport.h"

#define MAX_HELD 16

static struct held {
	unsigned int nr;
	unsigned int level[MAX_HELD];
} held_by[MAX_PCPUS];

void (*test_lock_hook)(unsigned int level);

static struct held *held_here(void)
{
	const struct pcpu *p = port_this_pcpu();

	return &held_by[p ? p->cpu_id : 0];
}

void lock_check_acquire(unsigned int level, bool equal_ok)
{
	struct held *h = held_here();
	unsigned int top = h->nr ? h->level[h->nr - 1] : 0;	/* they rise */

	if (!h->nr && test_lock_hook)
		test_lock_hook(level);
	if (top > level || (top == level && !equal_ok))
		panic("lock of level %u taken under level %u", level, top);
	if (h->nr == MAX_HELD)
		panic("more than %u locks held", h->nr);
	h->level[h->nr++] = level;
}

/* Locks need not be released in the reverse order. */
void lock_check_release(unsigned int level)
{
	struct held *h = held_here();

	for (unsigned int i = h->nr; i-- > 0;) {
		if (h->level[i] != level)
			continue;
		for (; i + 1 < h->nr; i++)
			h->level[i] = h->level[i + 1];
		h->nr--;
		return;
	}
	panic("lock of level %u released but not held", level);
}

void lock_check_none(void)
{
	const struct held *h = held_here();

	if (h->nr)
		panic("lock of level %u still held", h->level[h->nr - 1]);
}

void lock_check_reset(void)
{
	held_here()->nr = 0;
}
