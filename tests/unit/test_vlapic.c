/* SPDX-License-Identifier: MIT */
/*
 * The local APIC: registers, modes, IPIs, timer, and a random walk against a
 * model that keeps one byte per vector.
 */
#include "unit.h"

#include "hospes/domain.h"
#include "hospes/vioapic.h"
#include "port/testport.h"

#define NR 20u			/* more than two x2APIC clusters */
#define MASKED 0x10000u
#define TIMER_VECTOR 0x40u

static struct domain dom;
static struct vcpu vcpus[NR], *table[NR];
static struct vcpu_info infos[NR];
static unsigned int notified[NR], inits[NR], sipis[NR];
static uint8_t sipi_vector;

/* --- What the APIC asks of the core --------------------------------------- */

void vcpu_notify(struct vcpu *v)
{
	notified[v->id]++;
}

void vcpu_init_signal(struct vcpu *v)
{
	inits[v->id]++;
}

void vcpu_sipi(struct vcpu *v, uint8_t vector)
{
	sipis[v->id]++;
	sipi_vector = vector;
}

static unsigned int eois[256];

void vioapic_eoi(struct domain *d, uint8_t vector)
{
	assert_ptr_equal(d, &dom);
	eois[vector]++;
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(0, 2);
	memset(&dom, 0, sizeof(dom));
	memset(vcpus, 0, sizeof(vcpus));
	memset(infos, 0, sizeof(infos));
	dom.vcpus = table;
	dom.nr_vcpus = NR;
	for (unsigned int i = 0; i < NR; i++) {
		vcpus[i].id = i;
		vcpus[i].domain = &dom;
		vcpus[i].info = &infos[i];
		table[i] = &vcpus[i];
		vlapic_init(&vcpus[i]);
	}
	memset(notified, 0, sizeof(notified));
	memset(inits, 0, sizeof(inits));
	memset(sipis, 0, sizeof(sipis));
	memset(eois, 0, sizeof(eois));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < NR; i++)
		timer_kill(&vcpus[i].lapic.timer);
	test_machine_fini();
	return 0;
}

static uint32_t rd(struct vcpu *v, unsigned int reg)
{
	uint32_t val;

	assert_true(vlapic_read(v, reg << 4, &val));
	return val;
}

static void wr(struct vcpu *v, unsigned int reg, uint32_t val)
{
	assert_true(vlapic_write(v, reg << 4, val));
}

static uint64_t xrd(struct vcpu *v, unsigned int reg)
{
	uint64_t val;

	assert_true(vlapic_msr_read(v, 0x800 + reg, &val));
	return val;
}

static bool xwr(struct vcpu *v, unsigned int reg, uint64_t val)
{
	return vlapic_msr_write(v, 0x800 + reg, val);
}

static bool set_mode(struct vcpu *v, uint64_t mode)
{
	return vlapic_msr_write(v, 0x1b, APIC_DEFAULT_BASE | mode | (v->id ? 0 : APIC_BASE_BSP));
}

static void all_x2apic(void)
{
	for (unsigned int i = 0; i < NR; i++) {
		assert_true(set_mode(&vcpus[i], APIC_BASE_ENABLE | APIC_BASE_EXTD));
		assert_true(xwr(&vcpus[i], APIC_SVR, 0x1ff));
	}
}

static void all_xapic(void)
{
	for (unsigned int i = 0; i < NR; i++)
		wr(&vcpus[i], APIC_SVR, 0x1ff);
}

/* Who has @vector waiting, as a mask; and it waits no more. */
static uint64_t take(uint8_t vector)
{
	uint64_t who = 0;

	for (unsigned int i = 0; i < NR; i++) {
		if (vlapic_pending(&vcpus[i]) != vector)
			continue;
		who |= 1ULL << i;
		vlapic_accept(&vcpus[i], vector);
		vcpus[i].lapic.isr[vector >> 6] = 0;
	}
	return who;
}

/* --- Registers and modes --------------------------------------------------- */

static void test_reset_values(void **state)
{
	struct vcpu *v = &vcpus[3];
	uint64_t base;

	(void)state;
	assert_true(vlapic_msr_read(&vcpus[0], 0x1b, &base));
	assert_int_equal(base, 0xfee00900);
	assert_true(vlapic_msr_read(v, 0x1b, &base));
	assert_int_equal(base, 0xfee00800);
	assert_int_equal(rd(v, APIC_ID), 6u << 24);
	assert_int_equal(rd(v, APIC_VERSION), 0x50014);
	assert_int_equal(rd(v, APIC_SVR), 0xff);
	assert_int_equal(rd(v, APIC_DFR), UINT32_MAX);
	for (unsigned int reg = APIC_LVT_TIMER; reg <= APIC_LVT_ERROR; reg++)
		assert_int_equal(rd(v, reg), MASKED);
	assert_int_equal(rd(v, APIC_LVT_CMCI), MASKED);
	assert_int_equal(rd(v, APIC_TMCCT), 0);
	assert_true(vlapic_claims(v, 0xfee00fff));
	assert_false(vlapic_claims(v, 0xfee01000));
	assert_false(vlapic_claims(v, 0x1fee00000));
}

static void test_modes(void **state)
{
	struct vcpu *v = &vcpus[5];
	uint64_t val;

	(void)state;
	assert_false(vlapic_msr_read(v, 0x802, &val));
	assert_false(xwr(v, APIC_EOI, 0));
	assert_false(set_mode(v, APIC_BASE_EXTD));
	assert_false(vlapic_msr_write(v, 0x1b, 0xfee01800));		/* moves */
	assert_false(vlapic_msr_write(v, 0x1b, 0xfee00801));		/* reserved */
	assert_false(vlapic_msr_write(v, 0x1b, 0x1000fee00800));
	assert_true(set_mode(v, APIC_BASE_ENABLE));
	assert_true(set_mode(v, APIC_BASE_ENABLE | APIC_BASE_EXTD));
	assert_false(vlapic_claims(v, 0xfee00000));
	assert_int_equal(xrd(v, APIC_ID), 10);
	assert_int_equal(xrd(v, APIC_LDR), 1u << 10);
	assert_false(set_mode(v, APIC_BASE_ENABLE));			/* back to xAPIC */
	assert_true(vlapic_msr_read(v, 0x1b, &val));
	assert_int_equal(val, 0xfee00c00);
	assert_true(xwr(v, APIC_SVR, 0x1ff));
	vlapic_request(v, 0x55);
	vlapic_reset(v);						/* INIT keeps the mode */
	assert_int_equal(xrd(v, APIC_ID), 10);
	assert_int_equal(xrd(v, APIC_LDR), 1u << 10);
	assert_int_equal(xrd(v, APIC_SVR), 0xff);
	assert_int_equal(vlapic_pending(v), -1);
	assert_true(xwr(v, APIC_SVR, 0x1ff));
	assert_true(set_mode(v, 0));
	assert_false(vlapic_present(&v->lapic));
	vlapic_request(v, 0x55);
	assert_int_equal(vlapic_pending(v), -1);
	assert_false(set_mode(v, APIC_BASE_ENABLE | APIC_BASE_EXTD));	/* not in one step */
	assert_true(set_mode(v, APIC_BASE_ENABLE));
	assert_int_equal(rd(v, APIC_ID), 10u << 24);
	assert_int_equal(rd(v, APIC_LDR), 0);
	/* Ids of the clusters of 16. */
	assert_true(set_mode(&vcpus[17], APIC_BASE_ENABLE | APIC_BASE_EXTD));
	assert_int_equal(xrd(&vcpus[17], APIC_LDR), 2u << 16 | 1u << 2);
}

static void test_xapic_registers(void **state)
{
	struct vcpu *v = &vcpus[1];
	uint32_t val;

	(void)state;
	wr(v, APIC_LVT_LINT0, 0x700);
	assert_int_equal(rd(v, APIC_LVT_LINT0), 0x10700);	/* disabled: stays masked */
	wr(v, APIC_SVR, 0xffffffff);
	assert_int_equal(rd(v, APIC_SVR), 0x3ff);
	wr(v, APIC_LVT_LINT0, 0xffffffff & ~MASKED);
	assert_int_equal(rd(v, APIC_LVT_LINT0), 0xa7ff);
	wr(v, APIC_SVR, 0xff);
	assert_int_equal(rd(v, APIC_LVT_LINT0), 0x1a7ff);
	wr(v, APIC_DFR, 0x05ffffff);
	assert_int_equal(rd(v, APIC_DFR), 0x0fffffff);
	wr(v, APIC_LDR, 0x12345678);
	assert_int_equal(rd(v, APIC_LDR), 0x12000000);
	wr(v, APIC_ID, 0x55000000);
	assert_int_equal(rd(v, APIC_ID), 2u << 24);
	wr(v, APIC_TPR, 0x123);
	assert_int_equal(rd(v, APIC_TPR), 0x23);
	assert_int_equal(rd(v, APIC_PPR), 0x23);
	assert_int_equal(vlapic_get_cr8(&v->lapic), 2);
	vlapic_set_cr8(v, 0xf);
	assert_int_equal(rd(v, APIC_TPR), 0xf0);
	wr(v, APIC_TDCR, 0xff);
	assert_int_equal(rd(v, APIC_TDCR), 0xb);
	wr(v, APIC_ICR2, 0x12345678);
	assert_int_equal(rd(v, APIC_ICR2), 0x12000000);
	/* No such register, or not at its start, or not in this direction. */
	assert_false(vlapic_read(v, 0x0, &val));
	assert_false(vlapic_read(v, 0x84, &val));
	assert_false(vlapic_read(v, 0x400, &val));
	assert_false(vlapic_read(v, 0xfffffff0, &val));
	assert_false(vlapic_read(v, APIC_EOI << 4, &val));
	assert_false(vlapic_write(v, APIC_ISR << 4, 1));
	assert_false(vlapic_write(v, APIC_SELF_IPI << 4, 0x40));
	assert_false(vlapic_write(v, 0x1000, 0));
	assert_int_equal(val, 0);
	assert_int_equal(rd(v, APIC_ESR), 0);
	wr(v, APIC_ESR, 0xffffffff);
	assert_int_equal(rd(v, APIC_ESR), 0x80);
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), 0);
	/* The error interrupt. */
	wr(v, APIC_SVR, 0x1ff);
	wr(v, APIC_TPR, 0);
	wr(v, APIC_LVT_ERROR, 0xfe);
	wr(v, APIC_ICR, 0x0f);			/* vector below 16 */
	assert_int_equal(vlapic_pending(v), 0xfe);
	wr(v, APIC_ESR, 0);
	assert_int_equal(rd(v, APIC_ESR), 0x20);
}

static void test_x2apic_registers(void **state)
{
	struct vcpu *v = &vcpus[2];
	/* Readable, writable (1: zero only), and the bits a write may set. */
	static const struct { uint8_t reg; bool rd, wr; uint32_t valid; } regs[] = {
		{ APIC_ID, true, false, 0 }, { APIC_VERSION, true, false, 0 },
		{ APIC_TPR, true, true, 0xff }, { APIC_PPR, true, false, 0 },
		{ APIC_EOI, false, true, 0 }, { APIC_LDR, true, false, 0 },
		{ APIC_DFR, false, false, 0 }, { APIC_SVR, true, true, 0x3ff },
		{ APIC_ISR, true, false, 0 }, { APIC_TMR + 7, true, false, 0 },
		{ APIC_IRR + 7, true, false, 0 }, { APIC_ESR, true, true, 0 },
		{ APIC_LVT_CMCI, true, true, 0x107ff }, { APIC_ICR2, false, false, 0 },
		{ APIC_LVT_TIMER, true, true, 0x700ff }, { APIC_LVT_THERMAL, true, true, 0x107ff },
		{ APIC_LVT_PERF, true, true, 0x107ff }, { APIC_LVT_LINT0, true, true, 0x1a7ff },
		{ APIC_LVT_LINT1, true, true, 0x1a7ff }, { APIC_LVT_ERROR, true, true, 0x100ff },
		{ APIC_TMICT, true, true, 0xffffffff }, { APIC_TMCCT, true, false, 0 },
		{ APIC_TDCR, true, true, 0xb },
		{ 0x00, false, false, 0 }, { 0x09, false, false, 0 },
		{ 0x0c, false, false, 0 }, { 0x29, false, false, 0 }, { 0x3a, false, false, 0 },
	};
	uint64_t val;

	(void)state;
	all_x2apic();
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		assert_int_equal(vlapic_msr_read(v, 0x800u + regs[i].reg, &val), regs[i].rd);
		assert_int_equal(xwr(v, regs[i].reg, 0), regs[i].wr);
		for (unsigned int bit = 0; bit < 64; bit++) {
			/* What can only be read in a local vector table may be written, too. */
			bool lvt = regs[i].valid & MASKED && regs[i].reg != APIC_TMICT;
			uint32_t valid = regs[i].valid | (lvt ? 0x5000 : 0);
			bool ok = regs[i].wr && bit < 32 && (valid >> bit & 1);

			assert_int_equal(xwr(v, regs[i].reg, 1ULL << bit), ok);
			if (lvt && ok)
				assert_int_equal(xrd(v, regs[i].reg) & 0x5000, 0);
		}
		if (regs[i].wr)
			assert_true(xwr(v, regs[i].reg, 0));
	}
	assert_true(xwr(v, APIC_SVR, 0x1ff));
	for (unsigned int bit = 0; bit < 64; bit++)
		assert_int_equal(xwr(v, APIC_ICR, 1ULL << bit),
				 bit >= 32 || (0xccfffu >> bit & 1));
	assert_true(xwr(v, APIC_ICR, 0x12345678000000f1));
	assert_int_equal(xrd(v, APIC_ICR), 0x12345678000000f1);
	for (uint32_t msr = 0x840; msr < 0x900; msr++) {
		assert_false(vlapic_msr_read(v, msr, &val));
		assert_false(vlapic_msr_write(v, msr, 0));
	}
	assert_false(vlapic_msr_read(v, 0x83f, &val));
	assert_false(vlapic_msr_read(v, 0x7ff, &val));
}

/* --- Delivery -------------------------------------------------------------- */

/* Between two stores of another CPU the vCPU would miss what it has; so only it clears the hint. */
static void test_hint_is_its_own(void **state)
{
	struct vcpu *v = &vcpus[0];

	(void)state;
	wr(v, APIC_SVR, 0x1ff);
	vlapic_request(v, 0x31);
	vlapic_accept(v, 0x31);
	assert_int_equal(vlapic_pending(v), -1);
	assert_true(v->lapic.irr_pending);
	port_this_pcpu()->current = v;
	assert_int_equal(vlapic_pending(v), -1);
	assert_false(v->lapic.irr_pending);
	port_this_pcpu()->current = NULL;
}

static void test_priorities(void **state)
{
	struct vcpu *v = &vcpus[0];

	(void)state;
	vlapic_request(v, 0x50);
	assert_int_equal(vlapic_pending(v), -1);	/* software-disabled: lost */
	assert_int_equal(notified[0], 0);
	wr(v, APIC_SVR, 0x1ff);
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_request(v, 0x0f);
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_request(v, 0x31);
	vlapic_request(v, 0x31);
	assert_int_equal(notified[0], 1);
	vlapic_request(v, 0xe2);
	vlapic_request(v, 0x52);
	assert_int_equal(vlapic_pending(v), 0xe2);
	vlapic_accept(v, 0xe2);
	assert_int_equal(rd(v, APIC_ISR + 7), 1u << 2);
	assert_int_equal(rd(v, APIC_PPR), 0xe0);
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_request(v, 0xef);			/* same class: waits */
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_request(v, 0xf0);
	assert_int_equal(vlapic_pending(v), 0xf0);	/* nests */
	vlapic_accept(v, 0xf0);
	assert_int_equal(rd(v, APIC_IRR + 1), 1u << 17);
	wr(v, APIC_EOI, 0);
	assert_int_equal(rd(v, APIC_PPR), 0xe0);
	wr(v, APIC_EOI, 0);
	assert_int_equal(vlapic_pending(v), 0xef);
	vlapic_set_cr8(v, 0xe);
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_set_cr8(v, 0x4);
	vlapic_accept(v, 0xef);
	wr(v, APIC_EOI, 0);
	assert_int_equal(vlapic_pending(v), 0x52);
	vlapic_accept(v, 0x52);
	wr(v, APIC_EOI, 0);
	wr(v, APIC_EOI, 0);				/* one too many: nothing */
	assert_int_equal(vlapic_pending(v), -1);
	vlapic_set_cr8(v, 0);
	assert_int_equal(vlapic_pending(v), 0x31);
	wr(v, APIC_SVR, 0xff);
	assert_int_equal(vlapic_pending(v), -1);
	wr(v, APIC_SVR, 0x1ff);
	assert_int_equal(vlapic_pending(v), 0x31);	/* was kept */
}

static void test_upcall(void **state)
{
	struct vcpu *v = &vcpus[4];

	(void)state;
	infos[4].evtchn_upcall_pending = 1;
	v->upcall_vector = 0xf3;
	vlapic_request(v, v->upcall_vector);
	assert_int_equal(vlapic_pending(v), -1);
	wr(v, APIC_SVR, 0x1ff);				/* looks again */
	assert_int_equal(vlapic_pending(v), 0xf3);
	vlapic_accept(v, 0xf3);
	wr(v, APIC_SVR, 0x1ff);				/* no edge */
	assert_int_equal(vlapic_pending(v), -1);
	wr(v, APIC_EOI, 0);
	vlapic_request(v, v->upcall_vector);
	assert_int_equal(vlapic_pending(v), 0xf3);
	vlapic_accept(v, 0xf3);
	v->upcall_vector = 0;
	vlapic_request(v, v->upcall_vector);
	assert_int_equal(vlapic_pending(v), -1);
}

/* --- IPIs ------------------------------------------------------------------ */

static void test_ipi_x2apic(void **state)
{
	struct vcpu *v = &vcpus[9];

	(void)state;
	all_x2apic();
	assert_true(xwr(v, APIC_SELF_IPI, 0x41));
	assert_int_equal(take(0x41), 1u << 9);
	assert_false(xwr(v, APIC_SELF_IPI, 0x100));
	assert_true(xwr(v, APIC_ICR, 24ULL << 32 | 0x42));
	assert_int_equal(take(0x42), 1u << 12);
	assert_true(xwr(v, APIC_ICR, 25ULL << 32 | 0x42));	/* odd: nobody */
	assert_true(xwr(v, APIC_ICR, (2ULL * NR) << 32 | 0x42));
	assert_true(xwr(v, APIC_ICR, 0xfffffffe00000042));
	assert_int_equal(take(0x42), 0);
	assert_true(xwr(v, APIC_ICR, 0xffffffff00000042));	/* broadcast */
	assert_int_equal(take(0x42), (1u << NR) - 1);
	assert_true(xwr(v, APIC_ICR, 0x40000 | 0x43));		/* self */
	assert_int_equal(take(0x43), 1u << 9);
	assert_true(xwr(v, APIC_ICR, 0x80000 | 0x43));		/* all */
	assert_int_equal(take(0x43), (1u << NR) - 1);
	assert_true(xwr(v, APIC_ICR, 0xc0000 | 0x43));		/* all but self */
	assert_int_equal(take(0x43), ((1u << NR) - 1) & ~(1u << 9));
	/* Logical: cluster 1 holds vCPUs 8 to 15, cluster 2 the rest, 3 nobody. */
	assert_true(xwr(v, APIC_ICR, 0x0001000500000844));
	assert_int_equal(take(0x44), 1u << 8 | 1u << 9);
	assert_true(xwr(v, APIC_ICR, 0x0002ffff00000844));
	assert_int_equal(take(0x44), 0xfu << 16);
	assert_true(xwr(v, APIC_ICR, 0x0003ffff00000844));
	assert_true(xwr(v, APIC_ICR, 0xfffeffff00000844));
	assert_int_equal(take(0x44), 0);
	assert_true(xwr(v, APIC_ICR, 0xffffffff00000844));
	assert_int_equal(take(0x44), (1u << NR) - 1);
	/* Lowest priority: one of them. */
	for (unsigned int i = 8; i < 16; i++)
		assert_true(xwr(&vcpus[i], APIC_TPR, i == 13 ? 0x10 : 0x20));
	assert_true(xwr(v, APIC_ICR, 0x0001ffff00000945));
	assert_int_equal(take(0x45), 1u << 13);
	/* One that is off the bus hears nothing. */
	assert_true(set_mode(&vcpus[12], 0));
	assert_true(xwr(v, APIC_ICR, 24ULL << 32 | 0x500));
	assert_true(xwr(v, APIC_ICR, 0x80500));
	assert_int_equal(inits[12], 0);
	assert_int_equal(inits[11], 1);
}

static void test_ipi_xapic(void **state)
{
	struct vcpu *v = &vcpus[0];

	(void)state;
	all_xapic();
	wr(v, APIC_ICR2, 6u << 24);
	wr(v, APIC_ICR, 0x51);
	assert_int_equal(take(0x51), 1u << 3);
	wr(v, APIC_ICR2, 0xffu << 24);
	wr(v, APIC_ICR, 0x51);
	assert_int_equal(take(0x51), (1u << NR) - 1);
	/* Flat model. */
	for (unsigned int i = 0; i < 8; i++)
		wr(&vcpus[i], APIC_LDR, 1u << (24 + i));
	wr(v, APIC_ICR2, 0x85u << 24);
	wr(v, APIC_ICR, 0x852);
	assert_int_equal(take(0x52), 0x85);
	/* Cluster model. */
	for (unsigned int i = 0; i < NR; i++) {
		wr(&vcpus[i], APIC_DFR, 0);
		wr(&vcpus[i], APIC_LDR, (i / 4) << 28 | 1u << (24 + i % 4));
	}
	wr(v, APIC_ICR2, 0x2au << 24);
	wr(v, APIC_ICR, 0x853);
	assert_int_equal(take(0x53), 1u << 9 | 1u << 11);
	wr(v, APIC_ICR2, 0xffu << 24);
	wr(v, APIC_ICR, 0x853);
	assert_int_equal(take(0x53), (1u << NR) - 1);
}

static void test_ipi_kinds(void **state)
{
	struct vcpu *v = &vcpus[0];

	(void)state;
	all_xapic();
	wr(v, APIC_ICR2, 2u << 24);
	wr(v, APIC_ICR, 0x400);
	assert_true(atomic_load(&vcpus[1].nmi_pending));
	assert_int_equal(notified[1], 1);
	wr(v, APIC_ICR, 0xc500);
	assert_int_equal(inits[1], 1);
	wr(v, APIC_ICR, 0x8500);		/* de-assert */
	assert_int_equal(inits[1], 1);
	wr(v, APIC_ICR, 0x699);
	wr(v, APIC_ICR, 0x699);
	assert_int_equal(sipis[1], 2);
	assert_int_equal(sipi_vector, 0x99);
	wr(v, APIC_ICR, 0xc0500);
	assert_int_equal(inits[0], 0);
	assert_int_equal(inits[NR - 1], 1);
	for (uint32_t mode = 2; mode < 8; mode += mode == 3 ? 4 : 1)	/* SMI, 3, ExtINT */
		wr(v, APIC_ICR, mode << 8);
	assert_int_equal(notified[1], 1);
}

/* --- Timer ----------------------------------------------------------------- */

static void pass(uint64_t ns)
{
	test_advance_ns(ns);
	test_run_timers(0);
	test_run_timers(1);
}

/* Has the timer's interrupt come? It is taken. */
static bool ticked(struct vcpu *v)
{
	if (vlapic_pending(v) != TIMER_VECTOR)
		return false;
	vlapic_accept(v, TIMER_VECTOR);
	assert_true(vlapic_write(v, APIC_EOI << 4, 0));
	return true;
}

static void test_timer_oneshot(void **state)
{
	struct vcpu *v = &vcpus[1];

	(void)state;
	wr(v, APIC_SVR, 0x1ff);
	wr(v, APIC_LVT_TIMER, TIMER_VECTOR);
	for (uint32_t i = 0; i < 8; i++) {
		unsigned int shift = (i + 1) & 7;

		wr(v, APIC_TDCR, (i & 3) | (i & 4) << 1);
		wr(v, APIC_TMICT, 1000);
		assert_int_equal(rd(v, APIC_TMICT), 1000);
		assert_int_equal(rd(v, APIC_TMCCT), 1000);
		pass(400u << shift);
		assert_int_equal(rd(v, APIC_TMCCT), 600);
		pass((600u << shift) - 1);
		assert_int_equal(rd(v, APIC_TMCCT), 1);
		assert_false(ticked(v));
		pass(1);
		assert_true(ticked(v));
		assert_int_equal(rd(v, APIC_TMCCT), 0);
		pass(1000000);
		assert_false(ticked(v));
	}
	/* Faster in the middle of a count; then stopped. */
	wr(v, APIC_TDCR, 0x1);				/* 4 */
	wr(v, APIC_TMICT, 1000);
	pass(2000);
	wr(v, APIC_TDCR, 0xb);				/* 1 */
	assert_int_equal(rd(v, APIC_TMCCT), 500);
	pass(499);
	assert_false(ticked(v));
	pass(1);
	assert_true(ticked(v));
	wr(v, APIC_TMICT, 1000);
	wr(v, APIC_TMICT, 0);
	pass(2000);
	assert_false(ticked(v));
	assert_false(timer_is_set(&v->lapic.timer));
	/* Masked: it counts, but does not tell. The longest count does not wrap. */
	wr(v, APIC_LVT_TIMER, MASKED | TIMER_VECTOR);
	wr(v, APIC_TMICT, 10);
	pass(10);
	assert_false(ticked(v));
	assert_int_equal(rd(v, APIC_TMCCT), 0);
	wr(v, APIC_LVT_TIMER, TIMER_VECTOR);
	wr(v, APIC_TDCR, 0xa);				/* 128 */
	wr(v, APIC_TMICT, UINT32_MAX);
	assert_int_equal(rd(v, APIC_TMCCT), UINT32_MAX);
	pass((uint64_t)UINT32_MAX * 128 - 1);
	assert_false(ticked(v));
	pass(1);
	assert_true(ticked(v));
}

static void test_timer_periodic(void **state)
{
	struct vcpu *v = &vcpus[1];

	(void)state;
	wr(v, APIC_SVR, 0x1ff);
	wr(v, APIC_TDCR, 0xb);
	wr(v, APIC_LVT_TIMER, 0x20000 | TIMER_VECTOR);
	wr(v, APIC_TMICT, 1000000);
	for (unsigned int i = 0; i < 5; i++) {
		pass(999999);
		assert_false(ticked(v));
		pass(1);
		assert_true(ticked(v));
		assert_int_equal(rd(v, APIC_TMCCT), 1000000);
	}
	test_advance_ns(3500000);	/* several missed: one interrupt, the phase stays */
	pass(0);
	assert_true(ticked(v));
	assert_false(ticked(v));
	assert_int_equal(rd(v, APIC_TMCCT), 500000);
	/* It follows its vCPU. */
	test_set_cpu(1);
	timer_migrate(&v->lapic.timer);
	test_set_cpu(0);
	assert_int_equal(test_deadline(1), port_time_ns() + 500000);
	pass(500000);
	assert_true(ticked(v));
	/* A silly period is stretched. */
	wr(v, APIC_TMICT, 1);
	pass(1);
	assert_true(ticked(v));
	pass(99999);
	assert_false(ticked(v));
	pass(1);
	assert_true(ticked(v));
	/* One-shot from here on. */
	wr(v, APIC_LVT_TIMER, TIMER_VECTOR);
	pass(100000);
	assert_true(ticked(v));
	pass(1000000);
	assert_false(ticked(v));
}

static void test_timer_deadline(void **state)
{
	struct vcpu *v = &vcpus[1];
	uint64_t val;

	(void)state;
	v->tsc_offset = 0 - port_tsc() - 5;		/* the guest's TSC is about to wrap */
	wr(v, APIC_SVR, 0x1ff);
	assert_true(vlapic_msr_write(v, 0x6e0, 1000));	/* another mode: ignored */
	assert_true(vlapic_msr_read(v, 0x6e0, &val));
	assert_int_equal(val, 0);
	v->tsc_offset = 5000 - port_tsc();
	wr(v, APIC_LVT_TIMER, 0x40000 | TIMER_VECTOR);
	wr(v, APIC_TMICT, 10);				/* this too */
	pass(1000);
	assert_false(ticked(v));
	v->tsc_offset = 5000 - port_tsc();
	assert_true(vlapic_msr_write(v, 0x6e0, 5000 + 2000));
	assert_true(vlapic_msr_read(v, 0x6e0, &val));
	assert_int_equal(val, 7000);
	assert_int_equal(rd(v, APIC_TMCCT), 0);
	pass(999);
	assert_false(ticked(v));
	pass(1);					/* 2 GHz */
	assert_true(ticked(v));
	assert_true(vlapic_msr_read(v, 0x6e0, &val));
	assert_int_equal(val, 0);
	assert_true(vlapic_msr_write(v, 0x6e0, 1));	/* past: at once */
	pass(0);
	assert_true(ticked(v));
	assert_true(vlapic_msr_write(v, 0x6e0, UINT64_MAX));	/* far, not past */
	pass(1000000);
	assert_false(ticked(v));
	v->tsc_offset = UINT64_MAX - port_tsc();	/* the guest sets its TSC forward */
	vlapic_tsc_changed(v);
	pass(0);
	assert_true(ticked(v));
	vlapic_tsc_changed(v);
	pass(1000);
	assert_false(ticked(v));
	v->tsc_offset = 0;
	assert_true(vlapic_msr_write(v, 0x6e0, port_tsc() + 2000));
	assert_true(vlapic_msr_write(v, 0x6e0, 0));	/* off */
	pass(5000);
	assert_false(ticked(v));
	assert_true(vlapic_msr_write(v, 0x6e0, port_tsc() + 2000));
	wr(v, APIC_LVT_TIMER, TIMER_VECTOR);		/* a change of mode disarms */
	pass(5000);
	assert_false(ticked(v));
	assert_true(vlapic_msr_read(v, 0x6e0, &val));
	assert_int_equal(val, 0);
}

/* The handler of the old setting runs late, after the vCPU set it anew. */
static void test_timer_race(void **state)
{
	struct vcpu *v = &vcpus[1];

	(void)state;
	wr(v, APIC_SVR, 0x1ff);
	wr(v, APIC_TDCR, 0xb);
	wr(v, APIC_LVT_TIMER, TIMER_VECTOR);
	wr(v, APIC_TMICT, 1000);
	test_advance_ns(1000);
	wr(v, APIC_TMICT, 1000);
	v->lapic.timer.handler(v);
	assert_false(ticked(v));
	pass(1000);
	assert_true(ticked(v));
	v->lapic.timer.handler(v);
	assert_false(ticked(v));
}

/* --- Random walk against the model ------------------------------------------- */

static struct {
	bool irr[256], isr[256], tmr[256], on;
	uint8_t tpr;
} model;

static int model_highest(const bool *set)
{
	for (int i = 255; i >= 0; i--) {
		if (set[i])
			return i;
	}
	return -1;
}

static int model_pending(void)
{
	int irr = model_highest(model.irr), isr = model_highest(model.isr);

	if (!model.on || irr < 0 || irr / 16 <= model.tpr / 16 ||
	    (isr >= 0 && irr / 16 <= isr / 16))
		return -1;
	return irr;
}

static void model_check(struct vcpu *v)
{
	for (unsigned int i = 0; i < 256; i += 32) {
		uint32_t irr = 0, isr = 0, tmr = 0;

		for (unsigned int bit = 0; bit < 32; bit++) {
			tmr |= (uint32_t)model.tmr[i + bit] << bit;
			irr |= (uint32_t)model.irr[i + bit] << bit;
			isr |= (uint32_t)model.isr[i + bit] << bit;
		}
		assert_int_equal(xrd(v, APIC_IRR + i / 32), irr);
		assert_int_equal(xrd(v, APIC_ISR + i / 32), isr);
		assert_int_equal(xrd(v, APIC_TMR + i / 32), tmr);
	}
	assert_int_equal(vlapic_pending(v), model_pending());
}

static void test_model(void **state)
{
	struct vcpu *v = &vcpus[0];
	uint64_t seed = 0x9e3779b97f4a7c15;
	unsigned int ended = 0;
	int n;

	(void)state;
	all_x2apic();
	memset(&model, 0, sizeof(model));
	model.on = true;
	for (unsigned int step = 0; step < 100000; step++) {
		uint8_t vector;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		vector = (uint8_t)(seed >> 56);
		switch (seed >> 40 & 15) {
		case 0 ... 3:
			vlapic_request(v, vector);
			if (model.on && vector >= 16)
				model.irr[vector] = true;
			break;
		case 4:
			vlapic_message(&dom, vector | APIC_MSG_LEVEL);
			if (model.on && vector >= 16)
				model.irr[vector] = model.tmr[vector] = true;
			break;
		case 5:
			assert_true(xwr(v, APIC_SELF_IPI, vector));
			if (model.on && vector >= 16)
				model.irr[vector] = true;
			break;
		case 6 ... 9:
			n = model_pending();
			if (n < 0)
				break;
			assert_int_equal(vlapic_pending(v), n);
			vlapic_accept(v, (uint8_t)n);
			model.irr[n] = false;
			model.isr[n] = true;
			break;
		case 10 ... 13:
			assert_true(xwr(v, APIC_EOI, 0));
			n = model_highest(model.isr);
			if (n < 0)
				break;
			model.isr[n] = false;
			ended += model.tmr[n];
			assert_int_equal(eois[n], model.tmr[n]);
			eois[n] = 0;
			model.tmr[n] = false;
			break;
		case 14:
			model.tpr = vector & (seed >> 32 & 1 ? 0xff : 0x3f);
			assert_true(xwr(v, APIC_TPR, model.tpr));
			break;
		default:
			model.on = (vector & 3) != 0;
			assert_true(xwr(v, APIC_SVR, model.on ? 0x1ff : 0xff));
			break;
		}
		model_check(v);
	}
	assert_true(ended > 1000);
	for (n = 0; n < 256; n++)
		assert_int_equal(eois[n], 0);
}

/* Messages of devices, whose destinations have 8 bits. */
static void test_messages(void **state)
{
	(void)state;
	all_xapic();
	vlapic_message(&dom, 6ULL << 56 | 0x51);
	assert_int_equal(take(0x51), 1u << 3);
	vlapic_message(&dom, 7ULL << 56 | 0x51);
	vlapic_message(&dom, 2ULL * NR << 56 | 0x51);
	assert_int_equal(take(0x51), 0);
	vlapic_message(&dom, 0xffULL << 56 | 0x51);
	assert_int_equal(take(0x51), (1u << NR) - 1);
	for (unsigned int i = 0; i < 8; i++)
		wr(&vcpus[i], APIC_LDR, 1u << (24 + i));
	vlapic_message(&dom, 0x12ULL << 56 | APIC_MSG_LOGICAL | 0x52);
	assert_int_equal(take(0x52), 0x12);
	wr(&vcpus[4], APIC_TPR, 0x10);
	vlapic_message(&dom, 0x12ULL << 56 | APIC_MSG_LOGICAL | 0x152);
	assert_int_equal(take(0x52), 0x2);
	/* Other kinds do nothing, not even to one vCPU. */
	for (uint64_t mode = 2; mode < 8; mode++)
		vlapic_message(&dom, 2ULL << 56 | mode << 8 | 0x53);
	assert_int_equal(take(0x53), 0);
	assert_false(atomic_load(&vcpus[1].nmi_pending) || inits[1] || sipis[1]);
	/* Where it had best arrive. */
	vcpus[3].sched.cpu = 1;
	assert_int_equal(vlapic_message_cpu(&dom, 6ULL << 56), 1);
	assert_int_equal(vlapic_message_cpu(&dom, 0xffULL << 56), 0);
	/* Levels: by IPIs there are none, and a reset forgets them. */
	wr(&vcpus[0], APIC_ICR2, 2u << 24);
	wr(&vcpus[0], APIC_ICR, 0xc054);
	assert_int_equal(rd(&vcpus[1], APIC_TMR + 2), 0);
	vlapic_message(&dom, 2ULL << 56 | APIC_MSG_LEVEL | 0x55);
	assert_int_equal(rd(&vcpus[1], APIC_TMR + 2), 1u << (0x55 & 31));
	vlapic_reset(&vcpus[1]);
	assert_int_equal(rd(&vcpus[1], APIC_TMR + 2), 0);
	vlapic_message(&dom, 2ULL << 56 | APIC_MSG_LEVEL | 0x55);
	assert_int_equal(rd(&vcpus[1], APIC_TMR + 2), 0);	/* off */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reset_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_xapic_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_x2apic_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hint_is_its_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
		cmocka_unit_test_setup_teardown(test_upcall, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipi_x2apic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipi_xapic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ipi_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_oneshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_periodic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
