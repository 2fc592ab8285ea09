/* SPDX-License-Identifier: MIT */
/*
 * Fake instructions: CPUID and MSRs as tables, control and debug registers
 * and the XSAVE state as plain memory per CPU. See testport.h.
 */
#include "port/testport.h"

#include <stdlib.h>
#include <string.h>

#include "hospes/cpu_insn.h"

#define ANY_SUBLEAF UINT32_MAX
#define MSR_EFER 0xc0000080u

struct cpuid_row {
	uint32_t leaf, subleaf, regs[4];
};

/* A server of the Zen 3 generation, as far as a hypervisor looks. */
static const struct cpuid_row cpuid_default[] = {
	{ 0x0, ANY_SUBLEAF, { 0x10, 0x68747541, 0x444d4163, 0x69746e65 } },
	{ 0x1, ANY_SUBLEAF, { 0x00a20f10, 0x00040800, 0x7ed8320b, 0x178bfbff } },
	{ 0x5, ANY_SUBLEAF, { 0x40, 0x40, 0x3, 0x11 } },
	{ 0x6, ANY_SUBLEAF, { 0x4, 0, 0x1, 0 } },
	{ 0x7, 0, { 0, 0x219c97a9, 0x0040068c, 0x00000010 } },
	{ 0xd, 0, { 0x7, 0x340, 0x340, 0 } },
	{ 0xd, 1, { 0x7, 0x340, 0, 0 } },
	{ 0xd, 2, { 0x100, 0x240, 0, 0 } },
	{ 0x80000000, ANY_SUBLEAF, { 0x80000021, 0x68747541, 0x444d4163, 0x69746e65 } },
	{ 0x80000001, ANY_SUBLEAF, { 0x00a20f10, 0x20000000, 0x75c237ff, 0x2fd3fbff } },
	{ 0x80000002, ANY_SUBLEAF, { 0x74736554, 0x55504320, 0, 0 } },
	{ 0x80000005, ANY_SUBLEAF, { 0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140 } },
	{ 0x80000006, ANY_SUBLEAF, { 0x48002200, 0x68004200, 0x02006140, 0x01009140 } },
	{ 0x80000007, ANY_SUBLEAF, { 0, 0x3b, 0, 0x6799 } },
	{ 0x80000008, ANY_SUBLEAF, { 0x3030, 0x111ef657, 0x6007, 0x10000 } },
	{ 0x8000000a, ANY_SUBLEAF, { 0x1, 0x8000, 0, 0x119b9cff } },
	{ 0x8000001e, ANY_SUBLEAF, { 0, 0x100, 0, 0 } },
	{ 0x80000021, ANY_SUBLEAF, { 0x4d, 0, 0, 0 } },
};

static const struct { uint32_t msr; uint64_t value; } msr_default[] = {
	{ 0x10, 0 },			/* TSC */
	{ 0x1b, 0xfee00900 },		/* APIC base */
	{ 0x48, 0 },			/* SPEC_CTRL */
	{ 0x49, 0 },			/* PRED_CMD */
	{ 0xfe, 0x508 },		/* MTRR capabilities */
	{ 0x174, 0 }, { 0x175, 0 }, { 0x176, 0 },
	{ 0x277, 0x0007040600070406ULL },
	{ 0x2ff, 0xc00 },
	{ 0xda0, 0 },			/* XSS */
	{ MSR_EFER, 0xd01 },
	{ 0xc0000081, 0 }, { 0xc0000082, 0 }, { 0xc0000083, 0 }, { 0xc0000084, 0 },
	{ 0xc0000100, 0 }, { 0xc0000101, 0 }, { 0xc0000102, 0 }, { 0xc0000103, 0 },
	{ 0xc001001f, 0 },		/* NB_CFG */
	{ 0xc0010010, 0x740000 },	/* SYSCFG */
	{ 0xc0010015, 0x9000011 },	/* HWCR */
	{ 0xc0010114, 0 },		/* VM_CR */
	{ 0xc0010117, 0 },		/* VM_HSAVE_PA */
	{ 0xc001011f, 0 },		/* VIRT_SPEC_CTRL */
	{ 0xc0011029, 0x3000310e08002ULL }, /* DE_CFG */
};

#define MAX_ROWS 128

static struct cpuid_row cpuid_rows[MAX_ROWS];
static unsigned int nr_cpuid_rows;
static struct { uint32_t msr; bool present; uint64_t value; } msr_rows[MAX_ROWS];
static unsigned int nr_msr_rows;

static struct {
	uint64_t cr4, xcr0, dr[4];
	uint8_t xstate[TEST_XSTATE_SIZE];
} cpu_regs[MAX_PCPUS];

static unsigned int here(void)
{
	return port_this_pcpu() ? port_this_pcpu()->cpu_id : 0;
}

void test_insn_reset(void)
{
	memset(cpu_regs, 0, sizeof(cpu_regs));
	nr_cpuid_rows = ARRAY_SIZE(cpuid_default);
	memcpy(cpuid_rows, cpuid_default, sizeof(cpuid_default));
	nr_msr_rows = 0;
	for (size_t i = 0; i < ARRAY_SIZE(msr_default); i++)
		test_msr_set(msr_default[i].msr, msr_default[i].value, true);
	for (unsigned int i = 0; i < MAX_PCPUS; i++) {
		cpu_regs[i].cr4 = 0x3506f0;
		cpu_regs[i].xcr0 = 7;
	}
}

void test_cpuid_set(uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
		    uint32_t edx)
{
	struct cpuid_row row = { leaf, subleaf, { eax, ebx, ecx, edx } };
	unsigned int i;

	for (i = 0; i < nr_cpuid_rows; i++) {
		if (cpuid_rows[i].leaf == leaf && cpuid_rows[i].subleaf == subleaf)
			break;
	}
	if (i == MAX_ROWS)
		abort();
	cpuid_rows[i] = row;
	nr_cpuid_rows = MAX(nr_cpuid_rows, i + 1);
}

void insn_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	memset(regs, 0, 4 * sizeof(regs[0]));
	for (unsigned int i = 0; i < nr_cpuid_rows; i++) {
		const struct cpuid_row *r = &cpuid_rows[i];

		if (r->leaf == leaf && (r->subleaf == subleaf || r->subleaf == ANY_SUBLEAF))
			memcpy(regs, r->regs, sizeof(r->regs));
	}
}

void test_msr_set(uint32_t msr, uint64_t value, bool present)
{
	unsigned int i;

	for (i = 0; i < nr_msr_rows && msr_rows[i].msr != msr; i++)
		;
	if (i == MAX_ROWS)
		abort();
	msr_rows[i].msr = msr;
	msr_rows[i].value = value;
	msr_rows[i].present = present;
	nr_msr_rows = MAX(nr_msr_rows, i + 1);
}

bool insn_rdmsr_safe(uint32_t msr, uint64_t *value)
{
	for (unsigned int i = 0; i < nr_msr_rows; i++) {
		if (msr_rows[i].msr == msr && msr_rows[i].present) {
			*value = msr == 0x10 ? port_tsc() : msr_rows[i].value;
			return true;
		}
	}
	return false;
}

bool insn_wrmsr_safe(uint32_t msr, uint64_t value)
{
	uint64_t old;

	if (!insn_rdmsr_safe(msr, &old))
		return false;
	test_msr_set(msr, value, true);
	return true;
}

uint64_t insn_rdmsr(uint32_t msr)
{
	uint64_t value = 0;

	if (!insn_rdmsr_safe(msr, &value))
		panic("rdmsr %#x", msr);
	return value;
}

void insn_wrmsr(uint32_t msr, uint64_t value)
{
	if (!insn_wrmsr_safe(msr, value))
		panic("wrmsr %#x", msr);
}

uint8_t *test_xstate(unsigned int nr)
{
	return cpu_regs[nr].xstate;
}

uint64_t insn_xgetbv(uint32_t xcr)
{
	return xcr ? 0 : cpu_regs[here()].xcr0;
}

void insn_xsetbv(uint32_t xcr, uint64_t value)
{
	if (xcr)
		panic("xsetbv %u", xcr);
	cpu_regs[here()].xcr0 = value;
}

/* Components are not told apart: the whole state goes out and in. */
void insn_xsave(void *area, uint64_t mask)
{
	(void)mask;
	memcpy(area, cpu_regs[here()].xstate, TEST_XSTATE_SIZE);
}

void insn_xrstor(const void *area, uint64_t mask)
{
	(void)mask;
	memcpy(cpu_regs[here()].xstate, area, TEST_XSTATE_SIZE);
}

uint64_t insn_read_cr4(void) { return cpu_regs[here()].cr4; }
void insn_write_cr4(uint64_t value) { cpu_regs[here()].cr4 = value; }
void insn_read_drs(uint64_t dr[4]) { memcpy(dr, cpu_regs[here()].dr, sizeof(cpu_regs[0].dr)); }
void insn_write_drs(const uint64_t dr[4])
{
	memcpy(cpu_regs[here()].dr, dr, sizeof(cpu_regs[0].dr));
}
void insn_vmsave(paddr_t vmcb) { (void)vmcb; }
