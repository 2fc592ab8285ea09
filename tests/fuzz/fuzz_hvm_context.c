/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what a toolstack sends of a domain's CPUs: leaves of a policy, then a
 * blob of saved state. What is taken must come out again as it went in; what is
 * refused must leave no trace; and no CPU may be given what it faults on.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/domain.h"
#include "hospes/hvm_context.h"
#include "port/testport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BLOB 32768u

static uint64_t blob[MAX_BLOB / 8], again[MAX_BLOB / 8];

static void must(bool truth)
{
	if (!truth)
		abort();
}

static size_t save(struct domain *d, uint64_t *to)
{
	size_t len;

	memset(to, 0, MAX_BLOB);
	len = hvm_context_save(d, (uint8_t *)to);
	must(len <= hvm_context_max(d) && len <= MAX_BLOB);
	return len;
}

static const uint8_t *fuzz_policy(struct domain *d, const uint8_t *data, size_t *size)
{
	struct cpu_policy p = *d->policy;
	uint32_t leaf = 0, subleaf = 0, n = *size ? data[0] % 8 : 0;
	struct xen_cpuid_leaf in;

	*size -= !!*size;
	for (data++; n && *size >= sizeof(in); n--, data += sizeof(in), *size -= sizeof(in)) {
		memcpy(&in, data, sizeof(in));
		(void)!policy_put_leaf(&p, &in);
	}
	if (policy_level(&p, &leaf, &subleaf))
		return data;
	for (unsigned int i = 1; i < 0xe; i++)
		must(!(p.basic[i].ecx & ~guest_policy.basic[i].ecx) || i == 2);
	must(!(p.cr4_valid & ~guest_policy.cr4_valid) &&
	     !(p.efer_valid & ~guest_policy.efer_valid) && p.maxphysaddr <= 48 &&
	     !(p.xcr0_mask & ~guest_policy.xcr0_mask));
	*d->policy = p;
	return data;
}

static void check(struct vcpu *v)
{
	const struct test_vcpu *t = test_vcpu(v);
	uint32_t mxcsr;

	memcpy(&mxcsr, &t->xsave[24], sizeof(mxcsr));
	must(!(mxcsr & ~0x2ffffu) && !(v->msr.tsc_aux >> 32));
	must(v->msr.xcr0 == 1 || policy_xcr0_valid(v->domain->policy, v->msr.xcr0));
	for (unsigned int i = 0; i < 64; i++)
		must(i < 1 ? !(t->xsave[512] & ~7) : !t->xsave[512 + i]);
	must((v->lapic.base_msr & ~0xfffULL) == APIC_DEFAULT_BASE &&
	     !(v->lapic.irr[0] & 0xffff) && !(v->lapic.isr[0] & 0xffff));
	must(!(t->sys.cr4 & ~v->domain->policy->cr4_valid) || !v->initialised);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct domain_create c = { .id = 1, .name = "fuzz", .nr_vcpus = 2, .max_pages = 16,
		.max_evtchn_port = 63, .max_grant_frames = 1, .max_maptrack_frames = 1,
		.max_grant_version = 1 };
	struct domain *d;
	size_t len;

	test_machine_init(160, 1);
	policy_init_host();
	must(!domain_create(&c, &d));
	data = fuzz_policy(d, data, &size);
	len = save(d, blob);
	if (hvm_context_load(d, data, size)) {
		must(save(d, again) == len && !memcmp(again, blob, len));
	} else {
		len = save(d, blob);
		must(!hvm_context_load(d, (const uint8_t *)blob, len));
		must(save(d, again) == len && !memcmp(again, blob, len));
	}
	check(d->vcpus[0]);
	check(d->vcpus[1]);
	domain_destroy(d);
	while (schedule(port_this_pcpu()) || domain_reap_step())
		;
	test_machine_fini();
	return 0;
}
