/* SPDX-License-Identifier: MIT */
/*
 * Domains: the table of them, their creation, pausing, shutdown and end.
 *
 * A domain sits in the table at its id modulo the table's size, so that
 * finding it takes no search. Its end has two halves: teardown, begun by
 * domain_destroy(), gives back what others could see or need; what only
 * references kept alive goes when the last of them does. Both are done in
 * pieces by domain_reap_step(), on one CPU at a time.
 *
 * Owns: struct domain. Locks: the table's (LOCK_DOMLIST), and domain.lock.
 */
#include "hospes/domain.h"

#include "hospes/builder.h"
#include "hospes/console.h"
#include "hospes/devices.h"
#include "hospes/gnttab.h"
#include "hospes/iommu.h"
#include "hospes/log.h"

#define QUIESCE_NS 50000u	/* until a CPU that was kicked has left its guest */
#define PAGES_NS 10000000u	/* until another domain lets go of a granted page */
#define RESTART_NS 100000000u	/* until a CPU idles, or a guest has to give its time */

static struct spinlock table_lock = SPINLOCK(LOCK_DOMLIST);
static struct domain *table[MAX_DOMAINS];	/* table lock; readers of known slots need none */
static domid_t next_id = 1;			/* table lock */

static _Atomic(struct domain *) reap_new;	/* what waits for the reaper */
static struct domain *reap_list;		/* what it has taken over; reaper */
static atomic_bool reaping;			/* somebody is the reaper now */

/* --- Finding and holding ------------------------------------------------ */

/* Hands @d, which is on no list, to the reaper. Any context. */
static void reap(void *data)
{
	struct domain *d = data;
	unsigned int nr = sched_idle_cpu();

	d->reap_next = atomic_load(&reap_new);
	while (!atomic_compare_exchange_weak(&reap_new, &d->reap_next, d))
		;
	softirq_raise(nr, SOFTIRQ_REAP);
	softirq_raise(nr, SOFTIRQ_SCHEDULE);	/* or a guest there might never let it happen */
}

void domain_put(struct domain *d)
{
	if (atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1)
		reap(d);
}

/* A reference to @d, unless it is NULL or dead already. Table lock held. */
static bool try_get(struct domain *d)
{
	unsigned int refs = d ? atomic_load_explicit(&d->refs, memory_order_relaxed) : 0;

	while (refs && !atomic_compare_exchange_weak(&d->refs, &refs, refs + 1))
		;
	return refs;
}

static struct domain *get_slot(uint32_t slot)
{
	struct domain *d;

	spin_lock(&table_lock);
	d = table[slot];
	if (!try_get(d))
		d = NULL;
	spin_unlock(&table_lock);
	return d;
}

struct domain *domain_get_by_id(domid_t id)
{
	struct domain *d = get_slot(id % MAX_DOMAINS);

	if (!d || d->id == id)
		return d;
	domain_put(d);
	return NULL;
}

struct domain *domain_get_from(domid_t id)
{
	struct domain *best;

	spin_lock(&table_lock);
	do {
		best = NULL;
		/* In this order one with a low id is known to be the first when it is found. */
		for (uint32_t i = 0; i < MAX_DOMAINS && !(best && best->id < id + i); i++) {
			struct domain *d = table[(id + i) % MAX_DOMAINS];

			if (d && d->id >= id && (!best || d->id < best->id) &&
			    atomic_load(&d->refs))
				best = d;
		}
	} while (best && !try_get(best));
	spin_unlock(&table_lock);
	return best;
}

struct domain *domain_get_target(struct vcpu *v, domid_t id)
{
	if (id != DOMID_SELF)
		return domain_get_by_id(id);
	domain_get(v->domain);
	return v->domain;
}

int domain_find_target(struct vcpu *v, domid_t id, struct domain **out)
{
	*out = domain_get_target(v, id);
	if (!*out)
		return -XEN_ESRCH;
	if (*out == v->domain || v->domain->privileged)
		return 0;
	domain_put(*out);
	return -XEN_EPERM;
}

struct domain *domain_by_slot(uint32_t slot)
{
	return table[slot % MAX_DOMAINS];
}

void domain_for_each(void (*fn)(struct domain *d, void *data), void *data)
{
	for (uint32_t slot = 0; slot < MAX_DOMAINS; slot++) {
		struct domain *d = get_slot(slot);

		if (!d)
			continue;
		fn(d, data);
		domain_put(d);
	}
}

/* --- Creation ----------------------------------------------------------- */

static int memory_init(struct domain *d, const struct domain_create *c)
{
	bool dummy = c->nr_vcpus > XEN_LEGACY_MAX_VCPUS;

	d->shared = hv_alloc_pages(PAGE_ORDER_4K);
	d->dummy_info = dummy ? hv_alloc_pages(PAGE_ORDER_4K) : NULL;
	d->policy = hv_alloc(sizeof(*d->policy));
	d->vcpus = hv_alloc(MAX_VCPUS * sizeof(d->vcpus[0]));
	if (!d->shared || !d->policy || !d->vcpus || (dummy && !d->dummy_info))
		return -XEN_ENOMEM;
	*d->policy = guest_policy;
	pvclock_update_wallclock(d);
	return 0;
}

static int parts_init(struct domain *d, const struct domain_create *c)
{
	/* Page tables for everything in 4 KiB pages, and what a sparse layout adds. */
	uint64_t tables = 256 + c->max_pages / 128;
	int rc = memory_init(d, c);

	if (!rc)
		rc = p2m_init(d, (uint32_t)MIN(tables, UINT32_MAX));
	if (!rc && c->devices)
		rc = devices_init(d);
	if (!rc)
		rc = gnttab_init(d, c->max_grant_frames, c->max_maptrack_frames,
				 c->max_grant_version);
	for (unsigned int i = 0; i < c->nr_vcpus && !rc; i++)
		rc = vcpu_create(d, i);
	return rc ? rc : evtchn_domain_init(d, c->max_evtchn_port);
}

/* Undoes as much of it as was done, and gives the place in the table back. */
static void domain_free(struct domain *d)
{
	evtchn_domain_free(d);
	for (unsigned int i = 0; d->vcpus && i < d->nr_vcpus && d->vcpus[i]; i++)
		vcpu_destroy(d->vcpus[i]);
	gnttab_destroy(d);
	iommu_domain_destroy(d);
	p2m_destroy(d);
	if (d->shared)
		hv_free_pages(d->shared, PAGE_ORDER_4K);
	if (d->dummy_info)
		hv_free_pages(d->dummy_info, PAGE_ORDER_4K);
	devices_free(d);
	hv_free(d->policy);
	hv_free(d->vcpus);
	spin_lock(&table_lock);
	table[d->slot] = NULL;
	spin_unlock(&table_lock);
	hv_free(d);
}

/*
 * Takes a place in the table, where nobody finds @d as long as it has no
 * reference. Ids of the dead are given out again when all others were used.
 */
static int table_insert(struct domain *d, domid_t id)
{
	bool any = id == DOMID_INVALID;
	int rc = any ? -XEN_ENOMEM : -XEN_EEXIST;

	spin_lock(&table_lock);
	for (unsigned int i = any ? DOMID_FIRST_RESERVED : 1; i && rc; i--) {
		d->id = any ? next_id : id;
		d->slot = d->id % MAX_DOMAINS;
		if (any)
			next_id = (domid_t)(next_id % (DOMID_FIRST_RESERVED - 1) + 1);
		if (!table[d->slot]) {
			table[d->slot] = d;
			rc = 0;
		}
	}
	spin_unlock(&table_lock);
	return rc;
}

int domain_create(const struct domain_create *c, struct domain **out)
{
	struct domain *d;
	int rc;

	if (!c->nr_vcpus || c->nr_vcpus > MAX_VCPUS || (!c->id && !c->privileged) ||
	    (c->id >= DOMID_FIRST_RESERVED && c->id != DOMID_INVALID))
		return -XEN_EINVAL;
	d = hv_alloc(sizeof(*d));
	if (!d)
		return -XEN_ENOMEM;
	rc = table_insert(d, c->id);
	if (rc) {
		hv_free(d);
		return rc;
	}
	hv_snprintf(d->name, sizeof(d->name), "%s", c->name);
	if (c->handle)
		memcpy(d->handle, c->handle, sizeof(d->handle));
	d->privileged = c->privileged;
	d->xs_domain = c->xs_domain;
	d->max_pages = c->max_pages;
	d->nr_vcpus = c->nr_vcpus;
	d->pause_count = 1;
	atomic_store(&d->building, c->building);
	d->sched.weight = SCHED_WEIGHT_DEFAULT;
	spin_init(&d->lock, LOCK_DOMAIN);
	timer_init(&d->reap_timer, reap, d);
	domain_watchdogs_init(d);
	rc = parts_init(d, c);
	if (rc) {
		domain_free(d);
		return rc;
	}
	atomic_store(&d->refs, 1);
	*out = d;
	return 0;
}

/* --- Start, shutdown ---------------------------------------------------- */

static void pause_all(struct domain *d, unsigned int flag)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		vcpu_pause_set(d->vcpus[i], flag);
}

void domain_pause(struct domain *d)
{
	spin_lock(&d->lock);
	if (!d->pause_count++)
		pause_all(d, PAUSE_DOMAIN);
	spin_unlock(&d->lock);
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		if (d->vcpus[i] != current_vcpu())
			sched_sleep_sync(d->vcpus[i]);
	}
}

bool domain_unpause(struct domain *d)
{
	bool was_paused;

	spin_lock(&d->lock);
	was_paused = d->pause_count;
	if (was_paused && !--d->pause_count) {
		d->has_run = true;
		for (unsigned int i = 0; i < d->nr_vcpus; i++)
			vcpu_pause_clear(d->vcpus[i], PAUSE_DOMAIN);
	}
	spin_unlock(&d->lock);
	return was_paused;
}

/* Without the domain that drives the devices the machine is of no use. */
static void __noreturn control_ended(uint8_t code)
{
	log_info("the control domain has ended (%u): the machine %s", code,
		 code == SHUTDOWN_poweroff ? "is switched off" : "starts again");
	if (code == SHUTDOWN_poweroff)
		port_poweroff();
	port_reboot();
}

/* What becomes of a static guest that ended with @code. */
static enum guest_on_crash fate(const struct domain *d, uint8_t code)
{
	return code == SHUTDOWN_poweroff ? ON_CRASH_DESTROY :
	       code == SHUTDOWN_reboot || code == SHUTDOWN_soft_reset ? ON_CRASH_RESTART :
	       code == SHUTDOWN_suspend ? ON_CRASH_PRESERVE : d->config->on_crash;
}

void domain_shutdown(struct domain *d, uint8_t code)
{
	uint32_t suspend_port;
	bool first;

	spin_lock(&d->lock);
	suspend_port = d->suspend_port;
	first = !d->shut_down;
	d->shut_down = true;
	if (first && !d->shutdown_code_set)
		d->shutdown_code = code;
	code = d->shutdown_code;
	if (first)
		pause_all(d, PAUSE_SHUTDOWN);
	spin_unlock(&d->lock);
	if (!first)
		return;
	if (d->devices)
		control_ended(code);
	/* Who waits for it to suspend has asked to be told alone. */
	if (code != SHUTDOWN_suspend || !suspend_port || evtchn_send_from(d, suspend_port))
		evtchn_global_virq(VIRQ_DOM_EXC);
	if (!d->config || fate(d, code) == ON_CRASH_PRESERVE)
		return;
	d->restart = fate(d, code) == ON_CRASH_RESTART;
	domain_destroy(d);
}

void domain_resume(struct domain *d)
{
	spin_lock(&d->lock);
	if (d->shut_down) {
		d->shut_down = d->shutdown_code_set = false;
		d->stopped_tsc = 0;
		for (unsigned int i = 0; i < d->nr_vcpus; i++)
			vcpu_pause_clear(d->vcpus[i], PAUSE_SHUTDOWN);
	}
	spin_unlock(&d->lock);
}

void domain_crash(struct domain *d, const char *fmt, ...)
{
	struct vcpu *v = current_vcpu();
	char why[160];
	va_list ap;

	if (read_once(d->shut_down) || domain_is_dying(d))
		return;
	va_start(ap, fmt);
	hv_vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_err("d%u (%s) crashed: %s", d->id, d->name, why);
	if (v && v->domain == d)
		vcpu_dump(v);
	domain_shutdown(d, SHUTDOWN_crash);
}

/* --- The end ------------------------------------------------------------ */

void domain_destroy(struct domain *d)
{
	int alive = DOMAIN_ALIVE;

	if (!atomic_compare_exchange_strong(&d->life, &alive, DOMAIN_DYING))
		return;
	pause_all(d, PAUSE_DYING);
	reap(d);
}

/* Others may find, and destroy, a domain that is still being built: its builder goes on. */
static bool quiesce(struct domain *d)
{
	bool done = !atomic_load(&d->building);

	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		done &= sched_is_unloaded(d->vcpus[i]);
	return done;
}

/* Nobody runs: nothing may come out of it any more, nor in. */
static bool disconnect(struct domain *d)
{
	evtchn_global_virq(VIRQ_DOM_EXC);	/* who uses its pages lets go of them now */
	page_claim(d, 0);
	domain_watchdogs_kill(d);
	if (d->console)
		console_detach(d);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		vcpu_timers_kill(d->vcpus[i]);
	return true;
}

/* No event is raised any more. */
static bool unpin_infos(struct domain *d)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		guest_unpin(&d->vcpus[i]->info_pin);
	return true;
}

static bool pages_gone(struct domain *d)
{
	return !atomic_load_explicit(&d->tot_pages, memory_order_acquire);
}

/* Before the first frame goes. */
static bool stop_devices(struct domain *d)
{
	iommu_domain_destroy(d);
	devices_stop(d);
	return true;
}

/* The steps of the teardown: each is called until it says that it is done. */
static const struct {
	bool (*step)(struct domain *d);
	uint32_t wait_ns;		/* before the next call; 0: there is work to do now */
} teardown[] = {
	{ quiesce, QUIESCE_NS }, { stop_devices, 0 }, { disconnect, 0 }, { evtchn_destroy_step, 0 },
	{ unpin_infos, 0 }, { gnttab_release_step, 0 }, { p2m_teardown_step, 0 },
	{ pages_gone, PAGES_NS },
};

/* One piece of @d's end. True: it stays with us. */
static bool teardown_step(struct domain *d)
{
	uint32_t wait = teardown[d->reap_stage].wait_ns;

	if (!teardown[d->reap_stage].step(d)) {
		if (wait)
			timer_set(&d->reap_timer, port_time_ns() + wait);
		return !wait;
	}
	if (++d->reap_stage < ARRAY_SIZE(teardown))
		return true;
	d->restart_by = port_time_ns() + RESTART_NS;
	atomic_store(&d->life, DOMAIN_DEAD);
	domain_put(d);
	return false;
}

/* Nobody refers to @d any more. */
static void release(struct domain *d)
{
	struct guest_config *config = d->config;
	bool again = d->restart;

	timer_kill(&d->reap_timer);
	domain_free(d);
	evtchn_global_virq(VIRQ_DOM_EXC);
	if (!config)
		return;
	sched_busy();
	builder_domain_gone(config, again);
	softirq_raise(port_this_pcpu()->cpu_id, SOFTIRQ_SCHEDULE);
}

/* To build a guest again takes a while: is there a better moment than this guest's slice? */
static bool release_later(const struct domain *d)
{
	return d->restart && current_vcpu() && port_time_ns() < d->restart_by;
}

bool domain_reap_step(void)
{
	struct domain *d, *dead = NULL;
	bool more;

	if (!atomic_load_explicit(&reap_new, memory_order_relaxed) && !read_once(reap_list))
		return false;
	if (atomic_exchange(&reaping, true))
		return false;
	d = reap_list ? reap_list : atomic_exchange(&reap_new, NULL);
	if (d) {
		bool gone = !atomic_load_explicit(&d->refs, memory_order_acquire);
		struct domain *rest = d->reap_next;

		if (gone ? release_later(d) : teardown_step(d))
			rest = d;
		else if (gone)
			dead = d;
		write_once(reap_list, rest);
	}
	more = reap_list;
	/* Who hands over something now sees that we are done, or we see it. */
	atomic_store(&reaping, false);
	if (dead)
		release(dead);
	return more || atomic_load(&reap_new);
}

bool domain_destroy_step(struct domain *d)
{
	domain_destroy(d);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		sched_sleep_sync(d->vcpus[i]);
	(void)domain_reap_step();
	/* The last stage only waits for others. */
	return read_once(d->reap_stage) >= ARRAY_SIZE(teardown) - 1;
}
