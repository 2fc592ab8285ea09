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
#include "hospes/gnttab.h"
#include "hospes/guest_config.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/pcpu.h"

#define QUIESCE_NS 50000u	/* until a CPU that was kicked has left its guest */
#define PAGES_NS 10000000u	/* until another domain lets go of a granted page */

static struct spinlock table_lock = SPINLOCK(LOCK_DOMLIST);
static struct domain *table[MAX_DOMAINS];	/* table lock; readers of known slots need none */
static domid_t next_id = 1;			/* table lock */

static _Atomic(struct domain *) reap_new;	/* what waits for the reaper */
static struct domain *reap_list;		/* what it has taken over; reaper */
static atomic_bool reaping;			/* somebody is the reaper now */

/* --- Finding and holding ------------------------------------------------ */

/* A reference unless it is dead already. */
static bool get_unless_dead(struct domain *d)
{
	unsigned int refs = atomic_load_explicit(&d->refs, memory_order_relaxed);

	while (refs && !atomic_compare_exchange_weak(&d->refs, &refs, refs + 1))
		;
	return refs;
}

struct domain *domain_get_by_id(domid_t id)
{
	struct domain *d;

	spin_lock(&table_lock);
	d = table[id % MAX_DOMAINS];
	if (d && (d->id != id || !get_unless_dead(d)))
		d = NULL;
	spin_unlock(&table_lock);
	return d;
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
	struct domain *d = domain_get_target(v, id);

	if (!d)
		return -XEN_ESRCH;
	if (d != v->domain && !v->domain->privileged) {
		domain_put(d);
		return -XEN_EPERM;
	}
	*out = d;
	return 0;
}

struct domain *domain_by_slot(uint32_t slot)
{
	return table[slot % MAX_DOMAINS];
}

void domain_for_each(void (*fn)(struct domain *d, void *data), void *data)
{
	for (unsigned int i = 0; i < MAX_DOMAINS; i++) {
		struct domain *d;

		spin_lock(&table_lock);
		d = table[i];
		if (d && !get_unless_dead(d))
			d = NULL;
		spin_unlock(&table_lock);
		if (!d)
			continue;
		fn(d, data);
		domain_put(d);
	}
}

/* Hands @d, which is on no list, to the reaper. Any context. */
static void reap(struct domain *d)
{
	struct domain *head = atomic_load(&reap_new);

	do {
		d->reap_next = head;
	} while (!atomic_compare_exchange_weak(&reap_new, &head, d));
	softirq_raise(sched_idle_cpu(), SOFTIRQ_REAP);
}

void domain_put(struct domain *d)
{
	if (atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1)
		reap(d);
}

/* --- Creation ----------------------------------------------------------- */

static void memory_fini(struct domain *d)
{
	if (d->shared)
		hv_free_pages(d->shared, PAGE_ORDER_4K);
	if (d->dummy_info)
		hv_free_pages(d->dummy_info, PAGE_ORDER_4K);
	hv_free(d->policy);
	hv_free(d->vcpus);
}

static int memory_init(struct domain *d, const struct domain_create *c)
{
	d->shared = hv_alloc_pages(PAGE_ORDER_4K);
	if (c->nr_vcpus > XEN_LEGACY_MAX_VCPUS)
		d->dummy_info = hv_alloc_pages(PAGE_ORDER_4K);
	d->policy = hv_alloc(sizeof(*d->policy));
	d->vcpus = hv_alloc(MAX_VCPUS * sizeof(d->vcpus[0]));
	if (!d->shared || !d->policy || !d->vcpus ||
	    (c->nr_vcpus > XEN_LEGACY_MAX_VCPUS && !d->dummy_info)) {
		memory_fini(d);
		return -XEN_ENOMEM;
	}
	policy_default(d->policy);
	pvclock_update_wallclock(d);
	return 0;
}

/* Page tables for everything in 4 KiB pages, and what a sparse layout adds. */
static int p2m_part_init(struct domain *d, const struct domain_create *c)
{
	uint64_t tables = 256 + c->max_pages / 128;

	return p2m_init(d, (uint32_t)MIN(tables, UINT32_MAX));
}

static int grants_init(struct domain *d, const struct domain_create *c)
{
	return gnttab_init(d, c->max_grant_frames, c->max_maptrack_frames, c->max_grant_version);
}

static void vcpus_fini(struct domain *d)
{
	for (unsigned int i = 0; i < d->nr_vcpus && d->vcpus[i]; i++)
		vcpu_destroy(d->vcpus[i]);
}

static int vcpus_init(struct domain *d, const struct domain_create *c)
{
	for (unsigned int i = 0; i < c->nr_vcpus; i++) {
		int rc = vcpu_create(d, i);

		if (rc) {
			vcpus_fini(d);
			return rc;
		}
	}
	return 0;
}

static int events_init(struct domain *d, const struct domain_create *c)
{
	return evtchn_domain_init(d, c->max_evtchn_port);
}

/* In the order of creation; the end goes backwards. */
static const struct {
	int (*init)(struct domain *d, const struct domain_create *c);
	void (*fini)(struct domain *d);
} parts[] = {
	{ memory_init, memory_fini },
	{ p2m_part_init, p2m_destroy },
	{ grants_init, gnttab_destroy },
	{ vcpus_init, vcpus_fini },
	{ events_init, evtchn_domain_free },
};

/* Undoes the first @nr parts. */
static void parts_fini(struct domain *d, unsigned int nr)
{
	while (nr-- > 0) {
		if (parts[nr].fini)
			parts[nr].fini(d);
	}
}

/* An id nobody has; those of the dead come back only when all others were used. */
static int pick_id(domid_t *id)
{
	for (unsigned int i = 0; i < DOMID_FIRST_RESERVED; i++) {
		*id = next_id;
		next_id = (domid_t)(next_id == DOMID_FIRST_RESERVED - 1 ? 1 : next_id + 1);
		if (!table[*id % MAX_DOMAINS])
			return 0;
	}
	return -XEN_ENOMEM;
}

/* Takes a place in the table, where nobody finds @d as long as it has no reference. */
static int table_insert(struct domain *d, domid_t id)
{
	int rc = 0;

	spin_lock(&table_lock);
	if (id == DOMID_INVALID)
		rc = pick_id(&id);
	else if (table[id % MAX_DOMAINS])
		rc = -XEN_EEXIST;
	if (!rc) {
		d->id = id;
		d->slot = id % MAX_DOMAINS;
		table[d->slot] = d;
	}
	spin_unlock(&table_lock);
	return rc;
}

static void table_remove(struct domain *d)
{
	spin_lock(&table_lock);
	table[d->slot] = NULL;
	spin_unlock(&table_lock);
}

static void look_again(void *data)
{
	reap(data);
}

int domain_create(const struct domain_create *c, struct domain **out)
{
	struct domain *d;
	unsigned int i;
	int rc;

	if (!c->nr_vcpus || c->nr_vcpus > MAX_VCPUS ||
	    (c->id >= DOMID_FIRST_RESERVED && c->id != DOMID_INVALID))
		return -XEN_EINVAL;
	d = hv_alloc(sizeof(*d));
	if (!d)
		return -XEN_ENOMEM;
	rc = table_insert(d, c->id);
	if (rc)
		goto err_alloc;
	strlcpy(d->name, c->name, sizeof(d->name));
	d->privileged = c->privileged;
	d->max_pages = c->max_pages;
	d->nr_vcpus = c->nr_vcpus;
	d->pause_count = 1;
	d->sched.weight = SCHED_WEIGHT_DEFAULT;
	spin_init(&d->lock, LOCK_DOMAIN);
	timer_init(&d->reap_timer, look_again, d);
	domain_watchdogs_init(d);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		rc = parts[i].init(d, c);
		if (rc)
			goto err_parts;
	}
	atomic_store(&d->refs, 1);
	*out = d;
	return 0;

err_parts:
	parts_fini(d, i);
	table_remove(d);
err_alloc:
	hv_free(d);
	return rc;
}

/* --- Pausing, shutdown -------------------------------------------------- */

static void pause_all(struct domain *d, unsigned int flag)
{
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		vcpu_pause_set(d->vcpus[i], flag);
}

void domain_pause(struct domain *d)
{
	spin_lock(&d->lock);
	if (d->pause_count++ == 0)
		pause_all(d, PAUSE_DOMAIN);
	spin_unlock(&d->lock);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		sched_sleep_sync(d->vcpus[i]);
}

void domain_unpause(struct domain *d)
{
	spin_lock(&d->lock);
	if (d->pause_count && --d->pause_count == 0) {
		for (unsigned int i = 0; i < d->nr_vcpus; i++)
			vcpu_pause_clear(d->vcpus[i], PAUSE_DOMAIN);
	}
	spin_unlock(&d->lock);
}

/* What becomes of a static guest that ended with @code. */
static enum guest_on_crash fate(const struct domain *d, uint8_t code)
{
	switch (code) {
	case SHUTDOWN_poweroff:
		return ON_CRASH_DESTROY;
	case SHUTDOWN_reboot:
	case SHUTDOWN_soft_reset:
		return ON_CRASH_RESTART;
	case SHUTDOWN_suspend:
		return ON_CRASH_PRESERVE;
	default:
		return d->config->on_crash;
	}
}

void domain_shutdown(struct domain *d, uint8_t code)
{
	bool first;

	spin_lock(&d->lock);
	first = !d->shut_down;
	d->shut_down = true;
	if (first && !d->shutdown_code_set)
		d->shutdown_code = code;
	code = d->shutdown_code;
	spin_unlock(&d->lock);
	if (!first)
		return;
	pause_all(d, PAUSE_SHUTDOWN);
	if (!d->config || fate(d, code) == ON_CRASH_PRESERVE)
		return;
	d->restart = fate(d, code) == ON_CRASH_RESTART;
	domain_destroy(d);
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
	pause_all(d, PAUSE_SHUTDOWN);
	reap(d);
}

static bool quiesce(struct domain *d)
{
	bool done = true;

	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		done &= sched_is_unloaded(d->vcpus[i]);
	return done;
}

/* Nobody runs: nothing may come out of it any more, nor in. */
static bool disconnect(struct domain *d)
{
	domain_watchdogs_kill(d);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		vcpu_timers_kill(d->vcpus[i]);
	if (d->console)
		console_detach(d);
	evtchn_domain_destroy(d);
	for (unsigned int i = 0; i < d->nr_vcpus; i++) {
		if (d->vcpus[i]->info_pin.page)
			guest_unpin(&d->vcpus[i]->info_pin);
	}
	return true;
}

static bool pages_gone(struct domain *d)
{
	return !atomic_load_explicit(&d->tot_pages, memory_order_acquire);
}

/* The steps of the teardown: each is called until it says that it is done. */
static const struct {
	bool (*step)(struct domain *d);
	uint32_t wait_ns;		/* before the next call; 0: there is work to do now */
} teardown[] = {
	{ quiesce, QUIESCE_NS },
	{ disconnect, 0 },
	{ gnttab_release_step, 0 },
	{ p2m_teardown_step, 0 },
	{ pages_gone, PAGES_NS },
};

/* Nobody refers to it: frees it, and says which guest is gone. */
static const struct guest_config *release(struct domain *d, bool *again)
{
	const struct guest_config *config = d->config;

	*again = d->restart;
	timer_kill(&d->reap_timer);
	parts_fini(d, ARRAY_SIZE(parts));
	table_remove(d);
	hv_free(d);
	return config;
}

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
	atomic_store(&d->life, DOMAIN_DEAD);
	domain_put(d);
	return false;
}

bool domain_reap_step(void)
{
	const struct guest_config *gone = NULL;
	bool again = false, more;
	struct domain *d;

	if (!atomic_load_explicit(&reap_new, memory_order_relaxed) && !read_once(reap_list))
		return false;
	if (atomic_exchange(&reaping, true))
		return false;
	d = reap_list ? reap_list : atomic_exchange(&reap_new, NULL);
	if (d) {
		struct domain *rest = d->reap_next;

		if (!atomic_load_explicit(&d->refs, memory_order_acquire))
			gone = release(d, &again);
		else if (teardown_step(d))
			rest = d;
		write_once(reap_list, rest);
	}
	more = reap_list;
	/* Who hands over something now sees that we are done, or we see it. */
	atomic_store(&reaping, false);
	if (gone)
		builder_domain_gone(gone, again);
	return more || atomic_load(&reap_new);
}
