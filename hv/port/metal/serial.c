/* SPDX-License-Identifier: MIT */
/*
 * The serial console: a 16550. Output is polled, input comes by interrupt
 * into a small ring on CPU 0.
 *
 * Locks: `busy` keeps the output of one call together. It is waited for only
 * so long, because its holder may be the CPU that panics.
 */
#include "hospes/cmdline.h"
#include "hospes/console.h"
#include "port/metal/metal.h"

enum { DATA = 0, IER = 1, FCR = 2, LCR = 3, MCR = 4, LSR = 5, SCRATCH = 7 };

#define LSR_DATA 0x01
#define LSR_FIFO_EMPTY 0x20
#define LSR_ALL_SENT 0x40
#define FIFO_SIZE 16u
#define PATIENCE 1000000u	/* turns of a waiting loop: more than the FIFO ever takes */

static const struct { uint16_t base; uint8_t irq; } ports[] = {
	[HV_CONSOLE_COM1] = { 0x3f8, 4 },
	[HV_CONSOLE_COM2] = { 0x2f8, 3 },
	[HV_CONSOLE_NONE] = { 0, 0 },
};

static uint16_t uart;			/* 0: there is none */
static atomic_bool busy;

/* CPU 0 only. */
static uint8_t input[256];
static uint8_t input_head, input_tail;

void serial_init(void)
{
	uint16_t base = ports[hv_options.console].base;
	uint16_t divisor = (uint16_t)(115200 / hv_options.baud);

	if (!base)
		return;
	outb(base + SCRATCH, 0x5a);
	if (inb(base + SCRATCH) != 0x5a)
		return;
	outb(base + IER, 0);
	outb(base + LCR, 0x80);		/* the divisor's registers appear */
	outb(base + DATA, (uint8_t)divisor);
	outb(base + IER, (uint8_t)(divisor >> 8));
	outb(base + LCR, 0x03);		/* 8 bits, no parity, 1 stop bit */
	outb(base + FCR, 0x07);		/* FIFOs on and empty, an interrupt for every byte */
	outb(base + MCR, 0x0b);		/* DTR, RTS, and the gate of the interrupt */
	uart = base;
}

void serial_enable_irq(const struct acpi_info *acpi)
{
	if (!uart)
		return;
	isa_irq_enable(acpi, ports[hv_options.console].irq, VECTOR_SERIAL);
	outb(uart + IER, 1);
	serial_interrupt();		/* what was typed until now raises no edge any more */
}

/* Empties the FIFO, so that the next byte raises the line again. */
void serial_interrupt(void)
{
	while (inb(uart + LSR) & LSR_DATA) {
		uint8_t c = inb(uart + DATA);

		if ((uint8_t)(input_head + 1) != input_tail)
			input[input_head++] = c;
	}
	if (input_head != input_tail)
		console_input_ready();
}

static void wait_for(uint8_t state)
{
	for (unsigned int i = 0; i < PATIENCE && !(inb(uart + LSR) & state); i++)
		port_relax();
}

void port_console_write(const char *s, size_t len)
{
	unsigned int turns = 0;

	if (!uart)
		return;
	while (atomic_exchange_explicit(&busy, true, memory_order_acquire) && turns++ < PATIENCE)
		port_relax();
	for (size_t i = 0; i < len; i++) {
		if (i % FIFO_SIZE == 0)
			wait_for(LSR_FIFO_EMPTY);
		outb(uart + DATA, (uint8_t)s[i]);
		if (hv_options.sync_console)
			wait_for(LSR_ALL_SENT);
	}
	atomic_store_explicit(&busy, false, memory_order_release);
}

int port_console_read(void)
{
	return input_head == input_tail ? -1 : input[input_tail++];
}
