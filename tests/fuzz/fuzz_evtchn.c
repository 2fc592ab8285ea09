/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the event channel hypercalls: each 32 byte record of the input is one
 * call, by one of three domains, with its struct; in between the domains
 * scribble over the words they share with the hypervisor.
 */
#include "../unit/fake_core.h"

#define RECORD 32u
#define ROUNDS 512u
#define GFNS 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hypercall_fn *const handlers[] = {
	evtchnop_bind_interdomain, evtchnop_bind_virq, evtchnop_bind_pirq, evtchnop_close,
	evtchnop_send, evtchnop_status, evtchnop_alloc_unbound, evtchnop_bind_ipi,
	evtchnop_bind_vcpu, evtchnop_unmask, evtchnop_reset, evtchnop_init_control,
	evtchnop_expand_array, evtchnop_set_priority,
};

static void echo(struct domain *d, uint32_t port)
{
	evtchn_notify_guest(d, port);
}

static void scribble(struct domain *d, const uint8_t *rec)
{
	uint8_t *page = rec[2] % 2 ? (uint8_t *)d->shared : fake_va(d, rec[3] % GFNS);
	size_t at = (size_t)(rec[4] | rec[5] << 8) % (PAGE_SIZE - 16);

	memcpy(page + at, rec + 16, 16);
}

static void one(const uint8_t *rec)
{
	struct domain *d = &fake.dom[rec[0] % FAKE_DOMAINS];
	struct vcpu *v = d->vcpus[rec[0] / FAKE_DOMAINS % FAKE_VCPUS];
	unsigned int op = rec[1] % (ARRAY_SIZE(handlers) + 3);
	uint64_t arg[4];
	struct evtchn_status *st = (void *)arg;

	memcpy(arg, rec + 8, 24);
	/* Domains and frames that exist, mostly. */
	if (rec[2] & 1 && (op == 0 || op == 5 || op == 6 || op == 10))
		st->dom = (domid_t)(st->dom % (FAKE_DOMAINS + 1));
	if (rec[2] & 1 && (op == 11 || op == 12))
		arg[0] %= GFNS + 1;
	if (op < ARRAY_SIZE(handlers))
		(void)fake_call(v, handlers[op], arg, 0);
	else if (op == ARRAY_SIZE(handlers))
		evtchn_vcpu_virq(v, rec[3] % EVTCHN_NR_VIRQS);
	else if (op == ARRAY_SIZE(handlers) + 1)
		scribble(d, rec);
	else
		(void)evtchn_is_pending(d, (uint32_t)arg[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fake_core_init();
	fake.preempt_every = 3;
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		struct domain *d = &fake.dom[i];

		CHECK(!evtchn_domain_init(d, 200));
		d->evtchn.no_fifo = i == 2;
		CHECK(evtchn_alloc_hv(d, echo) == 1);
		for (uint64_t gfn = 0; gfn < GFNS; gfn++)
			fake_ram(d, gfn, P2M_RAM);
	}
	fake.dom[0].privileged = true;
	for (unsigned int n = 0; n < ROUNDS && size >= RECORD; n++, data += RECORD, size -= RECORD)
		one(data);
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		while (!evtchn_destroy_step(&fake.dom[i]))
			;
	}
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++)
		evtchn_domain_free(&fake.dom[i]);
	fake_core_fini();
	return 0;
}
