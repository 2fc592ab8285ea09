/* SPDX-License-Identifier: MIT */
/*
 * Building the control domain: a stock kernel with the machine's devices.
 *
 * Its memory is the machine's at the same addresses, in as few pieces as there
 * are, so that devices may be told guest addresses. The first piece has the
 * kernel in it, which wants one address. What is put there besides stands at
 * the end of that piece, as in builder.c. Below 1 MiB it gets what the firmware
 * left: other CPUs start there.
 *
 * Context: as builder.h, before any guest runs.
 */
#include "builder_private.h"

#include "hospes/iommu.h"
#include "hospes/log.h"

#define LOW_MEMORY (1ULL << 20)
#define ALIGNMENT (2ULL << 20)
#define MAX_PIECES 16u

struct piece { paddr_t start, end; };

struct pieces {
	unsigned int nr;
	struct piece p[MAX_PIECES];	/* rising */
};

/* Adds a piece; false: there are too many. */
static bool add_piece(struct pieces *list, paddr_t start, paddr_t end)
{
	unsigned int i = list->nr;

	if (i == MAX_PIECES)
		return false;
	for (; i > 0 && list->p[i - 1].start > start; i--)
		list->p[i] = list->p[i - 1];
	list->p[i] = (struct piece){ start, end };
	list->nr++;
	return true;
}

/* --- Choosing it ---------------------------------------------------------- */

/* Is @start in a piece already? */
static bool is_taken(const struct pieces *list, paddr_t start)
{
	for (unsigned int i = 0; i < list->nr; i++) {
		if (start >= list->p[i].start && start < list->p[i].end)
			return true;
	}
	return false;
}

/* The free run around @kernel or, with 0, the biggest one that is no piece yet. */
static struct piece find_run(const struct pieces *list, paddr_t kernel)
{
	struct piece best = { 0, 0 };
	uint64_t count;

	for (mfn_t at = page_free_run(MFN(0), &count); count;
	     at = page_free_run(MFN(at.v + count), &count)) {
		paddr_t start = ALIGN_UP(mfn_to_paddr(at), ALIGNMENT);
		paddr_t end = mfn_to_paddr(MFN(at.v + count));

		if (start >= end || is_taken(list, start))
			continue;
		if (kernel ? kernel >= start && kernel < end : end - start > best.end - best.start)
			best = (struct piece){ start, end };
	}
	return best;
}

static const char *choose(struct build *b, struct pieces *list)
{
	uint64_t left = b->config->memory, n;
	struct piece run = find_run(list, b->kernel.start);

	if (run.start == run.end)
		return "the memory at its kernel's address is not free: use another machine or"
		       " kernel";
	b->low_end = MIN(run.end, run.start + left);
	for (; left && run.start < run.end; run = find_run(list, 0)) {
		n = MIN(left, run.end - run.start);
		if (!add_piece(list, run.start, run.start + n))
			break;
		left -= n;
	}
	return left ? "there is not enough free memory, or it is in too many pieces: lower memory="
		    : NULL;
}

/* Is the page at @pa RAM by the firmware's map, and by nothing else in it? */
static bool is_low_ram(paddr_t pa)
{
	const struct boot_info *info = port_boot_info();

	for (unsigned int i = 0; i < info->nr_memory; i++) {
		const struct boot_memory *m = &info->memory[i];

		if (m->type == E820_RAM && range_within(pa - m->start, PAGE_SIZE, m->size))
			return !port_device_page(pa);
	}
	return false;
}

/* What the firmware left below 1 MiB, which the allocator was not given. Frame 0 is a device's. */
static void add_low_memory(struct pieces *list)
{
	paddr_t start = PAGE_SIZE, end;

	for (; start < LOW_MEMORY; start = end + PAGE_SIZE) {
		for (end = start; end < LOW_MEMORY && is_low_ram(end); end += PAGE_SIZE)
			;
		if (start < end && add_piece(list, start, end))
			page_add_range(paddr_to_mfn(start), (end - start) >> PAGE_SHIFT);
	}
}

/* --- Taking it ------------------------------------------------------------- */

static unsigned int block_order(uint64_t nr, uint64_t left)
{
	unsigned int order = MIN((unsigned int)ffs64(nr), (unsigned int)fls64(left));

	return MIN(order, PAGE_MAX_ORDER);
}

/* All frames first: page tables must not come to lie in them. */
static int take(struct domain *d, const struct piece *p)
{
	uint64_t last = p->end >> PAGE_SHIFT;
	int rc = 0;

	for (uint64_t nr = p->start >> PAGE_SHIFT; !rc && nr < last;) {
		unsigned int order = block_order(nr, last - nr);

		rc = page_alloc_domain_at(d, order, MFN(nr));
		nr += 1ULL << order;
	}
	return rc;
}

static int map(struct domain *d, const struct piece *p)
{
	uint64_t last = p->end >> PAGE_SHIFT;
	int rc = 0;

	write_lock(&d->p2m.lock);
	for (uint64_t nr = p->start >> PAGE_SHIFT; !rc && nr < last;) {
		unsigned int order = block_order(nr, last - nr) / 9 * 9;

		rc = p2m_set(d, GFN(nr), order, MFN(nr), P2M_RAM);
		nr += 1ULL << order;
	}
	write_unlock(&d->p2m.lock);
	return rc;
}

/* Gives back what was taken and not mapped: the rest goes with the domain. */
static void put_unmapped(struct domain *d, const struct piece *p)
{
	for (uint64_t nr = p->start >> PAGE_SHIFT; nr < p->end >> PAGE_SHIFT; nr++) {
		struct page *pg = mfn_to_page(MFN(nr));

		if (pg && pg->owner == d->slot + 1 && p2m_get(&d->p2m, GFN(nr)).type == P2M_HOLE)
			page_put(pg);
	}
}

/* --- The map it is shown --------------------------------------------------- */

static void add_entry(struct domain *d, paddr_t start, paddr_t end, uint32_t type)
{
	if (start >= end)
		return;
	if (d->nr_e820 == E820_MAX) {
		log_warn("the memory map is too long: %lx to %lx is left out", start, end);
		return;
	}
	d->e820[d->nr_e820++] =
		(struct e820entry_abi){ .addr = start, .size = end - start, .type = type };
}

/*
 * The machine's own map. Of what is RAM there only the pieces stay, without
 * our tables; the rest is not to be used, nor to be taken for a hole.
 */
static void make_map(struct build *b, const struct pieces *list)
{
	const struct boot_info *info = port_boot_info();
	struct domain *d = b->d;

	for (unsigned int i = 0; i < info->nr_memory; i++) {
		const struct boot_memory *m = &info->memory[i];
		paddr_t at = m->start, end = m->start + m->size;

		for (unsigned int n = 0; m->type == E820_RAM && n < list->nr; n++) {
			paddr_t from = MAX(list->p[n].start, m->start);
			paddr_t to = MIN(list->p[n].end, end);

			if (from >= to)
				continue;
			add_entry(d, at, from, E820_UNUSABLE);
			if (b->at_acpi >= from && b->at_acpi < to) {
				add_entry(d, from, b->at_acpi, E820_RAM);
				add_entry(d, b->at_acpi, b->low_end, E820_ACPI);
				from = b->low_end;
			}
			add_entry(d, from, to, E820_RAM);
			at = to;
		}
		add_entry(d, at, end, m->type == E820_RAM ? E820_UNUSABLE : m->type);
	}
}

const char *control_add_memory(struct build *b)
{
	struct pieces list = { .nr = 0 };
	const char *error = choose(b, &list);
	struct domain *d = b->d;
	int rc = 0;

	if (error)
		return error;
	if (iommu_present() && iommu_domain_init(d))
		return NO_MEMORY;
	/*
	 * A page of a guest's that the kernel maps is not where the kernel sees it: without
	 * an IOMMU only copies may go to devices.
	 */
	if (!iommu_present())
		b->more_args = " swiotlb=force";
	if (b->kernel.payload)		/* how big it is says nothing of where it is */
		b->kernel.end += b->kernel.start;
	error = builder_place(b, b->low_end);
	if (error)
		return error;
	add_low_memory(&list);
	d->max_pages = 0;
	for (unsigned int i = 0; i < list.nr; i++)
		d->max_pages += (list.p[i].end - list.p[i].start) >> PAGE_SHIFT;
	for (unsigned int i = 0; i < list.nr && !rc; i++)
		rc = take(d, &list.p[i]);
	for (unsigned int i = 0; i < list.nr && !rc; i++)
		rc = map(d, &list.p[i]);
	if (!rc) {
		make_map(b, &list);
		return NULL;
	}
	for (unsigned int i = 0; i < list.nr; i++)
		put_unmapped(d, &list.p[i]);
	return NO_MEMORY;
}

/* Not before there is memory: they may be at work for the firmware still. */
const char *control_add_devices(struct build *b)
{
	if (b->d->iommu)
		iommu_assign_all(b->d);
	return NULL;
}
