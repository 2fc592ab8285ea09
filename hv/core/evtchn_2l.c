/* SPDX-License-Identifier: MIT */
/*
 * Event channels, 2-level ABI: a pending and a mask bit per port in the shared
 * info page, a selector bit per word of them in vcpu_info.
 *
 * Locks: none of its own; the guest's words are shared with it, hence atomics.
 */
#include "evtchn_private.h"

static uint64_t bit_of(uint32_t port)
{
	return 1ULL << (port % 64);
}

static void notify(struct domain *d, struct evtchn *chn)
{
	struct vcpu *v = d->vcpus[read_once(chn->to.vcpu)];
	struct vcpu_info *info = __atomic_load_n(&v->info, __ATOMIC_ACQUIRE);
	uint64_t bit = bit_of(chn->port / 64);

	if (!(__atomic_fetch_or(&info->evtchn_pending_sel, bit, __ATOMIC_SEQ_CST) & bit))
		evtchn_mark_upcall(v);
}

bool evtchn_2l_raise(struct domain *d, struct evtchn *chn)
{
	uint64_t bit = bit_of(chn->port);

	if (__atomic_fetch_or(&d->shared->evtchn_pending[chn->port / 64], bit, __ATOMIC_SEQ_CST) &
	    bit)
		return false;
	if (!(__atomic_load_n(&d->shared->evtchn_mask[chn->port / 64], __ATOMIC_SEQ_CST) & bit))
		notify(d, chn);
	return true;
}

void evtchn_2l_unmask(struct domain *d, struct evtchn *chn)
{
	uint64_t bit = bit_of(chn->port);
	uint64_t old = __atomic_fetch_and(&d->shared->evtchn_mask[chn->port / 64], ~bit,
					  __ATOMIC_SEQ_CST);

	if ((old & bit) && evtchn_2l_is_pending(d, chn))
		notify(d, chn);
}

void evtchn_2l_clear(struct domain *d, struct evtchn *chn)
{
	__atomic_fetch_and(&d->shared->evtchn_pending[chn->port / 64], ~bit_of(chn->port),
			   __ATOMIC_SEQ_CST);
}

bool evtchn_2l_is_pending(struct domain *d, struct evtchn *chn)
{
	return __atomic_load_n(&d->shared->evtchn_pending[chn->port / 64], __ATOMIC_SEQ_CST) &
	       bit_of(chn->port);
}
