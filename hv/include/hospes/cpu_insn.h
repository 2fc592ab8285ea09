/* SPDX-License-Identifier: MIT */
/*
 * Instructions that C cannot say, for hv/x86 and its vendor parts. The metal
 * port gives the real ones, the test port fakes with a table of MSRs.
 *
 * All of them act on the physical CPU that calls; none takes a lock.
 */
#ifndef HOSPES_CPU_INSN_H
#define HOSPES_CPU_INSN_H

#include "hospes/types.h"

/* Model-specific registers. The plain ones panic when the CPU has no such MSR. */
uint64_t insn_rdmsr(uint32_t msr);
void insn_wrmsr(uint32_t msr, uint64_t value);

/* The same for probing: false when the CPU answered with #GP. */
__must_check bool insn_rdmsr_safe(uint32_t msr, uint64_t *value);
__must_check bool insn_wrmsr_safe(uint32_t msr, uint64_t value);

/* regs: EAX, EBX, ECX, EDX. */
enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };
void insn_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);

/* Extended states. The area is 64-byte aligned and large enough for @mask. */
uint64_t insn_xgetbv(uint32_t xcr);
void insn_xsetbv(uint32_t xcr, uint64_t value);
void insn_xsave(void *area, uint64_t mask);
void insn_xrstor(const void *area, uint64_t mask);

uint64_t insn_read_cr0(void);
uint64_t insn_read_cr2(void);
uint64_t insn_read_cr3(void);
uint64_t insn_read_cr4(void);
void insn_write_cr4(uint64_t value);

/* DR0 to DR3. */
void insn_read_drs(uint64_t dr[4]);
void insn_write_drs(const uint64_t dr[4]);

/* AMD-V. Valid only once EFER.SVME is set here. @vmcb is 4 KiB aligned. */
void insn_vmsave(paddr_t vmcb);

#endif
