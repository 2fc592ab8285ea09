/* SPDX-License-Identifier: MIT */
/*
 * Starting CPUs, of which some do not answer. The file is included under
 * other names: the fake machine has functions like it. A CPU that starts is a
 * thread, which does what ap_main() does after its set-up.
 */
#include "unit.h"

#include <pthread.h>

#define port_this_pcpu metal_this_pcpu
#define port_nr_pcpus metal_nr_pcpus
#define port_kick metal_kick
#define port_idle metal_idle
#define port_poll_interrupts metal_poll_interrupts
#define port_relax metal_relax
#include "port/metal/smp.c"
#include "port/testport.h"

#define TRAMPOLINE 0x7000u
#define STACK_PAGES 12u		/* of 16: four guards */

struct acpi_info acpi;
uint8_t boot_stack[BOOT_STACK_SIZE];
uint64_t boot_pml4[512];
__typeof__(idt) idt;
__asm__(".data; .globl trampoline, trampoline_end\n"
	"trampoline: .asciz \"in real mode\"; trampoline_end: .text");

static struct { unsigned int inits, startups; bool dead; } sent[400];
static unsigned int mapped;
static pthread_t threads[MAX_PCPUS];
static unsigned int nr_threads;

void machine_check_init(void)
{
}

void lapic_enable(void)
{
}

void delay_us(uint64_t us)
{
	(void)us;
}

void map_pages(uint64_t va, paddr_t pa, uint64_t len, uint64_t flags)
{
	assert_true(is_stack(va));
	assert_int_not_equal(pa, 0);
	assert_int_equal(len, PAGE_SIZE);
	assert_int_equal(flags, PTE_WRITE | PTE_NX);
	mapped++;
}

static void *run_cpu(void *arg)
{
	(void)arg;
	check_tsc(1);
	return NULL;
}

void lapic_send(uint32_t apic_id, uint32_t icr)
{
	const char *page = mfn_to_virt(paddr_to_mfn(TRAMPOLINE));

	if (icr == ICR_INIT) {
		sent[apic_id].inits++;
		/* Later the fake machine's allocator, which knows no low memory, may take it. */
		if (!mapped)
			assert_string_equal(page, "in real mode");
		return;
	}
	assert_int_equal(icr, ICR_STARTUP | TRAMPOLINE >> PAGE_SHIFT);
	assert_int_equal(starting->apic_id, apic_id);
	assert_int_equal(ap_stack, STACKS_BASE + (starting->core.cpu_id + 1) * STACK_SLOT);
	sent[apic_id].startups++;
	if (sent[apic_id].dead || atomic_exchange(&starting->online, true))
		return;
	assert_int_equal(pthread_create(&threads[nr_threads++], NULL, run_cpu, NULL), 0);
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(1024, 1);
	memset(sent, 0, sizeof(sent));
	memset(&acpi, 0, sizeof(acpi));
	memset(boot_pml4, 1, sizeof(boot_pml4));
	hv_options.cpus = MAX_PCPUS;
	nr_cpus = 1;
	mapped = 0;
	nr_threads = 0;
	starting = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_machine_fini();
	return 0;
}

static void start(paddr_t page)
{
	static const uint32_t ids[] = { 4, 0, 7, 5, 300, 2 };

	for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++)
		acpi.apic_id[acpi.nr_cpus++] = ids[i];
	smp_start(page);
	for (unsigned int i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(boot_pml4[511], 0);
	assert_int_equal(sent[0].inits + sent[0].startups, 0);
}

static void test_dead_ones(void **state)
{
	(void)state;
	sent[4].dead = true;
	sent[7].dead = true;
	sent[2].dead = true;
	start(TRAMPOLINE);
	assert_int_equal(nr_cpus, 3);
	assert_int_equal(cpus[1]->apic_id, 5);
	assert_int_equal(cpus[2]->apic_id, 300);
	for (unsigned int i = 1; i < nr_cpus; i++) {
		assert_int_equal(cpus[i]->core.cpu_id, i);
		assert_ptr_equal(pcpus[i], &cpus[i]->core);
	}
	/* Asked again and again, then silenced; what was ready for them served others. */
	assert_int_equal(sent[4].startups, START_TRIES / 100);
	assert_int_equal(sent[4].inits, 2);
	assert_int_equal(sent[5].startups, 1);
	assert_int_equal(sent[5].inits, 1);
	assert_int_equal(mapped, 3 * STACK_PAGES);
	assert_non_null(strstr(test_console_output(), "APIC ID 4 does not start"));
	assert_non_null(strstr(test_console_output(), "APIC ID 2 does not start"));
	assert_non_null(strstr(test_console_output(), "3 CPUs online, TSC synchronous"));
}

static void test_limits(void **state)
{
	(void)state;
	hv_options.cpus = 2;
	start(TRAMPOLINE);
	assert_int_equal(nr_cpus, 2);
	assert_int_equal(sent[7].inits, 1);	/* stays out of the way */
	assert_int_equal(sent[7].startups, 0);
	assert_int_equal(mapped, STACK_PAGES);
}

static void test_alone(void **state)
{
	(void)state;
	start(0);				/* no page for the trampoline */
	assert_int_equal(nr_cpus, 1);
	assert_int_equal(sent[4].inits, 0);
	hv_options.cpus = 1;
	start(TRAMPOLINE);
	assert_int_equal(nr_cpus, 1);
	assert_int_equal(sent[4].inits, 0);
	assert_int_equal(mapped, 0);
}

static void test_warp(void **state)
{
	(void)state;
	memset(&tsc_check, 0, sizeof(tsc_check));
	tsc_check.last = port_tsc() + 100;
	atomic_store(&tsc_check.turn, 2 * TSC_ROUNDS - 1);
	check_tsc(2 * TSC_ROUNDS - 1);
	assert_int_equal(tsc_check.warp, 100);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dead_ones),
		TEST(test_limits),
		TEST(test_alone),
		TEST(test_warp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
