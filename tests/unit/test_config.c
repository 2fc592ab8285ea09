/* SPDX-License-Identifier: MIT */
/*
 * Words, options and guest lines: what is understood, what is refused, and
 * that a refusal names guest, key and remedy.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/cmdline.h"
#include "hospes/guest_config.h"
#include "hospes/log.h"

static char log_text[8192];

void log_printf(enum log_level level, const char *fmt, ...)
{
	size_t len = strlen(log_text);
	va_list ap;

	(void)level;
	va_start(ap, fmt);
	vsnprintf(log_text + len, sizeof(log_text) - len, fmt, ap);
	va_end(ap);
	strncat(log_text, "\n", sizeof(log_text) - strlen(log_text) - 1);
}

#define assert_logged(text) \
	do { \
		if (!strstr(log_text, text)) \
			fail_msg("not logged: %s\nlog: %s", text, log_text); \
	} while (0)

static void check_words(const char *text, const char *const *want)
{
	const char *pos = text;
	char word[64];

	for (; *want; want++) {
		assert_int_equal(cmdline_next(&pos, text + strlen(text), word, sizeof(word)), 1);
		assert_string_equal(word, *want);
	}
	assert_int_equal(cmdline_next(&pos, text + strlen(text), word, sizeof(word)), 0);
}

#define WORDS(...) ((const char *const []){ __VA_ARGS__, NULL })

static void test_words(void **state)
{
	(void)state;
	check_words("  a b=c\t\n d ", WORDS("a", "b=c", "d"));
	check_words("a='b c' d", WORDS("a=b c", "d"));
	check_words("g=\"x args='1 2'\" z", WORDS("g=x args='1 2'", "z"));
	check_words("\"g=x args=\\'1 2\\'\"", WORDS("g=x args='1 2'"));
	check_words("a\\b \\\\ '' x", WORDS("a\\b", "\\", "", "x"));
}

static void test_words_bad(void **state)
{
	const char *text = "abcdefgh 'no end", *pos = text, *end = text + strlen(text);
	char word[4];

	(void)state;
	assert_int_equal(cmdline_next(&pos, end, word, sizeof(word)), -XEN_E2BIG);
	assert_string_equal(word, "abc");
	assert_int_equal(cmdline_next(&pos, end, word, sizeof(word)), -XEN_EINVAL);
	assert_int_equal(cmdline_next(&pos, end, word, sizeof(word)), 0);
}

struct target {
	bool flag;
	uint8_t choice;
	uint32_t number, pair[2];
	uint64_t size, cpus;
	char text[5], name[5];
};

#define T(field, kind, lo, hi, list) \
	OPTION(struct target, field, kind, lo, hi, list)

static const struct option table[] = {
	T(flag, OPT_FLAG, 0, 0, "no|yes"),
	T(choice, OPT_CHOICE, 0, 0, "ab|abc|c"),
	T(number, OPT_UINT, 3, 9, NULL),
	T(pair, OPT_PAIR, 10, 100, NULL),
	T(size, OPT_SIZE, 4096, 8ULL << 30, NULL),
	T(cpus, OPT_CPUS, 0, 63, NULL),
	T(text, OPT_TEXT, 1, 4, NULL),
	T(name, OPT_NAME, 1, 4, NULL),
};

static struct target target;

static bool set(const char *name, const char *value)
{
	return !option_set(option_find(table, ARRAY_SIZE(table), name), &target, value);
}

static void test_option_values(void **state)
{
	(void)state;
	memset(&target, 0, sizeof(target));
	assert_true(set("flag", NULL) && target.flag);
	assert_true(set("flag", "no") && !target.flag);
	assert_true(set("choice", "abc") && target.choice == 1);
	assert_true(set("choice", "c") && target.choice == 2);
	assert_true(set("number", "0x9") && target.number == 9);
	assert_true(set("pair", "100:10") && target.pair[0] == 100 && target.pair[1] == 10);
	assert_true(set("size", "3") && target.size == 3 << 20);
	assert_true(set("size", "2G") && target.size == 2ULL << 30);
	assert_true(set("cpus", "0-1,3,63") && target.cpus == (0xbULL | 1ULL << 63));
	assert_true(set("cpus", "0-63") && target.cpus == ~0ULL);
	assert_true(set("text", "a b=") && !strcmp(target.text, "a b="));
	assert_true(set("name", "a-Z9") && !strcmp(target.name, "a-Z9"));
	assert_null(option_find(table, ARRAY_SIZE(table), "flags"));
}

static void test_option_refusals(void **state)
{
	static const char *const bad[][2] = {
		{ "flag", "maybe" }, { "flag", "" }, { "choice", "a" }, { "choice", "" },
		{ "choice", "ab|abc" }, { "choice", "cc" }, { "choice", NULL },
		{ "number", "2" }, { "number", "10" }, { "number", "" }, { "number", "5x" },
		{ "number", "99999999999999999999" }, { "number", "4294967299" },
		{ "pair", "100" }, { "pair", "100:" }, { "pair", "10:11" }, { "pair", "100:9" },
		{ "pair", "100:10:1" }, { "size", "0" }, { "size", "9G" }, { "size", "4097K" },
		{ "size", "1Gx" }, { "size", "18446744073709551615" }, { "size", "K" },
		{ "cpus", "" }, { "cpus", "64" }, { "cpus", "3-1" }, { "cpus", "1," },
		{ "cpus", "0-" }, { "cpus", "1-2-3" }, { "cpus", ",1" }, { "text", "" },
		{ "text", "abcde" }, { "name", "a b" }, { "name", "a\x1b" },
	};
	struct target before = target;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (set(bad[i][0], bad[i][1]))
			fail_msg("%s=%s is accepted", bad[i][0], bad[i][1]);
	}
	assert_memory_equal(&before, &target, sizeof(target));
}

static void test_option_explain(void **state)
{
	char buf[128], small[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		option_explain(&table[i], buf, sizeof(buf));
		assert_true(strlen(buf) > 5);
		option_explain(&table[i], small, sizeof(small));
		assert_int_equal(strlen(small), 3);
	}
	option_explain(&table[2], buf, sizeof(buf));
	assert_string_equal(buf, "a number from 3 to 9");
}

static void test_hv_options(void **state)
{
	const struct hv_options defaults = hv_options;

	(void)state;
	log_text[0] = 0;
	hv_options_parse("/boot/hospes.elf loglevel=3 guest=\"name=x loglevel=1\" console=com2"
			 " noreboot baud=9600 cpus=2");
	assert_string_equal(log_text, "");
	assert_int_equal(hv_options.loglevel, 3);
	assert_int_equal(hv_options.console, HV_CONSOLE_COM2);
	assert_true(hv_options.noreboot);
	assert_false(hv_options.selftest);
	assert_int_equal(hv_options.baud, 9600);
	assert_int_equal(hv_options.cpus, 2);

	hv_options_parse("noreboot=no colour=blue cpus=65 cpus selftest=yes verbose");
	assert_logged("option colour is unknown");
	assert_logged("option verbose is unknown");
	assert_logged("option cpus=65 is ignored: it must be a number from 1 to 64");
	assert_int_equal(hv_options.cpus, 2);
	assert_false(hv_options.noreboot);
	assert_true(hv_options.selftest);
	hv_options = defaults;
}

/* Modules in the tests: start is a pointer to the content. */
static const void *map_module(paddr_t start, uint64_t size)
{
	(void)size;
	return (const void *)(uintptr_t)start;
}

static struct guest_list list;

static void load(const char *cmdline, const char *const *modules, const char *file)
{
	struct boot_info info = { .cmdline = cmdline };

	for (; *modules; modules++) {
		info.modules[info.nr_modules++] = (struct boot_module){
			.cmdline = *modules, .start = (uintptr_t)file,
			.size = file ? strlen(file) : 0,
		};
	}
	log_text[0] = 0;
	guest_list_load(&info, map_module, &list);
}

static void test_control_line(void **state)
{
	(void)state;
	load("hospes guest='name=a kernel=#0' control='kernel=#0 memory=1G vcpus=4'"
	     " control='kernel=#0 name=other'", WORDS("vmlinuz"), NULL);
	assert_int_equal(list.nr, 2);
	assert_int_equal(list.rejected, 1);
	assert_logged("a second control= is ignored");
	assert_true(list.guest[0].control);
	assert_string_equal(list.guest[0].name, "control");
	assert_int_equal(list.guest[0].vcpus, 4);
	assert_false(list.guest[1].control);
	assert_string_equal(list.guest[1].name, "a");
	load("hospes control='kernel=nowhere'", WORDS("vmlinuz"), NULL);
	assert_int_equal(list.nr, 0);
	assert_logged("guest control: kernel=nowhere");
}

static void test_guest_line(void **state)
{
	const struct guest_config *g = &list.guest[0];

	(void)state;
	load("hospes loglevel=1 guest=\"name=web kernel=vmlinuz initrd=initrd.gz memory=512M"
	     " vcpus=2"
	     " weight=512 cap=50 cpus=0-1 rt=10000:2500 on_crash=restart max_grant_frames=32"
	     " evtchn=2level args='console=hvc0 quiet'\" guest='kernel=#1'",
	     WORDS("path/to/initrd.gz", "/boot/vmlinuz root=/dev/xvda ro"), NULL);
	assert_string_equal(log_text, "");
	assert_int_equal(list.nr, 2);
	assert_string_equal(g->name, "web");
	assert_string_equal(g->args, "console=hvc0 quiet");
	assert_int_equal(g->kernel_module, 1);
	assert_int_equal(g->initrd_module, 0);
	assert_int_equal(g->memory, 512 << 20);
	assert_int_equal(g->vcpus, 2);
	assert_int_equal(g->weight, 512);
	assert_int_equal(g->cap, 50);
	assert_int_equal(g->cpus, 3);
	assert_int_equal(g->rt[0], 10000);
	assert_int_equal(g->rt[1], 2500);
	assert_int_equal(g->on_crash, ON_CRASH_RESTART);
	assert_int_equal(g->max_grant_frames, 32);
	assert_int_equal(g->evtchn, GUEST_EVTCHN_2LEVEL);

	/* Defaults, and the kernel module's own arguments. */
	g = &list.guest[1];
	assert_string_equal(g->name, "guest1");
	assert_string_equal(g->args, "root=/dev/xvda ro");
	assert_int_equal(g->kernel_module, 1);
	assert_int_equal(g->initrd_module, -1);
	assert_int_equal(g->memory, 256 << 20);
	assert_int_equal(g->vcpus, 1);
	assert_int_equal(g->rt[0], 0);
	assert_int_equal(g->on_crash, ON_CRASH_DESTROY);
}

static void test_guest_errors(void **state)
{
	static const char *const bad[][2] = {
		{ "vcpus=1", "guest b: kernel= is missing: name a boot module" },
		{ "kernel=k memory=0", "guest b: memory=0: must be a size such as" },
		{ "kernel=k vcpus=0", "guest b: vcpus=0: must be a number from 1 to 128" },
		{ "kernel=k vcpus=129", "guest b: vcpus=129: must be a number from 1 to 128" },
		{ "kernel=k rt=100:200", "guest b: rt=100:200: must be two numbers" },
		{ "kernel=k colour=red", "guest b: the key colour is unknown: remove it" },
		{ "kernel=none", "guest b: kernel=none: no boot module has that name" },
		{ "kernel=#2", "guest b: kernel=#2: no boot module has that name" },
		{ "kernel=#0x", "guest b: kernel=#0x: no boot module has that name" },
		{ "kernel=k initrd=i", "guest b: initrd=i: no boot module has that name" },
		{ "kernel=k name=a", "guest a: name= is taken by another guest: choose another" },
		{ "kernel=k name=x/y", "guest b: name=x/y: must be 1 to 31 characters" },
		{ "kernel=k args=\\'x", "guest b: args: a quote has no end: close it" },
	};
	char line[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(line, sizeof(line), "guest='name=a kernel=k' guest=\"name=b %s\""
			 " guest='name=c kernel=k'", bad[i][0]);
		load(line, WORDS("k", "other"), NULL);
		assert_logged(bad[i][1]);
		assert_int_equal(list.nr, 2);
		assert_int_equal(list.rejected, 1);
		assert_string_equal(list.guest[1].name, "c");
	}
}

static void test_guest_long(void **state)
{
	static char line[4096];
	size_t len;

	(void)state;
	len = (size_t)sprintf(line, "guest=\"name=a kernel=k args='");
	memset(line + len, 'x', 1023);
	strcpy(line + len + 1023, "'\"");
	load(line, WORDS("k"), NULL);
	assert_int_equal(list.nr, 1);
	assert_int_equal(strlen(list.guest[0].args), 1023);

	strcpy(line + len + 1023, "x'\"");
	load(line, WORDS("k"), NULL);
	assert_int_equal(list.nr, 0);
	assert_logged("guest a: args=xxx");
	assert_logged("must be 0 to 1023 characters");

	memset(line + len, 'x', 3000);
	strcpy(line + len + 3000, "'\" guest='name=b kernel=k'");
	load(line, WORDS("k"), NULL);
	assert_logged("longer than 2047 characters: shorten args=");
	assert_int_equal(list.nr, 1);
	assert_int_equal(list.rejected, 1);

	line[0] = 'k';
	line[1] = ' ';
	memset(line + 2, 'x', 1024);
	line[1026] = 0;
	load("guest='name=a kernel=k'", WORDS(line), NULL);
	assert_logged("guest a: the arguments of module 0 are longer than 1023 characters");
	assert_int_equal(list.nr, 0);
}

static void test_guest_file(void **state)
{
	static const char file[] =
		"# two guests\n\n\tname=a kernel=#1\r\n"
		"  # guest=\"name=x kernel=#1\"\n"
		"guest=\"name=b kernel=#1 args='q r'\"\n"
		"kernel=nowhere\nname=c kernel=#1";

	(void)state;
	load("guest='name=z kernel=#1'", WORDS("/etc/guests.cfg", "vmlinuz"), file);
	assert_int_equal(list.nr, 4);
	assert_int_equal(list.rejected, 1);
	assert_string_equal(list.guest[0].name, "z");
	assert_string_equal(list.guest[1].name, "a");
	assert_string_equal(list.guest[2].name, "b");
	assert_string_equal(list.guest[2].args, "q r");
	assert_string_equal(list.guest[3].name, "c");
	load("", WORDS("config", "vmlinuz"), file);
	assert_int_equal(list.nr, 3);
	load("", WORDS("configure", "vmlinuz"), file);
	assert_string_equal(list.guest[0].name, "guest0");
}

static void test_guest_default(void **state)
{
	(void)state;
	load("hospes", WORDS("boot/vmlinuz console=hvc0", "initrd.gz"), NULL);
	assert_int_equal(list.nr, 1);
	assert_string_equal(list.guest[0].name, "guest0");
	assert_string_equal(list.guest[0].args, "console=hvc0");
	assert_int_equal(list.guest[0].kernel_module, 0);
	assert_int_equal(list.guest[0].initrd_module, 1);
	load("hospes", WORDS("vmlinuz"), NULL);
	assert_int_equal(list.guest[0].initrd_module, -1);
	load("hospes", (const char *const []){ NULL }, NULL);
	assert_int_equal(list.nr, 0);
	/* A bad guest line means that guests were described: no guess then. */
	load("guest='kernel=none'", WORDS("vmlinuz"), NULL);
	assert_int_equal(list.nr, 0);
}

static void test_guest_too_many(void **state)
{
	static char line[64 * 40];
	size_t len = 0;

	(void)state;
	for (int i = 0; i < 40; i++)
		len += (size_t)sprintf(line + len, "guest='name=g%d kernel=#0' ", i);
	load(line, WORDS("k"), NULL);
	assert_int_equal(list.nr, GUESTS_MAX);
	assert_int_equal(list.rejected, 8);
	assert_logged("more than 32 guests: \"name=g39 kernel=#0\" is ignored");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_words_bad),
		cmocka_unit_test(test_option_values),
		cmocka_unit_test(test_option_refusals),
		cmocka_unit_test(test_option_explain),
		cmocka_unit_test(test_hv_options),
		cmocka_unit_test(test_control_line),
		cmocka_unit_test(test_guest_line),
		cmocka_unit_test(test_guest_errors),
		cmocka_unit_test(test_guest_long),
		cmocka_unit_test(test_guest_file),
		cmocka_unit_test(test_guest_default),
		cmocka_unit_test(test_guest_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
