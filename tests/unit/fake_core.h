/* SPDX-License-Identifier: MIT */
/*
 * A very small core around the event channels and grant tables, so that their
 * tests see and control everything they reach: domains with a few vCPUs, pages
 * with counts, a p2m that is an array, guest memory whose virtual addresses
 * are the process's own. It checks what the real one must rely on: p2m locks
 * held, and no page let go of while a vCPU may still have it in its TLB.
 *
 * Include once per program. Nothing of the real domain, page, p2m or port
 * code is linked then.
 */
#ifndef HOSPES_FAKE_CORE_H
#define HOSPES_FAKE_CORE_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hospes/domain.h"
#include "hospes/gnttab.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define FAKE_DOMAINS 3u
#define FAKE_VCPUS 4u
#define FAKE_PAGES 768u
#define FAKE_GFNS 256u
#define FAKE_NO_ADDRESS 4096u	/* guest addresses below fault */

#define CHECK(c)								\
	do {									\
		if (!(c)) {							\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c);	\
			abort();						\
		}								\
	} while (0)

struct fake_vcpu {
	unsigned long upcalls;		/* interrupts asked for */
};

static struct {
	struct domain dom[FAKE_DOMAINS];
	bool gone[FAKE_DOMAINS];	/* not found any more */
	struct vcpu vcpu[FAKE_DOMAINS][FAKE_VCPUS];
	struct vcpu *vcpu_ptr[FAKE_DOMAINS][FAKE_VCPUS];
	struct fake_vcpu count[FAKE_DOMAINS][FAKE_VCPUS];
	bool stale[FAKE_DOMAINS][FAKE_PAGES];	/* may be in a TLB */
	unsigned long flushes;
	unsigned int preempt_every;	/* 0: never */
	unsigned int preempt_count;
	unsigned int nr_used;		/* pages */
	long nr_allocs;			/* small allocations alive */
	void (*on_wake)(void);		/* once, inside the next vcpu_pause_clear() */
} fake;

/* --- Port --------------------------------------------------------------- */

uint8_t *port_directmap;
struct page *frame_table;
unsigned int page_fail_after;
static uint8_t fake_memory[(FAKE_PAGES + FAKE_DOMAINS * 4) * PAGE_SIZE] __aligned(4096);
static struct page fake_frames[FAKE_PAGES];
struct pcpu *pcpus[MAX_PCPUS];
static _Thread_local struct pcpu *fake_this_pcpu;
static struct pcpu fake_pcpus[8];

struct pcpu *port_this_pcpu(void)
{
	return fake_this_pcpu;
}

void port_relax(void)
{
	sched_yield();
}

void port_panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	abort();
}

/* --- Memory ------------------------------------------------------------- */

void *hv_alloc(size_t size)
{
	void *p;

	if (page_fail_now())
		return NULL;
	p = aligned_alloc(64, ALIGN_UP(size, 64u));
	CHECK(p);
	__atomic_fetch_add(&fake.nr_allocs, 1, __ATOMIC_RELAXED);
	return memset(p, 0, size);
}

void hv_free(void *p)
{
	if (p)
		__atomic_fetch_sub(&fake.nr_allocs, 1, __ATOMIC_RELAXED);
	free(p);
}

static struct page *fake_page(uint32_t owner)
{
	for (unsigned int i = 1; i < FAKE_PAGES; i++) {
		if (frame_table[i].flags)
			continue;
		frame_table[i] = (struct page){ .owner = owner, .flags = PAGE_MANAGED };
		atomic_store(&frame_table[i].refs, owner ? 1 : 0);
		memset(mfn_to_virt(MFN(i)), 0, PAGE_SIZE);
		fake.nr_used++;
		return &frame_table[i];
	}
	abort();
}

void *hv_alloc_pages(unsigned int order)
{
	CHECK(order == 0);
	return page_fail_now() ? NULL : mfn_to_virt(page_to_mfn(fake_page(0)));
}

bool page_get(struct page *pg)
{
	CHECK(pg->refs);
	atomic_fetch_add(&pg->refs, 1);
	return true;
}

void page_put(struct page *pg)
{
	uint64_t mfn = page_to_mfn(pg).v;

	CHECK(pg->refs);
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++)
		CHECK(!fake.stale[i][mfn]);
	if (atomic_fetch_sub(&pg->refs, 1) > 1)
		return;
	pg->flags = 0;
	fake.nr_used--;
}

void hv_free_pages(void *va, unsigned int order)
{
	frame_table[virt_to_mfn(va).v].flags = 0;
	fake.nr_used--;
}

struct page *mfn_to_page(mfn_t mfn)
{
	return mfn.v && mfn.v < FAKE_PAGES ? &frame_table[mfn.v] : NULL;
}

/* --- p2m ---------------------------------------------------------------- */

static unsigned int fake_slot(const struct domain *d)
{
	return (unsigned int)(d - fake.dom);
}

/* Table @level (0: entries) of @d; behind the pages that are counted. */
static uint64_t *fake_table(struct domain *d, unsigned int level)
{
	return mfn_to_virt(MFN(FAKE_PAGES + fake_slot(d) * 4 + level));
}

static void fake_p2m_init(struct domain *d)
{
	rw_init(&d->p2m.lock, LOCK_P2M);
	d->p2m.root = fake_table(d, 3);
	memset(fake_table(d, 0), 0, 4 * PAGE_SIZE);
	for (unsigned int level = 3; level > 0; level--)
		*fake_table(d, level) = P2M_E_P |
			mfn_to_paddr(virt_to_mfn(fake_table(d, level - 1)));
}

static void fake_entry(struct domain *d, uint64_t gfn, mfn_t mfn, enum p2m_type type)
{
	fake_table(d, 0)[gfn] = type ? P2M_E_P | mfn_to_paddr(mfn) |
				       (uint64_t)type << P2M_E_TYPE_SHIFT : 0;
}

int p2m_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, enum p2m_type type)
{
	struct p2m_entry e = p2m_get(&d->p2m, gfn);

	CHECK(atomic_load(&d->p2m.lock.state) == RW_WRITER && order == 0);
	if (gfn.v >= FAKE_GFNS || page_fail_now())
		return -XEN_ENOMEM;
	if (e.type != P2M_HOLE)
		fake.stale[fake_slot(d)][e.mfn.v] = true;
	fake_entry(d, gfn.v, mfn, type);
	return 0;
}

void p2m_flush(struct domain *d)
{
	fake.flushes++;
	memset(fake.stale[fake_slot(d)], 0, sizeof(fake.stale[0]));
}

void p2m_put_entry(struct p2m_entry e)
{
	if (e.type == P2M_RAM || e.type == P2M_RAM_RO)
		page_put(&frame_table[e.mfn.v]);
}

struct page *p2m_get_page(struct domain *d, gfn_t gfn, bool write)
{
	struct page *pg = NULL;
	struct p2m_entry e;

	read_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, gfn);
	if ((e.type == P2M_RAM || (e.type == P2M_RAM_RO && !write)) &&
	    page_get(&frame_table[e.mfn.v]))
		pg = &frame_table[e.mfn.v];
	read_unlock(&d->p2m.lock);
	return pg;
}

/* RAM at @gfn of @d; returns its memory. */
static inline void *fake_ram(struct domain *d, uint64_t gfn, enum p2m_type type)
{
	mfn_t mfn = page_to_mfn(fake_page(fake_slot(d) + 1));

	fake_entry(d, gfn, mfn, type);
	return mfn_to_virt(mfn);
}

static inline void *fake_va(struct domain *d, uint64_t gfn)
{
	return mfn_to_virt(p2m_get(&d->p2m, GFN(gfn)).mfn);
}

/* --- Guest memory ------------------------------------------------------- */

int copy_from_guest(struct vcpu *v, void *dst, gva_t src, size_t len)
{
	if (src < FAKE_NO_ADDRESS)
		return -XEN_EFAULT;
	memcpy(dst, (const void *)src, len);
	return 0;
}

int copy_to_guest(struct vcpu *v, gva_t dst, const void *src, size_t len)
{
	if (dst < FAKE_NO_ADDRESS)
		return -XEN_EFAULT;
	memcpy((void *)dst, src, len);
	return 0;
}

int guest_pin(struct domain *d, gfn_t gfn, struct guest_pin *pin)
{
	pin->page = p2m_get_page(d, gfn, true);
	pin->va = pin->page ? mfn_to_virt(page_to_mfn(pin->page)) : NULL;
	return pin->page ? 0 : -XEN_EINVAL;
}

void guest_unpin(struct guest_pin *pin)
{
	if (pin->page)
		page_put(pin->page);
	pin->page = NULL;
}

/* --- Domains, vCPUs, hypercalls ----------------------------------------- */

struct domain *domain_get_by_id(domid_t id)
{
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		if (fake.dom[i].id == id && !fake.gone[i]) {
			domain_get(&fake.dom[i]);
			return &fake.dom[i];
		}
	}
	return NULL;
}

struct domain *domain_get_target(struct vcpu *v, domid_t id)
{
	return domain_get_by_id(id == DOMID_SELF ? v->domain->id : id);
}

int domain_find_target(struct vcpu *v, domid_t id, struct domain **out)
{
	*out = domain_get_target(v, id);
	if (!*out)
		return -XEN_ESRCH;
	if (*out == v->domain || v->domain->privileged)
		return 0;
	domain_put(*out);
	return -XEN_EPERM;
}

void domain_put(struct domain *d)
{
	CHECK(atomic_fetch_sub(&d->refs, 1) > 1);
}

void vcpu_mark_upcall(struct vcpu *v)
{
	CHECK(v->info->evtchn_upcall_pending == 1 || fake_this_pcpu != &fake_pcpus[0]);
	__atomic_fetch_add(&fake.count[fake_slot(v->domain)][v->id].upcalls, 1, __ATOMIC_RELAXED);
}

void vcpu_pause_clear(struct vcpu *v, unsigned int flag)
{
	void (*fn)(void) = fake.on_wake;

	fake.on_wake = NULL;
	if (fn)
		fn();
	atomic_fetch_and(&v->pause_flags, ~flag);
}

bool hypercall_preempt(struct vcpu *v)
{
	return fake.preempt_every && ++fake.preempt_count % fake.preempt_every == 0;
}

/* Calls a handler until it is done, as the dispatcher does. */
static int64_t fake_call(struct vcpu *v, hypercall_fn *fn, void *arg, uint64_t count)
{
	struct hypercall hc = { .arg = { 0, (uint64_t)(uintptr_t)arg, count } };
	int64_t ret;

	do {
		hc.ptr = hc.arg[1];
		ret = fn(v, &hc, arg);
		lock_check_none();
	} while (ret == HC_CONTINUE);
	return ret;
}

/* --- Life --------------------------------------------------------------- */

static void fake_core_init(void)
{
	memset(&fake, 0, sizeof(fake));
	page_fail_after = 0;
	fake_this_pcpu = &fake_pcpus[0];
	for (unsigned int i = 0; i < ARRAY_SIZE(fake_pcpus); i++)
		fake_pcpus[i].cpu_id = i;
	lock_check_reset();
	port_directmap = fake_memory;
	frame_table = fake_frames;
	memset(fake_frames, 0, sizeof(fake_frames));
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		struct domain *d = &fake.dom[i];

		d->id = (domid_t)(i + 1);
		d->slot = i;
		atomic_init(&d->refs, 1);
		d->nr_vcpus = FAKE_VCPUS;
		d->vcpus = fake.vcpu_ptr[i];
		d->shared = mfn_to_virt(page_to_mfn(fake_page(0)));
		fake_p2m_init(d);
		for (unsigned int n = 0; n < FAKE_VCPUS; n++) {
			d->vcpus[n] = &fake.vcpu[i][n];
			d->vcpus[n]->domain = d;
			d->vcpus[n]->id = n;
			d->vcpus[n]->info = &d->shared->vcpu_info[n];
		}
	}
}

/* Everything must be gone but what the init above made. */
static void fake_core_fini(void)
{
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		for (unsigned int gfn = 0; gfn < FAKE_GFNS; gfn++) {
			p2m_put_entry(p2m_get(&fake.dom[i].p2m, GFN(gfn)));
		}
		hv_free_pages(fake.dom[i].shared, 0);
		CHECK(fake.dom[i].refs == 1);
	}
	CHECK(fake.nr_used == 0 && fake.nr_allocs == 0);
}

#endif
