/* SPDX-License-Identifier: MIT */
/*
 * Guest consoles: rings with honest and hostile indices, the focus, whole lines of the others, the
 * debug port, and the key menu.
 */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/page.h"
#include "port/testport.h"

#define RING_GFN 8
#define CTRL_A "\x01\x01\x01"

static struct domain *dom[2];
static struct xencons_interface *ring[2];
static uint32_t port[2];

static struct domain *make_domain(const char *name)
{
	struct domain_create c = {
		.id = DOMID_INVALID, .name = name, .nr_vcpus = 1, .max_pages = 64,
		.max_evtchn_port = 1023, .max_grant_frames = 4, .max_maptrack_frames = 4,
		.max_grant_version = 2,
	};
	struct domain *d;

	assert_int_equal(domain_create(&c, &d), 0);
	for (uint64_t gfn = 0; gfn < 16; gfn++)
		assert_int_equal(p2m_populate(d, GFN(gfn), 0), 0);
	return d;
}

static void attach(unsigned int i)
{
	struct guest_pin pin;

	assert_int_equal(console_attach(dom[i], GFN(RING_GFN)), 0);
	assert_int_equal(dom[i]->params[HVM_PARAM_CONSOLE_PFN], RING_GFN);
	port[i] = (uint32_t)dom[i]->params[HVM_PARAM_CONSOLE_EVTCHN];
	assert_int_not_equal(port[i], 0);
	assert_int_equal(guest_pin(dom[i], GFN(RING_GFN), &pin), 0);
	ring[i] = pin.va;
	guest_unpin(&pin);
}

static int setup(void **state)
{
	(void)state;
	test_machine_init(4096, 2);
	policy_init_host();
	dom[0] = make_domain("one");
	dom[1] = make_domain("two");
	attach(0);
	attach(1);
	test_console_clear();
	return 0;
}

static void destroy(struct domain *d)
{
	domain_destroy(d);
	while (domain_reap_step())
		;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		if (dom[i])
			destroy(dom[i]);
	}
	/* Back to the start for the next test: the hypervisor lost the focus, nobody took it. */
	test_machine_fini();
	return 0;
}

/* The guest's side: writes to its ring and sends the event. */
static void send(unsigned int i)
{
	struct evtchn_send op = { .port = port[i] };
	struct hypercall hc = { 0 };

	assert_int_equal(evtchnop_send(dom[i]->vcpus[0], &hc, &op), 0);
}

static void put(unsigned int i, const char *text)
{
	for (; *text; text++)
		ring[i]->out[ring[i]->out_prod++ % sizeof(ring[i]->out)] = *text;
	send(i);
	assert_int_equal(ring[i]->out_cons, ring[i]->out_prod);
}

static void type(const char *text)
{
	test_console_type(text);
	assert_true(atomic_fetch_and(&pcpus[0]->softirqs, ~(1u << SOFTIRQ_CONSOLE)) &
		    (1u << SOFTIRQ_CONSOLE));
	console_poll();
}

/* What the guest got since the last call. */
static const char *got(unsigned int i)
{
	static char text[2048];
	size_t n = 0;

	while (ring[i]->in_cons != ring[i]->in_prod)
		text[n++] = ring[i]->in[ring[i]->in_cons++ % sizeof(ring[i]->in)];
	text[n] = '\0';
	return text;
}

static void expect_output(const char *text)
{
	assert_string_equal(test_console_output(), text);
	test_console_clear();
}

static bool pending(unsigned int i)
{
	bool was = evtchn_is_pending(dom[i], port[i]) > 0;

	memset(dom[i]->shared->evtchn_pending, 0, sizeof(dom[i]->shared->evtchn_pending));
	return was;
}

static void test_focus_is_raw(void **state)
{
	(void)state;
	put(0, "login: ");
	expect_output("login: ");
	put(0, "\x1b[1mbold\r\n");
	expect_output("\x1b[1mbold\r\n");
	type("ls\r");
	assert_string_equal(got(0), "ls\r");
	assert_true(pending(0));
	assert_string_equal(got(1), "");
	assert_false(pending(1));
}

static void test_lines_of_others(void **state)
{
	(void)state;
	put(1, "hel");
	expect_output("");
	put(1, "lo\r\n\n\nsec\x1b[1;6nond\r\nre\x1b" "7st");
	expect_output("two| hello\r\ntwo| second\r\n");
	put(0, "one:/# \x1b[6n");
	expect_output("one:/# \x1b[6n");
	put(1, "!\n");		/* the prompt moves down */
	expect_output("\r\x1b[Ktwo| rest!\r\none:/# ");
	for (const char *p = "debug\n"; *p; p++)
		console_debug_byte(dom[0], (uint8_t)*p);
	expect_output("\r\x1b[Kone| debug\r\none:/# ");
	log_warn("all well");
	assert_non_null(strstr(test_console_output(), "\r\x1b[K["));
	assert_non_null(strstr(test_console_output(), "] all well\r\none:/# "));
}

static void test_long_line(void **state)
{
	char text[1001];

	(void)state;
	memset(text, 'x', 1000);
	text[1000] = '\0';
	put(1, text);
	put(1, "\n");
	for (int i = 0; i < 5; i++)
		assert_non_null(strstr(test_console_output(), "two| xxxxxxxxxx"));
	assert_true(strlen(test_console_output()) > 1000);
	test_console_clear();
	put(0, text);
	expect_output(text);
	put(1, "between\n");
	assert_non_null(strstr(test_console_output(), "\r\x1b[Ktwo| between\r\nxxxx"));
}

static void test_switch(void **state)
{
	(void)state;
	put(1, "two:/# ");
	type(CTRL_A);
	assert_non_null(strstr(test_console_output(), "*** console of two"));
	assert_non_null(strstr(test_console_output(), "two:/# "));
	type("a\x01" "b\x01\x01" "c");
	assert_string_equal(got(1), "a\x01" "b\x01\x01" "c");
	assert_string_equal(got(0), "");
	type(CTRL_A);
	assert_non_null(strstr(test_console_output(), "*** console of the hypervisor"));
	test_console_clear();
	put(0, "text");
	expect_output("");
	type("z");
	assert_string_equal(got(0), "");
	type(CTRL_A);
	assert_non_null(strstr(test_console_output(), "*** console of one"));
	assert_non_null(strstr(test_console_output(), "text"));
	type("d");
	assert_string_equal(got(0), "d");
}

/* Whatever the indices say, at most one ring's worth comes out, and the next text is right. */
static void test_hostile_indices(void **state)
{
	(void)state;
	ring[0]->out_prod = 0xdeadbeef;
	send(0);
	expect_output("");
	assert_int_equal(ring[0]->out_cons, 0xdeadbeef);
	ring[0]->out_cons = 17;		/* ours is what counts */
	ring[0]->out[0xdeadbeef % 2048] = 'o';
	ring[0]->out[(0xdeadbeef + 1u) % 2048] = 'k';
	ring[0]->out_prod = 0xdeadbeef + 2u;
	send(0);
	expect_output("ok");
	ring[0]->out_prod += 2048;
	send(0);
	assert_int_equal(strlen(test_console_output()) <= 2048, 1);
	ring[0]->in_cons = 12345;
	type("lost");
	assert_int_equal(ring[0]->in_prod, 0);
	ring[0]->in_cons = 0;
	ring[0]->in_prod = 77;
	type("x");
	assert_int_equal(ring[0]->in_prod, 1);
}

/* A guest that found its ring full is told when there is room. */
static void test_full_ring(void **state)
{
	(void)state;
	memset(ring[1]->out, 'f', sizeof(ring[1]->out));
	ring[1]->out_prod += 2047;
	send(1);
	assert_false(pending(1));
	ring[1]->out_prod += 2048;
	send(1);
	assert_true(pending(1));
}

static void test_input_overflow(void **state)
{
	char text[1501];

	(void)state;
	memset(text, 'i', 1500);
	text[1500] = '\0';
	type(text);
	assert_int_equal(strlen(got(0)), 1024);
	type("more");
	assert_string_equal(got(0), "more");
}

static void test_detach(void **state)
{
	(void)state;
	put(1, "last words");
	put(0, "prompt ");
	test_console_clear();
	destroy(dom[1]);
	dom[1] = NULL;
	assert_non_null(strstr(test_console_output(), "two| last words"));
	test_console_clear();
	destroy(dom[0]);
	dom[0] = NULL;
	assert_non_null(strstr(test_console_output(), "*** console of the hypervisor"));
	/* The next guest gets the focus, for nobody took it away on purpose. */
	dom[0] = make_domain("three");
	attach(0);
	assert_non_null(strstr(test_console_output(), "*** console of three"));
	console_debug_byte(dom[0], 'x');
}

static void test_detach_of_the_focus(void **state)
{
	(void)state;
	destroy(dom[0]);
	dom[0] = NULL;
	assert_non_null(strstr(test_console_output(), "*** console of two"));
	type("k");
	assert_string_equal(got(1), "k");
}

static void test_attach_fails(void **state)
{
	struct domain *d = make_domain("none");
	uint64_t free;

	(void)state;
	assert_int_equal(console_attach(d, GFN(100)), -XEN_EINVAL);
	free = page_free_count();
	for (unsigned int n = 1; n < 4; n++) {
		page_fail_after = n;
		if (!console_attach(d, GFN(RING_GFN)))
			console_detach(d);
		page_fail_after = 0;
	}
	assert_true(page_free_count() <= free);
	console_detach(d);		/* twice does no harm */
	console_debug_byte(d, 'x');
	destroy(d);
}

/* --- The key menu ------------------------------------------------------------- */

static unsigned int pressed;

static void on_key(void)
{
	pressed++;
}

static void menu(const char *keys)
{
	test_console_clear();
	for (; *keys; keys++)
		key_press(*keys, false);
}

static void test_menu(void **state)
{
	(void)state;
	key_register('T', "a key of the test", on_key);
	menu("h");
	assert_non_null(strstr(test_console_output(), "crash a guest"));
	assert_non_null(strstr(test_console_output(), "T  a key of the test"));
	menu("T?");
	key_press(0, false);
	assert_int_equal(pressed, 1);
	menu("d");
	assert_non_null(strstr(test_console_output(), "one"));
	assert_non_null(strstr(test_console_output(), "paused"));
	menu("v");
	assert_non_null(strstr(test_console_output(), "two/0:"));
	dom[0]->vcpus[0]->exits[EXIT_CPUID] = 12;
	dom[0]->vcpus[0]->exits[EXIT_UNKNOWN] = 3;
	menu("e");
	assert_non_null(strstr(test_console_output(), "one/0: cpuid 12 unknown 3\r\n"));
	menu("m");
	assert_non_null(strstr(test_console_output(), "one: 16 of 64 pages"));
	log_warn("a line for the log");
	menu("l");
	assert_non_null(strstr(test_console_output(), "a line for the log\r\n"));
	assert_true(TEST_PANICS(key_press('R', false)));
	assert_true(TEST_PANICS(key_press('P', false)));
}

static void test_menu_crash(void **state)
{
	(void)state;
	menu("xq");
	assert_false(domain_is_dying(dom[0]) || dom[0]->shut_down);
	menu("x");
	assert_non_null(strstr(test_console_output(), "1: two"));
	domain_get(dom[1]);
	key_press('1', false);
	assert_true(domain_is_dying(dom[1]) || dom[1]->shut_down);
	assert_false(domain_is_dying(dom[0]) || dom[0]->shut_down);
	destroy(dom[1]);
	domain_put(dom[1]);
	dom[1] = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_focus_is_raw, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lines_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_switch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_indices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach_of_the_focus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_menu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_menu_crash, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
