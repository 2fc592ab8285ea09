/* SPDX-License-Identifier: MIT */
/*
 * Tests of xen_version, vcpu_op, set_timer_op, sched_op, hvm_op, console_io on
 * real domains: one ordinary with three vCPUs, one control domain.
 */
#include "unit.h"

#include "hospes/console.h"
#include "real_domain.h"

#define PTR 0x2000u
#define MS 1000000ULL

enum { VERSION = 17, CONSOLE = 18, VCPU = 24, SCHED = 29, EVTCHN = 32, HVM = 34 };

static struct domain *d, *control;
static struct vcpu *v, *other, *priv;

static int setup(void **state)
{
	machine_new(8192, 2);
	test_boot.cmdline = "guest=x";
	d = guest_new(5, 3, false);
	v = d->vcpus[0];
	other = d->vcpus[1];
	assert_ptr_equal(guest_run(v), v);
	control = guest_new(6, 1, true);
	priv = control->vcpus[0];
	return 0;
}

static int teardown(void **state)
{
	assert_true(guest_end(control));
	assert_true(guest_end(d));
	test_machine_fini();
	return 0;
}

static void *arg(const void *data, size_t size)
{
	return memcpy(guest_mem(d, PTR), data, size);
}

#define CALL(nr, op, a1, type, ...) \
	(arg(&(type){ __VA_ARGS__ }, sizeof(type)), hcall(v, nr, op, a1, PTR))
#define CALL1(nr, op, type, ...) \
	(arg(&(type){ __VA_ARGS__ }, sizeof(type)), hcall(v, nr, op, PTR, 0))

/*
 * A port that is pending already, as bind_interdomain rings. Its other end is
 * in the same domain, one number below.
 */
static uint32_t loop_port(void)
{
	struct evtchn_alloc_unbound *a = guest_mem(d, PTR);
	struct evtchn_bind_interdomain *b = guest_mem(d, PTR);
	uint32_t port;

	*a = (struct evtchn_alloc_unbound){ .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
	assert_int_equal(hcall(v, EVTCHN, EVTCHNOP_alloc_unbound, PTR, 0), 0);
	port = a->port;
	*b = (struct evtchn_bind_interdomain){ .remote_dom = DOMID_SELF, .remote_port = port };
	assert_int_equal(hcall(v, EVTCHN, EVTCHNOP_bind_interdomain, PTR, 0), 0);
	assert_int_equal(b->local_port, port + 1);
	return b->local_port;
}

static uint32_t timer_port(uint32_t vcpu)
{
	struct evtchn_bind_virq *b = guest_mem(d, PTR);

	*b = (struct evtchn_bind_virq){ .virq = VIRQ_TIMER, .vcpu = vcpu };
	assert_int_equal(hcall(v, EVTCHN, EVTCHNOP_bind_virq, PTR, 0), 0);
	return b->port;
}

/* Is the port's event pending? It is not afterwards. */
static bool take_event(uint32_t port)
{
	uint64_t bit = 1ULL << port % 64;
	xen_ulong_t *word = &d->shared->evtchn_pending[port / 64];
	bool was = *word & bit;

	*word &= ~bit;
	for (unsigned int i = 0; i < 3; i++) {
		d->vcpus[i]->info->evtchn_pending_sel = 0;
		d->vcpus[i]->info->evtchn_upcall_pending = 0;
	}
	return was;
}

static void pass(uint64_t ns)
{
	test_advance_ns(ns);
	test_run_timers(0);
	test_run_timers(1);
}

/* --- xen_version ---------------------------------------------------------- */

static void version_strings(void **state)
{
	char *text = guest_mem(d, PTR);
	struct xen_compile_info *info = guest_mem(d, PTR);

	memset(text, 0xee, 2048);
	assert_int_equal(hcall(v, VERSION, XENVER_extraversion, PTR, 0), 0);
	assert_memory_equal(text, ".7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xee", 17);
	assert_int_equal(hcall(v, VERSION, XENVER_capabilities, PTR, 0), 0);
	assert_non_null(strstr(text, "hvm-3.0-x86_64 "));
	assert_null(strstr(text, "xen-3.0"));
	assert_int_equal(text[1023], 0);
	assert_int_equal((uint8_t)text[1024], 0xee);
	assert_int_equal(hcall(v, VERSION, XENVER_changeset, PTR, 0), 0);
	assert_memory_equal(text, "Hospes ", 7);
	assert_int_equal(text[63], 0);
	assert_int_equal(hcall(v, VERSION, XENVER_compile_info, PTR, 0), 0);
	assert_string_equal(info->compile_by, "hospes");
	assert_string_equal(info->compile_date, "");
	assert_int_equal(hcall(v, VERSION, XENVER_commandline, PTR, 0), 0);
	assert_string_equal(text, "<denied>");
	assert_int_equal(hcall(priv, VERSION, XENVER_commandline, PTR, 0), 0);
	assert_string_equal(guest_mem(control, PTR), "guest=x");
	memcpy(d->handle, "0123456789abcdef", 16);
	assert_int_equal(hcall(v, VERSION, XENVER_guest_handle, PTR, 0), 0);
	assert_memory_equal(text, "0123456789abcdef", 16);
	assert_int_equal(hcall(v, VERSION, XENVER_platform_parameters, PTR, 0), 0);
	assert_int_equal(*(uint64_t *)guest_mem(d, PTR), 0xffff800000000000ULL);
	/* The text fits, what follows it does not. */
	assert_int_equal(hcall(v, VERSION, XENVER_capabilities, GUEST_PAGES * PAGE_SIZE - 1000, 0),
			 -XEN_EFAULT);
}

static void version_features(void **state)
{
	struct xen_feature_info *f = guest_mem(d, PTR);

	assert_int_equal(CALL1(VERSION, XENVER_get_features, struct xen_feature_info,
			       .submap_idx = 0), 0);
	assert_int_equal(f->submap, 0x12305);
	assert_int_equal(CALL1(VERSION, XENVER_get_features, struct xen_feature_info,
			       .submap_idx = 1), -XEN_EINVAL);
	*(struct xen_feature_info *)guest_mem(control, PTR) = (struct xen_feature_info){ 0 };
	assert_int_equal(hcall(priv, VERSION, XENVER_get_features, PTR, 0), 0);
	assert_int_equal(((struct xen_feature_info *)guest_mem(control, PTR))->submap, 0x12b05);
}

static void version_build_id_rules(void **state)
{
	assert_int_equal(hcall(priv, VERSION, XENVER_build_id, PTR, 0), -XEN_ENODATA);
	assert_int_equal(hcall(v, VERSION, XENVER_build_id, PTR, 0), -XEN_EPERM);
}

/* --- vcpu_op -------------------------------------------------------------- */

static const struct vcpu_hvm_context context32 = {
	.mode = VCPU_HVM_MODE_32B,
	.cpu_regs.x86_32 = {
		.eax = 1, .ecx = 2, .edx = 3, .ebx = 4, .esp = 5, .ebp = 6, .esi = 7, .edi = 8,
		.eip = 0x100000, .cr0 = 1, .cs_limit = ~0u, .ds_limit = ~0u, .ss_limit = ~0u,
		.es_limit = ~0u, .tr_limit = 0x67, .cs_ar = 0xc9b, .ds_ar = 0xc93, .ss_ar = 0xc93,
		.es_ar = 0xc93, .tr_ar = 0x8b,
	},
};

static const struct vcpu_hvm_context context64 = {
	.mode = VCPU_HVM_MODE_64B,
	.cpu_regs.x86_64 = {
		.rax = 1, .rdi = 8, .rip = 0xffffffff81000000ULL, .cr0 = 0x80000001, .cr3 = 0x1000,
		.cr4 = 0x20, .efer = 0x100,
	},
};

static int64_t initialise(unsigned int id, const struct vcpu_hvm_context *c)
{
	arg(c, sizeof(*c));
	return hcall(v, VCPU, VCPUOP_initialise, id, PTR);
}

static void initialise_and_up(void **state)
{
	const struct guest_system *s = &test_vcpu(other)->sys;

	assert_int_equal(hcall(v, VCPU, VCPUOP_up, 1, 0), -XEN_EINVAL);
	assert_int_equal(initialise(0, &context32), -XEN_EEXIST);
	assert_int_equal(initialise(1, &context32), 0);
	assert_int_equal(initialise(1, &context64), -XEN_EEXIST);
	assert_int_equal(hcall(v, VCPU, VCPUOP_is_up, 1, 0), 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(other->regs.gpr[i], i + 1);
	assert_int_equal(other->regs.rip, 0x100000);
	assert_int_equal(other->regs.rflags, 2);
	assert_int_equal(s->cr0, 0x11);
	assert_int_equal(s->efer, 0);
	assert_int_equal(s->seg[SEG_CS].attr, 0xc9b);
	assert_int_equal(s->seg[SEG_TR].limit, 0x67);
	assert_int_equal(s->dr7, 0x400);
	assert_int_equal(hcall(v, VCPU, VCPUOP_up, 1, 0), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_is_up, 1, 0), 1);
	assert_true(vcpu_runnable(other));
	assert_int_equal(hcall(v, VCPU, VCPUOP_up, 1, 0), 0);
	assert_int_equal(initialise(2, &context64), 0);
	s = &test_vcpu(d->vcpus[2])->sys;
	assert_int_equal(s->seg[SEG_CS].attr, 0xa9b);
	assert_int_equal(s->cr3, 0x1000);
	assert_int_equal(d->vcpus[2]->regs.rip, 0xffffffff81000000ULL);
}

#define BAD(base, field, value)							\
	do {									\
		struct vcpu_hvm_context bad = base;				\
										\
		bad.field = value;						\
		assert_int_equal(initialise(1, &bad), -XEN_EINVAL);		\
	} while (0)
#define R32 cpu_regs.x86_32
#define R64 cpu_regs.x86_64

static void initialise_refuses(void **state)
{
	struct vcpu_hvm_context c = context32;

	BAD(context32, mode, 2);
	BAD(context32, R32.cs_ar, 0xc93);	/* not code */
	BAD(context32, R32.cs_ar, 0xc1b);	/* not present */
	BAD(context32, R32.cs_ar, 0x1c9b);	/* reserved bits */
	BAD(context32, R32.cs_ar, 0xcfb);	/* not of the stack's privilege */
	BAD(context32, R32.ss_ar, 0xc91);	/* not writable */
	BAD(context32, R32.ss_ar, 0xc13);
	BAD(context32, R32.ds_ar, 0xc99);	/* execute only */
	BAD(context32, R32.es_ar, 0xc83);	/* a system segment */
	BAD(context32, R32.tr_ar, 0x89);	/* not busy */
	BAD(context32, R32.tr_ar, 0x0b);
	BAD(context32, R32.cr4, 1u << 31);
	BAD(context32, R32.efer, 1u << 12);
	BAD(context64, R64.efer, 0);
	BAD(context64, R64.cr0, 1);
	BAD(context64, R64.cr4, 1ULL << 40);
	BAD(context64, R64.rip, 0x800000000000ULL);
	assert_false(other->initialised);
	c.R32.ds_ar = c.R32.es_ar = 0;		/* these may be absent */
	assert_int_equal(initialise(1, &c), 0);
}

static void last_one_down_powers_off(void **state)
{
	assert_int_equal(initialise(1, &context32), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_up, 1, 0), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_down, 0, 0), 0);
	assert_false(d->shut_down);
	assert_int_equal(hcall(v, VCPU, VCPUOP_is_up, 0, 0), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_down, 1, 0), 0);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_poweroff);
}

static void nmi(void **state)
{
	assert_int_equal(hcall(v, VCPU, VCPUOP_send_nmi, 1, 8), -XEN_EINVAL);
	assert_false(atomic_load(&other->nmi_pending));
	assert_int_equal(hcall(v, VCPU, VCPUOP_send_nmi, 1, 0), 0);
	assert_true(atomic_load(&other->nmi_pending));
}

static void singleshot(void **state)
{
	uint32_t port = timer_port(0);
	uint64_t now = port_time_ns();

	assert_int_equal(CALL(VCPU, VCPUOP_set_singleshot_timer, 1,
			      struct vcpu_set_singleshot_timer, now, 0), -XEN_EINVAL);
	assert_int_equal(CALL(VCPU, VCPUOP_set_singleshot_timer, 0,
			      struct vcpu_set_singleshot_timer, now + MS, 0), 0);
	pass(MS - 1);
	assert_false(take_event(port));
	pass(1);
	assert_true(take_event(port));
	pass(10 * MS);
	assert_false(take_event(port));		/* once */
	/* The past, and the flag that asks for an error then: it fires. */
	assert_int_equal(CALL(VCPU, VCPUOP_set_singleshot_timer, 0,
			      struct vcpu_set_singleshot_timer, 1, VCPU_SSHOTTMR_future), 0);
	pass(1);
	assert_true(take_event(port));
	assert_int_equal(CALL(VCPU, VCPUOP_set_singleshot_timer, 0,
			      struct vcpu_set_singleshot_timer, ~0ULL, 0), 0);
	pass(1);
	assert_true(take_event(port));
	assert_int_equal(CALL(VCPU, VCPUOP_set_singleshot_timer, 0,
			      struct vcpu_set_singleshot_timer, port_time_ns() + MS, 0), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_stop_singleshot_timer, 0, 0), 0);
	pass(10 * MS);
	assert_false(take_event(port));
}

static void set_timer(void **state)
{
	uint32_t port = timer_port(0);

	assert_int_equal(hcall(v, 15, port_time_ns() + MS, 0, 0), 0);
	pass(MS);
	assert_true(take_event(port));
	assert_int_equal(hcall(v, 15, port_time_ns() + MS, 0, 0), 0);
	assert_int_equal(hcall(v, 15, 0, 0, 0), 0);
	pass(2 * MS);
	assert_false(take_event(port));
	/* Nonsense fires after 100 ms. */
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(hcall(v, 15, i ? ~0ULL : port_time_ns() + (2ULL << 50), 0, 0), 0);
		pass(100 * MS - 1);
		assert_false(take_event(port));
		pass(1);
		assert_true(take_event(port));
	}
}

static int64_t set_period(unsigned int id, uint64_t ns)
{
	return CALL(VCPU, VCPUOP_set_periodic_timer, id, struct vcpu_set_periodic_timer, ns);
}

static void periodic(void **state)
{
	uint32_t port = timer_port(1);

	assert_int_equal(set_period(1, MS - 1), -XEN_EINVAL);
	assert_int_equal(set_period(1, 1ULL << 62), -XEN_EINVAL);
	assert_int_equal(set_period(1, MS), 0);
	for (unsigned int i = 0; i < 5; i++) {
		pass(MS);
		assert_true(take_event(port));
		assert_false(take_event(port));
	}
	/* Late by 2.5 periods: one tick, and the next in step with the first. */
	pass(5 * MS / 2);
	assert_true(take_event(port));
	pass(MS / 2 - 1);
	assert_false(take_event(port));
	pass(1);
	assert_true(take_event(port));
	assert_int_equal(set_period(1, 3 * MS), 0);
	pass(3 * MS - 1);
	assert_false(take_event(port));
	pass(1);
	assert_true(take_event(port));
	assert_int_equal(hcall(v, VCPU, VCPUOP_stop_periodic_timer, 1, 0), 0);
	pass(100 * MS);
	assert_false(take_event(port));
}

static int64_t register_info(unsigned int id, uint64_t gfn, uint32_t offset)
{
	return CALL(VCPU, VCPUOP_register_vcpu_info, id, struct vcpu_register_vcpu_info,
		    .mfn = gfn, .offset = offset);
}

static void vcpu_info_moves(void **state)
{
	const struct vcpu_info *info = guest_mem(d, 0x20040);

	assert_int_equal(register_info(0, 0x20, 4040), -XEN_ENXIO);
	assert_int_equal(register_info(0, 0x20, 12), -XEN_ENXIO);
	assert_int_equal(register_info(0, 0x20, ~0u - 7), -XEN_ENXIO);
	assert_int_equal(register_info(0, 0x40000, 0), -XEN_EINVAL);
	assert_int_equal(register_info(0, ~0ULL, 0), -XEN_EINVAL);
	v->info->arch.cr2 = 0x1234;
	assert_int_equal(register_info(0, 0x20, 0x40), 0);
	assert_ptr_equal(v->info, info);
	assert_int_equal(info->arch.cr2, 0x1234);
	assert_int_equal(info->evtchn_pending_sel, ~0UL);
	assert_int_equal(info->evtchn_upcall_pending, 1);
	assert_int_not_equal(info->time.tsc_to_system_mul, 0);
	assert_int_equal(info->time.version & 1, 0);
	assert_int_equal(register_info(0, 0x21, 0), -XEN_EINVAL);
	/* Of others only while they are down; the last possible place. */
	assert_int_equal(register_info(2, 0x21, 4032), 0);
	assert_int_equal(initialise(1, &context32), 0);
	assert_int_equal(hcall(v, VCPU, VCPUOP_up, 1, 0), 0);
	assert_int_equal(register_info(1, 0x22, 0), -XEN_EINVAL);
	assert_int_equal(hcall(v, VCPU, VCPUOP_down, 1, 0), 0);
	assert_int_equal(register_info(1, 0x22, 0), 0);
}

/* --- sched_op ------------------------------------------------------------- */

static int64_t poll(const uint32_t *ports, uint32_t nr, uint64_t timeout)
{
	struct sched_poll p = { .nr_ports = nr, .timeout = timeout };

	set_xen_guest_handle(p.ports, (evtchn_port_t *)(uintptr_t)(PTR + 0x100));
	memcpy(guest_mem(d, PTR + 0x100), ports, nr * sizeof(*ports));
	arg(&p, sizeof(p));
	return hcall(v, SCHED, SCHEDOP_poll, PTR, 0);
}

static bool polling(void)
{
	return atomic_load(&v->pause_flags) & PAUSE_POLL;
}

static void poll_rules(void **state)
{
	uint32_t ports[129] = { loop_port(), loop_port() }, bad[2] = { ports[0], 900 };

	/* Both ring when they are bound. */
	assert_int_equal(poll(ports, 1, 0), 0);
	assert_false(polling());
	assert_true(take_event(ports[0]));
	assert_int_equal(poll(ports, 2, 0), 0);
	assert_false(polling());
	assert_true(take_event(ports[1]));
	assert_int_equal(poll(bad, 2, 0), -XEN_EINVAL);
	assert_false(polling());
	assert_int_equal(poll(ports, 129, 0), -XEN_EINVAL);
	arg(&(struct sched_poll){ .nr_ports = 1 }, sizeof(struct sched_poll));
	set_xen_guest_handle(((struct sched_poll *)guest_mem(d, PTR))->ports,
			     (evtchn_port_t *)(uintptr_t)GUEST_BAD);
	assert_int_equal(hcall(v, SCHED, SCHEDOP_poll, PTR, 0), -XEN_EFAULT);
}

static void poll_ends(void **state)
{
	uint32_t ports[2] = { loop_port(), loop_port() };

	take_event(ports[0]);
	take_event(ports[1]);
	/* By the event, for one port and for many. */
	for (uint32_t nr = 1; nr <= 2; nr++) {
		assert_int_equal(poll(ports, nr, port_time_ns() + 10 * MS), 0);
		assert_true(polling());
		assert_int_equal(CALL1(EVTCHN, EVTCHNOP_send, struct evtchn_send,
				       ports[nr - 1] - 1), 0);
		assert_false(polling());
		take_event(ports[nr - 1]);
	}
	/* By the time; the timer of the polls before does not end this one. */
	assert_int_equal(poll(ports, 1, port_time_ns() + 20 * MS), 0);
	pass(19 * MS);
	assert_true(polling());
	pass(MS);
	assert_false(polling());
	/* With interrupts off one that waits does not keep it awake. */
	atomic_store(&v->nmi_pending, true);
	v->regs.rflags = 2;
	assert_int_equal(poll(ports, 1, 0), 0);
	assert_true(polling());
	vcpu_pause_clear(v, PAUSE_POLL);
	v->regs.rflags = 0x202;
	assert_int_equal(poll(ports, 1, 0), 0);
	assert_false(polling());
	/* Forever, until an interrupt. */
	atomic_store(&v->nmi_pending, false);
	assert_int_equal(poll(ports, 0, 0), 0);
	pass(1000 * MS);
	assert_true(polling());
	vcpu_notify(v);
	assert_false(polling());
}

static void block_and_yield(void **state)
{
	assert_int_equal(hcall(v, SCHED, SCHEDOP_yield, 0, 0), 0);
	assert_true(vcpu_runnable(v));
	assert_int_equal(hcall(v, SCHED, SCHEDOP_block, 0, 0), 0);
	assert_int_equal(atomic_load(&v->pause_flags), PAUSE_BLOCKED);
	atomic_store(&v->nmi_pending, true);
	vcpu_notify(v);
	assert_true(vcpu_runnable(v));
}

static void shutdown_codes(void **state)
{
	assert_int_equal(CALL1(SCHED, SCHEDOP_shutdown_code, struct sched_shutdown, SHUTDOWN_crash),
			 0);
	assert_false(d->shut_down);
	assert_int_equal(CALL1(SCHED, SCHEDOP_shutdown, struct sched_shutdown, SHUTDOWN_reboot), 0);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
	assert_int_equal(CALL1(SCHED, SCHEDOP_shutdown_code, struct sched_shutdown,
			       SHUTDOWN_reboot), 0);
	assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
}

static void remote_shutdown(void **state)
{
	struct sched_remote_shutdown *r = guest_mem(control, PTR);

	*r = (struct sched_remote_shutdown){ .domain_id = 77, .reason = SHUTDOWN_suspend };
	assert_int_equal(hcall(priv, SCHED, SCHEDOP_remote_shutdown, PTR, 0), -XEN_ESRCH);
	r->domain_id = d->id;
	assert_int_equal(hcall(priv, SCHED, SCHEDOP_remote_shutdown, PTR, 0), 0);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_suspend);
	assert_false(control->shut_down);
}

static int64_t watchdog(uint32_t id, uint32_t seconds)
{
	return CALL1(SCHED, SCHEDOP_watchdog, struct sched_watchdog, id, seconds);
}

static void watchdogs(void **state)
{
	assert_int_equal(watchdog(0, 0), -XEN_EINVAL);
	assert_int_equal(watchdog(1, 5), -XEN_EINVAL);
	assert_int_equal(watchdog(3, 5), -XEN_EINVAL);
	assert_int_equal(watchdog(~0u, 5), -XEN_EINVAL);
	assert_int_equal(watchdog(0, 2), 1);
	assert_int_equal(watchdog(0, 3), 2);
	assert_int_equal(watchdog(0, 4), -XEN_ENOSPC);
	assert_int_equal(watchdog(2, 0), 0);		/* gives it back */
	assert_int_equal(watchdog(2, 0), -XEN_EINVAL);
	pass(1999 * MS);
	assert_int_equal(watchdog(1, 2), 0);		/* pats it */
	pass(1999 * MS);
	assert_false(d->shut_down);
	pass(MS);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_watchdog);
}

static int64_t pin(int32_t where)
{
	struct sched_pin_override *p = guest_mem(control, PTR);

	p->pcpu = where;
	return hcall(priv, SCHED, SCHEDOP_pin_override, PTR, 0);
}

static void pin_override(void **state)
{
	uint64_t before = priv->sched.affinity;

	assert_int_equal(pin(-1), 0);
	assert_int_equal(pin(2), -XEN_EINVAL);
	assert_int_equal(pin(1), 0);
	assert_int_equal(priv->sched.affinity, 2);
	assert_int_equal(pin(0), -XEN_EBUSY);
	assert_int_equal(pin(-1), 0);
	assert_int_equal(priv->sched.affinity, before);
}

/* --- hvm_op --------------------------------------------------------------- */

static int64_t param(struct vcpu *who, bool set, domid_t dom, uint32_t index, uint64_t *value)
{
	struct xen_hvm_param *p = guest_mem(who->domain, PTR);
	int64_t rc;

	*p = (struct xen_hvm_param){ .domid = dom, .index = index, .value = *value };
	rc = hcall(who, HVM, set ? HVMOP_set_param : HVMOP_get_param, PTR, 0);
	*value = p->value;
	return rc;
}

static void params_of_a_guest(void **state)
{
	/* G: may get, B: may do both, I: is invalid, 0: neither */
	static const char want[39] = {
		[0] = 'B', [1] = 'G', [2] = 'B', [4] = 'I', [13] = 'I', [15] = 'B', [17] = 'G',
		[18] = 'B', [19] = 'B', [20] = 'I', [21] = 'I', [22] = 'I', [23] = 'I', [24] = 'I',
		[25] = 'I', [26] = 'I', [30] = 'I', [34] = 'B', [35] = 'G', [36] = 'B', [37] = 'B',
	};

	for (uint32_t i = 0; i < 39; i++) {
		uint64_t value = 0;
		int64_t get = want[i] == 'I' ? -XEN_EINVAL : want[i] ? 0 : -XEN_EPERM;
		int64_t set = want[i] == 'I' ? -XEN_EINVAL : want[i] == 'B' ? 0 : -XEN_EPERM;

		assert_int_equal(param(v, false, DOMID_SELF, i, &value), get);
		assert_int_equal(param(v, true, d->id, i, &value), set);
		assert_int_equal(param(v, true, control->id, i, &value), -XEN_EPERM);
		assert_int_equal(param(v, false, 99, i, &value), -XEN_ESRCH);
	}
	for (uint32_t i = 39; i; i <<= 1) {
		uint64_t value = 0;

		assert_int_equal(param(v, false, DOMID_SELF, i, &value), -XEN_EINVAL);
		assert_int_equal(param(v, true, DOMID_SELF, i, &value), -XEN_EINVAL);
	}
}

static void params_keep_values(void **state)
{
	uint64_t value = 0x0200000000000030ULL;

	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	value = 0;
	assert_int_equal(param(v, false, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	assert_int_equal(value, 0x0200000000000030ULL);
	value = 0xfeffc;
	assert_int_equal(param(priv, true, d->id, HVM_PARAM_STORE_PFN, &value), 0);
	value = 0;
	assert_int_equal(param(v, false, DOMID_SELF, HVM_PARAM_STORE_PFN, &value), 0);
	assert_int_equal(value, 0xfeffc);
	assert_int_equal(param(priv, false, d->id, 3, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(param(priv, false, d->id, 4, &value), -XEN_EINVAL);
}

static void params_check_values(void **state)
{
	static const struct { uint32_t index; uint64_t value; int64_t rc; } sets[] = {
		{ HVM_PARAM_TIMER_MODE, 3, 0 }, { HVM_PARAM_TIMER_MODE, 4, -XEN_EINVAL },
		{ HVM_PARAM_TIMER_MODE, 1ULL << 32, -XEN_EINVAL },
		{ HVM_PARAM_TRIPLE_FAULT_REASON, 5, 0 },
		{ HVM_PARAM_TRIPLE_FAULT_REASON, 6, -XEN_EINVAL },
		{ HVM_PARAM_X87_FIP_WIDTH, 8, 0 }, { HVM_PARAM_X87_FIP_WIDTH, 5, -XEN_EINVAL },
		{ HVM_PARAM_ACPI_S_STATE, 3, 0 }, { HVM_PARAM_ACPI_S_STATE, 1, -XEN_EINVAL },
		{ HVM_PARAM_ACPI_IOPORTS_LOCATION, 2, -XEN_EINVAL },
		{ HVM_PARAM_VIRIDIAN, 0, 0 }, { HVM_PARAM_VIRIDIAN, 1, -XEN_EINVAL },
		{ HVM_PARAM_ALTP2M, 0, 0 }, { HVM_PARAM_ALTP2M, 4, -XEN_EINVAL },
		{ HVM_PARAM_MCA_CAP, 1, -XEN_EINVAL },
		{ HVM_PARAM_IOREQ_PFN, 0xfeffd, 0 }, { HVM_PARAM_IOREQ_PFN, 0xfeffd, 0 },
		{ HVM_PARAM_IOREQ_PFN, 0xfeffe, -XEN_EEXIST },
		{ HVM_PARAM_IOREQ_PFN, 0, -XEN_EEXIST },
		{ HVM_PARAM_NR_IOREQ_SERVER_PAGES, 8, 0 },
		{ HVM_PARAM_NR_IOREQ_SERVER_PAGES, 9, -XEN_EEXIST },
	};

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		uint64_t value = sets[i].value;

		assert_int_equal(param(priv, true, d->id, sets[i].index, &value), sets[i].rc);
	}
}

static int64_t set_vector(uint32_t id, uint8_t vector)
{
	return CALL1(HVM, HVMOP_set_evtchn_upcall_vector, struct xen_hvm_evtchn_upcall_vector, id,
		     vector);
}

static void upcall_vector(void **state)
{
	assert_int_equal(set_vector(0, 0xf), -XEN_EINVAL);
	assert_int_equal(set_vector(3, 0x30), -XEN_ENOENT);
	assert_true(vlapic_write(v, 0xf0, 0x1ff));
	assert_true(vlapic_write(other, 0xf0, 0x1ff));
	assert_int_equal(set_vector(1, 0xf3), 0);
	assert_int_equal(other->upcall_vector, 0xf3);
	assert_int_equal(other->lapic.irr[3], 0);
	/* What was pending before comes at once. */
	v->info->evtchn_upcall_pending = 1;
	assert_int_equal(set_vector(0, 0xf3), 0);
	assert_int_equal(v->lapic.irr[3], 1ULL << (0xf3 - 192));
}

/* Upcalls by parameter: at all vCPUs but those that have a vector of their own. */
static void callback_vector(void **state)
{
	uint64_t value = 2ULL << 56 | 0xf3, gsi = 1, low = 2ULL << 56 | 0xf,
		 pci = 1ULL << 56 | 0xf3;

	v->info->evtchn_upcall_pending = 1;
	v->regs.rflags |= 0x200;
	assert_int_equal(hcall(v, SCHED, SCHEDOP_block, 0, 0), 0);
	assert_false(vcpu_runnable(v));		/* nothing tells it */
	assert_int_equal(param(other, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	assert_int_equal(vcpu_callback(v), 0xf3);
	assert_true(vcpu_runnable(v));
	assert_int_equal(vcpu_callback(other), 0);
	other->info->evtchn_upcall_pending = 1;
	assert_int_equal(vcpu_callback(other), 0xf3);
	assert_int_equal(set_vector(1, 0xf4), 0);
	assert_int_equal(vcpu_callback(other), 0);
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	assert_int_equal(vcpu_callback(other), 0);
	v->info->evtchn_upcall_pending = 0;
	assert_int_equal(vcpu_callback(v), 0);
	v->info->evtchn_upcall_pending = 1;
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &pci), 0);
	assert_int_equal(vcpu_callback(v), 0);
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &low), 0);
	assert_int_equal(vcpu_callback(v), 0);
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &value), 0);
	assert_int_equal(param(v, true, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, &gsi), 0);
	assert_int_equal(vcpu_callback(v), 0);
}

static int64_t mem_type(domid_t dom, uint64_t gfn)
{
	const struct xen_hvm_get_mem_type *m = guest_mem(d, PTR);
	int64_t rc = CALL1(HVM, HVMOP_get_mem_type, struct xen_hvm_get_mem_type, .domid = dom,
			   .pfn = gfn);

	return rc ? rc : m->mem_type;
}

static void memory_types(void **state)
{
	assert_int_equal(mem_type(DOMID_SELF, 0), HVMMEM_ram_rw);
	assert_int_equal(mem_type(d->id, 511), HVMMEM_ram_rw);
	assert_int_equal(mem_type(DOMID_SELF, 512), HVMMEM_mmio_dm);
	assert_int_equal(mem_type(DOMID_SELF, ~0ULL), HVMMEM_mmio_dm);
	assert_int_equal(mem_type(99, 0), -XEN_ESRCH);
	assert_int_equal(mem_type(DOMID_IO, 0), -XEN_ESRCH);
	assert_int_equal(mem_type(control->id, 0), -XEN_EPERM);
	write_lock(&d->p2m.lock);
	assert_int_equal(p2m_set(d, GFN(5), 0, p2m_get(&d->p2m, GFN(5)).mfn, P2M_RAM_RO), 0);
	write_unlock(&d->p2m.lock);
	assert_int_equal(mem_type(DOMID_SELF, 5), HVMMEM_ram_ro);
}

static void hvm_rest(void **state)
{
	const struct xen_hvm_get_time *t = guest_mem(d, PTR);

	test_advance_ns(12345);
	assert_int_equal(hcall(v, HVM, HVMOP_get_time, PTR, 0), 0);
	assert_int_equal(t->now, port_time_ns());
	assert_int_equal(CALL1(HVM, HVMOP_pagetable_dying, struct xen_hvm_pagetable_dying,
			       .domid = DOMID_SELF), -XEN_EINVAL);
	assert_int_equal(CALL1(HVM, HVMOP_pagetable_dying, struct xen_hvm_pagetable_dying,
			       .domid = 6), -XEN_EOPNOTSUPP);
	assert_int_equal(hcall(v, HVM, HVMOP_flush_tlbs, 0, 0), 0);
}

/* --- The small ones ------------------------------------------------------- */

static void assist(void **state)
{
	assert_int_equal(hcall(v, 21, VMASST_CMD_enable, 5, 0), 0);
	assert_true(d->runstate_flag);
	assert_int_equal(hcall(v, 21, VMASST_CMD_disable, 5, 0), 0);
	assert_false(d->runstate_flag);
}

static void console(void **state)
{
	char *text = guest_mem(control, 0x3000), want[301] = "";

	memset(text, 'x', 300);
	memset(want, 'x', 300);
	assert_int_equal(console_attach_control(control), 0);
	test_console_clear();
	assert_int_equal(hcall(v, CONSOLE, CONSOLEIO_write, 3, 0x3000), -XEN_EPERM);
	assert_string_equal(test_console_output(), "");
	assert_int_equal(hcall(priv, CONSOLE, CONSOLEIO_write, 300, 0x3000), 0);
	assert_string_equal(test_console_output(), want);
	assert_int_equal(hcall(priv, CONSOLE, CONSOLEIO_write, 1, GUEST_BAD), -XEN_EFAULT);
	assert_int_equal(hcall(priv, CONSOLE, CONSOLEIO_read, 10, 0x3000), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(version_strings),
		T(version_features),
		T(version_build_id_rules),
		T(initialise_and_up),
		T(initialise_refuses),
		T(last_one_down_powers_off),
		T(nmi),
		T(singleshot),
		T(set_timer),
		T(periodic),
		T(vcpu_info_moves),
		T(poll_rules),
		T(poll_ends),
		T(block_and_yield),
		T(shutdown_codes),
		T(remote_shutdown),
		T(watchdogs),
		T(pin_override),
		T(params_of_a_guest),
		T(params_keep_values),
		T(params_check_values),
		T(upcall_vector),
		T(callback_vector),
		T(memory_types),
		T(hvm_rest),
		T(assist),
		T(console),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
