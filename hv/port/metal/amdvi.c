/* SPDX-License-Identifier: MIT */
/*
 * AMD-Vi: device table, command buffer, completion wait, event log.
 */
#include "hospes/abi.h"
#include "hospes/log.h"
#include "hospes/port.h"
#include "port/metal/iommu_private.h"

enum {
	DEVICE_TABLE = 0x00, COMMAND_BUFFER = 0x08, EVENT_LOG = 0x10, CONTROL = 0x18,
	FEATURES = 0x30, COMMAND_HEAD = 0x2000, COMMAND_TAIL = 0x2008, EVENT_HEAD = 0x2010,
	EVENT_TAIL = 0x2018, STATUS = 0x2020,
};

#define ENABLE (1ULL << 0)
#define EVENTS (1ULL << 2)
#define COHERENT (1ULL << 10)
#define COMMANDS (1ULL << 12)

#define LENGTH_256 (8ULL << 56)		/* entries of command buffer and event log */
#define FEATURE_ALL (1ULL << 6)		/* one command forgets everything */
#define STATUS_OVERFLOW 1u

#define PCI_STATUS 6u
#define PCI_STATUS_ABORTED 0x0800u

#define CAP_CACHES_NEW (1u << 26)	/* first word of the PCI capability */
#define CAP_FEATURES (1u << 27)

/* Device table entries: nothing is translated, and without rights that means blocked. */
#define DEV_BLOCKED 3ULL
#define DEV_LEVELS (4ULL << 9)
#define DEV_RIGHTS (3ULL << 61)
#define DEV_SILENT (1ULL << 34)		/* in the second word, with the domain ID */

enum { OP_WAIT = 1, OP_DEVICE = 2, OP_PAGES = 3, OP_ALL = 8 };

#define EVERYTHING 52u		/* as an order of pages */
#define EVENT_WRITE (1ULL << 53)

static uint32_t config_of(const struct iommu_unit *u)
{
	return (uint32_t)u->desc->segment << 16 | u->desc->rid;
}

static void submit(struct iommu_unit *u, uint64_t op, uint64_t low, uint64_t high)
{
	dma_write(&u->queue[u->tail][0], op << 60 | low);
	dma_write(&u->queue[u->tail][1], high);
	u->tail = (u->tail + 1) % QUEUE_SLOTS;
}

static bool wait(struct iommu_unit *u)
{
	u->sequence++;
	submit(u, OP_WAIT, table_paddr(u->done) | 1, u->sequence);
	iommu_write64(u, COMMAND_TAIL, u->tail * 16);
	return iommu_await(read_once(*u->done) == u->sequence);
}

static void flush(struct iommu_unit *u, unsigned int id, gfn_t gfn, unsigned int order)
{
	uint64_t address = gfn_to_gpa(gfn);

	/* Ones up to a zero say how much, from the lowest bit of an address on. */
	if (order)
		address |= ((1ULL << (order - 1)) - 1) << PAGE_SHIFT | 1;
	submit(u, OP_PAGES, (uint64_t)id << 32, address | 2);	/* 2: the tables' entries too */
}

/* --- Devices --------------------------------------------------------------- */

static unsigned int owner(const struct iommu_unit *u, uint16_t rid)
{
	return rid <= u->desc->last_rid ? (uint16_t)u->amd.devices[rid][1] : 0;
}

static void set_entry(uint64_t *e, const struct iommu_map *map, uint64_t flags)
{
	uint64_t top = map ? table_paddr(map->root) | DEV_LEVELS | DEV_RIGHTS : 0;

	/* Blocked first, open last. */
	dma_write(&e[0], DEV_BLOCKED);
	dma_write(&e[1], (e[1] & ~(DEV_SILENT | 0xffff)) | map_id(map) | flags);
	dma_write(&e[0], DEV_BLOCKED | top);
}

static bool forget_device(struct iommu_unit *u, uint16_t rid, unsigned int id)
{
	submit(u, OP_DEVICE, rid, 0);
	if (id)
		flush(u, id, GFN(0), EVERYTHING);
	return wait(u);
}

static int set_device(struct iommu_unit *u, uint16_t rid, const struct iommu_map *map)
{
	unsigned int id = owner(u, rid);

	if (rid > u->desc->last_rid)
		return -XEN_ENODEV;
	set_entry(u->amd.devices[rid], NULL, DEV_SILENT);
	if (!forget_device(u, rid, id))
		panic("the IOMMU at %lx does not forget a device", u->desc->base);
	if (!map)
		return 0;
	set_entry(u->amd.devices[rid], map, 0);
	return forget_device(u, rid, 0) ? 0 : -XEN_EIO;
}

static bool forget_all(struct iommu_unit *u)
{
	bool ok = true;

	if (u->amd.features & FEATURE_ALL) {
		submit(u, OP_ALL, 0, 0);
		return wait(u);
	}
	for (uint32_t rid = 0; rid <= u->desc->last_rid && ok; rid++) {
		submit(u, OP_DEVICE, rid, 0);
		if (rid % (QUEUE_SLOTS / 2) == 0)
			ok = wait(u);
	}
	for (unsigned int id = 0; id < MAX_MAPS; id++)
		flush(u, id, GFN(0), EVERYTHING);
	return ok && wait(u);
}

static void move(struct iommu_unit *u, unsigned int from, const struct iommu_map *to)
{
	for (uint32_t rid = 0; rid <= u->desc->last_rid; rid++) {
		if (owner(u, (uint16_t)rid) == from)
			set_entry(u->amd.devices[rid], to, 0);
	}
	(void)forget_all(u);		/* what is wrong shows when the caller waits */
}

/* --- Events ---------------------------------------------------------------- */

static const char *const reasons[16] = {
	[1] = "bad device table entry", [2] = "not mapped", [3] = "device table is unreadable",
	[4] = "page table is unreadable", [7] = "its own cache is stuck",
	[8] = "a request that is not allowed",
};

static void poll(struct iommu_unit *u)
{
	uint64_t head = iommu_read64(u, EVENT_HEAD), tail = iommu_read64(u, EVENT_TAIL);

	if (head == tail && port_pci_read(config_of(u), PCI_STATUS, 2) & PCI_STATUS_ABORTED) {
		/* QEMU's unit, at least up to 7.2, has no event log. */
		port_pci_write(config_of(u), PCI_STATUS, 2, PCI_STATUS_ABORTED);
		iommu_fault_unknown(u);
	}
	for (unsigned int i = 0; head != tail && i < QUEUE_SLOTS; i++) {
		const uint64_t *e = u->amd.events[head / 16 % QUEUE_SLOTS];
		unsigned int code = (unsigned int)(e[0] >> 60);

		if (reasons[code])
			iommu_fault(u, (uint16_t)e[0], e[1], e[0] & EVENT_WRITE, reasons[code]);
		else
			log_err("iommu: the unit at %lx reports %lx %lx", u->desc->base, e[0],
				e[1]);
		head = (head + 16) % PAGE_SIZE;
	}
	iommu_write64(u, EVENT_HEAD, head);
	if (!(iommu_read64(u, STATUS) & STATUS_OVERFLOW))
		return;
	/* It logs again after the log was off. */
	iommu_write64(u, CONTROL, iommu_read64(u, CONTROL) & ~EVENTS);
	iommu_write64(u, STATUS, STATUS_OVERFLOW);
	iommu_write64(u, CONTROL, iommu_read64(u, CONTROL) | EVENTS);
}

/* --- Start ----------------------------------------------------------------- */

/* How firmware wants interrupts and system messages of some devices treated. */
static void apply_rules(struct iommu_unit *u)
{
	for (unsigned int i = 0; i < iommu.firmware->nr_rules; i++) {
		const struct iommu_rule *r = &iommu.firmware->rule[i];

		for (uint32_t rid = r->first; rid <= r->last && r->unit == u - iommu.unit; rid++) {
			u->amd.devices[rid][1] |= (uint64_t)(r->flags >> 4 & 3) << 40;
			u->amd.devices[rid][2] |= (uint64_t)(r->flags & 7) << 56 |
						  (uint64_t)(r->flags >> 6) << 62;
		}
	}
}

static unsigned int table_order(const struct iommu_unit *u)
{
	return (unsigned int)(fls64(((u->desc->last_rid + 1ULL) * 32 - 1) >> PAGE_SHIFT) + 1);
}

static bool allocate(struct iommu_unit *u)
{
	u->amd.devices = hv_alloc_pages(table_order(u));
	u->amd.events = hv_alloc_pages(PAGE_ORDER_4K);
	u->queue = hv_alloc_pages(PAGE_ORDER_4K);
	u->done = hv_alloc(sizeof(uint64_t));
	if (!u->amd.devices || !u->amd.events || !u->queue || !u->done)
		return false;
	for (uint32_t rid = 0; rid < PAGE_SIZE << table_order(u) >> 5; rid++)
		u->amd.devices[rid][0] = DEV_BLOCKED;
	apply_rules(u);
	return true;
}

static bool start(struct iommu_unit *u)
{
	const struct iommu_desc *desc = u->desc;
	uint32_t cap = port_pci_read(config_of(u), desc->capability & ~3u, 4);
	uint64_t control = COHERENT | EVENTS | COMMANDS | ENABLE;

	if (!iommu_map_regs(u, desc->size) || !allocate(u))
		return false;
	iommu.flush_new |= cap & CAP_CACHES_NEW;
	u->amd.features = cap & CAP_FEATURES ? iommu_read64(u, FEATURES) : 0;
	iommu_write64(u, CONTROL, 0);
	iommu_write64(u, DEVICE_TABLE,
		      table_paddr(u->amd.devices) | ((1ULL << table_order(u)) - 1));
	iommu_write64(u, COMMAND_BUFFER, table_paddr(u->queue) | LENGTH_256);
	iommu_write64(u, EVENT_LOG, table_paddr(u->amd.events) | LENGTH_256);
	for (uint32_t reg = COMMAND_HEAD; reg <= EVENT_TAIL; reg += 8)
		iommu_write64(u, reg, 0);
	/* As firmware asks: tunnel, two that let posted writes pass, isochronous. */
	control |= (desc->flags & 1ULL) << 1 | (desc->flags & 2ULL) << 7 |
		   (desc->flags & 4ULL) << 7 | (desc->flags & 8ULL) << 8;
	iommu_write64(u, CONTROL, control);
	return forget_all(u);
}

static void stop(struct iommu_unit *u)
{
	if (u->regs)
		iommu_write64(u, CONTROL, 0);
	if (u->amd.devices)
		hv_free_pages(u->amd.devices, table_order(u));
	if (u->amd.events)
		hv_free_pages(u->amd.events, PAGE_ORDER_4K);
	if (u->queue)
		hv_free_pages(u->queue, PAGE_ORDER_4K);
	hv_free(u->done);
	*u = (struct iommu_unit){ .desc = u->desc, .regs_size = u->regs_size };
}

const struct iommu_ops amdvi_ops = {
	.name = "AMD-Vi",
	.format = {
		/* Not present, yet not 0: QEMU's unit notes no fault at a 0. */
		.hole = 1u << 9,
		.table = 1 | 3ULL << 61, .leaf = 1 | 1ULL << 60, .next = 1u << 9,
		.rights = { [DMA_READ] = 1ULL << 61, [DMA_WRITE] = 1ULL << 62,
			    [DMA_READ | DMA_WRITE] = 3ULL << 61 },
	},
	.start = start, .stop = stop, .set_device = set_device, .move = move, .owner = owner,
	.flush = flush, .wait = wait, .poll = poll,
};
