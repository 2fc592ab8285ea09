/* SPDX-License-Identifier: MIT */
/* Vectors of devices: where they come from, that they arrive, and that they end. */
#include "unit.h"

#include <pthread.h>

#include "hospes/abi.h"
#include "hospes/irq.h"
#include "port/testport.h"

#define PER_CPU (IRQ_VECTORS_END - IRQ_VECTORS)

static struct irq irqs[2 * PER_CPU + 1];
static unsigned int hits[2 * PER_CPU + 1], cpu_of_hit;

static void handler(void *data)
{
	++*(unsigned int *)data;
	cpu_of_hit = port_this_pcpu()->cpu_id;
}

static int setup(void **state)
{
	test_machine_init(0, 2);
	memset(irqs, 0, sizeof(irqs));
	memset(hits, 0, sizeof(hits));
	return 0;
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(irqs); i++)
		irq_free(&irqs[i]);
	test_machine_fini();
	return 0;
}

static void dispatch(const struct irq *irq)
{
	test_set_cpu(irq->cpu);
	irq_dispatch(irq->vector);
	test_set_cpu(0);
}

/* Each gets its own place, on the CPU it asks for as long as there is room. */
static void test_places(void **state)
{
	for (unsigned int i = 0; i < 2 * PER_CPU; i++) {
		assert_int_equal(irq_alloc(&irqs[i], 1, handler, &hits[i]), 0);
		assert_int_equal(irqs[i].cpu, i < PER_CPU);
		assert_in_range(irqs[i].vector, IRQ_VECTORS, IRQ_VECTORS_END - 1);
	}
	assert_int_equal(irq_alloc(&irqs[2 * PER_CPU], 0, handler, NULL), -XEN_ENOSPC);
	assert_null(irqs[2 * PER_CPU].handler);
	for (unsigned int i = 0; i < 2 * PER_CPU; i++) {
		dispatch(&irqs[i]);
		assert_int_equal(hits[i], 1);
		assert_int_equal(cpu_of_hit, irqs[i].cpu);
	}
	irq_free(&irqs[7]);
	assert_int_equal(irq_alloc(&irqs[2 * PER_CPU], 0, handler, &hits[2 * PER_CPU]), 0);
	assert_int_equal(irqs[2 * PER_CPU].vector, irqs[7].vector);
	dispatch(&irqs[7]);
	assert_int_equal(hits[7], 1);
	assert_int_equal(hits[2 * PER_CPU], 1);
}

/* A CPU that no message reaches gets none. */
static void test_reach(void **state)
{
	port_irq_cpus = 2;
	for (unsigned int i = 0; i < PER_CPU; i++) {
		assert_int_equal(irq_alloc(&irqs[i], 0, handler, &hits[i]), 0);
		assert_int_equal(irqs[i].cpu, 1);
	}
	assert_int_equal(irq_alloc(&irqs[PER_CPU], 0, handler, NULL), -XEN_ENOSPC);
}

static void test_late(void **state)
{
	struct irq gone;

	assert_int_equal(irq_alloc(&irqs[0], 0, handler, &hits[0]), 0);
	gone = irqs[0];
	irq_free(&irqs[0]);
	assert_null(irqs[0].handler);
	dispatch(&gone);
	assert_int_equal(hits[0], 0);
	irq_free(&irqs[0]);		/* once more is fine */
}

/* --- Two threads: none runs in a handler whose vector was given back -------- */

static struct irq shared;
static atomic_int alive;		/* what the handler needs */
static atomic_bool stop;
static atomic_uint served;

static void needs_life(void *data)
{
	for (unsigned int i = 0; i < 50; i++) {
		if (!atomic_load((atomic_int *)data))
			abort();
	}
	atomic_fetch_add(&served, 1);
}

static void *dispatch_all(void *arg)
{
	test_set_cpu(1);
	while (!atomic_load(&stop)) {
		for (unsigned int vector = IRQ_VECTORS; vector < IRQ_VECTORS_END; vector++)
			irq_dispatch((uint8_t)vector);
	}
	return NULL;
}

static void test_free_waits(void **state)
{
	pthread_t thread;

	test_set_threaded(true);
	atomic_store(&stop, false);
	atomic_store(&served, 0);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_all, NULL), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		unsigned int before = atomic_load(&served);

		atomic_store(&alive, 1);
		assert_int_equal(irq_alloc(&shared, 1, needs_life, &alive), 0);
		for (unsigned int n = 0; i % 8 == 0 && atomic_load(&served) == before; n++)
			port_relax();
		irq_free(&shared);
		atomic_store(&alive, 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&served) >= 250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_waits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
