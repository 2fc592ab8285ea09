/* SPDX-License-Identifier: MIT */
/*
 * The log: format of a line, levels, the ring against a model, panic mode.
 */
#include "unit.h"

#include <pthread.h>

#include "hospes/log.h"
#include "port/testport.h"

static uint64_t mark;		/* the log before the test's own lines */

static void set_mark(void)
{
	mark = UINT64_MAX;
	log_read(&mark, NULL, 0);
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(0, 1);
	log_console_level = LOG_INFO;
	set_mark();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_machine_fini();
	return 0;
}

/* Everything in the ring since the mark, NUL-terminated. */
static char *ring_text(void)
{
	static char text[LOG_RING_SIZE + 1];
	uint64_t pos = mark;
	size_t n = log_read(&pos, text, LOG_RING_SIZE);

	text[n] = '\0';
	return text;
}

static void test_line(void **state)
{
	(void)state;
	log_info("%u guests in %s", 3, "memory");
	assert_string_equal(ring_text(), "[    0.001000] 3 guests in memory\n");
	assert_string_equal(test_console_output(), "[    0.001000] 3 guests in memory\r\n");
	test_advance_ns(12345678901234ULL);
	set_mark();
	log_info("later");
	assert_string_equal(ring_text(), "[12345.679901] later\n");
}

static void test_levels(void **state)
{
	(void)state;
	log_debug("only in the ring");
	assert_string_equal(test_console_output(), "");
	assert_non_null(strstr(ring_text(), "only in the ring"));
	log_console_level = LOG_DEBUG;
	log_debug("debug");
	log_console_level = LOG_ERR;
	log_warn("warning");
	log_err("error");
	assert_non_null(strstr(test_console_output(), "debug"));
	assert_null(strstr(test_console_output(), "warning"));
	assert_non_null(strstr(test_console_output(), "error"));
	assert_non_null(strstr(ring_text(), "warning"));
}

static void test_hostile_text(void **state)
{
	char longest[400];
	const char *text;

	(void)state;
	log_info("name '%s'", "\x1b[2J\r\nfake\t\x7f\x80");
	assert_string_equal(ring_text(), "[    0.001000] name '?[2J??fake??\x80'\n");
	set_mark();
	test_console_clear();
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	log_info("%s", longest);
	text = ring_text();
	assert_int_equal(strlen(text), 15 + 255 + 1);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_int_equal(strlen(test_console_output()), 15 + 255 + 2);
}

static void test_positions(void **state)
{
	uint64_t end = UINT64_MAX, start = 0;
	char buf[8];

	(void)state;
	assert_int_equal(log_read(&end, buf, sizeof(buf)), 0);
	log_info("abc");
	assert_int_equal(log_read(&end, buf, 0), 0);
	assert_int_equal(log_read(&end, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "[    0.0", 8);
	/* Far beyond the end there is nothing, and the position comes back. */
	start = end + 1000000;
	assert_int_equal(log_read(&start, buf, sizeof(buf)), 0);
	assert_int_equal(start, end + 11);
}

/* The ring must be the last LOG_RING_SIZE bytes of all that was ever written. */
static void test_ring_against_model(void **state)
{
	static char model[1 << 20];
	static char piece[LOG_RING_SIZE];
	size_t written = 0;
	uint64_t base, pos, reader;

	(void)state;
	base = mark;
	reader = base;
	srand(1);
	log_console_level = LOG_ERR;
	while (written < sizeof(model) - 512) {
		int len = rand() % 200;

		for (int i = 0; i < len; i++)
			piece[i] = (char)('a' + rand() % 26);
		log_info("%.*s", len, piece);
		written += (size_t)sprintf(model + written, "[    0.001000] %.*s\n", len, piece);
		if (rand() % 16)
			continue;
		pos = base;
		while ((len = (int)log_read(&pos, piece, (size_t)(1 + rand() % 4096))) > 0) {
			assert_true(pos - base <= written);
			assert_memory_equal(piece, model + (pos - base) - (size_t)len, (size_t)len);
		}
		assert_int_equal(pos - base, written);
		/* One that reads seldom misses what was overwritten and no more. */
		if (rand() % 8 == 0) {
			uint64_t oldest = written > LOG_RING_SIZE ? written - LOG_RING_SIZE : 0;
			uint64_t from = reader - base > oldest ? reader - base : oldest;

			len = (int)log_read(&reader, piece, sizeof(piece));
			assert_int_equal(len, written - from);
			assert_memory_equal(piece, model + from, (size_t)len);
		}
	}
	assert_true(written > 8 * LOG_RING_SIZE);
}

static void *keep_logging(void *arg)
{
	test_set_cpu((unsigned int)(uintptr_t)arg);
	for (int i = 0; i < 2000; i++)
		log_debug("cpu %u line %d", (unsigned int)(uintptr_t)arg, i);
	return NULL;
}

static void test_two_cpus(void **state)
{
	unsigned int next[2] = { 0, 0 }, who, nr, lines = 0;
	pthread_t thread;
	char *line;

	(void)state;
	test_machine_fini();
	test_machine_init(0, 2);
	test_set_threaded(true);
	pthread_create(&thread, NULL, keep_logging, (void *)1);
	for (unsigned int i = 0; i < 2000; i++)
		log_debug("cpu 0 line %u", i);
	pthread_join(thread, NULL);
	/* Whole lines, each CPU's in order. */
	line = strchr(ring_text(), '\n') + 1;
	for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
		assert_int_equal(sscanf(line, "[    0.001000] cpu %u line %u\n", &who, &nr), 2);
		assert_true(who < 2 && nr >= next[who]);
		next[who] = nr + 1;
	}
	assert_true(lines > 1000);
	assert_int_equal(next[0], 2000);
	assert_int_equal(next[1], 2000);
}

/* Last: nothing takes the log back out of panic mode. */
static void test_panic_mode(void **state)
{
	(void)state;
	atomic_store(&log_panicking, true);
	log_err("last words");
	assert_non_null(strstr(test_console_output(), "last words"));
	assert_non_null(strstr(ring_text(), "last words"));
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_line),
		TEST(test_levels),
		TEST(test_hostile_text),
		TEST(test_positions),
		TEST(test_ring_against_model),
		TEST(test_two_cpus),
		TEST(test_panic_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
