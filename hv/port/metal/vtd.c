/* SPDX-License-Identifier: MIT */
/*
 * Intel VT-d in legacy mode: root and context tables, invalidation by queue
 * or registers, the fault record registers.
 *
 * All buses share one context table until a function on one is treated apart:
 * then that bus gets a copy. So a device that comes later needs no attention.
 */
#include "hospes/abi.h"
#include "hospes/log.h"
#include "port/metal/iommu_private.h"

enum {
	CAP = 0x08, ECAP = 0x10, GLOBAL_COMMAND = 0x18, GLOBAL_STATUS = 0x1c, ROOT_TABLE = 0x20,
	CONTEXT_COMMAND = 0x28, FAULT_STATUS = 0x34, FAULT_CONTROL = 0x38, PROTECTED = 0x64,
	QUEUE_TAIL = 0x88, QUEUE_ADDRESS = 0x90, REMAP_TABLE = 0xb8,
};

/* Of the global command and status. */
#define TRANSLATION (1u << 31)
#define SET_ROOT (1u << 30)
#define FLUSH_WRITES (1u << 27)
#define QUEUED (1u << 26)
#define INTERRUPTS (1u << 25)
#define SET_REMAP (1u << 24)

#define CAP_FLUSH_WRITES (1ULL << 4)
#define CAP_PROTECTED (3ULL << 5)
#define CAP_CACHES_NEW (1ULL << 7)
#define CAP_39_BITS (1ULL << 9)
#define CAP_48_BITS (1ULL << 10)
#define CAP_2M (1ULL << 34)
#define CAP_1G (1ULL << 35)
#define CAP_PAGE_FLUSH (1ULL << 39)
#define CAP_DRAIN(cap) ((cap) >> 54 & 3)	/* writes, reads */
#define ECAP_COHERENT (1ULL << 0)
#define ECAP_QUEUED (1ULL << 1)
#define ECAP_REMAPS (1ULL << 3)
#define ECAP_X2APIC (1ULL << 4)

#define PRESENT 1ULL
#define SILENT 2ULL		/* context entry: no faults are recorded */
#define WIDTH_39 1ULL
#define WIDTH_48 2ULL

/* Commands in the queue, and their bits. */
#define Q_CONTEXT 1ULL
#define Q_IOTLB 2ULL
#define Q_INTERRUPTS 4ULL
#define Q_WAIT 5ULL
#define Q_ALL (1ULL << 4)
#define Q_DOMAIN (2ULL << 4)
#define Q_PAGES (3ULL << 4)
#define Q_WRITE_STATUS (1ULL << 5)

#define REG_BUSY (1ULL << 63)	/* of the registers that do the same */

static unsigned int field(uint64_t v, unsigned int low, unsigned int bits)
{
	return (unsigned int)(v >> low & ((1ULL << bits) - 1));
}

/* --- Commands -------------------------------------------------------------- */

static bool command(struct iommu_unit *u, uint32_t bit, bool settled)
{
	iommu_write32(u, GLOBAL_COMMAND, u->vtd.command | bit);
	return iommu_await(!!(iommu_read32(u, GLOBAL_STATUS) & bit) == settled);
}

static bool switch_to(struct iommu_unit *u, uint32_t bit, bool on)
{
	u->vtd.command = on ? u->vtd.command | bit : u->vtd.command & ~bit;
	iommu_write32(u, GLOBAL_COMMAND, u->vtd.command);
	return iommu_await(!!(iommu_read32(u, GLOBAL_STATUS) & bit) == on);
}

static void submit(struct iommu_unit *u, uint64_t low, uint64_t high)
{
	dma_write(&u->queue[u->tail][0], low);
	dma_write(&u->queue[u->tail][1], high);
	u->tail = (u->tail + 1) % QUEUE_SLOTS;
}

static bool wait(struct iommu_unit *u)
{
	if (!u->queue)
		return !u->vtd.stuck;
	u->sequence++;
	submit(u, Q_WAIT | Q_WRITE_STATUS | (uint64_t)u->sequence << 32, table_paddr(u->done));
	iommu_write64(u, QUEUE_TAIL, u->tail * 16);
	return iommu_await(read_once(*u->done) == u->sequence) && !u->vtd.stuck;
}

/* Without a queue: the register at @reg does it, and is waited for. */
static void by_register(struct iommu_unit *u, uint32_t reg, uint64_t v)
{
	iommu_write64(u, reg, v | REG_BUSY);
	u->vtd.stuck |= !iommu_await(!(iommu_read64(u, reg) & REG_BUSY));
}

static void forget_contexts(struct iommu_unit *u)
{
	if (u->vtd.cap & CAP_FLUSH_WRITES)
		u->vtd.stuck |= !command(u, FLUSH_WRITES, false);
	if (u->queue)
		submit(u, Q_CONTEXT | Q_ALL, 0);
	else
		by_register(u, CONTEXT_COMMAND, 1ULL << 61);
}

/* @scope: Q_ALL, Q_DOMAIN or Q_PAGES; @pages is an address and, in the low bits, an order. */
static void forget_translations(struct iommu_unit *u, uint64_t scope, uint64_t id, uint64_t pages)
{
	uint64_t drain = CAP_DRAIN(u->vtd.cap);
	uint32_t reg = field(u->vtd.ecap, 8, 10) * 16;

	if (u->vtd.cap & CAP_FLUSH_WRITES)
		u->vtd.stuck |= !command(u, FLUSH_WRITES, false);
	if (u->queue) {
		submit(u, Q_IOTLB | scope | drain << 6 | id << 16, pages);
		return;
	}
	iommu_write64(u, reg, pages);
	by_register(u, reg + 8, scope << (60 - 4) | drain << 48 | id << 32);
}

static bool forget_all(struct iommu_unit *u)
{
	forget_contexts(u);
	if (u->queue && !wait(u))	/* in this order */
		return false;
	forget_translations(u, Q_ALL, 0, 0);
	return wait(u);
}

static void flush(struct iommu_unit *u, unsigned int id, gfn_t gfn, unsigned int order)
{
	if (u->vtd.cap & CAP_PAGE_FLUSH && order <= field(u->vtd.cap, 48, 6))
		forget_translations(u, Q_PAGES, id, gfn_to_gpa(gfn) | order);
	else
		forget_translations(u, Q_DOMAIN, id, 0);
}

/* --- Devices --------------------------------------------------------------- */

static uint64_t (*contexts_of(const struct iommu_unit *u, unsigned int bus))[2]
{
	return mfn_to_virt(paddr_to_mfn(u->vtd.root[bus][0]));
}

static void set_context(struct iommu_unit *u, uint64_t *e, const struct iommu_map *map)
{
	bool deep = u->vtd.cap & CAP_48_BITS;
	paddr_t top;

	dma_write(&e[0], 0);		/* never seen half */
	if (!map)
		return;
	top = deep ? table_paddr(map->root) : map->root[0] & DMA_ADDR;
	dma_write(&e[1], (uint64_t)map_id(map) << 8 | (deep ? WIDTH_48 : WIDTH_39));
	dma_write(&e[0], top | PRESENT);
}

static unsigned int context_owner(const uint64_t *e)
{
	return e[0] & PRESENT ? field(e[1], 8, 16) : 0;
}

static unsigned int owner(const struct iommu_unit *u, uint16_t rid)
{
	return context_owner(contexts_of(u, rid >> 8)[rid & 255]);
}

static int set_device(struct iommu_unit *u, uint16_t rid, const struct iommu_map *map)
{
	uint64_t (*contexts)[2] = contexts_of(u, rid >> 8);

	if (contexts == u->vtd.shared) {
		contexts = hv_alloc_pages(PAGE_ORDER_4K);
		if (!contexts)
			return -XEN_ENOMEM;
		for (unsigned int i = 0; i < 256; i++) {
			dma_write(&contexts[i][0], u->vtd.shared[i][0]);
			dma_write(&contexts[i][1], u->vtd.shared[i][1]);
		}
		dma_write(&u->vtd.root[rid >> 8][0], table_paddr(contexts) | PRESENT);
	}
	set_context(u, contexts[rid & 255], NULL);
	if (!map)
		dma_write(&contexts[rid & 255][0], SILENT);
	if (!forget_all(u))
		panic("the IOMMU at %lx does not forget a device", u->desc->base);
	if (map)
		set_context(u, contexts[rid & 255], map);
	return map && iommu.flush_new && !forget_all(u) ? -XEN_EIO : 0;
}

static void move_contexts(struct iommu_unit *u, uint64_t (*contexts)[2], unsigned int from,
			  const struct iommu_map *to)
{
	for (unsigned int i = 0; i < 256; i++) {
		if (context_owner(contexts[i]) == from)
			set_context(u, contexts[i], to);
	}
}

static void move(struct iommu_unit *u, unsigned int from, const struct iommu_map *to)
{
	move_contexts(u, u->vtd.shared, from, to);
	for (unsigned int bus = 0; bus < 256; bus++) {
		if (contexts_of(u, bus) != u->vtd.shared)
			move_contexts(u, contexts_of(u, bus), from, to);
	}
	(void)forget_all(u);		/* what is wrong shows when the caller waits */
}

/* --- Interrupts ------------------------------------------------------------ */

#define REMAP_X2APIC (1ULL << 11)

/* What comes in the old format is blocked then, whoever sends it. */
static bool remap(struct iommu_unit *u, bool on)
{
	uint64_t size = iommu.remap_order + 7;	/* 2^(size + 1) entries; a page has 256 */

	if (!on)
		return switch_to(u, INTERRUPTS, false);
	iommu_write64(u, REMAP_TABLE,
		      table_paddr(iommu.remap) | (iommu.x2apic ? REMAP_X2APIC : 0) | size);
	if (!command(u, SET_REMAP, true))
		return false;
	submit(u, Q_INTERRUPTS, 0);
	return wait(u) && switch_to(u, INTERRUPTS, true);
}

static void remap_changed(struct iommu_unit *u, unsigned int index)
{
	submit(u, Q_INTERRUPTS | 1ULL << 4 | (uint64_t)index << 32, 0);
}

/* --- Faults ---------------------------------------------------------------- */

#define FAULT_RECORDED (1ULL << 63)	/* in the upper half of a record */
#define FAULT_READ (1ULL << 62)

static const char *const reasons[] = {
	[0x01] = "no root entry", [0x02] = "given to nobody", [0x03] = "bad context entry",
	[0x04] = "beyond the width of addresses", [0x05] = "not writable", [0x06] = "not readable",
	[0x07] = "bad table address", [0x08] = "bad root table", [0x09] = "bad context table",
	[0x0a] = "reserved bits in a root entry", [0x0b] = "reserved bits in a context entry",
	[0x0c] = "reserved bits in a page table", [0x0d] = "a request that is not allowed",
	[0x20] = "reserved bits in an interrupt request", [0x21] = "no such interrupt",
	[0x22] = "interrupt is not set up", [0x23] = "bad interrupt table",
	[0x24] = "reserved bits in an interrupt entry", [0x25] = "interrupt in the old format",
	[0x26] = "interrupt of another device",
};

static void poll(struct iommu_unit *u)
{
	uint32_t first = field(u->vtd.cap, 24, 10) * 16, nr = field(u->vtd.cap, 40, 8) + 1;
	uint32_t status = iommu_read32(u, FAULT_STATUS);

	if (!status)
		return;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t reg = first + (field(status, 8, 8) + i) % nr * 16;
		uint64_t high = iommu_read64(u, reg + 8);
		unsigned int why = field(high, 32, 8);

		if (!(high & FAULT_RECORDED))
			continue;
		iommu_fault(u, (uint16_t)high, iommu_read64(u, reg), !(high & FAULT_READ),
			    why < ARRAY_SIZE(reasons) && reasons[why] ? reasons[why] : "unknown");
		iommu_write32(u, reg + 12, FAULT_RECORDED >> 32);
	}
	iommu_write32(u, FAULT_STATUS, status & 0x7d);	/* all but what the records say */
}

/* --- Start ----------------------------------------------------------------- */

/* Maps the registers, those at a place of their own included. */
static bool probe(struct iommu_unit *u)
{
	uint64_t cap, ecap, size;

	if (!iommu_map_regs(u, u->desc->size))
		return false;
	u->vtd.cap = cap = iommu_read64(u, CAP);
	u->vtd.ecap = ecap = iommu_read64(u, ECAP);
	size = MAX(field(cap, 24, 10) + field(cap, 40, 8) + 1, field(ecap, 8, 10) + 1u) * 16;
	if (!(cap & (CAP_39_BITS | CAP_48_BITS)) || cap == UINT64_MAX ||
	    (size > u->regs_size && !iommu_map_regs(u, ALIGN_UP(size, PAGE_SIZE))))
		return false;
	iommu.leaf_level = MIN(iommu.leaf_level, !(cap & CAP_2M) ? 0 : cap & CAP_1G ? 2u : 1u);
	iommu.coherent &= ecap & ECAP_COHERENT;
	iommu.flush_new |= cap & (CAP_CACHES_NEW | CAP_FLUSH_WRITES);
	iommu.can_remap &= ecap & ECAP_QUEUED && ecap & ECAP_REMAPS &&
			   (ecap & ECAP_X2APIC || !iommu.x2apic);
	return true;
}

/* What firmware may have left on. */
static bool turn_off(struct iommu_unit *u)
{
	u->vtd.command = iommu_read32(u, GLOBAL_STATUS) & (TRANSLATION | QUEUED | INTERRUPTS);
	return switch_to(u, INTERRUPTS, false) && switch_to(u, TRANSLATION, false) &&
	       switch_to(u, QUEUED, false);
}

static bool start_queue(struct iommu_unit *u)
{
	if (!(u->vtd.ecap & ECAP_QUEUED))
		return true;
	u->done = hv_alloc(sizeof(*u->done));
	u->queue = hv_alloc_pages(PAGE_ORDER_4K);
	if (!u->done || !u->queue)
		return false;
	iommu_write64(u, QUEUE_TAIL, 0);
	iommu_write64(u, QUEUE_ADDRESS, table_paddr(u->queue));
	return switch_to(u, QUEUED, true);
}

static bool start(struct iommu_unit *u)
{
	if (!probe(u) || !turn_off(u))
		return false;
	u->vtd.root = hv_alloc_pages(PAGE_ORDER_4K);
	u->vtd.shared = hv_alloc_pages(PAGE_ORDER_4K);
	if (!u->vtd.root || !u->vtd.shared)
		return false;
	for (unsigned int bus = 0; bus < 256; bus++)
		dma_write(&u->vtd.root[bus][0], table_paddr(u->vtd.shared) | PRESENT);
	iommu_write_back(u->vtd.shared, PAGE_SIZE);
	iommu_write32(u, FAULT_CONTROL, 1u << 31);	/* no interrupts: poll() looks */
	iommu_write64(u, ROOT_TABLE, table_paddr(u->vtd.root));
	if (!command(u, SET_ROOT, true) || !start_queue(u) || !forget_all(u) ||
	    !switch_to(u, TRANSLATION, true))
		return false;
	if (u->vtd.cap & CAP_PROTECTED)		/* firmware's own way of blocking devices */
		iommu_write32(u, PROTECTED, 0);
	return true;
}

static void stop(struct iommu_unit *u)
{
	if (u->regs)
		(void)turn_off(u);
	if (u->queue)
		hv_free_pages(u->queue, PAGE_ORDER_4K);
	hv_free(u->done);
	hv_free(u->vtd.root);
	hv_free(u->vtd.shared);
	*u = (struct iommu_unit){ .desc = u->desc, .regs_size = u->regs_size };
}

const struct iommu_ops vtd_ops = {
	.name = "VT-d",
	.format = {
		.table = 3, .big = 1u << 7,
		.rights = { [DMA_READ] = 1, [DMA_WRITE] = 2, [DMA_READ | DMA_WRITE] = 3 },
	},
	.start = start, .stop = stop, .set_device = set_device, .move = move, .owner = owner,
	.flush = flush, .wait = wait, .poll = poll, .remap = remap, .remap_changed = remap_changed,
};
