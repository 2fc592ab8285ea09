/* SPDX-License-Identifier: MIT */
/*
 * The fake machine of unit tests and fuzzers: everything port.h, cpu.h and
 * cpu_insn.h ask for, in a plain process, deterministic, under the test's
 * control. Include as "port/testport.h".
 *
 * A test is normally one thread that plays all physical CPUs in turn
 * (test_set_cpu()). A stress test may run one thread per CPU: it calls
 * test_set_threaded(true) and, in each thread, test_set_cpu().
 */
#ifndef HOSPES_TESTPORT_H
#define HOSPES_TESTPORT_H

#include <setjmp.h>
#include <stdatomic.h>

#include "hospes/cpu.h"
#include "hospes/pcpu.h"
#include "hospes/port.h"

/* --- The machine -------------------------------------------------------- */

/*
 * A machine of @pages frames (0: no RAM) and @ncpus CPUs; the caller becomes
 * CPU 0. Frame 0 is not given to the page allocator. RAM starts as garbage
 * (up to 64 MiB of it) so that what is not scrubbed shows. The second ends
 * it and frees everything.
 */
void test_machine_init(uint64_t pages, unsigned int ncpus);
void test_machine_fini(void);

/* The calling thread is CPU @cpu from here on. */
void test_set_cpu(unsigned int cpu);

/* One thread per CPU: each CPU serves its own deadline, spinning yields. */
void test_set_threaded(bool on);

/* --- Time --------------------------------------------------------------- */

/*
 * Moves the clock on. On the way timer_interrupt() is called, as the CPU
 * concerned and at its time, for every armed deadline that passes.
 */
void test_advance_ns(uint64_t ns);

/* What @cpu armed, ~0 when nothing. */
uint64_t test_deadline(unsigned int cpu);

/* As CPU @cpu: takes its SOFTIRQ_TIMER, if raised, and runs what expired. */
void test_run_timers(unsigned int cpu);

/* port_tsc_khz is 2,000,000 (2 GHz) unless set before anything reads the clock. */

/* --- Kicks, idle, console, power ---------------------------------------- */

/* Has @cpu been kicked since the last call? It takes note of it, once. */
bool test_take_kick(unsigned int cpu);
/* How often port_kick() was called for @cpu since the start. */
unsigned long test_kicks(unsigned int cpu);
/* Called by port_idle(), when set, instead of returning at once. */
extern void (*test_idle_hook)(void);

/* All console output so far, NUL-terminated; beyond 64 KiB it is dropped. */
const char *test_console_output(void);
void test_console_clear(void);
/* Queues bytes and announces them as the port does. */
void test_console_type(const char *s);

/* What port_boot_info() gives. Modules lie in the arena. */
extern struct boot_info test_boot;

/*
 * Runs a statement that must end in panic() (or port_reboot/poweroff): true
 * when it did. Elsewhere these abort the process. test_panic_text says why.
 */
#define TEST_PANICS(stmt)							\
	({									\
		volatile bool panicked_ = true;					\
										\
		test_panic_caught = true;					\
		if (!setjmp(test_panic_env)) {					\
			stmt;							\
			panicked_ = false;					\
		}								\
		test_panic_caught = false;					\
		panicked_;							\
	})
extern bool test_panic_caught;
extern jmp_buf test_panic_env;
extern char test_panic_text[256];

/* --- Devices ------------------------------------------------------------ */

/* The bytes behind the I/O ports; at first nobody is there and all are 0xff. */
extern uint8_t test_io[0x10000];
/* Eight ports that the hypervisor keeps, and the control register of power management. */
#define TEST_IO_KEPT 0x3f8u
#define TEST_IO_SLEEP 0x604u
/* What lies behind the RAM are devices' pages, but this one; frame 0 is one, too. */
extern uint64_t test_kept_gfn;

/* --- Devices (testdev.c) -------------------------------------------------- */

#define TEST_IOAPICS 4u
#define TEST_SEGMENTS 4u
#define TEST_FUNCTIONS 16u
#define TEST_BAR_SIZE 0x10000u

/* No IO-APICs, no segments, no functions. test_machine_init() does it. */
void test_devices_reset(void);

/*
 * Interrupts wait until this serves all that do now, each on its CPU, and ends
 * them as the port does. Returns how many; call again for what came meanwhile.
 */
unsigned int test_serve_interrupts(void);

void test_ioapic_add(const struct port_ioapic *info);
/* A pin as its IO-APIC has it. @kept: set to make it the hypervisor's. */
struct test_gsi {
	bool kept, routed, masked, level, active_low, line, edge, remote_irr;
	unsigned int cpu;
	uint8_t vector;
};
struct test_gsi *test_gsi(uint32_t gsi);
void test_gsi_line(uint32_t gsi, bool asserted);

void test_segment_add(const struct pci_segment *s);

/* Zeroed by the test, and alive until the end of it. */
struct test_function {
	uint32_t sbdf;
	bool present;			/* unset: it is gone */
	unsigned int last_cap, next_cap, msi, msix, entries, table_bar;
	uint32_t table_offset;
	unsigned long config_writes;
	uint64_t bar_size[6];
	uint8_t config[4096], writable[4096];
	uint8_t memory[6][TEST_BAR_SIZE];	/* what lies behind the BARs */
};
void test_function_add(struct test_function *f, uint32_t sbdf, uint8_t header);
void test_function_bar(struct test_function *f, unsigned int nr, uint64_t at, uint64_t size,
		       bool wide);
/* Both return where the capability is. */
unsigned int test_function_msi(struct test_function *f, bool wide);
unsigned int test_function_msix(struct test_function *f, unsigned int entries, unsigned int bar,
				uint32_t offset);
/* The device raises its MSI, or entry @entry. False: it is off or masked. */
bool test_function_interrupt(struct test_function *f, unsigned int entry);
/* The n-th next port_msi_message() fails; 0 = none. */
void test_msi_fail(unsigned int n);

/* --- Other CPUs --------------------------------------------------------- */

/* Called, when set, where a CPU that holds no lock is about to take one of @level. */
extern void (*test_lock_hook)(unsigned int level);

/* --- CPUID and MSRs of the host (cpu_insn.h) ---------------------------- */

/* Sets what insn_cpuid() answers; ~0 as subleaf: for every subleaf. */
void test_cpuid_set(uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
		    uint32_t edx);
/* Sets or, with present == false, takes away an MSR. Shared by all CPUs. */
void test_msr_set(uint32_t msr, uint64_t value, bool present);
/* Both back to the defaults: a current AMD CPU. test_machine_init() does it. */
void test_insn_reset(void);
/* The fake extended (XSAVE) state each CPU has loaded. */
#define TEST_XSTATE_SIZE 832u
uint8_t *test_xstate(unsigned int cpu);

/* --- The test CPU (cpu.h) ----------------------------------------------- */

#define TEST_EXITS 64
#define TEST_INJECTED 64

/* What v->cpu_state points to. */
struct test_vcpu {
	struct guest_system sys;
	bool can_interrupt, can_nmi;	/* test sets; both true at first */
	bool event_pending;		/* injected, not yet run */
	unsigned int irq_window;	/* priority class asked for since the last run */
	bool loaded;			/* between load and save */
	unsigned int loaded_on;		/* CPU number, when loaded */
	uint64_t tsc_offset;
	uint8_t xsave[TEST_XSTATE_SIZE];
	unsigned int nr_runs;
	struct test_event {
		enum event_type type;
		uint8_t vector;
		uint32_t error;
		uint64_t extra;
	} injected[TEST_INJECTED];	/* the last ones, oldest first from index 0 */
	unsigned int nr_injected;	/* total; slot is nr % TEST_INJECTED */
	struct vm_exit exits[TEST_EXITS];
	unsigned int exit_head, exit_tail;
};

struct test_vcpu *test_vcpu(struct vcpu *v);

/* Reads guest physical memory of @d; false where some of it is not readable RAM. */
bool test_guest_read(struct domain *d, gpa_t src, void *dst, size_t len);

/* The next run() of @v answers this; with none queued it is EXIT_INTERRUPT. */
void test_queue_exit(struct vcpu *v, const struct vm_exit *exit);
/* Called in run(), when set, after the exit was chosen: plays the guest. */
extern void (*test_run_hook)(struct vcpu *v, struct vm_exit *exit);
/* The n-th next cpu->vcpu_init() fails with -XEN_ENOMEM; 0 = none. */
extern unsigned int test_vcpu_init_fail;
/* The table of the test CPU; `cpu` points to it after test_machine_init(). */
extern const struct cpu_ops test_cpu_ops;

#endif
