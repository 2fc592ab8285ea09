/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables: those of a usual PC, what is missing, and what is hostile.
 * Tables are built in a small physical memory that ends with an unmapped page.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "port/metal/firmware.h"

#define MEMORY (1u << 20)
#define RSDP 0xe1000u
#define ROOT 0x1000u
#define MADT 0x2000u
#define FADT 0x3000u
#define DSDT 0x4000u
#define HPET 0x5000u

static uint8_t *memory;

static const void *map(paddr_t start, uint64_t len)
{
	return range_within(start, len, MEMORY) ? memory + start : NULL;
}

static void put(uint32_t at, const void *data, size_t len)
{
	memcpy(memory + at, data, len);
}

static void put_le(uint32_t at, uint64_t v, size_t len)
{
	memcpy(memory + at, &v, len);
}

static void fix_sum(uint32_t table, uint32_t len, uint32_t at)
{
	uint8_t sum = 0;

	memory[table + at] = 0;
	for (uint32_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + memory[table + i]);
	memory[table + at] = (uint8_t)-sum;
}

/* Header and checksum of the table at @at, whose body is there already. */
static void seal(uint32_t at, const char *signature, uint32_t len)
{
	put(at, signature, 4);
	put_le(at + 4, len, 4);
	fix_sum(at, len, 9);
}

static void seal_rsdp(unsigned int revision)
{
	put(RSDP, "RSD PTR ", 8);
	memory[RSDP + 15] = (uint8_t)revision;
	put_le(RSDP + 16, ROOT, 4);
	put_le(RSDP + 20, 36, 4);
	put_le(RSDP + 24, revision ? ROOT : 0, 8);
	fix_sum(RSDP, 20, 8);
	fix_sum(RSDP, 36, 32);
}

static void seal_root(unsigned int width, unsigned int nr, const uint64_t *tables)
{
	for (unsigned int i = 0; i < nr; i++)
		put_le(ROOT + 36 + i * width, tables[i], width);
	seal(ROOT, width == 8 ? "XSDT" : "RSDT", 36 + nr * width);
}

static const uint8_t madt_entries[] = {
	0, 8, 0, 0, 1, 0, 0, 0,				/* CPU 0 */
	0, 8, 1, 2, 1, 0, 0, 0,				/* APIC ID 2 */
	0, 8, 2, 4, 0, 0, 0, 0,				/* disabled */
	0, 8, 3, 2, 1, 0, 0, 0,				/* a duplicate */
	9, 16, 0, 0, 0x34, 0x12, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0,	/* x2APIC ID 0x1234 */
	9, 16, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0,	/* ID 2 again */
	1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,		/* IO-APIC */
	1, 12, 1, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0,		/* another, GSI 24 on */
	2, 10, 0, 0, 2, 0, 0, 0, 0, 0,			/* IRQ 0 is GSI 2 */
	2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0,		/* IRQ 9: level, high */
	2, 10, 0, 200, 7, 0, 0, 0, 0, 0,		/* no such IRQ */
	127, 6, 1, 2, 3, 4,				/* something new */
};

static const uint8_t s5[] = { 0x08, '_', 'S', '5', '_', 0x12, 6, 4, 0x0a, 5, 0x0a, 3, 0, 0 };

static void put_madt(const uint8_t *entries, uint32_t len)
{
	memset(memory + MADT, 0, 0x1000);
	put_le(MADT + 36, 0xfee00000, 4);
	put(MADT + 44, entries, len);
	seal(MADT, "APIC", 44 + len);
}

static void put_dsdt(const uint8_t *aml, uint32_t len)
{
	memset(memory + DSDT, 0xcc, 0x1000);
	put(DSDT + 36 + 100, aml, len);
	seal(DSDT, "DSDT", 36 + 100 + len);
}

static void put_fadt(uint32_t len)
{
	memset(memory + FADT, 0, 0x1000);
	put_le(FADT + 40, DSDT, 4);
	put_le(FADT + 48, 0xb2, 4);
	put_le(FADT + 52, 0xa0, 1);
	put_le(FADT + 64, 0x604, 4);
	put_le(FADT + 68, 0x704, 4);
	put_le(FADT + 112, 1u << 10, 4);
	put_le(FADT + 116, 1, 1);		/* reset register in I/O space */
	put_le(FADT + 120, 0xcf9, 8);
	put_le(FADT + 128, 0x0f, 1);
	put_le(FADT + 140, DSDT, 8);
	seal(FADT, "FACP", len);
}

static void put_hpet(void)
{
	put_le(HPET + 40, 0, 1);
	put_le(HPET + 44, 0xfed00000, 8);
	seal(HPET, "HPET", 56);
}

static const uint64_t all_tables[] = { FADT, MADT, 0, HPET };

static int setup(void **state)
{
	(void)state;
	/* Exactly as large as it claims to be, so that ASan sees every step beyond. */
	memory = calloc(1, MEMORY);
	assert_non_null(memory);
	put_madt(madt_entries, sizeof(madt_entries));
	put_dsdt(s5, sizeof(s5));
	put_fadt(244);
	put_hpet();
	seal_root(8, 4, all_tables);
	seal_rsdp(2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(memory);
	return 0;
}

static struct acpi_info parse(paddr_t rsdp)
{
	struct acpi_info a;

	assert_int_equal(acpi_parse(&a, rsdp, map), 0);
	return a;
}

static void check_all(const struct acpi_info *a)
{
	assert_int_equal(a->nr_cpus, 3);
	assert_int_equal(a->apic_id[0], 0);
	assert_int_equal(a->apic_id[1], 2);
	assert_int_equal(a->apic_id[2], 0x1234);
	assert_int_equal(a->nr_ioapics, 2);
	assert_int_equal(a->ioapic[0].address, 0xfec00000);
	assert_int_equal(a->ioapic[1].address, 0xfec01000);
	assert_int_equal(a->ioapic[1].gsi_base, 24);
	assert_int_equal(a->isa_irq[0].gsi, 2);
	assert_int_equal(a->isa_irq[4].gsi, 4);
	assert_int_equal(a->isa_irq[4].flags, 0);
	assert_int_equal(a->isa_irq[9].flags, 0x0d);
	assert_int_equal(a->hpet, 0xfed00000);
	assert_int_equal(a->reset_port, 0xcf9);
	assert_int_equal(a->reset_value, 0x0f);
	assert_int_equal(a->smi_command, 0xb2);
	assert_int_equal(a->acpi_enable, 0xa0);
	assert_int_equal(a->pm1a_control, 0x604);
	assert_int_equal(a->pm1b_control, 0x704);
	assert_true(a->has_s5);
	assert_int_equal(a->s5_type[0], 5);
	assert_int_equal(a->s5_type[1], 3);
	assert_int_equal(a->nr_tables, 3);
	for (unsigned int i = 0; i < a->nr_tables; i++) {
		const struct boot_acpi_table *t = &a->tables[i];

		assert_memory_equal(t->signature, memory + t->at, 4);
		assert_memory_equal(&t->length, memory + t->at + 4, 4);
		assert_true(t->at == MADT || t->at == FADT || t->at == HPET);
	}
}

static void test_whole_machine(void **state)
{
	struct acpi_info a;

	(void)state;
	a = parse(RSDP);
	check_all(&a);
	/* Found by itself, in the BIOS area and in the extended BIOS data area. */
	a = parse(0);
	check_all(&a);
	memmove(memory + 0x9fc10, memory + RSDP, 36);
	memset(memory + RSDP, 0, 36);
	put_le(0x40e, 0x9fc0, 2);
	a = parse(0);
	check_all(&a);
}

static void test_old_root(void **state)
{
	struct acpi_info a;

	(void)state;
	seal_root(4, 4, all_tables);
	seal_rsdp(0);
	a = parse(RSDP);
	check_all(&a);
	/* Revision 2 with an XSDT that is none: the RSDT serves. */
	seal_rsdp(2);
	put_le(RSDP + 24, MEMORY - 8, 8);
	fix_sum(RSDP, 36, 32);
	a = parse(RSDP);
	check_all(&a);
	/* The second half of the pointer is broken: only the first counts. */
	memory[RSDP + 35] ^= 1;
	put_le(RSDP + 24, ROOT + 1, 8);
	a = parse(RSDP);
	check_all(&a);
}

static void test_no_root(void **state)
{
	struct acpi_info a;

	(void)state;
	memory[RSDP + 10] ^= 1;		/* checksum of the pointer */
	assert_int_equal(acpi_parse(&a, RSDP, map), -XEN_ENODEV);
	/* Without any table there is still a PC. */
	assert_int_equal(a.nr_cpus, 0);
	assert_int_equal(a.nr_ioapics, 1);
	assert_int_equal(a.ioapic[0].address, 0xfec00000);
	assert_int_equal(a.isa_irq[4].gsi, 4);
	memory[RSDP + 10] ^= 1;
	memory[ROOT + 20] ^= 1;		/* checksum of the root */
	assert_int_equal(acpi_parse(&a, RSDP, map), -XEN_ENODEV);
	assert_int_equal(acpi_parse(&a, MEMORY - 8, map), -XEN_ENODEV);
	assert_int_equal(acpi_parse(&a, UINT64_MAX - 8, map), -XEN_ENODEV);
}

static void test_broken_tables(void **state)
{
	static const uint64_t odd[] = { UINT64_MAX, MEMORY - 2, 1, 0, ROOT, FADT, HPET };
	struct acpi_info a;

	(void)state;
	memory[MADT + 12] ^= 1;
	a = parse(RSDP);
	assert_int_equal(a.nr_cpus, 0);
	assert_int_equal(a.hpet, 0xfed00000);
	/* Lengths: below a header, beyond memory, gigantic. */
	for (unsigned int i = 0; i < 4; i++) {
		put_le(MADT + 4, (uint32_t[]){ 35, 0, MEMORY, UINT32_MAX }[i], 4);
		a = parse(RSDP);
		assert_int_equal(a.nr_cpus, 0);
	}
	/* Addresses that lead nowhere, or back. */
	seal_root(8, 7, odd);
	a = parse(RSDP);
	assert_int_equal(a.hpet, 0xfed00000);
	assert_true(a.has_s5);
}

static void test_first_table_wins(void **state)
{
	static const uint64_t twice[] = { HPET, HPET + 0x100 };
	struct acpi_info a;

	(void)state;
	put_le(HPET + 0x100 + 44, 0x12345000, 8);
	seal(HPET + 0x100, "HPET", 56);
	seal_root(8, 2, twice);
	a = parse(RSDP);
	assert_int_equal(a.hpet, 0xfed00000);
}

static void test_madt_entries(void **state)
{
	static const uint8_t zero_length[] = { 0, 0, 0, 0, 0, 8, 0, 1, 1, 0, 0, 0 };
	static const uint8_t beyond[] = { 0, 8, 0, 0, 1, 0, 0, 0, 0, 9, 1, 1, 1, 0, 0, 0 };
	static const uint8_t shorts[] = { 0, 4, 0, 7, 1, 6, 0, 0, 0, 0, 2, 8, 0, 1, 9, 9, 9, 9,
					  9, 8, 0, 0, 5, 0, 0, 0, 1, 4, 0, 0, 0 };
	uint8_t many[300 * 8];
	struct acpi_info a;

	(void)state;
	put_madt(zero_length, sizeof(zero_length));
	a = parse(RSDP);
	assert_int_equal(a.nr_cpus, 0);
	put_madt(beyond, sizeof(beyond));
	a = parse(RSDP);
	assert_int_equal(a.nr_cpus, 1);
	put_madt(shorts, sizeof(shorts));
	a = parse(RSDP);
	assert_int_equal(a.nr_cpus, 0);
	assert_int_equal(a.ioapic[0].address, 0xfec00000);
	assert_int_equal(a.isa_irq[1].gsi, 1);
	for (unsigned int i = 0; i < 300; i++)
		memcpy(many + i * 8, (uint8_t[]){ 0, 8, 0, (uint8_t)i, 1, 0, 0, 0 }, 8);
	put_madt(many, sizeof(many));
	a = parse(RSDP);
	assert_int_equal(a.nr_cpus, MAX_PCPUS);
	for (unsigned int i = 0; i < 200; i++)
		memcpy(many + i * 12, (uint8_t[]){ 1, 12, 0, 0, 0, 0, 0, (uint8_t)i }, 8);
	put_madt(many, 200 * 12);
	a = parse(RSDP);
	assert_int_equal(a.nr_ioapics, MAX_IOAPICS);
}

static void test_short_fadt(void **state)
{
	struct acpi_info a;

	(void)state;
	/* Revision 1 ends before the reset register and the wide addresses. */
	put_fadt(116);
	a = parse(RSDP);
	assert_int_equal(a.reset_port, 0);
	assert_int_equal(a.pm1a_control, 0x604);
	assert_true(a.has_s5);
	put_fadt(36);
	a = parse(RSDP);
	assert_int_equal(a.pm1a_control, 0);
	assert_false(a.has_s5);
	/* A reset register in memory is not for us. */
	put_fadt(244);
	put_le(FADT + 116, 0, 1);
	fix_sum(FADT, 244, 9);
	a = parse(RSDP);
	assert_int_equal(a.reset_port, 0);
}

static void test_s5(void **state)
{
	static const struct {
		uint8_t aml[16];
		uint8_t len, type[2];
		bool found;
	} cases[] = {
		{ { 8, '_', 'S', '5', '_', 0x12, 6, 2, 1, 0, 0, 0, 0 }, 13, { 1, 0 }, true },
		{ { 8, '\\', '_', 'S', '5', '_', 0x12, 6, 2, 0x0a, 7, 1 }, 14, { 7, 1 }, true },
		{ { 8, '_', 'S', '5', '_', 0x12, 0x46, 0, 2, 0x0a, 2, 0 }, 14, { 2, 0 }, true },
		{ { 8, '_', 'S', '5', '_', 0x11, 6, 2, 1, 0, 0, 0, 0 }, 13, { 0, 0 }, false },
		{ { 9, '_', 'S', '5', '_', 0x12, 6, 2, 1, 0, 0, 0, 0 }, 13, { 0, 0 }, false },
		{ { 8, '_', 'S', '5', '_', 0x12, 6, 1, 1, 0, 0, 0, 0 }, 13, { 0, 0 }, false },
		{ { 8, '_', 'S', '5', '_', 0x12, 6, 2 }, 8, { 0, 0 }, false },	/* cut */
		{ { 8, '_', 'S', '5', '_' }, 5, { 0, 0 }, false },
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct acpi_info a;

		put_dsdt(cases[i].aml, cases[i].len);
		a = parse(RSDP);
		assert_int_equal(a.has_s5, cases[i].found);
		assert_memory_equal(a.s5_type, cases[i].type, 2);
	}
}

/* Any bytes, with checksums that hold: it ends and stays inside. */
static void test_random_damage(void **state)
{
	static const struct { uint32_t at, len; } tables[] = {
		{ ROOT, 68 }, { MADT, 44 + sizeof(madt_entries) }, { FADT, 244 },
		{ DSDT, 150 }, { HPET, 56 },
	};

	srand(7);
	for (unsigned int round = 0; round < 5000; round++) {
		struct acpi_info a;

		for (unsigned int n = 0; n < 4; n++) {
			unsigned int t = (unsigned int)rand() % 5;

			memory[tables[t].at + (unsigned int)rand() % tables[t].len] =
				(uint8_t)rand();
			fix_sum(tables[t].at, tables[t].len, 9);
		}
		(void)!acpi_parse(&a, rand() % 2 ? RSDP : 0, map);
		assert_true(a.nr_cpus <= MAX_PCPUS);
		assert_in_range(a.nr_ioapics, 1, MAX_IOAPICS);
		if (round % 50 == 0) {
			teardown(state);
			setup(state);
		}
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_whole_machine),
		TEST(test_old_root),
		TEST(test_no_root),
		TEST(test_broken_tables),
		TEST(test_first_table_wins),
		TEST(test_madt_entries),
		TEST(test_short_fadt),
		TEST(test_s5),
		TEST(test_random_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
