/* SPDX-License-Identifier: MIT */
/*
 * Timers and the heap under them: order, arming, CPUs, a random run against a
 * plain list, and killing a timer whose handler runs elsewhere.
 */
#include "unit.h"

#include <pthread.h>
#include <sched.h>

#include "hospes/heap.h"
#include "hospes/lib.h"
#include "hospes/timer.h"
#include "port/testport.h"

#define NCPUS 3u
#define NEVER UINT64_MAX

static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static int setup(void **state)
{
	(void)state;
	seed = 1;
	test_machine_init(0, NCPUS);
	for (unsigned int i = 0; i < NCPUS; i++)
		timer_queue_init(&pcpus[i]->timers);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_machine_fini();
	return 0;
}

static void run_all(void)
{
	for (unsigned int i = 0; i < NCPUS; i++)
		test_run_timers(i);
}

/* --- The heap ----------------------------------------------------------- */

static void test_heap(void **state)
{
	enum { N = 300 };
	static struct heap_node node[N];
	static bool in[N];
	struct heap h = { NULL };

	(void)state;
	memset(in, 0, sizeof(in));
	for (unsigned int step = 0; step < 20000; step++) {
		unsigned int i = (unsigned int)rnd(N), nr = 0, seen = 0;
		uint64_t least = NEVER;

		if (in[i])
			heap_remove(&h, &node[i]);
		else
			heap_insert(&h, &node[i], rnd(1000));
		in[i] = !in[i];
		for (i = 0; i < N; i++) {
			nr += in[i];
			if (in[i])
				least = MIN(least, node[i].key);
		}
		assert_int_equal(h.first ? h.first->key : NEVER, least);
		for (const struct heap_node *n = h.first; step % 50 == 0 && n; n = heap_next(n)) {
			assert_true(in[n - node]);
			seen++;
		}
		assert_int_equal(seen, step % 50 ? 0 : nr);
	}
}

/* --- Single timers ------------------------------------------------------ */

static unsigned int fired;
static unsigned int fired_on;

static void count(void *data)
{
	fired++;
	fired_on = port_this_pcpu()->cpu_id;
	if (data)
		*(uint64_t *)data = port_time_ns();
}

static void test_basics(void **state)
{
	struct timer t, zero = { .handler = NULL };
	uint64_t at = 0, now = port_time_ns();

	(void)state;
	fired = 0;
	timer_stop(&zero);
	timer_kill(&zero);
	timer_migrate(&zero);
	timer_init(&t, count, &at);
	assert_false(timer_is_set(&t));
	timer_set(&t, now + 1000);
	assert_true(timer_is_set(&t));
	assert_int_equal(test_deadline(0), now + 1000);
	test_advance_ns(999);
	run_all();
	assert_int_equal(fired, 0);
	test_advance_ns(1);
	run_all();
	assert_int_equal(fired, 1);
	assert_int_equal(at, now + 1000);
	assert_false(timer_is_set(&t));
	timer_set(&t, 5);		/* long past */
	test_advance_ns(0);
	run_all();
	assert_int_equal(fired, 2);
	timer_set(&t, port_time_ns() + 10);
	timer_stop(&t);
	test_advance_ns(20);
	run_all();
	assert_int_equal(fired, 2);
}

/* The hardware is armed for an earlier deadline only, and exactly before idling. */
static void test_arming(void **state)
{
	uint64_t now = port_time_ns();
	struct timer a, b;

	(void)state;
	fired = 0;
	timer_init(&a, count, NULL);
	timer_init(&b, count, NULL);
	timer_set(&a, now + 500);
	timer_set(&b, now + 900);
	assert_int_equal(test_deadline(0), now + 500);
	timer_set(&a, now + 800);
	assert_int_equal(test_deadline(0), now + 500);
	timer_idle(&pcpus[0]->timers);
	assert_int_equal(test_deadline(0), now + 800);
	timer_stop(&a);
	test_advance_ns(850);	/* a spurious interrupt, then the right one is armed */
	run_all();
	assert_int_equal(fired, 0);
	assert_int_equal(test_deadline(0), now + 900);
	timer_stop(&b);
	timer_idle(&pcpus[0]->timers);
	assert_int_equal(test_deadline(0), NEVER);
}

static void test_cpus(void **state)
{
	uint64_t now = port_time_ns();
	struct timer t;

	(void)state;
	fired = 0;
	timer_init(&t, count, NULL);
	timer_migrate(&t);
	assert_false(timer_is_set(&t));
	timer_set(&t, now + 100);
	test_set_cpu(1);
	timer_migrate(&t);
	timer_migrate(&t);
	assert_int_equal(test_deadline(1), now + 100);
	test_set_cpu(2);
	test_advance_ns(100);
	run_all();
	assert_int_equal(fired, 1);
	assert_int_equal(fired_on, 1);
	timer_set(&t, now + 200);
	test_set_cpu(0);
	timer_set(&t, now + 300);	/* takes it away from CPU 2 */
	test_advance_ns(200);
	run_all();
	assert_int_equal(fired, 2);
	assert_int_equal(fired_on, 0);
}

static void set_again(void *data)
{
	fired++;
	timer_set(data, 0);
}

static void kill_self(void *data)
{
	fired++;
	timer_set(data, 0);
	timer_kill(data);
}

/* A timer that is always due holds the CPU for a bounded time only. */
static void test_handlers(void **state)
{
	struct timer t;

	(void)state;
	fired = 0;
	timer_init(&t, set_again, &t);
	timer_set(&t, 0);
	timer_run(&pcpus[0]->timers);
	assert_in_range(fired, 1, 1000);
	assert_true(timer_is_set(&t));
	assert_int_not_equal(test_deadline(0), NEVER);
	timer_kill(&t);
	fired = 0;
	timer_init(&t, kill_self, &t);
	timer_set(&t, 0);
	timer_run(&pcpus[0]->timers);
	assert_int_equal(fired, 1);
	assert_false(timer_is_set(&t));
}

/* --- Against a model ---------------------------------------------------- */

#define NTIMERS 200

static struct model {
	struct timer timer;
	uint64_t deadline;	/* NEVER: not set */
	unsigned int cpu;
	unsigned int fired;
} model[NTIMERS];

static void model_fired(void *data)
{
	struct model *m = data;

	assert_int_not_equal(m->deadline, NEVER);
	assert_true(m->deadline <= port_time_ns());
	assert_int_equal(m->cpu, port_this_pcpu()->cpu_id);
	m->deadline = NEVER;
	if (rnd(4) == 0) {
		m->deadline = port_time_ns() + 1 + rnd(500);
		timer_set(&m->timer, m->deadline);
	}
}

static void model_step(void)
{
	struct model *m = &model[rnd(NTIMERS)];
	unsigned int nr = (unsigned int)rnd(NCPUS);

	test_set_cpu(nr);
	switch (rnd(6)) {
	case 0:
		timer_stop(&m->timer);
		m->deadline = NEVER;
		break;
	case 1:
		if (m->deadline != NEVER)
			m->cpu = nr;
		timer_migrate(&m->timer);
		break;
	case 2:
		timer_idle(&pcpus[nr]->timers);
		break;
	default:
		m->cpu = nr;
		m->deadline = port_time_ns() + rnd(2000);
		timer_set(&m->timer, m->deadline);
	}
}

static void test_model(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NTIMERS; i++) {
		model[i] = (struct model){ .deadline = NEVER };
		timer_init(&model[i].timer, model_fired, &model[i]);
	}
	for (unsigned int step = 0; step < 20000; step++) {
		uint64_t now;

		model_step();
		if (rnd(3))
			continue;
		test_advance_ns(rnd(100));
		run_all();
		now = port_time_ns();
		for (unsigned int i = 0; i < NTIMERS; i++) {
			const struct model *m = &model[i];

			assert_int_equal(timer_is_set(&m->timer), m->deadline != NEVER);
			if (m->deadline == NEVER)
				continue;
			assert_true(m->deadline > now);
			assert_true(test_deadline(m->cpu) <= m->deadline);
		}
	}
}

/* --- Two CPUs at once --------------------------------------------------- */

static atomic_bool stop;
static struct victim {
	struct timer timer;
	atomic_bool dead;
	atomic_uint runs;
} victim;

static void victim_fired(void *data)
{
	struct victim *w = data;

	for (unsigned int i = 0; i < 50; i++)
		assert_false(atomic_load(&w->dead));
	atomic_fetch_add(&w->runs, 1);
	if (!atomic_load(&stop))
		timer_set(&w->timer, 0);
	assert_false(atomic_load(&w->dead));
}

static void *other_cpu(void *data)
{
	(void)data;
	test_set_cpu(1);
	while (!atomic_load(&stop)) {
		timer_run(&pcpus[1]->timers);
		sched_yield();
	}
	timer_run(&pcpus[1]->timers);
	return NULL;
}

/* After timer_kill() the handler does not run, however it races. */
static void test_kill_race(void **state)
{
	pthread_t thread;

	(void)state;
	test_set_threaded(true);
	for (unsigned int round = 0; round < 30; round++) {
		atomic_store(&stop, false);
		memset(&victim, 0, sizeof(victim));
		test_set_cpu(1);
		timer_init(&victim.timer, victim_fired, &victim);
		timer_set(&victim.timer, 0);
		test_set_cpu(0);
		pthread_create(&thread, NULL, other_cpu, NULL);
		while (atomic_load(&victim.runs) < 100)
			sched_yield();
		/* Once in the middle, by a bystander who takes it over. */
		timer_set(&victim.timer, NEVER - 1);
		atomic_store(&stop, true);
		timer_kill(&victim.timer);
		atomic_store(&victim.dead, true);
		pthread_join(thread, NULL);
		assert_false(timer_is_set(&victim.timer));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_heap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_basics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_arming, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handlers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_race, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
