/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: weighted fair by virtual time, a real-time class above it.
 *
 * Fair: each vCPU's run time, divided by its weight, is its vruntime; a CPU
 * runs the least one that waits in its queue. The scale is the same on all
 * CPUs, so at the end of a slice a CPU also looks whether one that waits
 * elsewhere lags behind, and takes it. Real-time: earliest deadline first among
 * vCPUs that admission bound to a CPU. Budgets: of a real-time vCPU, and of the
 * vCPUs of a capped domain together; who has used it up waits for its next period.
 *
 * Owns: struct sched_vcpu, sched_pcpu, sched_budget.
 * Locks: a vCPU's fields are covered by the lock of the CPU in sched.cpu; that
 * only changes under this lock, and while its state is loaded on no CPU.
 * Masks are for lock-free looks: a CPU that goes idle sets its bit and then
 * looks for work, one that queues work sets its bit and then looks for an idle
 * CPU; so one of them sees the other.
 */
#include "hospes/sched.h"

#include "hospes/domain.h"

#define NEVER UINT64_MAX
#define US 1000ULL
#define SLICE (5000 * US)
#define SLICE_MIN (20 * US)	/* what is left of a budget below this is not worth a switch */
#define CAP_PERIOD (10000 * US)
#define RT_PERIOD_MIN (100 * US)
#define RT_PERIOD_MAX (1000000 * US)
#define RT_UTIL_LIMIT 950000u	/* ppm of a CPU; the rest keeps the machine manageable */
#define MAX_LOOKS 64		/* into a queue of a CPU */

/* Virtual time of @ns at @weight. 64 leaves room for four years at weight 1. */
#define VTIME(ns, weight) (((ns) * 64 + (weight) / 2) / (weight))
#define VTIME_START (1ULL << 63 | 1ULL << 40)	/* deadlines are less: they come first */
#define WAKE_CREDIT VTIME(3000 * US, SCHED_WEIGHT_DEFAULT) /* how far who wakes may lag, */
#define PREEMPT_LAG VTIME(1000 * US, SCHED_WEIGHT_DEFAULT) /* and must, to preempt */
#define DRIFT_MAX VTIME(20000 * US, SCHED_WEIGHT_DEFAULT) /* from the CPU one moves to */

static atomic_ulong idle_mask;		/* CPUs that run nothing */
static atomic_ulong lone_mask;		/* those that run one vCPU, without a slice */
static atomic_ulong waiting_mask;	/* busy CPUs with queued vCPUs that others may take */
static atomic_ulong newest_vtime = VTIME_START; /* of any CPU: where one that was idle goes on */
static struct spinlock admission = SPINLOCK(LOCK_ADMIT);

static uint64_t bit(unsigned int nr)
{
	return 1ULL << nr;
}

static void set_mask(atomic_ulong *mask, unsigned int nr, bool on)
{
	bool was = atomic_load_explicit(mask, memory_order_relaxed) & bit(nr);

	if (on && !was)
		atomic_fetch_or(mask, bit(nr));
	else if (!on && was)
		atomic_fetch_and(mask, ~bit(nr));
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

/* --- Budgets ------------------------------------------------------------ */

static struct sched_budget *budget_of(struct vcpu *v)
{
	if (is_rt(v))
		return &v->sched.rt;
	return v->domain->cap.quota ? &v->domain->cap : NULL;
}

/* ns that @v may run from now on. Starts the next period if it is due; a debt is paid first. */
static uint64_t budget_left(struct vcpu *v, uint64_t now)
{
	struct sched_budget *b = budget_of(v);
	uint64_t until, periods;
	int64_t left, quota;

	if (likely(!b))
		return NEVER;
	until = atomic_load_explicit(&b->until, memory_order_acquire);
	left = atomic_load_explicit(&b->left, memory_order_relaxed);
	if (now >= until) {
		/* Of several CPUs one does it; the others come back to see what is left. */
		if (until == SCHED_REFILL ||
		    !atomic_compare_exchange_strong(&b->until, &until, SCHED_REFILL))
			return SLICE_MIN;
		periods = 1 + (now - until) / b->period;
		quota = (int64_t)b->quota;
		atomic_fetch_add(&b->left, MIN(quota * (int64_t)MIN(periods, 1000000u),
					       quota - left));
		atomic_store(&b->until, until + periods * b->period);
		left = atomic_load_explicit(&b->left, memory_order_relaxed);
	}
	return left < (int64_t)SLICE_MIN ? 0 : (uint64_t)left;
}

/*
 * A sleeper must not bring so much budget along that it would use more than
 * its share up to the deadline: then a new period starts now. Its sleep has
 * paid a debt as far as periods went by meanwhile.
 */
static void rt_wake(struct vcpu *v, uint64_t now)
{
	struct sched_budget *b = &v->sched.rt;

	if (budget_left(v, now) * b->period <= (atomic_load(&b->until) - now) * b->quota)
		return;
	atomic_store(&b->until, now + b->period);
	atomic_store(&b->left, (int64_t)b->quota);
}

/*
 * Charges the time since the last look to who runs on @p. Alone it gets no
 * slices, but the CPU's own time goes on as if it did: who comes then is put
 * beside it, not to where it began. Lock held.
 */
static void account(struct pcpu *p, uint64_t now)
{
	struct vcpu *v = p->current;
	struct sched_budget *b = budget_of(v);
	uint64_t delta = MAX(now, v->sched.since) - v->sched.since;

	v->sched.since += delta;
	p->sched.used += delta;
	v->sched.vruntime += VTIME(delta, v->sched.weight);
	if (!is_rt(v))
		p->sched.vtime = MAX(p->sched.vtime, v->sched.vruntime -
				     VTIME(SLICE, v->sched.weight));
	if (b)
		atomic_fetch_sub_explicit(&b->left, (int64_t)delta, memory_order_relaxed);
}

static void throttle(struct vcpu *v, uint64_t until)
{
	v->sched.where = SCHED_THROTTLED;
	timer_set(&v->sched.timer, until);
}

/* --- Run queues --------------------------------------------------------- */

/* Tells the others what waits here. */
static void publish(struct pcpu *p)
{
	struct sched_pcpu *s = &p->sched;

	atomic_store_explicit(&s->front, s->queue.first ? s->queue.first->key : NEVER,
			      memory_order_relaxed);
	set_mask(&waiting_mask, p->cpu_id, s->nr_stealable && (p->current || s->busy));
}

/* What the queue is sorted by. */
static uint64_t rank(const struct vcpu *v)
{
	return is_rt(v) ? atomic_load(&v->sched.rt.until) : v->sched.vruntime;
}

static bool is_stealable(const struct vcpu *v)
{
	return v->sched.allowed & (v->sched.allowed - 1);
}

static void queue_add(struct pcpu *p, struct vcpu *v)
{
	v->sched.where = SCHED_QUEUED;
	p->sched.nr_stealable += is_stealable(v);
	heap_insert(&p->sched.queue, &v->sched.node, rank(v));
}

static void queue_del(struct pcpu *p, struct vcpu *v)
{
	v->sched.where = SCHED_NOWHERE;
	p->sched.nr_stealable -= is_stealable(v);
	heap_remove(&p->sched.queue, &v->sched.node);
}

/* Queues @v at @p, or throttles it. */
static bool queue_ready(struct pcpu *p, struct vcpu *v, uint64_t now)
{
	if (budget_left(v, now)) {
		queue_add(p, v);
		return true;
	}
	throttle(v, atomic_load(&budget_of(v)->until));
	return false;
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

/* Keeps a vCPU that comes from elsewhere or from sleep near the CPU's own time. */
static void clamp_vruntime(struct pcpu *p, struct vcpu *v, uint64_t lag)
{
	struct sched_pcpu *s = &p->sched;

	if (!p->current && !s->queue.first)
		s->vtime = MAX(s->vtime, atomic_load(&newest_vtime));
	v->sched.vruntime = MIN(MAX(v->sched.vruntime, s->vtime - lag), s->vtime + DRIFT_MAX);
}

/* Should @v, just queued at @p, run at once instead of what runs there? Never where @p is busy. */
static bool preempts(const struct pcpu *p, const struct vcpu *v)
{
	if (!p->current)
		return !p->sched.busy;
	return rank(v) + (is_rt(v) ? 0 : PREEMPT_LAG) < rank(p->current);
}

/*
 * Who waits may run on @allowed: those of them that are idle look for work, all
 * of them, as a single one might take another vCPU instead; and who runs alone
 * has competition from now on.
 */
static void poke(uint64_t allowed)
{
	uint64_t mask = allowed & (atomic_load(&idle_mask) | atomic_load(&lone_mask));

	for (; mask; mask &= mask - 1)
		softirq_raise((unsigned int)ffs64(mask), SOFTIRQ_SCHEDULE);
}

/* --- Waking and sleeping ------------------------------------------------ */

/* Counts its time up to now as what it did, and from now on as what it does. */
static void note_runstate(struct vcpu *v, uint64_t now)
{
	unsigned int flags = atomic_load_explicit(&v->pause_flags, memory_order_acquire);
	int state = flags & ~(PAUSE_BLOCKED | PAUSE_POLL) ? RUNSTATE_offline : RUNSTATE_blocked;

	if (!flags || v->sched.running)
		state = v->sched.running ? RUNSTATE_running : RUNSTATE_runnable;
	if (v->runstate.state != state)
		runstate_change(v, state, now);
}

/* Where a waking vCPU goes: idle CPUs first, the one it knows before others. */
static unsigned int choose_cpu(const struct vcpu *v, unsigned int last)
{
	uint64_t idle = atomic_load_explicit(&idle_mask, memory_order_relaxed) & v->sched.allowed;

	if (idle & bit(last) || (!idle && v->sched.allowed & bit(last)))
		return last;
	return (unsigned int)ffs64(idle ? idle : v->sched.allowed);
}

/* Queues @v, which wants to run, at @p, its CPU. Lock held. */
static void enqueue(struct pcpu *p, struct vcpu *v)
{
	uint64_t now = port_time_ns();

	if (p->current)
		account(p, now);
	dequeue(p, v);
	if (is_rt(v) && v->runstate.state != RUNSTATE_runnable)
		rt_wake(v, now);
	clamp_vruntime(p, v, WAKE_CREDIT);
	note_runstate(v, now);
	if (v->sched.loaded && !(v->sched.allowed & bit(p->cpu_id))) {
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);	/* evict() comes back to it */
		return;
	}
	if (!queue_ready(p, v, now))
		return;
	set_mask(&idle_mask, p->cpu_id, false);
	publish(p);
	if (preempts(p, v))
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	else
		poke(v->sched.allowed);
}

void sched_wake(struct vcpu *v)
{
	struct sched_vcpu *s = &v->sched;
	struct pcpu *p = lock_vcpu(v);
	unsigned int target = choose_cpu(v, p->cpu_id);

	if (target != p->cpu_id && !s->loaded && s->where != SCHED_QUEUED) {
		/* Neither queued nor loaded: free to move. The rest is checked again there. */
		write_once(s->cpu, target);
		spin_unlock(&p->sched.lock);
		p = lock_vcpu(v);
	}
	if (s->where != SCHED_QUEUED && !s->running && vcpu_runnable(v))
		enqueue(p, v);
	spin_unlock(&p->sched.lock);
}

void sched_sleep(struct vcpu *v)
{
	struct pcpu *p = lock_vcpu(v);

	if (v->sched.running) {
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	} else if (!vcpu_runnable(v)) {
		dequeue(p, v);
		note_runstate(v, port_time_ns());
	}
	spin_unlock(&p->sched.lock);
}

/*
 * Saves the state this CPU holds if @next needs the room, if it idled already
 * and is asked again, or if the vCPU may not run here but soon elsewhere. On
 * the CPU itself, lock held.
 */
static void evict(struct pcpu *p, const struct vcpu *prev, const struct vcpu *next, uint64_t now)
{
	struct vcpu *v = p->sched.loaded;

	if (!v || v == next || (prev && !next && (v->sched.allowed & bit(p->cpu_id))))
		return;
	cpu->save(v);
	v->sched.loaded = false;
	p->sched.loaded = NULL;
	if (v->sched.where == SCHED_NOWHERE && vcpu_runnable(v))
		throttle(v, now);
}

bool sched_is_unloaded(struct vcpu *v)
{
	struct pcpu *p = lock_vcpu(v);
	bool done;

	if (v->sched.loaded && p == port_this_pcpu() && p->current != v)
		evict(p, NULL, NULL, port_time_ns());
	else if (v->sched.loaded)
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
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

/* Who ranks below this lags behind all that waits at @p. */
static uint64_t limit(const struct pcpu *p)
{
	return p->sched.queue.first ? p->sched.queue.first->key - PREEMPT_LAG : NEVER;
}

/* Moves one vCPU that lags from @from's queue to @p's. */
static void steal(struct pcpu *p, struct pcpu *from)
{
	struct heap_node *n = from->sched.queue.first;

	for (unsigned int i = 0; n && i < MAX_LOOKS; i++, n = heap_next(n)) {
		struct vcpu *v = node_vcpu(n);

		if (v->sched.loaded || !(v->sched.allowed & bit(p->cpu_id)) || n->key >= limit(p))
			continue;
		queue_del(from, v);
		publish(from);
		write_once(v->sched.cpu, p->cpu_id);
		clamp_vruntime(p, v, DRIFT_MAX);
		queue_add(p, v);
		return;
	}
}

/* Fills an empty queue, or takes vCPUs that lag behind what we have. Lock held. */
static void balance(struct pcpu *p)
{
	struct sched_pcpu *s = &p->sched;

	if (!s->queue.first)
		set_mask(&idle_mask, p->cpu_id, true);
	for (uint64_t mask = atomic_load(&waiting_mask) & ~bit(p->cpu_id); mask; mask &= mask - 1) {
		struct pcpu *from = pcpus[ffs64(mask)];

		if (atomic_load_explicit(&from->sched.front, memory_order_relaxed) >= limit(p))
			continue;
		spin_unlock(&s->lock);
		spin_lock_pair(&s->lock, &from->sched.lock);
		steal(p, from);
		spin_unlock(&from->sched.lock);
	}
}

/* The current vCPU goes back into the queue if it can go on here. Lock held. */
static void put_current(struct pcpu *p, uint64_t now)
{
	struct vcpu *v = p->current;

	if (!v)
		return;
	account(p, now);
	p->current = NULL;
	atomic_store(&v->sched.running, false);
	if (vcpu_runnable(v) && v->sched.allowed & bit(p->cpu_id))
		queue_ready(p, v, now);
}

/* Takes the vCPU to run next out of the queue. Lock held. */
static struct vcpu *pick(struct pcpu *p, uint64_t now)
{
	struct sched_pcpu *s = &p->sched;
	struct vcpu *v = node_vcpu(s->queue.first);
	uint64_t newest = atomic_load_explicit(&newest_vtime, memory_order_relaxed);

	set_mask(&idle_mask, p->cpu_id, !v);
	p->current = v;
	if (v) {
		queue_del(p, v);
		v->sched.since = now;
		/* A barrier: who signals @v sees it run, or exit_prepare() sees the signal. */
		atomic_store(&v->sched.running, true);
		/* Alone here, and behind the others for a past that does not count any more. */
		if (!s->queue.first)
			v->sched.vruntime = MAX(v->sched.vruntime, newest - DRIFT_MAX);
		if (!is_rt(v))
			s->vtime = MAX(s->vtime, v->sched.vruntime);
		if (s->vtime > newest)
			atomic_store_explicit(&newest_vtime, s->vtime, memory_order_relaxed);
	}
	publish(p);
	return v;
}

/* A slice only where a vCPU, a budget or postponed work waits for its end. Lock held. */
static void set_slice(struct pcpu *p, struct vcpu *v, uint64_t now)
{
	uint64_t ns = v ? budget_left(v, now) : NEVER;
	bool shares = v && !is_rt(v);
	bool lone = shares && !p->sched.queue.first && !atomic_load(&waiting_mask) &&
		    !atomic_load_explicit(&p->softirqs, memory_order_relaxed);

	set_mask(&lone_mask, p->cpu_id, lone);
	if (shares && !lone)
		ns = MIN(ns, SLICE);
	if (ns != NEVER)
		timer_set(&p->sched.slice, now + MAX(ns, SLICE_MIN));
	else
		timer_stop(&p->sched.slice);
}

/* Offers what is left in the queue. Lock held. */
static void offer_waiting(const struct pcpu *p)
{
	struct heap_node *n = p->sched.queue.first;
	uint64_t allowed = 0;

	for (unsigned int i = 0; n && i < MAX_LOOKS; i++, n = heap_next(n))
		allowed |= node_vcpu(n)->sched.allowed;
	poke(allowed & ~bit(p->cpu_id));
}

struct vcpu *schedule(struct pcpu *p)
{
	struct sched_pcpu *s = &p->sched;
	struct vcpu *prev = p->current, *next;
	uint64_t now;
	bool load;

	spin_lock(&s->lock);
	now = port_time_ns();
	s->busy = false;
	put_current(p, now);
	balance(p);
	/* It let go of the lock: others may have woken meanwhile, the last one too. */
	now = port_time_ns();
	next = pick(p, now);
	if (prev && prev != next)
		note_runstate(prev, now);
	if (next)
		note_runstate(next, now);
	evict(p, prev, next, now);
	offer_waiting(p);
	set_slice(p, next, now);
	load = next && s->loaded != next;
	if (load) {
		s->loaded = next;
		next->sched.loaded = true;
	}
	spin_unlock(&s->lock);
	if (load) {
		cpu->load(next);
		timer_migrate(&next->lapic.timer);
		timer_migrate(&next->singleshot);
		timer_migrate(&next->periodic);
		timer_migrate(&next->poll_timer);
	}
	if (next && unlikely(atomic_load_explicit(&next->startup, memory_order_acquire)))
		vcpu_start(next);
	if (next && next != prev)
		runstate_update_area(next);
	return next;
}

unsigned int sched_idle_cpu(void)
{
	uint64_t idle = atomic_load_explicit(&idle_mask, memory_order_relaxed);

	return idle ? (unsigned int)ffs64(idle) : port_this_pcpu()->cpu_id;
}

void sched_busy(void)
{
	struct pcpu *p = port_this_pcpu();
	struct vcpu *v = p->current;
	uint64_t now;

	spin_lock(&p->sched.lock);
	now = port_time_ns();
	p->sched.busy = true;
	put_current(p, now);
	if (v)
		note_runstate(v, now);
	evict(p, NULL, NULL, now);
	set_mask(&idle_mask, p->cpu_id, false);
	publish(p);
	offer_waiting(p);
	spin_unlock(&p->sched.lock);
}

/* --- Attaching, settings ------------------------------------------------ */

static void slice_over(void *data)
{
	softirq_raise(((struct pcpu *)data)->cpu_id, SOFTIRQ_SCHEDULE);
}

static void throttle_over(void *data)
{
	sched_wake(data);
}

void sched_pcpu_init(struct pcpu *p)
{
	p->sched = (struct sched_pcpu){ .front = NEVER, .vtime = VTIME_START };
	spin_init(&p->sched.lock, LOCK_SCHED);
	timer_init(&p->sched.slice, slice_over, p);
	/* They come in rising order: clears this one, and what an earlier machine left. */
	atomic_fetch_and(&idle_mask, bit(p->cpu_id) - 1);
	atomic_fetch_and(&lone_mask, bit(p->cpu_id) - 1);
	atomic_fetch_and(&waiting_mask, bit(p->cpu_id) - 1);
}

/*
 * The admission test: finds the CPU of @mask with the most room for @util and
 * books it there instead of what @v has now. Returns the mask @v may use.
 */
static int admit(struct vcpu *v, uint32_t util, uint64_t mask, uint64_t *allowed)
{
	struct pcpu *old = pcpus[ffs64(v->sched.allowed)], *best = NULL;

	old->sched.rt_util -= v->sched.rt_util;
	for (uint64_t m = mask; m; m &= m - 1) {
		struct pcpu *p = pcpus[ffs64(m)];

		if (!best || p->sched.rt_util < best->sched.rt_util)
			best = p;
	}
	if (util && best->sched.rt_util + util > RT_UTIL_LIMIT) {
		old->sched.rt_util += v->sched.rt_util;
		return -XEN_ENOSPC;
	}
	best->sched.rt_util += util;
	*allowed = util ? bit(best->cpu_id) : mask;
	return 0;
}

/* Gives @v new settings, if they can be had. Admission lock held. */
static int reconfigure(struct vcpu *v, const struct sched_params *par, uint64_t affinity)
{
	struct sched_vcpu *s = &v->sched;
	uint64_t allowed, now, period = par->rt_period_ns;
	uint32_t util = !period ? 0 :
			(uint32_t)((par->rt_budget_ns * 1000000 + period - 1) / period);
	struct pcpu *p;
	int rc;

	rc = admit(v, util, affinity, &allowed);
	if (rc)
		return rc;
	p = lock_vcpu(v);
	now = port_time_ns();
	if (p->current)
		account(p, now);
	dequeue(p, v);
	s->affinity = affinity;
	s->allowed = allowed;
	s->weight = par->weight;
	s->rt_util = util;
	s->rt = (struct sched_budget){ .period = period, .quota = par->rt_budget_ns,
		.until = now + period, .left = (int64_t)par->rt_budget_ns };
	clamp_vruntime(p, v, WAKE_CREDIT);
	if (s->loaded)
		softirq_raise(p->cpu_id, SOFTIRQ_SCHEDULE);
	spin_unlock(&p->sched.lock);
	sched_wake(v);
	return 0;
}

int sched_set_affinity(struct vcpu *v, uint64_t mask)
{
	int rc;

	mask &= NEVER >> (64 - port_nr_pcpus());
	if (!mask)
		return -XEN_EINVAL;
	spin_lock(&admission);
	rc = reconfigure(v, &v->domain->sched, mask);
	spin_unlock(&admission);
	return rc;
}

int sched_vcpu_init(struct vcpu *v)
{
	unsigned int nr = (v->domain->slot + v->id) % port_nr_pcpus();

	v->sched = (struct sched_vcpu){ .cpu = nr, .allowed = bit(nr) };
	timer_init(&v->sched.timer, throttle_over, v);
	v->runstate.state = RUNSTATE_offline;
	v->runstate.state_entry_time = port_time_ns();
	return sched_set_affinity(v, NEVER);
}

void sched_vcpu_destroy(struct vcpu *v)
{
	timer_kill(&v->sched.timer);
	spin_lock(&admission);
	pcpus[ffs64(v->sched.allowed)]->sched.rt_util -= v->sched.rt_util;
	spin_unlock(&admission);
}

int sched_set_params(struct domain *d, const struct sched_params *par)
{
	unsigned int i;
	int rc = 0;

	if (!par->weight || par->cap > 100 * MAX_VCPUS ||
	    (par->rt_period_ns &&
	     (par->rt_period_ns < RT_PERIOD_MIN || par->rt_period_ns > RT_PERIOD_MAX ||
	      par->rt_budget_ns < SLICE_MIN || par->rt_budget_ns > par->rt_period_ns)))
		return -XEN_EINVAL;
	spin_lock(&admission);
	for (i = 0; i < d->nr_vcpus; i++) {
		rc = reconfigure(d->vcpus[i], par, d->vcpus[i]->sched.affinity);
		if (rc)
			break;
	}
	while (rc && i-- > 0)	/* what was theirs still fits: we have the lock */
		reconfigure(d->vcpus[i], &d->sched, d->vcpus[i]->sched.affinity);
	if (!rc) {
		d->sched = *par;
		d->cap.period = CAP_PERIOD;
		write_once(d->cap.quota, par->cap * (CAP_PERIOD / 100));
	}
	spin_unlock(&admission);
	return rc;
}

void sched_runstate(struct vcpu *v, struct vcpu_runstate_info *info)
{
	struct pcpu *p = lock_vcpu(v);

	*info = v->runstate;
	info->time[info->state] += port_time_ns() - info->state_entry_time;
	spin_unlock(&p->sched.lock);
}

uint64_t sched_idle_ns(struct pcpu *p)
{
	uint64_t idle;

	spin_lock(&p->sched.lock);
	idle = port_time_ns();
	if (p->current)
		account(p, idle);
	idle -= p->sched.used;
	spin_unlock(&p->sched.lock);
	return idle;
}
