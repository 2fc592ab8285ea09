/* SPDX-License-Identifier: MIT */
/*
 * Event channels: allocation, binding, delivery; 2-level and FIFO ABI.
 *
 * Locks: d->evtchn.lock (LOCK_EVTCHN) covers which ports are in use and every
 * change of a binding; an interdomain binding changes only under both domains'
 * locks. Each channel has a lock too (evtchn_private.h): delivery takes only that.
 */
#ifndef HOSPES_EVTCHN_H
#define HOSPES_EVTCHN_H

#include <stdatomic.h>

#include "hospes/spinlock.h"

struct domain;
struct vcpu;
struct evtchn;
struct evtchn_fifo;

#define EVTCHN_NR_VIRQS 24u
#define EVTCHN_NR_PIRQS 64u		/* bindable, though nothing raises them */

/* Runs when the guest sends to a port whose other end is the hypervisor. */
typedef void evtchn_notify_fn(struct domain *d, uint32_t port);

struct evtchn_domain {
	struct spinlock lock;
	struct evtchn **buckets;	/* owned; 64 channels each, allocated on demand */
	uint32_t nr_ports;		/* ports backed by buckets; release on write */
	uint32_t max_port;		/* configured limit, inclusive */
	uint32_t nr_guest;		/* channels in use which the guest may close */
	uint64_t *free;			/* owned; bit per port: not in use */
	uint32_t free_word;		/* words of free before this one are 0 */
	uint32_t pirq_port[EVTCHN_NR_PIRQS]; /* 0 = unbound */
	struct evtchn_fifo *fifo;	/* owned; NULL in the 2-level ABI */

	bool no_fifo;			/* set before it runs: it is not offered FIFO */
	atomic_bool polled;		/* hint: some vCPU may be in PAUSE_POLL */
};

struct evtchn_vcpu_fifo;

struct evtchn_vcpu {
	uint32_t virq_port[EVTCHN_NR_VIRQS];	/* 0 = unbound; domain's lock */
	struct evtchn_vcpu_fifo *fifo;		/* owned; control block and queue tails */
};

/* @max_port: highest usable port. -XEN_ENOMEM. */
int evtchn_domain_init(struct domain *d, uint32_t max_port) __must_check;
/* Closes everything; for a dying domain that runs no more. Others may still look. */
void evtchn_domain_destroy(struct domain *d);
/* Nobody refers to the domain any more. */
void evtchn_domain_free(struct domain *d);
void evtchn_vcpu_init(struct vcpu *v);

/* Raises a virtual interrupt; unbound ones are dropped. Global ones: on vCPU 0. */
void evtchn_vcpu_virq(struct vcpu *v, uint32_t virq);

/*
 * A channel of @d whose other end is the hypervisor: @notify runs, on the
 * sender's CPU under d->evtchn.lock, when the guest sends. Returns the port
 * or a negative errno.
 */
int evtchn_alloc_hv(struct domain *d, evtchn_notify_fn *notify) __must_check;
/* Raises such a channel's event in the guest. Also from within a notify function. */
void evtchn_notify_guest(struct domain *d, uint32_t port);

/*
 * For sched_op poll: is @port valid (else -XEN_EINVAL), and is it pending?
 * A vCPU that goes to sleep sets poll_port and PAUSE_POLL first and asks again
 * then: an event that comes later clears PAUSE_POLL.
 */
int evtchn_is_pending(struct domain *d, uint32_t port);

/* vCPU @v moved its vcpu_info: make every pending event visible again. */
void evtchn_vcpu_info_moved(struct vcpu *v);

#endif
