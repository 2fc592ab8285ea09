/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the hypercalls: three real domains, one of them privileged, on one
 * fake CPU whose scheduler picks who calls next. The input says which call,
 * and what lies in memory; the privileged one also creates domains, and ends any.
 * At the end all domains go, and every frame must be free again.
 */
#include "hospes/ctl.h"
#include "hospes/log.h"
#include "../unit/real_domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PTR 0x2000u
#define DOMAINS 3u
#define VCPUS 2u
#define GRANTS_AT 600ul		/* gfn of the first grant frame */
#define KEYS 0x5000u		/* harmless keys: no other memory is pressed */

static const struct { uint8_t call, op, op_arg, ptr_arg; } calls[] = {
#define CALL(nr, name, op_arg, op_bits, ptr_arg) { nr, 0, op_arg, ptr_arg },
#define NONE 4
#define OP(call, nr, name, handler, size, flags) { 0, nr, 0, 0 },
#include "hospes/hypercalls.def"
};

/* The operations of the toolstack's calls. */
static const struct { uint32_t call, cmd, version; } ctls[] = {
#define DOMCTL(cmd, name, flags) { 36, cmd, XEN_DOMCTL_INTERFACE_VERSION },
#define SYSCTL(cmd, name, flags) { 35, cmd, XEN_SYSCTL_INTERFACE_VERSION },
#define PLATFORM(cmd, name, flags) { 7, cmd, XENPF_INTERFACE_VERSION },
#include "hospes/ctl.def"
};

static const uint64_t values[64] = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 31, 64, 127, 128, 255, 511, 512, 1023,
	1024, 4032, 4040, DOMID_SELF, DOMID_IO, DOMID_INVALID, PTR, PTR + 0x80, PTR + 0x400,
	PTR + 0x800, 0x3000, 0x3ff8, 0x4000, GUEST_BAD, 513, 600, 601, 700, 0x101, 0x202, 0x303,
	0x10000000, 1u << 31, ~0u, 1ULL << 32, 1ULL << 36, 1ULL << 63, ~0ULL, 1000000, 100000000,
	0xc9b, 0xc93, 0x8b, 0x80000001, 0x20, 0x100, GRANTS_AT << 12, 0x40001000, 4095, 17, 20,
};

static struct hypercall going_on[DOMAINS][VCPUS];	/* nr 0: none */
static const uint8_t *next, *end;

static uint8_t byte(void) { return next < end ? *next++ : 0; }

/* Some fields of the struct at PTR, of arrays behind it, and of the grant table. */
static void poke(struct vcpu *v)
{
	static const gpa_t areas[4] = { PTR, PTR, PTR + 0x400, GRANTS_AT << PAGE_SHIFT };

	for (unsigned int n = byte() % 24; n; n--) {
		unsigned int at = byte(), what = byte(), size = 2u << (what >> 6);
		gpa_t gpa = areas[at >> 6] + (at & 31) * 4 + (at & 32 ? 2 : 0);

		if (guest_phys_write(v->domain, gpa, &values[what & 63], MIN(size, 8)))
			continue;
	}
}

/* A domain as xl makes it, for the fields to be changed. */
static const struct xen_domctl good = { .u.createdomain = {
	.flags = 3, .max_vcpus = 2, .max_evtchn_port = 127, .max_grant_frames = 4,
	.max_maptrack_frames = 4, .grant_opts = 2, .arch.emulation_flags = 1 } };

/* Fills in what makes the struct at PTR an operation of the toolstack's. */
static void begin_ctl(struct vcpu *v, struct hypercall *hc)
{
	unsigned int i = byte() % ARRAY_SIZE(ctls);
	struct xen_domctl *op = guest_mem(v->domain, PTR);

	if (ctls[i].call == 36 && ctls[i].cmd == XEN_DOMCTL_createdomain && byte() & 1)
		*op = good;
	poke(v);
	op->cmd = ctls[i].cmd;
	op->interface_version = ctls[i].version;
	if (ctls[i].call == 36 && op->domain > 8)
		op->domain = byte() % 8;
	if (ctls[i].call == 35 && op->cmd == XEN_SYSCTL_debug_keys) {
		struct xen_sysctl_debug_keys *k = &((struct xen_sysctl *)(void *)op)->u.debug_keys;

		k->nr_keys %= 8;
		k->keys.p = (void *)(uintptr_t)KEYS;
	}
	*hc = (struct hypercall){ .nr = ctls[i].call, .arg = { PTR } };
}

/* Is the memory at PTR the guest's still, and its own? */
static bool has_args(struct domain *d)
{
	return p2m_get(&d->p2m, GFN(PTR >> PAGE_SHIFT)).type == P2M_RAM;
}

/* Goes on with what @v had begun, or begins something. */
static void call(struct vcpu *v)
{
	struct hypercall *hc = &going_on[v->domain->id - 1][v->id];
	unsigned long before = v->domain->tot_pages;
	int64_t rc;

	if (!hc->nr && v->domain->privileged && byte() & 1 && has_args(v->domain)) {
		begin_ctl(v, hc);
	} else if (!hc->nr) {
		unsigned int op = byte() % ARRAY_SIZE(calls), row = op;

		while (!calls[row].call)
			row--;
		poke(v);
		*hc = (struct hypercall){ .nr = calls[row].call };
		for (unsigned int a = 0; a < 3; a++)
			hc->arg[a] = values[byte() & 63];
		hc->arg[calls[row].ptr_arg] = PTR;
		hc->arg[calls[row].op_arg] = calls[op].op;
	}
	rc = hypercall_dispatch(v, hc);
	if (rc != HC_CONTINUE)
		hc->nr = 0;
	lock_check_none();
	if ((rc < -4095 && rc != HC_CONTINUE) || (v->domain->tot_pages > before &&
	    v->domain->tot_pages > v->domain->max_pages))
		abort();
}

/* What is not the caller's doing: ends, time, interrupts, start-up. */
static void outside(uint8_t what)
{
	struct domain *d = domain_get_by_id((domid_t)(1 + what % DOMAINS));
	struct vcpu *v = d ? d->vcpus[what / DOMAINS % VCPUS] : NULL;

	if (d && what < DOMAINS)
		domain_destroy(d);
	else if (d && what < 32)
		vcpu_notify(v);
	else if (d && what < 40)
		vcpu_sipi(v, 0x10);
	else if (what >= 40 && what < 80)
		test_advance_ns(1ULL << (what - 40));
	if (d)
		domain_put(d);
	(void)domain_reap_step();
}

/* All of them, those also that were made on the way. */
static void end_all(void)
{
	struct domain *d;

	for (uint32_t id = 0; (d = domain_get_from((domid_t)id)); id++) {
		id = d->id;
		domain_destroy(d);
		domain_put(d);
	}
	while ((d = domain_get_from(0))) {
		domid_t id = d->id;

		domain_put(d);
		if (!guest_gone(id))
			abort();
	}
	while (domain_reap_step())	/* one that nobody found any more */
		;
}

static void run(void)
{
	memset(going_on, 0, sizeof(going_on));
	for (domid_t id = 1; id <= DOMAINS; id++) {
		struct domain *d = guest_new(id, VCPUS, id == DOMAINS);

		guest_map_grants(d, GRANTS_AT, DOMAINS);
		memcpy(guest_mem(d, KEYS), "hdvemlq", 8);
	}
	while (next < end) {
		uint8_t what = byte();
		struct vcpu *v;

		outside(what & 127);
		v = guest_next();
		if (!v)
			continue;
		/* Something else may be due, so that long calls stop early. */
		atomic_store(&port_this_pcpu()->softirqs, what >> 7);
		call(v);
	}
	end_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t free_frames;

	if (!free_frames) {
		machine_new(4096, 1);
		log_console_level = LOG_ERR;
		run();
		free_frames = page_free_count();
	}
	next = data;
	end = data + size;
	run();
	if (page_free_count() != free_frames)
		abort();
	return 0;
}
