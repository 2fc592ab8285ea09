/* SPDX-License-Identifier: MIT */
/*
 * CPUID: what is offered, what is hidden, what depends on the vCPU, and that
 * all leaves tell the same story.
 */
#include "unit.h"

#include "hospes/cpu_insn.h"
#include "hospes/domain.h"
#include "hospes/policy.h"
#include "hospes/vioapic.h"
#include "port/testport.h"

#define ANY UINT32_MAX

static struct domain dom;
static struct vcpu vcpu;
static struct cpu_policy policy;
static struct test_vcpu state_of_cpu;

void vcpu_notify(struct vcpu *v)
{
	(void)v;
}

void vioapic_eoi(struct domain *d, uint8_t vector)
{
	(void)d;
	(void)vector;
}

void vcpu_init_signal(struct vcpu *v)
{
	(void)v;
}

void vcpu_sipi(struct vcpu *v, uint8_t vector)
{
	(void)v;
	(void)vector;
}

static void make(void)
{
	policy_init_host();
	policy = guest_policy;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(0, 1);
	memset(&dom, 0, sizeof(dom));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&state_of_cpu, 0, sizeof(state_of_cpu));
	dom.policy = &policy;
	dom.id = 7;
	vcpu.id = 3;
	vcpu.domain = &dom;
	vcpu.cpu_state = &state_of_cpu;
	vcpu.msr.xcr0 = 1;
	vlapic_init(&vcpu);
	make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	timer_kill(&vcpu.lapic.timer);
	test_machine_fini();
	return 0;
}

static struct cpuid_regs get(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r = { 1, 2, 3, 4 };

	policy_cpuid(&vcpu, leaf, subleaf, &r);
	return r;
}

static bool is_zero(struct cpuid_regs r)
{
	return !(r.eax | r.ebx | r.ecx | r.edx);
}

/* Every feature the machine has, so that only the tables hide something. */
static void rich_machine(void)
{
	test_cpuid_set(0, ANY, 0x20, 0x68747541, 0x444d4163, 0x69746e65);
	test_cpuid_set(1, ANY, 0x00a20f10, ~0u, ~0u, ~0u);
	test_cpuid_set(4, 0, 0xffffc121, 0x1c0003f, 0x3f, 0);
	test_cpuid_set(4, 1, 0xffffc122, 0x1c0003f, 0x3f, 0);
	for (uint32_t sub = 0; sub < 3; sub++)
		test_cpuid_set(7, sub, sub ? ~0u : 2, ~0u, ~0u, ~0u);
	for (uint32_t leaf = 8; leaf <= 0x20; leaf++) {
		if (leaf != 0xd)
			test_cpuid_set(leaf, ANY, ~0u, ~0u, ~0u, ~0u);
	}
	test_cpuid_set(0xd, 0, 0x602ff, 0x2b00, 0x2b00, 0);
	test_cpuid_set(0xd, 1, 0x1f, 0x2b00, 0x1800, 0);
	test_cpuid_set(0xd, 5, 0x40, 0x440, 0, 0);
	test_cpuid_set(0xd, 6, 0x200, 0x480, 0, 0);
	test_cpuid_set(0xd, 7, 0x400, 0x680, 0x2, 0);
	test_cpuid_set(0xd, 9, 0x8, 0xa80, 0, 0);
	test_cpuid_set(0xd, 18, 0x2000, 0xb00, 6, 0);
	test_cpuid_set(0x80000000, ANY, 0x80000030, 0x68747541, 0x444d4163, 0x69746e65);
	for (uint32_t leaf = 0x80000001; leaf <= 0x80000030; leaf++)
		test_cpuid_set(leaf, ANY, ~0u, ~0u, ~0u, ~0u);
	test_cpuid_set(0x80000008, ANY, 0x00343934, ~0u, ~0u, ~0u);
	make();
}

static void test_offered(void **state)
{
	struct cpuid_regs r = get(1, 0);

	(void)state;
	assert_int_equal(r.eax, 0x00a20f10);
	assert_int_equal(r.ecx, 0x80000000 | 1u << 24 | 1u << 21 | (0x7ed8320b & 0x76da3203));
	assert_true(r.ecx & 1u << 26);				/* XSAVE, AVX, AES, F16C */
	assert_true(r.edx & 1u << 9);
	r = get(7, 0);
	assert_int_equal(r.ebx & (1u | 1u << 7 | 1u << 20 | 1u << 5 | 1u << 29),
			 1u | 1u << 7 | 1u << 20 | 1u << 5 | 1u << 29);
	assert_true(r.ebx & 2u);				/* TSC_ADJUST */
	r = get(0x80000001, 0);
	assert_int_equal(r.edx & (1u << 20 | 1u << 26 | 1u << 27 | 1u << 29),
			 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29);
	assert_int_equal(get(0x80000002, 0).eax, 0x74736554);
	assert_int_equal(get(0x80000007, 0).edx, 1u << 8);
	assert_int_equal(get(0x80000008, 0).eax, 0x3030);
	assert_int_equal(get(0x80000008, 0).ecx, 0);
	assert_int_equal(policy.maxphysaddr, 48);
	assert_int_equal(get(6, 0).eax, 4);
	assert_int_equal(get(0x80000021, 0).eax, 0x45);
}

static void test_hidden(void **state)
{
	/* Registers and the bits that must not be seen, whatever the machine has. */
	static const struct { uint32_t leaf, sub; struct cpuid_regs hidden; } rows[] = {
		{ 1, 0, { 0, 0x00fe0000, 1u << 3 | 1u << 5 | 1u << 6 | 1u << 15 | 1u << 27,
			  1u << 18 | 1u << 21 | 1u << 22 | 1u << 28 | 1u << 29 } },
		{ 7, 0, { ~1u, 1u << 2 | 1u << 4 | 1u << 11 | 1u << 12 | 1u << 14 | 1u << 25,
			  1u << 3 | 1u << 4 | 1u << 5 | 1u << 7 | 1u << 16 | 1u << 24 | 1u << 29 |
			  1u << 30, 1u << 20 | 1u << 22 | 1u << 24 | 0x3fu << 26 } },
		{ 7, 1, { 1u << 22 | 1u << 26, ~0u, ~0u, 1u << 18 } },
		{ 7, 2, { ~0u, ~0u, ~0u, ~0u } },
		{ 0x80000001, 0, { 0, 0, 1u << 1 | 1u << 2 | 1u << 3 | 1u << 10 | 1u << 12 |
				   1u << 15 | 1u << 23 | 1u << 29, 0 } },
		{ 0x80000007, 0, { ~0u, ~0u, ~0u, ~(1u << 8) } },
		{ 0x80000008, 0, { 0, 1u << 4 | 1u << 9 | 1u << 23 | 1u << 28, ~0u, ~0u } },
		{ 0x80000021, 0, { 1u << 8 | 1u << 9, ~0u, ~0u, ~0u } },
	};
	static const uint32_t gone[] = { 3, 5, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x12, 0x14, 0x15,
		0x17, 0x18, 0x1f, 0x20, 0x21, 0x80000009, 0x8000000a, 0x8000001b, 0x8000001c,
		0x8000001f, 0x80000020, 0x80000022, 0x80000030, 0x90000000, 0x40000006,
		0x40000100, 0x4000ff00, 0x3fffffff, 0x7fffffff, 0xffffffff };

	(void)state;
	rich_machine();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cpuid_regs r = get(rows[i].leaf, rows[i].sub), h = rows[i].hidden;

		assert_int_equal(r.eax & h.eax, 0);
		assert_int_equal(r.ebx & h.ebx, 0);
		assert_int_equal(r.ecx & h.ecx, 0);
		assert_int_equal(r.edx & h.edx, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++) {
		for (uint32_t sub = 0; sub < 4; sub++)
			assert_true(is_zero(get(gone[i], sub)));
	}
	assert_int_equal(get(0, 0).eax, 0xd);
	assert_int_equal(get(0x80000000, 0).eax, 0x80000021);
	/* Nested address bits are gone, and five-level paging's. */
	assert_int_equal(get(0x80000008, 0).eax, 0x3030);
	/* Nothing is offered that the machine lacks, but for what is ours. */
	for (uint32_t leaf = 1; leaf <= 0x20; leaf++)
		test_cpuid_set(leaf, ANY, 0, 0, 0, 0);
	test_cpuid_set(0x80000000, ANY, 0x80000000, 0, 0, 0);
	make();
	assert_int_equal(policy.basic[1].ecx, 0x81200000);
	assert_int_equal(policy.basic[1].edx, 0);
	assert_int_equal(policy.leaf7[0].ebx, 2);
	assert_int_equal(policy.cr4_valid, 0x100);
	assert_int_equal(policy.efer_valid, 0);
	assert_int_equal(policy.maxphysaddr, 36);
	assert_int_equal(policy.xcr0_mask, 0);
	assert_true(is_zero(get(0xd, 0)));
	assert_true(is_zero(get(0x8000001e, 0)));
}

static void test_vcpu_bits(void **state)
{
	(void)state;
	assert_int_equal(get(1, 0).ebx, 0x06010800);
	assert_false(get(1, 0).ecx & 1u << 27);
	state_of_cpu.sys.cr4 = 1u << 18;
	assert_true(get(1, 0).ecx & 1u << 27);
	assert_true(vlapic_msr_write(&vcpu, 0x1b, APIC_DEFAULT_BASE));
	assert_false(get(1, 0).edx & 1u << 9);
	assert_false(get(0x80000001, 0).edx & 1u << 9);
	assert_true(get(1, 0).edx & 1u << 4);
}

/* APIC id, cores and caches: every vCPU is a package of its own. */
static void test_topology(void **state)
{
	struct cpuid_regs r;

	(void)state;
	rich_machine();
	for (uint32_t sub = 0; sub < 4; sub++) {
		r = get(0xb, sub);
		assert_int_equal(r.edx, 6);
		assert_int_equal(r.ecx, sub | (sub < 2 ? (sub + 1) << 8 : 0));
		assert_int_equal(r.ebx, sub < 2);
		assert_int_equal(r.eax, sub < 2);
	}
	assert_int_equal(get(0xb, 0x100).ecx, 0);
	assert_int_equal(get(4, 0).eax, 0x121);
	assert_int_equal(get(4, 1).eax, 0x122);
	assert_int_equal(get(4, 0).ebx, 0x1c0003f);
	assert_true(is_zero(get(4, 2)));
	assert_true(is_zero(get(4, POLICY_CACHE_SUBLEAVES)));
	assert_true(is_zero(get(4, UINT32_MAX)));
	assert_int_equal(get(0x8000001d, 0).eax, 0x3fff);
	assert_true(is_zero(get(0x8000001d, POLICY_CACHE_SUBLEAVES)));
	r = get(0x8000001e, 0);
	assert_int_equal(r.eax, 6);
	assert_int_equal(r.ebx | r.ecx | r.edx, 0);
	assert_true(is_zero(get(7, 3)));
	assert_true(is_zero(get(7, UINT32_MAX)));
}

static void test_xstate_sizes(void **state)
{
	(void)state;
	assert_int_equal(policy.xcr0_mask, 7);
	assert_int_equal(get(0xd, 0).eax, 7);
	assert_int_equal(get(0xd, 0).ebx, 576);
	assert_int_equal(get(0xd, 0).ecx, 832);
	vcpu.msr.xcr0 = 7;
	assert_int_equal(get(0xd, 0).ebx, 832);
	rich_machine();
	assert_int_equal(policy.xcr0_mask, 0xe7);
	assert_int_equal(get(0xd, 0).ecx, 0xa80);
	assert_int_equal(get(0xd, 0).edx, 0);
	assert_int_equal(get(0xd, 0).ebx, 832);
	vcpu.msr.xcr0 = 0xe7;
	assert_int_equal(get(0xd, 0).ebx, 0xa80);
	assert_int_equal(get(0xd, 1).eax, 7);			/* XSAVES, XFD hidden */
	assert_int_equal(get(0xd, 1).ebx, 576 + 0x100 + 0x40 + 0x200 + 0x400);
	vcpu.msr.xcr0 = 0x83;		/* not legal for a guest, but only 7 is aligned */
	assert_int_equal(get(0xd, 1).ebx, 576 + 0x400);
	assert_int_equal(get(0xd, 1).ecx, 0);
	assert_int_equal(get(0xd, 2).eax, 0x100);
	assert_int_equal(get(0xd, 7).ebx, 0x680);
	assert_true(is_zero(get(0xd, 9)));
	assert_true(is_zero(get(0xd, 18)));
	assert_true(is_zero(get(0xd, 63)));
	assert_true(is_zero(get(0xd, 64)));
	assert_true(is_zero(get(0xd, UINT32_MAX)));
}

static void test_control_bits(void **state)
{
	(void)state;
	rich_machine();
	/* Bits 0 to 11, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP. */
	assert_int_equal(policy.cr4_valid, 0x370fff);
	assert_int_equal(policy.efer_valid, 0x4d01);
	assert_true(host_policy.cr4_valid & 1u << 18);
	assert_int_equal(host_policy.xcr0_mask, 0x602ff);
}

static void test_xen_leaves(void **state)
{
	struct cpuid_regs r = get(0x40000000, 0);
	char sig[13] = "";
	uint64_t ns, tsc;

	(void)state;
	assert_int_equal(r.eax, 0x40000005);
	memcpy(sig, &r.ebx, 4);
	memcpy(sig + 4, &r.ecx, 4);
	memcpy(sig + 8, &r.edx, 4);
	assert_string_equal(sig, "XenVMMXenVMM");
	r = get(0x40000001, 0);
	assert_int_equal(r.eax, 0x40011);
	assert_int_equal(r.ebx | r.ecx | r.edx, 0);
	r = get(0x40000002, 0);
	assert_int_equal(r.eax, 1);
	assert_int_equal(r.ebx, 0x40000000);
	assert_int_equal(r.ecx | r.edx, 0);
	r = get(0x40000003, 0);
	assert_int_equal(r.eax, 2);
	assert_int_equal(r.ecx, 2000000);
	assert_int_equal(get(0x40000003, 2).eax, 2000000);
	assert_true(is_zero(get(0x40000003, 3)));
	/* Subleaf 1 turns the guest's TSC into time since boot. */
	test_advance_ns(123456789);
	vcpu.tsc_offset = 0 - port_tsc();
	test_advance_ns(1000000);
	r = get(0x40000003, 1);
	tsc = port_tsc() + vcpu.tsc_offset;
	tsc = (int32_t)r.edx < 0 ? tsc >> -(int32_t)r.edx : tsc << r.edx;
	ns = (uint64_t)((unsigned __int128)tsc * r.ecx >> 32) + ((uint64_t)r.ebx << 32 | r.eax);
	assert_in_range(ns, port_time_ns() - 10, port_time_ns() + 10);
	r = get(0x40000004, 0);
	assert_int_equal(r.eax, 0x5c);
	assert_int_equal(r.ebx, 3);
	assert_int_equal(r.ecx, 7);
	assert_true(is_zero(get(0x40000004, 1)));
	assert_true(is_zero(get(0x40000005, 0)));
	/* Without an invariant TSC nobody calls it safe. */
	test_cpuid_set(0x80000007, ANY, 0, 0, 0, 0);
	make();
	assert_int_equal(get(0x40000003, 0).eax, 0);
	assert_int_equal(get(0x80000007, 0).edx, 0);
}

/*
 * A toolstack writes a policy back into as many leaves as it read: every leaf
 * up to the highest counts, zero or not, and so do those that are ours to answer.
 */
static void test_leaf_count(void **state)
{
	uint32_t pos = 0, count = 0, basic = 0, ext = 0, other = 0, want = 0;
	const struct cpu_policy *p = &guest_policy;
	struct xen_cpuid_leaf leaf;

	(void)state;
	for (uint32_t i = 0; i <= p->basic[0].eax; i++)
		want += i == 0x7 ? p->leaf7[0].eax + 1 :
			i == 0xd ? (uint32_t)__builtin_popcountll(p->xcr0_mask & ~3ULL) + 2 : 1;
	for (unsigned int i = 1; i < POLICY_CACHE_SUBLEAVES && p->leaf4[i - 1].eax & 0x1f; i++)
		want++;
	for (; policy_next_leaf(p, &pos, &leaf); count++) {
		basic += leaf.leaf < 0x40000000;
		ext += leaf.leaf >= 0x80000000;
		other += leaf.leaf == 0x40000000 || leaf.leaf == 0x40000100;
	}
	assert_int_equal(basic, want);
	assert_int_equal(ext, p->ext[0].eax - 0x80000000 + 1);
	assert_int_equal(other, 2);
	assert_int_equal(count, basic + ext + other);
	assert_true(count <= POLICY_MAX_LEAVES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_leaf_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_offered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vcpu_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_topology, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xstate_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xen_leaves, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
