/* SPDX-License-Identifier: MIT */
/*
 * The PCI functions a control domain has: all of the machine's but IOMMUs. Its
 * accesses to configuration space go to the hardware, except that the messages by
 * which functions interrupt are the hypervisor's: the guest's own addresses and
 * data are kept, and the interrupts passed on accordingly.
 *
 * A function is named by segment << 16 | bus << 8 | device << 3 | function.
 */
#ifndef HOSPES_VPCI_H
#define HOSPES_VPCI_H

#include "hospes/types.h"

struct domain;

/* Looks for all functions and gives them to @d, which has devices, before it runs. -XEN_ENOMEM. */
int vpci_init(struct domain *d) __must_check;
/* Stops their interrupts. Its vCPUs run no more, no lock held. Once more is fine. */
void vpci_destroy(struct domain *d);

/* Accesses that touch this port trap. */
static inline bool vpci_traps_port(unsigned int port)
{
	return port == 0xcf8 || (port & ~3u) == 0xcfc;
}

/*
 * A guest's access to ports, any size. False: not ports of configuration space
 * (0xcf8 is one only with 32 bits). Reading sets *val.
 */
bool vpci_port_in(struct domain *d, uint16_t port, unsigned int size, uint32_t *val);
bool vpci_port_out(struct domain *d, uint16_t port, unsigned int size, uint32_t val);

/*
 * Must accesses to @gpa trap: configuration space, or a page with an MSI-X
 * table? And what they do then, of any size up to 8.
 */
bool vpci_claims(const struct domain *d, gpa_t gpa);
/*
 * Maps the device's page at @gfn, unless that is so: no page that must trap is
 * ever mapped, and one with a table that moves there becomes a hole.
 */
bool vpci_map(struct domain *d, gfn_t gfn);
uint64_t vpci_read(struct domain *d, gpa_t gpa, unsigned int size);
void vpci_write(struct domain *d, gpa_t gpa, unsigned int size, uint64_t val);

#endif
