/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: weighted fair by virtual time, a real-time class above it.
 *
 * Fair: each vCPU's run time, divided by its weight, is its vruntime; a CPU
 * runs the least one that waits in its queue. The scale is the same on all
 * CPUs, so at the end of a slice a CPU also looks whether one that waits
 * elsewhere lags behind, and takes it. A cap is a budget per period that the
 * vCPUs of a domain share. Real-time: earliest deadline first among vCPUs
 * that admission bound to a CPU, each until its budget of the period is used.
 *
 * Owns: struct sched_vcpu, sched_pcpu, sched_domain.
 * Locks: a vCPU's fields are covered by the lock of the CPU in sched.cpu; that
 * only changes under this lock, and while its state is loaded on no CPU.
 * Two masks are for lock-free looks: a CPU that goes idle sets its bit and
 * then looks for work, one that queues work sets its bit and then looks for an
 * idle CPU; so one of them sees the other.
 */
#include "hospes/sched.h"

#include "hospes/domain.h"
#include "hospes/lib.h"
#include "hospes/pcpu.h"

#define NEVER UINT64_MAX
#define US 1000ULL
#define SLICE (5000 * US)
#define SLICE_MIN (20 * US)	/* what is left of a budget below this is not worth a switch */
#define CAP_PERIOD (10000 * US)
#define RT_PERIOD_MIN (100 * US)
#define RT_PERIOD_MAX (1000000 * US)
#define RT_UTIL_LIMIT 950000u	/* ppm of a CPU; the rest keeps the machine manageable */
#define MAX_STEAL_LOOKS 64

/* Virtual time of @ns at @weight. 64 leaves room for nine years at weight 1. */
#define VTIME(ns, weight) (((ns) * 64 + (weight) / 2) / (weight))
#define VTIME_DEFAULT(ns) VTIME(ns, SCHED_WEIGHT_DEFAULT)
#define WAKE_CREDIT VTIME_DEFAULT(3000 * US)	/* how far a sleeper may lag when it wakes */
#define PREEMPT_LAG VTIME_DEFAULT(1000 * US)	/* ... and must, to preempt */
#define DRIFT_MAX VTIME_DEFAULT(20000 * US)	/* between a vCPU and the CPU it moves to */

static atomic_ulong idle_mask;		/* CPUs that run nothing */
static atomic_ulong waiting_mask;	/* busy CPUs with queued vCPUs that others may take */
static atomic_ulong newest_vtime;	/* of any CPU: where one that was idle goes on */
static struct spinlock admission = SPINLOCK(LOCK_ADMIT);

static uint64_t bit(unsigned int nr)
{
	return 1ULL << nr;
}

static struct vcpu *node_vcpu(struct heap_node *n)
{
	return n ? container_of(n, struct vcpu, sched.node) : NULL;
}

static struct pcpu *lock_vcpu(struct vcpu *v)
{
	for (;;) {
		unsigned int nr = read_once(v->sched.cpu);

		spin_lock(&pcpus[nr]->sched.lock);
		if (likely(nr == read_once(v->sched.cpu)))
			return pcpus[nr];
		spin_unlock(&pcpus[nr]->sched.lock);
	}
}

static bool is_rt(const struct vcpu *v)
{
	return v->sched.rt_util;
}

static bool is_stealable(const struct vcpu *v)
{
	return v->sched.allowed & (v->sched.allowed - 1);
}

/* --- Budgets ------------------------------------------------------------ */

/* Starts the domain's next cap period if it is due; a debt is paid first. */
static void cap_refill(struct domain *d, uint64_t now)
{
	uint64_t until = atomic_load(&d->cap.until), periods;
	int64_t quota = (int64_t)(d->sched.cap * (CAP_PERIOD / 100)), left, next;

	if (now < until)
		return;
	periods = 1 + (now - until) / CAP_PERIOD;
	if (!atomic_compare_exchange_strong(&d->cap.until, &until, until + periods * CAP_PERIOD))
		return;
	left = atomic_load(&d->cap.left);
	do {
		next = left + quota * (int64_t)MIN(periods, 1000000u);
	} while (!atomic_compare_exchange_weak(&d->cap.left, &left, MIN(next, quota)));
}

/* Starts @v's next real-time period if this one is over. */
static void rt_refill(struct sched_vcpu *s, uint64_t now)
{
	if (now < s->rt_deadline)
		return;
	s->rt_deadline += s->rt_period;
	if (s->rt_deadline <= now)
		s->rt_deadline = now + s->rt_period;
	s->rt_left = s->rt_budget;
}

/*
 * A sleeper must not bring so much budget along that it would use more than
 * its share up to the deadline: then a new period starts now.
 */
static void rt_wake(struct sched_vcpu *s, uint64_t now)
{
	if (now >= s->rt_deadline ||
	    s->rt_left * s->rt_period > (s->rt_deadline - now) * s->rt_budget) {
		s->rt_deadline = now + s->rt_period;
		s->rt_left = s->rt_budget;
	}
}

/* ns that @v may run from now on; else 0 and when it may again. */
static uint64_t budget(struct vcpu *v, uint64_t now, uint64_t *again)
{
	struct domain *d = v->domain;
	uint64_t left = NEVER;

	if (is_rt(v)) {
		rt_refill(&v->sched, now);
		left = v->sched.rt_left;
		*again = v->sched.rt_deadline;
	} else if (d->sched.cap) {
		int64_t share;

		cap_refill(d, now);
		share = atomic_load_explicit(&d->cap.left, memory_order_relaxed);
		left = share > 0 ? (uint64_t)share : 0;
		*again = atomic_load_explicit(&d->cap.until, memory_order_relaxed);
	}
	return left < SLICE_MIN ? 0 : left;
}

/* Charges the time since the last look to @v, which runs. */
static void account(struct vcpu *v, uint64_t now)
{
	struct sched_vcpu *s = &v->sched;
	uint64_t delta = now - s->since;

	s->since = now;
	if (is_rt(v)) {
		s->rt_left -= MIN(delta, s->rt_left);
		return;
	}
	s->vruntime += VTIME(delta, s->weight);
	if (v->domain->sched.cap)
		atomic_fetch_sub_explicit(&v->domain->cap.left, (int64_t)delta,
					  memory_order_relaxed);
}

/* --- Run queues --------------------------------------------------------- */

/* Returns whether the bit was turned on. */
static bool set_mask(atomic_ulong *mask, unsigned int nr, bool on)
{
	bool was = atomic_load_explicit(mask, memory_order_relaxed) & bit(nr);

	if (on && !was)
		atomic_fetch_or(mask, bit(nr));
	else if (!on && was)
		atomic_fetch_and(mask, ~bit(nr));
	return on && !was;
}

static uint64_t online_mask(void)
{
	return NEVER >> (64 - port_nr_pcpus());
}

/*
 * Tells the others what waits here. When that is new, those that run alone,
 * without a slice, have competition from now on.
 */
static void publish(struct pcpu *p)
{
	struct sched_pcpu *s = &p->sched;
	uint64_t busy;

	atomic_store_explicit(&s->front, s->fair.first ? s->fair.first->key : NEVER,
			      memory_order_relaxed);
	if (likely(!set_mask(&waiting_mask, p->cpu_id, s->nr_stealable && p->current)))
		return;
	busy = online_mask() & ~atomic_load(&idle_mask) & ~bit(p->cpu_id);
	for (; busy; busy &= busy - 1) {
		unsigned int nr = (unsigned int)ffs64(busy);

		if (!timer_is_set(&pcpus[nr]->sched.slice))
			softirq_raise(nr, SOFTIRQ_SCHEDULE);
	}
}

static void queue_add(struct pcpu *p, struct vcpu *v)
{
	v->sched.where = SCHED_QUEUED;
	p->sched.nr_stealable += is_stealable(v);
	if (is_rt(v))
		heap_insert(&p->sched.rt, &v->sched.node, v->sched.rt_deadline);
	else
		heap_insert(&p->sched.fair, &v->sched.node, v->sched.vruntime);
}

static void queue_del(struct pcpu *p, struct vcpu *v)
{
	v->sched.where = SCHED_NOWHERE;
	p->sched.nr_stealable -= is_stealable(v);
	heap_remove(is_rt(v) ? &p->sched.rt : &p->sched.fair, &v->sched.node);
}

/* Keeps a vCPU that comes from elsewhere or from sleep near the CPU's own time. */
static void clamp_vruntime(struct vcpu *v, const struct sched_pcpu *s, uint64_t lag)
{
	uint64_t low = s->vtime - MIN(lag, s->vtime);

	v->sched.vruntime = MIN(MAX(v->sched.vruntime, low), s->vtime + DRIFT_MAX);
}

/* Should @v, just queued at @p, run at once instead of what runs there? */
static bool preempts(const struct pcpu *p, const struct vcpu *v, uint64_t now)
{
	const struct vcpu *c = p->current;

	if (!c || is_rt(v) != is_rt(c))
		return !c || is_rt(v);
	if (is_rt(v))
		return v->sched.rt_deadline < c->sched.rt_deadline;
	return v->sched.vruntime + PREEMPT_LAG <
	       c->sched.vruntime + VTIME(now - c->sched.since, c->sched.weight);
}

/*
 * Wakes all idle CPUs that may take @v from its queue: a single one might take
 * another vCPU instead. Rare, as vCPUs wake on idle CPUs in the first place.
 */
static void poke_idle(const struct vcpu *v)
{
	uint64_t idle = atomic_load(&idle_mask) & v->sched.allowed;

	for (; idle; idle &= idle - 1)
		softirq_raise((unsigned int)ffs64(idle), SOFTIRQ_SCHEDULE);
}

/* Queues @v at @p, its CPU, or throttles it. The caller has @p's lock. */
static void enqueue(struct pcpu *p, struct vcpu *v, uint64_t now)
{
	uint64_t again = 0;

	if (v->runstate.state != RUNSTATE_runnable)
		runstate_change(v, RUNSTATE_runnable, now);
	if (!budget(v, now, &again)) {
		v->sched.where = SCHED_THROTTLED;
		timer_set(&v->sched.timer, again);
		return;
	}
	queue_add(p, v);
	set_mask(&idle_mask, p->cpu_id, false);
	publish(p);
	if (preempts(p, v, now) || !timer_is_set(&p->sched.slice))
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	if (p->current && !v->sched.loaded)
		poke_idle(v);
}

/* Takes @v, which will not run for now, off wherever it is kept. */
static void dequeue(struct pcpu *p, struct vcpu *v)
{
	if (v->sched.where == SCHED_QUEUED) {
		queue_del(p, v);
		publish(p);
	} else if (v->sched.where == SCHED_THROTTLED) {
		v->sched.where = SCHED_NOWHERE;
		timer_stop(&v->sched.timer);
	}
}

/* What a vCPU that does not want to run is said to be. */
static int sleeping_state(const struct vcpu *v)
{
	unsigned int flags = atomic_load_explicit(&v->pause_flags, memory_order_relaxed);

	return flags & ~(PAUSE_BLOCKED | PAUSE_POLL) ? RUNSTATE_offline : RUNSTATE_blocked;
}

/* Where a waking vCPU goes: idle CPUs first, the one it knows before others. */
static unsigned int choose_cpu(const struct vcpu *v, unsigned int last)
{
	uint64_t idle = atomic_load_explicit(&idle_mask, memory_order_relaxed) & v->sched.allowed;

	if (idle & bit(last) || (!idle && v->sched.allowed & bit(last)))
		return last;
	return (unsigned int)ffs64(idle ? idle : v->sched.allowed);
}

/* Asks the CPU that has @v loaded to let go of it. Its lock is held. */
static void request_unload(struct pcpu *p, struct vcpu *v)
{
	v->sched.unload = true;
	softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
}

void sched_wake(struct vcpu *v)
{
	struct sched_vcpu *s = &v->sched;
	struct pcpu *p = lock_vcpu(v);
	unsigned int target = choose_cpu(v, p->cpu_id);

	if (target != p->cpu_id && !s->loaded && s->where == SCHED_NOWHERE) {
		/* Neither queued nor loaded: free to move. The rest is checked again there. */
		write_once(s->cpu, target);
		spin_unlock(&p->sched.lock);
		p = lock_vcpu(v);
	}
	if (s->where == SCHED_NOWHERE && !s->running && vcpu_runnable(v)) {
		uint64_t now = port_time_ns();

		if (is_rt(v) && v->runstate.state != RUNSTATE_runnable)
			rt_wake(s, now);
		if (atomic_load(&idle_mask) & bit(p->cpu_id))
			p->sched.vtime = MAX(p->sched.vtime, atomic_load(&newest_vtime));
		clamp_vruntime(v, &p->sched, WAKE_CREDIT);
		if (s->loaded && !(s->allowed & bit(p->cpu_id)))
			request_unload(p, v);	/* schedule() comes back to it */
		else
			enqueue(p, v, now);
	}
	spin_unlock(&p->sched.lock);
}

void sched_sleep(struct vcpu *v)
{
	struct pcpu *p = lock_vcpu(v);

	if (v->sched.running) {
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	} else if (!vcpu_runnable(v)) {
		dequeue(p, v);
		if (v->runstate.state != sleeping_state(v))
			runstate_change(v, sleeping_state(v), port_time_ns());
	}
	spin_unlock(&p->sched.lock);
}

/* This CPU gives up the state it holds. Own lock held. */
static void unload(struct pcpu *p)
{
	struct vcpu *v = p->sched.loaded;

	cpu->save(v);
	v->sched.loaded = false;
	v->sched.unload = false;
	p->sched.loaded = NULL;
}

bool sched_is_unloaded(struct vcpu *v)
{
	struct pcpu *p = lock_vcpu(v);
	bool done;

	if (v->sched.loaded && p == port_this_pcpu() && p->current != v)
		unload(p);
	else if (v->sched.loaded)
		request_unload(p, v);
	done = !v->sched.loaded;
	spin_unlock(&p->sched.lock);
	return done;
}

void sched_sleep_sync(struct vcpu *v)
{
	ASSERT(v != current_vcpu());
	sched_sleep(v);
	while (!sched_is_unloaded(v))
		port_relax();
}

void sched_yield_slice(struct vcpu *v)
{
	struct pcpu *p = port_this_pcpu();
	uint64_t front = atomic_load_explicit(&p->sched.front, memory_order_relaxed);

	/* A real-time vCPU that yields keeps its budget: its peers are below it anyway. */
	if (front == NEVER || is_rt(v))
		return;
	spin_lock(&p->sched.lock);
	v->sched.vruntime = MAX(v->sched.vruntime, front + 1);
	spin_unlock(&p->sched.lock);
	softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
}

/* --- The switch --------------------------------------------------------- */

/* The CPU of @mask with the least vruntime that waits; NULL: none waits. */
static struct pcpu *find_victim(uint64_t mask, uint64_t *front)
{
	struct pcpu *best = NULL;

	for (*front = NEVER; mask; mask &= mask - 1) {
		struct pcpu *q = pcpus[ffs64(mask)];
		uint64_t f = atomic_load_explicit(&q->sched.front, memory_order_relaxed);

		if (f < *front) {
			*front = f;
			best = q;
		}
	}
	return best;
}

/* Moves one vCPU with a vruntime below @limit from @from's queue to @p's. */
static void steal(struct pcpu *p, struct pcpu *from, uint64_t limit)
{
	struct heap_node *n = from->sched.fair.first;

	for (unsigned int i = 0; n && i < MAX_STEAL_LOOKS; i++, n = heap_next(n)) {
		struct vcpu *v = node_vcpu(n);

		if (v->sched.loaded || !(v->sched.allowed & bit(p->cpu_id)) || n->key >= limit)
			continue;
		queue_del(from, v);
		publish(from);
		write_once(v->sched.cpu, p->cpu_id);
		/* More is no lag: that CPU's time passes slower, for those pinned to it. */
		if (v->sched.vruntime + DRIFT_MAX < p->sched.vtime)
			v->sched.vruntime = p->sched.vtime;
		clamp_vruntime(v, &p->sched, DRIFT_MAX);
		queue_add(p, v);
		return;
	}
}

/* Fills an empty queue, or takes a vCPU that lags behind what we have. Lock held. */
static void balance(struct pcpu *p)
{
	struct heap_node *own = p->sched.fair.first;
	uint64_t limit = own ? own->key - MIN(PREEMPT_LAG, own->key) : NEVER, front, mask;
	struct pcpu *from;

	if (p->sched.rt.first)
		return;
	if (!own)
		set_mask(&idle_mask, p->cpu_id, true);
	for (mask = atomic_load(&waiting_mask) & ~bit(p->cpu_id);
	     (from = find_victim(mask, &front)); mask &= ~bit(from->cpu_id)) {
		/* Alone here, and behind the others for a past that does not count any more. */
		if (own && !own->child && own->key + DRIFT_MAX < front)
			own->key = node_vcpu(own)->sched.vruntime = front - DRIFT_MAX;
		if (front >= limit)
			return;
		spin_unlock(&p->sched.lock);
		spin_lock_pair(&p->sched.lock, &from->sched.lock);
		if (!own)
			p->sched.vtime = MAX(p->sched.vtime, atomic_load(&newest_vtime));
		steal(p, from, limit);
		spin_unlock(&from->sched.lock);
		/* Only an idle CPU looks on when those waiting there may not come here. */
		if (own || p->sched.fair.first || p->sched.rt.first)
			return;
	}
}

/* The current vCPU goes back into the queue if it can go on here. Lock held. */
static void put_current(struct pcpu *p, uint64_t now)
{
	struct vcpu *v = p->current;
	uint64_t again = 0;

	p->current = NULL;
	if (!v)
		return;
	account(v, now);
	atomic_store(&v->sched.running, false);
	if (!vcpu_runnable(v) || !(v->sched.allowed & bit(p->cpu_id)))
		return;
	if (budget(v, now, &again)) {
		queue_add(p, v);
	} else {
		v->sched.where = SCHED_THROTTLED;
		timer_set(&v->sched.timer, again);
	}
}

/* Takes the vCPU to run next out of the queue. Lock held. */
static struct vcpu *pick(struct pcpu *p, uint64_t now)
{
	struct sched_pcpu *s = &p->sched;
	struct vcpu *v = node_vcpu(s->rt.first ? s->rt.first : s->fair.first);

	set_mask(&idle_mask, p->cpu_id, !v);
	p->current = v;
	if (v) {
		queue_del(p, v);
		v->sched.since = now;
		/* A barrier: who signals @v sees it run, or exit_prepare() sees the signal. */
		atomic_store(&v->sched.running, true);
		if (!is_rt(v))
			s->vtime = MAX(s->vtime, v->sched.vruntime);
		if (s->vtime > atomic_load_explicit(&newest_vtime, memory_order_relaxed))
			atomic_store_explicit(&newest_vtime, s->vtime, memory_order_relaxed);
	}
	publish(p);
	return v;
}

/* A slice only where a vCPU, a budget or postponed work waits for its end. Lock held. */
static void set_slice(struct pcpu *p, struct vcpu *v, uint64_t now)
{
	uint64_t again, ns = budget(v, now, &again);

	if (!is_rt(v) && (p->sched.fair.first || atomic_load(&waiting_mask) ||
			  atomic_load_explicit(&p->softirqs, memory_order_relaxed)))
		ns = MIN(ns, SLICE);
	if (ns != NEVER)
		timer_set(&p->sched.slice, now + MAX(ns, SLICE_MIN));
	else if (timer_is_set(&p->sched.slice))
		timer_stop(&p->sched.slice);
}

static void note_runstate(struct vcpu *v, uint64_t now)
{
	int state = v->sched.running ? RUNSTATE_running :
		    vcpu_runnable(v) ? RUNSTATE_runnable : sleeping_state(v);

	if (v->runstate.state != state)
		runstate_change(v, state, now);
}

/* What the incoming vCPU finds, on its own CPU and without a lock. */
static void arrive(struct pcpu *p, struct vcpu *v)
{
	if (v->sched.timers_on != p->cpu_id) {
		v->sched.timers_on = p->cpu_id;
		vlapic_migrate(v);
		timer_migrate(&v->singleshot);
		timer_migrate(&v->periodic);
		timer_migrate(&v->poll_timer);
	}
	runstate_update_area(v);
}

/* Offers what is left in the queue to idle CPUs. Lock held. */
static void poke_waiting(const struct pcpu *p)
{
	struct heap_node *n = p->sched.fair.first;

	for (unsigned int i = 0; n && i < MAX_STEAL_LOOKS; i++, n = heap_next(n)) {
		if (!atomic_load_explicit(&idle_mask, memory_order_relaxed))
			return;
		poke_idle(node_vcpu(n));
	}
}

/*
 * Saves the state this CPU holds if @next needs the room, or if somebody
 * waits for it. Returns the vCPU, with a reference to its domain, when it
 * wants to run but may not do so here. Lock held.
 */
static struct vcpu *evict(struct pcpu *p, const struct vcpu *next)
{
	struct vcpu *v = p->sched.loaded;

	if (!v || v == next ||
	    (!next && !v->sched.unload && (v->sched.allowed & bit(p->cpu_id))))
		return NULL;
	unload(p);
	if (v->sched.where != SCHED_NOWHERE || !vcpu_runnable(v))
		return NULL;
	domain_get(v->domain);
	return v;
}

struct vcpu *schedule(struct pcpu *p)
{
	struct sched_pcpu *s = &p->sched;
	struct vcpu *prev = p->current, *stray, *next;
	uint64_t now = port_time_ns();
	bool load;

	spin_lock(&s->lock);
	put_current(p, now);
	balance(p);
	next = pick(p, now);
	if (prev && prev != next)
		note_runstate(prev, now);
	if (next && next != prev)
		note_runstate(next, now);
	stray = evict(p, next);
	poke_waiting(p);
	load = next && s->loaded != next;
	if (next) {
		set_slice(p, next, now);
		s->loaded = next;
		next->sched.loaded = true;
	} else if (timer_is_set(&s->slice)) {
		timer_stop(&s->slice);
	}
	spin_unlock(&s->lock);
	if (stray) {
		sched_wake(stray);
		domain_put(stray->domain);
	}
	if (load)
		cpu->load(next);
	if (next && unlikely(atomic_load_explicit(&next->startup, memory_order_acquire)))
		vcpu_start(next);
	if (next && next != prev)
		arrive(p, next);
	return next;
}

unsigned int sched_idle_cpu(void)
{
	uint64_t idle = atomic_load_explicit(&idle_mask, memory_order_relaxed);

	return idle ? (unsigned int)ffs64(idle) : port_this_pcpu()->cpu_id;
}

/* --- Attaching, settings ------------------------------------------------ */

static void slice_over(void *data)
{
	softirq_raise(((struct pcpu *)data)->cpu_id, SOFTIRQ_SCHEDULE);
}

static void throttle_over(void *data)
{
	struct vcpu *v = data;
	struct pcpu *p = lock_vcpu(v);

	if (v->sched.where == SCHED_THROTTLED)
		v->sched.where = SCHED_NOWHERE;
	spin_unlock(&p->sched.lock);
	sched_wake(v);
}

void sched_pcpu_init(struct pcpu *p)
{
	p->sched = (struct sched_pcpu){ .front = NEVER };
	spin_init(&p->sched.lock, LOCK_SCHED);
	timer_init(&p->sched.slice, slice_over, p);
	/* They come in rising order: clears this one, and what an earlier machine left. */
	atomic_fetch_and(&idle_mask, bit(p->cpu_id) - 1);
	atomic_fetch_and(&waiting_mask, bit(p->cpu_id) - 1);
}

/*
 * The admission test: finds the CPU of @mask with the most room for @util and
 * books it there instead of what @v has now. Returns the mask @v may use.
 */
static int admit(struct vcpu *v, uint32_t util, uint64_t mask, uint64_t *allowed)
{
	struct pcpu *old = is_rt(v) ? pcpus[ffs64(v->sched.allowed)] : NULL, *best = NULL;

	if (old)
		old->sched.rt_util -= v->sched.rt_util;
	for (uint64_t m = util ? mask : 0; m; m &= m - 1) {
		struct pcpu *p = pcpus[ffs64(m)];

		if (p->sched.rt_util + util <= RT_UTIL_LIMIT &&
		    (!best || p->sched.rt_util < best->sched.rt_util))
			best = p;
	}
	if (util && !best) {
		if (old)
			old->sched.rt_util += v->sched.rt_util;
		return -XEN_ENOSPC;
	}
	if (best)
		best->sched.rt_util += util;
	*allowed = best ? bit(best->cpu_id) : mask;
	return 0;
}

/* Gives @v new settings, if they can be had. Admission lock held. */
static int reconfigure(struct vcpu *v, const struct sched_params *par, uint64_t affinity)
{
	struct sched_vcpu *s = &v->sched;
	uint32_t util = 0;
	uint64_t allowed;
	struct pcpu *p;
	int rc;

	if (par->rt_period_ns)
		util = (uint32_t)((par->rt_budget_ns * 1000000 + par->rt_period_ns - 1) /
				  par->rt_period_ns);
	rc = admit(v, util, affinity, &allowed);
	if (rc)
		return rc;
	p = lock_vcpu(v);
	if (s->running)
		account(v, port_time_ns());
	dequeue(p, v);
	s->affinity = affinity;
	s->allowed = allowed;
	s->weight = par->weight;
	s->rt_util = util;
	s->rt_period = par->rt_period_ns;
	s->rt_budget = par->rt_budget_ns;
	s->rt_deadline = 0;	/* the next look at the budget begins a period */
	if (s->loaded)
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	spin_unlock(&p->sched.lock);
	sched_wake(v);
	return 0;
}

int sched_vcpu_init(struct vcpu *v)
{
	unsigned int nr = (v->domain->slot + v->id) % port_nr_pcpus();
	int rc;

	v->sched = (struct sched_vcpu){
		.cpu = nr, .timers_on = nr, .allowed = online_mask(), .weight = SCHED_WEIGHT_DEFAULT,
	};
	timer_init(&v->sched.timer, throttle_over, v);
	v->runstate.state = RUNSTATE_offline;
	v->runstate.entry = port_time_ns();
	spin_lock(&admission);
	rc = reconfigure(v, &v->domain->sched, v->sched.allowed);
	spin_unlock(&admission);
	return rc;
}

void sched_vcpu_destroy(struct vcpu *v)
{
	uint64_t allowed;

	timer_kill(&v->sched.timer);
	spin_lock(&admission);
	admit(v, 0, v->sched.affinity, &allowed);
	spin_unlock(&admission);
}

static bool params_valid(const struct sched_params *par)
{
	return par->weight && par->cap <= 100 * MAX_VCPUS &&
	       (par->rt_period_ns == 0 ||
		(par->rt_period_ns >= RT_PERIOD_MIN && par->rt_period_ns <= RT_PERIOD_MAX &&
		 par->rt_budget_ns >= SLICE_MIN && par->rt_budget_ns <= par->rt_period_ns));
}

int sched_set_params(struct domain *d, const struct sched_params *par)
{
	unsigned int i;
	int rc = 0;

	if (!params_valid(par))
		return -XEN_EINVAL;
	spin_lock(&admission);
	for (i = 0; i < d->nr_vcpus && !rc; i++)
		rc = reconfigure(d->vcpus[i], par, d->vcpus[i]->sched.affinity);
	if (!rc)
		d->sched = *par;
	else
		for (i--; i-- > 0;)	/* what was theirs still fits: we have the lock */
			reconfigure(d->vcpus[i], &d->sched, d->vcpus[i]->sched.affinity);
	spin_unlock(&admission);
	return rc;
}

int sched_set_affinity(struct vcpu *v, uint64_t mask)
{
	int rc;

	mask &= online_mask();
	if (!mask)
		return -XEN_EINVAL;
	spin_lock(&admission);
	rc = reconfigure(v, &v->domain->sched, mask);
	spin_unlock(&admission);
	return rc;
}

void sched_runstate(struct vcpu *v, struct vcpu_runstate_info *info)
{
	struct pcpu *p = lock_vcpu(v);

	*info = (struct vcpu_runstate_info){
		.state = v->runstate.state,
		.state_entry_time = v->runstate.entry,
	};
	memcpy(info->time, v->runstate.time, sizeof(info->time));
	info->time[info->state] += port_time_ns() - v->runstate.entry;
	spin_unlock(&p->sched.lock);
}
