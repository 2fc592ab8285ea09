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
#define FIFO_SIZE 16u
#define PATIENCE 1000000u	/* turns of a waiting loop: more than the FIFO ever takes */

static const uint16_t bases[] = {
	[HV_CONSOLE_COM1] = 0x3f8, [HV_CONSOLE_COM2] = 0x2f8, [HV_CONSOLE_NONE] = 0,
};

static uint16_t uart;			/* 0: there is none */
static atomic_bool busy;

/* CPU 0 only. */
static uint8_t input[256];
static uint8_t input_head, input_tail;

void serial_init(void)
{
	uint16_t base = bases[hv_options.console];
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

void serial_enable_irq(void)
{
	if (!uart)
		return;
	isa_irq_enable(hv_options.console == HV_CONSOLE_COM1 ? 4 : 3, VECTOR_SERIAL);
	serial_interrupt();		/* what was typed until now */
}

/* Takes no more than a ring of bytes, from a line that never ends or a UART that has gone. */
void serial_interrupt(void)
{
	for (unsigned int i = 0; i < sizeof(input) && inb(uart + LSR) & LSR_DATA; i++) {
		uint8_t c = inb(uart + DATA);

		if ((uint8_t)(input_head + 1) != input_tail)
			input[input_head++] = c;
	}
	outb(uart + IER, 0);
	outb(uart + IER, 1);		/* an edge, for what waits still */
	if (input_head != input_tail)
		console_input_ready();
}

bool serial_owns(uint16_t port)
{
	return uart && (port & ~7u) == uart;
}

void port_console_write(const char *s, size_t len)
{
	unsigned int turns = 0;

	if (!uart)
		return;
	while (atomic_exchange_explicit(&busy, true, memory_order_acquire) && turns++ < PATIENCE)
		port_relax();
	for (size_t i = 0; i < len; i++) {
		turns = 0;
		while (i % FIFO_SIZE == 0 && !(inb(uart + LSR) & LSR_FIFO_EMPTY) &&
		       turns++ < PATIENCE)
			port_relax();
		outb(uart + DATA, (uint8_t)s[i]);
	}
	atomic_store_explicit(&busy, false, memory_order_release);
}

int port_console_read(void)
{
	return input_head == input_tail ? -1 : input[input_tail++];
}
