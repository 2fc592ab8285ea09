/* SPDX-License-Identifier: MIT */
/*
 * The scheduler on a simulated machine: vCPUs run and sleep by simple rules,
 * time moves in small steps, and after each step the rules that must always
 * hold are checked. Shares, caps and budgets are compared at the end.
 */
#include "unit.h"

#include <pthread.h>
#include <sched.h>

#include "hospes/domain.h"
#include "hospes/lib.h"
#include "port/testport.h"

#define MS 1000000ULL
#define STEP 100000ULL
#define MAX_DOMS 24
#define MAX_V 64

static uint64_t seed;
static struct domain *doms[MAX_DOMS];
static struct vcpu *vs[MAX_V];
static uint64_t ran[MAX_V];		/* what the simulation saw */
static unsigned int nr_doms, nr_vs, ncpus;
static uint64_t away;			/* CPUs that do not come to their main loop */

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static void start(unsigned int cpus)
{
	seed = 7;
	ncpus = cpus;
	nr_doms = nr_vs = 0;
	away = 0;
	memset(ran, 0, sizeof(ran));
	test_machine_init(4096, cpus);
}

/* A domain whose vCPUs are up and want to run. */
static struct domain *add_domain(unsigned int nr, const struct sched_params *par)
{
	struct domain_create c = {
		.id = DOMID_INVALID, .name = "sim", .nr_vcpus = nr, .max_pages = 16,
		.max_evtchn_port = 127, .max_grant_frames = 1, .max_maptrack_frames = 1,
		.max_grant_version = 2,
	};
	struct domain *d;

	assert_int_equal(domain_create(&c, &d), 0);
	doms[nr_doms++] = d;
	if (par)
		assert_int_equal(sched_set_params(d, par), 0);
	for (unsigned int i = 0; i < nr; i++) {
		vs[nr_vs++] = d->vcpus[i];
		vcpu_pause_clear(d->vcpus[i], PAUSE_DOWN);
	}
	domain_unpause(d);
	return d;
}

/* What the main loop would do now on every CPU, until nobody asks for more. */
static void settle(void)
{
	for (bool again = true; again;) {
		again = false;
		for (unsigned int i = 0; i < ncpus; i++) {
			struct pcpu *p = pcpus[i];
			unsigned int bits;

			if (away & (1ULL << i))
				continue;
			bits = atomic_exchange(&p->softirqs, 0);
			test_set_cpu(i);
			again |= bits;
			if (bits & (1u << SOFTIRQ_TIMER))
				timer_run(&p->timers);
			if (bits & (1u << SOFTIRQ_REAP) && domain_reap_step())
				softirq_raise(i, SOFTIRQ_REAP);
			if (bits & (1u << SOFTIRQ_SCHEDULE))
				schedule(p);
		}
	}
	test_set_cpu(0);
}

static void check(void)
{
	uint64_t idle = 0, now = port_time_ns();

	for (unsigned int c = 0; c < ncpus; c++) {
		struct vcpu *v = pcpus[c]->current;

		if (!v) {
			idle |= 1ULL << c & ~away;
			continue;
		}
		assert_true(vcpu_runnable(v));
		assert_true(v->sched.running);
		assert_int_equal(v->sched.cpu, c);
		assert_true(v->sched.affinity & (1ULL << c));
		assert_true(test_vcpu(v)->loaded && test_vcpu(v)->loaded_on == c);
		for (unsigned int o = 0; o < c; o++)
			assert_ptr_not_equal(pcpus[o]->current, v);
	}
	for (unsigned int i = 0; i < nr_vs; i++) {
		struct vcpu *v = vs[i];
		struct vcpu_runstate_info info;

		if (!vcpu_runnable(v))
			assert_false(v->sched.running || v->sched.where != SCHED_NOWHERE);
		else	/* not lost: it runs, waits or is throttled */
			assert_true(v->sched.running != (v->sched.where != SCHED_NOWHERE));
		/* Nobody waits for a CPU that idles. */
		if (v->sched.where == SCHED_QUEUED)
			assert_false(v->sched.allowed & idle);
		if (v->sched.where == SCHED_THROTTLED)
			assert_true(timer_is_set(&v->sched.timer));
		sched_runstate(v, &info);
		assert_int_equal(info.state == RUNSTATE_running, v->sched.running);
		assert_int_equal(info.time[0] + info.time[1] + info.time[2] + info.time[3],
				 now - MS);
		assert_int_equal(info.time[RUNSTATE_running], ran[i]);
	}
}

static void step(uint64_t ns)
{
	settle();
	check();
	for (unsigned int i = 0; i < nr_vs; i++)
		ran[i] += vs[i]->sched.running ? ns : 0;
	test_advance_ns(ns);
}

static void run_for(uint64_t ns)
{
	for (uint64_t t = 0; t < ns; t += STEP)
		step(STEP);
}

static void finish(void)
{
	settle();
	check();
	nr_vs = 0;
	for (unsigned int i = 0; i < nr_doms; i++)
		domain_destroy(doms[i]);
	for (unsigned int i = 0; i < 1000; i++) {
		settle();
		test_advance_ns(STEP);
	}
	for (unsigned int i = 0; i < ncpus; i++) {
		assert_null(pcpus[i]->current);
		assert_int_equal(pcpus[i]->sched.rt_util, 0);
		assert_int_equal(test_deadline(i), UINT64_MAX);
	}
	assert_int_equal(page_free_count(), page_total_count());
	test_machine_fini();
}

/* Is @a within @percent of @b? */
static void assert_near(uint64_t a, uint64_t b, unsigned int percent)
{
	if (a * 100 < b * (100 - percent) || a * 100 > b * (100 + percent))
		fail_msg("%lu ms, should be %lu ms", a / MS, b / MS);
}

/* --- Shares ------------------------------------------------------------- */

static void test_weights(void **state)
{
	static const uint16_t weight[] = { 64, 256, 512, 1024 };
	uint64_t sum = 0;

	(void)state;
	start(1);
	for (unsigned int i = 0; i < 4; i++) {
		add_domain(1, &(struct sched_params){ .weight = weight[i] });
		sum += weight[i];
	}
	run_for(2000 * MS);
	for (unsigned int i = 0; i < 4; i++)
		assert_near(ran[i], 2000 * MS * weight[i] / sum, 4);
	finish();
}

/* Three equal vCPUs on two CPUs get two thirds each, five get two fifths. */
static void test_across_cpus(void **state)
{
	(void)state;
	for (unsigned int n = 3; n <= 5; n += 2) {
		start(2);
		for (unsigned int i = 0; i < n; i++)
			add_domain(1, NULL);
		run_for(1000 * MS);
		for (unsigned int i = 0; i < n; i++)
			assert_near(ran[i], 2000 * MS / n, 5);
		finish();
	}
	start(4);	/* one that weighs more than a CPU gets just that */
	add_domain(1, &(struct sched_params){ .weight = 60000 });
	add_domain(6, NULL);
	run_for(1000 * MS);
	assert_near(ran[0], 1000 * MS, 3);
	for (unsigned int i = 1; i < 7; i++)
		assert_near(ran[i], 500 * MS, 6);
	finish();
}

/* Who ran alone for long must not pay for it when others come. */
static void test_alone(void **state)
{
	uint64_t before[3];

	(void)state;
	for (unsigned int cpus = 1; cpus <= 2; cpus++) {
		start(cpus);
		for (unsigned int i = 0; i <= cpus; i++)
			add_domain(1, NULL);
		vcpu_pause_set(vs[cpus], PAUSE_BLOCKED);
		run_for(1000 * MS);
		assert_near(ran[0], 1000 * MS, 2);
		memcpy(before, ran, sizeof(before));
		vcpu_pause_clear(vs[cpus], PAUSE_BLOCKED);
		run_for(300 * MS);
		for (unsigned int i = 0; i <= cpus; i++)
			assert_near(ran[i] - before[i], 300 * MS * cpus / (cpus + 1), 10);
		finish();
	}
}

/* The same where it takes who comes from a CPU whose time is far behind. */
static void test_alone_steals(void **state)
{
	uint64_t before;

	(void)state;
	start(2);
	add_domain(1, NULL);
	add_domain(1, &(struct sched_params){ .weight = 4096 });
	add_domain(1, NULL);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(sched_set_affinity(vs[i], i ? 2 : 1), 0);
	run_for(20 * MS);
	vcpu_pause_set(vs[2], PAUSE_BLOCKED);
	run_for(1000 * MS);
	assert_int_equal(sched_set_affinity(vs[2], 3), 0);
	before = ran[0];
	vcpu_pause_clear(vs[2], PAUSE_BLOCKED);
	run_for(300 * MS);
	assert_int_equal(vs[2]->sched.cpu, 0);
	assert_near(ran[0] - before, 150 * MS, 20);
	finish();
}

static void test_pinning(void **state)
{
	uint64_t before[5];

	(void)state;
	start(3);
	add_domain(4, NULL);
	add_domain(1, NULL);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(sched_set_affinity(vs[i], 1), 0);
	assert_int_equal(sched_set_affinity(vs[4], 1ULL << 60), -XEN_EINVAL);
	run_for(400 * MS);
	for (unsigned int i = 0; i < 4; i++)
		assert_near(ran[i], 100 * MS, 12);
	assert_near(ran[4], 400 * MS, 3);
	/* The pinned ones lag by now; let loose they must not starve the other. */
	memcpy(before, ran, sizeof(before));
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(sched_set_affinity(vs[i], ~0ULL), 0);
	run_for(400 * MS);
	for (unsigned int i = 0; i < 5; i++)
		assert_near(ran[i] - before[i], 240 * MS, 20);
	finish();
}

static void test_caps(void **state)
{
	uint64_t before;

	(void)state;
	start(2);
	add_domain(1, &(struct sched_params){ .weight = 256, .cap = 25 });
	add_domain(2, &(struct sched_params){ .weight = 256, .cap = 60 });
	run_for(2000 * MS);
	assert_near(ran[0], 500 * MS, 2);
	assert_near(ran[1] + ran[2], 1200 * MS, 2);
	assert_int_equal(sched_set_params(doms[0], &(struct sched_params){ .weight = 60000 }), 0);
	before = ran[0];
	run_for(100 * MS);
	assert_near(ran[0] - before, 100 * MS, 3);
	finish();
}

/* One CPU begins the next period: until it is done, nobody takes the old budget for the new. */
static void test_cap_refill(void **state)
{
	struct sched_budget *b;
	uint64_t end;

	(void)state;
	start(1);
	b = &add_domain(1, &(struct sched_params){ .weight = 256, .cap = 25 })->cap;
	while (vs[0]->sched.where != SCHED_THROTTLED)
		step(STEP);
	end = atomic_load(&b->until);
	while (port_time_ns() + STEP < end)
		step(STEP);
	atomic_store(&b->until, SCHED_REFILL);
	step(STEP);
	step(STEP);
	settle();
	assert_true(vs[0]->sched.running);
	assert_true(atomic_load(&b->left) < 0);		/* the other CPU's to raise */
	assert_true(timer_is_set(&pcpus[0]->sched.slice));
	atomic_fetch_add(&b->left, (int64_t)b->quota);
	atomic_store(&b->until, end + b->period);
	run_for(200 * MS);
	assert_near(ran[0], 25 * port_time_ns() / 100, 5);
	finish();
}

/* --- Real time ---------------------------------------------------------- */

static struct sched_params rt(uint64_t period_us, uint64_t budget_us)
{
	return (struct sched_params){
		.weight = 256, .rt_period_ns = period_us * 1000, .rt_budget_ns = budget_us * 1000,
	};
}

static void test_admission(void **state)
{
	static const struct sched_params bad[] = {
		{ .weight = 0 }, { .weight = 1, .cap = 65000 },
		{ .weight = 1, .rt_period_ns = 10, .rt_budget_ns = 10 },
		{ .weight = 1, .rt_period_ns = 10 * MS, .rt_budget_ns = 11 * MS },
		{ .weight = 1, .rt_period_ns = 10 * MS, .rt_budget_ns = 1 },
		{ .weight = 1, .rt_period_ns = UINT64_MAX, .rt_budget_ns = 5 * MS },
	};
	struct sched_params p60 = rt(10000, 6000), p20 = rt(10000, 2000), all = rt(1000, 1000);

	(void)state;
	start(2);
	add_domain(1, &p60);
	add_domain(1, &p60);
	add_domain(2, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(sched_set_params(doms[0], &bad[i]), -XEN_EINVAL);
	assert_int_equal(sched_set_params(doms[2], &p60), -XEN_ENOSPC);
	assert_int_equal(sched_set_params(doms[2], &all), -XEN_ENOSPC);
	assert_int_equal(pcpus[0]->sched.rt_util + pcpus[1]->sched.rt_util, 1200000);
	assert_int_equal(sched_set_params(doms[2], &p20), 0);
	assert_int_equal(pcpus[0]->sched.rt_util, 800000);
	assert_int_equal(pcpus[1]->sched.rt_util, 800000);
	/* One of two fits only: neither keeps it, both keep what they had. */
	assert_int_equal(sched_set_affinity(vs[2], 1), 0);
	assert_int_equal(sched_set_affinity(vs[3], 1), vs[3]->sched.allowed == 1 ? 0 : -XEN_ENOSPC);
	assert_int_equal(sched_set_params(doms[2], &p60), -XEN_ENOSPC);
	assert_int_equal(pcpus[0]->sched.rt_util + pcpus[1]->sched.rt_util, 1600000);
	assert_int_equal(vs[2]->sched.rt.quota, 2 * MS);
	finish();
}

/* Budgets are met in every period, whatever else runs, and not exceeded. */
static void test_real_time(void **state)
{
	struct sched_params a = rt(10000, 4000), b = rt(25000, 10000);

	(void)state;
	start(1);
	add_domain(1, &a);
	add_domain(1, &b);
	add_domain(3, NULL);
	run_for(100 * MS);
	for (unsigned int i = 0; i < 20; i++) {
		uint64_t before[2] = { ran[0], ran[1] };

		run_for(50 * MS);
		assert_near(ran[0] - before[0], 20 * MS, 8);
		assert_near(ran[1] - before[1], 20 * MS, 8);
	}
	assert_near(ran[2] + ran[3] + ran[4], 1100 * MS / 5, 8);
	/* A sleeper that wakes late does not get two budgets in a row. */
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	run_for(8 * MS);
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	{
		uint64_t before = ran[0];

		run_for(9 * MS);
		assert_true(ran[0] - before <= 4 * MS + STEP);
	}
	sched_yield_slice(vs[0]);
	finish();
}

/* Advances without anybody looking, so whoever runs overruns. */
static void overrun(uint64_t ns)
{
	for (unsigned int i = 0; i < nr_vs; i++)
		ran[i] += vs[i]->sched.running ? ns : 0;
	test_advance_ns(ns);
}

/* Who ran for longer than it may pays for it, even if it sleeps over the deadline. */
static void test_real_time_debt(void **state)
{
	struct sched_params a = rt(10000, 4000);
	uint64_t before;

	(void)state;
	start(1);
	add_domain(1, &a);
	add_domain(1, NULL);
	for (bool past = false; !past || !vs[0]->sched.running; step(STEP))
		past |= vs[0]->sched.where == SCHED_THROTTLED;
	overrun(6 * MS);
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	assert_true(vs[0]->sched.rt.left < -2 * (int64_t)MS);
	while (port_time_ns() < vs[0]->sched.rt.until)
		step(STEP);
	before = ran[0];
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	run_for(9 * MS);
	assert_in_range(ran[0] - before, MS, 2 * MS);
	/* Periods it slept through paid it. */
	run_for(5 * MS);
	overrun(9 * MS);
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	run_for(100 * MS);
	before = ran[0];
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	run_for(9 * MS);
	assert_near(ran[0] - before, 4 * MS, 5);
	finish();
}

/* --- Waking, yielding, idling -------------------------------------------- */

/* Whoever wakes on the CPU that still has its state loaded pays for no save. */
static unsigned int saves;
static void (*real_save)(struct vcpu *v);
static void count_save(struct vcpu *v)
{
	saves++;
	real_save(v);
}

static void test_idle(void **state)
{
	struct cpu_ops counting = *cpu;

	(void)state;
	start(2);
	counting = *cpu;
	real_save = cpu->save;
	counting.save = count_save;
	cpu = &counting;
	saves = 0;
	add_domain(1, NULL);
	run_for(10 * MS);
	for (unsigned int i = 0; i < ncpus; i++)	/* alone it needs no slice */
		assert_false(timer_is_set(&pcpus[i]->sched.slice));
	for (unsigned int i = 0; i < 50; i++) {
		vcpu_pause_set(vs[0], PAUSE_BLOCKED);
		run_for(MS);
		assert_null(pcpus[vs[0]->sched.cpu]->current);
		vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
		run_for(MS);
	}
	assert_int_equal(saves, 0);
	/* Sent away while its state lies on the idle CPU. */
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	assert_int_equal(sched_set_affinity(vs[0], 1ULL << !vs[0]->sched.cpu), 0);
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	run_for(2 * MS);
	assert_true(vs[0]->sched.running);
	assert_int_equal(saves, 1);
	/* And while it runs. */
	assert_int_equal(sched_set_affinity(vs[0], 1ULL << !vs[0]->sched.cpu), 0);
	run_for(2 * MS);
	assert_true(vs[0]->sched.running);
	cpu = &test_cpu_ops;
	finish();
}

static void test_preempt_and_yield(void **state)
{
	uint64_t before;

	(void)state;
	start(1);
	add_domain(1, NULL);
	add_domain(1, NULL);
	vcpu_pause_set(vs[1], PAUSE_BLOCKED);
	run_for(100 * MS);
	vcpu_pause_clear(vs[1], PAUSE_BLOCKED);
	settle();
	assert_true(vs[1]->sched.running);	/* it slept long: at once */
	sched_yield_slice(vs[1]);
	settle();
	assert_true(vs[0]->sched.running);
	before = ran[0];
	for (unsigned int i = 0; i < 1000; i++) {
		sched_yield_slice(pcpus[0]->current);
		step(STEP);
	}
	assert_near(ran[0] - before, 50 * MS, 3);	/* yielding all the time is fair too */
	finish();
}

static void test_sleep_sync(void **state)
{
	(void)state;
	start(2);
	add_domain(1, NULL);
	settle();
	test_set_cpu(vs[0]->sched.cpu);
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	test_set_cpu(vs[0]->sched.cpu);
	assert_true(vs[0]->sched.loaded);
	sched_sleep_sync(vs[0]);	/* here: at once */
	assert_false(test_vcpu(vs[0])->loaded);
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	settle();
	test_set_cpu(!vs[0]->sched.cpu);
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	test_set_cpu(!vs[0]->sched.cpu);
	assert_false(sched_is_unloaded(vs[0]));
	settle();
	assert_true(sched_is_unloaded(vs[0]));
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	finish();
}

/* Its state is taken off the CPU that should have sent it to another one. */
static void test_unload_moves(void **state)
{
	(void)state;
	start(2);
	add_domain(1, NULL);
	assert_int_equal(sched_set_affinity(vs[0], 1), 0);
	settle();
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	assert_true(vs[0]->sched.loaded);
	assert_int_equal(sched_set_affinity(vs[0], 2), 0);
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	assert_true(sched_is_unloaded(vs[0]));
	run_for(MS);
	assert_true(vs[0]->sched.running);
	finish();
}

/* Who wakes avoids an idle CPU that has something else to do. */
static void test_busy(void **state)
{
	unsigned int nr;

	(void)state;
	start(2);
	add_domain(1, NULL);
	for (unsigned int i = 0; i < 2; i++)
		softirq_raise(i, SOFTIRQ_SCHEDULE);
	settle();
	nr = vs[0]->sched.cpu;
	test_set_cpu(nr);
	vcpu_pause_set(vs[0], PAUSE_BLOCKED);
	settle();
	test_set_cpu(nr);
	sched_sleep_sync(vs[0]);
	sched_busy();
	assert_int_equal(sched_idle_cpu(), !nr);
	vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
	settle();
	assert_int_equal(vs[0]->sched.cpu, !nr);
	assert_true(vs[0]->sched.running);
	softirq_raise(nr, SOFTIRQ_SCHEDULE);
	settle();
	assert_int_equal(sched_idle_cpu(), nr);
	finish();
}

static struct vcpu *sleeper;
static unsigned int takes;

/* The first time is schedule()'s own; the second where it looks at another CPU. */
static void wake_between(unsigned int level)
{
	if (level != LOCK_SCHED || ++takes < 2)
		return;
	test_lock_hook = NULL;
	for (unsigned int i = 0; i < nr_vs; i++)
		ran[i] += vs[i]->runstate.state == RUNSTATE_running ? 3000 : 0;
	test_advance_ns(3000);
	test_set_cpu(1);
	vcpu_pause_clear(sleeper, PAUSE_BLOCKED);
	test_set_cpu(0);
}

/* While a CPU lets go of its lock to look elsewhere, one of its vCPUs wakes. */
static void test_wake_in_schedule(void **state)
{
	(void)state;
	for (unsigned int who = 4; who <= 5; who++) {
		start(3);
		add_domain(6, NULL);
		for (unsigned int i = 0; i < 6; i++)
			assert_int_equal(sched_set_affinity(vs[i], i < 4 ? 6 : 1), 0);
		vcpu_pause_set(vs[5], PAUSE_BLOCKED);
		run_for(5 * MS);
		assert_ptr_equal(pcpus[0]->current, vs[4]);
		vcpu_pause_set(vs[4], PAUSE_BLOCKED);
		sleeper = vs[who];
		takes = 0;
		test_lock_hook = wake_between;
		schedule(pcpus[0]);
		assert_null(test_lock_hook);
		step(STEP);
		check();
		finish();
	}
}

/* Nobody has to wait until a CPU that does something else has time again. */
static void test_busy_shares(void **state)
{
	uint64_t before[3];

	(void)state;
	for (unsigned int round = 0; round < 2; round++) {
		start(2);
		add_domain(3, NULL);
		for (unsigned int i = 0; i < 3 && round; i++)
			assert_int_equal(sched_set_affinity(vs[i], i ? 2 : 1), 0);
		run_for(50 * MS);
		assert_int_equal(sched_set_affinity(vs[0], 3), 0);
		run_for(50 * MS);
		if (round)	/* it sleeps, its state still there */
			vcpu_pause_set(vs[0], PAUSE_BLOCKED);
		run_for(100 * MS);
		memcpy(before, ran, sizeof(before));
		assert_int_equal(round, !pcpus[0]->current && vs[0]->sched.loaded);
		away = 1;
		sched_busy();
		vcpu_pause_clear(vs[0], PAUSE_BLOCKED);
		run_for(300 * MS);
		for (unsigned int i = 0; i < 3; i++)
			assert_near(ran[i] - before[i], 100 * MS, 25);
		for (unsigned int i = 0; i < 2; i++)
			softirq_raise(i, SOFTIRQ_SCHEDULE);
		away = 0;
		run_for(10 * MS);
		finish();
	}
}

/* --- Everything at random ------------------------------------------------ */

static void random_change(void)
{
	unsigned int i = (unsigned int)rnd(nr_vs);
	struct sched_params par = { .weight = (uint16_t)(1 + rnd(1000)) };
	int rc = 0;

	test_set_cpu((unsigned int)rnd(ncpus));
	switch (rnd(12)) {
	case 0:
		rc = sched_set_affinity(vs[i], rnd(1ULL << ncpus));
		break;
	case 1:
		par.cap = (uint16_t)rnd(150);
		rc = sched_set_params(vs[i]->domain, &par);
		break;
	case 2:
		par.rt_period_ns = (1 + rnd(20)) * MS;
		par.rt_budget_ns = par.rt_period_ns / (2 + rnd(10));
		rc = sched_set_params(vs[i]->domain, &par);
		break;
	case 3:
		(void)sched_is_unloaded(vs[i]);
		break;
	case 4:
		if (vs[i]->sched.running) {
			test_set_cpu(vs[i]->sched.cpu);
			sched_yield_slice(vs[i]);
		}
		break;
	case 5:
	case 6:
	case 7:
		vcpu_pause_set(vs[i], PAUSE_BLOCKED);
		break;
	default:
		vcpu_pause_clear(vs[i], PAUSE_BLOCKED);
	}
	assert_true(rc == 0 || rc == -XEN_EINVAL || rc == -XEN_ENOSPC);
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned int round = 1; round <= 4; round++) {
		start(round);
		seed = round;
		for (unsigned int i = 0; i < 5; i++)
			add_domain(1 + i % 3, NULL);
		for (unsigned int i = 0; i < 4000; i++) {
			for (unsigned int n = (unsigned int)rnd(4); n > 0; n--)
				random_change();
			step(1 + rnd(2 * MS));
		}
		finish();
	}
}

/* --- Threads: no wake-up is lost ------------------------------------------ */

#define WAKES 3000u

static atomic_bool stop;
static atomic_uint sent[4], seen[4];

/* The guest: looks at its mail box and blocks when it is empty. */
static void *cpu_thread(void *data)
{
	struct pcpu *p = data;

	test_set_cpu(p->cpu_id);
	while (!atomic_load(&stop)) {
		unsigned int bits = atomic_exchange(&p->softirqs, 0);
		struct vcpu *v;

		if (bits & (1u << SOFTIRQ_TIMER))
			timer_run(&p->timers);
		if (bits & (1u << SOFTIRQ_SCHEDULE))
			schedule(p);
		v = p->current;
		if (!v) {
			port_idle();
			continue;
		}
		if (atomic_exchange(&v->nmi_pending, false))
			atomic_store(&seen[v->id], atomic_load(&sent[v->id]));
		else
			vcpu_block(v);
		port_poll_interrupts();
	}
	return NULL;
}

static void test_wake_race(void **state)
{
	pthread_t thread[2];
	struct domain *d;

	(void)state;
	start(3);
	d = add_domain(4, NULL);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(sched_set_affinity(vs[i], 3), 0);
	memset(sent, 0, sizeof(sent));
	memset(seen, 0, sizeof(seen));
	atomic_store(&stop, false);
	test_set_threaded(true);
	for (unsigned int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, cpu_thread, pcpus[i]);
	test_set_cpu(2);
	for (unsigned int n = 1; n <= WAKES; n++) {
		struct vcpu *v = d->vcpus[n % 4];

		if (n % 500 == 0) {
			domain_pause(d);
			for (unsigned int i = 0; i < 4; i++)
				assert_false(test_vcpu(vs[i])->loaded);
			domain_unpause(d);
		}
		atomic_store(&sent[v->id], n);
		atomic_exchange(&v->nmi_pending, true);
		vcpu_notify(v);
		while (n % 3 == 0 && atomic_load(&seen[v->id]) != n)
			sched_yield();	/* forever, if it was lost */
	}
	for (unsigned int i = 0; i < 4; i++) {
		while (atomic_load(&seen[i]) != atomic_load(&sent[i]))
			sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	test_set_threaded(false);
	for (unsigned int i = 0; i < 3; i++)
		atomic_fetch_or(&pcpus[i]->softirqs, 1u << SOFTIRQ_SCHEDULE);
	nr_vs = 0;
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_across_cpus),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_alone_steals),
		cmocka_unit_test(test_pinning),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_cap_refill),
		cmocka_unit_test(test_admission),
		cmocka_unit_test(test_real_time),
		cmocka_unit_test(test_real_time_debt),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_preempt_and_yield),
		cmocka_unit_test(test_sleep_sync),
		cmocka_unit_test(test_unload_moves),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_busy_shares),
		cmocka_unit_test(test_wake_in_schedule),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_wake_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
