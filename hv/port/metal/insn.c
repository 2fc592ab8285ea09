/* SPDX-License-Identifier: MIT */
/*
 * The instructions of cpu_insn.h.
 */
#include "hospes/cpu_insn.h"

/* Where trap_handler() goes on when the instruction at "1" raises #GP. */
#define FIXUP ".pushsection .fixup, \"a\"; .quad 1b, 2b; .popsection"

/* A 64-bit value the way most of them take it and give it. */
#define SPLIT(v) "a"((uint32_t)(v)), "d"((uint32_t)((v) >> 32))
#define JOIN(lo, hi) ((uint64_t)(hi) << 32 | (lo))

/* A function that is one instruction: its operands, or what it returns in EDX:EAX or RAX. */
#define INSN(function, text, ...)						\
	void function { __asm__ volatile(text : : __VA_ARGS__ : "memory"); }
#define INSN_EDX_EAX(function, text, ...)					\
	uint64_t function							\
	{									\
		uint32_t lo, hi;						\
		__asm__ volatile(text : "=a"(lo), "=d"(hi) : __VA_ARGS__);	\
		return JOIN(lo, hi);						\
	}
#define INSN_RAX(function, text)						\
	uint64_t function							\
	{									\
		uint64_t v;							\
		__asm__ volatile(text : "=a"(v));				\
		return v;							\
	}

INSN_EDX_EAX(insn_rdmsr(uint32_t msr), "rdmsr", "c"(msr))
INSN(insn_wrmsr(uint32_t msr, uint64_t v), "wrmsr", "c"(msr), SPLIT(v))

INSN_EDX_EAX(insn_xgetbv(uint32_t xcr), "xgetbv", "c"(xcr))
INSN(insn_xsetbv(uint32_t xcr, uint64_t v), "xsetbv", "c"(xcr), SPLIT(v))
INSN(insn_xsave(void *area, uint64_t mask), "xsave64 (%0)", "r"(area), SPLIT(mask))
INSN(insn_xrstor(const void *area, uint64_t mask), "xrstor64 (%0)", "r"(area), SPLIT(mask))

INSN_RAX(insn_read_cr0(void), "mov %%cr0, %0")
INSN_RAX(insn_read_cr2(void), "mov %%cr2, %0")
INSN_RAX(insn_read_cr3(void), "mov %%cr3, %0")
INSN_RAX(insn_read_cr4(void), "mov %%cr4, %0")
INSN(insn_write_cr4(uint64_t v), "mov %0, %%cr4", "r"(v))

INSN(insn_vmsave(paddr_t vmcb), "vmsave %%rax", "a"(vmcb))

bool insn_rdmsr_safe(uint32_t msr, uint64_t *value)
{
	uint32_t lo = 0, hi = 0;
	bool ok = false;

	__asm__ volatile("1: rdmsr; movb $1, %0; 2:" FIXUP
			 : "+q"(ok), "+a"(lo), "+d"(hi) : "c"(msr));
	*value = JOIN(lo, hi);
	return ok;
}

bool insn_wrmsr_safe(uint32_t msr, uint64_t v)
{
	bool ok = false;

	__asm__ volatile("1: wrmsr; movb $1, %0; 2:" FIXUP
			 : "+q"(ok) : "c"(msr), SPLIT(v) : "memory");
	return ok;
}

void insn_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
			 : "a"(leaf), "c"(subleaf));
}

#define FOR_EACH_DR(op) op(0) op(1) op(2) op(3)
#define READ_DR(n) __asm__ volatile("mov %%dr" #n ", %0" : "=r"(dr[n]));
#define WRITE_DR(n) __asm__ volatile("mov %0, %%dr" #n : : "r"(dr[n]));

void insn_read_drs(uint64_t dr[4])
{
	FOR_EACH_DR(READ_DR)
}

void insn_write_drs(const uint64_t dr[4])
{
	FOR_EACH_DR(WRITE_DR)
}
