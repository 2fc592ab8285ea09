/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own small C library: what core and x86 may use instead of
 * libc. Any context, no locks. Strings are the hypervisor's own unless a
 * comment says otherwise; guest memory is read through copy functions only.
 */
#ifndef HOSPES_LIB_H
#define HOSPES_LIB_H

#include <stdarg.h>

#include "hospes/types.h"

/* As in ISO C. Hosted builds take them from libc: core/str.c and the port's mem.c are left out. */
void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

/*
 * Reads an unsigned number, decimal or 0x-prefixed hexadecimal, at *s and
 * moves *s behind it. Input may come from a boot loader. Returns -XEN_EINVAL
 * when there is no digit, -XEN_ERANGE above 64 bits; *s and *out are then as before.
 */
int __must_check parse_u64(const char **s, uint64_t *out);

/*
 * Formats like C's snprintf: flags - and 0 (0 not before a negative number),
 * width, precision of strings (also *), lengths l ll, conversions c s d u x %.
 * Never writes more than size bytes and terminates when size > 0. Returns the
 * untruncated length. An unknown conversion is copied as it stands. %s of NULL
 * prints "(null)".
 */
int hv_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap) __printf(3, 0);
int hv_snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);

/* Index of the lowest/highest set bit; -1 when there is none. */
static inline int ffs64(uint64_t v)
{
	return v ? __builtin_ctzll(v) : -1;
}

static inline int fls64(uint64_t v)
{
	return v ? 63 - __builtin_clzll(v) : -1;
}

/* True when the result does not fit 64 bits; *out is then meaningless. */
static inline bool __must_check add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_add_overflow(a, b, out);
}

static inline bool __must_check mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_mul_overflow(a, b, out);
}

/* Does [start, start + len) lie within [0, limit)? Correct for every input. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t limit)
{
	return start <= limit && len <= limit - start;
}

/* Reads or writes a shared location exactly once, with no ordering. */
#define read_once(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define write_once(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)

/*
 * @i when it is below @n, else 0, without a branch: a CPU that guesses past
 * the caller's bounds check stays inside the table. Both below 2^63.
 */
static inline uint64_t index_nospec(uint64_t i, uint64_t n)
{
	/* Through memory, so that the compiler cannot know what the caller checked. */
	uint64_t limit = read_once(n);

	return i & (uint64_t)((int64_t)(i - limit) >> 63);
}

#endif
