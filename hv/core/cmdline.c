/* SPDX-License-Identifier: MIT */
/*
 * Words, quotes and options.
 *
 * Quoting follows the shell, because a boot menu hands its line through one
 * before it arrives here: GRUB puts a whole argument in double quotes and
 * escapes the quotes inside. Option targets are given by offset, so that one
 * table describes a structure and checks it.
 */
#include "hospes/cmdline.h"

#include "hospes/abi.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/port.h"

#define OPT(field, ...) OPTION(struct hv_options, field, __VA_ARGS__)

static const struct option hv_option_table[] = {
	OPT(loglevel, OPT_UINT, 0, 7, NULL),
	OPT(cpus, OPT_UINT, 1, MAX_PCPUS, NULL),
	OPT(console, OPT_CHOICE, 0, 0, "com1|com2|none"),
	OPT(baud, OPT_UINT, 1200, 115200, NULL),
	OPT(iommu, OPT_FLAG, 0, 0, "no|yes"),
	OPT(noreboot, OPT_FLAG, 0, 0, "no|yes"),
	OPT(selftest, OPT_FLAG, 0, 0, "no|yes"),
};

struct hv_options hv_options = { .loglevel = 2, .cpus = MAX_PCPUS, .baud = 115200, .iommu = true };

/* Also true for NUL and the other control characters a module may hold. */
static bool is_blank(char c)
{
	return (unsigned char)c <= ' ';
}

int cmdline_next(const char **pos, const char *end, char *buf, size_t size)
{
	const char *p;
	size_t len = 0;
	char quote = 0;
	bool cut = false;

	while (*pos < end && is_blank(**pos))
		++*pos;
	if (*pos == end)
		return 0;
	for (p = *pos; p < end && (quote || !is_blank(*p)); p++) {
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
	buf[len] = 0;
	*pos = p;
	if (quote)
		return -XEN_EINVAL;
	return cut ? -XEN_E2BIG : 1;
}

char *cmdline_split(char *word)
{
	while (*word && *word != '=')
		word++;
	if (!*word)
		return NULL;
	*word = 0;
	return word + 1;
}

const struct option *option_find(const struct option *table, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(table[i].name, name))
			return &table[i];
	}
	return NULL;
}

/* A number and nothing behind it but one of @stop, on which *s is left. */
static int parse_number(const char **s, uint64_t min, uint64_t max, const char *stop,
			uint64_t *out)
{
	if (parse_u64(s, out) || *out < min || *out > max)
		return -XEN_EINVAL;
	while (*stop && *stop != **s)
		stop++;
	return **s == *stop ? 0 : -XEN_EINVAL;
}

/* The targets are as enum option_type says; each sets its own on success only. */
static int set_uint(const struct option *opt, void *to, const char *value)
{
	uint64_t v;

	if (parse_number(&value, opt->min, opt->max, "", &v))
		return -XEN_EINVAL;
	*(uint32_t *)to = (uint32_t)v;
	return 0;
}

static int set_size(const struct option *opt, void *to, const char *value)
{
	static const char letters[] = "kmg";
	unsigned int shift = 20;
	uint64_t v;

	if (parse_u64(&value, &v))
		return -XEN_EINVAL;
	for (unsigned int i = 0; letters[i]; i++) {
		if ((*value | 0x20) == letters[i]) {
			shift = 10 * (i + 1);
			value++;
			break;
		}
	}
	if (*value || mul_overflows(v, 1ULL << shift, &v) || v < opt->min || v > opt->max ||
	    v % PAGE_SIZE)
		return -XEN_EINVAL;
	*(uint64_t *)to = v;
	return 0;
}

static int set_choice(const struct option *opt, void *to, const char *value)
{
	const char *choices = opt->choices;
	size_t len;

	for (uint8_t i = 0; ; i++, choices += len + 1) {
		for (len = 0; choices[len] && choices[len] != '|'; len++)
			;
		if (strlen(value) == len && !strncmp(choices, value, len)) {
			*(uint8_t *)to = i;
			return 0;
		}
		if (!choices[len])
			return -XEN_EINVAL;
	}
}

static int set_text(const struct option *opt, void *to, const char *value)
{
	size_t len = strlen(value);

	if (len < opt->min || len > opt->max)
		return -XEN_EINVAL;
	for (const char *p = value; *p && opt->type == OPT_NAME; p++) {
		bool letter = (*p | 0x20) >= 'a' && (*p | 0x20) <= 'z';

		if (!letter && !(*p >= '0' && *p <= '9') && *p != '.' && *p != '_' && *p != '-')
			return -XEN_EINVAL;
	}
	memcpy(to, value, len + 1);
	return 0;
}

static int set_cpus(const struct option *opt, void *to, const char *value)
{
	uint64_t mask = 0, first, last;

	do {
		if (parse_number(&value, 0, opt->max, "-,", &first))
			return -XEN_EINVAL;
		last = first;
		if (*value == '-') {
			value++;
			if (parse_number(&value, first, opt->max, ",", &last))
				return -XEN_EINVAL;
		}
		mask |= (~0ULL >> (63 - (last - first))) << first;
	} while (*value++);
	*(uint64_t *)to = mask;
	return 0;
}

static int set_pair(const struct option *opt, void *to, const char *value)
{
	uint32_t *pair = to;
	uint64_t a, b;

	if (parse_number(&value, opt->min, opt->max, ":", &a) || *value++ != ':' ||
	    parse_number(&value, opt->min, a, "", &b))
		return -XEN_EINVAL;
	pair[0] = (uint32_t)a;
	pair[1] = (uint32_t)b;
	return 0;
}

/* What the types do: the hint is a format for min and max, of sizes in MiB. */
static const struct {
	int (*set)(const struct option *opt, void *to, const char *value);
	const char *hint;
} types[] = {
	[OPT_FLAG] = { set_choice, "yes or no" },
	[OPT_UINT] = { set_uint, "a number from %llu to %llu" },
	[OPT_SIZE] = { set_size, "a size such as 256M, from %lluM to %lluM" },
	[OPT_CHOICE] = { set_choice, "one of %s" },
	[OPT_TEXT] = { set_text, "%llu to %llu characters" },
	[OPT_NAME] = { set_text, "%llu to %llu characters of a-z, 0-9, '.', '_' and '-'" },
	[OPT_CPUS] = { set_cpus, "a list of CPUs such as 0-1,3, from %llu to %llu" },
	[OPT_PAIR] = { set_pair, "two numbers as in 10000:2500, from %llu to %llu,"
		       " the second not above the first" },
};

int option_set(const struct option *opt, void *base, const char *value)
{
	if (!value && opt->type == OPT_FLAG)
		value = "yes";
	return value ? types[opt->type].set(opt, (char *)base + opt->offset, value) : -XEN_EINVAL;
}

void option_explain(const struct option *opt, char *buf, size_t size)
{
	unsigned int shift = opt->type == OPT_SIZE ? 20 : 0;
	const char *hint = types[opt->type].hint;

	if (opt->type == OPT_CHOICE)
		hv_snprintf(buf, size, hint, opt->choices);
	else
		hv_snprintf(buf, size, hint, opt->min >> shift, opt->max >> shift);
}

void hv_options_parse(const char *cmdline)
{
	const char *pos = cmdline, *end = cmdline + strlen(cmdline);
	const struct option *opt;
	char word[64], hint[96], *value;
	bool first = true;
	int rc;

	for (; (rc = cmdline_next(&pos, end, word, sizeof(word))) != 0; first = false) {
		value = cmdline_split(word);
		opt = option_find(hv_option_table, ARRAY_SIZE(hv_option_table), word);
		if (!opt && strcmp(word, "guest") && strcmp(word, "control") && (!first || value))
			log_warn("option %s is unknown and ignored", word);
		if (!opt || (rc > 0 && !option_set(opt, &hv_options, value)))
			continue;
		option_explain(opt, hint, sizeof(hint));
		log_warn("option %s=%s is ignored: it must be %s", word, value ? value : "", hint);
	}
}
