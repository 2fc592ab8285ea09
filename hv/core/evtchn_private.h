/* SPDX-License-Identifier: MIT */
/*
 * What the files of the event channels share: the channel, and the two ABIs.
 *
 * Locks: struct evtchn.lock (LOCK_CHANNEL) covers one end's binding. It
 * changes only with d->evtchn.lock held too, and an interdomain binding only
 * with the locks of both ends. So whoever holds the lock of one end may raise
 * the other: sending takes this one lock and no domain's. Linking ends and
 * closing them takes a lock of all domains, so that the other end stays there
 * until its lock is taken.
 */
#ifndef HOSPES_EVTCHN_PRIVATE_H
#define HOSPES_EVTCHN_PRIVATE_H

#include "hospes/domain.h"
#include "hospes/lib.h"

#define CHANNELS_PER_BUCKET 64u		/* one page; and the ports of a word of the free map */
#define EVTCHNSTAT_hypervisor 6u	/* the other end is Hospes itself */

struct evtchn_binding {
	uint8_t state;			/* EVTCHNSTAT_* */
	uint16_t vcpu;			/* whom it notifies; read without the lock too */
	union {
		struct {
			struct domain *domain;	/* borrowed: it closes before it goes */
			struct evtchn *chn;
		} peer;
		domid_t unbound_for;
		struct {
			uint32_t nr;	/* of the VIRQ or PIRQ */
			uint32_t *slot;	/* borrowed: names the port */
		} irq;
		evtchn_notify_fn *notify;
	};
};

struct evtchn {
	struct spinlock lock;
	uint32_t port;			/* constant */
	struct evtchn_binding to;
	uint8_t priority;		/* FIFO: for the next event; read_once() */
	atomic_bool early;		/* FIFO: raised before its event word was there */
	uint8_t queue_priority;		/* FIFO: the queue it was last in; that queue's lock */
	uint16_t queue_vcpu;
} __aligned(64);
_Static_assert(sizeof(struct evtchn) == 64, "one cache line each");

/* The channel of @port, in use or not, or NULL beyond what was ever allocated. */
static inline struct evtchn *evtchn_lookup(const struct domain *d, uint32_t port)
{
	uint32_t nr = __atomic_load_n(&d->evtchn.nr_ports, __ATOMIC_ACQUIRE);

	if (port >= nr)
		return NULL;
	port = (uint32_t)index_nospec(port, nr);
	return &d->evtchn.buckets[port / CHANNELS_PER_BUCKET][port % CHANNELS_PER_BUCKET];
}

/* The first channel from @port on that is in use, or NULL. */
struct evtchn *evtchn_next(const struct domain *d, uint32_t port);

/* The channel of @port as above, with its lock. */
static inline struct evtchn *evtchn_lock(const struct domain *d, uint32_t port)
{
	struct evtchn *chn = evtchn_lookup(d, port);

	if (likely(chn))
		spin_lock(&chn->lock);
	return chn;
}

/* The event is visible in the guest's words: now the byte, then the interrupt. */
static inline void evtchn_mark_upcall(struct vcpu *v)
{
	struct vcpu_info *info = __atomic_load_n(&v->info, __ATOMIC_ACQUIRE);

	if (!__atomic_exchange_n(&info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST))
		vcpu_mark_upcall(v);
}

/*
 * Per ABI. raise: true when the event was not pending before. unmask: also
 * delivers it if pending. clear: forgets it. The channel (or its peer) is locked.
 */
bool evtchn_2l_raise(struct domain *d, struct evtchn *chn);
void evtchn_2l_unmask(struct domain *d, struct evtchn *chn);
void evtchn_2l_clear(struct domain *d, struct evtchn *chn);
bool evtchn_2l_is_pending(struct domain *d, struct evtchn *chn);

bool evtchn_fifo_raise(struct domain *d, struct evtchn *chn);
void evtchn_fifo_unmask(struct domain *d, struct evtchn *chn);
void evtchn_fifo_clear(struct domain *d, struct evtchn *chn);
bool evtchn_fifo_is_pending(struct domain *d, struct evtchn *chn);
/* The guest has yet to take the port out of a queue: it must not be used anew. */
bool evtchn_fifo_is_linked(struct domain *d, uint32_t port);
/* Lets go of the guest's pages. Nothing is being raised; d->evtchn.lock held. */
void evtchn_fifo_stop(struct domain *d);

/* Makes @chn of @d pending and tells its vCPU. The channel or its peer is locked. */
void evtchn_raise(struct domain *d, struct evtchn *chn);

#endif
