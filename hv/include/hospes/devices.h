/* SPDX-License-Identifier: MIT */
/*
 * The machine's devices as the control domain sees them: ports and registers
 * it reaches directly, and what stands between it and the others.
 *
 * Context: exits of the control domain, on the CPU of the vCPU that
 * exited, no lock held. Input: the control domain's, taken for hostile.
 */
#ifndef HOSPES_DEVICES_H
#define HOSPES_DEVICES_H

#include "hospes/types.h"

struct domain;
struct vioapic;
struct vpci;

struct devices {
	/* Bit set: an access to that port exits. In the shape AMD-V and VT-x walk. */
	uint8_t *io_bitmap;		/* owned, 2^DEVICES_IO_ORDER pages */
	struct vioapic *ioapic;		/* owned; vioapic.h */
	struct vpci *pci;		/* owned; vpci.h */
};

#define DEVICES_IO_ORDER 2u

/* Before the vCPUs of @d are made. -XEN_ENOMEM; what was done goes with devices_free(). */
int devices_init(struct domain *d) __must_check;
/* Its vCPUs run no more: nothing interrupts them from here on. No lock held. */
void devices_stop(struct domain *d);
/* Both are fine for a domain without devices. */
void devices_free(struct domain *d);

/* An access to a port of the bitmap. */
uint32_t devices_in(struct domain *d, uint16_t port, unsigned int size);
void devices_out(struct domain *d, uint16_t port, unsigned int size, uint32_t value);

/*
 * An access to @gpa, where no RAM is and which devices_map() did not map. False: nobody
 * is there.
 */
bool devices_access(struct domain *d, gpa_t gpa, uint8_t *buf, unsigned int len, bool write);

/*
 * The guest touched @gpa, where it has nothing: maps a device's page there, if one is.
 * True: it is there now.
 */
bool devices_map(struct domain *d, gpa_t gpa);

#endif
