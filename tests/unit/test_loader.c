/* SPDX-License-Identifier: MIT */
/*
 * Kernel files: ELF and bzImage headers, right and wrong; and the guest's ACPI tables.
 */
#include "unit.h"

#include "elf_maker.h"
#include "hospes/acpi_guest.h"
#include "hospes/lib.h"
#include "hospes/loader.h"
#include "unpack/unpack.h"

static uint8_t file[1 << 20];
static struct kernel_image k;

static const struct elf_part parts[] = {
	{ 0x100000, 0x3000, 0x3000, 0x1000 }, { 0x103000, 0x5001, 0x9000, 0x8000 },
};

static size_t make(bool wide)
{
	memset(file, 0, sizeof(file));
	return elf_make(file, wide, parts, ARRAY_SIZE(parts), 0x101000);
}

static void test_elf(void **state)
{
	(void)state;
	for (int wide = 0; wide <= 1; wide++) {
		size_t size = make(wide);

		assert_null(kernel_parse(file, size, &k));
		assert_null(k.payload);
		assert_ptr_equal(k.file, file);
		assert_int_equal(k.elf.entry, 0x101000);
		assert_int_equal(k.end, 0x10c000);
		assert_int_equal(k.elf.nr_segments, 2);
		assert_int_equal(k.elf.segment[1].offset, 0x8000);
		assert_int_equal(k.elf.segment[1].filesz, 0x5001);
		assert_int_equal(k.elf.segment[1].memsz, 0x9000);
		assert_non_null(strstr(kernel_parse(file, size - 1, &k), "outside"));
		for (size_t cut = 0; cut < 0x200; cut++)
			assert_non_null(kernel_parse(file, cut, &k));
	}
}

/* One changed field of a good 64-bit file, and a word of the complaint. */
static void test_elf_errors(void **state)
{
	enum { PH0 = 64, PH1 = 64 + 56, NOTE = 64 + 2 * 56 };
	static const struct {
		size_t at;
		unsigned int size;
		uint64_t value;
		const char *word;
	} cases[] = {
		{ 4, 1, 3, "no ELF" }, { 5, 1, 2, "no ELF" },
		{ 32, 8, 0x8000 + 0x5001 - 167, "program headers" },
		{ 32, 8, ~0ULL, "program headers" },
		{ 54, 2, 32, "program headers" }, { 56, 2, 0xffff, "program headers" },
		{ 56, 2, 0, "no segments" },
		{ PH0 + 8, 8, ~0ULL, "outside" }, { PH0 + 32, 8, ~0ULL, "outside" },
		{ PH0 + 24, 8, 0xffffffffu, "4 GiB" }, { PH0 + 24, 8, ~0ULL, "4 GiB" },
		{ PH0 + 40, 8, ~0ULL, "4 GiB" }, { PH0 + 40, 8, 0x2fff, "4 GiB" },
		{ PH0 + 40, 8, 0x3001, "overlap" }, { PH1 + 24, 8, 0x102fff, "overlap" },
		{ NOTE, 4, 0, "PVH" }, { NOTE + 32, 8, 19, "PVH" },
		{ NOTE + 32, 8, ~0ULL, "outside" },
		{ 64 + 3 * 56, 4, 5, "PVH" }, { 64 + 3 * 56, 4, ~0u, "PVH" },
		{ 64 + 3 * 56 + 4, 4, 5, "PVH" }, { 64 + 3 * 56 + 4, 4, ~0u, "PVH" },
		{ 64 + 3 * 56 + 8, 4, 17, "PVH" }, { 64 + 3 * 56 + 12, 4, 0, "PVH" },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t size = make(true);
		const char *error;

		elf_put(file + cases[i].at, cases[i].value, cases[i].size);
		error = kernel_parse(file, size, &k);
		if (!error || !strstr(error, cases[i].word))
			print_error("case %u: %s\n", i, error ? error : "accepted");
		assert_true(error && strstr(error, cases[i].word));
	}
}

static void test_elf_notes(void **state)
{
	size_t at = elf_note_offset(true, ARRAY_SIZE(parts)), size;
	static const uint8_t other[] = "\6\0\0\0\3\0\0\0\1\0\0\0Other\0\0\0abc";

	(void)state;
	size = make(true);
	/* Another note before ours, and an entry of eight bytes. */
	memcpy(file + at, other, sizeof(other));
	memcpy(file + at + 24, "\4\0\0\0\10\0\0\0\22\0\0\0Xen\0\0\x10\x10\0\0\0\0\0", 24);
	elf_put(file + 64 + 2 * 56 + 32, 48, 8);
	assert_null(kernel_parse(file, size, &k));
	assert_int_equal(k.elf.entry, 0x101000);
	file[at + 24 + 20] = 1;
	assert_non_null(kernel_parse(file, size, &k));
}

static void test_elf_many_segments(void **state)
{
	struct elf_part many[ELF_SEGMENTS_MAX + 1];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct elf_part){ 0x100000 + 0x1000 * i, 16, 0x1000, 0x1000 };
	memset(file, 0, sizeof(file));
	elf_make(file, true, many, ELF_SEGMENTS_MAX, 0x100000);
	assert_null(kernel_parse(file, 0x2000, &k));
	many[3].memsz = many[3].filesz = 0;	/* an empty one does not count */
	elf_make(file, true, many, ELF_SEGMENTS_MAX + 1, 0x100000);
	assert_null(kernel_parse(file, 0x2000, &k));
	many[3].memsz = many[3].filesz = 16;
	elf_make(file, true, many, ELF_SEGMENTS_MAX + 1, 0x100000);
	assert_non_null(strstr(kernel_parse(file, 0x2000, &k), "too many"));
}

static size_t make_bzimage(const void *magic, size_t len)
{
	memset(file, 0, sizeof(file));
	file[0x1f1] = 2;
	memcpy(file + 0x202, "HdrS", 4);
	elf_put(file + 0x206, 0x20f, 2);
	elf_put(file + 0x248, 0x100, 4);
	elf_put(file + 0x24c, 0x2000, 4);
	memcpy(file + 3 * 512 + 0x100, magic, len);
	elf_put(file + 3 * 512 + 0x100 + 0x2000 - 4, 0x1234567, 4);
	return 3 * 512 + 0x100 + 0x2000;
}

static void test_bzimage(void **state)
{
	size_t size = make_bzimage("\xfd" "7zXZ", 6);

	(void)state;
	assert_null(kernel_parse(file, size, &k));
	assert_ptr_equal(k.payload, file + 3 * 512 + 0x100);
	assert_int_equal(k.payload_size, 0x2000);
	assert_int_equal(k.end, 0x1234567);
	/* The program to load is the unpacker. */
	assert_ptr_equal(k.file, unpack_elf);
	assert_int_equal(k.elf.nr_segments, 1);
	assert_int_equal(k.elf.segment[0].paddr, 0);
	assert_true(k.elf.segment[0].filesz <= 11 * 1024 && k.elf.end <= 128 * 1024);
	assert_true(k.elf.entry && k.elf.entry < k.elf.segment[0].filesz);
	assert_non_null(strstr(kernel_parse(file, size - 1, &k), "cut short"));
	elf_put(file + 0x248, 0xffffffff, 4);
	assert_non_null(strstr(kernel_parse(file, size, &k), "cut short"));
	make_bzimage("\x02\x21\x4c\x18", 4);
	assert_null(kernel_parse(file, size, &k));
	elf_put(file + 0x24c, 15, 4);
	assert_non_null(strstr(kernel_parse(file, size, &k), "cut short"));
	/* Four sectors when the field is zero. */
	make_bzimage("", 1);
	file[0x1f1] = 0;
	memcpy(file + 5 * 512 + 0x100, "\x02\x21\x4c\x18", 4);
	assert_null(kernel_parse(file, sizeof(file), &k));
	elf_put(file + 0x206, 0x207, 2);
	assert_non_null(strstr(kernel_parse(file, size, &k), "too old"));
}

static void test_bzimage_refused(void **state)
{
	static const struct { const char *magic, *name; } cases[] = {
		{ "\x1f\x8b\x08", "gzip" }, { "\x28\xb5\x2f\xfd", "zstd" }, { "\x89LZO", "lzo" },
		{ "BZh9", "bzip2" }, { "\x5d\0\0", "lzma" }, { "what", "unknown" },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t size = make_bzimage(cases[i].magic, 4);
		const char *error = kernel_parse(file, size, &k);

		assert_non_null(error);
		assert_non_null(strstr(error, cases[i].name));
		assert_non_null(strstr(error, "scripts/extract-vmlinux.py"));
	}
	assert_non_null(strstr(kernel_parse((const uint8_t *)"#!/bin/sh", 9, &k), "kernel="));
}

/* --- ACPI -------------------------------------------------------------------- */

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

#define ACPI_BASE 0x5ff0000u

/* The table at a guest address: its signature and check sum are right. */
static const uint8_t *table(const uint8_t *buf, size_t size, uint64_t gpa, const char *signature)
{
	const uint8_t *t = buf + (gpa - ACPI_BASE);

	assert_true(gpa >= ACPI_BASE && gpa - ACPI_BASE + 36 <= size);
	assert_memory_equal(t, signature, 4);
	assert_true(gpa - ACPI_BASE + get32(t + 4) <= size);
	assert_int_equal(sum(t, get32(t + 4)), 0);
	return t;
}

static void check_dsdt(const uint8_t *dsdt, unsigned int n)
{
	const uint8_t *p = dsdt + 36, *end = dsdt + get32(dsdt + 4);

	assert_int_equal(*p, 0x10);		/* ScopeOp, PkgLength of three bytes */
	assert_int_equal(p[1] >> 6, 2);
	assert_ptr_equal(p + 1 + ((p[1] & 15) | p[2] << 4 | p[3] << 12), end);
	assert_memory_equal(p + 4, "\\_SB_", 5);
	p += 9;
	for (unsigned int i = 0; i < n; i++) {
		char name[5];

		snprintf(name, sizeof(name), "C%03u", i);
		assert_memory_equal(p, "\x5b\x82", 2);
		assert_true(p[2] < 64);		/* a PkgLength of one byte */
		assert_memory_equal(p + 3, name, 4);
		assert_memory_equal(p + 7, "\x08_HID\x0d" "ACPI0007\0\x08_UID\x0a", 21);
		assert_int_equal(p[28], i);
		p += 2 + p[2];
	}
	assert_ptr_equal(p, end);
}

static void test_acpi(void **state)
{
	static const unsigned int counts[] = { 1, 2, 7, 128 };

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned int n = counts[i];
		size_t size = acpi_guest_size(n);
		uint8_t *buf = calloc(1, size);
		const uint8_t *xsdt, *fadt, *madt;

		acpi_guest_build(buf, ACPI_BASE, n);
		assert_memory_equal(buf, "RSD PTR ", 8);
		assert_int_equal(sum(buf, 20), 0);
		assert_int_equal(sum(buf, 36), 0);
		assert_int_equal(buf[15], 2);
		xsdt = table(buf, size, get32(buf + 24), "XSDT");
		assert_int_equal(get32(xsdt + 4), 36 + 2 * 8);
		fadt = table(buf, size, get32(xsdt + 36), "FACP");
		assert_true(get32(fadt + 112) >> 20 & 1);
		assert_int_equal(get32(fadt + 40), get32(fadt + 140));
		check_dsdt(table(buf, size, get32(fadt + 140), "DSDT"), n);
		madt = table(buf, size, get32(xsdt + 44), "APIC");
		assert_int_equal(get32(madt + 4), 44 + 8 * n);
		assert_int_equal(get32(madt + 36), 0xfee00000);
		for (unsigned int j = 0; j < n; j++) {
			const uint8_t e[] = { 0, 8, (uint8_t)j, (uint8_t)(2 * j), 1, 0, 0, 0 };

			assert_memory_equal(madt + 44 + 8 * j, e, 8);
		}
		free(buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elf), cmocka_unit_test(test_elf_errors),
		cmocka_unit_test(test_elf_notes), cmocka_unit_test(test_elf_many_segments),
		cmocka_unit_test(test_bzimage), cmocka_unit_test(test_bzimage_refused),
		cmocka_unit_test(test_acpi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
