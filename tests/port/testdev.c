/* SPDX-License-Identifier: MIT */
/*
 * Fake devices: IO-APICs, PCI functions with configuration space and BARs,
 * and the way their interrupts take. See testport.h.
 */
#include "port/testport.h"

#include <stdlib.h>
#include <string.h>

#include "hospes/abi.h"
#include "hospes/irq.h"

#define GSIS 64u
#define QUEUE 256u
#define MSI_BASE 0xfee00000u

uint64_t port_irq_cpus = ~0ULL;

static struct {
	unsigned int nr_ioapics, nr_segments, nr_functions;
	struct port_ioapic ioapic[TEST_IOAPICS];
	struct pci_segment segment[TEST_SEGMENTS];
	struct test_function *function[TEST_FUNCTIONS];
	struct test_gsi gsi[GSIS];
	bool in_queue[MAX_PCPUS][256];	/* what each local APIC has been sent */
	unsigned int msi_fail;
} dev;

void test_devices_reset(void)
{
	memset(&dev, 0, sizeof(dev));
	port_irq_cpus = ~0ULL;
	for (unsigned int i = 0; i < GSIS; i++)
		dev.gsi[i].masked = true;
}

/* --- Interrupts ----------------------------------------------------------- */

static void send(unsigned int nr, uint8_t vector)
{
	if (nr >= port_nr_pcpus() || vector < IRQ_VECTORS || vector >= IRQ_VECTORS_END)
		abort();
	dev.in_queue[nr][vector] = true;
}

/* Sends what an open pin has to say. */
static void service(struct test_gsi *g)
{
	if (!g->routed || g->masked || g->remote_irr || !(g->level ? g->line : g->edge))
		return;
	g->edge = false;
	g->remote_irr = g->level;
	send(g->cpu, g->vector);
}

unsigned int test_serve_interrupts(void)
{
	unsigned int caller = port_this_pcpu()->cpu_id, served = 0;

	for (unsigned int nr = 0; nr < port_nr_pcpus(); nr++) {
		test_set_cpu(nr);
		for (unsigned int vector = 0; vector < 256; vector++) {
			if (!dev.in_queue[nr][vector])
				continue;
			dev.in_queue[nr][vector] = false;
			irq_dispatch((uint8_t)vector);
			served++;
			/* The end of it, which all IO-APICs hear. */
			for (struct test_gsi *g = dev.gsi; g < &dev.gsi[GSIS]; g++) {
				if (g->remote_irr && g->cpu == nr && g->vector == vector) {
					g->remote_irr = false;
					service(g);
				}
			}
		}
	}
	test_set_cpu(caller);
	return served;
}

/* --- IO-APICs ------------------------------------------------------------- */

void test_ioapic_add(const struct port_ioapic *info)
{
	if (dev.nr_ioapics == TEST_IOAPICS || info->gsi_base + info->pins > GSIS)
		abort();
	dev.ioapic[dev.nr_ioapics++] = *info;
}

struct test_gsi *test_gsi(uint32_t gsi)
{
	return &dev.gsi[gsi];
}

void test_gsi_line(uint32_t gsi, bool asserted)
{
	struct test_gsi *g = &dev.gsi[gsi];

	/* An edge at a masked pin is lost. */
	g->edge = !g->level && asserted && !g->line && !g->masked;
	g->line = asserted;
	service(g);
}

const struct port_ioapic *port_ioapic(unsigned int nr)
{
	return nr < dev.nr_ioapics ? &dev.ioapic[nr] : NULL;
}

int port_gsi_route(uint32_t gsi, const struct irq *irq, bool level, bool active_low)
{
	struct test_gsi *g = &dev.gsi[gsi];

	if (gsi >= GSIS || g->kept)
		return gsi >= GSIS ? -XEN_ENODEV : -XEN_EBUSY;
	*g = (struct test_gsi){ .routed = true, .masked = true, .level = level,
				.active_low = active_low, .line = g->line,
				.remote_irr = g->remote_irr && level, .cpu = irq->cpu,
				.vector = irq->vector };
	return 0;
}

void port_gsi_mask(uint32_t gsi, bool masked)
{
	struct test_gsi *g = &dev.gsi[gsi];

	if (gsi >= GSIS || !g->routed)
		abort();
	g->masked = masked;
	service(g);
}

/* --- PCI ------------------------------------------------------------------ */

void test_segment_add(const struct pci_segment *s)
{
	if (dev.nr_segments == TEST_SEGMENTS)
		abort();
	dev.segment[dev.nr_segments++] = *s;
}

const struct pci_segment *port_pci_segment(unsigned int i)
{
	return i < dev.nr_segments ? &dev.segment[i] : NULL;
}

static void put(struct test_function *f, unsigned int reg, unsigned int size, uint32_t val,
		uint32_t writable)
{
	memcpy(f->config + reg, &val, size);
	memcpy(f->writable + reg, &writable, size);
}

void test_function_add(struct test_function *f, uint32_t sbdf, uint8_t header)
{
	if (dev.nr_functions == TEST_FUNCTIONS)
		abort();
	f->sbdf = sbdf;
	f->present = true;
	f->last_cap = 0x34;
	f->next_cap = 0x40;
	put(f, 0, 4, 0x12340000 | sbdf, 0);
	put(f, 4, 2, 0, 0x507);
	put(f, 0xe, 1, header, 0);
	put(f, 0x3c, 4, 0x1ff, 0xff);
	dev.function[dev.nr_functions++] = f;
}

void test_function_bar(struct test_function *f, unsigned int nr, uint64_t at, uint64_t size,
		       bool wide)
{
	uint64_t mask = ~(size - 1);

	put(f, 0x10 + 4 * nr, 4, (uint32_t)at | (wide ? 4 : 0), (uint32_t)mask & ~0xfu);
	if (wide)
		put(f, 0x14 + 4 * nr, 4, (uint32_t)(at >> 32), (uint32_t)(mask >> 32));
	if (size > TEST_BAR_SIZE)
		abort();
	f->bar_size[nr] = size;
}

static unsigned int add_cap(struct test_function *f, uint8_t id, unsigned int size)
{
	unsigned int cap = f->next_cap;

	if (cap + size > 256)
		abort();
	f->config[6] |= 0x10;
	f->config[f->last_cap] = (uint8_t)cap;
	f->config[cap] = id;
	f->last_cap = cap + 1;
	f->next_cap += size;
	return cap;
}

unsigned int test_function_msi(struct test_function *f, bool wide)
{
	unsigned int cap = f->msi = add_cap(f, 5, wide ? 24 : 20);

	/* Four messages at most, with mask bits. */
	put(f, cap + 2, 2, 0x104 | (wide ? 0x80 : 0), 0x71);
	put(f, cap + 4, 4, 0, ~3u);
	if (wide)
		put(f, cap + 8, 4, 0, ~0u);
	put(f, cap + (wide ? 12 : 8), 2, 0, 0xffff);
	put(f, cap + (wide ? 16 : 12), 4, 0, 0xf);
	return cap;
}

unsigned int test_function_msix(struct test_function *f, unsigned int entries, unsigned int bar,
				uint32_t offset)
{
	unsigned int cap = f->msix = add_cap(f, 0x11, 12);

	put(f, cap + 2, 2, entries - 1, 0xc000);
	put(f, cap + 4, 4, bar | offset, 0);
	put(f, cap + 8, 4, bar | (offset + entries * 16), 0);
	f->entries = entries;
	f->table_bar = bar;
	f->table_offset = offset;
	for (unsigned int i = 0; i < entries; i++)
		f->memory[bar][offset + i * 16 + 12] = 1;
	return cap;
}

static struct test_function *function_of(uint32_t sbdf)
{
	for (unsigned int i = 0; i < dev.nr_functions; i++) {
		if (dev.function[i]->sbdf == sbdf && dev.function[i]->present)
			return dev.function[i];
	}
	return NULL;
}

static uint32_t config32(const struct test_function *f, unsigned int reg)
{
	uint32_t val;

	memcpy(&val, f->config + reg, 4);
	return val;
}

static void check_access(unsigned int reg, unsigned int size)
{
	if (reg + size > 4096 || (size != 1 && size != 2 && size != 4) || reg % size)
		abort();
}

uint32_t port_pci_read(uint32_t sbdf, unsigned int reg, unsigned int size)
{
	const struct test_function *f = function_of(sbdf);
	uint32_t val = 0;

	check_access(reg, size);
	if (!f)
		return (uint32_t)((1ULL << 8 * size) - 1);
	memcpy(&val, f->config + reg, size);
	return val;
}

void port_pci_write(uint32_t sbdf, unsigned int reg, unsigned int size, uint32_t val)
{
	struct test_function *f = function_of(sbdf);

	check_access(reg, size);
	for (unsigned int i = 0; f && i < size; i++) {
		uint8_t w = f->writable[reg + i];

		f->config[reg + i] = (uint8_t)((f->config[reg + i] & ~w) | (val >> 8 * i & w));
	}
	if (f)
		f->config_writes++;
}

int port_msi_message(const struct irq *irq, uint32_t sbdf, struct msi_message *m)
{
	if (dev.msi_fail && --dev.msi_fail == 0)
		return -XEN_ENODEV;
	*m = (struct msi_message){ MSI_BASE | irq->cpu << 12, irq->vector };
	return 0;
}

void test_msi_fail(unsigned int n)
{
	dev.msi_fail = n;
}

/* Raises what the words of a message say. */
static bool send_message(uint64_t address, uint32_t data)
{
	if (address >> 20 != MSI_BASE >> 20)
		abort();		/* nothing else may ever be in the hardware */
	send((unsigned int)(address >> 12 & 0xff), (uint8_t)data);
	return true;
}

bool test_function_interrupt(struct test_function *f, unsigned int entry)
{
	const uint8_t *cap = f->config + f->msix;
	uint32_t e[4];

	if (f->msix && cap[3] & 0x80) {
		memcpy(e, f->memory[f->table_bar] + f->table_offset + entry * 16, sizeof(e));
		return !(cap[3] & 0x40) && !(e[3] & 1) &&
		       send_message(e[0] | (uint64_t)e[1] << 32, e[2]);
	}
	cap = f->config + f->msi;
	if (!f->msi || !(cap[2] & 1))
		return false;
	if (cap[2] & 0x70)
		abort();		/* several messages were not asked for */
	if (cap[2] & 0x80)
		return !(cap[16] & 1) &&
		       send_message(config32(f, f->msi + 4) |
				    (uint64_t)config32(f, f->msi + 8) << 32,
				    cap[12] | cap[13] << 8);
	return !(cap[12] & 1) && send_message(config32(f, f->msi + 4), cap[8] | cap[9] << 8);
}

/* --- Registers of devices -------------------------------------------------- */

/* What decodes that address, or NULL. */
static uint8_t *memory_at(paddr_t pa, unsigned int size)
{
	for (unsigned int i = 0; i < dev.nr_functions; i++) {
		struct test_function *f = dev.function[i];

		for (unsigned int b = 0; b < 6 && f->present && f->config[4] & 2; b++) {
			uint32_t low = config32(f, 0x10 + 4 * b);
			uint64_t at = low & ~0xfu;

			if (!f->bar_size[b])
				continue;
			if (low & 4)
				at |= (uint64_t)config32(f, 0x14 + 4 * b) << 32;
			if (pa - at < f->bar_size[b] && size <= f->bar_size[b] - (pa - at))
				return f->memory[b] + (pa - at);
		}
	}
	return NULL;
}

uint64_t port_mmio_read(paddr_t pa, unsigned int size)
{
	uint8_t *at = port_device_page(pa) ? memory_at(pa, size) : NULL;
	uint64_t val = 0;

	if (size > 8 || !size || size & (size - 1) || pa % size)
		abort();
	if (!at)
		return ~0ULL;
	memcpy(&val, at, size);
	return val;
}

void port_mmio_write(paddr_t pa, unsigned int size, uint64_t val)
{
	uint8_t *at = port_device_page(pa) ? memory_at(pa, size) : NULL;

	if (size > 8 || !size || size & (size - 1) || pa % size)
		abort();
	if (at)
		memcpy(at, &val, size);
}
