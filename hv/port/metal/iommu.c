/* SPDX-License-Identifier: MIT */
/*
 * IOMMUs: the page tables of domains for devices, who has which device, and
 * what happens to devices that reach beyond. vtd.c and amdvi.c drive the units.
 *
 * Tables have four levels. A unit that walks three begins at the first table
 * of the third level, which therefore exists in every map for its whole life.
 * Units read the tables at any time: every change is one 64-bit store, and a
 * table that was taken out is freed after the next flush.
 */
#include "hospes/iommu.h"

#include "hospes/cmdline.h"
#include "hospes/domain.h"
#include "hospes/log.h"
#include "port/metal/iommu_private.h"

#define TOP_LEVEL 3u			/* entries of level n map 2^(9 n) frames */
#define ENTRIES 512u
#define ALL_RIGHTS (DMA_READ | DMA_WRITE)

#define POLL_NS 100000000ULL		/* between looks at what the units noted */
#define WINDOW_NS 10000000000ULL	/* in which the faults of a device are counted: */
#define FAULTS_LOGGED 8u		/* so many are told, */
#define FAULTS_MAX 32u			/* with so many it loses its access */
#define SUSPECTS 16u

struct iommu_host iommu;

static struct spinlock lock = SPINLOCK(LOCK_IOMMU);
static struct timer poll_timer;

static struct suspect {
	uint32_t sbdf;
	unsigned int faults;
	uint64_t since;
} suspects[SUSPECTS];

#define for_each_unit(u) \
	for (struct iommu_unit *u = iommu.unit; u < &iommu.unit[iommu.nr_units]; u++)

/* --- Entries and tables ---------------------------------------------------- */

static uint64_t *table_of(uint64_t e)
{
	return mfn_to_virt(paddr_to_mfn(e & DMA_ADDR));
}

static uint64_t table_entry(const uint64_t *table, unsigned int level)
{
	const struct dma_format *f = &iommu.ops->format;

	return table_paddr(table) | DMA_TABLE | f->table | level * f->next;
}

static uint64_t leaf_entry(unsigned int level, mfn_t mfn, unsigned int rights)
{
	const struct dma_format *f = &iommu.ops->format;

	return rights ? mfn_to_paddr(mfn) | f->leaf | f->rights[rights] | (level ? f->big : 0) :
			f->hole;
}

/* A table of @level that maps what @e, the entry above, maps by itself. */
static uint64_t *table_new(unsigned int level, uint64_t e)
{
	const struct dma_format *f = &iommu.ops->format;
	uint64_t step = e == f->hole ? 0 : PAGE_SIZE << 9 * level;
	uint64_t *table = hv_alloc_pages(PAGE_ORDER_4K);

	if (!table)
		return NULL;
	if (step && !level)
		e &= ~f->big;
	for (unsigned int i = 0; i < ENTRIES; i++, e += step)
		table[i] = e;
	if (!iommu.coherent)
		iommu_write_back(table, PAGE_SIZE);
	return table;
}

static void tree_free(uint64_t *table, unsigned int level)
{
	for (unsigned int i = 0; i < ENTRIES && level; i++) {
		if (table[i] & DMA_TABLE)
			tree_free(table_of(table[i]), level - 1);
	}
	hv_free_pages(table, PAGE_ORDER_4K);
}

/* The entry of @level that maps these frames; with tables where the units have no such big ones. */
static int build(unsigned int level, mfn_t mfn, unsigned int rights, uint64_t *e)
{
	uint64_t *table;
	int rc = 0;

	*e = leaf_entry(level, mfn, rights);
	if (level <= iommu.leaf_level || !rights)
		return 0;
	table = table_new(level - 1, iommu.ops->format.hole);
	if (!table)
		return -XEN_ENOMEM;
	for (uint64_t i = 0; i < ENTRIES && !rc; i++)
		rc = build(level - 1, MFN(mfn.v + (i << 9 * (level - 1))), rights, &table[i]);
	if (rc)
		tree_free(table, level - 1);
	else if (!iommu.coherent)
		iommu_write_back(table, PAGE_SIZE);
	*e = table_entry(table, level);
	return rc;
}

/* Does @e map just that already, by whatever tables? */
static bool maps(uint64_t e, unsigned int level, mfn_t mfn, unsigned int rights)
{
	bool same = e & DMA_TABLE || e == leaf_entry(level, mfn, rights);

	for (uint64_t i = 0; same && e & DMA_TABLE && i < ENTRIES; i++)
		same = maps(table_of(e)[i], level - 1, MFN(mfn.v + (i << 9 * (level - 1))), rights);
	return same;
}

/* --- Maps ------------------------------------------------------------------ */

/* Units may still use what was there, and @table (of @level), until they are flushed. */
static void note_change(struct iommu_map *m, gfn_t gfn, unsigned int order, uint64_t *table,
			unsigned int level)
{
	gfn_t last = gfn_add(gfn, (1ULL << order) - 1);

	spin_lock(&lock);
	m->first = GFN(MIN(m->first.v, gfn.v));
	m->last = GFN(MAX(m->last.v, last.v));
	if (table) {
		struct page *pg = &frame_table[virt_to_mfn(table).v];

		pg->p2m_used = (uint16_t)level;
		page_list_add(&m->retired, pg, true);
	}
	atomic_store(&m->pending, true);
	spin_unlock(&lock);
}

/*
 * The entry for @gfn at @level. On the way big mappings are split and, for
 * @make, missing tables made; without, NULL where there is nothing.
 */
static int descend(struct iommu_map *m, gfn_t gfn, unsigned int level, bool make, uint64_t **slot)
{
	uint64_t *e = &m->root[gfn.v >> 9 * TOP_LEVEL], *table;

	for (unsigned int l = TOP_LEVEL; l > level; l--) {
		if (!(*e & DMA_TABLE)) {
			bool hole = *e == iommu.ops->format.hole;

			*slot = NULL;
			if (hole && !make)
				return 0;
			table = table_new(l - 1, *e);
			if (!table)
				return -XEN_ENOMEM;
			dma_write(e, table_entry(table, l));
			if (!hole)	/* a flush of a part may leave the whole in */
				note_change(m, GFN(gfn.v & ~((1ULL << 9 * l) - 1)), 9 * l, NULL, 0);
		}
		e = &table_of(*e)[gfn.v >> 9 * (l - 1) & (ENTRIES - 1)];
	}
	*slot = e;
	return 0;
}

/* Does a region that firmware reserves touch it? */
static bool is_reserved(const struct iommu_map *m, gfn_t gfn, unsigned int order)
{
	paddr_t start = gfn_to_gpa(gfn), end = start + (PAGE_SIZE << order);

	for (unsigned int i = 0; m->reserved && i < iommu.firmware->nr_reserved; i++) {
		const struct iommu_region *r = &iommu.firmware->reserved[i];

		if (start < r->end && r->start < end)
			return true;
	}
	return false;
}

int iommu_set(struct domain *d, gfn_t gfn, unsigned int order, mfn_t mfn, unsigned int rights)
{
	struct iommu_map *m = d->iommu;
	unsigned int level = order / 9;
	uint64_t *slot, old, e;
	int rc = 0;

	if (!rights && unlikely(is_reserved(m, gfn, order))) {
		/* Such a page stays the devices', whatever is mapped there for CPUs. */
		for (uint64_t i = 0; level && i < ENTRIES && !rc; i++)
			rc = iommu_set(d, gfn_add(gfn, i << (order - 9)), order - 9, mfn, rights);
		if (level)
			return rc;
		mfn = MFN(gfn.v);
		rights = ALL_RIGHTS;
	}
	rc = descend(m, gfn, level, rights, &slot);
	if (rc || !slot)
		return rc;
	old = *slot;
	if (old == leaf_entry(level, mfn, rights) ||
	    (level > iommu.leaf_level && old & DMA_TABLE && maps(old, level, mfn, rights)))
		return 0;
	rc = build(level, mfn, rights, &e);
	if (rc)
		return rc;
	dma_write(slot, e);
	if (old & DMA_TABLE)
		note_change(m, gfn, order, table_of(old), level - 1);
	else if (old != iommu.ops->format.hole || iommu.flush_new)
		note_change(m, gfn, order, NULL, 0);
	if (old == iommu.ops->format.hole && iommu.flush_new)
		iommu_flush(d);
	return 0;
}

int iommu_split(struct domain *d, gfn_t gfn)
{
	uint64_t *slot;

	return descend(d->iommu, gfn, 0, false, &slot);
}

/* Takes the retired tables off the list of a map that no unit uses them for. */
static void free_retired(struct iommu_map *m)
{
	while (m->retired.first) {
		struct page *pg = &frame_table[m->retired.first];

		page_list_del(&m->retired, pg);
		tree_free(mfn_to_virt(page_to_mfn(pg)), pg->p2m_used);
	}
}

static void wait_for_units(void)
{
	for_each_unit(u) {
		if (!iommu.ops->wait(u))
			panic("the IOMMU at %lx does not answer", u->desc->base);
	}
}

void iommu_flush(struct domain *d)
{
	struct iommu_map *m = d->iommu;
	unsigned int order;

	if (!m || !atomic_load(&m->pending))
		return;
	spin_lock(&lock);
	if (atomic_load(&m->pending)) {
		order = (unsigned int)(fls64(m->first.v ^ m->last.v) + 1);
		for_each_unit(u)
			iommu.ops->flush(u, map_id(m), GFN(m->first.v >> order << order), order);
		wait_for_units();
		m->first = INVALID_GFN;
		m->last = GFN(0);
		free_retired(m);
		atomic_store(&m->pending, false);
	}
	spin_unlock(&lock);
}

static int map_reserved(struct domain *d)
{
	int rc = 0;

	for (unsigned int i = 0; i < iommu.firmware->nr_reserved && !rc; i++) {
		const struct iommu_region *r = &iommu.firmware->reserved[i];
		uint64_t at = r->start >> PAGE_SHIFT, end = r->end >> PAGE_SHIFT;

		for (; at < end && !rc; at++)
			rc = iommu_set(d, GFN(at), PAGE_ORDER_4K, MFN(at), ALL_RIGHTS);
	}
	return rc;
}

static void poll_units(void *data)
{
	spin_lock(&lock);
	for_each_unit(u)
		iommu.ops->poll(u);
	spin_unlock(&lock);
	timer_set(&poll_timer, port_time_ns() + POLL_NS);
}

int iommu_domain_init(struct domain *d)
{
	struct iommu_map *m = &iommu.map[1];
	uint64_t *low;
	int rc;

	if (!iommu.ops)
		return -XEN_ENODEV;
	spin_lock(&lock);
	while (m < &iommu.map[MAX_MAPS] && m->domain)
		m++;
	if (m < &iommu.map[MAX_MAPS])
		*m = (struct iommu_map){ .domain = d, .first = INVALID_GFN };
	spin_unlock(&lock);
	if (m == &iommu.map[MAX_MAPS])
		return -XEN_ENOSPC;
	m->reserved = d->privileged;
	m->root = table_new(TOP_LEVEL, iommu.ops->format.hole);
	low = table_new(TOP_LEVEL - 1, iommu.ops->format.hole);
	if (!m->root || !low) {
		hv_free(m->root);
		hv_free(low);
		m->domain = NULL;
		return -XEN_ENOMEM;
	}
	dma_write(&m->root[0], table_entry(low, TOP_LEVEL));
	write_lock(&d->p2m.lock);
	d->iommu = m;
	rc = m->reserved ? map_reserved(d) : 0;
	write_unlock(&d->p2m.lock);
	if (rc)
		iommu_domain_destroy(d);
	else if (!timer_is_set(&poll_timer))
		poll_units(NULL);
	return rc;
}

void iommu_domain_destroy(struct domain *d)
{
	struct iommu_map *m = d->iommu;

	if (!m)
		return;
	write_lock(&d->p2m.lock);
	d->iommu = NULL;
	spin_lock(&lock);
	for_each_unit(u)
		iommu.ops->move(u, map_id(m), NULL);
	wait_for_units();
	atomic_store(&m->pending, false);
	free_retired(m);
	tree_free(m->root, TOP_LEVEL);
	m->domain = NULL;
	spin_unlock(&lock);
	write_unlock(&d->p2m.lock);
}

/* --- Devices --------------------------------------------------------------- */

static struct suspect *find_suspect(uint32_t sbdf)
{
	struct suspect *least = suspects;

	for (struct suspect *s = suspects; s < &suspects[SUSPECTS]; s++) {
		if (s->faults && s->sbdf == sbdf)
			return s;
		if (s->faults < least->faults)
			least = s;
	}
	*least = (struct suspect){ .sbdf = sbdf };
	return least;
}

/* How many faults of @sbdf there are in this window, with the one at hand. */
static unsigned int count_fault(uint32_t sbdf)
{
	struct suspect *s = find_suspect(sbdf);
	uint64_t now = port_time_ns();

	if (!s->faults || now - s->since > WINDOW_NS) {
		s->since = now;
		s->faults = 0;
	}
	return ++s->faults;
}

int iommu_assign(struct domain *d, uint32_t sbdf)
{
	int rc = -XEN_ENODEV;

	spin_lock(&lock);
	for_each_unit(u) {
		if (u->desc->segment == sbdf >> 16)
			rc = iommu.ops->set_device(u, (uint16_t)sbdf, d ? d->iommu : NULL);
		if (rc && rc != -XEN_ENODEV)
			break;
	}
	find_suspect(sbdf)->faults = 0;
	spin_unlock(&lock);
	return rc;
}

void iommu_assign_all(struct domain *d)
{
	spin_lock(&lock);
	for_each_unit(u)
		iommu.ops->move(u, 0, d->iommu);
	wait_for_units();
	spin_unlock(&lock);
}

void iommu_fault(struct iommu_unit *u, uint16_t rid, uint64_t address, bool write,
		 const char *reason)
{
	const struct iommu_map *m = &iommu.map[iommu.ops->owner(u, rid)];
	uint32_t segment = u->desc->segment;
	unsigned int faults = count_fault(segment << 16 | rid);
	char name[16];

	hv_snprintf(name, sizeof(name), "%04x:%02x:%02x.%u", segment, rid >> 8, rid >> 3 & 31u,
		    rid & 7u);
	if (faults <= FAULTS_LOGGED)
		log_warn("iommu: device %s of %s: %s at %lx blocked: %s", name,
			 m->domain ? m->domain->name : "nobody", write ? "write" : "read", address,
			 reason);
	if (m->domain && faults >= FAULTS_MAX && !iommu.ops->set_device(u, rid, NULL))
		log_err("iommu: device %s of %s is cut off: %u faults within %llu s", name,
			m->domain->name, faults, WINDOW_NS / 1000000000);
}

void iommu_fault_unknown(struct iommu_unit *u)
{
	if (count_fault((uint32_t)u->desc->segment << 16 | u->desc->rid) <= FAULTS_LOGGED)
		log_warn("iommu: the unit at %lx blocked a device and does not say which",
			 u->desc->base);
}

/* --- Interrupts ------------------------------------------------------------ */

#define REMAP_PRESENT 1ULL
#define REMAP_LEVEL (1ULL << 4)
#define REMAP_CHECK_RID (1ULL << 18)	/* in the second word, above the requester ID */

int iommu_remap(unsigned int to, uint32_t apic_id, uint8_t vector, uint16_t rid, bool level)
{
	unsigned int index = to << 8 | vector;
	uint64_t low = REMAP_PRESENT | (uint64_t)vector << 16 | (level ? REMAP_LEVEL : 0) |
		       (uint64_t)(iommu.x2apic ? apic_id : apic_id << 8) << 32;
	uint64_t high = REMAP_CHECK_RID | rid, *e;

	if (!iommu.remap)
		return -1;
	spin_lock(&lock);
	e = iommu.remap[index];
	if (e[0] != low || e[1] != high) {
		dma_write(&e[0], 0);
		dma_write(&e[1], high);
		dma_write(&e[0], low);
		for_each_unit(u)
			iommu.ops->remap_changed(u, index);
		wait_for_units();
	}
	spin_unlock(&lock);
	return (int)index;
}

int iommu_ioapic_rid(unsigned int id)
{
	for (unsigned int i = 0; iommu.firmware && i < iommu.firmware->nr_ioapics; i++) {
		if (iommu.firmware->ioapic[i].id == id)
			return iommu.firmware->ioapic[i].rid;
	}
	return -1;
}

static bool know_ioapics(void)
{
	bool all = true;

	for (unsigned int i = 0; port_ioapic(i); i++)
		all &= iommu_ioapic_rid(port_ioapic(i)->id) >= 0;
	return all;
}

/* True when interrupts are remapped from now on. */
static bool start_remapping(unsigned int nr_cpus)
{
	/* A page has entries for all vectors of a CPU. */
	unsigned int order = nr_cpus > 1 ? (unsigned int)(fls64(nr_cpus - 1) + 1) : 0;

	if (!iommu.can_remap || !iommu.firmware->remaps_interrupts || !know_ioapics())
		return false;
	iommu.remap_order = order;
	iommu.remap = hv_alloc_pages(iommu.remap_order);
	if (!iommu.remap)
		return false;
	if (!iommu.coherent)
		iommu_write_back(iommu.remap, PAGE_SIZE << iommu.remap_order);
	for_each_unit(u) {
		if (iommu.ops->remap(u, true))
			continue;
		for (; u >= iommu.unit; u--)
			(void)!iommu.ops->remap(u, false);
		hv_free_pages(iommu.remap, iommu.remap_order);
		iommu.remap = NULL;
		break;
	}
	return iommu.remap;
}

/* --- Start ----------------------------------------------------------------- */

bool iommu_present(void)
{
	return iommu.ops;
}

bool iommu_owns(paddr_t page)
{
	for (unsigned int i = 0; iommu.firmware && i < iommu.firmware->nr_units; i++) {
		const struct iommu_desc *u = &iommu.firmware->unit[i];
		uint64_t size = MAX(u->size, iommu.unit[i].regs_size);

		if (page >= ALIGN_DOWN(u->base, PAGE_SIZE) && page < u->base + size)
			return true;
	}
	return false;
}

bool iommu_is_unit(uint32_t sbdf)
{
	for (unsigned int i = 0; iommu.firmware && i < iommu.firmware->nr_units; i++) {
		const struct iommu_desc *u = &iommu.firmware->unit[i];

		if (iommu.firmware->kind == IOMMU_AMDVI && u->segment == sbdf >> 16 &&
		    u->rid == (uint16_t)sbdf)
			return true;
	}
	return false;
}

static bool start_units(void)
{
	for_each_unit(u) {
		u->desc = &iommu.firmware->unit[u - iommu.unit];
		if (iommu.ops->start(u))
			continue;
		log_err("iommu: the unit at %lx does not work", u->desc->base);
		for (; u >= iommu.unit; u--)
			iommu.ops->stop(u);
		return false;
	}
	return true;
}

/* What firmware reserves for devices is no RAM, or it would lie open to them. */
static void check_reserved(struct iommu_info *info)
{
	for (unsigned int i = 0; i < info->nr_reserved;) {
		struct iommu_region *r = &info->reserved[i];

		if (iommu_in_ram(r->start, r->end)) {
			*r = info->reserved[--info->nr_reserved];
			info->dropped++;
		} else {
			i++;
		}
	}
	if (info->dropped)
		log_warn("iommu: %u regions that firmware reserves for devices are ignored",
			 info->dropped);
}

void iommu_init(struct iommu_info *info, unsigned int nr_cpus, bool x2apic)
{
	static const char *const sizes[] = { "4K", "2M", "1G" };
	bool usable = info->kind != IOMMU_NONE && info->nr_units && !info->broken;

	iommu.firmware = info;
	check_reserved(info);
	if (info->broken)
		log_err("iommu: the firmware's table makes no sense");
	if (usable && hv_options.iommu) {
		iommu.ops = info->kind == IOMMU_VTD ? &vtd_ops : &amdvi_ops;
		iommu.nr_units = info->nr_units;
		iommu.leaf_level = TOP_LEVEL - 1;
		iommu.coherent = true;
		iommu.can_remap = iommu.ops->remap;
		iommu.x2apic = x2apic;
		timer_init(&poll_timer, poll_units, NULL);
		if (!start_units())
			iommu.ops = NULL;
	}
	if (iommu.ops)
		log_info("iommu: %u %s unit%s, pages up to %s, interrupts %sremapped",
			 iommu.nr_units, iommu.ops->name, iommu.nr_units > 1 ? "s" : "",
			 sizes[iommu.leaf_level], start_remapping(nr_cpus) ? "" : "not ");
	else
		log_warn("no IOMMU%s: devices can reach all of memory",
			 usable && !hv_options.iommu ? " (iommu=no)" : "");
}
