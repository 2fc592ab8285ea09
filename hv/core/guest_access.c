/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: the walk of guest page tables, and copies.
 *
 * Guest page tables are hostile and change under us: each entry is read once,
 * and accessed and dirty bits are set by compare-and-exchange on what was
 * read, as the CPU does. Locks: d->p2m.lock (read) while bytes move.
 *
 * A vCPU remembers its last walks: the entries and where they stand. Such a
 * memo is never trusted, the entries are read again and compared; so what it
 * saves is the way through the p2m, not the walk. The frames it points into are
 * marked PAGE_WALKED: that one of them goes from the p2m voids all memos.
 */
#include "hospes/guest_access.h"

#include "hospes/domain.h"

#define PTE_P	0x001ULL
#define PTE_W	0x002ULL
#define PTE_U	0x004ULL
#define PTE_A	0x020ULL
#define PTE_D	0x040ULL
#define PTE_PS	0x080ULL
#define PTE_NX	(1ULL << 63)
#define PTE_ADDR 0x000ffffffffff000ULL

/* Bits of a page fault's error code. */
enum { PF_P = 0x01, PF_W = 0x02, PF_U = 0x04, PF_RSVD = 0x08 };

/* Not a right to ask for: the CPU did all this already. Its memos are apart from others. */
#define WALK_DONE (GUEST_MEMOS / 2)

/* How often an entry may change under one walk before we give up. */
#define WALK_RETRIES 16u
#define AGAIN 1

/* Where @gpa lies in our address space; NULL if not RAM, or not writable. */
static inline uint8_t *gpa_va(const struct p2m *p, gpa_t gpa, bool write)
{
	uint64_t need = write ? P2M_E_W : P2M_E_P;
	unsigned int order;
	uint64_t e = p2m_lookup(p, gpa_to_gfn(gpa), &order);

	if (unlikely((e & (need | P2M_E_UC)) != need) &&
	    !(write && p2m_note_write(e, gpa_to_gfn(gpa), order)))
		return NULL;
	/* A CPU that guesses past the check finds offset 0: read again, or the compiler knows P. */
	gpa &= ((PAGE_SIZE << order) - 1) & -(read_once(e) & P2M_E_P);
	return port_directmap + (e & P2M_E_ADDR) + gpa;
}

/* May the access go on? @all is the AND of all entries. */
static bool allowed(const struct guest_paging *g, unsigned int access, uint64_t all)
{
	bool user = access & WALK_USER;

	return (!user || (all & PTE_U)) &&
	       (!(access & WALK_WRITE) || (all & PTE_W) || (!user && !g->wp));
}

/* Sets bits in an entry that was read as @pte. False: it has changed since. */
static inline bool set_bits(void *slot, uint64_t pte, uint64_t bits, bool wide)
{
	uint32_t narrow = (uint32_t)pte;

	if (likely((pte & bits) == bits))
		return true;
	bits |= pte;
	if (wide)
		return __atomic_compare_exchange_n((uint64_t *)slot, &pte, bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n((uint32_t *)slot, &narrow, (uint32_t)bits, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static inline bool is_long(const struct guest_paging *g)
{
	return (g->cr0 & CR0_PG) && (g->efer & EFER_LMA);
}

struct walk {
	const struct p2m *p2m;
	struct guest_paging g;
	unsigned int access;
	uint32_t pf_error;
	struct guest_memo *memo;	/* its entries are filled in */
};

static int walk_fault(struct walk *w, uint32_t why)
{
	w->pf_error = why | (w->access & WALK_WRITE ? PF_W : 0) |
		      (w->access & WALK_USER ? PF_U : 0);
	return -XEN_EFAULT;
}

/*
 * Walks from @table on, whose entries map 2^shift bytes; @wide: entries of 8
 * bytes, not 4. 0, -XEN_EFAULT, or AGAIN: an entry changed meanwhile.
 */
static inline __attribute__((always_inline))
int walk_levels(struct walk *w, gva_t va, gpa_t *gpa, gpa_t table, unsigned int shift,
		const bool wide)
{
	const unsigned int bits = wide ? 9 : 10, log = wide ? 3 : 2;
	/* Entries with such bits end the walk: big ones, and wrong ones. */
	uint64_t odd = wide ? PTE_PS | (w->g.nx ? 0 : PTE_NX) : w->g.cr4 & CR4_PSE ? PTE_PS : 0;
	uint64_t all = ~0ULL, pte, offset, want = PTE_A;
	unsigned int nr = 0;
	void *slot;

	for (;; shift -= bits) {
		gpa_t at = table + (va >> (shift - log) & (PAGE_SIZE - (1u << log)));

		slot = gpa_va(w->p2m, at, true);
		if (unlikely(!slot))
			return walk_fault(w, 0);
		pte = wide ? read_once(*(uint64_t *)slot) : read_once(*(uint32_t *)slot);
		if (unlikely((pte & (PTE_P | PTE_A)) != (PTE_P | PTE_A))) {
			if (!(pte & PTE_P))
				return walk_fault(w, 0);
			if (shift > PAGE_SHIFT && !(pte & odd) && !(w->access & WALK_DONE) &&
			    !set_bits(slot, pte, PTE_A, wide))
				return AGAIN;
		}
		all &= pte;
		w->memo->slot[nr] = slot;
		w->memo->pte[nr++] = pte | PTE_A;
		if (shift == PAGE_SHIFT || (pte & odd))
			break;
		table = pte & PTE_ADDR;
	}
	offset = (1ULL << shift) - 1;
	if (wide && unlikely((pte & odd & PTE_NX) || (shift > PAGE_SHIFT &&
			     (shift > 30 || (pte & offset & ~0x1fffULL)))))
		return walk_fault(w, PF_P | PF_RSVD);
	if (!(w->access & WALK_DONE)) {
		if (unlikely(!allowed(&w->g, w->access, all)))
			return walk_fault(w, PF_P);
		if (w->access & WALK_WRITE)
			want |= PTE_D;
		if (!set_bits(slot, pte, want, wide))
			return AGAIN;
	}
	for (w->memo->pte[--nr] = pte | want; ++nr < GUEST_MEMO_LEVELS;) {
		w->memo->slot[nr] = slot;
		w->memo->pte[nr] = pte | want;
	}
	*gpa = (pte & PTE_ADDR & ~offset) | (va & offset);
	/* PSE-36: bits 20:13 of a big entry are address bits 39:32. */
	if (!wide && shift > PAGE_SHIFT)
		*gpa |= (pte >> 13 & 0xff) << 32;
	return 0;
}

/* Everything but 64-bit mode. */
static int walk_old(struct walk *w, uint32_t va, gpa_t *gpa)
{
	uint64_t *slot, pte;

	if (!(w->g.cr0 & CR0_PG)) {
		*gpa = va;
		return 0;
	}
	if (!(w->g.cr4 & CR4_PAE))
		return walk_levels(w, va, gpa, w->g.cr3 & 0xfffff000, 22, false);
	/* The four pointers have no rights; what stands in their bits 5 and 6 is no matter. */
	slot = (uint64_t *)(void *)gpa_va(w->p2m, (w->g.cr3 & 0xffffffe0) + 8 * (va >> 30), true);
	pte = slot ? read_once(*slot) : 0;
	if (!(pte & PTE_P))
		return walk_fault(w, 0);
	return walk_levels(w, va, gpa, pte & PTE_ADDR, 21, true);
}

static int walk(struct walk *w, gva_t va, gpa_t *gpa)
{
	int rc = AGAIN;

	for (unsigned int i = 0; rc == AGAIN && i < WALK_RETRIES; i++) {
		if (unlikely(!is_long(&w->g)))
			rc = walk_old(w, (uint32_t)va, gpa);
		else if (unlikely(!gva_is_canonical(va)))
			rc = walk_fault(w, 0);
		else
			rc = walk_levels(w, va, gpa, w->g.cr3 & PTE_ADDR, 39, true);
	}
	return rc == AGAIN ? walk_fault(w, 0) : rc;
}

int guest_walk(struct vcpu *v, gva_t va, unsigned int access, gpa_t *gpa, uint32_t *pf_error)
{
	struct guest_memo unused;
	struct walk w = { .p2m = &v->domain->p2m, .access = access, .memo = &unused };
	int rc;

	cpu->get_paging(v, &w.g);
	rc = walk(&w, va, gpa);
	if (rc)
		*pf_error = w.pf_error;
	return rc;
}

/* What a walk depends on besides the root; the bits do not overlap. */
static inline uint64_t paging_mode(const struct guest_paging *g)
{
	return (g->cr0 & (CR0_PG | CR0_WP)) | (g->cr4 & (CR4_PSE | CR4_PAE)) |
	       (g->efer & (EFER_LMA | EFER_NX));
}

static inline bool memo_holds(const struct guest_memo *m, uint64_t key,
			      const struct guest_paging *g, uint64_t changes)
{
	return m->key == key && m->cr3 == g->cr3 && m->mode == paging_mode(g) &&
	       m->changes == changes && read_once(*m->slot[0]) == m->pte[0] &&
	       read_once(*m->slot[1]) == m->pte[1] && read_once(*m->slot[2]) == m->pte[2] &&
	       read_once(*m->slot[3]) == m->pte[3];
}

static void mark_walked(const void *va)
{
	struct page *pg = &frame_table[virt_to_mfn(va).v];

	if (!(read_once(pg->flags) & PAGE_WALKED))
		__atomic_fetch_or(&pg->flags, PAGE_WALKED, __ATOMIC_RELAXED);
}

/* The slow half of translate(): walks, and makes the memo. */
static __attribute__((noinline)) uint8_t *
translate_anew(struct guest_memo *m, const struct p2m *p, const struct guest_paging *g,
	       uint64_t key)
{
	unsigned int access = (unsigned int)(key & ~PAGE_MASK);
	struct walk w = { .p2m = p, .g = *g, .access = access, .memo = m };
	uint8_t *page;
	gpa_t gpa;

	m->changes = 0;
	if (walk(&w, key & PAGE_MASK, &gpa))
		return NULL;
	page = gpa_va(p, gpa, access & WALK_WRITE);
	if (!page || !is_long(g))
		return page;
	m->key = key;
	m->cr3 = g->cr3;
	m->mode = paging_mode(g);
	m->changes = p->changes;
	m->page = page;
	mark_walked(page);
	for (unsigned int i = 0; i < GUEST_MEMO_LEVELS; i++)
		mark_walked(m->slot[i]);
	return page;
}

/* Where the page of @va lies in our address space, or NULL. p2m lock held. */
static inline uint8_t *translate(struct vcpu *v, gva_t va, unsigned int access)
{
	uint64_t nr = (va >> PAGE_SHIFT & (GUEST_MEMOS / 2 - 1)) ^ access;
	struct guest_memo *m = &v->memo[nr];
	const struct p2m *p = &v->domain->p2m;
	uint64_t key = (va & PAGE_MASK) | access;
	struct guest_paging g;

	cpu->get_paging(v, &g);
	if (likely(memo_holds(m, key, &g, p->changes)))
		return m->page;
	return translate_anew(m, p, &g, key);
}

/* Moves @len bytes between @buf and the guest; returns how many went. */
static inline size_t copy_guest(struct vcpu *v, gva_t va, uint8_t *buf, size_t len,
				unsigned int access)
{
	size_t done = 0, n;

	read_lock(&v->domain->p2m.lock);
	for (; done < len; done += n) {
		size_t offset = (va + done) & ~PAGE_MASK;
		uint8_t *host = translate(v, va + done, access);

		if (unlikely(!host))
			break;
		host += offset;
		n = MIN(len - done, PAGE_SIZE - offset);
		if (access & WALK_WRITE)
			memcpy(host, buf + done, n);
		else
			memcpy(buf + done, host, n);
	}
	read_unlock(&v->domain->p2m.lock);
	return done;
}

int copy_from_guest(struct vcpu *v, void *dst, gva_t src, size_t len)
{
	return copy_guest(v, src, dst, len, 0) == len ? 0 : -XEN_EFAULT;
}

int copy_to_guest(struct vcpu *v, gva_t dst, const void *src, size_t len)
{
	/* Only read from: the direction is in the access. */
	uint8_t *buf = (uint8_t *)(uintptr_t)src;

	return copy_guest(v, dst, buf, len, WALK_WRITE) == len ? 0 : -XEN_EFAULT;
}

int guest_fetch(struct vcpu *v, gva_t va, uint8_t *buf, size_t len, size_t *got)
{
	*got = copy_guest(v, va, buf, len, WALK_DONE);
	return *got == len ? 0 : -XEN_EFAULT;
}

const uint8_t *guest_code(struct vcpu *v, gva_t va, size_t *avail)
{
	const uint8_t *page = translate(v, va, WALK_DONE);

	*avail = PAGE_SIZE - (va & ~PAGE_MASK);
	return page ? page + (va & ~PAGE_MASK) : NULL;
}

int guest_phys_write(struct domain *d, gpa_t dst, const void *src, size_t len)
{
	const uint8_t *from = src;
	uint8_t *host;
	size_t n;

	read_lock(&d->p2m.lock);
	for (; len; dst += n, from += n, len -= n) {
		host = gpa_va(&d->p2m, dst, true);
		if (!host)
			break;
		n = MIN(len, PAGE_SIZE - (dst & ~PAGE_MASK));
		memcpy(host, from, n);
	}
	read_unlock(&d->p2m.lock);
	return len ? -XEN_EFAULT : 0;
}

int guest_pin(struct domain *d, gfn_t gfn, struct guest_pin *pin)
{
	struct page *pg = p2m_get_page(d, gfn, true);

	if (!pg)
		return -XEN_EINVAL;
	page_mark_written(pg);
	*pin = (struct guest_pin){ .page = pg, .va = mfn_to_virt(page_to_mfn(pg)) };
	return 0;
}

void guest_unpin(struct guest_pin *pin)
{
	if (pin->page)
		page_put(pin->page);
	*pin = (struct guest_pin){ 0 };
}
