/* SPDX-License-Identifier: MIT */
/*
 * Words, quotes and options.
 *
 * Quoting follows the shell, because a boot menu hands its line through one
 * before it arrives here: GRUB puts a whole argument in double quotes and
 * escapes the quotes inside. Option targets are given by offset, so that one
 * table describes a structure, checks it and documents it.
 */
#include "hospes/cmdline.h"

#include "hospes/abi.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/port.h"

#define OPT(field, kind, lo, hi, list, text) \
	{ #field, kind, offsetof(struct hv_options, field), lo, hi, list, text }

const struct option hv_option_table[] = {
	OPT(loglevel, OPT_UINT, 0, 7, NULL, "messages on the console: 0 errors .. 3 everything"),
	OPT(cpus, OPT_UINT, 1, MAX_PCPUS, NULL, "physical CPUs to use at most"),
	OPT(console, OPT_CHOICE, 0, 0, "com1|com2|none", "serial port of the console"),
	OPT(baud, OPT_UINT, 1200, 115200, NULL, "speed of the serial port"),
	OPT(noreboot, OPT_FLAG, 0, 0, NULL, "halt after a panic"),
	OPT(sync_console, OPT_FLAG, 0, 0, NULL, "wait for every character sent"),
	OPT(scrub, OPT_CHOICE, 0, 0, "lazy|boot", "when free memory is cleared"),
};

const size_t hv_option_count = ARRAY_SIZE(hv_option_table);

struct hv_options hv_options = {
	.loglevel = 2,
	.cpus = MAX_PCPUS,
	.baud = 115200,
};

/* Also true for NUL and the other control characters a module may hold. */
static bool is_blank(char c)
{
	return (unsigned char)c <= ' ';
}

int cmdline_next(const char **pos, const char *end, char *buf, size_t size)
{
	const char *p = *pos;
	size_t len = 0;
	char quote = 0;
	bool cut = false;

	while (p < end && is_blank(*p))
		p++;
	if (p == end) {
		*pos = p;
		return 0;
	}
	for (; p < end && (quote || !is_blank(*p)); p++) {
		char c = *p;

		if (c == '\\' && end - p > 1 && (p[1] == '\\' || p[1] == '"' || p[1] == '\'')) {
			c = *++p;
		} else if (c == quote) {
			quote = 0;
			continue;
		} else if (!quote && (c == '"' || c == '\'')) {
			quote = c;
			continue;
		}
		/* A word is a C string from here on: no NUL may hide in a quoted one. */
		if (!c)
			c = ' ';
		if (len + 1 < size)
			buf[len++] = c;
		else
			cut = true;
	}
	if (size)
		buf[len] = 0;
	*pos = p;
	if (quote)
		return -XEN_EINVAL;
	return cut ? -XEN_E2BIG : 1;
}

char *cmdline_split(char *word)
{
	for (; *word; word++) {
		if (*word == '=') {
			*word = 0;
			return word + 1;
		}
	}
	return NULL;
}

const struct option *option_find(const struct option *table, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(table[i].name, name))
			return &table[i];
	}
	return NULL;
}

/* A number and nothing behind it but @stop, on which *s is left. */
static int parse_number(const char **s, uint64_t min, uint64_t max, const char *stop,
			uint64_t *out)
{
	const char *p = *s;
	uint64_t v;

	if (parse_u64(&p, &v) || v < min || v > max)
		return -XEN_EINVAL;
	while (*stop && *stop != *p)
		stop++;
	if (*p != *stop)
		return -XEN_EINVAL;
	*s = p;
	*out = v;
	return 0;
}

static int set_size(const struct option *opt, uint64_t *to, const char *value)
{
	const char *p = value;
	uint64_t v;

	if (parse_u64(&p, &v))
		return -XEN_EINVAL;
	if (!*p) {
		if (mul_overflows(v, 1 << 20, &v))
			return -XEN_EINVAL;
	} else if (parse_size(&value, &v) || *value) {
		return -XEN_EINVAL;
	}
	if (v < opt->min || v > opt->max || v % PAGE_SIZE)
		return -XEN_EINVAL;
	*to = v;
	return 0;
}

static int choice_index(const char *choices, const char *value)
{
	size_t len;

	for (int i = 0; ; i++) {
		for (len = 0; choices[len] && choices[len] != '|'; len++)
			;
		if (strlen(value) == len && !strncmp(choices, value, len))
			return i;
		if (!choices[len])
			return -XEN_EINVAL;
		choices += len + 1;
	}
}

static int set_text(const struct option *opt, char *to, const char *value)
{
	size_t len = strlen(value);

	if (len < opt->min || len > opt->max)
		return -XEN_EINVAL;
	for (const char *p = value; opt->type == OPT_NAME && *p; p++) {
		bool letter = (*p | 0x20) >= 'a' && (*p | 0x20) <= 'z';

		if (!letter && !(*p >= '0' && *p <= '9') && *p != '.' && *p != '_' && *p != '-')
			return -XEN_EINVAL;
	}
	memcpy(to, value, len + 1);
	return 0;
}

static int set_cpus(uint64_t *to, const char *value)
{
	uint64_t mask = 0, first, last;

	for (;; value++) {
		if (parse_number(&value, 0, MAX_PCPUS - 1, "-,", &first))
			return -XEN_EINVAL;
		last = first;
		if (*value == '-') {
			value++;
			if (parse_number(&value, first, MAX_PCPUS - 1, ",", &last))
				return -XEN_EINVAL;
		}
		mask |= (~0ULL >> (63 - (last - first))) << first;
		if (!*value)
			break;
	}
	*to = mask;
	return 0;
}

static int set_pair(const struct option *opt, uint32_t *to, const char *value)
{
	uint64_t a, b;

	if (parse_number(&value, opt->min, opt->max, ":", &a) || *value++ != ':' ||
	    parse_number(&value, opt->min, a, "", &b))
		return -XEN_EINVAL;
	to[0] = (uint32_t)a;
	to[1] = (uint32_t)b;
	return 0;
}

static int set_number(const struct option *opt, uint32_t *to, const char *value)
{
	uint64_t v;

	if (parse_number(&value, opt->min, opt->max, "", &v))
		return -XEN_EINVAL;
	*to = (uint32_t)v;
	return 0;
}

static int set_choice(const char *choices, uint8_t *to, const char *value)
{
	int index = choice_index(choices, value);

	if (index < 0)
		return index;
	*to = (uint8_t)index;
	return 0;
}

int option_set(const struct option *opt, void *base, const char *value)
{
	void *to = (char *)base + opt->offset;
	uint8_t yes;

	if (opt->type == OPT_FLAG) {
		if (set_choice("no|yes", &yes, value ? value : "yes"))
			return -XEN_EINVAL;
		*(bool *)to = yes;
		return 0;
	}
	if (!value)
		return -XEN_EINVAL;
	switch (opt->type) {
	case OPT_UINT:
		return set_number(opt, to, value);
	case OPT_SIZE:
		return set_size(opt, to, value);
	case OPT_CHOICE:
		return set_choice(opt->choices, to, value);
	case OPT_TEXT:
	case OPT_NAME:
		return set_text(opt, to, value);
	case OPT_CPUS:
		return set_cpus(to, value);
	case OPT_PAIR:
		return set_pair(opt, to, value);
	case OPT_FLAG:
	default:
		return -XEN_EINVAL;
	}
}

void option_explain(const struct option *opt, char *buf, size_t size)
{
	unsigned long long min = opt->min, max = opt->max;

	switch (opt->type) {
	case OPT_FLAG:
		hv_snprintf(buf, size, "yes or no");
		break;
	case OPT_UINT:
		hv_snprintf(buf, size, "a number from %llu to %llu", min, max);
		break;
	case OPT_SIZE:
		hv_snprintf(buf, size, "a size such as 256M, from %lluK to %lluM",
			    min >> 10, max >> 20);
		break;
	case OPT_CHOICE:
		hv_snprintf(buf, size, "one of %s", opt->choices);
		break;
	case OPT_TEXT:
	case OPT_NAME:
		hv_snprintf(buf, size, "%llu to %llu characters%s", min, max,
			    opt->type == OPT_NAME ? " of a-z, 0-9, '.', '_' and '-'" : "");
		break;
	case OPT_CPUS:
		hv_snprintf(buf, size, "a list of CPUs such as 0-1,3, all below %u", MAX_PCPUS);
		break;
	case OPT_PAIR:
	default:
		hv_snprintf(buf, size, "two numbers as in 10000:2500, from %llu to %llu,"
			    " the second not above the first", min, max);
		break;
	}
}

void hv_options_parse(const char *cmdline)
{
	const char *pos = cmdline, *end = cmdline + strlen(cmdline);
	const struct option *opt;
	char word[64], hint[96];
	bool first = true;
	char *value;
	int rc;

	for (; (rc = cmdline_next(&pos, end, word, sizeof(word))) != 0; first = false) {
		value = cmdline_split(word);
		if (!strcmp(word, "guest"))
			continue;
		opt = option_find(hv_option_table, hv_option_count, word);
		if (!opt) {
			if (!first || value)
				log_warn("option %s is unknown and ignored", word);
			continue;
		}
		if (rc > 0 && !option_set(opt, &hv_options, value))
			continue;
		option_explain(opt, hint, sizeof(hint));
		log_warn("option %s=%s is ignored: it must be %s", word, value ? value : "", hint);
	}
}
