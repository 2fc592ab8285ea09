/* SPDX-License-Identifier: MIT */
/*
 * The contract between the hypervisor's logic (hv/core, hv/x86) and the
 * machine under it. hv/port/metal implements it on a PC, tests/port in a
 * plain process. Nothing in core or x86 reaches the machine in another way,
 * except through cpu.h for running vCPUs.
 *
 * Context: everything runs with interrupts off on one stack per physical CPU
 * and never sleeps. "Here" means the physical CPU that calls.
 */
#ifndef HOSPES_PORT_H
#define HOSPES_PORT_H

#include "hospes/types.h"

#define MAX_PCPUS 64

/* --- Memory ------------------------------------------------------------- */

/*
 * All RAM the hypervisor may touch is mapped from here on, frame 0 first.
 * Set once before the core starts; mfn_to_virt() is valid for RAM frames
 * that page.h manages, nothing else.
 */
extern uint8_t *port_directmap;

static inline void *mfn_to_virt(mfn_t mfn)
{
	return port_directmap + (mfn.v << PAGE_SHIFT);
}

static inline mfn_t virt_to_mfn(const void *va)
{
	return MFN((uint64_t)((const uint8_t *)va - port_directmap) >> PAGE_SHIFT);
}

/* One boot module as the boot loader left it; name is its command line. */
struct boot_module {
	paddr_t start;
	uint64_t size;
	const char *cmdline;	/* NUL-terminated, in hypervisor memory */
};

/* An entry of the firmware's memory map, as it came: any address, any type. */
struct boot_memory {
	uint64_t start, size;
	uint32_t type;		/* of E820_* below; others are not memory to use, either */
};

#define E820_RAM 1u
#define E820_RESERVED 2u
#define E820_ACPI 3u
#define E820_NVS 4u
#define E820_UNUSABLE 5u

/* An ACPI table of the firmware's, with a good check sum. */
struct boot_acpi_table {
	char signature[4];
	uint32_t length;
	paddr_t at;
};

/* What the machine looked like at boot. Owned by the port, read-only. */
struct boot_info {
	const char *cmdline;
	unsigned int nr_modules, nr_memory, nr_tables;
	struct boot_module modules[32];
	struct boot_memory memory[128];
	struct boot_acpi_table tables[64];
};

const struct boot_info *port_boot_info(void);

/*
 * Maps a range of RAM that page.h does not manage (a boot module) for
 * reading. Returns NULL when the range is not RAM. The mapping stays.
 */
const void *port_map_boot(paddr_t start, uint64_t size);

/* --- The machine's devices, which the control domain drives ------------- */

/* Maps memory of the firmware's (an ACPI table) for reading, any alignment. The mapping stays. */
const void *port_map_firmware(paddr_t start, uint64_t size);

/*
 * Is the page at @pa no RAM, and not one of the registers the hypervisor keeps
 * (local APIC, IO-APICs, its timer)? Then the control domain may have it.
 */
bool port_device_page(paddr_t pa);

/* Who an I/O port belongs to. */
enum io_owner {
	IO_DEVICE,		/* the control domain */
	IO_KEPT,		/* the hypervisor: reads ones, writes are dropped */
	IO_SLEEP,		/* control register of power management: see port_sleep_write() */
};
enum io_owner port_io_owner(uint16_t port);

/* Raw access to an I/O port; size 1, 2 or 4. */
uint32_t port_io_read(uint16_t port, unsigned int size);
void port_io_write(uint16_t port, unsigned int size, uint32_t value);

/*
 * The control domain writes to an IO_SLEEP port. What would switch the machine
 * off does so; other sleep states are refused; the rest is passed on.
 */
void port_sleep_write(uint16_t port, unsigned int size, uint32_t value);

/* --- Physical CPUs ------------------------------------------------------ */

struct pcpu;			/* core's per-CPU data, see pcpu.h */

/* The per-CPU data of this CPU. */
struct pcpu *port_this_pcpu(void);

/* Number of physical CPUs online; they are numbered from 0 without holes. */
unsigned int port_nr_pcpus(void);

/*
 * Makes @cpu leave its guest, or its idle halt, soon. Idempotent, any
 * context, also for the calling CPU (then it is only remembered).
 */
void port_kick(unsigned int cpu);

/*
 * Halts until an interrupt arrives, unless one or a kick is already pending.
 * Interrupts are served before it returns, with interrupts off again.
 */
void port_idle(void);

/* Serves interrupts that are pending now: the window after a guest exit. */
void port_poll_interrupts(void);

/* Hint in a spin loop. */
void port_relax(void);

/* --- Time --------------------------------------------------------------- */

/* The time stamp counter, synchronous on all CPUs, and its frequency, constant after boot. */
uint64_t port_tsc(void);
extern uint64_t port_tsc_khz;

/* Nanoseconds since boot: monotonic and the same on every CPU. */
uint64_t port_time_ns(void);

/* What port_time_ns() is at that value of the TSC. */
uint64_t port_tsc_to_ns(uint64_t tsc);

/*
 * pvclock parameters: ns = ((tsc << shift) * mul) >> 32, with a negative
 * shift to the right, so that ns(tsc 0) == 0 on the port_time_ns() scale
 * after subtracting *tsc_base.
 */
void port_pvclock_scale(uint64_t *tsc_base, uint32_t *mul, int8_t *shift);

/* Wall clock: nanoseconds since 1970 at port_time_ns() == 0; from boot on the core's to set. */
extern uint64_t port_wallclock_base_ns;

/*
 * Asks for timer_interrupt() (timer.h) here at @ns, or as soon as possible
 * when that has passed. ~0 cancels. One deadline per CPU; the last call wins.
 */
void port_timer_arm(uint64_t ns);

/* --- Interrupts and registers of devices --------------------------------- */

struct irq;			/* see irq.h */

/*
 * CPUs that devices can interrupt, one bit each; constant after boot. A port
 * that remaps interrupts reaches all of them.
 */
extern uint64_t port_irq_cpus;

/* One of the machine's IO-APICs; NULL beyond the last. Constant after boot. */
struct port_ioapic {
	paddr_t base;
	uint32_t gsi_base, pins, id, version;	/* both as its registers say, shifted down */
};
const struct port_ioapic *port_ioapic(unsigned int nr);

/*
 * Sends the interrupts of @gsi to @irq, masked at first. -XEN_EBUSY: it is
 * the hypervisor's own; -XEN_ENODEV: no IO-APIC has it. A level interrupt that is
 * not masked by the time its handler returns comes again while it is asserted.
 */
int port_gsi_route(uint32_t gsi, const struct irq *irq, bool level, bool active_low) __must_check;
void port_gsi_mask(uint32_t gsi, bool masked);

/* What function @sbdf has to write where, below 4 GiB, to raise @irq. -XEN_ENODEV: it cannot. */
struct msi_message {
	uint32_t address, data;
};
int port_msi_message(const struct irq *irq, uint32_t sbdf, struct msi_message *m) __must_check;

/* A range of buses whose configuration space can be reached; NULL beyond the last. */
struct pci_segment {
	paddr_t ecam;		/* where bus 0 would be in memory; 0: by ports only */
	uint16_t nr;
	uint8_t first_bus, last_bus;
};
const struct pci_segment *port_pci_segment(unsigned int i);

/*
 * Configuration space of segment << 16 | bus << 8 | device << 3 | function;
 * @reg is below 4096, a multiple of @size, which is 1, 2 or 4. What is not
 * there reads as ones.
 */
uint32_t port_pci_read(uint32_t sbdf, unsigned int reg, unsigned int size);
void port_pci_write(uint32_t sbdf, unsigned int reg, unsigned int size, uint32_t val);

/*
 * A device's registers: @pa, any address, is a multiple of @size, which is 1, 2, 4
 * or 8. Where there is no port_device_page() reads give ones and writes do nothing.
 */
uint64_t port_mmio_read(paddr_t pa, unsigned int size);
void port_mmio_write(paddr_t pa, unsigned int size, uint64_t val);

/* --- Console, power, last words ----------------------------------------- */

/* Writes to the hypervisor's serial console. May be called on any CPU. */
void port_console_write(const char *s, size_t len);

/*
 * One byte from the serial console, or -1. CPU 0 only: console input is
 * announced there by console_input_ready() (console.h) in interrupt service.
 */
int port_console_read(void);

void port_reboot(void) __noreturn;
void port_poweroff(void) __noreturn;

/*
 * Stops the machine: registers, symbolised backtrace, reason. Only where
 * going on could leak or escalate; never because of what a guest did.
 */
void port_panic(const char *fmt, ...) __noreturn __printf(1, 2);
#define panic port_panic

#endif
