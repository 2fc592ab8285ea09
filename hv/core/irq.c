/* SPDX-License-Identifier: MIT */
/*
 * Interrupts of devices: which handler each vector of each CPU has.
 *
 * Owns: the slots. They are taken and given back by single atomic accesses; a
 * CPU says which vector it serves before it looks into the slot, so whoever
 * empties that sees it inside, or it sees the slot empty.
 */
#include "hospes/irq.h"

#include "hospes/abi.h"
#include "hospes/pcpu.h"

#define SLOTS (IRQ_VECTORS_END - IRQ_VECTORS)

static struct cpu_irqs {
	atomic_uint serving;		/* a vector, or 0 */
	atomic_uint next;		/* where to look for a free slot first */
	_Atomic(struct irq *) slot[SLOTS];
} cpu_irqs[MAX_PCPUS];

static bool alloc_on(struct irq *irq, unsigned int cpu)
{
	struct cpu_irqs *c = &cpu_irqs[cpu];

	irq->cpu = cpu;
	for (unsigned int n = 0; n < SLOTS; n++) {
		unsigned int i = atomic_fetch_add(&c->next, 1) % SLOTS;
		struct irq *none = NULL;

		irq->vector = (uint8_t)(IRQ_VECTORS + i);
		if (atomic_compare_exchange_strong(&c->slot[i], &none, irq))
			return true;
	}
	return false;
}

int irq_alloc(struct irq *irq, unsigned int cpu, void (*handler)(void *data), void *data)
{
	unsigned int nr = port_nr_pcpus();

	irq->handler = handler;
	irq->data = data;
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int at = (cpu + i) % nr;

		if (port_irq_cpus >> at & 1 && alloc_on(irq, at))
			return 0;
	}
	irq->handler = NULL;
	return -XEN_ENOSPC;
}

void irq_free(struct irq *irq)
{
	struct cpu_irqs *c = &cpu_irqs[irq->cpu];

	if (!irq->handler)
		return;
	atomic_store(&c->slot[irq->vector - IRQ_VECTORS], NULL);
	while (atomic_load(&c->serving) == irq->vector)
		port_relax();
	irq->handler = NULL;
}

void irq_dispatch(uint8_t vector)
{
	struct cpu_irqs *c = &cpu_irqs[port_this_pcpu()->cpu_id];
	struct irq *irq;

	atomic_store(&c->serving, vector);
	irq = atomic_load(&c->slot[vector - IRQ_VECTORS]);
	if (likely(irq))
		irq->handler(irq->data);
	atomic_store_explicit(&c->serving, 0, memory_order_release);
}
