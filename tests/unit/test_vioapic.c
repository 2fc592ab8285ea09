/* SPDX-License-Identifier: MIT */
/*
 * The control domain's IO-APICs on the fake machine's: registers, pins, and a
 * random walk of everything against a model.
 */
#include "unit.h"

#include "hospes/vioapic.h"
#include "real_domain.h"

#define BASE0 0xfec00000u
#define BASE1 0xfec01000u
#define LEVEL 0x8000u
#define LOW 0x2000u
#define MASKED 0x10000u
#define SERVED 0x4000u
#define LOGICAL 0x800u
#define OUR_GSI 4u

static struct domain *d;

static void lapic_on(struct vcpu *v)
{
	assert_true(vlapic_write(v, APIC_SVR << 4, 0x1ff));
}

static int setup(void **state)
{
	machine_new(4096, 2);
	test_ioapic_add(&(struct port_ioapic){ BASE0, 0, 24, 0, 0x11 });
	test_ioapic_add(&(struct port_ioapic){ BASE1, 24, 8, 2, 0x20 });
	test_gsi(OUR_GSI)->kept = true;
	d = guest_new(1, 3, true);
	guest_devices(d);
	for (unsigned int i = 0; i < 3; i++)
		lapic_on(d->vcpus[i]);
	return 0;
}

static int teardown(void **state)
{
	assert_true(guest_end(d));
	for (uint32_t gsi = 0; gsi < 32; gsi++)
		assert_true(test_gsi(gsi)->masked);
	assert_int_equal(test_serve_interrupts(), 0);
	test_machine_fini();
	return 0;
}

static uint32_t rd(gpa_t base, uint8_t reg)
{
	vioapic_write(d, base, 4, reg);
	assert_int_equal(vioapic_read(d, base, 4), reg);
	return vioapic_read(d, base + 0x10, 4);
}

static void wr(gpa_t base, uint8_t reg, uint32_t val)
{
	vioapic_write(d, base, 4, reg);
	vioapic_write(d, base + 0x10, 4, val);
}

/* As a guest programs a pin: the destination first, the mask last. */
static void program(uint32_t gsi, uint32_t low, uint8_t dest)
{
	gpa_t base = gsi < 24 ? BASE0 : BASE1;
	uint8_t reg = (uint8_t)(0x10 + 2 * (gsi - (gsi < 24 ? 0 : 24)));

	wr(base, reg + 1, (uint32_t)dest << 24);
	wr(base, reg, low);
}

static uint32_t entry(uint32_t gsi)
{
	return rd(gsi < 24 ? BASE0 : BASE1, (uint8_t)(0x10 + 2 * (gsi - (gsi < 24 ? 0 : 24))));
}

static bool requested(unsigned int nr, uint8_t vector)
{
	return d->vcpus[nr]->lapic.irr[vector / 64] >> vector % 64 & 1;
}

/* vCPU @nr takes what is pending, which must be @vector. */
static void take(unsigned int nr, uint8_t vector)
{
	assert_int_equal(vlapic_pending(d->vcpus[nr]), vector);
	vlapic_accept(d->vcpus[nr], vector);
}

static void eoi(unsigned int nr)
{
	assert_true(vlapic_write(d->vcpus[nr], APIC_EOI << 4, 0));
}

static void test_registers(void **state)
{
	assert_true(vioapic_claims(d, BASE0) && vioapic_claims(d, BASE0 + 0xfff));
	assert_true(vioapic_claims(d, BASE1 + 0x40));
	assert_false(vioapic_claims(d, BASE0 - 1) || vioapic_claims(d, BASE1 + 0x1000));
	assert_int_equal(rd(BASE0, 0), 0);
	assert_int_equal(rd(BASE0, 1), 0x00170011);
	assert_int_equal(rd(BASE1, 1), 0x00070020);
	assert_int_equal(rd(BASE1, 0), 0x02000000);
	wr(BASE1, 0, 0xf5ffffff);
	assert_int_equal(rd(BASE1, 0), 0x05000000);
	assert_int_equal(rd(BASE1, 2), 0x05000000);
	wr(BASE0, 1, 0);
	assert_int_equal(rd(BASE0, 1), 0x00170011);
	assert_int_equal(rd(BASE0, 3), 0);
	for (unsigned int reg = 0x10; reg < 0x40; reg++)
		assert_int_equal(rd(BASE0, (uint8_t)reg), reg & 1 ? 0 : MASKED);
	assert_int_equal(rd(BASE0, 0x40), 0);
	wr(BASE0, 0x40, 0);
	wr(BASE0, 0xff, 0);
	wr(BASE0, 0x10, 0xffffffff);
	wr(BASE0, 0x11, 0xffffffff);
	assert_int_equal(rd(BASE0, 0x10), 0x1afff);
	assert_int_equal(rd(BASE0, 0x11), 0xff000000);
	/* Only the 32-bit registers, and only in their places. */
	vioapic_write(d, BASE0, 4, 1);
	assert_int_equal(vioapic_read(d, BASE0 + 0x10, 2), 0);
	assert_int_equal(vioapic_read(d, BASE0 + 0x10, 8), 0);
	assert_int_equal(vioapic_read(d, BASE0 + 0x14, 4), 0);
	assert_int_equal(vioapic_read(d, BASE0 + 0x110, 4), 0);
	vioapic_write(d, BASE0, 1, 7);
	vioapic_write(d, BASE0 + 0x100, 4, 7);
	assert_int_equal(vioapic_read(d, BASE0, 4), 1);
}

static void test_edge(void **state)
{
	assert_false(test_gsi(1)->routed);
	program(1, 0x31, 2);
	assert_true(test_gsi(1)->routed);
	assert_false(test_gsi(1)->masked || test_gsi(1)->level || test_gsi(1)->active_low);
	test_gsi_line(1, true);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(1, 0x31));
	assert_false(requested(0, 0x31));
	take(1, 0x31);
	/* Another one while the first is served. */
	test_gsi_line(1, false);
	test_gsi_line(1, true);
	assert_int_equal(test_serve_interrupts(), 1);
	eoi(1);
	take(1, 0x31);
	eoi(1);
	assert_int_equal(entry(1), 0x31);
	/* Masked: it is lost, as the real one loses it. */
	program(1, 0x31 | MASKED, 2);
	assert_true(test_gsi(1)->masked);
	test_gsi_line(1, false);
	test_gsi_line(1, true);
	program(1, 0x31, 2);
	assert_int_equal(test_serve_interrupts(), 0);
}

/* What was on its way when the guest masked the pin still comes: as an edge. */
static void test_mask_race(void **state)
{
	program(1, 0x31, 2);
	program(9, 0x39 | LEVEL, 0);
	test_gsi_line(1, true);
	test_gsi_line(9, true);
	program(1, 0x31 | MASKED, 2);
	program(9, 0x39 | LEVEL | MASKED, 0);
	assert_int_equal(test_serve_interrupts(), 2);
	assert_true(requested(1, 0x31));
	assert_false(requested(0, 0x39));
	assert_int_equal(entry(9), 0x39 | LEVEL | MASKED);
	program(9, 0x39 | LEVEL, 0);		/* still asserted */
	assert_int_equal(test_serve_interrupts(), 1);
	take(0, 0x39);
}

static void test_level(void **state)
{
	program(20, 0x50 | LEVEL | LOW, 0);
	assert_true(test_gsi(20)->level && test_gsi(20)->active_low);
	test_gsi_line(20, true);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_int_equal(entry(20), 0x50 | LEVEL | LOW | SERVED);
	assert_true(test_gsi(20)->masked);
	take(0, 0x50);
	assert_int_equal(test_serve_interrupts(), 0);
	eoi(0);				/* still asserted: again */
	assert_int_equal(entry(20), 0x50 | LEVEL | LOW);
	assert_int_equal(test_serve_interrupts(), 1);
	take(0, 0x50);
	test_gsi_line(20, false);
	eoi(0);
	assert_false(test_gsi(20)->masked);
	assert_int_equal(test_serve_interrupts(), 0);
	/* Asserted while masked: it comes with the mask's end. */
	program(20, 0x50 | LEVEL | LOW | MASKED, 0);
	test_gsi_line(20, true);
	assert_int_equal(test_serve_interrupts(), 0);
	program(20, 0x50 | LEVEL | LOW, 0);
	assert_int_equal(test_serve_interrupts(), 1);
	take(0, 0x50);
	/* Writes do not end it; a switch to edges does. */
	program(20, 0x50 | LEVEL | LOW | MASKED, 0);
	program(20, 0x50 | LEVEL | LOW, 0);
	assert_int_equal(entry(20), 0x50 | LEVEL | LOW | SERVED);
	assert_true(test_gsi(20)->masked);
	program(20, 0x50 | MASKED, 0);
	assert_int_equal(entry(20), 0x50 | MASKED);
	eoi(0);
}

/* The EOI register of newer versions, and a vector that two pins share. */
static void test_eoi(void **state)
{
	program(24, 0x61 | LEVEL, 0);
	program(25, 0x61 | LEVEL, 0);
	program(20, 0x61 | LEVEL, 0);
	for (uint32_t gsi = 24; gsi < 26; gsi++)
		test_gsi_line(gsi, true);
	test_gsi_line(20, true);
	assert_int_equal(test_serve_interrupts(), 3);
	for (uint32_t gsi = 24; gsi < 26; gsi++)
		test_gsi_line(gsi, false);
	test_gsi_line(20, false);
	vioapic_write(d, BASE1 + 0x40, 4, 0x60);
	assert_true(entry(24) & SERVED && entry(25) & SERVED);
	vioapic_write(d, BASE1 + 0x40, 4, 0x61);
	assert_false(entry(24) & SERVED || entry(25) & SERVED);
	vioapic_write(d, BASE0 + 0x40, 4, 0x61);	/* it is too old to have it */
	assert_true(entry(20) & SERVED);
	take(0, 0x61);
	eoi(0);
	assert_false(entry(20) & SERVED);
	assert_int_equal(vlapic_pending(d->vcpus[0]), -1);
}

static void test_destinations(void **state)
{
	/* xAPIC, flat: vCPU i answers to bit i. */
	for (unsigned int i = 0; i < 3; i++)
		assert_true(vlapic_write(d->vcpus[i], APIC_LDR << 4, 1u << (24 + i)));
	program(3, 0x41 | LOGICAL, 0x6);
	test_gsi_line(3, true);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_false(requested(0, 0x41));
	assert_true(requested(1, 0x41) && requested(2, 0x41));
	/* Lowest priority: one of them. */
	assert_true(vlapic_write(d->vcpus[1], APIC_TPR << 4, 0x80));
	program(5, 0x42 | LOGICAL | 0x100, 0x6);
	test_gsi_line(5, true);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(2, 0x42));
	assert_false(requested(1, 0x42));
	/* All. */
	program(6, 0x43, 0xff);
	program(7, 0x44 | LOGICAL, 0xff);
	test_gsi_line(6, true);
	test_gsi_line(7, true);
	assert_int_equal(test_serve_interrupts(), 2);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(requested(i, 0x43) && requested(i, 0x44));
	/* Nobody. */
	program(8, 0x45, 3);
	program(9, 0x45, 6);
	test_gsi_line(8, true);
	test_gsi_line(9, true);
	assert_int_equal(test_serve_interrupts(), 2);
	for (unsigned int i = 0; i < 3; i++)
		assert_false(requested(i, 0x45));
}

/* In x2APIC mode 8 bits are all that a pin can say. */
static void test_x2apic(void **state)
{
	for (unsigned int i = 0; i < 3; i++)
		assert_true(vlapic_msr_write(d->vcpus[i], 0x1b, APIC_DEFAULT_BASE | 0xc00 |
					     (i ? 0 : APIC_BASE_BSP)));
	program(1, 0x31 | LEVEL, 4);
	program(3, 0x33 | LOGICAL, 0x5);
	program(6, 0x34, 0xff);
	test_gsi_line(1, true);
	test_gsi_line(3, true);
	test_gsi_line(6, true);
	assert_int_equal(test_serve_interrupts(), 3);
	assert_true(requested(2, 0x31));
	assert_true(requested(0, 0x33) && requested(1, 0x33));
	assert_false(requested(2, 0x33));
	assert_true(requested(0, 0x34) && requested(1, 0x34) && requested(2, 0x34));
	take(2, 0x34);
	assert_true(vlapic_msr_write(d->vcpus[2], 0x80b, 0));
	take(2, 0x31);
	test_gsi_line(1, false);
	assert_true(vlapic_msr_write(d->vcpus[2], 0x80b, 0));
	assert_int_equal(entry(1), 0x31 | LEVEL);
	assert_false(test_gsi(1)->masked);
}

/* What is not an interrupt for a local APIC opens no pin. */
static void test_modes(void **state)
{
	static const uint32_t closed[] = { 0x200, 0x400, 0x500, 0x700, 0x30, MASKED };

	for (unsigned int i = 0; i < ARRAY_SIZE(closed); i++) {
		program(1, closed[i] == 0x30 ? 0x0f : closed[i] | 0x31, 0);
		assert_true(test_gsi(1)->masked);
	}
	assert_false(test_gsi(1)->routed);
	program(1, 0x31, 0);
	assert_false(test_gsi(1)->masked);
	/* A change of wiring goes through. */
	program(1, 0x31 | LOW, 0);
	assert_true(test_gsi(1)->active_low && !test_gsi(1)->masked);
	program(1, 0x700, 0);
	assert_true(test_gsi(1)->masked);
	assert_int_equal(entry(1), 0x700);
}

/* The hypervisor's own, said once; the guest sees its entry all the same. */
static void test_kept(void **state)
{
	test_console_clear();
	for (unsigned int i = 0; i < 3; i++) {
		program(OUR_GSI, 0x34, 0);
		program(OUR_GSI, 0x34 | MASKED, 0);
	}
	assert_false(test_gsi(OUR_GSI)->routed);
	assert_int_equal(entry(OUR_GSI), 0x34 | MASKED);
	assert_non_null(strstr(test_console_output(), "interrupt 4 is not given"));
	assert_null(strstr(strstr(test_console_output(), "not given") + 1, "not given"));
}

/* No vector left: no interrupt, and no harm. */
static void test_no_vectors(void **state)
{
	port_irq_cpus = 0;
	program(1, 0x31, 0);
	assert_false(test_gsi(1)->routed);
	port_irq_cpus = 1;
	program(1, 0x31, 0);
	assert_true(test_gsi(1)->routed);
	assert_int_equal(test_gsi(1)->cpu, 0);
}

static void test_failures(void **state)
{
	struct vioapic *mine = d->devices->ioapic;
	uint64_t before = page_free_count();
	unsigned int n = 1;

	d->devices->ioapic = NULL;
	for (;; n++) {
		int rc;

		page_fail_after = n;
		rc = vioapic_init(d);
		if (page_fail_after)
			break;
		assert_int_equal(rc, -XEN_ENOMEM);
		assert_null(d->devices->ioapic);
		assert_int_equal(page_free_count(), before);
	}
	page_fail_after = 0;
	assert_int_equal(n, 4);
	vioapic_destroy(d);
	vioapic_destroy(d);
	assert_int_equal(page_free_count(), before);
	d->devices->ioapic = mine;
}

/* --- The random walk -------------------------------------------------------- */

#define STEPS 200000u
#define GSIS 6u			/* of the second IO-APIC */

/* A pin and its lines, one step at a time, as a data book has it. */
struct model {
	bool line, served, edge;	/* edge: one waits for the local APIC to take it */
	uint32_t low;
	uint8_t dest;
};

static struct model model[GSIS];
static uint8_t irr[3][256], isr[3][256], tmr[3][256];
static uint64_t seed;

static unsigned int pick(unsigned int n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(seed >> 33) % n;
}

static bool model_open(const struct model *m)
{
	return !(m->low & MASKED) && !m->served;
}

/* What asserted levels and new edges do. */
static void model_service(void)
{
	for (unsigned int i = 0; i < GSIS; i++) {
		struct model *m = &model[i];
		bool level = m->low & LEVEL;

		if (!(level ? m->line && model_open(m) : m->edge))
			continue;
		m->edge = false;
		m->served = level;
		if (m->dest / 2 < 3 && !(m->dest & 1)) {
			irr[m->dest / 2][(uint8_t)m->low] = 1;
			tmr[m->dest / 2][(uint8_t)m->low] |= level;
		}
	}
}

static int model_highest(const uint8_t *bits)
{
	int i = 255;

	while (i >= 0 && !bits[i])
		i--;
	return i;
}

static void model_eoi(unsigned int nr)
{
	int vector = model_highest(isr[nr]);

	if (vector < 0)
		return;
	isr[nr][vector] = 0;
	if (!tmr[nr][vector])
		return;
	tmr[nr][vector] = 0;
	for (unsigned int i = 0; i < GSIS; i++) {
		if ((uint8_t)model[i].low == vector)
			model[i].served = false;
	}
}

static void random_step(void)
{
	unsigned int i = pick(GSIS), nr = pick(3);
	struct model *m = &model[i];
	int vector = model_highest(irr[nr]);
	bool line;

	switch (pick(4)) {
	case 0:
		line = pick(2);
		m->edge = !(m->low & LEVEL) && line && !m->line && model_open(m);
		m->line = line;
		test_gsi_line(24 + i, line);
		break;
	case 1:
		/* Few vectors, so that pins share them. */
		m->low = (0x30 + pick(4) * 8) | (pick(2) ? LEVEL : 0) | (pick(3) ? 0 : MASKED);
		m->dest = (uint8_t)pick(7);
		m->served &= (m->low & LEVEL) != 0;
		program(24 + i, m->low, m->dest);
		break;
	case 2:
		if (vector < 0 || vector >> 4 <= model_highest(isr[nr]) >> 4)
			break;
		take(nr, (uint8_t)vector);
		irr[nr][vector] = 0;
		isr[nr][vector] = 1;
		break;
	default:
		model_eoi(nr);
		eoi(nr);
		break;
	}
	model_service();
	while (test_serve_interrupts())
		;
}

static void compare(void)
{
	for (unsigned int i = 0; i < GSIS; i++)
		assert_int_equal(entry(24 + i), model[i].low | (model[i].served ? SERVED : 0));
	for (unsigned int nr = 0; nr < 3; nr++) {
		const struct vlapic *l = &d->vcpus[nr]->lapic;

		for (unsigned int vector = 0x30; vector < 0x50; vector++) {
			assert_int_equal(l->irr[vector / 64] >> vector % 64 & 1, irr[nr][vector]);
			assert_int_equal(l->isr[vector / 64] >> vector % 64 & 1, isr[nr][vector]);
			assert_int_equal(l->tmr[vector / 64] >> vector % 64 & 1, tmr[nr][vector]);
		}
	}
}

static void test_random(void **state)
{
	memset(irr, 0, sizeof(irr));
	memset(isr, 0, sizeof(isr));
	memset(tmr, 0, sizeof(tmr));
	for (unsigned int i = 0; i < GSIS; i++)
		model[i] = (struct model){ .low = MASKED };
	seed = 1;
	for (unsigned int n = 0; n < STEPS; n++) {
		random_step();
		if (n % 8 == 0)
			compare();
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_registers), TEST(test_edge), TEST(test_mask_race), TEST(test_level),
		TEST(test_eoi), TEST(test_destinations), TEST(test_x2apic), TEST(test_modes),
		TEST(test_kept), TEST(test_no_vectors), TEST(test_failures), TEST(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
