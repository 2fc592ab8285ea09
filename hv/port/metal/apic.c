/* SPDX-License-Identifier: MIT */
/*
 * Local APIC, in x2APIC mode where the CPU has it, and IO-APIC.
 *
 * Owns: the register windows, set up once by CPU 0. Each CPU uses its own
 * local APIC. Locks: chipset_lock for the IO-APICs' registers.
 */
#include "hospes/abi.h"
#include "hospes/cpu_insn.h"
#include "hospes/irq.h"
#include "hospes/log.h"
#include "port/metal/metal.h"

#define MSR_APIC_BASE 0x1b
#define APIC_BASE_X2APIC 0x400u
#define APIC_BASE_ENABLE 0x800u
#define MSR_X2APIC 0x800u

#define LVT_MASKED 0x10000u	/* in the IO-APIC's entries, too, which add: */
#define PIN_LOW 0x2000u
#define PIN_LEVEL 0x8000u
#define PIN_REMAPPED_HIGH 0x10000u	/* in the high half: what is above is an entry */
#define MSI_ADDRESS 0xfee00000u
#define MSI_REMAPPED (MSI_ADDRESS | 0x10u)	/* and the number of an entry */
#define LVT_NMI 0x400u
#define ICR_BUSY 0x1000u
#define DIVIDE_BY_1 0xbu
#define LEGACY_PIC_1 0x21
#define LEGACY_PIC_2 0xa1

static volatile uint32_t *lapic;		/* NULL in x2APIC mode */

static struct ioapic {
	struct port_ioapic info;
	volatile uint32_t *window;	/* [0] selects a register, [4] is its value */
} ioapics[MAX_IOAPICS];

uint64_t port_irq_cpus = 1;
static uint32_t own_gsi = UINT32_MAX;		/* the serial line's */

struct spinlock chipset_lock = SPINLOCK(LOCK_CHIPSET);

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

bool lapic_is_x2apic(void)
{
	return !lapic;
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

static uint32_t ioapic_read(const struct ioapic *io, uint32_t reg)
{
	io->window[0] = reg;
	return io->window[4];
}

static void ioapic_write(const struct ioapic *io, uint32_t reg, uint32_t v)
{
	io->window[0] = reg;
	io->window[4] = v;
}

bool lapic_owns(paddr_t pa)
{
	bool owned = pa >> 20 == MSI_ADDRESS >> 20;	/* the pages above take messages */

	for (unsigned int i = 0; i < acpi.nr_ioapics; i++)
		owned |= pa >> PAGE_SHIFT == acpi.ioapic[i].address >> PAGE_SHIFT;
	return owned;
}

/* Changes bits of the low half of an entry. */
static void change_pin(const struct ioapic *io, uint32_t pin, uint32_t clear, uint32_t set)
{
	uint32_t low = ioapic_read(io, 0x10 + 2 * pin);

	io->window[4] = (low & ~clear) | set;
}

/* NULL: no IO-APIC has it. */
static const struct ioapic *ioapic_of(uint32_t gsi)
{
	for (const struct ioapic *io = ioapics; io < &ioapics[MAX_IOAPICS]; io++) {
		if (gsi - io->info.gsi_base < io->info.pins)
			return io;
	}
	return NULL;
}

/* Sends @gsi to a CPU; @how: PIN_* and LVT_MASKED. */
static int route(uint32_t gsi, unsigned int cpu_nr, uint8_t vector, uint32_t how)
{
	const struct ioapic *io = ioapic_of(gsi);
	uint32_t pin, to = cpus[cpu_nr]->apic_id << 24;
	int entry;

	if (!io)
		return -XEN_ENODEV;
	pin = gsi - io->info.gsi_base;
	entry = iommu_remap(cpu_nr, cpus[cpu_nr]->apic_id, vector,
			    (uint16_t)iommu_ioapic_rid(io->info.id), how & PIN_LEVEL);
	if (entry >= 0)
		to = (uint32_t)entry << 17 | PIN_REMAPPED_HIGH;
	spin_lock(&chipset_lock);
	change_pin(io, pin, 0, LVT_MASKED);
	ioapic_write(io, 0x11 + 2 * pin, to);
	ioapic_write(io, 0x10 + 2 * pin, vector | how);
	spin_unlock(&chipset_lock);
	return 0;
}

void isa_irq_enable(unsigned int irq, uint8_t vector)
{
	uint32_t flags = acpi.isa_irq[irq].flags;

	own_gsi = acpi.isa_irq[irq].gsi;
	if (route(own_gsi, 0, vector, ((flags & 3) == 3 ? PIN_LOW : 0) |
		  ((flags >> 2 & 3) == 3 ? PIN_LEVEL : 0)))
		log_warn("no IO-APIC takes interrupt %u", own_gsi);
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
		paddr_t base = acpi.ioapic[i].address;

		io->window = map_device(base, 0x20);
		io->info = (struct port_ioapic){
			.base = base, .gsi_base = acpi.ioapic[i].gsi_base,
			.id = ioapic_read(io, 0) >> 24 & 0xf,
			.version = ioapic_read(io, 1) & 0xff,
			.pins = (ioapic_read(io, 1) >> 16 & 0xff) + 1 };
		for (uint32_t pin = 0; pin < io->info.pins; pin++)
			ioapic_write(io, 0x10 + 2 * pin, LVT_MASKED);
	}
	lapic_enable();
	boot_cpu.apic_id = lapic_read(LAPIC_ID) >> (lapic ? 24 : 0);
	log_info("local APIC in %s mode, %u IO-APIC%s", lapic ? "xAPIC" : "x2APIC",
		 acpi.nr_ioapics, acpi.nr_ioapics == 1 ? "" : "s");
}

/* --- port.h --- */

const struct port_ioapic *port_ioapic(unsigned int nr)
{
	return nr < acpi.nr_ioapics ? &ioapics[nr].info : NULL;
}

int port_gsi_route(uint32_t gsi, const struct irq *irq, bool level, bool active_low)
{
	if (gsi == own_gsi)
		return -XEN_EBUSY;
	return route(gsi, irq->cpu, irq->vector, LVT_MASKED |
		     (level ? PIN_LEVEL : 0) | (active_low ? PIN_LOW : 0));
}

void port_gsi_mask(uint32_t gsi, bool masked)
{
	const struct ioapic *io = ioapic_of(gsi);

	spin_lock(&chipset_lock);
	change_pin(io, gsi - io->info.gsi_base, LVT_MASKED, masked ? LVT_MASKED : 0);
	spin_unlock(&chipset_lock);
}

int port_msi_message(const struct irq *irq, uint32_t sbdf, struct msi_message *m)
{
	uint32_t apic_id = cpus[irq->cpu]->apic_id;
	int entry = iommu_remap(irq->cpu, apic_id, irq->vector, (uint16_t)sbdf, false);

	*m = entry < 0 ? (struct msi_message){ MSI_ADDRESS | apic_id << 12, irq->vector } :
			 (struct msi_message){ MSI_REMAPPED | (uint32_t)entry << 5, 0 };
	return 0;
}
