/* SPDX-License-Identifier: MIT */
/*
 * The instructions of cpu_insn.h, and memory functions that use the string
 * instructions: no loop in C is as short or, on large areas, as fast.
 */
#include "hospes/cpu_insn.h"

#include "hospes/lib.h"

/* Where trap_handler() goes on when the instruction at "1" raises #GP. */
#define FIXUP(to) ".pushsection .fixup, \"a\"; .quad 1b, " to "; .popsection"

#define SPLIT(v) "a"((uint32_t)(v)), "d"((uint32_t)((v) >> 32))

uint64_t insn_rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

void insn_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), SPLIT(value) : "memory");
}

bool insn_rdmsr_safe(uint32_t msr, uint64_t *value)
{
	uint32_t lo = 0, hi = 0;
	bool ok = false;

	__asm__ volatile("1: rdmsr; movb $1, %0; 2:" FIXUP("2b")
			 : "+q"(ok), "+a"(lo), "+d"(hi) : "c"(msr));
	*value = (uint64_t)hi << 32 | lo;
	return ok;
}

bool insn_wrmsr_safe(uint32_t msr, uint64_t value)
{
	bool ok = false;

	__asm__ volatile("1: wrmsr; movb $1, %0; 2:" FIXUP("2b")
			 : "+q"(ok) : "c"(msr), SPLIT(value) : "memory");
	return ok;
}

void insn_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
			 : "a"(leaf), "c"(subleaf));
}

uint64_t insn_xgetbv(uint32_t xcr)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(xcr));
	return (uint64_t)hi << 32 | lo;
}

void insn_xsetbv(uint32_t xcr, uint64_t value)
{
	__asm__ volatile("xsetbv" : : "c"(xcr), SPLIT(value));
}

void insn_xsave(void *area, uint64_t mask)
{
	__asm__ volatile("xsave64 (%0)" : : "r"(area), SPLIT(mask) : "memory");
}

void insn_xsaveopt(void *area, uint64_t mask)
{
	__asm__ volatile("xsaveopt64 (%0)" : : "r"(area), SPLIT(mask) : "memory");
}

void insn_xrstor(const void *area, uint64_t mask)
{
	__asm__ volatile("xrstor64 (%0)" : : "r"(area), SPLIT(mask) : "memory");
}

void insn_fxsave(void *area)
{
	__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

void insn_fxrstor(const void *area)
{
	__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

#define READER(name, reg)						\
	uint64_t insn_read_##name(void)					\
	{								\
		uint64_t v;						\
									\
		__asm__ volatile("mov %%" reg ", %0" : "=r"(v));	\
		return v;						\
	}

#define WRITER(name, reg)						\
	void insn_write_##name(uint64_t v)				\
	{								\
		__asm__ volatile("mov %0, %%" reg : : "r"(v) : "memory"); \
	}

READER(cr0, "cr0")
WRITER(cr0, "cr0")
READER(cr2, "cr2")
WRITER(cr2, "cr2")
READER(cr3, "cr3")
READER(cr4, "cr4")
WRITER(cr4, "cr4")

#define FOR_EACH_DR(op) op(0) op(1) op(2) op(3) op(6) op(7)

uint64_t insn_read_dr(unsigned int nr)
{
	uint64_t v = 0;

#define READ(n)	if (nr == n) __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v));
	FOR_EACH_DR(READ)
	return v;
}

void insn_write_dr(unsigned int nr, uint64_t v)
{
#define WRITE(n) if (nr == n) __asm__ volatile("mov %0, %%dr" #n : : "r"(v));
	FOR_EACH_DR(WRITE)
}

void insn_invlpg(const void *va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

void insn_wbinvd(void)
{
	__asm__ volatile("wbinvd" : : : "memory");
}

void insn_clgi(void)
{
	__asm__ volatile("clgi" : : : "memory");
}

void insn_stgi(void)
{
	__asm__ volatile("stgi" : : : "memory");
}

void insn_vmsave(paddr_t vmcb)
{
	__asm__ volatile("vmsave %%rax" : : "a"(vmcb) : "memory");
}

void insn_vmload(paddr_t vmcb)
{
	__asm__ volatile("vmload %%rax" : : "a"(vmcb) : "memory");
}

void insn_invlpga(uint64_t va, uint32_t asid)
{
	__asm__ volatile("invlpga %%rax, %%ecx" : : "a"(va), "c"(asid) : "memory");
}

/* --- Memory --------------------------------------------------------------- */

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
	const uint8_t *x = a;
	const uint8_t *y = b;

	for (; n--; x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}
