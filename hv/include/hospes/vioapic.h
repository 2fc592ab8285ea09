/* SPDX-License-Identifier: MIT */
/*
 * The IO-APICs a control domain sees: one for each of the machine's, at the
 * same address, with the same pins. A pin that it unmasks is bound to the real
 * one, but where the hypervisor keeps that for itself.
 */
#ifndef HOSPES_VIOAPIC_H
#define HOSPES_VIOAPIC_H

#include "hospes/types.h"

struct domain;

/* Gives @d, which has devices, its IO-APICs, before it runs. -XEN_ENOMEM. */
int vioapic_init(struct domain *d) __must_check;
/* Masks and gives back all. Its vCPUs run no more, no lock held. Once more is fine. */
void vioapic_destroy(struct domain *d);

/* Is @gpa in a page of one of them? */
bool vioapic_claims(const struct domain *d, gpa_t gpa);

/*
 * A guest's access there, of any address and size. What is not one of the
 * 32-bit registers reads as 0 and ignores writes.
 */
uint32_t vioapic_read(struct domain *d, gpa_t gpa, unsigned int size);
void vioapic_write(struct domain *d, gpa_t gpa, unsigned int size, uint32_t val);

/* A vCPU is done with @vector, which a level had requested (vlapic.c). */
void vioapic_eoi(struct domain *d, uint8_t vector);

#endif
