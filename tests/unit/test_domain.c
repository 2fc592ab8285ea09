/* SPDX-License-Identifier: MIT */
/*
 * Domains from creation to the last reference, vCPUs from start-up to their
 * end, and the main loop; with the builder played by the test.
 */
#include "unit.h"

#include "hospes/builder.h"
#include "hospes/domain.h"
#include "hospes/evtchn.h"
#include "hospes/gnttab.h"
#include "hospes/lib.h"
#include "port/testport.h"

static unsigned int built, gone, again_count;
static bool build_result;

bool builder_start(struct guest_config *config)
{
	(void)config;
	built++;
	return build_result;
}

void builder_free_modules(const struct guest_list *list)
{
}

void builder_domain_gone(struct guest_config *config, bool again)
{
	assert_non_null(config);
	lock_check_none();
	gone++;
	again_count += again;
}

static int setup(void **state)
{
	(void)state;
	built = gone = again_count = 0;
	build_result = true;
	test_machine_init(4096, 2);
	policy_init_host();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(page_free_count(), page_total_count());
	test_machine_fini();
	return 0;
}

static struct domain_create params(unsigned int nr)
{
	return (struct domain_create){
		.id = DOMID_INVALID, .name = "a guest whose name is much too long for it",
		.nr_vcpus = nr, .max_pages = 64, .max_evtchn_port = 127, .max_grant_frames = 4,
		.max_maptrack_frames = 4, .max_grant_version = 2,
	};
}

static struct domain *make(unsigned int nr)
{
	struct domain_create c = params(nr);
	struct domain *d;

	assert_int_equal(domain_create(&c, &d), 0);
	return d;
}

/* A domain that runs: everything up and unpaused. */
static struct domain *make_running(unsigned int nr)
{
	struct domain *d = make(nr);

	for (unsigned int i = 0; i < nr; i++)
		vcpu_pause_clear(d->vcpus[i], PAUSE_DOWN);
	domain_unpause(d);
	return d;
}

static void settle(void)
{
	for (bool again = true; again;) {
		again = false;
		for (unsigned int i = 0; i < 2; i++) {
			unsigned int bits = atomic_exchange(&pcpus[i]->softirqs, 0);

			test_set_cpu(i);
			again |= bits;
			if (bits & (1u << SOFTIRQ_TIMER))
				timer_run(&pcpus[i]->timers);
			if (bits & (1u << SOFTIRQ_REAP) && domain_reap_step())
				softirq_raise(i, SOFTIRQ_REAP);
			if (bits & (1u << SOFTIRQ_SCHEDULE))
				schedule(pcpus[i]);
		}
	}
	test_set_cpu(0);
}

static void settle_for(uint64_t ns)
{
	for (unsigned int i = 0; i < 2; i++) {
		settle();
		test_advance_ns(ns / 2);
	}
	settle();
}

/* As the vCPU itself, on the CPU that runs it. */
static void become(const struct vcpu *v)
{
	assert_true(v->sched.running);
	test_set_cpu(v->sched.cpu);
}

/* --- Creation ----------------------------------------------------------- */

static void test_create(void **state)
{
	struct domain_create c = params(40);
	struct domain *a, *b, *x = NULL;

	(void)state;
	assert_int_equal(domain_create(&c, &a), 0);
	b = make(1);
	assert_int_not_equal(a->id, b->id);
	assert_int_equal(strlen(a->name), sizeof(a->name) - 1);
	assert_ptr_equal(domain_by_slot(a->slot), a);
	assert_ptr_equal(domain_vcpu(a, 39), a->vcpus[39]);
	assert_null(domain_vcpu(a, 40));
	assert_null(domain_vcpu(a, UINT64_MAX));
	assert_ptr_equal(a->vcpus[31]->info, &a->shared->vcpu_info[31]);
	assert_ptr_equal(a->vcpus[32]->info, a->dummy_info);
	assert_null(b->dummy_info);
	assert_int_equal(atomic_load(&a->vcpus[0]->pause_flags), PAUSE_DOWN | PAUSE_DOMAIN);
	c.id = a->id;
	assert_int_equal(domain_create(&c, &x), -XEN_EEXIST);
	c.id = DOMID_FIRST_RESERVED;
	assert_int_equal(domain_create(&c, &x), -XEN_EINVAL);
	c.id = DOMID_INVALID;
	c.nr_vcpus = 0;
	assert_int_equal(domain_create(&c, &x), -XEN_EINVAL);
	c.nr_vcpus = MAX_VCPUS + 1;
	assert_int_equal(domain_create(&c, &x), -XEN_EINVAL);
	assert_null(x);
	domain_destroy(a);
	domain_destroy(b);
	settle_for(1000000);
}

/* The n-th allocation fails, for every n: nothing stays behind. */
static void test_create_fails(void **state)
{
	unsigned int n, fails = 0;

	(void)state;
	for (n = 1;; n++) {
		struct domain_create c = params(33);
		uint64_t before = page_free_count();
		struct domain *d = NULL;
		int rc;

		page_fail_after = n;
		rc = domain_create(&c, &d);
		page_fail_after = 0;
		if (!rc) {
			domain_destroy(d);
			settle_for(1000000);
			break;
		}
		assert_int_equal(rc, -XEN_ENOMEM);
		assert_null(d);
		assert_int_equal(page_free_count(), before);
		fails++;
	}
	assert_true(fails > 10);
	for (n = 1; n <= 33; n++) {
		struct domain_create c = params(33);
		struct domain *d;

		test_vcpu_init_fail = n;
		assert_int_equal(domain_create(&c, &d), -XEN_ENOMEM);
	}
}

/* --- References, lookup -------------------------------------------------- */

static void count(struct domain *d, void *data)
{
	(void)d;
	(*(unsigned int *)data)++;
}

static void test_references(void **state)
{
	struct domain *a = make(1), *b = make(1);
	domid_t id = a->id;
	unsigned int nr = 0;

	(void)state;
	assert_ptr_equal(domain_get_by_id(id), a);
	assert_int_equal(atomic_load(&a->refs), 2);
	assert_null(domain_get_by_id((domid_t)(id + MAX_DOMAINS)));
	assert_null(domain_get_by_id(DOMID_SELF));
	assert_ptr_equal(domain_get_target(a->vcpus[0], DOMID_SELF), a);
	assert_ptr_equal(domain_get_target(a->vcpus[0], b->id), b);
	domain_put(a);
	domain_put(b);
	domain_for_each(count, &nr);
	assert_int_equal(nr, 2);
	domain_destroy(a);
	domain_destroy(a);
	domain_destroy(b);
	settle_for(1000000);
	assert_null(domain_get_by_id(b->id == id ? id : (domid_t)(id + 1)));
	assert_ptr_equal(domain_get_by_id(id), a);	/* dead, but held */
	domain_put(a);
	assert_int_equal(atomic_load(&a->life), DOMAIN_DEAD);
	domain_put(a);
	settle();
	assert_null(domain_get_by_id(id));
	a = make(1);
	assert_int_not_equal(a->id, id);		/* not used again soon */
	domain_destroy(a);
	settle_for(1000000);
}

/* Another domain still uses a page of it: it stays until that is over. */
static void test_page_outlives(void **state)
{
	struct domain *d = make_running(2);
	struct page *pg;

	(void)state;
	settle();
	assert_int_equal(p2m_populate(d, GFN(5), 0), 0);
	assert_int_equal(p2m_populate(d, GFN(6), 0), 0);
	pg = p2m_get_page(d, GFN(5), true);
	assert_int_equal(guest_pin(d, GFN(6), &d->vcpus[1]->info_pin), 0);
	/* It would look into the vcpu_info there. */
	timer_set(&d->vcpus[1]->lapic.timer, port_time_ns() + 1000000000);
	domain_get(d);
	domain_destroy(d);
	settle_for(100000000);
	assert_int_equal(atomic_load(&d->tot_pages), 1);
	assert_int_equal(atomic_load(&d->life), DOMAIN_DYING);
	assert_true(domain_is_dying(d));
	assert_false(timer_is_set(&d->vcpus[1]->lapic.timer));
	page_put(pg);
	settle_for(20000000);
	assert_int_equal(atomic_load(&d->life), DOMAIN_DEAD);
	domain_put(d);
	settle();
}

/* --- Pausing, shutdown ---------------------------------------------------- */

static void test_pause(void **state)
{
	struct domain *d = make_running(1);

	(void)state;
	/* Here, as nobody plays the other CPU while we wait. */
	assert_int_equal(sched_set_affinity(d->vcpus[0], 1), 0);
	settle();
	assert_true(d->vcpus[0]->sched.running);
	vcpu_pause_set(d->vcpus[0], PAUSE_BLOCKED);
	settle();
	domain_pause(d);
	domain_pause(d);
	assert_false(d->vcpus[0]->sched.loaded);
	atomic_store(&d->vcpus[0]->nmi_pending, true);
	vcpu_notify(d->vcpus[0]);
	settle();
	assert_false(d->vcpus[0]->sched.running);
	assert_true(domain_unpause(d));
	settle();
	assert_false(d->vcpus[0]->sched.running);
	assert_true(domain_unpause(d));
	assert_false(domain_unpause(d));	/* once too often: no harm */
	settle();
	assert_true(d->vcpus[0]->sched.running);
	domain_destroy(d);
	settle_for(1000000);
}

static void end(uint8_t code, uint8_t on_crash, bool dies, bool restarts)
{
	struct guest_config config = { .name = "g", .on_crash = on_crash };
	struct domain *d = make_running(2);
	unsigned int gone_before = gone, again_before = again_count;

	d->config = &config;
	settle();
	become(d->vcpus[0]);
	if (code == SHUTDOWN_crash) {
		domain_crash(d, "test %u", 1u);
		domain_crash(d, "not a second time");
	} else {
		domain_shutdown(d, code);
	}
	domain_shutdown(d, SHUTDOWN_suspend);	/* the first one counts */
	assert_int_equal(d->shutdown_code, code);
	settle_for(1000000);
	assert_int_equal(gone - gone_before, dies);
	assert_int_equal(again_count - again_before, restarts);
	if (!dies) {
		assert_false(d->vcpus[0]->sched.running || d->vcpus[1]->sched.running);
		domain_destroy(d);
		settle_for(1000000);
		assert_int_equal(again_count - again_before, 0);
	}
}

/* A millisecond of two CPUs, the first of which has the reaper's work to do. */
static void millisecond(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		test_set_cpu(i);
		atomic_store(&pcpus[i]->softirqs, 0);
		timer_run(&pcpus[i]->timers);
		schedule(pcpus[i]);
	}
	test_set_cpu(0);
	domain_reap_step();
	test_advance_ns(1000000);
}

/* With no CPU idle another guest's slice has to do, but only after a while. */
static void test_restart_waits(void **state)
{
	struct guest_config config = { .name = "g" };
	struct domain *busy = make_running(2);

	(void)state;
	for (unsigned int round = 1; round <= 2; round++) {
		struct domain *d = make_running(1);
		unsigned int ms;

		d->config = &config;
		settle();
		domain_shutdown(d, SHUTDOWN_reboot);
		for (ms = 0; ms < 300 && again_count < round; ms++) {
			if (round == 2 && ms == 40)
				vcpu_pause_set(pcpus[0]->current, PAUSE_BLOCKED);
			millisecond();
		}
		assert_int_equal(again_count, round);
		if (round == 1)
			assert_in_range(ms, 100, 200);
		else
			assert_int_equal(ms, 41);
	}
	domain_destroy(busy);
	settle_for(1000000);
}

static void test_shutdown(void **state)
{
	struct domain *d = make(1);

	(void)state;
	end(SHUTDOWN_poweroff, ON_CRASH_RESTART, true, false);
	end(SHUTDOWN_reboot, ON_CRASH_DESTROY, true, true);
	end(SHUTDOWN_suspend, ON_CRASH_DESTROY, false, false);
	end(SHUTDOWN_crash, ON_CRASH_DESTROY, true, false);
	end(SHUTDOWN_crash, ON_CRASH_RESTART, true, true);
	end(SHUTDOWN_crash, ON_CRASH_PRESERVE, false, false);
	end(SHUTDOWN_watchdog, ON_CRASH_RESTART, true, true);
	end(200, ON_CRASH_DESTROY, true, false);
	d->shutdown_code = SHUTDOWN_reboot;
	d->shutdown_code_set = true;
	domain_shutdown(d, SHUTDOWN_poweroff);
	assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
	settle_for(1000000);
	assert_int_equal(atomic_load(&d->life), DOMAIN_ALIVE);	/* no configuration: stays */
	domain_destroy(d);
	settle_for(1000000);
}

/* --- vCPUs ---------------------------------------------------------------- */

static void test_block(void **state)
{
	struct domain *d = make_running(2);
	struct vcpu *v = d->vcpus[0], *w = d->vcpus[1];

	(void)state;
	settle();
	become(v);
	atomic_store(&v->nmi_pending, true);
	vcpu_block(v);
	assert_true(vcpu_runnable(v));
	atomic_store(&v->nmi_pending, false);
	v->regs.rflags = 0x202;
	vcpu_halt(v);
	settle();
	assert_int_equal(atomic_load(&v->pause_flags), PAUSE_BLOCKED);
	assert_false(v->sched.running);
	vcpu_notify(v);			/* of nothing */
	assert_true(vlapic_write(v, APIC_SVR << 4, 0x1ff));
	assert_true(vlapic_write(v, APIC_TPR << 4, 0x80));
	vlapic_request(v, 0x81);	/* the TPR holds it back */
	settle();
	assert_int_equal(atomic_load(&v->pause_flags), PAUSE_BLOCKED);
	vlapic_request(v, 0x91);
	settle();
	assert_true(v->sched.running);
	vlapic_reset(v);
	(void)test_take_kick(v->sched.cpu);
	test_set_cpu(w->sched.cpu);
	vcpu_mark_upcall(v);		/* has no vector: a kick */
	assert_true(test_take_kick(v->sched.cpu));
	vcpu_pause_set(v, PAUSE_POLL);
	vcpu_notify(v);
	assert_true(vcpu_runnable(v));
	/* Paused by another CPU between the flag and the look: it must not run on. */
	settle();
	become(v);
	atomic_store(&v->nmi_pending, true);
	atomic_fetch_or(&v->pause_flags, PAUSE_DOMAIN);
	vcpu_block(v);
	settle();
	assert_false(v->sched.running);
	atomic_fetch_and(&v->pause_flags, ~PAUSE_DOMAIN);
	sched_wake(v);
	/* With interrupts off it goes down; the last one ends the domain. */
	settle();
	atomic_store(&v->nmi_pending, false);
	v->regs.rflags = w->regs.rflags = 0x2;
	become(v);
	vcpu_halt(v);
	settle();
	assert_false(d->shut_down);
	become(w);
	vcpu_halt(w);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_poweroff);
	domain_destroy(d);
	settle_for(1000000);
}

/* A sleeper taken down is offline from then on, not blocked; and back. */
static void test_down_while_blocked(void **state)
{
	struct domain *d = make_running(2);
	struct vcpu *v = d->vcpus[0];
	struct vcpu_runstate_info info;

	(void)state;
	settle();
	vcpu_pause_set(v, PAUSE_BLOCKED);
	settle_for(1000000);
	vcpu_down(v);
	settle_for(2000000);
	vcpu_pause_clear(v, PAUSE_DOWN);
	sched_runstate(v, &info);
	assert_int_equal(info.state, RUNSTATE_blocked);
	assert_int_equal(info.time[RUNSTATE_blocked], 1000000);
	assert_int_equal(info.time[RUNSTATE_offline], 2000000);
	vcpu_pause_clear(v, PAUSE_BLOCKED);
	settle();
	assert_true(v->sched.running);
	domain_destroy(d);
	settle_for(1000000);
}

static void test_start_up(void **state)
{
	struct domain *d = make(3);
	struct vcpu *v = d->vcpus[0], *w = d->vcpus[1];
	struct guest_regs regs = { .rip = 0x1234 };
	struct guest_system sys = { .cr0 = 0x80000011, .efer = 0x500 };

	(void)state;
	assert_int_equal(vcpu_set_entry(v, &regs, &sys), 0);
	assert_int_equal(vcpu_set_entry(v, &regs, &sys), -XEN_EEXIST);
	assert_true(v->initialised);
	vcpu_pause_clear(v, PAUSE_DOWN);
	domain_unpause(d);
	settle();
	become(v);
	assert_int_equal(v->regs.rip, 0x1234);
	vcpu_sipi(v, 7);			/* it runs: ignored */
	vcpu_init_signal(w);
	vcpu_sipi(w, 0x9a);
	vcpu_sipi(w, 0x55);			/* the second one is too late */
	settle();
	assert_true(w->sched.running && w->initialised);
	assert_int_equal(test_vcpu(w)->sys.seg[SEG_CS].base, 0x9a000);
	assert_int_equal(test_vcpu(w)->sys.seg[SEG_CS].sel, 0x9a00);
	assert_int_equal(w->regs.rip, 0);
	assert_int_equal(test_vcpu(w)->sys.cr0 & 0x80000001u, 0);
	assert_int_equal(vcpu_set_entry(w, &regs, &sys), -XEN_EEXIST);
	/* INIT and start-up before it noticed: it still begins anew. */
	w->regs.rip = 0x777;
	become(v);
	vcpu_init_signal(w);
	vcpu_sipi(w, 0x10);
	settle();
	assert_int_equal(w->regs.rip, 0);
	assert_int_equal(test_vcpu(w)->sys.seg[SEG_CS].base, 0x10000);
	/* Both at each other: no one waits for the other, both are down. */
	become(v);
	vcpu_init_signal(w);
	become(w);
	vcpu_init_signal(v);
	settle();
	assert_false(v->sched.running || w->sched.running);
	vcpu_sipi(v, 1);
	vcpu_init_signal(v);			/* overtakes the start */
	settle();
	assert_int_equal(atomic_load(&v->startup), STARTUP_WAIT);
	assert_false(v->sched.running);
	domain_destroy(d);
	settle_for(1000000);
}

/* --- The main loop --------------------------------------------------------- */

static unsigned int runs, idles;
static struct vcpu *loop_vcpu;

static void guest(struct vcpu *v, struct vm_exit *exit)
{
	assert_ptr_equal(v, current_vcpu());
	if (++runs == 20) {
		exit->kind = EXIT_HLT;
		exit->insn_len = 1;
	}
}

static void on_idle(void)
{
	if (++idles == 3)
		softirq_raise(0, SOFTIRQ_CONSOLE);
	if (idles == 6)
		domain_destroy(loop_vcpu->domain);
	if (idles == 100)
		panic("end of the test");
	test_advance_ns(1000);
}

static void test_main_loop(void **state)
{
	struct domain *d;

	(void)state;
	runs = idles = 0;
	build_result = false;
	test_boot.cmdline = "guest=\"name=a kernel=x memory=64M\"";
	hospes_start();
	assert_int_equal(gone, 0);
	d = make_running(1);
	assert_int_equal(sched_set_affinity(d->vcpus[0], 1), 0);
	loop_vcpu = d->vcpus[0];
	loop_vcpu->regs.rflags = 0x202;
	test_run_hook = guest;
	test_idle_hook = on_idle;
	assert_true(TEST_PANICS(pcpu_main()));
	assert_string_equal(test_panic_text, "end of the test");
	assert_int_equal(runs, 20);
}

static struct domain *remote;
static struct page *foreign;

/* A guest that never exits: only the timer or a kick gets it out. */
static void endless(struct vcpu *v, struct vm_exit *exit)
{
	uint64_t next = test_deadline(0);

	(void)v;
	(void)exit;
	if (++runs == 20)
		page_put(foreign);
	if (next != UINT64_MAX) {
		test_advance_ns(MAX(next, port_time_ns()) - port_time_ns());
	} else if (remote) {		/* another CPU hands over what it has no time for */
		test_set_cpu(1);
		domain_destroy(remote);
		remote = NULL;
		softirq_raise(0, SOFTIRQ_REAP);
		test_set_cpu(0);
	} else {
		panic("end of the test");
	}
}

/* The end of other domains does not wait for a guest that runs alone. */
static void test_reap_beside_guest(void **state)
{
	struct domain *d = make_running(1), *local = make(1);
	uint32_t slots[2];

	(void)state;
	assert_int_equal(sched_set_affinity(d->vcpus[0], 1), 0);
	assert_int_equal(p2m_populate(local, GFN(5), 0), 0);
	foreign = p2m_get_page(local, GFN(5), true);
	remote = make(1);
	slots[0] = local->slot;
	slots[1] = remote->slot;
	runs = 0;
	test_run_hook = endless;
	domain_destroy(local);
	assert_true(TEST_PANICS(pcpu_main()));
	assert_string_equal(test_panic_text, "end of the test");
	test_run_hook = NULL;
	assert_true(runs > 20);
	assert_null(domain_by_slot(slots[0]));
	assert_null(domain_by_slot(slots[1]));
	domain_destroy(d);
	settle_for(1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_create_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_references, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_outlives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_block, setup, teardown),
		cmocka_unit_test_setup_teardown(test_down_while_blocked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_main_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reap_beside_guest, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
