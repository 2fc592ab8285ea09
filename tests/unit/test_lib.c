/* SPDX-License-Identifier: MIT */
/*
 * The small C library: numbers, strings, formatting, and (under other names)
 * the memory and string functions that hosted builds take from libc.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/lib.h"

/* The freestanding functions, renamed so that they do not replace libc's. */
#define memcpy hv_memcpy
#define memmove hv_memmove
#define memset hv_memset
#define memcmp hv_memcmp
#define strlen hv_strlen
#define strnlen hv_strnlen
#define strcmp hv_strcmp
#define strncmp hv_strncmp
void *hv_memcpy(void *restrict dst, const void *restrict src, size_t n);
void *hv_memmove(void *dst, const void *src, size_t n);
void *hv_memset(void *dst, int c, size_t n);
int hv_memcmp(const void *a, const void *b, size_t n);
size_t hv_strlen(const char *s);
size_t hv_strnlen(const char *s, size_t max);
int hv_strcmp(const char *a, const char *b);
int hv_strncmp(const char *a, const char *b, size_t n);
#include "core/str.c"
#include "port/metal/mem.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

static void test_mem(void **state)
{
	char buf[16] = "abcdefgh";

	(void)state;
	assert_ptr_equal(hv_memmove(buf + 2, buf, 6), buf + 2);
	assert_memory_equal(buf, "ababcdef", 8);
	hv_memmove(buf, buf + 2, 6);
	assert_memory_equal(buf, "abcdefef", 8);
	hv_memset(buf, 0x1ff, 3);
	assert_memory_equal(buf, "\xff\xff\xff" "def", 6);
	hv_memcpy(buf, "xyz", 3);
	assert_memory_equal(buf, "xyzdef", 6);
	assert_true(hv_memcmp("a\x80", "a\x7f", 2) > 0);
	assert_true(hv_memcmp("abc", "abd", 3) < 0);
	assert_int_equal(hv_memcmp("abc", "abd", 2), 0);
}

static void test_str(void **state)
{
	static const char *const words[] = { "", "a", "ab", "abc", "b", "\xff", "abd" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_int_equal(hv_strlen(words[i]), strlen(words[i]));
		assert_int_equal(hv_strnlen(words[i], 2), strnlen(words[i], 2));
		for (size_t j = 0; j < ARRAY_SIZE(words); j++) {
			assert_int_equal(sign(hv_strcmp(words[i], words[j])),
					 sign(strcmp(words[i], words[j])));
			assert_int_equal(sign(hv_strncmp(words[i], words[j], 2)),
					 sign(strncmp(words[i], words[j], 2)));
		}
	}
}

static void check_u64(const char *text, int rc, uint64_t value, size_t used)
{
	const char *p = text;
	uint64_t v = 77;

	assert_int_equal(parse_u64(&p, &v), rc);
	assert_int_equal(v, rc ? 77 : value);
	assert_int_equal(p - text, used);
}

static void test_parse_u64(void **state)
{
	(void)state;
	check_u64("0", 0, 0, 1);
	check_u64("42,", 0, 42, 2);
	check_u64("0x1fG", 0, 0x1f, 4);
	check_u64("0xg", 0, 0, 1);
	check_u64("18446744073709551615", 0, UINT64_MAX, 20);
	check_u64("0xffffffffffffffff", 0, UINT64_MAX, 18);
	check_u64("18446744073709551616", -XEN_ERANGE, 0, 0);
	check_u64("99999999999999999999", -XEN_ERANGE, 0, 0);
	check_u64("0x10000000000000000", -XEN_ERANGE, 0, 0);
	check_u64("", -XEN_EINVAL, 0, 0);
	check_u64("-1", -XEN_EINVAL, 0, 0);
	check_u64("k", -XEN_EINVAL, 0, 0);
}

/* Both formatters must agree on the text and on the length, also when it is cut. */
#define CHECK_FORMAT(...) do {						\
	for (size_t size = 1; size <= 64; size++) {			\
		char ours[64], theirs[64];				\
		int a = hv_snprintf(ours, size, __VA_ARGS__);		\
		int b = snprintf(theirs, size, __VA_ARGS__);		\
		assert_string_equal(ours, theirs);			\
		assert_int_equal(a, b);					\
	}								\
} while (0)

static void test_snprintf(void **state)
{
	(void)state;
	CHECK_FORMAT("plain");
	CHECK_FORMAT("%c%c%%", 'a', 'b');
	CHECK_FORMAT("[%s] [%8s] [%-8s] [%.2s] [%.*s]", "abc", "abc", "abc", "abc", 2, "abc");
	CHECK_FORMAT("%d %d %5d %-5d| %05d", 0, -1, -42, -42, 42);
	CHECK_FORMAT("%u %x %08x %-8x|", 42u, 0xbeefu, 0xbeefu, 0xbeefu);
	CHECK_FORMAT("%ld %lu %lx", INT64_MIN, UINT64_MAX, UINT64_MAX);
	CHECK_FORMAT("%lld %llu %llx", INT64_MIN + 0LL, UINT64_MAX + 0ULL, 0x123456789abcdefULL);
	CHECK_FORMAT("%016lx %20ld|%-20ld|", 0xabcdefUL, -5L, -5L);
}

static void test_snprintf_odd(void **state)
{
	char buf[32];
	const char *unknown = "%5q 100%";	/* not a literal: the compiler would object */
	const char *null = NULL;

	(void)state;
	assert_int_equal(hv_snprintf(NULL, 0, "%d", 12345), 5);
	hv_snprintf(buf, sizeof(buf), "%s", null);
	assert_string_equal(buf, "(null)");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	hv_snprintf(buf, sizeof(buf), unknown);
#pragma GCC diagnostic pop
	assert_string_equal(buf, unknown);
}

static void test_bits(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(ffs64(0), -1);
	assert_int_equal(fls64(0), -1);
	assert_int_equal(ffs64(0x8000000000000010ULL), 4);
	assert_int_equal(fls64(0x8000000000000010ULL), 63);
	assert_true(add_overflows(UINT64_MAX, 1, &v));
	assert_false(add_overflows(UINT64_MAX, 0, &v));
	assert_int_equal(v, UINT64_MAX);
	assert_true(mul_overflows(1ULL << 32, 1ULL << 32, &v));
	assert_false(mul_overflows(1ULL << 32, 1ULL << 31, &v));
	assert_true(range_within(0, 0, 0));
	assert_true(range_within(5, 5, 10));
	assert_false(range_within(5, 6, 10));
	assert_false(range_within(11, 0, 10));
	assert_false(range_within(5, UINT64_MAX, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mem),
		cmocka_unit_test(test_str),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_snprintf),
		cmocka_unit_test(test_snprintf_odd),
		cmocka_unit_test(test_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
