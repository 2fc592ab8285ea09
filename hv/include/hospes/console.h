/* SPDX-License-Identifier: MIT */
/*
 * Guest consoles on the hypervisor's serial line.
 *
 * For a static guest the hypervisor is the back end of the PV console ring
 * and of debug port 0xE9. A key (Ctrl-A by default, three times) moves the
 * input focus from guest to guest and to the hypervisor's key menu.
 */
#ifndef HOSPES_CONSOLE_H
#define HOSPES_CONSOLE_H

#include "hospes/types.h"

struct domain;

/* The page and port of the ring: sets HVM params, allocates the channel. */
int console_attach(struct domain *d, gfn_t gfn) __must_check;
void console_detach(struct domain *d);

/* For the control domain, which has console_io instead of a ring. -XEN_ENOMEM. */
int console_attach_control(struct domain *d) __must_check;
void console_control_write(struct domain *d, const char *text, size_t len);
/* What was typed, up to @size bytes; returns how many. */
size_t console_control_read(struct domain *d, char *buf, size_t size);

/* One byte out of port 0xE9. */
void console_debug_byte(struct domain *d, uint8_t c);

/* The port: input waits on the serial line. Raises the softirq on CPU 0. */
void console_input_ready(void);

/* Softirq on CPU 0: reads the line, feeds the focus or the key menu. */
void console_poll(void);

/* To the serial line, not to the log: answers to the operator. Any context. */
void console_printf(const char *fmt, ...) __printf(1, 2);

/* The whole log to the serial line. */
void console_show_log(void);

/* Whole lines of the log, to the serial line. Any context: waits for no lock. */
void console_write_log(const char *text, size_t len);

/* One key for the menu. @logged: what it prints is in the log, too. No lock held. */
void key_press(char key, bool logged);

/* Key menu: registers a one-key command with a line of help. */
void key_register(char key, const char *help, void (*handler)(void));

#endif
