/* SPDX-License-Identifier: MIT */
/*
 * Local APIC, in x2APIC mode where the CPU has it, and IO-APIC.
 *
 * Owns: the register windows, set up once by CPU 0. Each CPU uses its own
 * local APIC; the IO-APICs are touched during boot only.
 */
#include "hospes/cpu_insn.h"
#include "hospes/log.h"
#include "port/metal/metal.h"

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_X2APIC 0x400u
#define APIC_BASE_ENABLE 0x800u
#define MSR_X2APIC 0x800u

#define LVT_MASKED 0x10000u
#define LVT_NMI 0x400u
#define ICR_BUSY 0x1000u
#define DIVIDE_BY_1 0xbu
#define LEGACY_PIC_1 0x21
#define LEGACY_PIC_2 0xa1

static volatile uint32_t *lapic;		/* NULL in x2APIC mode */

static struct ioapic {
	volatile uint32_t *window;	/* [0] selects a register, [4] is its value */
	uint32_t gsi_base, entries;
} ioapics[MAX_IOAPICS];

uint32_t lapic_read(unsigned int reg)
{
	return lapic ? lapic[reg / 4] : (uint32_t)insn_rdmsr(MSR_X2APIC + reg / 16);
}

void lapic_write(unsigned int reg, uint32_t v)
{
	if (!lapic)
		insn_wrmsr(MSR_X2APIC + reg / 16, v);
	else
		lapic[reg / 4] = v;
}

void lapic_send(uint32_t apic_id, uint32_t icr)
{
	if (!lapic) {
		insn_wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (uint64_t)apic_id << 32 | icr);
		return;
	}
	if (apic_id >= 0xff)		/* it would go to another CPU, or to all */
		return;
	while (lapic_read(LAPIC_ICR) & ICR_BUSY)
		port_relax();
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR, icr);
}

void lapic_enable(void)
{
	uint64_t base = insn_rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;

	/* Into x2APIC mode only from the other one. */
	insn_wrmsr(MSR_APIC_BASE, base);
	if (!lapic)
		insn_wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_SVR, 0x100 | VECTOR_SPURIOUS);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
	lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
	lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
}

static void ioapic_write(const struct ioapic *io, uint32_t reg, uint32_t v)
{
	io->window[0] = reg;
	io->window[4] = v;
}

bool lapic_owns(paddr_t pa)
{
	bool owned = pa >> PAGE_SHIFT == insn_rdmsr(MSR_APIC_BASE) >> PAGE_SHIFT;

	for (unsigned int i = 0; i < acpi.nr_ioapics; i++)
		owned |= pa >> PAGE_SHIFT == acpi.ioapic[i].address >> PAGE_SHIFT;
	return owned;
}

void isa_irq_enable(unsigned int irq, uint8_t vector)
{
	uint32_t gsi = acpi.isa_irq[irq].gsi, flags = acpi.isa_irq[irq].flags;
	uint32_t low = vector | ((flags & 3) == 3 ? 1u << 13 : 0) |
		       ((flags >> 2 & 3) == 3 ? 1u << 15 : 0);

	for (const struct ioapic *io = ioapics; io < &ioapics[MAX_IOAPICS]; io++) {
		uint32_t pin = gsi - io->gsi_base;

		if (pin >= io->entries)
			continue;
		ioapic_write(io, 0x11 + 2 * pin, boot_cpu.apic_id << 24);
		ioapic_write(io, 0x10 + 2 * pin, low);
		return;
	}
	log_warn("no IO-APIC takes interrupt %u", gsi);
}

void apic_init(void)
{
	uint32_t regs[4];

	outb(LEGACY_PIC_1, 0xff);
	outb(LEGACY_PIC_2, 0xff);
	insn_cpuid(1, 0, regs);
	if (!(regs[CPUID_ECX] & (1u << 21)))
		lapic = map_device(insn_rdmsr(MSR_APIC_BASE) & PAGE_MASK, PAGE_SIZE);
	for (unsigned int i = 0; i < acpi.nr_ioapics; i++) {
		struct ioapic *io = &ioapics[i];

		io->window = map_device(acpi.ioapic[i].address, 0x20);
		io->gsi_base = acpi.ioapic[i].gsi_base;
		io->window[0] = 1;
		io->entries = (io->window[4] >> 16 & 0xff) + 1;
		for (uint32_t pin = 0; pin < io->entries; pin++)
			ioapic_write(io, 0x10 + 2 * pin, LVT_MASKED);
	}
	lapic_enable();
	boot_cpu.apic_id = lapic_read(LAPIC_ID) >> (lapic ? 24 : 0);
	log_info("local APIC in %s mode, %u IO-APIC%s", lapic ? "xAPIC" : "x2APIC",
		 acpi.nr_ioapics, acpi.nr_ioapics == 1 ? "" : "s");
}
