/* SPDX-License-Identifier: MIT */
/*
 * Memory functions in plain C, for freestanding builds. The compiler may call
 * them for struct copies. A port with faster ones simply defines them: this
 * file is linked from an archive.
 */
#include "hospes/lib.h"

/* Words first: counted in instructions bytes cost eight times as much. */
typedef uint64_t __attribute__((aligned(1), may_alias)) word_t;

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	for (; n >= 64; n -= 64, d += 64, s += 64) {
		word_t *to = (word_t *)(void *)d;
		const word_t *from = (const word_t *)(const void *)s;

		to[0] = from[0];
		to[1] = from[1];
		to[2] = from[2];
		to[3] = from[3];
		to[4] = from[4];
		to[5] = from[5];
		to[6] = from[6];
		to[7] = from[7];
	}
	for (; n >= 8; n -= 8, d += 8, s += 8)
		*(word_t *)(void *)d = *(const word_t *)(const void *)s;
	while (n--)
		*d++ = *s++;
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	if ((uintptr_t)d <= (uintptr_t)s) {
		while (n--)
			*d++ = *s++;
	} else {
		while (n--)
			d[n] = s[n];
	}
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	uint64_t fill = 0x0101010101010101ULL * (uint8_t)c;
	uint8_t *d = dst;

	for (; n >= 128; n -= 128, d += 128) {
		word_t *to = (word_t *)(void *)d;

		to[0] = to[1] = to[2] = to[3] = fill;
		to[4] = to[5] = to[6] = to[7] = fill;
		to[8] = to[9] = to[10] = to[11] = fill;
		to[12] = to[13] = to[14] = to[15] = fill;
	}
	for (; n >= 8; n -= 8, d += 8)
		*(word_t *)(void *)d = fill;
	while (n--)
		*d++ = (uint8_t)c;
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a;
	const uint8_t *y = b;

	for (; n--; x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}
