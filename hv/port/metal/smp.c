/* SPDX-License-Identifier: MIT */
/*
 * Physical CPUs: their private tables and stacks, starting them, kicking them.
 *
 * Owns: cpus[], written by CPU 0 during boot.
 */
#include "hospes/cmdline.h"
#include "hospes/cpu_insn.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/page.h"
#include "port/metal/metal.h"

#define MSR_GS_BASE 0xc0000101
#define SELECTOR_TSS 0x18
#define GUARDS_END 9		/* page of a slot: above it lies the main stack */
#define TSC_ROUNDS 20
#define START_TRIES 100000u	/* times 10 us: until a CPU is given up */

#define CR4_BASE 0x660u		/* PAE, MCE, OSFXSR, OSXMMEXCPT */
#define CR4_UMIP (1u << 11)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)

#define APIC_ID_REACH 0xffu	/* ids that a message of a device can hold lie below */

struct cpu boot_cpu;
struct cpu *cpus[MAX_PCPUS];
uint64_t ap_stack;

static unsigned int nr_cpus = 1;
static struct cpu *starting;		/* the next CPU to start, ready but for its ID */
static atomic_bool released;

static struct {
	atomic_uint turn;
	uint64_t last, warp;		/* of the CPU whose turn it is */
} tsc_check;

/* --- Tables and stacks --- */

static uint64_t cr4_value(void)
{
	uint32_t leaf7[4];

	insn_cpuid(7, 0, leaf7);
	return CR4_BASE | (leaf7[CPUID_EBX] & (1u << 7) ? CR4_SMEP : 0) |
	       (leaf7[CPUID_EBX] & (1u << 20) ? CR4_SMAP : 0) |
	       (leaf7[CPUID_ECX] & (1u << 2) ? CR4_UMIP : 0);
}

void cpu_load(struct cpu *c)
{
	const struct __packed { uint16_t limit; const void *base; }
		gdtr = { sizeof(c->gdt) - 1, c->gdt }, idtr = { sizeof(idt) - 1, idt };
	uint64_t tss = (uint64_t)&c->tss;

	c->self = c;
	c->deadline = UINT64_MAX;
	c->tss.iomap = sizeof(c->tss);
	c->gdt[1] = 0x00af9b000000ffff;		/* as in start.S: CS stays as it is */
	c->gdt[2] = 0x00cf93000000ffff;
	c->gdt[3] = (sizeof(c->tss) - 1) | (tss & 0xffffff) << 16 | 0x89ULL << 40 |
		    (tss >> 24 & 0xff) << 56;
	c->gdt[4] = tss >> 32;
	__asm__ volatile("lgdt %0; lidt %1; ltr %w2"
			 : : "m"(gdtr), "m"(idtr), "r"(SELECTOR_TSS) : "memory");
	insn_wrmsr(MSR_GS_BASE, (uint64_t)c);
	insn_write_cr4(cr4_value());		/* machine checks from here on */
}

/* Two pages for each exception that has a stack of its own, each with a guard below. */
void *cpu_map_stacks(struct cpu *c, unsigned int nr)
{
	uint64_t slot = STACKS_BASE + nr * STACK_SLOT;

	for (uint64_t va = slot; va < slot + STACK_SLOT; va += PAGE_SIZE) {
		void *page = is_stack(va) ? hv_alloc_pages(PAGE_ORDER_4K) : NULL;

		if (page)
			map_pages(va, mfn_to_paddr(virt_to_mfn(page)), PAGE_SIZE,
				  PTE_WRITE | PTE_NX);
		else if (is_stack(va))
			panic("no memory for the stacks of CPU %u", nr);
	}
	c->core.cpu_id = nr;
	for (unsigned int i = IST_NMI; i < IST_COUNT; i++)
		c->tss.ist[i - 1] = slot + i * 3 * PAGE_SIZE;
	return (void *)(slot + STACK_SLOT);
}

bool is_stack(uint64_t va)
{
	uint64_t page = (va - STACKS_BASE) % STACK_SLOT / PAGE_SIZE;

	if (va - (uint64_t)boot_stack < BOOT_STACK_SIZE - 16)
		return true;
	return va - STACKS_BASE < MAX_PCPUS * STACK_SLOT && (page > GUARDS_END || page % 3);
}

/* --- Starting the others --- */

/* Both CPUs take turns; a TSC that lies before the other's last one has warped. */
static void check_tsc(unsigned int me)
{
	for (unsigned int i = me; i < 2 * TSC_ROUNDS; i += 2) {
		uint64_t now;

		while (atomic_load(&tsc_check.turn) != i)
			port_relax();
		now = port_tsc();
		if (now < tsc_check.last)
			tsc_check.warp = MAX(tsc_check.warp, tsc_check.last - now);
		tsc_check.last = now;
		atomic_store(&tsc_check.turn, i + 1);
	}
}

void ap_main(void)
{
	struct cpu *c = starting;

	cpu_load(c);
	machine_check_init();
	lapic_enable();
	atomic_store(&c->online, true);
	check_tsc(1);
	while (!atomic_load(&released))
		port_idle();
	pcpu_main();
}

static void set_ids(struct cpu *c, unsigned int nr)
{
	c->core.apic_id = c->apic_id = acpi.apic_id[nr];
	c->core.acpi_id = acpi.uid[nr];
}

static bool start_cpu(uint32_t apic_id, paddr_t page)
{
	struct cpu *c = starting;

	atomic_store(&c->online, false);
	/* Lost while INIT is still at work, ignored once the CPU runs: so it is sent again. */
	for (unsigned int i = 0; i < START_TRIES && !atomic_load(&c->online); i++) {
		if (i % 100 == 0)
			lapic_send(apic_id, ICR_STARTUP | (uint32_t)(page >> PAGE_SHIFT));
		delay_us(10);
	}
	if (!atomic_load(&c->online)) {
		/* Back to waiting for a start-up interrupt: it must not come up late. */
		lapic_send(apic_id, ICR_INIT);
		delay_us(10000);
		return false;
	}
	tsc_check.last = 0;
	atomic_store(&tsc_check.turn, 0);
	check_tsc(0);
	while (atomic_load(&tsc_check.turn) != 2 * TSC_ROUNDS)
		port_relax();
	starting = NULL;
	if (apic_id < APIC_ID_REACH)
		port_irq_cpus |= 1ULL << nr_cpus;
	cpus[nr_cpus] = c;
	pcpus[nr_cpus++] = &c->core;
	return true;
}

void smp_start(paddr_t page)
{
	unsigned int wanted = page ? hv_options.cpus : 1;

	if (wanted > 1)
		memcpy(mfn_to_virt(paddr_to_mfn(page)), trampoline,
		       (size_t)(trampoline_end - trampoline));
	for (unsigned int i = 0; i < acpi.nr_cpus && wanted > 1; i++) {
		if (acpi.apic_id[i] != boot_cpu.apic_id)
			lapic_send(acpi.apic_id[i], ICR_INIT);
	}
	for (unsigned int i = 0; i < acpi.nr_cpus; i++) {
		if (acpi.apic_id[i] == boot_cpu.apic_id)
			set_ids(&boot_cpu, i);
		if (acpi.apic_id[i] == boot_cpu.apic_id || nr_cpus >= wanted)
			continue;
		/* What is ready for one CPU serves the next when that one does not start. */
		if (!starting) {
			starting = hv_alloc(sizeof(*starting));
			if (!starting)
				panic("no memory for CPU %u", nr_cpus);
			ap_stack = (uint64_t)cpu_map_stacks(starting, nr_cpus);
		}
		set_ids(starting, i);
		if (!start_cpu(acpi.apic_id[i], page))
			log_warn("the CPU with APIC ID %u does not start", acpi.apic_id[i]);
	}
	memset(boot_pml4, 0, PAGE_SIZE);
	log_info("%u CPU%s online, TSC %s", nr_cpus, nr_cpus == 1 ? "" : "s",
		 tsc_check.warp ? "NOT synchronous" : "synchronous");
	if (tsc_check.warp)
		log_warn("time stamp counters differ by up to %lu", tsc_check.warp);
}

void smp_release(void)
{
	atomic_store(&released, true);
	for (unsigned int i = 1; i < nr_cpus; i++)
		port_kick(i);
}

/* --- port.h --- */

struct pcpu *port_this_pcpu(void)
{
	return &this_cpu()->core;
}

unsigned int port_nr_pcpus(void)
{
	return nr_cpus;
}

/*
 * A kick that is still on its way serves for this one too: the exchange
 * orders what the caller asked for before what the interrupt makes visible.
 */
void port_kick(unsigned int nr)
{
	struct cpu *c = cpus[nr];

	if (c == this_cpu())
		c->woken = true;
	else if (!atomic_exchange(&c->kick_pending, true))
		lapic_send(c->apic_id, VECTOR_KICK);
}

void port_idle(void)
{
	struct cpu *c = this_cpu();

	if (!c->woken)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	else
		port_poll_interrupts();
	c->woken = false;
}

/* Between the two instructions pending interrupts are served. */
void port_poll_interrupts(void)
{
	__asm__ volatile("sti; nop; cli" : : : "memory");
}

void port_relax(void)
{
	__asm__ volatile("pause");
}
