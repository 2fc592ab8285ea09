/* SPDX-License-Identifier: MIT */
/*
 * Strings, numbers and formatting for the hypervisor.
 */
#include "hospes/lib.h"

#include "hospes/abi.h"

size_t strlcpy(char *dst, const char *src, size_t size)
{
	size_t len = strlen(src);

	if (size) {
		size_t n = MIN(len, size - 1);

		memcpy(dst, src, n);
		dst[n] = '\0';
	}
	return len;
}

/* The value of a digit in the given base, or -1. */
static int digit_value(char c, unsigned int base)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (base == 16 && c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (base == 16 && c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int parse_u64(const char **s, uint64_t *out)
{
	const char *p = *s;
	unsigned int base = 10;
	uint64_t v = 0;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && digit_value(p[2], 16) >= 0) {
		base = 16;
		p += 2;
	}
	if (digit_value(*p, base) < 0)
		return -XEN_EINVAL;
	for (; digit_value(*p, base) >= 0; p++) {
		if (mul_overflows(v, base, &v) ||
		    add_overflows(v, (uint64_t)digit_value(*p, base), &v))
			return -XEN_ERANGE;
	}
	*s = p;
	*out = v;
	return 0;
}

int parse_size(const char **s, uint64_t *out)
{
	const char *p = *s;
	unsigned int shift = 0;
	uint64_t v;
	int rc = parse_u64(&p, &v);

	if (rc)
		return rc;
	switch (*p) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	default:
		break;
	}
	if (mul_overflows(v, 1ULL << shift, &v))
		return -XEN_ERANGE;
	*s = p + (shift ? 1 : 0);
	*out = v;
	return 0;
}

/* Where formatted text goes: pos counts on past the end of the buffer. */
struct sink {
	char *buf;
	size_t size;
	size_t pos;
};

/* One conversion: what stands between '%' and its letter. */
struct spec {
	bool left;
	bool zero;
	int width;
	int precision;		/* -1: none given */
	int length;		/* -2 hh, -1 h, 0 int, 1 long and wider */
};

static void put(struct sink *out, char c)
{
	if (out->pos + 1 < out->size)
		out->buf[out->pos] = c;
	out->pos++;
}

static void pad(struct sink *out, char c, int n)
{
	while (n-- > 0)
		put(out, c);
}

static void put_string(struct sink *out, const struct spec *sp, const char *s)
{
	size_t max = sp->precision < 0 ? SIZE_MAX : (size_t)sp->precision;
	int len;

	if (!s)
		s = "(null)";
	len = (int)strnlen(s, MIN(max, (size_t)INT32_MAX));
	if (!sp->left)
		pad(out, ' ', sp->width - len);
	for (int i = 0; i < len; i++)
		put(out, s[i]);
	if (sp->left)
		pad(out, ' ', sp->width - len);
}

static void put_number(struct sink *out, const struct spec *sp, uint64_t v, unsigned int base,
		       const char *prefix, bool upper)
{
	char digits[20];
	int nr = 0;
	int len;
	int zeros;

	do {
		unsigned int d = (unsigned int)(v % base);

		digits[nr++] = (char)(d < 10 ? '0' + d : (upper ? 'A' : 'a') + d - 10);
		v /= base;
	} while (v);
	len = (int)strlen(prefix) + nr;
	zeros = MAX(sp->precision - nr, 0);
	if (sp->zero && !sp->left && sp->precision < 0)
		zeros = MAX(sp->width - len, 0);
	if (!sp->left)
		pad(out, ' ', sp->width - len - zeros);
	while (*prefix)
		put(out, *prefix++);
	pad(out, '0', zeros);
	for (int i = nr; i > 0; i--)
		put(out, digits[i - 1]);
	if (sp->left)
		pad(out, ' ', sp->width - len - zeros);
}

/* Reads a width or precision: digits, or '*' for an argument. */
static const char *parse_count(const char *p, va_list *ap, int *out)
{
	int v = 0;

	if (*p == '*') {
		*out = va_arg(*ap, int);
		return p + 1;
	}
	for (; *p >= '0' && *p <= '9'; p++) {
		if (v < 10000)
			v = v * 10 + (*p - '0');
	}
	*out = v;
	return p;
}

static const char *parse_spec(const char *p, struct spec *sp, va_list *ap)
{
	*sp = (struct spec){ .precision = -1 };
	for (;; p++) {
		if (*p == '-')
			sp->left = true;
		else if (*p == '0')
			sp->zero = true;
		else
			break;
	}
	p = parse_count(p, ap, &sp->width);
	if (sp->width < 0) {
		sp->left = true;
		sp->width = -sp->width;
	}
	if (*p == '.')
		p = parse_count(p + 1, ap, &sp->precision);
	for (;; p++) {
		if (*p == 'l' || *p == 'z')
			sp->length = 1;
		else if (*p == 'h')
			sp->length--;
		else
			return p;
	}
}

static int64_t arg_signed(const struct spec *sp, va_list *ap)
{
	if (sp->length > 0)
		return va_arg(*ap, long);
	if (sp->length == -1)
		return (short)va_arg(*ap, int);
	if (sp->length < -1)
		return (signed char)va_arg(*ap, int);
	return va_arg(*ap, int);
}

static uint64_t arg_unsigned(const struct spec *sp, va_list *ap)
{
	if (sp->length > 0)
		return va_arg(*ap, unsigned long);
	if (sp->length == -1)
		return (unsigned short)va_arg(*ap, unsigned int);
	if (sp->length < -1)
		return (unsigned char)va_arg(*ap, unsigned int);
	return va_arg(*ap, unsigned int);
}

/* Prints one conversion; false when the letter is unknown. */
static bool put_conversion(struct sink *out, const struct spec *sp, char conv, va_list *ap)
{
	char one[2] = { 0, 0 };
	int64_t v;

	switch (conv) {
	case 'c':
		one[0] = (char)va_arg(*ap, int);
		put_string(out, sp, one);
		return true;
	case 's':
		put_string(out, sp, va_arg(*ap, const char *));
		return true;
	case 'd':
	case 'i':
		v = arg_signed(sp, ap);
		put_number(out, sp, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0 ? "-" : "",
			   false);
		return true;
	case 'u':
		put_number(out, sp, arg_unsigned(sp, ap), 10, "", false);
		return true;
	case 'x':
	case 'X':
		put_number(out, sp, arg_unsigned(sp, ap), 16, "", conv == 'X');
		return true;
	case 'p':
		put_number(out, sp, (uint64_t)(uintptr_t)va_arg(*ap, void *), 16, "0x", false);
		return true;
	case '%':
		put(out, '%');
		return true;
	default:
		return false;
	}
}

int hv_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct sink out = { .buf = buf, .size = size };
	va_list args;

	/* A copy, because the address of an array-typed parameter is not a va_list *. */
	va_copy(args, ap);
	while (*fmt) {
		const char *start = fmt;
		struct spec sp;

		if (*fmt != '%') {
			put(&out, *fmt++);
			continue;
		}
		fmt = parse_spec(fmt + 1, &sp, &args);
		if (*fmt && put_conversion(&out, &sp, *fmt, &args)) {
			fmt++;
			continue;
		}
		while (start < fmt)
			put(&out, *start++);
	}
	va_end(args);
	if (size)
		buf[MIN(out.pos, size - 1)] = '\0';
	return (int)out.pos;
}

int hv_snprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = hv_vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return len;
}
