/* SPDX-License-Identifier: MIT */
/*
 * What the files of the metal port share.
 *
 * Order of boot on CPU 0 is boot_main() in boot.c; nothing here may be used
 * before the step that prepares it.
 */
#ifndef HOSPES_METAL_H
#define HOSPES_METAL_H

#include "hospes/pcpu.h"
#include "hospes/spinlock.h"
#include "port/metal/firmware.h"

/* --- What boot.c learned, constant afterwards ------------------------------ */

extern struct boot_data boot;
extern struct acpi_info acpi;

/* --- Linker script and assembly ------------------------------------------ */

#define IMAGE_BASE 0xffffffff80000000UL
#define BOOT_MAPPED (4ULL << 30)	/* what the boot page tables reach */
#define BOOT_STACK_SIZE 16384u	/* as in start.S */

extern uint8_t image_start[], text_end[], rodata_end[], image_end[];
extern uint8_t boot_stack[], trap_stubs[], trampoline[], trampoline_end[];
/* kernel_cr3 is what all CPUs run on, ap_stack for the CPU that is started now. */
extern uint64_t boot_pml4[512], kernel_cr3, ap_stack;

void boot_main(uint32_t magic, uint32_t info) __noreturn;
void ap_main(void) __noreturn;

static inline paddr_t image_pa(const void *p) { return (uint64_t)p - IMAGE_BASE; }

/* --- Per-CPU data (smp.c) ------------------------------------------------- */

enum { IST_NMI = 1, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_COUNT };

struct __packed tss {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, iomap;
};

struct cpu {
	struct cpu *self;		/* at %gs:0 */
	uint32_t apic_id;
	bool woken;			/* an interrupt came since port_idle(); this CPU only */
	atomic_bool kick_pending;	/* an IPI is on its way */
	atomic_bool online;
	uint64_t deadline;		/* of port_timer_arm(), ns; this CPU only */
	uint64_t gdt[5];
	struct tss tss;
	struct pcpu core;
};

extern struct cpu boot_cpu, *cpus[MAX_PCPUS];

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	__asm__("mov %%gs:0, %0" : "=r"(c));
	return c;
}

/* Loads GS, GDT, TSS, IDT and the control registers of this CPU. */
void cpu_load(struct cpu *c);
/* Maps the stacks of @c, which is CPU number @nr; returns the top of the main one. */
void *cpu_map_stacks(struct cpu *c, unsigned int nr);
/*
 * Starts the other CPUs through @page, which is under 1 MiB (0: there is none);
 * each waits until smp_release(). Wipes the boot page tables.
 */
void smp_start(paddr_t page);
void smp_release(void);
/* Is [va, va + 16) on a stack? */
bool is_stack(uint64_t va);

/* --- Page tables (paging.c) ----------------------------------------------- */

#define PTE_PRESENT 0x01UL
#define PTE_WRITE 0x02UL
#define PTE_UNCACHED 0x18UL
#define PTE_LARGE 0x80UL
#define PTE_NX (1UL << 63)

#define STACKS_BASE 0xffffffffa0000000UL
#define STACK_SLOT 0x10000UL		/* per CPU, guard pages included */

/* Takes pages from @free and switches to the final page tables. */
void paging_init(struct range_list *free);
void map_pages(uint64_t va, paddr_t pa, uint64_t len, uint64_t flags);
/* Maps device registers. */
volatile void *map_device(paddr_t pa, uint64_t len);
/* Others, until the next call on this CPU and to the end of the page. Not in interrupts. */
volatile void *map_window(paddr_t pa);
/* Walks the live tables and logs what it found. */
void paging_audit(void);

/* --- Interrupt controllers (apic.c) --------------------------------------- */

enum { VECTOR_TIMER = 0xf0, VECTOR_SERIAL, VECTOR_KICK, VECTOR_SPURIOUS = 0xff };
enum { ICR_NMI = 0x4400, ICR_INIT = 0x4500, ICR_STARTUP = 0x4600, ICR_OTHERS = 0xc0000 };
enum {
	LAPIC_ID = 0x20, LAPIC_TPR = 0x80, LAPIC_EOI = 0xb0, LAPIC_SVR = 0xf0, LAPIC_ICR = 0x300,
	LAPIC_ICR_HIGH = 0x310, LAPIC_LVT_TIMER = 0x320, LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_LINT1 = 0x360, LAPIC_LVT_ERROR = 0x370, LAPIC_TIMER_INIT = 0x380,
	LAPIC_TIMER_COUNT = 0x390, LAPIC_TIMER_DIVIDE = 0x3e0,
};

/* For registers that are reached by writing an index first. */
extern struct spinlock chipset_lock;

void apic_init(void);
void lapic_enable(void);		/* on each CPU */
bool lapic_is_x2apic(void);
uint32_t lapic_read(unsigned int reg);
void lapic_write(unsigned int reg, uint32_t v);
void lapic_send(uint32_t apic_id, uint32_t icr);
/* Is the page at @pa a local APIC's or an IO-APIC's? */
bool lapic_owns(paddr_t pa);
/* Sends an ISA interrupt to CPU 0. */
void isa_irq_enable(unsigned int irq, uint8_t vector);

/* Checks what ACPI said of configuration space (pci.c). */
void pci_init(void);

/* --- Time, serial line, traps, power -------------------------------------- */

/* @start: the TSC at which port_time_ns() is 0. */
void time_init(uint64_t start);
void time_interrupt(void);
void delay_us(uint64_t us);

void serial_init(void);
void serial_enable_irq(void);
void serial_interrupt(void);
bool serial_owns(uint16_t port);

struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

extern struct { uint64_t low, high; } idt[256];

void trap_init(void);
void trap_handler(struct trap_frame *f);
void machine_check_init(void);
void halt_forever(void) __noreturn;

/* --- Instructions ---------------------------------------------------------- */

#define PORT_IO(type, in, out)							\
	static inline type in(uint16_t port)					\
	{									\
		type v;								\
		__asm__ volatile(#in " %1, %0" : "=a"(v) : "Nd"(port));		\
		return v;							\
	}									\
	static inline void out(uint16_t port, type v)				\
	{									\
		__asm__ volatile(#out " %0, %1" : : "a"(v), "Nd"(port));	\
	}
PORT_IO(uint8_t, inb, outb)
PORT_IO(uint16_t, inw, outw)
PORT_IO(uint32_t, inl, outl)

#endif
