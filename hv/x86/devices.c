/* SPDX-License-Identifier: MIT */
/*
 * Ports and device memory of the control domain. See devices.h.
 *
 * What is not RAM and not the hypervisor's is the control domain's, at the
 * address it has in the machine. Pages are mapped when they are touched, so
 * nobody needs to know where devices are, or follow them when they move.
 */
#include "hospes/devices.h"

#include "hospes/domain.h"
#include "hospes/vioapic.h"
#include "hospes/vpci.h"

#define NR_PORTS 0x10000u
#define PORT_DEBUG 0xe9

int devices_init(struct domain *d)
{
	struct devices *dev = hv_alloc(sizeof(*dev));

	d->devices = dev;
	if (!dev)
		return -XEN_ENOMEM;
	dev->io_bitmap = hv_alloc_pages(DEVICES_IO_ORDER);
	if (!dev->io_bitmap)
		return -XEN_ENOMEM;
	memset(dev->io_bitmap, 0xff, PAGE_SIZE << DEVICES_IO_ORDER);
	for (unsigned int port = 0; port < NR_PORTS; port++) {
		if (port_io_owner((uint16_t)port) == IO_DEVICE && port != PORT_DEBUG &&
		    !vpci_traps_port(port))
			dev->io_bitmap[port / 8] &= (uint8_t)~(1u << port % 8);
	}
	return vioapic_init(d) || vpci_init(d) ? -XEN_ENOMEM : 0;
}

void devices_stop(struct domain *d)
{
	if (!d->devices)
		return;
	vpci_destroy(d);
	vioapic_destroy(d);
}

void devices_free(struct domain *d)
{
	devices_stop(d);
	if (d->devices && d->devices->io_bitmap)
		hv_free_pages(d->devices->io_bitmap, DEVICES_IO_ORDER);
	hv_free(d->devices);
}

/* The strictest owner of the ports of an access: a wide one may begin at a neighbour's. */
static enum io_owner owner_of(uint16_t port, unsigned int size)
{
	enum io_owner owner = IO_DEVICE;

	for (unsigned int i = 0; i < size && port + i < NR_PORTS; i++) {
		enum io_owner here = port_io_owner((uint16_t)(port + i));

		if (here == IO_KEPT || owner == IO_DEVICE)
			owner = here;
		if (owner == IO_KEPT)
			break;
	}
	return owner;
}

uint32_t devices_in(struct domain *d, uint16_t port, unsigned int size)
{
	uint32_t val;

	if (vpci_port_in(d, port, size, &val))
		return val;
	return owner_of(port, size) == IO_KEPT ? ~0u : port_io_read(port, size);
}

void devices_out(struct domain *d, uint16_t port, unsigned int size, uint32_t value)
{
	enum io_owner owner = owner_of(port, size);

	if (vpci_port_out(d, port, size, value))
		return;
	if (owner == IO_SLEEP)
		port_sleep_write(port, size, value);
	else if (owner == IO_DEVICE)
		port_io_write(port, size, value);
}

bool devices_access(struct domain *d, gpa_t gpa, uint8_t *buf, unsigned int len, bool write)
{
	bool ioapic = vioapic_claims(d, gpa);
	uint64_t val = 0;

	if (!ioapic && !vpci_claims(d, gpa))
		return false;
	if (write) {
		memcpy(&val, buf, len);
		if (ioapic)
			vioapic_write(d, gpa, len, (uint32_t)val);
		else
			vpci_write(d, gpa, len, val);
	} else {
		val = ioapic ? vioapic_read(d, gpa, len) : vpci_read(d, gpa, len);
		memcpy(buf, &val, len);
	}
	return true;
}

bool devices_map(struct domain *d, gpa_t gpa)
{
	return gpa_to_gfn(gpa).v < P2M_MAX_GFN && port_device_page(gpa & PAGE_MASK) &&
	       vpci_map(d, gpa_to_gfn(gpa));
}
