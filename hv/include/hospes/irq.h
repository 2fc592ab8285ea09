/* SPDX-License-Identifier: MIT */
/*
 * Interrupts of devices: each has a vector of one physical CPU, and a handler.
 *
 * Handlers run in the windows of port_poll_interrupts() and port_idle(): on
 * that CPU, one at a time, with no lock held; they may take locks and wake
 * vCPUs. They do not call irq_alloc() or irq_free().
 */
#ifndef HOSPES_IRQ_H
#define HOSPES_IRQ_H

#include "hospes/port.h"

/* Vectors of devices; below are exceptions, above the port's own. */
#define IRQ_VECTORS 0x30u
#define IRQ_VECTORS_END 0xf0u

/* Part of what it belongs to, which zeroes it. */
struct irq {
	void (*handler)(void *data);	/* NULL: has no vector */
	void *data;
	unsigned int cpu;
	uint8_t vector;
};

/*
 * A vector of CPU @cpu, or of the next CPU that has one free, for @irq; it
 * keeps it until irq_free(). Any context. -XEN_ENOSPC: there is none left.
 */
int irq_alloc(struct irq *irq, unsigned int cpu, void (*handler)(void *data), void *data)
	__must_check;

/*
 * Once it returns the handler runs no more, and what still arrives is dropped.
 * Fine without a vector. The caller holds no lock that the handler takes.
 */
void irq_free(struct irq *irq);

/* For the port: interrupt @vector, one of the above, has arrived on this CPU. */
void irq_dispatch(uint8_t vector);

#endif
