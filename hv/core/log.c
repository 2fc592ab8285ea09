/* SPDX-License-Identifier: MIT */
/*
 * The log: a ring of text and the serial console.
 *
 * Locks: `busy` covers the ring. It is not a struct spinlock because a line
 * may come from an NMI or a panic while its holder cannot go on: it is waited
 * for only so long, and then the line is written all the same.
 */
#include "hospes/log.h"

#include "hospes/console.h"
#include "hospes/lib.h"
#include "hospes/port.h"

#define LINE_MAX 255u
#define PREFIX_MAX 24u
#define PATIENCE 1000000u

static char ring[LOG_RING_SIZE];
static uint64_t head, tail;		/* stream positions: next to write, oldest kept */
static atomic_bool busy;
atomic_bool log_panicking;
enum log_level log_console_level = LOG_INFO;

static bool ring_lock(void)
{
	for (unsigned int i = 0; i < PATIENCE; i++) {
		if (!atomic_exchange_explicit(&busy, true, memory_order_acquire))
			return true;
		if (atomic_load_explicit(&log_panicking, memory_order_relaxed))
			break;
		port_relax();
	}
	return false;
}

static void ring_unlock(bool locked)
{
	if (locked)
		atomic_store_explicit(&busy, false, memory_order_release);
}

void log_append(const char *text, size_t len)
{
	bool locked = ring_lock();

	for (size_t i = 0; i < len; i++)
		ring[head++ % LOG_RING_SIZE] = text[i];
	tail = MAX(tail, head - MIN(head, (uint64_t)LOG_RING_SIZE));
	ring_unlock(locked);
}

void log_printf(enum log_level level, const char *fmt, ...)
{
	char line[PREFIX_MAX + LINE_MAX + 2];
	uint64_t us = port_time_ns() / 1000;
	size_t len, start = (size_t)hv_snprintf(line, PREFIX_MAX, "[%5lu.%06lu] ", us / 1000000,
						us % 1000000);
	va_list ap;

	va_start(ap, fmt);
	len = (size_t)hv_vsnprintf(line + start, LINE_MAX + 1, fmt, ap);
	va_end(ap);
	len = start + MIN(len, LINE_MAX);
	/* What a guest chose must not steer the terminal. */
	for (size_t i = start; i < len; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len] = '\n';
	log_append(line, len + 1);
	if (level > log_console_level)
		return;
	line[len] = '\r';
	line[len + 1] = '\n';
	console_write_log(line, len + 2);
}

size_t log_read(uint64_t *pos, char *buf, size_t len)
{
	bool locked = ring_lock();

	*pos = MIN(MAX(*pos, tail), head);
	len = MIN(len, head - *pos);
	for (size_t i = 0; i < len; i++)
		buf[i] = ring[(*pos)++ % LOG_RING_SIZE];
	ring_unlock(locked);
	return len;
}
