/* SPDX-License-Identifier: MIT */
/*
 * Configuration space and registers of devices, for port.h.
 *
 * Owns: the list of segments, constant after boot. Locks: chipset_lock for
 * the pair of ports; what lies in memory needs none.
 */
#include "hospes/log.h"
#include "port/metal/iommu_private.h"
#include "port/metal/metal.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u
#define BUS_SIZE (1UL << 20)		/* in memory */

/* Where no table tells of more there is what the ports reach. */
static struct pci_segment by_ports = { .last_bus = 0xff };

const struct pci_segment *port_pci_segment(unsigned int i)
{
	return i < acpi.nr_segments ? &acpi.segment[i] :
	       !i && !acpi.nr_segments ? &by_ports : NULL;
}

static paddr_t ecam_of(uint32_t sbdf)
{
	for (const struct pci_segment *s = acpi.segment; s < &acpi.segment[acpi.nr_segments]; s++) {
		uint8_t bus = (uint8_t)(sbdf >> 8);

		if (s->nr == sbdf >> 16 && bus >= s->first_bus && bus <= s->last_bus)
			return s->ecam + ((paddr_t)(sbdf & 0xffff) << PAGE_SHIFT);
	}
	return 0;
}

static uint64_t mmio_get(paddr_t pa, unsigned int size)
{
	volatile void *at = map_window(pa);

	return size == 1 ? *(volatile uint8_t *)at : size == 2 ? *(volatile uint16_t *)at :
	       size == 4 ? *(volatile uint32_t *)at : *(volatile uint64_t *)at;
}

static void mmio_put(paddr_t pa, unsigned int size, uint64_t val)
{
	volatile void *at = map_window(pa);

	if (size == 1)
		*(volatile uint8_t *)at = (uint8_t)val;
	else if (size == 2)
		*(volatile uint16_t *)at = (uint16_t)val;
	else if (size == 4)
		*(volatile uint32_t *)at = (uint32_t)val;
	else
		*(volatile uint64_t *)at = val;
}

/* The lock is held. Returns the data port; 0: the ports do not reach it. */
static uint16_t select_register(uint32_t sbdf, unsigned int reg)
{
	if (sbdf >> 16 || reg > 0xff)
		return 0;
	outl(CONFIG_ADDRESS, CONFIG_ENABLE | sbdf << 8 | (reg & 0xfc));
	return (uint16_t)(CONFIG_DATA + (reg & 3));
}

uint32_t port_pci_read(uint32_t sbdf, unsigned int reg, unsigned int size)
{
	paddr_t ecam = ecam_of(sbdf);
	uint32_t val = ~0u;
	uint16_t port;

	if (ecam)
		return (uint32_t)mmio_get(ecam + reg, size);
	spin_lock(&chipset_lock);
	port = select_register(sbdf, reg);
	if (port)
		val = port_io_read(port, size);
	spin_unlock(&chipset_lock);
	return val;
}

void port_pci_write(uint32_t sbdf, unsigned int reg, unsigned int size, uint32_t val)
{
	paddr_t ecam = ecam_of(sbdf);
	uint16_t port;

	if (ecam) {
		mmio_put(ecam + reg, size, val);
		return;
	}
	spin_lock(&chipset_lock);
	port = select_register(sbdf, reg);
	if (port)
		port_io_write(port, size, val);
	spin_unlock(&chipset_lock);
}

void pci_init(void)
{
	unsigned int nr = acpi.nr_segments;
	uint32_t id;

	acpi.nr_segments = 0;		/* so that the ports answer */
	id = port_pci_read(0, 0, 4);
	for (unsigned int i = 0; i < nr; i++) {
		struct pci_segment s = acpi.segment[i];
		paddr_t start = s.ecam + s.first_bus * BUS_SIZE;
		uint64_t len = (s.last_bus - s.first_bus + 1UL) * BUS_SIZE;

		/* Firmware's word alone is too little: it would be read and written there. */
		if (iommu_in_ram(start, start + len) ||
		    (!s.nr && !s.first_bus && mmio_get(s.ecam, 4) != id))
			log_warn("no PCI configuration space at %lx", s.ecam);
		else
			acpi.segment[acpi.nr_segments++] = s;
	}
}

/* --- Registers ------------------------------------------------------------- */

uint64_t port_mmio_read(paddr_t pa, unsigned int size)
{
	return port_device_page(pa) ? mmio_get(pa, size) : ~0ULL;
}

void port_mmio_write(paddr_t pa, unsigned int size, uint64_t val)
{
	if (port_device_page(pa))
		mmio_put(pa, size, val);
}
