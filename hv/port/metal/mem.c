/* SPDX-License-Identifier: MIT */
/*
 * Memory functions with the string instructions: no loop in C is as short
 * or, on large areas, as fast. The compiler may call them for struct copies.
 */
#include "hospes/lib.h"

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	void *d = dst;
	size_t words = n / 8;

	__asm__ volatile("rep movsq; mov %3, %%ecx; rep movsb"
			 : "+D"(d), "+S"(src), "+c"(words) : "r"((uint32_t)n & 7) : "memory");
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;
	size_t words = n / 8;

	__asm__ volatile("rep stosq; mov %3, %%ecx; rep stosb"
			 : "+D"(d), "+c"(words)
			 : "a"((uint8_t)c * 0x0101010101010101ULL), "r"((uint32_t)n & 7)
			 : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	void *d = (uint8_t *)dst + n - 1;
	const void *s = (const uint8_t *)src + n - 1;

	if ((uint64_t)dst - (uint64_t)src >= n)
		return memcpy(dst, src, n);
	__asm__ volatile("std; rep movsb; cld" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n--; x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}
