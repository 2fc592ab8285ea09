/* SPDX-License-Identifier: MIT */
/*
 * Domains for tests of the memory modules alone: what page.c, p2m.c and
 * guest_access.c look at and nothing more. Defines domain_by_slot().
 */
#ifndef HOSPES_FAKE_DOMAINS_H
#define HOSPES_FAKE_DOMAINS_H

#include "hospes/domain.h"
#include "port/test/testport.h"

#define FAKE_DOMAINS 4u

static struct domain *fake_domains[FAKE_DOMAINS];

struct domain *domain_by_slot(uint32_t slot)
{
	return slot < FAKE_DOMAINS ? fake_domains[slot] : NULL;
}

/* A domain with an empty p2m, when @tables is not 0. */
static inline struct domain *fake_domain(uint32_t slot, uint64_t max_pages, uint32_t tables)
{
	struct domain *d = calloc(1, sizeof(*d));

	d->id = (domid_t)(slot + 1);
	d->slot = slot;
	d->max_pages = max_pages;
	atomic_store(&d->refs, 1);
	spin_init(&d->memory_lock, LOCK_MEMORY);
	fake_domains[slot] = d;
	if (tables)
		assert_int_equal(p2m_init(d, tables), 0);
	return d;
}

/* Its only vCPU. */
static inline struct vcpu *fake_vcpu(struct domain *d)
{
	struct vcpu *v = calloc(1, sizeof(*v));

	v->domain = d;
	assert_int_equal(cpu->vcpu_init(v), 0);
	d->vcpus = calloc(1, sizeof(v));
	d->vcpus[0] = v;
	d->nr_vcpus = 1;
	return v;
}

static inline void fake_domain_free(struct domain *d)
{
	while (!p2m_teardown_step(d))
		;
	p2m_destroy(d);
	assert_int_equal(atomic_load(&d->tot_pages), 0);
	if (d->vcpus) {
		cpu->vcpu_destroy(d->vcpus[0]);
		free(d->vcpus[0]);
	}
	free(d->vcpus);
	fake_domains[d->slot] = NULL;
	free(d);
}

/* The machine's RAM counts as scrubbed: for big machines, which stay sparse. */
static inline void fake_all_clean(void)
{
	for (uint64_t i = 0; i < frame_table_size; i++)
		frame_table[i].flags &= (uint8_t)~PAGE_DIRTY;
}

#endif
