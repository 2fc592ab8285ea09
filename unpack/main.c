/* SPDX-License-Identifier: MIT */
/*
 * The unpacker as a program: no libc, no interrupts, identity-mapped.
 */
#include "unpack/unpack.h"

#include "hospes/lib.h"

#define DEBUG_PORT 0xe9
#define HYPERCALL_SCHED_OP 29
#define SHUTDOWN 2
#define REASON_CRASH 3

uint32_t unpack_main(const uint8_t *payload, size_t size);

void *memmove(void *dst, const void *src, size_t n)
{
	void *d = dst;
	size_t words = n / 8, rest = n % 8;

	/* Downwards only: all that place_segments() needs. */
	__asm__ volatile("rep movsq; mov %3, %%rcx; rep movsb"
			 : "+D"(d), "+S"(src), "+c"(words) : "r"(rest) : "memory");
	return dst;
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	return memmove(dst, src, n);
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n; n--, x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}

static void say(const char *text)
{
	for (; *text; text++)
		__asm__ volatile("outb %0, %w1" : : "a"(*text), "Nd"(DEBUG_PORT));
}

/* Ends the guest with a crash. */
static void __noreturn give_up(void)
{
	static const uint32_t reason = REASON_CRASH;

	for (;;) {
		uint64_t rax = HYPERCALL_SCHED_OP;

		__asm__ volatile("vmmcall" : "+a"(rax) : "D"(SHUTDOWN), "S"(&reason) : "memory");
	}
}

/* Where the kernel is entered. */
uint32_t unpack_main(const uint8_t *payload, size_t size)
{
	uint32_t entry;
	const char *error = unpack_kernel(payload, size, NULL, (uintptr_t)payload, &entry);

	if (!error)
		return entry;
	say("unpacker: kernel not started: ");
	say(error);
	say("\n");
	give_up();
}
