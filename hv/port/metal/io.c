/* SPDX-License-Identifier: MIT */
/*
 * I/O ports on behalf of the control domain.
 */
#include "port/metal/metal.h"

/* Masked or read once at boot; the control domain is told that there is none. */
static const struct { uint16_t first, last; } legacy[] = {
	{ 0x20, 0x21 }, { 0xa0, 0xa1 },		/* interrupt controllers */
	{ 0x40, 0x43 }, { 0x61, 0x61 },		/* timer and its gate */
};

enum io_owner port_io_owner(uint16_t port)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(legacy); i++) {
		if (port >= legacy[i].first && port <= legacy[i].last)
			return IO_KEPT;
	}
	if (serial_owns(port))
		return IO_KEPT;
	/* The second byte has what matters, too. */
	if ((acpi.pm1a_control && (port & ~1u) == acpi.pm1a_control) ||
	    (acpi.pm1b_control && (port & ~1u) == acpi.pm1b_control))
		return IO_SLEEP;
	return IO_DEVICE;
}

uint32_t port_io_read(uint16_t port, unsigned int size)
{
	return size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
}

void port_io_write(uint16_t port, unsigned int size, uint32_t value)
{
	if (size == 1)
		outb(port, (uint8_t)value);
	else if (size == 2)
		outw(port, (uint16_t)value);
	else
		outl(port, value);
}
