/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a guest are written: what live migration asks, and what a page is.
 *
 * While p2m.log_dirty is set, RAM that its entry lets the guest write is RAM that
 * was written since somebody looked. A look protects it again, in pieces as big as
 * they are mapped; the first write faults and splits off its page. The frames that
 * are written past the guest's own entries are marked, PAGE_WRITTEN. Who holds a
 * frame for longer may write at any time: it counts as written as long as more than
 * the p2m refers to it, and once more after that.
 *
 * Entries that stay protected when nobody looks any more mend with the first fault.
 *
 * Locks: the p2m's. A look has the write side, so a write by the hypervisor, with
 * the read side, is before or after it; guests are flushed before a look is over.
 */
#include "hospes/ctl.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define PIECE 4096u		/* frames looked at under one lock; their bits fit the stack */
#define PIECE_BYTES (PIECE / 8)
#define TYPES_CHUNK 64u
#define TYPES_MAX 1024u
#define MODE_BITS 8u		/* a long operation notes its progress above them */
#define FRAMES_PER_MB_SHIFT (20 - PAGE_SHIFT)

/* Where the entry for @gfn stands. Lock held. */
static uint64_t *leaf(const struct p2m *p, gfn_t gfn, unsigned int *order)
{
	uint64_t *slot = &p->root[gfn.v >> 27 & 511];

	for (*order = 27; *order && p2m_e_is_table(*slot); )
		slot = &p2m_e_table(*slot)[gfn.v >> (*order -= 9) & 511];
	return slot;
}

static bool is_own_ram(uint64_t e)
{
	return p2m_e_type(e) == P2M_RAM || p2m_e_type(e) == P2M_RAM_RO;
}

static struct page *frame_of(uint64_t e, gfn_t gfn, unsigned int order)
{
	return &frame_table[((e & P2M_E_ADDR) >> PAGE_SHIFT) + (gfn.v & ((1ULL << order) - 1))];
}

bool p2m_note_write(uint64_t e, gfn_t gfn, unsigned int order)
{
	if (!p2m_e_is_protected(e))
		return false;
	page_mark_written(frame_of(e, gfn, order));
	return true;
}

/* --- Faults ------------------------------------------------------------------- */

/* Nobody looks any more: all of a table at once, so that it can be one piece again. */
static void mend(struct domain *d, gfn_t gfn, uint64_t *slot, unsigned int order)
{
	uint64_t *table = (uint64_t *)((uintptr_t)slot & PAGE_MASK);

	if (order)
		return;
	for (unsigned int i = 0; i < PAGE_SIZE / sizeof(*table); i++) {
		if (p2m_e_type(table[i]) == P2M_RAM)
			__atomic_store_n(&table[i], table[i] | P2M_E_W, __ATOMIC_RELEASE);
	}
	p2m_merge(d, gfn);
}

void p2m_write_fault(struct domain *d, gfn_t gfn)
{
	struct p2m *p = &d->p2m;
	unsigned int order;
	uint64_t *slot, e;

	write_lock(&p->lock);
	slot = leaf(p, gfn, &order);
	/* Without memory for the split all of the piece counts as written. */
	if (p->log_dirty && order && p2m_e_is_protected(*slot) && !p2m_split(d, gfn))
		slot = leaf(p, gfn, &order);
	e = *slot;
	if (p2m_note_write(e, gfn, order)) {
		/* Its own page needs no mark; and a fault is enough to get rid of the old entry. */
		if (p2m_e_type(e) == P2M_RAM)
			page_clear_written(frame_of(e, gfn, order));
		__atomic_store_n(slot, e | P2M_E_W, __ATOMIC_RELEASE);
		p->write_faults += p->log_dirty;
		if (!p->log_dirty)
			mend(d, gfn, slot, order);
	}
	write_unlock(&p->lock);
}

/* --- Looks -------------------------------------------------------------------- */

/* A look at [gfn, gfn + count). */
struct look {
	struct domain *domain;
	gfn_t gfn;
	uint8_t bits[PIECE_BYTES];	/* written: bit 0 of byte 0 is @gfn */
	uint32_t written;
	bool clean;			/* from now on they are not */
};

/* Frames [at, at + n) of the look are mapped by *@slot from @pg on. Lock held. */
static void look_at(struct look *l, uint64_t *slot, struct page *pg, uint64_t at, uint64_t n)
{
	bool all = *slot & P2M_E_W;

	for (; n--; at++, pg++) {
		/* Who lets go of it has marked it before. */
		bool held = atomic_load_explicit(&pg->refs, memory_order_acquire) > 1;

		if (!all && !held && !(read_once(pg->flags) & PAGE_WRITTEN))
			continue;
		l->bits[at / 8] |= (uint8_t)(1u << at % 8);
		l->written++;
		if (l->clean && held)
			page_mark_written(pg);
		else if (l->clean)
			page_clear_written(pg);
	}
}

static void look(struct look *l, uint64_t count)
{
	struct p2m *p = &l->domain->p2m;
	bool flush = false;
	unsigned int order;
	uint64_t n;

	write_lock(&p->lock);
	for (uint64_t at = 0; at < count; at += n) {
		gfn_t gfn = gfn_add(l->gfn, at);
		uint64_t *slot;

		if (gfn.v > p->max_gfn.v)
			break;
		slot = leaf(p, gfn, &order);
		n = MIN(count - at, (1ULL << order) - (gfn.v & ((1ULL << order) - 1)));
		if (!is_own_ram(*slot))
			continue;
		look_at(l, slot, frame_of(*slot, gfn, order), at, n);
		/* A piece that is bigger than the look stays as it is until its end is reached. */
		if (l->clean && (*slot & P2M_E_W) &&
		    !((gfn.v + n) & ((1ULL << order) - 1))) {
			__atomic_store_n(slot, *slot & ~P2M_E_W, __ATOMIC_RELEASE);
			flush = true;
		}
	}
	if (l->clean)
		p->changes++;	/* nobody may remember that it can write */
	write_unlock(&p->lock);
	if (flush)
		p2m_flush(l->domain);
}

/* Nobody will learn of what was found: it is to be found again. */
static void put_back(const struct look *l)
{
	struct p2m *p = &l->domain->p2m;

	if (!l->clean)
		return;
	read_lock(&p->lock);
	for (unsigned int i = 0; i < PIECE; i++) {
		gfn_t gfn = gfn_add(l->gfn, i);
		unsigned int order;
		uint64_t e = p2m_lookup(p, gfn, &order);

		if ((l->bits[i / 8] >> i % 8 & 1) && is_own_ram(e))
			page_mark_written(frame_of(e, gfn, order));
	}
	read_unlock(&p->lock);
}

/* --- Operations ----------------------------------------------------------------- */

/*
 * Looks at the first @frames of @d, piece by piece; the bits go to @to, when it is
 * not 0. Where to go on stands in s->mode.
 */
static int64_t look_at_all(struct vcpu *v, struct domain *d, struct xen_domctl_shadow_op *s,
			   uint64_t frames, gva_t to, bool clean)
{
	uint64_t piece = s->mode >> MODE_BITS, pieces = frames / PIECE + !!(frames % PIECE);

	if (!piece) {
		s->stats = (struct xen_domctl_shadow_op_stats){
			.fault_count = read_once(d->p2m.write_faults) };
		if (clean)
			write_once(d->p2m.write_faults, 0);
	}
	while (piece < pieces) {
		struct look l = { .domain = d, .gfn = GFN(piece * PIECE), .clean = clean };
		uint64_t n = MIN(frames - l.gfn.v, PIECE);

		look(&l, n);
		if (to && copy_to_guest(v, to + piece * PIECE_BYTES, l.bits, (n + 7) / 8)) {
			put_back(&l);
			return -XEN_EFAULT;
		}
		s->stats.dirty_count += l.written;
		s->mode = (uint32_t)(++piece << MODE_BITS) | (s->mode & ((1u << MODE_BITS) - 1));
		if (piece < pieces && hypercall_preempt(v))
			return HC_CONTINUE;
	}
	s->mode &= (1u << MODE_BITS) - 1;
	return 0;
}

static int64_t enable(struct vcpu *v, struct domain *d, struct xen_domctl_shadow_op *s)
{
	struct p2m *p = &d->p2m;
	bool goes_on = s->mode >> MODE_BITS, was;

	/* What its devices write nobody would see. */
	if (d->devices)
		return -XEN_EOPNOTSUPP;
	write_lock(&p->lock);
	was = p->log_dirty;
	if (!goes_on)
		p->log_dirty = true;
	write_unlock(&p->lock);
	if (was != goes_on)
		return -XEN_EINVAL;
	return look_at_all(v, d, s, read_once(p->max_gfn.v) + 1, 0, true);
}

/* As large as it is: @pages comes back unchanged, and what lies beyond all memory is clean. */
static int64_t bitmap(struct vcpu *v, struct domain *d, struct xen_domctl_shadow_op *s, bool clean)
{
	if (s->pages > P2M_MAX_GFN)
		return -XEN_EINVAL;
	/* Before it is enabled nothing is known to be written, and nothing is protected. */
	if (!read_once(d->p2m.log_dirty))
		return 0;
	return look_at_all(v, d, s, s->pages, guest_handle(s->dirty_bitmap), clean);
}

static int64_t allocation(struct domain *d, struct xen_domctl_shadow_op *s, bool set)
{
	uint64_t frames = (uint64_t)s->mb << FRAMES_PER_MB_SHIFT;

	if (set && frames > page_total_count())
		return -XEN_ENOMEM;
	if (set)
		write_once(d->p2m.tables_max, (uint32_t)frames);
	else
		s->mb = (read_once(d->p2m.tables_max) + (1u << FRAMES_PER_MB_SHIFT) - 1) >>
			FRAMES_PER_MB_SHIFT;
	return 0;
}

int64_t domctl_shadow_op(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	struct xen_domctl_shadow_op *s = &op->u.shadow_op;

	if (domain_is_dying(d))
		return 0;
	switch (s->op) {
	case XEN_DOMCTL_SHADOW_OP_OFF:
		write_lock(&d->p2m.lock);
		d->p2m.log_dirty = false;
		write_unlock(&d->p2m.lock);
		return 0;
	case XEN_DOMCTL_SHADOW_OP_ENABLE:
		return s->mode & XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY ? enable(v, d, s) : -XEN_EINVAL;
	case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
		return enable(v, d, s);
	case XEN_DOMCTL_SHADOW_OP_CLEAN:
	case XEN_DOMCTL_SHADOW_OP_PEEK:
		return bitmap(v, d, s, s->op == XEN_DOMCTL_SHADOW_OP_CLEAN);
	case XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION:
	case XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION:
		return allocation(d, s, s->op == XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION);
	default:
		return -XEN_EINVAL;
	}
}

/* Each frame number of the array is replaced by what is there: RAM to be saved, or nothing. */
int64_t domctl_getpageframeinfo3(struct vcpu *v, struct domain *d, struct xen_domctl *op)
{
	gva_t at = guest_handle(op->u.getpageframeinfo3.array);
	uint64_t left = op->u.getpageframeinfo3.num, n;
	xen_pfn_t frames[TYPES_CHUNK];

	if (left > TYPES_MAX)
		return -XEN_E2BIG;
	for (; left; left -= n, at += n * sizeof(frames[0])) {
		n = MIN(left, TYPES_CHUNK);
		if (copy_from_guest(v, frames, at, n * sizeof(frames[0])))
			return -XEN_EFAULT;
		read_lock(&d->p2m.lock);
		for (uint64_t i = 0; i < n; i++) {
			unsigned int order;

			frames[i] = is_own_ram(p2m_lookup(&d->p2m, GFN(frames[i]), &order)) ?
				    XEN_DOMCTL_PFINFO_NOTAB : XEN_DOMCTL_PFINFO_XTAB;
		}
		read_unlock(&d->p2m.lock);
		if (copy_to_guest(v, at, frames, n * sizeof(frames[0])))
			return -XEN_EFAULT;
	}
	return 0;
}
