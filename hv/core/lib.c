/* SPDX-License-Identifier: MIT */
/*
 * Strings, numbers and formatting for the hypervisor.
 */
#include "hospes/lib.h"

#include "hospes/abi.h"

/* The value of a digit in the given base, or -1. */
static int digit_value(char c, unsigned int base)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
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

/* Where formatted text goes: pos counts on past the end of the buffer. */
struct sink {
	char *buf;
	size_t size, pos;
};

/* One conversion: what stands between '%' and its letter. */
struct spec {
	bool left, zero, wide;
	int width, precision;	/* precision -1: none given */
};

static void put(struct sink *out, char c)
{
	if (out->pos + 1 < out->size)
		out->buf[out->pos] = c;
	out->pos++;
}

static void put_text(struct sink *out, const struct spec *sp, const char *s, int len)
{
	int gap = MAX(sp->width - len, 0);

	for (int i = 0; !sp->left && i < gap; i++)
		put(out, sp->zero ? '0' : ' ');
	for (int i = 0; i < len; i++)
		put(out, s[i]);
	for (int i = 0; sp->left && i < gap; i++)
		put(out, ' ');
}

static void put_number(struct sink *out, const struct spec *sp, uint64_t v, unsigned int base,
		       bool negative)
{
	char digits[21], *p = digits + sizeof(digits);

	do {
		*--p = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		*--p = '-';
	put_text(out, sp, p, (int)(digits + sizeof(digits) - p));
}

/* Reads what stands before the letter, to which it returns. */
static const char *parse_spec(const char *p, struct spec *sp, va_list *ap)
{
	*sp = (struct spec){ .precision = -1 };
	for (; *p == '-' || *p == '0'; p++)
		*(*p == '-' ? &sp->left : &sp->zero) = true;
	for (; *p >= '0' && *p <= '9'; p++)
		sp->width = MIN(sp->width, 1000) * 10 + (*p - '0');
	if (*p == '.' && p[1] == '*') {
		sp->precision = va_arg(*ap, int);
		p += 2;
	} else if (*p == '.') {
		for (sp->precision = 0, p++; *p >= '0' && *p <= '9'; p++)
			sp->precision = MIN(sp->precision, 1000) * 10 + (*p - '0');
	}
	for (; *p == 'l'; p++)
		sp->wide = true;
	return p;
}

/* Prints one conversion; false when the letter is unknown. */
static bool put_conversion(struct sink *out, const struct spec *sp, char conv, va_list *ap)
{
	const char *s;
	int64_t v;
	char c;

	switch (conv) {
	case 'c':
		c = (char)va_arg(*ap, int);
		put_text(out, sp, &c, 1);
		return true;
	case 's':
		s = va_arg(*ap, const char *);
		s = s ? s : "(null)";
		put_text(out, sp, s, (int)strnlen(s, sp->precision < 0 ? 1u << 30 :
						  (size_t)sp->precision));
		return true;
	case 'd':
		v = sp->wide ? va_arg(*ap, long) : va_arg(*ap, int);
		put_number(out, sp, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0);
		return true;
	case 'u':
	case 'x':
		put_number(out, sp, sp->wide ? va_arg(*ap, unsigned long) :
			   va_arg(*ap, unsigned int), conv == 'u' ? 10 : 16, false);
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

		if (*fmt++ == '%') {
			fmt = parse_spec(fmt, &sp, &args);
			if (put_conversion(&out, &sp, *fmt, &args))
				start = ++fmt;
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
