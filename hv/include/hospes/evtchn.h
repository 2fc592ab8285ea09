/* SPDX-License-Identifier: MIT */
/*
 * Event channels: allocation, binding, delivery; 2-level and FIFO ABI.
 *
 * Locks: d->evtchn.lock (LOCK_EVTCHN) covers which ports are in use and every
 * change of a binding. Each channel has a lock too (evtchn_private.h): delivery
 * takes only that.
 */
#ifndef HOSPES_EVTCHN_H
#define HOSPES_EVTCHN_H

#include <stdatomic.h>

#include "hospes/abi.h"
#include "hospes/guest_access.h"
#include "hospes/spinlock.h"

struct domain;
struct vcpu;
struct evtchn;

#define EVTCHN_NR_VIRQS 24u
#define EVTCHN_NR_PIRQS 64u		/* bindable, though nothing raises them */
#define EVTCHN_WORDS_PER_PAGE ((uint32_t)(PAGE_SIZE / sizeof(event_word_t)))
#define EVTCHN_ARRAY_PAGES (EVTCHN_FIFO_NR_CHANNELS / EVTCHN_WORDS_PER_PAGE)

/* Runs when the guest sends to a port whose other end is the hypervisor. */
typedef void evtchn_notify_fn(struct domain *d, uint32_t port);

struct evtchn_domain {
	struct spinlock lock;
	struct evtchn **buckets;	/* owned; 64 channels each, allocated on demand */
	uint32_t nr_ports;		/* ports backed by buckets; release on write */
	uint32_t max_port;		/* configured limit, inclusive */
	uint64_t *free;			/* owned; bit per port: not in use */
	uint32_t first_free;		/* no port before this one is free */
	uint32_t pirq_port[EVTCHN_NR_PIRQS]; /* 0 = unbound */
	bool no_fifo;			/* set before it runs: it is not offered FIFO */
	atomic_bool fifo;		/* it uses the FIFO ABI, */
	atomic_uint nr_array;		/* with so many pages of event words */
	struct guest_pin array[EVTCHN_ARRAY_PAGES];
	atomic_bool polled;		/* a vCPU has polled: look for pollers */
};

struct evtchn_vcpu {
	uint32_t virq_port[EVTCHN_NR_VIRQS];	/* 0 = unbound; domain's lock */

	struct spinlock lock;				/* LOCK_FIFO: this block */
	uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];		/* ports; 0 = known empty */
	struct evtchn_fifo_control_block *block;	/* in pin, or &early_block */
	struct guest_pin pin;
	struct evtchn_fifo_control_block early_block;	/* until the guest gives one */
};

/* @max_port: highest usable port. -XEN_ENOMEM: still to be freed, as below. */
int evtchn_domain_init(struct domain *d, uint32_t max_port) __must_check;
/*
 * Closes some ports of a dying domain that runs no more. True when all is
 * closed; others may still look.
 */
bool evtchn_destroy_step(struct domain *d);
/* Nobody refers to the domain any more. */
void evtchn_domain_free(struct domain *d);

/* Raises a virtual interrupt; unbound ones are dropped. Global ones: on vCPU 0. */
void evtchn_vcpu_virq(struct vcpu *v, uint32_t virq);
/* Raises a global one where it is handled: in the control domain. No lock held. */
void evtchn_global_virq(uint32_t virq);
/* From now on @d handles it, as long as it lives. -XEN_EINVAL: it is none, or not global. */
int evtchn_set_virq_handler(struct domain *d, uint32_t virq) __must_check;

/* What the guest's own send through @port does. -XEN_EINVAL: it cannot. */
int evtchn_send_from(struct domain *d, uint32_t port);

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
