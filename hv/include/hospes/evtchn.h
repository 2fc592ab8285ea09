/* SPDX-License-Identifier: MIT */
/*
 * Event channels: allocation, binding, delivery; 2-level and FIFO ABI.
 *
 * Locks: d->evtchn.lock (LOCK_EVTCHN) covers the channel states of a domain;
 * an interdomain binding changes only under both domains' locks, so holding
 * either one is enough to follow it.
 */
#ifndef HOSPES_EVTCHN_H
#define HOSPES_EVTCHN_H

#include "hospes/spinlock.h"

struct domain;
struct vcpu;
struct evtchn;
struct evtchn_fifo;

#define EVTCHN_NR_VIRQS 24u

struct evtchn_domain {
	struct spinlock lock;
	struct evtchn **buckets;	/* owned; pages of channels, allocated on demand */
	uint32_t nr_ports;		/* ports backed by buckets */
	uint32_t max_port;		/* configured limit, inclusive */
	struct evtchn_fifo *fifo;	/* owned; NULL in the 2-level ABI */
};

struct evtchn_vcpu_fifo;

struct evtchn_vcpu {
	uint32_t virq_port[EVTCHN_NR_VIRQS];	/* 0 = unbound; domain's lock */
	struct evtchn_vcpu_fifo *fifo;		/* owned; control block and queue tails */
};

/* @max_port: highest usable port. -XEN_ENOMEM. */
int evtchn_domain_init(struct domain *d, uint32_t max_port) __must_check;
void evtchn_domain_destroy(struct domain *d);	/* closes everything, any state */
void evtchn_vcpu_init(struct vcpu *v);

/* Raises a virtual interrupt; unbound ones are dropped. Any context. */
void evtchn_vcpu_virq(struct vcpu *v, uint32_t virq);
void evtchn_domain_virq(struct domain *d, uint32_t virq);

/*
 * A channel of @d whose other end is the hypervisor: @notify runs, on the
 * sender's CPU under d->evtchn.lock, when the guest sends. Returns the port
 * or a negative errno.
 */
int evtchn_alloc_hv(struct domain *d, void (*notify)(struct domain *d, uint32_t port)) __must_check;
/* Raises such a channel's event in the guest. */
void evtchn_notify_guest(struct domain *d, uint32_t port);

/* For sched_op poll: is @port valid, and is it pending? -XEN_EINVAL. */
int evtchn_is_pending(struct domain *d, uint32_t port);

/* vCPU @v moved its vcpu_info: make every pending event visible again. */
void evtchn_vcpu_info_moved(struct vcpu *v);

/* Counters for the key menu: ports in use, by state. */
void evtchn_dump(struct domain *d);

#endif
