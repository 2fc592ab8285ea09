/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's log: lines with a level and a time stamp, kept in a ring
 * and written to the serial console when the level passes the filter.
 *
 * Context: any CPU, any time, also from NMI and panic (the
 * lock is then only tried). Text that a guest chose must not come in as the
 * format; as an argument it is printed with control characters replaced.
 */
#ifndef HOSPES_LOG_H
#define HOSPES_LOG_H

#include <stdatomic.h>

#include "hospes/types.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_RING_SIZE 65536U	/* a power of two */

/* One line, without the newline: it is added. Longer than 255 bytes is cut. */
void log_printf(enum log_level level, const char *fmt, ...) __printf(2, 3);

#define log_err(...) log_printf(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_printf(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_printf(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_printf(LOG_DEBUG, __VA_ARGS__)

/* Lines above this level go to the ring only. The default is LOG_INFO; set before others run. */
extern enum log_level log_console_level;

/* Into the ring, as it is: for text that is shown by other means. Any context. */
void log_append(const char *text, size_t len);

/*
 * Copies up to @len bytes of the ring, from stream position *@pos on, and
 * moves *@pos behind them. A position whose text is already overwritten moves
 * to the oldest text kept. Returns the number of bytes copied. Any context.
 */
size_t log_read(uint64_t *pos, char *buf, size_t len);

/* Once set, the lock is not waited for: the CPU that holds it may be dead. */
extern atomic_bool log_panicking;

#endif
