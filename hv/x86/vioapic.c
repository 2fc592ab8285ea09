/* SPDX-License-Identifier: MIT */
/*
 * Virtual IO-APICs over the machine's.
 *
 * A pin of the machine is open exactly when the guest has it unmasked and no
 * level interrupt of it is being served. So the machine itself remembers
 * what is asserted: when a served or masked pin opens again it interrupts again.
 *
 * Owns: struct vioapic. Locks: vioapic.lock (LOCK_VIOAPIC), in interrupts too.
 */
#include "hospes/vioapic.h"

#include "hospes/devices.h"
#include "hospes/domain.h"
#include "hospes/irq.h"
#include "hospes/log.h"

/* Offsets in the page, and registers behind the window. */
enum { SELECT = 0x00, WINDOW = 0x10, EOI = 0x40 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_PINS = 0x10 };

#define VERSION_EOI 0x20u	/* the first with an EOI register */
#define PINS_MAX 256u

/* Redirection entries; the rest is as in APIC_MSG_*. */
#define RTE_LOW		(1u << 13)
#define RTE_SERVED	(1u << 14)	/* "remote IRR" */
#define RTE_MASKED	(1u << 16)
#define RTE_WRITABLE	0x1afffu
#define RTE_WIRING	(RTE_LOW | APIC_MSG_LEVEL)
#define NOT_ROUTED	UINT32_MAX

struct pin {
	struct irq irq;
	struct chip *chip;
	uint64_t rte;		/* as the guest sees it */
	uint32_t gsi, routed;	/* RTE_WIRING as the machine has it, or NOT_ROUTED */
	bool open;		/* not masked in the machine */
	bool refused;		/* we have said so */
};

struct chip {
	struct vioapic *io;
	const struct port_ioapic *host;
	uint32_t id;
	uint8_t select;
	uint64_t served[PINS_MAX / 64];	/* pins with RTE_SERVED */
	struct pin *pins;	/* owned */
};

struct vioapic {
	struct spinlock lock;
	struct domain *domain;
	unsigned int nr;
	struct chip chip[];
};

/* --- Pins: lock held ------------------------------------------------------ */

static void set_open(struct pin *p, bool open)
{
	if (p->open == open)
		return;
	p->open = open;
	port_gsi_mask(p->gsi, !open);
}

static void set_served(struct pin *p, bool served)
{
	unsigned int nr = (unsigned int)(p - p->chip->pins);
	uint64_t *word = &p->chip->served[nr / 64], bit = 1ULL << nr % 64;

	*word = served ? *word | bit : *word & ~bit;
	p->rte = served ? p->rte | RTE_SERVED : p->rte & ~(uint64_t)RTE_SERVED;
}

static void pin_interrupt(void *data)
{
	struct pin *p = data;
	struct vioapic *io = p->chip->io;
	bool level;

	spin_lock(&io->lock);
	level = p->rte & APIC_MSG_LEVEL;
	/* An edge that was on its way when the guest masked it is not lost. */
	if (!level || !(p->rte & (RTE_MASKED | RTE_SERVED))) {
		vlapic_message(io->domain, p->rte);
		if (level)
			set_served(p, true);
	}
	if (level)
		set_open(p, false);
	spin_unlock(&io->lock);
}

static bool route(struct pin *p, uint32_t wiring)
{
	const struct domain *d = p->chip->io->domain;
	int rc = 0;

	if (!p->irq.handler)
		rc = irq_alloc(&p->irq, vlapic_message_cpu(d, p->rte), pin_interrupt, p);
	if (!rc)
		rc = port_gsi_route(p->gsi, &p->irq, wiring & APIC_MSG_LEVEL, wiring & RTE_LOW);
	if (rc && !p->refused)
		log_warn("interrupt %u is not given to d%u: %d", p->gsi, d->id, rc);
	p->refused |= rc != 0;
	p->routed = rc ? NOT_ROUTED : wiring;
	return !rc;
}

/* Makes the machine's pin what the entry says. Of odd delivery modes nothing comes. */
static void pin_update(struct pin *p)
{
	bool open = !(p->rte & (RTE_MASKED | RTE_SERVED)) && APIC_MSG_MODE(p->rte) <= 1 &&
		    (uint8_t)p->rte >= 16;
	uint32_t wiring = (uint32_t)p->rte & RTE_WIRING;

	if (!open || wiring != p->routed)
		set_open(p, false);
	if (open && (wiring == p->routed || route(p, wiring)))
		set_open(p, true);
}

static void chip_eoi(struct chip *c, uint8_t vector)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(c->served); i++) {
		for (uint64_t left = c->served[i]; left; left &= left - 1) {
			struct pin *p = &c->pins[i * 64 + (unsigned int)ffs64(left)];

			if ((uint8_t)p->rte != vector)
				continue;
			set_served(p, false);
			pin_update(p);
		}
	}
}

void vioapic_eoi(struct domain *d, uint8_t vector)
{
	struct vioapic *io = d->devices->ioapic;

	spin_lock(&io->lock);
	for (unsigned int i = 0; i < io->nr; i++)
		chip_eoi(&io->chip[i], vector);
	spin_unlock(&io->lock);
}

/* --- Registers ------------------------------------------------------------ */

static void write_entry(struct chip *c, unsigned int reg, uint32_t val)
{
	struct pin *p = &c->pins[index_nospec(reg / 2, c->host->pins)];

	if (reg & 1) {
		p->rte = (uint32_t)p->rte | (uint64_t)(val & 0xff000000) << 32;
		return;
	}
	p->rte = (p->rte & (0xffffffff00000000 | RTE_SERVED)) | (val & RTE_WRITABLE);
	if (!(val & APIC_MSG_LEVEL))
		set_served(p, false);
	pin_update(p);
}

static uint32_t window_read(const struct chip *c)
{
	unsigned int entry = c->select - REG_PINS;

	if (c->select == REG_ID || c->select == REG_ARBITRATION)
		return c->id << 24;
	if (c->select == REG_VERSION)
		return (c->host->pins - 1) << 16 | c->host->version;
	if (entry / 2 >= c->host->pins)
		return 0;
	return (uint32_t)(c->pins[index_nospec(entry / 2, c->host->pins)].rte >>
			  (entry & 1 ? 32 : 0));
}

static void window_write(struct chip *c, uint32_t val)
{
	unsigned int entry = c->select - REG_PINS;

	if (c->select == REG_ID)
		c->id = val >> 24 & 0xf;
	else if (entry / 2 < c->host->pins)
		write_entry(c, entry, val);
}

static struct chip *chip_at(struct vioapic *io, gpa_t gpa, unsigned int size)
{
	for (unsigned int i = 0; i < io->nr && size == 4; i++) {
		if (gpa - io->chip[i].host->base < 0x100)
			return &io->chip[i];
	}
	return NULL;
}

bool vioapic_claims(const struct domain *d, gpa_t gpa)
{
	const struct vioapic *io = d->devices->ioapic;
	bool found = false;

	for (unsigned int i = 0; i < io->nr; i++)
		found |= !((gpa ^ io->chip[i].host->base) & PAGE_MASK);
	return found;
}

uint32_t vioapic_read(struct domain *d, gpa_t gpa, unsigned int size)
{
	struct chip *c = chip_at(d->devices->ioapic, gpa, size);
	uint32_t val = 0;

	if (!c)
		return 0;
	spin_lock(&c->io->lock);
	if (gpa - c->host->base == SELECT)
		val = c->select;
	else if (gpa - c->host->base == WINDOW)
		val = window_read(c);
	spin_unlock(&c->io->lock);
	return val;
}

void vioapic_write(struct domain *d, gpa_t gpa, unsigned int size, uint32_t val)
{
	struct chip *c = chip_at(d->devices->ioapic, gpa, size);

	if (!c)
		return;
	spin_lock(&c->io->lock);
	if (gpa - c->host->base == SELECT)
		c->select = (uint8_t)val;
	else if (gpa - c->host->base == WINDOW)
		window_write(c, val);
	else if (gpa - c->host->base == EOI && c->host->version >= VERSION_EOI)
		chip_eoi(c, (uint8_t)val);
	spin_unlock(&c->io->lock);
}

/* --- Life ----------------------------------------------------------------- */

static bool chip_init(struct chip *c, struct vioapic *io, const struct port_ioapic *host)
{
	c->io = io;
	c->host = host;
	c->id = host->id;
	c->pins = hv_alloc(host->pins * sizeof(*c->pins));
	for (unsigned int i = 0; c->pins && i < host->pins; i++)
		c->pins[i] = (struct pin){ .chip = c, .rte = RTE_MASKED,
					   .gsi = host->gsi_base + i, .routed = NOT_ROUTED };
	return c->pins;
}

int vioapic_init(struct domain *d)
{
	struct vioapic *io;
	unsigned int nr = 0;

	while (port_ioapic(nr))
		nr++;
	io = hv_alloc(sizeof(*io) + nr * sizeof(io->chip[0]));
	if (!io)
		return -XEN_ENOMEM;
	spin_init(&io->lock, LOCK_VIOAPIC);
	io->domain = d;
	d->devices->ioapic = io;
	for (; io->nr < nr; io->nr++) {
		if (!chip_init(&io->chip[io->nr], io, port_ioapic(io->nr))) {
			vioapic_destroy(d);
			return -XEN_ENOMEM;
		}
	}
	return 0;
}

void vioapic_destroy(struct domain *d)
{
	struct vioapic *io = d->devices->ioapic;

	for (unsigned int i = 0; io && i < io->nr; i++) {
		for (unsigned int n = 0; n < io->chip[i].host->pins; n++) {
			struct pin *p = &io->chip[i].pins[n];

			spin_lock(&io->lock);
			p->rte = RTE_MASKED;
			set_open(p, false);
			spin_unlock(&io->lock);
			irq_free(&p->irq);
		}
		hv_free(io->chip[i].pins);
	}
	hv_free(io);
	d->devices->ioapic = NULL;
}
