/* SPDX-License-Identifier: MIT */
/*
 * Event channels: every errno, both ABIs, and three domains against a model.
 */
#include "unit.h"

#include <pthread.h>
#include <signal.h>

#include "core/evtchn_private.h"
#include "fake_core.h"

#define MAX_PORT 300u
#define CONTROL_GFN 40u		/* + vCPU */
#define ARRAY_GFN 50u

static struct domain *const d1 = &fake.dom[0], *const d2 = &fake.dom[1];
static unsigned int notified;
static uint32_t notified_port;

static int setup(void **state)
{
	fake_core_init();
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		assert_int_equal(evtchn_domain_init(&fake.dom[i], MAX_PORT), 0);
		for (uint64_t gfn = CONTROL_GFN; gfn < ARRAY_GFN + 10; gfn++)
			fake_ram(&fake.dom[i], gfn, P2M_RAM);
	}
	notified = 0;
	return 0;
}

static void end(struct domain *d)
{
	while (!evtchn_destroy_step(d))
		;
	evtchn_domain_free(d);
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++)
		end(&fake.dom[i]);
	fake_core_fini();
	return 0;
}

/* --- What a guest does -------------------------------------------------- */

#define OP(d, name, ...)							\
	({									\
		struct evtchn_##name op_ = { __VA_ARGS__ };			\
										\
		fake_call((d)->vcpus[0], evtchnop_##name, &op_, 0);		\
	})

static int64_t alloc_unbound(struct domain *d, domid_t remote)
{
	struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = remote };
	int64_t ret = fake_call(d->vcpus[0], evtchnop_alloc_unbound, &op, 0);

	return ret ? ret : op.port;
}

static int64_t bind_interdomain(struct domain *d, domid_t remote, uint32_t port)
{
	struct evtchn_bind_interdomain op = { .remote_dom = remote, .remote_port = port };
	int64_t ret = fake_call(d->vcpus[0], evtchnop_bind_interdomain, &op, 0);

	return ret ? ret : op.local_port;
}

static int64_t bind_ipi(struct domain *d, uint32_t vcpu)
{
	struct evtchn_bind_ipi op = { .vcpu = vcpu };
	int64_t ret = fake_call(d->vcpus[0], evtchnop_bind_ipi, &op, 0);

	return ret ? ret : op.port;
}

static int64_t bind_virq(struct domain *d, uint32_t virq, uint32_t vcpu)
{
	struct evtchn_bind_virq op = { .virq = virq, .vcpu = vcpu };
	int64_t ret = fake_call(d->vcpus[0], evtchnop_bind_virq, &op, 0);

	return ret ? ret : op.port;
}

static int64_t status(struct domain *d, domid_t dom, uint32_t port, struct evtchn_status *op)
{
	memset(op, 0, sizeof(*op));
	op->dom = dom;
	op->port = port;
	return fake_call(d->vcpus[0], evtchnop_status, op, 0);
}

static int64_t init_control(struct domain *d, uint32_t vcpu)
{
	return OP(d, init_control, .control_gfn = CONTROL_GFN + vcpu, .vcpu = vcpu);
}

static int64_t expand_array(struct domain *d, uint32_t page)
{
	uint32_t *words = fake_va(d, ARRAY_GFN + page);

	for (unsigned int i = 0; i < 1024; i++)
		words[i] = 0;
	return OP(d, expand_array, .array_gfn = ARRAY_GFN + page);
}

static void use_fifo(struct domain *d)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		assert_int_equal(init_control(d, i), 0);
	assert_int_equal(expand_array(d, 0), 0);
}

static uint32_t *word(struct domain *d, uint32_t port)
{
	return (uint32_t *)fake_va(d, ARRAY_GFN + port / 1024) + port % 1024;
}

static bool is_masked(struct domain *d, uint32_t port)
{
	if (d->evtchn.fifo)
		return *word(d, port) >> EVTCHN_FIFO_MASKED & 1;
	return d->shared->evtchn_mask[port / 64] >> port % 64 & 1;
}

static void mask(struct domain *d, uint32_t port)
{
	if (d->evtchn.fifo)
		*word(d, port) |= 1u << EVTCHN_FIFO_MASKED;
	else
		d->shared->evtchn_mask[port / 64] |= 1ULL << port % 64;
}

/* The guest's interrupt handler; heads is what it remembers between calls. */
static uint32_t heads[FAKE_DOMAINS][FAKE_VCPUS][EVTCHN_FIFO_MAX_QUEUES];

typedef void event_fn(struct domain *d, unsigned int vcpu, uint32_t port);

static void consume_fifo(struct domain *d, unsigned int n, event_fn *event)
{
	struct evtchn_fifo_control_block *block = fake_va(d, CONTROL_GFN + n);
	uint32_t ready = __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);

	while (ready) {
		unsigned int prio = (unsigned int)ffs64(ready);
		uint32_t *head = &heads[fake_slot(d)][n][prio];
		uint32_t port = *head ? *head : block->head[prio];
		uint32_t w, clear = (1u << EVTCHN_FIFO_LINKED) | EVTCHN_FIFO_LINK_MASK;

		CHECK(port);
		w = __atomic_fetch_and(word(d, port), ~clear, __ATOMIC_SEQ_CST);
		*head = w & EVTCHN_FIFO_LINK_MASK;
		if (!*head)
			ready &= ~(1u << prio);
		if ((w >> EVTCHN_FIFO_PENDING & 1) && !(w >> EVTCHN_FIFO_MASKED & 1)) {
			__atomic_fetch_and(word(d, port), ~(1u << EVTCHN_FIFO_PENDING),
					   __ATOMIC_SEQ_CST);
			event(d, n, port);
		}
		ready |= __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);
	}
}

static void consume_2l(struct domain *d, unsigned int n, event_fn *event)
{
	uint64_t sel = __atomic_exchange_n(&d->vcpus[n]->info->evtchn_pending_sel, 0,
					   __ATOMIC_SEQ_CST);

	for (; sel; sel &= sel - 1) {
		unsigned int w = (unsigned int)ffs64(sel);
		uint64_t bits = d->shared->evtchn_pending[w] & ~d->shared->evtchn_mask[w];

		d->shared->evtchn_pending[w] &= ~bits;
		for (; bits; bits &= bits - 1)
			event(d, n, w * 64 + (uint32_t)ffs64(bits));
	}
}

static void upcall(struct domain *d, unsigned int n, event_fn *event)
{
	if (!__atomic_exchange_n(&d->vcpus[n]->info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST))
		return;
	if (d->evtchn.fifo)
		consume_fifo(d, n, event);
	else
		consume_2l(d, n, event);
}

static struct {
	uint32_t port[64];
	unsigned int vcpu[64];
	unsigned int nr;
} seen;

static void record(struct domain *d, unsigned int n, uint32_t port)
{
	CHECK(seen.nr < ARRAY_SIZE(seen.port));
	seen.port[seen.nr] = port;
	seen.vcpu[seen.nr++] = n;
}

/* All vCPUs take their interrupts; how many events they saw. */
static unsigned int take_events(struct domain *d)
{
	seen.nr = 0;
	for (unsigned int n = 0; n < d->nr_vcpus; n++)
		upcall(d, n, record);
	return seen.nr;
}

/* --- Errors ------------------------------------------------------------- */

static void test_bind_errors(void **state)
{
	struct evtchn_alloc_unbound other = { .dom = 2, .remote_dom = 1 };

	assert_int_equal(OP(d1, alloc_unbound, .dom = 77), -XEN_ESRCH);
	assert_int_equal(fake_call(d1->vcpus[0], evtchnop_alloc_unbound, &other, 0), -XEN_EPERM);
	d1->privileged = true;
	assert_int_equal(fake_call(d1->vcpus[0], evtchnop_alloc_unbound, &other, 0), 0);
	assert_int_equal(other.port, 1);
	d1->privileged = false;
	assert_int_equal(bind_interdomain(d1, 77, 1), -XEN_ESRCH);
	assert_int_equal(bind_interdomain(d1, 2, 0), -XEN_EINVAL);
	assert_int_equal(bind_interdomain(d1, 2, 2), -XEN_EINVAL);
	assert_int_equal(bind_interdomain(d1, 2, 5000), -XEN_EINVAL);
	assert_int_equal(bind_interdomain(&fake.dom[2], 2, 1), -XEN_EINVAL);
	assert_int_equal(bind_interdomain(d1, 2, 1), 1);
	assert_int_equal(bind_interdomain(d1, 2, 1), -XEN_EINVAL);

	assert_int_equal(bind_virq(d1, 24, 0), -XEN_EINVAL);
	assert_int_equal(bind_virq(d1, VIRQ_DOM_EXC, 1), -XEN_EINVAL);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, FAKE_VCPUS), -XEN_ENOENT);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, 3), 2);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, 3), -XEN_EEXIST);
	assert_int_equal(bind_virq(d1, VIRQ_DOM_EXC, 0), 3);
	assert_int_equal(bind_virq(d1, VIRQ_DOM_EXC, 0), -XEN_EEXIST);
	assert_int_equal(bind_ipi(d1, FAKE_VCPUS), -XEN_ENOENT);
	assert_int_equal(bind_ipi(d1, UINT32_MAX), -XEN_ENOENT);
	assert_int_equal(bind_ipi(d1, 1), 4);
	assert_int_equal(OP(d1, bind_pirq, .pirq = EVTCHN_NR_PIRQS), -XEN_EINVAL);
	assert_int_equal(OP(d1, bind_pirq, .pirq = 9), 0);
	assert_int_equal(OP(d1, bind_pirq, .pirq = 9), -XEN_EEXIST);
	assert_int_equal(OP(d1, close, .port = 5), 0);
	assert_int_equal(OP(d1, bind_pirq, .pirq = 9), 0);

	atomic_store(&d1->life, DOMAIN_DYING);
	assert_int_equal(alloc_unbound(d1, 2), -XEN_EINVAL);
	assert_int_equal(bind_ipi(d1, 0), -XEN_EINVAL);
}

static void hv_notify(struct domain *d, uint32_t port)
{
	notified++;
	notified_port = port;
	assert_locked(&d->evtchn.lock);
	evtchn_notify_guest(d, port);
}

static void test_port_errors(void **state)
{
	static const uint32_t bad[] = { 0, 9, 63, 64, 4096, UINT32_MAX };
	int port = evtchn_alloc_hv(d1, hv_notify);
	struct evtchn_status st;

	assert_int_equal(port, 1);
	assert_int_equal(bind_ipi(d1, 0), 2);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, 0), 3);
	assert_int_equal(bind_virq(d1, VIRQ_DOM_EXC, 0), 4);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(OP(d1, close, .port = bad[i]), -XEN_EINVAL);
		assert_int_equal(OP(d1, send, .port = bad[i]), -XEN_EINVAL);
		assert_int_equal(OP(d1, bind_vcpu, .port = bad[i]), -XEN_EINVAL);
		assert_int_equal(OP(d1, unmask, .port = bad[i]), bad[i] < 64 ? 0 : -XEN_EINVAL);
		assert_int_equal(status(d1, DOMID_SELF, bad[i], &st),
				 bad[i] < 64 ? 0 : -XEN_EINVAL);
		assert_int_equal(st.status, EVTCHNSTAT_closed);
		assert_int_equal(evtchn_is_pending(d1, bad[i]), bad[i] < 64 ? 0 : -XEN_EINVAL);
	}
	assert_int_equal(OP(d1, close, .port = 1), -XEN_EINVAL);
	assert_int_equal(status(d1, DOMID_SELF, 1, &st), -XEN_EACCES);
	assert_int_equal(status(d1, 77, 1, &st), -XEN_ESRCH);
	assert_int_equal(status(d2, 1, 2, &st), -XEN_EPERM);
	assert_int_equal(OP(d1, send, .port = 3), -XEN_EINVAL);
	assert_int_equal(OP(d1, bind_vcpu, .port = 2, .vcpu = 1), -XEN_EINVAL);
	assert_int_equal(OP(d1, bind_vcpu, .port = 3, .vcpu = 1), -XEN_EINVAL);
	assert_int_equal(OP(d1, bind_vcpu, .port = 4, .vcpu = FAKE_VCPUS), -XEN_ENOENT);
	assert_int_equal(OP(d1, bind_vcpu, .port = 4, .vcpu = 1), 0);
	assert_int_equal(OP(d1, set_priority, .port = 4096), -XEN_EINVAL);
	assert_int_equal(OP(d1, set_priority, .port = 2), -XEN_ENOSYS);
	use_fifo(d1);
	assert_int_equal(OP(d1, set_priority, .port = 9), -XEN_EACCES);
	assert_int_equal(OP(d1, set_priority, .port = 2, .priority = 16), -XEN_EINVAL);
	assert_int_equal(OP(d1, set_priority, .port = 2, .priority = 15), 0);
}

static void test_fifo_errors(void **state)
{
	assert_int_equal(OP(d1, expand_array, .array_gfn = ARRAY_GFN), -XEN_EOPNOTSUPP);
	assert_int_equal(init_control(d1, FAKE_VCPUS), -XEN_ENOENT);
	assert_int_equal(OP(d1, init_control, .control_gfn = CONTROL_GFN, .offset = 4096 - 64),
			 -XEN_EINVAL);
	assert_int_equal(OP(d1, init_control, .control_gfn = CONTROL_GFN, .offset = 4),
			 -XEN_EINVAL);
	assert_int_equal(OP(d1, init_control, .control_gfn = 3), -XEN_EINVAL);
	assert_false(d1->evtchn.fifo);
	assert_int_equal(OP(d1, init_control, .control_gfn = CONTROL_GFN, .offset = 4096 - 72), 0);
	assert_int_equal(init_control(d1, 0), -XEN_EINVAL);
	assert_int_equal(OP(d1, expand_array, .array_gfn = 3), -XEN_EINVAL);
	for (unsigned int i = 0; i < 128; i++)
		assert_int_equal(OP(d1, expand_array, .array_gfn = ARRAY_GFN), 0);
	assert_int_equal(OP(d1, expand_array, .array_gfn = ARRAY_GFN), -XEN_ENOSPC);

	d2->evtchn.no_fifo = true;
	assert_int_equal(init_control(d2, 0), -XEN_ENOSYS);
	assert_int_equal(OP(d2, expand_array, .array_gfn = ARRAY_GFN), -XEN_ENOSYS);
}

static void test_limits(void **state)
{
	struct evtchn_status st;
	int64_t port = 0;

	for (uint32_t i = 1; i <= MAX_PORT; i++)
		assert_int_equal(alloc_unbound(d1, DOMID_SELF), i);
	assert_int_equal(alloc_unbound(d1, DOMID_SELF), -XEN_ENOSPC);
	assert_int_equal(status(d1, DOMID_SELF, MAX_PORT, &st), 0);
	assert_int_equal(st.u.unbound.dom, 1);
	for (uint32_t i = 290; i; i -= 29)
		assert_int_equal(OP(d1, close, .port = i), 0);
	for (uint32_t i = 29; i <= 290; i += 29)
		assert_int_equal(alloc_unbound(d1, 3), i);

	/* Loopback, a full table, and the biggest one: 4096 ports without FIFO. */
	assert_int_equal(bind_interdomain(d1, DOMID_SELF, 5), -XEN_ENOSPC);
	end(d2);
	assert_int_equal(evtchn_domain_init(d2, UINT32_MAX), 0);
	while (port >= 0)
		port = alloc_unbound(d2, 1);
	assert_int_equal(port, -XEN_ENOSPC);
	assert_int_equal(OP(d2, close, .port = 4095), 0);
	assert_int_equal(alloc_unbound(d2, 1), 4095);
	use_fifo(d2);
	assert_int_equal(alloc_unbound(d2, 1), 4096);
	assert_int_equal(OP(d2, close, .port = 4095), 0);
	assert_int_equal(alloc_unbound(d2, 1), 4095);
}

/* --- Delivery ----------------------------------------------------------- */

static void test_2level(void **state)
{
	struct evtchn_status st;
	int64_t a = alloc_unbound(d1, 2), b;

	assert_int_equal(OP(d1, send, .port = (uint32_t)a), 0);
	b = bind_interdomain(d2, 1, (uint32_t)a);
	assert_int_equal(b, 1);
	assert_int_equal(take_events(d2), 1);		/* the first one is for free */
	assert_int_equal(take_events(d1), 0);
	assert_int_equal(status(d2, DOMID_SELF, 1, &st), 0);
	assert_int_equal(st.status, EVTCHNSTAT_interdomain);
	assert_int_equal(st.u.interdomain.dom, 1);
	assert_int_equal(st.u.interdomain.port, a);

	assert_int_equal(OP(d1, bind_vcpu, .port = (uint32_t)a, .vcpu = 3), 0);
	assert_int_equal(OP(d2, send, .port = 1), 0);
	assert_int_equal(OP(d2, send, .port = 1), 0);
	assert_int_equal(fake.count[0][3].upcalls, 1);
	assert_int_equal(evtchn_is_pending(d1, (uint32_t)a), 1);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(seen.vcpu[0], 3);

	mask(d1, (uint32_t)a);
	assert_int_equal(OP(d2, send, .port = 1), 0);
	assert_int_equal(take_events(d1), 0);
	assert_int_equal(OP(d1, unmask, .port = (uint32_t)a), 0);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(OP(d1, unmask, .port = (uint32_t)a), 0);
	assert_int_equal(take_events(d1), 0);

	assert_int_equal(OP(d2, send, .port = 1), 0);
	assert_int_equal(OP(d1, close, .port = (uint32_t)a), 0);
	assert_int_equal(d1->shared->evtchn_pending[0], 0);
	assert_int_equal(status(d2, DOMID_SELF, 1, &st), 0);
	assert_int_equal(st.status, EVTCHNSTAT_unbound);
	assert_int_equal(st.u.unbound.dom, 1);
	assert_int_equal(OP(d2, send, .port = 1), 0);
}

static void test_hypervisor_ports(void **state)
{
	int port = evtchn_alloc_hv(d1, hv_notify);

	assert_int_equal(OP(d1, send, .port = (uint32_t)port), 0);
	assert_int_equal(notified, 1);
	assert_int_equal(notified_port, port);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(OP(d1, bind_vcpu, .port = (uint32_t)port, .vcpu = 2), 0);
	evtchn_notify_guest(d1, (uint32_t)port);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(seen.vcpu[0], 2);
	evtchn_notify_guest(d1, 999999);
	assert_int_equal(bind_ipi(d1, 0), 2);
	evtchn_notify_guest(d1, 2);
	assert_int_equal(take_events(d1), 0);

	/* It outlives a reset, and works in the ABI that is left. */
	use_fifo(d1);
	fake.preempt_every = 1;
	for (unsigned int i = 3; i < 200; i++)
		assert_int_equal(bind_ipi(d1, i % FAKE_VCPUS), i);
	evtchn_notify_guest(d1, (uint32_t)port);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(OP(d1, reset, .dom = DOMID_SELF), 0);
	assert_true(fake.preempt_count >= 3);
	assert_false(d1->evtchn.fifo);
	evtchn_notify_guest(d1, (uint32_t)port);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(bind_ipi(d1, 0), 2);
	assert_int_equal(init_control(d1, 0), 0);
	assert_int_equal(OP(d1, reset, .dom = 1), 0);
}

static void test_reset_others(void **state)
{
	assert_int_equal(OP(d1, reset, .dom = 77), -XEN_ESRCH);
	assert_int_equal(OP(d1, reset, .dom = 2), -XEN_EPERM);
	d1->privileged = true;
	assert_int_equal(OP(d1, reset, .dom = 2), -XEN_EINVAL);
	d2->pause_count = 1;
	assert_int_equal(alloc_unbound(d2, 1), 1);
	assert_int_equal(bind_interdomain(d1, 2, 1), 1);
	assert_int_equal(OP(d1, reset, .dom = 2), 0);
	assert_int_equal(OP(d1, send, .port = 1), 0);
	assert_int_equal(OP(d2, close, .port = 1), -XEN_EINVAL);
}

static void test_virqs(void **state)
{
	evtchn_vcpu_virq(d1->vcpus[1], VIRQ_TIMER);
	evtchn_vcpu_virq(d1->vcpus[0], VIRQ_DOM_EXC);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, 1), 1);
	assert_int_equal(bind_virq(d1, VIRQ_DOM_EXC, 0), 2);
	assert_int_equal(OP(d1, bind_vcpu, .port = 2, .vcpu = 2), 0);
	evtchn_vcpu_virq(d1->vcpus[0], VIRQ_TIMER);
	assert_int_equal(take_events(d1), 0);
	evtchn_vcpu_virq(d1->vcpus[1], VIRQ_TIMER);
	evtchn_vcpu_virq(d1->vcpus[0], VIRQ_DOM_EXC);
	assert_int_equal(fake.count[0][1].upcalls, 1);
	assert_int_equal(fake.count[0][2].upcalls, 1);
	assert_int_equal(take_events(d1), 2);
	assert_int_equal(OP(d1, close, .port = 2), 0);
	assert_int_equal(OP(d1, close, .port = 1), 0);
	evtchn_vcpu_virq(d1->vcpus[0], VIRQ_DOM_EXC);
	assert_int_equal(take_events(d1), 0);
	assert_int_equal(bind_virq(d1, VIRQ_TIMER, 1), 1);
}

static void test_poll_and_move(void **state)
{
	struct vcpu *v = d1->vcpus[2];
	static struct vcpu_info moved;

	assert_int_equal(bind_ipi(d1, 0), 1);
	assert_int_equal(bind_ipi(d1, 1), 2);
	for (unsigned int several = 0; several < 2; several++) {
		v->poll_port = several ? ~0u : 2;
		mask(d1, 2);
		atomic_store(&v->pause_flags, PAUSE_POLL);
		assert_int_equal(evtchn_is_pending(d1, 2), 0);
		assert_int_equal(OP(d1, send, .port = 1), 0);
		assert_int_equal(v->pause_flags, several ? 0 : PAUSE_POLL);
		assert_int_equal(OP(d1, send, .port = 2), 0);
		assert_int_equal(v->pause_flags, 0);
		assert_int_equal(OP(d1, send, .port = 1), 0);	/* still pending: no edge */
		assert_int_equal(evtchn_is_pending(d1, 2), 1);
		assert_int_equal(OP(d1, unmask, .port = 2), 0);
		assert_int_equal(take_events(d1), 2);
	}
	assert_int_equal(OP(d1, send, .port = 1), 0);
	assert_int_equal(take_events(d1), 1);

	/* An event that went to the old place is found in the new one. */
	assert_int_equal(OP(d1, send, .port = 1), 0);
	d1->vcpus[0]->info = &moved;
	evtchn_vcpu_info_moved(d1->vcpus[0]);
	assert_int_equal(moved.evtchn_pending_sel, ~0ULL);
	assert_int_equal(take_events(d1), 1);
}

static void raise_port_2(void)
{
	evtchn_raise(d1, evtchn_next(d1, 2));
}

/* One event's search for pollers does not hide another poller from its own event. */
static void test_poll_two_at_once(void **state)
{
	assert_int_equal(bind_ipi(d1, 0), 1);
	assert_int_equal(bind_ipi(d1, 1), 2);
	for (unsigned int i = 1; i <= 2; i++) {
		mask(d1, i);
		d1->vcpus[i]->poll_port = i;
		atomic_store(&d1->vcpus[i]->pause_flags, PAUSE_POLL);
		assert_int_equal(evtchn_is_pending(d1, i), 0);
	}
	fake.on_wake = raise_port_2;
	assert_int_equal(OP(d1, send, .port = 1), 0);
	assert_int_equal(d1->vcpus[1]->pause_flags, 0);
	assert_int_equal(d1->vcpus[2]->pause_flags, 0);
}

static void test_fifo_order(void **state)
{
	use_fifo(d1);
	for (unsigned int i = 1; i <= 6; i++)
		assert_int_equal(bind_ipi(d1, 1), i);
	assert_int_equal(OP(d1, set_priority, .port = 5, .priority = 2), 0);
	for (uint32_t i = 1; i <= 6; i++)
		assert_int_equal(OP(d1, send, .port = i), 0);
	assert_int_equal(fake.count[0][1].upcalls, 1);
	assert_int_equal(take_events(d1), 6);
	assert_int_equal(seen.port[0], 5);
	for (unsigned int i = 1; i < 5; i++)
		assert_int_equal(seen.port[i], i);
	assert_int_equal(seen.port[5], 6);

	/* The tail of an emptied queue goes to another one, the old one is used again. */
	assert_int_equal(OP(d1, send, .port = 1), 0);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(OP(d1, set_priority, .port = 1, .priority = 0), 0);
	assert_int_equal(OP(d1, send, .port = 1), 0);
	assert_int_equal(OP(d1, send, .port = 2), 0);
	assert_int_equal(OP(d1, send, .port = 3), 0);
	assert_int_equal(take_events(d1), 3);

	/* Masked, then unmasked by hypercall; a closed port that is still linked. */
	mask(d1, 3);
	assert_int_equal(OP(d1, send, .port = 3), 0);
	assert_int_equal(take_events(d1), 0);
	assert_int_equal(OP(d1, unmask, .port = 3), 0);
	assert_int_equal(OP(d1, send, .port = 2), 0);
	assert_int_equal(OP(d1, close, .port = 3), 0);
	assert_int_equal(bind_ipi(d1, 0), 7);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(bind_ipi(d1, 0), 3);
	assert_int_equal(OP(d1, send, .port = 3), 0);
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(seen.vcpu[0], 0);
}

static void test_fifo_early(void **state)
{
	assert_int_equal(bind_ipi(d1, 2), 1);
	assert_int_equal(bind_ipi(d1, 2), 2);
	assert_int_equal(bind_ipi(d1, 3), 3);
	assert_int_equal(OP(d1, send, .port = 1), 0);	/* in the other ABI */
	assert_int_equal(init_control(d1, 0), 0);
	assert_int_equal(OP(d1, send, .port = 2), 0);	/* no word yet */
	assert_int_equal(evtchn_is_pending(d1, 2), 1);
	assert_int_equal(OP(d1, send, .port = 3), 0);
	assert_int_equal(OP(d1, unmask, .port = 3), 0);
	assert_int_equal(OP(d1, close, .port = 3), 0);
	assert_int_equal(expand_array(d1, 0), 0);
	d1->vcpus[2]->info->evtchn_upcall_pending = 0;
	assert_int_equal(init_control(d1, 2), 0);	/* queued before it had a block */
	assert_int_equal(d1->vcpus[2]->info->evtchn_upcall_pending, 1);
	assert_int_equal(take_events(d1), 2);
	assert_int_equal(seen.port[0] + seen.port[1], 3);
}

/* A tail whose word never holds still costs the guest its event, nothing more. */
static void test_fifo_hostile(void **state)
{
	use_fifo(d1);
	for (unsigned int i = 1; i <= MAX_PORT; i++)
		assert_int_equal(bind_ipi(d1, 0), i);
	for (uint32_t i = 1; i <= MAX_PORT; i++)
		*word(d1, i) = UINT32_MAX;
	for (uint32_t i = 1; i <= MAX_PORT; i++) {
		assert_int_equal(OP(d1, send, .port = i), 0);
		assert_int_equal(OP(d1, unmask, .port = i), 0);
		*word(d1, i) = i % 3 ? 0 : UINT32_MAX;
		assert_int_equal(OP(d1, send, .port = i), 0);
		assert_int_equal(OP(d1, close, .port = i), 0);
		*word(d1, i) = UINT32_MAX;
	}
	/* All free, all linked. */
	assert_int_equal(bind_ipi(d1, 0), -XEN_ENOSPC);
}

/*
 * A guest that changes the tail's word between our look at it and our write:
 * this program single-steps itself, and the guest acts after each instruction.
 */
enum meddling { WAITS, TAKES, GOES_ON };	/* what it does when it sees BUSY */

static struct {
	enum meddling kind;
	bool seen_busy;
	unsigned int changes;
} meddler;

static void meddle(int sig)
{
	const uint32_t link = EVTCHN_FIFO_LINK_MASK, busy = 1u << EVTCHN_FIFO_BUSY;
	uint32_t *w = word(d1, 1);

	if (*w & busy) {
		meddler.seen_busy = true;
		if (meddler.kind == TAKES)
			*w = busy;
	}
	if (meddler.seen_busy && meddler.kind != GOES_ON)
		return;
	/* Never what it was before. */
	*w = (*w & ~link) | (++meddler.changes & link);
}

/* The stack below the pointer may be in use. */
static void trap_flag(uint64_t set)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "pushfq\n\t"
			 "andq $~0x100, (%%rsp)\n\t"
			 "orq %0, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp" : : "r"(set) : "cc", "memory");
}

/* Sends to port 1 and then, with the guest at work on its word, to port 2. */
static void send_behind(enum meddling kind)
{
	int64_t ret;

	assert_int_equal(OP(d1, send, .port = 1), 0);
	meddler.kind = kind;
	meddler.seen_busy = false;
	meddler.changes = 0;
	trap_flag(0x100);
	ret = OP(d1, send, .port = 2);
	trap_flag(0);
	assert_int_equal(ret, 0);
	assert_true(meddler.seen_busy);
	assert_false(*word(d1, 1) >> EVTCHN_FIFO_BUSY & 1);
}

static void test_fifo_busy(void **state)
{
	struct sigaction act = { .sa_handler = meddle }, old;

	assert_int_equal(sigaction(SIGTRAP, &act, &old), 0);
	use_fifo(d1);
	assert_int_equal(bind_ipi(d1, 0), 1);
	assert_int_equal(bind_ipi(d1, 0), 2);
	send_behind(WAITS);
	assert_int_equal(*word(d1, 1) & EVTCHN_FIFO_LINK_MASK, 2);
	assert_int_equal(take_events(d1), 2);
	assert_int_equal(seen.port[1], 2);
	send_behind(TAKES);		/* the queue is empty: a new one begins */
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(seen.port[0], 2);
	send_behind(GOES_ON);		/* loses an event, and nothing else */
	assert_true(meddler.changes > 64);
	*word(d1, 1) &= ~EVTCHN_FIFO_LINK_MASK;
	assert_int_equal(take_events(d1), 1);
	assert_int_equal(seen.port[0], 1);
	assert_int_equal(sigaction(SIGTRAP, &old, NULL), 0);
}

static void test_allocations_fail(void **state)
{
	unsigned int n;

	page_fail_after = 1;
	assert_int_equal(bind_ipi(d1, 1), -XEN_ENOMEM);
	assert_int_equal(bind_ipi(d1, 1), 1);
	end(d2);
	for (n = 1; n <= 2; n++) {
		page_fail_after = n;
		assert_int_equal(evtchn_domain_init(d2, 1023), -XEN_ENOMEM);
		evtchn_domain_free(d2);
	}
	assert_int_equal(evtchn_domain_init(d2, 1023), 0);
}

/* --- Against a model ---------------------------------------------------- */

#define MODEL_PORTS 80u

static struct model {
	unsigned int state;
	unsigned int dom, port;		/* peer, or whom it waits for */
	unsigned int vcpu;
	uint32_t virq;
	bool pending, masked, linked;
} model[FAKE_DOMAINS][MODEL_PORTS + 1];

static unsigned int rnd(unsigned int n)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (unsigned int)(x >> 11) % n;
}

static void model_raise(unsigned int dom, unsigned int port)
{
	struct model *m = &model[dom][port];

	m->pending = true;
	if (!m->masked)
		m->linked = true;
}

static void model_event(struct domain *d, unsigned int n, uint32_t port)
{
	struct model *m = &model[fake_slot(d)][port];

	CHECK(m->pending && !m->masked);	/* not lost, not twice */
	m->pending = false;
}

static void model_drain(unsigned int dom)
{
	for (unsigned int n = 0; n < FAKE_VCPUS; n++)
		upcall(&fake.dom[dom], n, model_event);
	for (unsigned int p = 1; p <= MODEL_PORTS; p++) {
		CHECK(!model[dom][p].pending || model[dom][p].masked);
		model[dom][p].linked = false;
	}
}

static unsigned int model_alloc(unsigned int dom)
{
	for (unsigned int p = 1; p <= MODEL_PORTS; p++) {
		struct model *m = &model[dom][p];

		if (m->state || (fake.dom[dom].evtchn.fifo && m->linked))
			continue;
		m->vcpu = 0;
		return p;
	}
	return 0;
}

static void model_bind(unsigned int dom)
{
	struct domain *d = &fake.dom[dom];
	unsigned int remote = rnd(FAKE_DOMAINS), p = model_alloc(dom), q = 1 + rnd(MODEL_PORTS);
	unsigned int kind = rnd(4), virq = rnd(24), vcpu = rnd(FAKE_VCPUS);
	struct model *m = &model[dom][p], *peer = &model[remote][q];
	int64_t want = p ? (int64_t)p : -XEN_ENOSPC;

	if (kind == 0) {
		CHECK(alloc_unbound(d, fake.dom[remote].id) == want);
		if (p) {
			m->state = EVTCHNSTAT_unbound;
			m->dom = remote;
		}
	} else if (kind == 1) {
		if (peer->state != EVTCHNSTAT_unbound || peer->dom != dom)
			want = -XEN_EINVAL;
		CHECK(bind_interdomain(d, fake.dom[remote].id, q) == want);
		if (want > 0) {
			m->state = peer->state = EVTCHNSTAT_interdomain;
			m->dom = remote;
			m->port = q;
			peer->dom = dom;
			peer->port = p;
			model_raise(dom, p);
		}
	} else if (kind == 2) {
		CHECK(bind_ipi(d, vcpu) == want);
		if (p) {
			m->state = EVTCHNSTAT_ipi;
			m->vcpu = vcpu;
		}
	} else {
		bool percpu = virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF ||
			      virq == VIRQ_XENPMU;

		if (!percpu)
			vcpu = 0;
		for (unsigned int i = 1; i <= MODEL_PORTS; i++) {
			if (model[dom][i].state == EVTCHNSTAT_virq && model[dom][i].virq == virq &&
			    (!percpu || model[dom][i].vcpu == vcpu))
				want = -XEN_EEXIST;
		}
		CHECK(bind_virq(d, virq, vcpu) == want);
		if (want > 0) {
			m->state = EVTCHNSTAT_virq;
			m->virq = virq;
			m->vcpu = vcpu;
		}
	}
}

static void model_close(unsigned int dom, unsigned int p)
{
	struct model *m = &model[dom][p];

	if (m->state == EVTCHNSTAT_interdomain) {
		model[m->dom][m->port].state = EVTCHNSTAT_unbound;
		model[m->dom][m->port].dom = dom;
	}
	m->state = EVTCHNSTAT_closed;
	m->pending = false;
}

static void model_send(unsigned int dom, unsigned int p)
{
	struct model *m = &model[dom][p];
	bool ok = m->state == EVTCHNSTAT_interdomain || m->state == EVTCHNSTAT_ipi ||
		  m->state == EVTCHNSTAT_unbound;

	if (!fake.dom[dom].evtchn.nr_ports || p >= fake.dom[dom].evtchn.nr_ports)
		ok = false;
	CHECK(OP(&fake.dom[dom], send, .port = p) == (ok ? 0 : -XEN_EINVAL));
	if (m->state == EVTCHNSTAT_interdomain)
		model_raise(m->dom, m->port);
	else if (m->state == EVTCHNSTAT_ipi)
		model_raise(dom, p);
}

static void model_virq(unsigned int dom)
{
	unsigned int virq = rnd(24), vcpu = rnd(FAKE_VCPUS);

	if (virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF ||
	    virq == VIRQ_XENPMU) {
		evtchn_vcpu_virq(fake.dom[dom].vcpus[vcpu], virq);
	} else {
		evtchn_vcpu_virq(fake.dom[dom].vcpus[0], virq);
		vcpu = FAKE_VCPUS;
	}
	for (unsigned int p = 1; p <= MODEL_PORTS; p++) {
		struct model *m = &model[dom][p];

		if (m->state == EVTCHNSTAT_virq && m->virq == virq &&
		    (vcpu == FAKE_VCPUS || m->vcpu == vcpu))
			model_raise(dom, p);
	}
}

static void model_mask(unsigned int dom, unsigned int p)
{
	struct domain *d = &fake.dom[dom];
	struct model *m = &model[dom][p];

	if (p >= d->evtchn.nr_ports || !m->state)
		return;
	if (!m->masked) {
		mask(d, p);
	} else {
		CHECK(OP(d, unmask, .port = p) == 0);
		if (m->pending)
			m->linked = true;
	}
	m->masked = !m->masked;
	CHECK(is_masked(d, p) == m->masked);
}

static void model_move(unsigned int dom, unsigned int p)
{
	struct domain *d = &fake.dom[dom];
	struct model *m = &model[dom][p];
	unsigned int vcpu = rnd(FAKE_VCPUS);
	bool percpu = m->virq == VIRQ_TIMER || m->virq == VIRQ_DEBUG || m->virq == VIRQ_XENOPROF ||
		      m->virq == VIRQ_XENPMU;
	bool ok = m->state == EVTCHNSTAT_unbound || m->state == EVTCHNSTAT_interdomain ||
		  (m->state == EVTCHNSTAT_virq && !percpu);

	CHECK(OP(d, bind_vcpu, .port = p, .vcpu = vcpu) == (ok ? 0 : -XEN_EINVAL));
	if (ok)
		m->vcpu = vcpu;
	if (d->evtchn.fifo && m->state)
		CHECK(OP(d, set_priority, .port = p, .priority = rnd(16)) == 0);
}

static void model_check(unsigned int dom)
{
	struct domain *d = &fake.dom[dom];

	for (unsigned int p = 1; p <= MODEL_PORTS && p < d->evtchn.nr_ports; p++) {
		struct model *m = &model[dom][p];
		struct evtchn_status st;

		CHECK(status(d, DOMID_SELF, p, &st) == 0);
		CHECK(st.status == m->state);
		CHECK(m->state != EVTCHNSTAT_unbound || st.u.unbound.dom == m->dom + 1);
		CHECK(m->state != EVTCHNSTAT_interdomain ||
		      (st.u.interdomain.dom == m->dom + 1 && st.u.interdomain.port == m->port));
		CHECK(!m->state || st.vcpu == m->vcpu || m->state == EVTCHNSTAT_virq);
		CHECK(evtchn_is_pending(d, p) == m->pending);
	}
}

static void model_step(void)
{
	unsigned int dom = rnd(FAKE_DOMAINS), p = 1 + rnd(MODEL_PORTS), what = rnd(64);

	if (what < 12) {
		model_bind(dom);
	} else if (what < 16) {
		CHECK(OP(&fake.dom[dom], close, .port = p) ==
		      (model[dom][p].state ? 0 : -XEN_EINVAL));
		model_close(dom, p);
	} else if (what < 36) {
		model_send(dom, p);
	} else if (what < 42) {
		model_virq(dom);
	} else if (what < 48) {
		model_mask(dom, p);
	} else if (what < 54) {
		model_move(dom, p);
	} else {
		model_drain(dom);
	}
}

/* Domain 1 in the 2-level ABI, the others in FIFO; now and then a reset. */
static void test_model(void **state)
{
	memset(model, 0, sizeof(model));
	memset(heads, 0, sizeof(heads));
	fake.preempt_every = 2;
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		end(&fake.dom[i]);
		assert_int_equal(evtchn_domain_init(&fake.dom[i], MODEL_PORTS), 0);
		if (i)
			use_fifo(&fake.dom[i]);
	}
	for (unsigned int n = 0; n < 300000; n++) {
		unsigned int dom = rnd(FAKE_DOMAINS);

		model_step();
		if (n % 16 == 0)
			model_check(dom);
		if (n % 4096)
			continue;
		CHECK(OP(&fake.dom[dom], reset, .dom = DOMID_SELF) == 0);
		for (unsigned int p = 1; p <= MODEL_PORTS; p++) {
			model_close(dom, p);
			model[dom][p].linked = false;
		}
		/* What the guest does after a reset: the other ABI, from nothing. */
		memset(heads[dom], 0, sizeof(heads[dom]));
		memset(fake.dom[dom].shared, 0, PAGE_SIZE);
		for (unsigned int v = 0; v < FAKE_VCPUS; v++)
			memset(fake_va(&fake.dom[dom], CONTROL_GFN + v), 0, PAGE_SIZE);
		for (unsigned int p = 1; p <= MODEL_PORTS; p++)
			model[dom][p].masked = false;
		if (rnd(2))
			use_fifo(&fake.dom[dom]);
	}
	fake.preempt_every = 0;
}

/* --- Threads ------------------------------------------------------------ */

#define SENDERS 3u
#define CONSUMERS 2u
#define STRESS_PORTS 12u
#define STRESS_SENDS 60000u

static struct {
	_Atomic uint64_t sent[STRESS_PORTS + 1];	/* bumped before each send */
	_Atomic uint64_t got[STRESS_PORTS + 1];		/* what sent was at the last event */
	atomic_uint senders_left;
} stress;

static void *stress_sender(void *data)
{
	unsigned int n = *(unsigned int *)data;
	uint32_t port = n;

	fake_this_pcpu = &fake_pcpus[1 + n];
	for (unsigned int i = 0; i < STRESS_SENDS; i++) {
		port = (port * 7 + i) % STRESS_PORTS + 1;
		atomic_fetch_add(&stress.sent[port], 1);
		CHECK(OP(d2, send, .port = port) == 0);
	}
	atomic_fetch_sub(&stress.senders_left, 1);
	return NULL;
}

/* As the published protocol has it: wait while BUSY, ask Xen when it is pending. */
static void stress_unmask(uint32_t port)
{
	uint32_t busy = 1u << EVTCHN_FIFO_BUSY, masked = 1u << EVTCHN_FIFO_MASKED;
	uint32_t *w = word(d1, port), old;

	do {
		old = __atomic_load_n(w, __ATOMIC_SEQ_CST) & ~busy;
	} while (!__atomic_compare_exchange_n(w, &old, old & ~masked, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	if (__atomic_load_n(w, __ATOMIC_SEQ_CST) >> EVTCHN_FIFO_PENDING & 1)
		CHECK(OP(d1, unmask, .port = port) == 0);
}

static void stress_event(struct domain *d, unsigned int n, uint32_t port)
{
	uint64_t count = atomic_load(&stress.sent[port]);
	uint64_t before = atomic_load(&stress.got[port]);

	CHECK(port && port <= STRESS_PORTS);
	while (before < count && !atomic_compare_exchange_weak(&stress.got[port], &before, count))
		;
	if (count % 3 == 0) {
		__atomic_fetch_or(word(d, port), 1u << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
		stress_unmask(port);
	}
	if (count % 5 == 0)
		CHECK(OP(d, bind_vcpu, .port = port, .vcpu = (uint32_t)count % CONSUMERS) == 0);
	if (count % 7 == 0)
		CHECK(OP(d, set_priority, .port = port, .priority = (uint32_t)count % 4) == 0);
}

static void *stress_consumer(void *data)
{
	unsigned int n = *(unsigned int *)data;

	fake_this_pcpu = &fake_pcpus[1 + SENDERS + n];
	while (atomic_load(&stress.senders_left)) {
		upcall(d1, n, stress_event);
		sched_yield();
	}
	return NULL;
}

static void test_threads(void **state)
{
	static unsigned int nr[] = { 0, 1, 2 };
	pthread_t sender[SENDERS], consumer[CONSUMERS];

	memset(&stress, 0, sizeof(stress));
	memset(heads, 0, sizeof(heads));
	use_fifo(d1);
	for (uint32_t p = 1; p <= STRESS_PORTS; p++) {
		assert_int_equal(alloc_unbound(d1, 2), p);
		assert_int_equal(bind_interdomain(d2, 1, p), p);
	}
	atomic_store(&stress.senders_left, SENDERS);
	for (unsigned int i = 0; i < CONSUMERS; i++)
		assert_int_equal(pthread_create(&consumer[i], NULL, stress_consumer, &nr[i]), 0);
	for (unsigned int i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&sender[i], NULL, stress_sender, &nr[i]), 0);
	for (unsigned int i = 0; i < SENDERS; i++)
		pthread_join(sender[i], NULL);
	for (unsigned int i = 0; i < CONSUMERS; i++)
		pthread_join(consumer[i], NULL);
	/* A handler may have sent the last ones to the other vCPU's queues. */
	for (unsigned int i = 0; i < 8; i++)
		upcall(d1, i % CONSUMERS, stress_event);
	for (uint32_t p = 1; p <= STRESS_PORTS; p++)
		assert_int_equal(stress.got[p], stress.sent[p]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bind_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_port_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_2level, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hypervisor_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_virqs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_and_move, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_allocations_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
