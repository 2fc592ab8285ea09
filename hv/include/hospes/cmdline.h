/* SPDX-License-Identifier: MIT */
/*
 * Words, quotes and options: what the hypervisor's command line and the
 * guests' configuration are made of.
 *
 * Context: boot CPU, before any guest runs; no locks. Input: text from a boot
 * loader or a boot module, any bytes and any length; nothing is trusted.
 */
#ifndef HOSPES_CMDLINE_H
#define HOSPES_CMDLINE_H

#include "hospes/types.h"

/*
 * Takes the next word of [*pos, end) into @buf, NUL-terminated, and moves
 * *pos behind it. Blanks and control characters separate words. Single and
 * double quotes join what they hold and vanish, each kind is plain text
 * inside the other; a backslash keeps a quote or a backslash as it is.
 * Returns 1 for a word, 0 at the end, -XEN_E2BIG when the word does not fit
 * @size (not 0) bytes and -XEN_EINVAL when a quote has no end: then @buf holds what
 * fits, the word is consumed, and the next call goes on behind it.
 */
int __must_check cmdline_next(const char **pos, const char *end, char *buf, size_t size);

/* Splits "key=value" in place. Returns the value, or NULL when there is no '='. */
char *cmdline_split(char *word);

enum option_type {
	OPT_FLAG,	/* bool: alone, or =yes|no */
	OPT_UINT,	/* uint32_t, min..max */
	OPT_SIZE,	/* uint64_t bytes, whole pages, min..max; a plain number means MiB */
	OPT_CHOICE,	/* uint8_t: index into choices */
	OPT_TEXT,	/* char[max + 1], at least min characters */
	OPT_NAME,	/* the same, of letters, digits and . _ - only */
	OPT_CPUS,	/* uint64_t mask: 0-1,3, none above max */
	OPT_PAIR,	/* uint32_t[2]: min..max, the second not above the first */
};

struct option {
	const char *name;
	enum option_type type;
	uint32_t offset;	/* of the target in the structure given to option_set() */
	uint64_t min, max;
	const char *choices;	/* OPT_CHOICE: "a|b|c"; OPT_FLAG: "no|yes" */
};

/* A row of a table: the option and the field have one name; then min, max, choices. */
#define OPTION(target, field, kind, ...) \
	{ #field, kind, offsetof(target, field), __VA_ARGS__ }

/* The option of that name, or NULL. */
const struct option *option_find(const struct option *table, size_t nr, const char *name);

/*
 * Sets the target of @opt inside @base; @value may be NULL (no '=').
 * Returns -XEN_EINVAL, and leaves the target alone, when the value is no good.
 */
int __must_check option_set(const struct option *opt, void *base, const char *value);

/* Writes what a good value of @opt looks like ("a number from 1 to 128"). */
void option_explain(const struct option *opt, char *buf, size_t size);

enum hv_console { HV_CONSOLE_COM1, HV_CONSOLE_COM2, HV_CONSOLE_NONE };

/* The hypervisor's own options, with their defaults until hv_options_parse(). */
struct hv_options {
	uint32_t loglevel;	/* 0 errors, 1 warnings, 2 information, 3 and more everything */
	uint32_t cpus;		/* physical CPUs to use at most */
	uint32_t baud;
	uint8_t console;	/* enum hv_console */
	bool iommu;		/* confine devices where the machine can */
	bool noreboot;
	bool selftest;		/* keys that crash the hypervisor */
};

extern struct hv_options hv_options;

/*
 * Reads the hypervisor's command line into hv_options. Unknown options and
 * bad values are logged and passed over; control= and guest= are left to guest_list_load(),
 * and a first word that is no option is taken for the image's own name.
 */
void hv_options_parse(const char *cmdline);

#endif
