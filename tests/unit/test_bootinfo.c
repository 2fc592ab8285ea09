/* SPDX-License-Identifier: MIT */
/*
 * Boot protocols and ranges: what each of the three gives, what is refused,
 * and the range list against a bitmap.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/page.h"
#include "port/metal/firmware.h"

#define MEMORY (1u << 16)	/* where boot structures lie */
#define MB1 0x2badb002u
#define MB2 0x36d76289u
#define PVH 0x336ec578u
#define INFO 0x1000u
#define IMAGE 0x200000u
#define IMAGE_END 0x280000u
#define RAM_TOP 0x8000000u
#define MIB (1ULL << 20)

static uint8_t *memory;
static struct boot_data b;

static const void *map(paddr_t start, uint64_t len)
{
	return range_within(start, len, MEMORY) ? memory + start : NULL;
}

static void put_le(uint32_t at, uint64_t v, size_t len)
{
	memcpy(memory + at, &v, len);
}

static void put_text(uint32_t at, const char *text)
{
	memcpy(memory + at, text, strlen(text) + 1);
}

static int setup(void **state)
{
	(void)state;
	memory = calloc(1, MEMORY);
	assert_non_null(memory);
	put_text(0x100, "hospes guest=\"a b\"");
	put_text(0x200, "kernel args");
	put_text(0x300, "initrd");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(memory);
	return 0;
}

static int parse(uint32_t magic)
{
	return boot_parse(&b, magic, INFO, map, IMAGE, IMAGE_END);
}

/* --- The three protocols, the same machine --- */

static const struct { uint64_t start, len; uint32_t type; } memory_map[] = {
	{ 0, 0x9fc00, 1 },
	{ 0x9fc00, 0x400, 2 },
	{ MIB, RAM_TOP - MIB, 1 },
	{ RAM_TOP - 0x10000, 0x10000, 3 },	/* ACPI inside what was called RAM */
	{ 0x100000000ULL, 0x40000000, 1 },
};

#define MAP_ENTRIES (sizeof(memory_map) / sizeof(memory_map[0]))

static const struct { uint32_t start, end, text; } modules[] = {
	{ 0x300000, 0x380123, 0x200 },
	{ 0x400000, 0x400001, 0x300 },
};

static void put_map(uint32_t at, size_t stride, size_t skip)
{
	for (unsigned int i = 0; i < MAP_ENTRIES; i++, at += (uint32_t)stride) {
		if (skip)
			put_le(at, stride - 4, 4);
		put_le(at + (uint32_t)skip, memory_map[i].start, 8);
		put_le(at + (uint32_t)skip + 8, memory_map[i].len, 8);
		put_le(at + (uint32_t)skip + 16, memory_map[i].type, 4);
	}
}

static void put_mb1(void)
{
	put_le(INFO, 0x4c, 4);
	put_le(INFO + 16, 0x100, 4);
	put_le(INFO + 20, 2, 4);
	put_le(INFO + 24, 0x2000, 4);
	for (unsigned int i = 0; i < 2; i++)
		memcpy(memory + 0x2000 + i * 16, &modules[i], 12);
	put_le(INFO + 44, MAP_ENTRIES * 24, 4);
	put_le(INFO + 48, 0x3002, 4);		/* not aligned */
	put_map(0x3002, 24, 4);
}

static void put_pvh(void)
{
	put_le(INFO, PVH, 4);
	put_le(INFO + 4, 1, 4);
	put_le(INFO + 12, 2, 4);
	put_le(INFO + 16, 0x2000, 8);
	put_le(INFO + 24, 0x100, 8);
	put_le(INFO + 32, 0xf5a00, 8);
	put_le(INFO + 40, 0x3000, 8);
	put_le(INFO + 48, MAP_ENTRIES, 4);
	for (unsigned int i = 0; i < 2; i++) {
		put_le(0x2000 + i * 32, modules[i].start, 8);
		put_le(0x2008 + i * 32, modules[i].end - modules[i].start, 8);
		put_le(0x2010 + i * 32, modules[i].text, 8);
	}
	put_map(0x3000, 24, 0);
}

/* Appends a tag at @at, its body being there already. */
static uint32_t tag(uint32_t at, uint32_t type, uint32_t size)
{
	put_le(at, type, 4);
	put_le(at + 4, size, 4);
	put_le(INFO, at + ALIGN_UP(size, 8) - INFO, 4);
	return at + (uint32_t)ALIGN_UP(size, 8);
}

static uint32_t put_mb2(void)
{
	uint32_t at = INFO + 8;

	put_text(at + 8, "hospes guest=\"a b\"");
	at = tag(at, 1, 8 + 19);
	for (unsigned int i = 0; i < 2; i++) {
		put_le(at + 8, modules[i].start, 4);
		put_le(at + 12, modules[i].end, 4);
		put_text(at + 16, (const char *)memory + modules[i].text);
		at = tag(at, 3, 16 + 12);
	}
	put_le(at + 8, 24, 4);
	put_map(at + 16, 24, 0);
	at = tag(at, 6, 16 + MAP_ENTRIES * 24);
	at = tag(at, 99, 9);
	return at;
}

static void check_machine(const char *protocol)
{
	assert_string_equal(b.protocol, protocol);
	assert_string_equal(b.info.cmdline, "hospes guest=\"a b\"");
	assert_int_equal(b.info.nr_modules, 2);
	assert_int_equal(b.info.modules[0].start, 0x300000);
	assert_int_equal(b.info.modules[0].size, 0x80123);
	assert_string_equal(b.info.modules[0].cmdline, "kernel args");
	assert_int_equal(b.info.modules[1].size, 1);
	assert_string_equal(b.info.modules[1].cmdline, "initrd");
	assert_int_equal(b.dropped, 0);
	assert_int_equal(b.ram.nr, 3);
	assert_true(ranges_contain(&b.ram, 0, 0x9f000));
	assert_false(ranges_contain(&b.ram, 0, 0x9fc00));
	assert_true(ranges_contain(&b.ram, MIB, RAM_TOP - 0x10000 - MIB));
	assert_false(ranges_contain(&b.ram, RAM_TOP - 0x10000, 1));
	assert_int_equal(ranges_end(&b.ram), 0x140000000ULL);
	/* The map as it came, for the control domain. */
	assert_int_equal(b.info.nr_memory, MAP_ENTRIES);
	for (unsigned int i = 0; i < MAP_ENTRIES; i++) {
		assert_int_equal(b.info.memory[i].start, memory_map[i].start);
		assert_int_equal(b.info.memory[i].size, memory_map[i].len);
		assert_int_equal(b.info.memory[i].type, memory_map[i].type);
	}
}

static void test_protocols(void **state)
{
	uint32_t at;

	(void)state;
	put_mb1();
	assert_int_equal(parse(MB1), 0);
	check_machine("multiboot 1");
	assert_int_equal(b.rsdp, 0);
	memset(memory + INFO, 0, MEMORY - INFO);
	put_pvh();
	assert_int_equal(parse(PVH), 0);
	check_machine("PVH");
	assert_int_equal(b.rsdp, 0xf5a00);
	memset(memory + INFO, 0, MEMORY - INFO);
	at = put_mb2();
	assert_int_equal(parse(MB2), 0);
	check_machine("multiboot 2");
	/* The newer RSDP counts, in either order. */
	tag(tag(at, 15, 44), 14, 28);
	assert_int_equal(parse(MB2), 0);
	assert_int_equal(b.rsdp, at + 8);
	tag(tag(at, 14, 28), 15, 44);
	assert_int_equal(parse(MB2), 0);
	assert_int_equal(b.rsdp, at + 32 + 8);
}

static void test_refused(void **state)
{
	(void)state;
	put_mb1();
	assert_int_equal(parse(0), -XEN_EINVAL);
	assert_string_equal(b.info.cmdline, "");
	assert_int_equal(boot_parse(&b, MB1, MEMORY - 4, map, IMAGE, IMAGE_END), -XEN_EINVAL);
	put_le(INFO, 0x0c, 4);			/* no memory map */
	assert_int_equal(parse(MB1), -XEN_EINVAL);
	put_le(INFO, 0x4c, 4);
	put_le(INFO + 44, 3, 4);		/* one of no entries */
	assert_int_equal(parse(MB1), -XEN_EINVAL);
	put_pvh();
	put_le(INFO + 4, 0, 4);			/* a version without one */
	assert_int_equal(parse(PVH), -XEN_EINVAL);
	put_le(INFO, 1, 4);
	assert_int_equal(parse(PVH), -XEN_EINVAL);
	assert_int_equal(boot_parse(&b, MB2, MEMORY - 4, map, IMAGE, IMAGE_END), -XEN_EINVAL);
}

/* Flags that are not set: what stands there is not looked at. */
static void test_mb1_flags(void **state)
{
	(void)state;
	put_mb1();
	put_le(INFO, 0x40, 4);
	assert_int_equal(parse(MB1), 0);
	assert_string_equal(b.info.cmdline, "");
	assert_int_equal(b.info.nr_modules, 0);
}

static void test_bad_modules(void **state)
{
	static const struct { uint32_t start, end; } bad[] = {
		{ IMAGE - 1, IMAGE + 1 },	/* over the image */
		{ IMAGE_END - 1, IMAGE_END + 5 },
		{ MIB, 0x400000 },		/* around it */
		{ RAM_TOP - 4, RAM_TOP + 4 },	/* beyond RAM */
		{ 0xf0000000, 0xf0001000 },
		{ 0x500000, 0x500000 },		/* empty */
		{ 0x500000, 0x4fffff },		/* ends before it starts */
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_mb1();
		put_le(0x2000, bad[i].start, 4);
		put_le(0x2004, bad[i].end, 4);
		assert_int_equal(parse(MB1), 0);
		assert_int_equal(b.info.nr_modules, 1);
		assert_string_equal(b.info.modules[0].cmdline, "initrd");
	}
	put_pvh();
	put_le(0x2008, UINT64_MAX, 8);
	assert_int_equal(parse(PVH), 0);
	assert_int_equal(b.info.nr_modules, 1);
	put_pvh();
	put_le(0x2000, UINT64_MAX - 1, 8);
	assert_int_equal(parse(PVH), 0);
	assert_int_equal(b.info.nr_modules, 1);
	assert_int_equal(b.dropped, 1);
}

static void test_too_much(void **state)
{
	(void)state;
	put_mb1();
	put_le(INFO + 20, 40, 4);
	for (unsigned int i = 0; i < 40; i++)
		memcpy(memory + 0x2000 + i * 16, &modules[1], 12);
	put_map(0x3002, 24, 4);
	assert_int_equal(parse(MB1), 0);
	assert_int_equal(b.info.nr_modules, 32);
	assert_int_equal(b.dropped, 8);
	/* A list that leads out of memory ends there. */
	put_le(INFO + 20, UINT32_MAX, 4);
	put_le(INFO + 24, MEMORY - 24, 4);
	assert_int_equal(parse(MB1), 0);
	assert_int_equal(b.info.nr_modules, 0);
	/* Text without an end: cut, and what follows gets none. */
	put_mb1();
	memset(memory + 0x4000, 'x', MEMORY - 0x4000);
	put_le(INFO + 16, 0x4000, 4);
	assert_int_equal(parse(MB1), 0);
	assert_int_equal(strlen(b.info.cmdline), BOOT_TEXT_MAX - 1);
	assert_string_equal(b.info.modules[0].cmdline, "");
	assert_int_equal(b.text_used, BOOT_TEXT_MAX - 1);
	put_le(INFO + 16, MEMORY - 3, 4);
	assert_int_equal(parse(MB1), 0);
	assert_true(b.text_used < BOOT_TEXT_MAX - 1);
	assert_string_equal(b.info.cmdline, "xxx");
}

static void test_broken_tags(void **state)
{
	uint32_t at = put_mb2();

	(void)state;
	put_le(tag(at, 99, 8) - 4, 7, 4);	/* shorter than a tag */
	assert_int_equal(parse(MB2), 0);
	check_machine("multiboot 2");
	put_le(at + 4, UINT32_MAX, 4);
	assert_int_equal(parse(MB2), 0);
	check_machine("multiboot 2");
	put_le(INFO, UINT32_MAX, 4);		/* all of memory, and more */
	put_le(at + 4, 8, 4);
	assert_int_equal(parse(MB2), 0);
	put_mb2();
	put_le(INFO + 8 + 32 + 2 * 32 + 8, 8, 4);	/* memory map entries of 8 bytes */
	assert_int_equal(parse(MB2), -XEN_EINVAL);
}

/* What the boot page tables do not reach is a module like any other. */
static void test_high_module(void **state)
{
	(void)state;
	put_pvh();
	put_le(0x2000, 0x100000000ULL, 8);
	put_le(0x2008, 0x40000000, 8);
	assert_int_equal(parse(PVH), 0);
	assert_int_equal(b.info.nr_modules, 2);
	assert_int_equal(b.info.modules[0].start, 0x100000000ULL);
	assert_int_equal(b.info.modules[0].size, 0x40000000);
	put_le(0x2008, 0x40000001, 8);		/* one byte beyond RAM */
	assert_int_equal(parse(PVH), 0);
	assert_int_equal(b.info.nr_modules, 1);
	assert_int_equal(b.dropped, 1);
}

/* RAM in pieces that touch or overlap is one: a module may lie across. */
static void test_ram_in_pieces(void **state)
{
	static const struct { uint64_t start, len; uint32_t type; } pieces[] = {
		{ 0x380000, 0x80000, 1 },
		{ MIB, 0x250000, 1 },
		{ 0x340000, 0x50000, 1 },
		{ 0x400000, UINT64_MAX, 1 },
		{ 0x600000, UINT64_MAX, 2 },	/* and a hole without an end */
	};

	(void)state;
	put_mb1();
	for (unsigned int i = 0; i < MAP_ENTRIES; i++)
		memcpy(memory + 0x3002 + i * 24 + 4, &pieces[i], 20);
	assert_int_equal(parse(MB1), 0);
	assert_int_equal(b.ram.nr, 1);
	assert_int_equal(b.ram.r[0].start, MIB);
	assert_int_equal(b.ram.r[0].end, 0x600000);
	assert_int_equal(b.info.nr_modules, 2);
}

/* --- Ranges --- */

#define PAGES 512u

static bool in_list(const struct range_list *l, unsigned int page)
{
	return ranges_contain(l, page * PAGE_SIZE, PAGE_SIZE);
}

static void test_ranges_against_bitmap(void **state)
{
	static struct range_list l;
	bool model[PAGES];

	(void)state;
	srand(3);
	for (unsigned int run = 0; run < 200; run++) {
		memset(model, 0, sizeof(model));
		l.nr = 0;
		for (unsigned int step = 0; step < 60; step++) {
			uint64_t start = (uint64_t)rand() % (PAGES * PAGE_SIZE);
			uint64_t end = start + (uint64_t)rand() % (32 * PAGE_SIZE);
			bool add = rand() % 2;

			end = MIN(end, PAGES * PAGE_SIZE);
			if (add)
				ranges_add(&l, start, end);
			else
				ranges_sub(&l, start, end);
			for (uint64_t p = 0; p < PAGES; p++) {
				bool whole = p * PAGE_SIZE >= start && (p + 1) * PAGE_SIZE <= end;
				bool touched = start < end && p * PAGE_SIZE < end &&
					       (p + 1) * PAGE_SIZE > start;

				if (add ? whole : touched)
					model[p] = add;
			}
			for (unsigned int p = 0; p < PAGES; p++) {
				assert_int_equal(in_list(&l, p), model[p]);
				/* Neighbours are in the same range. */
				assert_int_equal(ranges_contain(&l, p * PAGE_SIZE, 2 * PAGE_SIZE),
						 model[p] && p + 1 < PAGES && model[p + 1]);
			}
		}
	}
}

static void test_range_limits(void **state)
{
	static struct range_list l;

	(void)state;
	l.nr = 0;
	ranges_add(&l, 5, 6);			/* no whole page */
	ranges_add(&l, UINT64_MAX - 5, UINT64_MAX);
	ranges_add(&l, 10, 5);
	assert_int_equal(l.nr, 0);
	ranges_add(&l, MAX_RAM - PAGE_SIZE, UINT64_MAX);
	assert_int_equal(ranges_end(&l), MAX_RAM);
	assert_false(ranges_contain(&l, UINT64_MAX, UINT64_MAX));
	assert_false(ranges_contain(&l, MAX_RAM - PAGE_SIZE, UINT64_MAX));
	ranges_sub(&l, 0, UINT64_MAX);
	assert_int_equal(l.nr, 0);
	/* Full: further memory is lost, and so is what a hole cuts off. */
	for (uint64_t i = 0; i < 2 * MAX_RANGES; i++)
		ranges_add(&l, i * 8 * PAGE_SIZE, (i * 8 + 3) * PAGE_SIZE);
	assert_int_equal(l.nr, MAX_RANGES);
	ranges_sub(&l, PAGE_SIZE, 2 * PAGE_SIZE);
	assert_int_equal(l.nr, MAX_RANGES);
	assert_false(in_list(&l, 1));
}

static void test_take(void **state)
{
	static struct range_list l;
	paddr_t a;

	(void)state;
	l.nr = 0;
	ranges_add(&l, MIB, 2 * MIB);
	ranges_add(&l, 0x100000000ULL, 0x200000000ULL);
	a = ranges_take(&l, 4 * PAGE_SIZE, 0x100000000ULL);
	assert_int_equal(a, 2 * MIB - 4 * PAGE_SIZE);
	assert_false(ranges_contain(&l, a, 1));
	a = ranges_take(&l, 16 * MIB, MAX_RAM);
	assert_int_equal(a, 0x200000000ULL - 16 * MIB);
	assert_int_equal(ranges_take(&l, 2 * MIB, 0x100000000ULL), 0);
	a = ranges_take(&l, PAGE_SIZE, MIB + 3 * PAGE_SIZE);
	assert_int_equal(a, MIB + 2 * PAGE_SIZE);
	assert_int_equal(ranges_take(&l, UINT64_MAX & PAGE_MASK, MAX_RAM), 0);
}

static void test_frame_table(void **state)
{
	static struct range_list l;
	paddr_t end, table;

	(void)state;
	l.nr = 0;
	assert_int_equal(ranges_take_frame_table(&l, &end), 0);
	ranges_add(&l, MIB, 128 * MIB);
	table = ranges_take_frame_table(&l, &end);
	assert_int_equal(end, 128 * MIB);
	assert_int_equal(table, end - page_table_bytes(end));
	assert_false(ranges_contain(&l, table, 1));
	/* What lies behind a hole counts if there is room for its part of the table. */
	ranges_add(&l, 0x100000000ULL, 0x140000000ULL);
	assert_int_not_equal(ranges_take_frame_table(&l, &end), 0);
	assert_int_equal(end, 0x140000000ULL);
	l.nr = 0;
	ranges_add(&l, MIB, 128 * MIB);
	ranges_add(&l, MAX_RAM / 2, MAX_RAM / 2 + 1024 * MIB);
	ranges_add(&l, MAX_RAM - 512 * MIB, MAX_RAM);
	table = ranges_take_frame_table(&l, &end);
	assert_int_equal(end, 128 * MIB);
	assert_int_equal(table, end - page_table_bytes(end));
	assert_int_equal(l.nr, 1);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_protocols),
		TEST(test_refused),
		TEST(test_mb1_flags),
		TEST(test_bad_modules),
		TEST(test_too_much),
		TEST(test_broken_tags),
		TEST(test_high_module),
		TEST(test_ram_in_pieces),
		TEST(test_ranges_against_bitmap),
		TEST(test_range_limits),
		TEST(test_take),
		TEST(test_frame_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
