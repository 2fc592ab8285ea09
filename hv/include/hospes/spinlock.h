/* SPDX-License-Identifier: MIT */
/*
 * Locks. Fair ticket spinlocks, and a reader-writer lock for the p2m.
 *
 * Every lock has a level; a CPU takes locks in rising level only (equal
 * levels only through the *_pair helpers). Builds with HOSPES_DEBUG check
 * this at run time. docs/locking.md is the table of levels.
 */
#ifndef HOSPES_SPINLOCK_H
#define HOSPES_SPINLOCK_H

#include <stdatomic.h>

#include "hospes/port.h"

enum lock_level {
	LOCK_DOMLIST = 10,	/* the list of domains */
	LOCK_DOMAIN = 20,	/* struct domain life cycle and settings */
	LOCK_GRANT = 30,	/* a domain's grant table */
	LOCK_VPCI = 35,		/* the PCI devices of the control domain */
	LOCK_P2M = 40,		/* a domain's nested page table (rwlock) */
	LOCK_EVTCHN = 50,	/* a domain's event channels */
	LOCK_LINK = 51,		/* which event channels are two ends of one */
	LOCK_CHANNEL = 52,	/* one end of an event channel */
	LOCK_FIFO = 55,		/* the FIFO event queues of a vCPU */
	LOCK_VIOAPIC = 56,	/* the IO-APICs of the control domain */
	LOCK_VLAPIC = 57,	/* a vCPU's local APIC */
	LOCK_ADMIT = 58,	/* admission to the real-time class */
	LOCK_SCHED = 60,	/* scheduler run queue of one CPU */
	LOCK_TIMER = 65,	/* timer queue of one CPU */
	LOCK_IOMMU = 68,	/* IOMMU units, who has which device, what waits for a flush */
	LOCK_CHIPSET = 69,	/* registers reached by writing an index first */
	LOCK_HEAP = 70,		/* page allocator and small allocations */
	LOCK_MUX = 80,		/* guest consoles on the serial line */
};

struct spinlock {
	atomic_uint next;	/* next ticket to hand out */
	atomic_uint owner;	/* ticket being served */
	unsigned int level;
};

#define SPINLOCK(lvl) { .level = (lvl) }

#ifdef HOSPES_DEBUG			/* implemented by the fake machine of the tests */
void lock_check_acquire(unsigned int level, bool equal_ok);
void lock_check_release(unsigned int level);
void lock_check_none(void);	/* panics when this CPU holds any */
void lock_check_reset(void);	/* forgets what it holds: after a panic in a test */
#define ASSERT(c) ((c) ? (void)0 : port_panic("assertion '%s' at %s:%d", #c, __FILE__, __LINE__))
#else
#define ASSERT(c) ((void)sizeof(!(c)))
static inline void lock_check_acquire(unsigned int level, bool equal_ok) {}
static inline void lock_check_release(unsigned int level) {}
#endif

static inline void spin_init(struct spinlock *l, enum lock_level level)
{
	*l = (struct spinlock)SPINLOCK(level);
}

/* Without the check of levels: for spin_lock() and spin_lock_pair() only. */
static inline void spin_lock_raw(struct spinlock *l)
{
	unsigned int ticket = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);

	while (unlikely(atomic_load_explicit(&l->owner, memory_order_acquire) != ticket))
		port_relax();
}

static inline void spin_lock(struct spinlock *l)
{
	lock_check_acquire(l->level, false);
	spin_lock_raw(l);
}

/* Where waiting is not possible: from an NMI, or maybe with @l held. */
static inline bool __must_check spin_trylock(struct spinlock *l)
{
	unsigned int owner = atomic_load_explicit(&l->owner, memory_order_relaxed);

	if (!atomic_compare_exchange_strong_explicit(&l->next, &owner, owner + 1,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	lock_check_acquire(l->level, false);
	return true;
}

static inline void spin_unlock(struct spinlock *l)
{
	unsigned int owner = atomic_load_explicit(&l->owner, memory_order_relaxed);

	lock_check_release(l->level);
	atomic_store_explicit(&l->owner, owner + 1, memory_order_release);
}

/* Two locks of one level, in address order; a may equal b. */
static inline void spin_lock_pair(struct spinlock *a, struct spinlock *b)
{
	struct spinlock *first = (uintptr_t)a < (uintptr_t)b ? a : b;
	struct spinlock *second = first == a ? b : a;

	spin_lock(first);
	if (first == second)
		return;
	lock_check_acquire(second->level, true);
	spin_lock_raw(second);
}

static inline void spin_unlock_pair(struct spinlock *a, struct spinlock *b)
{
	spin_unlock(a);
	if (a != b)
		spin_unlock(b);
}

static inline bool spin_is_locked(const struct spinlock *l)
{
	return atomic_load_explicit(&l->next, memory_order_relaxed) !=
	       atomic_load_explicit(&l->owner, memory_order_relaxed);
}

#define assert_locked(l) ASSERT(spin_is_locked(l))

/*
 * Many readers or one writer. A waiting writer keeps new readers out, so a
 * guest that reads all the time cannot starve it; therefore a CPU must not
 * take the read side twice.
 */
struct rwlock {
	atomic_uint state;	/* RW_WRITER | number of readers */
	struct spinlock writers;
};

#define RW_WRITER 0x80000000u

static inline void rw_init(struct rwlock *l, enum lock_level level)
{
	*l = (struct rwlock){ .writers = SPINLOCK(level) };
}

static inline void read_lock(struct rwlock *l)
{
	lock_check_acquire(l->writers.level, false);
	for (;;) {
		unsigned int old = atomic_fetch_add_explicit(&l->state, 1, memory_order_acquire);

		if (likely(!(old & RW_WRITER)))
			return;
		atomic_fetch_sub_explicit(&l->state, 1, memory_order_relaxed);
		while (atomic_load_explicit(&l->state, memory_order_relaxed) & RW_WRITER)
			port_relax();
	}
}

static inline void read_unlock(struct rwlock *l)
{
	lock_check_release(l->writers.level);
	atomic_fetch_sub_explicit(&l->state, 1, memory_order_release);
}

static inline void write_lock(struct rwlock *l)
{
	spin_lock(&l->writers);
	atomic_fetch_or_explicit(&l->state, RW_WRITER, memory_order_acquire);
	while (atomic_load_explicit(&l->state, memory_order_acquire) != RW_WRITER)
		port_relax();
}

static inline void write_unlock(struct rwlock *l)
{
	atomic_fetch_and_explicit(&l->state, ~RW_WRITER, memory_order_release);
	spin_unlock(&l->writers);
}

#endif
