/* SPDX-License-Identifier: MIT */
/*
 * The only way to guest memory.
 *
 * Virtual addresses go through the vCPU's own page tables with supervisor
 * rights (SMAP not applied: the kernel asks on behalf of its user), then
 * through the p2m, whose read lock is held while bytes move, so that no
 * frame changes hands meanwhile. Partial copies count as failure.
 */
#ifndef HOSPES_GUEST_ACCESS_H
#define HOSPES_GUEST_ACCESS_H

#include "hospes/page.h"

struct domain;
struct vcpu;

static inline bool gva_is_canonical(gva_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* A walk that a vCPU did lately; see guest_access.c. p2m lock. */
#define GUEST_MEMOS 8u		/* per vCPU, half of them of code; a power of two */
#define GUEST_MEMO_LEVELS 4u
struct guest_memo {
	uint64_t key;			/* page and access */
	uint64_t cr3, mode;
	uint64_t changes;		/* p2m.changes at that time, 0 = void */
	uint8_t *page;			/* where the page is mapped */
	uint64_t *slot[GUEST_MEMO_LEVELS];	/* entries on the way, the last repeated */
	uint64_t pte[GUEST_MEMO_LEVELS];
};

/* 0 or -XEN_EFAULT. @v is the current vCPU. No lock at or above LOCK_P2M held. */
int copy_from_guest(struct vcpu *v, void *dst, gva_t src, size_t len) __must_check;
int copy_to_guest(struct vcpu *v, gva_t dst, const void *src, size_t len) __must_check;

/*
 * Instruction bytes at linear address @va, which the CPU has just executed: no
 * rights are checked, nothing in the guest changes. *got bytes were read; fewer
 * than @len: -XEN_EFAULT.
 */
int guest_fetch(struct vcpu *v, gva_t va, uint8_t *buf, size_t len, size_t *got) __must_check;

/*
 * The same without a copy: how many bytes of the page *avail are there, or NULL.
 * Caller holds the p2m read lock for as long as it looks at them.
 */
const uint8_t *guest_code(struct vcpu *v, gva_t va, size_t *avail);

/* Guest physical, any domain, may cross pages. 0 or -XEN_EFAULT. */
int guest_phys_write(struct domain *d, gpa_t dst, const void *src, size_t len) __must_check;

/*
 * A guest page pinned and mapped for a long time (vcpu_info, event words):
 * the domain's own writable RAM, else -XEN_EINVAL. Release with guest_unpin(),
 * which may be called on a zeroed pin.
 */
struct guest_pin {
	struct page *page;	/* ref */
	void *va;
};
int guest_pin(struct domain *d, gfn_t gfn, struct guest_pin *pin) __must_check;
void guest_unpin(struct guest_pin *pin);

/*
 * Translates a linear address. @access: WALK_* bits. 0 and *gpa, or
 * -XEN_EFAULT with *pf_error as the #PF error code the guest would see.
 * Caller holds the p2m read lock.
 */
#define WALK_WRITE 0x1u
#define WALK_USER 0x2u
int guest_walk(struct vcpu *v, gva_t va, unsigned int access, gpa_t *gpa, uint32_t *pf_error)
	__must_check;

#endif
