/* SPDX-License-Identifier: MIT */
/*
 * The key menu: what the hypervisor does on single keys while it has the
 * console's focus.
 *
 * Context: SOFTIRQ_CONSOLE on CPU 0, or a sysctl of the control domain's on any; no
 * lock held. Counters of other CPUs are read as they are: a line of a menu may be a
 * moment old.
 */
#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/log.h"

#define KEYS_MAX 32u

static const char *const exit_names[EXIT_KIND_COUNT] = {
	"interrupt", "nmi", "hypercall", "cpuid", "rdmsr", "wrmsr", "io", "npf", "hlt", "pause",
	"window", "shutdown", "wbinvd", "xsetbv", "rdpmc", "undefined", "icebp", "exception",
	"cr8", "unknown",
};

static bool choosing;		/* the next key names a domain to crash */
static bool keep;		/* what is said goes into the log, too */

/* To whoever pressed the key. */
static __printf(1, 2) void say(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	hv_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	console_printf("%s", text);
	if (read_once(keep))
		log_append(text, strlen(text));
}

static void show_domain(struct domain *d, void *data)
{
	uint64_t ns = 0;

	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		ns += d->vcpus[i]->runstate.time[RUNSTATE_running];
	say("%5u %-16s %-8s %6lu MiB %3u vCPUs %8lu ms\n", d->id, d->name,
	    domain_is_dying(d) ? "dying" : d->shut_down ? "shutdown" :
	    d->pause_count ? "paused" : "running",
	    atomic_load(&d->tot_pages) >> (20 - PAGE_SHIFT), d->nr_vcpus, ns / 1000000);
}

static void show_vcpus(struct domain *d, void *data)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		const struct vcpu *v = d->vcpus[i];
		const uint64_t *time = v->runstate.time;

		say("%s/%u: CPU %u%s, pause 0x%x, running %lu ms, waiting %lu ms,"
		    " blocked %lu ms, rip 0x%lx\n", d->name, i, v->sched.cpu,
		    v->sched.running ? " now" : "", atomic_load(&v->pause_flags),
		    time[RUNSTATE_running] / 1000000, time[RUNSTATE_runnable] / 1000000,
		    time[RUNSTATE_blocked] / 1000000, v->regs.rip);
	}
}

static void show_exits(struct domain *d, void *data)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		say("%s/%u:", d->name, i);
		for (unsigned int kind = 0; kind < EXIT_KIND_COUNT; kind++) {
			uint64_t n = d->vcpus[i]->exits[kind];

			if (n)
				say(" %s %lu", exit_names[kind], n);
		}
		say("\n");
	}
}

static void show_domain_memory(struct domain *d, void *data)
{
	say("%s: %lu of %lu pages, %u of tables\n", d->name,
	    atomic_load(&d->tot_pages), d->max_pages, d->p2m.tables);
}

static void show_memory(void)
{
	say("free %lu of %lu pages\n", page_free_count(), page_total_count());
	domain_for_each(show_domain_memory, NULL);
}

void console_show_log(void)
{
	uint64_t pos = 0;
	char buf[200];
	size_t len;

	while ((len = log_read(&pos, buf, sizeof(buf))))
		console_printf("%.*s", (int)len, buf);
}

static void list_choice(struct domain *d, void *data)
{
	unsigned int *nr = data;

	if (*nr < 10)
		say("%u: %s\n", *nr, d->name);
	++*nr;
}

static void crash_ask(void)
{
	unsigned int nr = 0;

	domain_for_each(list_choice, &nr);
	choosing = nr > 0;
	say(nr ? "Crash which one? Any other key: none.\n" : "There is no guest.\n");
}

static void crash_chosen(struct domain *d, void *data)
{
	if (!(*(unsigned int *)data)--)
		domain_crash(d, "the operator asked for it");
}

static void show_help(void);

static struct key {
	char key;
	const char *help;
	void (*handler)(void);
	void (*each)(struct domain *d, void *data);	/* instead, for every domain */
} keys[KEYS_MAX] = {
	{ 'h', "this help", show_help, NULL },
	{ 'd', "domains: state, memory, CPU time", NULL, show_domain },
	{ 'v', "vCPUs: where they run and for how long", NULL, show_vcpus },
	{ 'e', "exits of each vCPU by reason", NULL, show_exits },
	{ 'm', "memory: free, and of each domain", show_memory, NULL },
	{ 'l', "the hypervisor's log", console_show_log, NULL },
	{ 'x', "crash a guest", crash_ask, NULL },
	{ 'R', "reboot the machine, at once", port_reboot, NULL },
	{ 'P', "power the machine off, at once", port_poweroff, NULL },
};

static void show_help(void)
{
	for (const struct key *k = keys; k->key; k++)
		say("%c  %s\n", k->key, k->help);
}

void key_register(char key, const char *help, void (*handler)(void))
{
	unsigned int i = 0;

	while (keys[i].key)
		i++;
	ASSERT(i < KEYS_MAX - 1);	/* the last is the end */
	if (i < KEYS_MAX - 1)
		keys[i] = (struct key){ key, help, handler, NULL };
}

void key_press(char key, bool logged)
{
	unsigned int nr = (unsigned int)(key - '0');

	write_once(keep, logged);
	if (choosing) {
		choosing = false;
		if (nr < 10)
			domain_for_each(crash_chosen, &nr);
		return;
	}
	for (const struct key *k = keys; k->key; k++) {
		if (k->key == key && k->each)
			domain_for_each(k->each, NULL);
		else if (k->key == key)
			k->handler();
	}
}
