/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: the walk of guest page tables, and copies.
 *
 * Guest page tables are hostile and change under us: each entry is read once,
 * and accessed and dirty bits are set by compare-and-exchange on what was
 * read, as the CPU does. Locks: d->p2m.lock (read) while bytes move.
 */
#include "hospes/guest_access.h"

#include "hospes/domain.h"
#include "hospes/lib.h"

#define CR0_PG (1ULL << 31)
#define CR4_PSE (1ULL << 4)
#define CR4_PAE (1ULL << 5)
#define EFER_LMA (1ULL << 10)

#define PTE_P	0x001ULL
#define PTE_W	0x002ULL
#define PTE_U	0x004ULL
#define PTE_A	0x020ULL
#define PTE_D	0x040ULL
#define PTE_PS	0x080ULL
#define PTE_NX	(1ULL << 63)
#define PTE_ADDR 0x000ffffffffff000ULL

#define PF_P	0x01u
#define PF_W	0x02u
#define PF_U	0x04u
#define PF_RSVD	0x08u
#define PF_I	0x10u

/* Not a right to ask for: the CPU did all this already. */
#define WALK_DONE 0x8u

/* How often an entry may change under one walk before we give up. */
#define WALK_RETRIES 16u

/* Where @gpa lies in our address space, or NULL. */
static inline uint8_t *gpa_va(const struct p2m *p, gpa_t gpa, bool write)
{
	struct p2m_entry e = p2m_get(p, gpa_to_gfn(gpa));

	if (unlikely(write ? !p2m_is_writable(e.type) : !p2m_is_ram(e.type)))
		return NULL;
	return (uint8_t *)mfn_to_virt(e.mfn) + (gpa & ~PAGE_MASK);
}

static uint32_t fault_code(const struct guest_paging *g, unsigned int access, uint32_t why)
{
	if (access & WALK_WRITE)
		why |= PF_W;
	if (access & WALK_USER)
		why |= PF_U;
	if ((access & WALK_EXEC) && (g->nx || g->smep))
		why |= PF_I;
	return why;
}

/*
 * May the access go on? @all is the AND of the entries' W and U, with NX set
 * if any entry has it.
 */
static bool allowed(const struct guest_paging *g, unsigned int access, uint64_t all)
{
	bool user = access & WALK_USER;

	if (user && !(all & PTE_U))
		return false;
	if ((access & WALK_WRITE) && !(all & PTE_W) && (user || g->wp))
		return false;
	if (access & WALK_EXEC)
		return !(g->nx && (all & PTE_NX)) && (user || !g->smep || !(all & PTE_U));
	return true;
}

/* Two-level tables of 4-byte entries. -1: an entry changed, walk again. */
static int walk_legacy(const struct p2m *p, const struct guest_paging *g, uint32_t va,
		       unsigned int access, gpa_t *gpa, uint32_t *why)
{
	gpa_t table = g->cr3 & 0xfffff000;
	uint64_t all = PTE_W | PTE_U;

	for (unsigned int level = 2; level-- > 0;) {
		unsigned int shift = PAGE_SHIFT + 10 * level;
		uint32_t *slot, pte, want = PTE_A;
		bool leaf = !level;

		slot = (uint32_t *)(void *)gpa_va(p, table + 4 * (va >> shift & 1023), true);
		pte = slot ? read_once(*slot) : 0;
		if (!(pte & PTE_P))
			return -XEN_EFAULT;
		all &= pte;
		if (level && (pte & PTE_PS) && (g->cr4 & CR4_PSE)) {
			/* PSE-36: bits 20:13 are address bits 39:32. */
			*gpa = (pte & 0xffc00000) | (uint64_t)(pte >> 13 & 0xff) << 32;
			leaf = true;
		} else {
			*gpa = pte & 0xfffff000;
		}
		if (leaf && !(access & WALK_DONE) && !allowed(g, access, all)) {
			*why = PF_P;
			return -XEN_EFAULT;
		}
		if (leaf && (access & WALK_WRITE))
			want |= PTE_D;
		if ((pte & want) != want && !(access & WALK_DONE) &&
		    !__atomic_compare_exchange_n(slot, &pte, pte | want, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_RELAXED))
			return -1;
		if (leaf) {
			*gpa |= va & ((1u << shift) - 1);
			return 0;
		}
		table = *gpa;
	}
	return -XEN_EFAULT;
}

/* PAE and long mode: 8-byte entries, three or four levels. */
static int walk_long(const struct p2m *p, const struct guest_paging *g, gva_t va,
		     unsigned int access, gpa_t *gpa, uint32_t *why)
{
	bool pae = !(g->efer & EFER_LMA);
	gpa_t table = g->cr3 & (pae ? 0xffffffe0ULL : PTE_ADDR);
	uint64_t all = PTE_W | PTE_U, nx = 0;

	for (unsigned int shift = pae ? 30 : 39;; shift -= 9) {
		uint64_t *slot, pte, want = PTE_A;
		bool leaf;

		slot = (uint64_t *)(void *)gpa_va(p, table + 8 * (va >> shift & 511), true);
		pte = slot ? read_once(*slot) : 0;
		if (unlikely(!(pte & PTE_P)))
			return -XEN_EFAULT;
		table = pte & PTE_ADDR;
		/* The pointers of PAE have no rights and no accessed bit we rely on. */
		if (pae && shift == 30)
			continue;
		all &= pte;
		nx |= pte & PTE_NX;
		leaf = shift == PAGE_SHIFT || ((pte & PTE_PS) && shift < 39);
		if (unlikely((!g->nx && nx) || (leaf && shift > PAGE_SHIFT &&
			     (pte & ((1ULL << shift) - 1) & ~0x1fffULL)) ||
			     (!leaf && (pte & PTE_PS)))) {
			*why = PF_P | PF_RSVD;
			return -XEN_EFAULT;
		}
		if (!(access & WALK_DONE)) {
			if (leaf && unlikely(!allowed(g, access, all | nx))) {
				*why = PF_P;
				return -XEN_EFAULT;
			}
			if (leaf && (access & WALK_WRITE))
				want |= PTE_D;
			if (unlikely((pte & want) != want) &&
			    !__atomic_compare_exchange_n(slot, &pte, pte | want, false,
							 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				return -1;
		}
		if (leaf) {
			uint64_t offset = (1ULL << shift) - 1;

			*gpa = (table & ~offset) | (va & offset);
			return 0;
		}
	}
}

/* As guest_walk(), with the paging state at hand. */
static int walk(const struct p2m *p, const struct guest_paging *g, gva_t va, unsigned int access,
		gpa_t *gpa, uint32_t *pf_error)
{
	bool long_mode = g->efer & EFER_LMA;
	uint32_t why = 0;
	int rc = -1;

	if (unlikely(!(g->cr0 & CR0_PG))) {
		*gpa = (uint32_t)va;
		return 0;
	}
	if (!long_mode)
		va = (uint32_t)va;
	else if (unlikely((uint64_t)((int64_t)(va << 16) >> 16) != va))
		rc = -XEN_EFAULT;
	for (unsigned int i = 0; rc == -1 && i < WALK_RETRIES; i++) {
		rc = long_mode || (g->cr4 & CR4_PAE) ?
			walk_long(p, g, va, access, gpa, &why) :
			walk_legacy(p, g, (uint32_t)va, access, gpa, &why);
	}
	if (likely(!rc))
		return 0;
	*pf_error = fault_code(g, access, why);
	return -XEN_EFAULT;
}

int guest_walk(struct vcpu *v, gva_t va, unsigned int access, gpa_t *gpa, uint32_t *pf_error)
{
	struct guest_paging g;

	cpu->get_paging(v, &g);
	return walk(&v->domain->p2m, &g, va, access, gpa, pf_error);
}

/* Moves @len bytes between @buf and the guest; returns how many went. */
static inline size_t copy_guest(struct vcpu *v, gva_t va, uint8_t *buf, size_t len,
				unsigned int access)
{
	struct p2m *p = &v->domain->p2m;
	struct guest_paging g;
	size_t done = 0;

	cpu->get_paging(v, &g);
	read_lock(&p->lock);
	while (done < len) {
		size_t n = MIN(len - done, PAGE_SIZE - (va & ~PAGE_MASK));
		uint32_t pf_error;
		uint8_t *host;
		gpa_t gpa;

		if (walk(p, &g, va, access, &gpa, &pf_error))
			break;
		host = gpa_va(p, gpa, access & WALK_WRITE);
		if (!host)
			break;
		if (access & WALK_WRITE)
			memcpy(host, buf + done, n);
		else
			memcpy(buf + done, host, n);
		done += n;
		va += n;
	}
	read_unlock(&p->lock);
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

static int copy_phys(struct domain *d, gpa_t gpa, uint8_t *buf, size_t len, bool write)
{
	int rc = 0;

	read_lock(&d->p2m.lock);
	while (len) {
		size_t n = MIN(len, PAGE_SIZE - (gpa & ~PAGE_MASK));
		uint8_t *host = gpa_va(&d->p2m, gpa, write);

		if (!host) {
			rc = -XEN_EFAULT;
			break;
		}
		memcpy(write ? host : buf, write ? buf : host, n);
		gpa += n;
		buf += n;
		len -= n;
	}
	read_unlock(&d->p2m.lock);
	return rc;
}

int guest_phys_read(struct domain *d, gpa_t src, void *dst, size_t len)
{
	return copy_phys(d, src, dst, len, false);
}

int guest_phys_write(struct domain *d, gpa_t dst, const void *src, size_t len)
{
	return copy_phys(d, dst, (uint8_t *)(uintptr_t)src, len, true);
}

int guest_pin(struct domain *d, gfn_t gfn, struct guest_pin *pin)
{
	struct page *pg = p2m_get_page(d, gfn, true);

	if (!pg)
		return -XEN_EINVAL;
	pin->page = pg;
	pin->va = mfn_to_virt(page_to_mfn(pg));
	return 0;
}

void guest_unpin(struct guest_pin *pin)
{
	if (pin->page)
		page_put(pin->page);
	*pin = (struct guest_pin){ 0 };
}
