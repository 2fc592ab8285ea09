/* SPDX-License-Identifier: MIT */
/*
 * The fake machine: memory, CPUs, clock, console. See testport.h.
 */
#define _GNU_SOURCE

#include "port/testport.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/page.h"

#define NO_DEADLINE UINT64_MAX
#define GARBAGE_MAX (64UL << 20)

uint8_t *port_directmap;
struct boot_info test_boot;
uint8_t test_io[0x10000];
uint64_t test_kept_gfn;
uint64_t port_tsc_khz = 2000000;
uint64_t port_wallclock_base_ns = 1700000000ULL * 1000000000ULL;
void (*test_idle_hook)(void);
bool test_panic_caught;
jmp_buf test_panic_env;
char test_panic_text[256];

static struct {
	size_t arena_size;
	void *frame_table;
	unsigned int ncpus;
	bool threaded;
	struct pcpu *cpus[MAX_PCPUS];
	_Atomic uint64_t now;
	_Atomic uint64_t deadline[MAX_PCPUS];
	atomic_bool kicked[MAX_PCPUS];
	atomic_ulong kicks[MAX_PCPUS];
	char out[65536];
	size_t out_len;
	char in[4096];
	size_t in_head, in_tail;
} machine;

static _Thread_local struct pcpu *this_cpu;

/* --- Set-up ------------------------------------------------------------- */

/*
 * Parts of the core that may not be linked in yet.
 * Each goes when the module it stands in for has landed.
 */
#pragma weak pcpus
struct pcpu *pcpus[MAX_PCPUS];
#pragma weak cpu
const struct cpu_ops *cpu;
#pragma weak timer_interrupt
#pragma weak timer_queue_init
#pragma weak timer_run
#pragma weak sched_pcpu_init
#pragma weak page_table_bytes
#pragma weak page_init
#pragma weak page_add_range
#pragma weak console_input_ready
#pragma weak test_devices_reset

/* What the start of day does in the core, for tests of single modules. */
static void core_init(uint64_t pages)
{
	for (unsigned int i = 0; i < machine.ncpus; i++) {
		if (timer_queue_init)
			timer_queue_init(&machine.cpus[i]->timers);
		if (sched_pcpu_init)
			sched_pcpu_init(machine.cpus[i]);
	}
	if (pages && page_init) {
		machine.frame_table = malloc(page_table_bytes(pages << PAGE_SHIFT));
		if (!machine.frame_table)
			abort();
		page_init(machine.frame_table, pages << PAGE_SHIFT);
		page_add_range(MFN(1), pages - 1);
	}
}

void test_machine_init(uint64_t pages, unsigned int ncpus)
{
	if (ncpus == 0 || ncpus > MAX_PCPUS || this_cpu)
		abort();
	memset(&machine, 0, sizeof(machine));
	memset(&test_boot, 0, sizeof(test_boot));
	memset(test_io, 0xff, sizeof(test_io));
	test_kept_gfn = UINT64_MAX;
	test_boot.cmdline = "";
	test_idle_hook = NULL;
	test_run_hook = NULL;
	test_vcpu_init_fail = 0;
	atomic_store(&machine.now, 1000000);
	machine.ncpus = ncpus;
	for (unsigned int i = 0; i < ncpus; i++) {
		machine.cpus[i] = calloc(1, sizeof(struct pcpu));
		if (!machine.cpus[i])
			abort();
		machine.cpus[i]->cpu_id = i;
		pcpus[i] = machine.cpus[i];
		atomic_store(&machine.deadline[i], NO_DEADLINE);
	}
	test_set_cpu(0);
	lock_check_reset();
	cpu = &test_cpu_ops;
	test_insn_reset();
	if (test_devices_reset)
		test_devices_reset();
	if (pages) {
		machine.arena_size = pages << PAGE_SHIFT;
		port_directmap = mmap(NULL, machine.arena_size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (port_directmap == MAP_FAILED)
			abort();
		if (machine.arena_size <= GARBAGE_MAX)
			memset(port_directmap, 0xa5, machine.arena_size);
	}
	core_init(pages);
}

void test_machine_fini(void)
{
	if (machine.arena_size)
		munmap(port_directmap, machine.arena_size);
	port_directmap = NULL;
	free(machine.frame_table);
	for (unsigned int i = 0; i < machine.ncpus; i++) {
		free(machine.cpus[i]);
		pcpus[i] = NULL;
	}
	memset(&machine, 0, sizeof(machine));
	this_cpu = NULL;
}

void test_set_cpu(unsigned int nr)
{
	if (nr >= machine.ncpus)
		abort();
	this_cpu = machine.cpus[nr];
}

void test_set_threaded(bool on)
{
	machine.threaded = on;
}

/* --- Memory ------------------------------------------------------------- */

const struct boot_info *port_boot_info(void)
{
	return &test_boot;
}

const void *port_map_boot(paddr_t start, uint64_t size)
{
	if (start > machine.arena_size || size > machine.arena_size - start)
		return NULL;
	return port_directmap + start;
}

/* --- Devices ------------------------------------------------------------ */

const void *port_map_firmware(paddr_t start, uint64_t size)
{
	return port_map_boot(start, size);
}

bool port_device_page(paddr_t pa)
{
	return !(pa >> PAGE_SHIFT) ||
	       (pa >= machine.arena_size && pa >> PAGE_SHIFT != test_kept_gfn);
}

enum io_owner port_io_owner(uint16_t port)
{
	return port >= TEST_IO_KEPT && port < TEST_IO_KEPT + 8 ? IO_KEPT :
	       port >= TEST_IO_SLEEP && port < TEST_IO_SLEEP + 2 ? IO_SLEEP : IO_DEVICE;
}

uint32_t port_io_read(uint16_t port, unsigned int size)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint32_t)test_io[(uint16_t)(port + i)] << 8 * i;
	return value;
}

void port_io_write(uint16_t port, unsigned int size, uint32_t value)
{
	for (unsigned int i = 0; i < size; i++)
		test_io[(uint16_t)(port + i)] = (uint8_t)(value >> 8 * i);
}

void port_sleep_write(uint16_t port, unsigned int size, uint32_t value)
{
	if (value & 0x2000)
		port_poweroff();
	port_io_write(port, size, value);
}

/* --- CPUs --------------------------------------------------------------- */

struct pcpu *port_this_pcpu(void)
{
	return this_cpu;
}

unsigned int port_nr_pcpus(void)
{
	return machine.ncpus;
}

void port_kick(unsigned int nr)
{
	if (nr >= machine.ncpus)
		abort();
	atomic_fetch_add(&machine.kicks[nr], 1);
	atomic_store(&machine.kicked[nr], true);
}

bool test_take_kick(unsigned int nr)
{
	return atomic_exchange(&machine.kicked[nr], false);
}

unsigned long test_kicks(unsigned int nr)
{
	return atomic_load(&machine.kicks[nr]);
}

/* Delivers this CPU's timer interrupt when it is due. */
static bool serve_deadline(void)
{
	unsigned int nr = this_cpu->cpu_id;

	if (atomic_load(&machine.deadline[nr]) > atomic_load(&machine.now))
		return false;
	atomic_store(&machine.deadline[nr], NO_DEADLINE);
	timer_interrupt();
	return true;
}

void port_poll_interrupts(void)
{
	serve_deadline();
}

void port_idle(void)
{
	bool woken = test_take_kick(this_cpu->cpu_id);

	woken |= serve_deadline();
	if (woken)
		return;
	if (test_idle_hook)
		test_idle_hook();
	else if (machine.threaded)
		sched_yield();
}

void port_relax(void)
{
	if (machine.threaded)
		sched_yield();
}

/* --- Time --------------------------------------------------------------- */

uint64_t port_time_ns(void)
{
	return atomic_load(&machine.now);
}

uint64_t port_tsc_to_ns(uint64_t tsc)
{
	return (uint64_t)((unsigned __int128)tsc * 1000000 / port_tsc_khz);
}

uint64_t port_tsc(void)
{
	return (uint64_t)((unsigned __int128)port_time_ns() * port_tsc_khz / 1000000);
}

void port_pvclock_scale(uint64_t *tsc_base, uint32_t *mul, int8_t *shift)
{
	/* A multiplier in [2^31, 2^32) keeps the most precision. */
	unsigned __int128 m = ((unsigned __int128)1000000 << 32) / port_tsc_khz;
	int s = 0;

	for (; m >> 32; s++)
		m >>= 1;
	for (; !(m >> 31); s--)
		m = ((unsigned __int128)1000000 << (33 - s)) / port_tsc_khz;
	*tsc_base = 0;
	*mul = (uint32_t)m;
	*shift = (int8_t)s;
}

void port_timer_arm(uint64_t ns)
{
	atomic_store(&machine.deadline[this_cpu->cpu_id], ns);
}

uint64_t test_deadline(unsigned int nr)
{
	return atomic_load(&machine.deadline[nr]);
}

/* The CPU whose deadline comes first, or -1 when none is due by @limit. */
static int first_due(uint64_t limit)
{
	uint64_t best = limit;
	int found = -1;

	for (unsigned int i = machine.ncpus; i-- > 0;) {
		uint64_t d = atomic_load(&machine.deadline[i]);

		if (d <= best) {
			best = d;
			found = (int)i;
		}
	}
	return found;
}

void test_advance_ns(uint64_t ns)
{
	uint64_t target = atomic_load(&machine.now) + ns;
	struct pcpu *caller = this_cpu;
	int nr;

	while (!machine.threaded && target != NO_DEADLINE && (nr = first_due(target)) >= 0) {
		uint64_t d = atomic_load(&machine.deadline[nr]);

		if (d > atomic_load(&machine.now))
			atomic_store(&machine.now, d);
		this_cpu = machine.cpus[nr];
		serve_deadline();
	}
	this_cpu = caller;
	atomic_store(&machine.now, target);
}

void test_run_timers(unsigned int nr)
{
	struct pcpu *caller = this_cpu;
	unsigned int bit = 1u << SOFTIRQ_TIMER;

	this_cpu = machine.cpus[nr];
	if (atomic_fetch_and(&this_cpu->softirqs, ~bit) & bit)
		timer_run(&this_cpu->timers);
	this_cpu = caller;
}

/* --- Console, power, panic ---------------------------------------------- */

void port_console_write(const char *s, size_t len)
{
	size_t n = MIN(len, sizeof(machine.out) - 1 - machine.out_len);

	memcpy(machine.out + machine.out_len, s, n);
	machine.out_len += n;
	machine.out[machine.out_len] = '\0';
}

const char *test_console_output(void)
{
	return machine.out;
}

void test_console_clear(void)
{
	machine.out_len = 0;
	machine.out[0] = '\0';
}

int port_console_read(void)
{
	if (machine.in_head == machine.in_tail)
		return -1;
	return (uint8_t)machine.in[machine.in_head++ % sizeof(machine.in)];
}

void test_console_type(const char *s)
{
	for (; *s && machine.in_tail - machine.in_head < sizeof(machine.in); s++)
		machine.in[machine.in_tail++ % sizeof(machine.in)] = *s;
	if (console_input_ready)
		console_input_ready();
}

static void __noreturn die(void)
{
	if (test_panic_caught) {
		lock_check_reset();
		longjmp(test_panic_env, 1);
	}
	fprintf(stderr, "panic: %s\n", test_panic_text);
	abort();
}

void port_panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(test_panic_text, sizeof(test_panic_text), fmt, ap);
	va_end(ap);
	die();
}

void port_reboot(void)
{
	port_panic("reboot");
}

void port_poweroff(void)
{
	port_panic("poweroff");
}

bool test_guest_read(struct domain *d, gpa_t src, void *dst, size_t len)
{
	uint8_t *to = dst;
	bool ok = true;

	read_lock(&d->p2m.lock);
	for (; ok && len; len--, src++) {
		struct p2m_entry e = p2m_get(&d->p2m, gpa_to_gfn(src));

		ok = p2m_is_ram(e.type);
		if (ok)
			*to++ = ((uint8_t *)mfn_to_virt(e.mfn))[src & ~PAGE_MASK];
	}
	read_unlock(&d->p2m.lock);
	return ok;
}
