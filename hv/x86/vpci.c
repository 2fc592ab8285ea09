/* SPDX-License-Identifier: MIT */
/*
 * The control domain's PCI functions: what of their configuration space and
 * MSI-X tables is not simply the hardware's.
 *
 * A vector of a function gets a physical interrupt when the guest first lets
 * it interrupt, and keeps that until the function goes. The hardware holds the
 * message of that interrupt, struct vector the guest's.
 *
 * Owns: struct vpci. Locks: vpci.lock (LOCK_VPCI); interrupts take none, they
 * read one word.
 */
#include "hospes/vpci.h"

#include "hospes/devices.h"
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/iommu.h"
#include "hospes/irq.h"
#include "hospes/log.h"

#define PORT_ADDRESS 0xcf8u
#define PORT_DATA 0xcfcu
#define ADDRESS_ENABLE (1u << 31)

/* Configuration space. */
enum { PCI_ID = 0, PCI_COMMAND = 4, PCI_STATUS = 6, PCI_HEADER = 0xe, PCI_BARS = 0x10,
       PCI_CAPABILITIES = 0x34, PCI_COMMON_END = 256 };
#define COMMAND_MEMORY 2u
#define STATUS_CAPABILITIES 0x10u
#define HEADER_MULTI 0x80u
#define BAR_IO 1u
#define BAR_TYPE 6u
#define BAR_64 4u
#define CAPS_MAX 48u		/* as many as there is room for: a list that loops ends, */
#define EXTENDED_CAPS_MAX 480u	/* this one, too */

enum { CAP_MSI = 5, CAP_MSIX = 0x11, EXTENDED_CAP_SRIOV = 0x10 };
#define CAP_CONTROL 2u		/* in both */
#define MSI_ENABLE 1u
#define MSI_MULTIPLE 0x7eu	/* several messages: capable, enabled */
#define MSI_64 0x80u
#define MSIX_ENABLE 0x8000u
#define SRIOV_CONTROL 8u	/* followed by how many there can be */
#define SRIOV_CONTROL_SIZE 8u

/* Words of an MSI-X entry; an MSI is kept like one. */
enum { ADDRESS, ADDRESS_HIGH, DATA, CONTROL, WORDS };
#define ENTRY_SIZE 16u
#define ENTRY_MASKED 1u
#define DATA_VALID 0x7ffu	/* vector, delivery mode; all are edges */
#define NO_MESSAGE 0x700u	/* not for a local APIC: vlapic_message() drops it */

struct vector {
	struct irq irq;
	struct domain *domain;
	uint64_t message;	/* for vlapic_message(); atomic */
	uint32_t reg[WORDS];	/* as the guest wrote them */
};

struct function {
	struct function *next;		/* in its bucket */
	struct function *next_table;	/* with an MSI-X table */
	uint32_t sbdf, id;
	bool refused;			/* said so */
	uint8_t nr_bars;
	uint8_t msi, msi_size, msix;	/* capabilities; 0: none. MSI: up to its mask */
	uint16_t sriov;			/* capability, 0: none */
	uint16_t entries;		/* of the table */
	uint8_t bar;			/* where the table is, */
	uint32_t offset;
	paddr_t table;			/* and where that is now; 0: nowhere */
	struct vector *vectors;		/* owned; the table's, then the MSI's */
};

#define BUCKETS 256u

struct vpci {
	struct spinlock lock;
	struct domain *domain;
	uint32_t address;		/* port 0xcf8 */
	struct function *bucket[BUCKETS], *tables;
};

/* --- Interrupts ----------------------------------------------------------- */

static void interrupt(void *data)
{
	const struct vector *e = data;

	vlapic_message(e->domain, read_once(e->message));
}

/* The guest has written to @e. */
static void update_message(struct vector *e)
{
	uint64_t msg = NO_MESSAGE;

	if (e->reg[ADDRESS] >> 20 == APIC_DEFAULT_BASE >> 20 && !e->reg[ADDRESS_HIGH])
		msg = (e->reg[DATA] & DATA_VALID) |
		      (e->reg[ADDRESS] & 4 ? APIC_MSG_LOGICAL : 0) |
		      (uint64_t)(e->reg[ADDRESS] >> 12 & 0xff) << 56;
	write_once(e->message, msg);
}

/* What to write into the hardware for @e, or false. */
static bool arm(struct function *f, struct vector *e, struct msi_message *m)
{
	int rc = 0;

	if (!e->irq.handler)
		rc = irq_alloc(&e->irq, vlapic_message_cpu(e->domain, e->message), interrupt, e);
	if (!rc)
		rc = port_msi_message(&e->irq, f->sbdf, m);
	if (rc && !f->refused)
		log_warn("PCI function %06x gets no interrupt: %d", f->sbdf, rc);
	f->refused |= rc != 0;
	return !rc;
}

static void entry_write(struct function *f, paddr_t at, struct vector *e, unsigned int word,
			uint32_t val)
{
	struct msi_message m;

	e->reg[word] = val;
	update_message(e);
	if (word != CONTROL)
		return;
	/* In full each time: a reset may have cleared it behind our back. */
	if (!(val & ENTRY_MASKED) && arm(f, e, &m)) {
		port_mmio_write(at + 4 * ADDRESS, 4, m.address);
		port_mmio_write(at + 4 * ADDRESS_HIGH, 4, 0);
		port_mmio_write(at + 4 * DATA, 4, m.data);
	} else {
		val |= ENTRY_MASKED;
	}
	port_mmio_write(at + 4 * CONTROL, 4, val);
}

/* --- The MSI capability ---------------------------------------------------- */

/* The word that the dword at @offset in it is; CONTROL for its first. */
static unsigned int msi_word(const struct function *f, unsigned int offset)
{
	static const uint8_t words[2][4] = {
		{ CONTROL, ADDRESS, DATA }, { CONTROL, ADDRESS, ADDRESS_HIGH, DATA },
	};

	return words[f->msi_size == 16][offset / 4];
}

static uint32_t msi_read(const struct function *f, unsigned int offset)
{
	unsigned int word = msi_word(f, offset);

	/* Without remapping several messages would need vectors in a row: one each. */
	if (word == CONTROL)
		return port_pci_read(f->sbdf, f->msi, 4) & ~(MSI_MULTIPLE << 16);
	return f->vectors[f->entries].reg[word];
}

static void msi_write(struct function *f, unsigned int offset, uint32_t val)
{
	unsigned int word = msi_word(f, offset);
	struct vector *e = &f->vectors[f->entries];
	struct msi_message m;

	if (word != CONTROL) {
		e->reg[word] = word == DATA ? (uint16_t)val : val;
		update_message(e);
		return;
	}
	val = val >> 16 & ~MSI_MULTIPLE;
	if (val & MSI_ENABLE && arm(f, e, &m)) {
		port_pci_write(f->sbdf, f->msi + 4, 4, m.address);
		if (f->msi_size == 16)
			port_pci_write(f->sbdf, f->msi + 8, 4, 0);
		port_pci_write(f->sbdf, f->msi + f->msi_size - 4u, 2, m.data);
	} else {
		val &= ~MSI_ENABLE;
	}
	port_pci_write(f->sbdf, f->msi + CAP_CONTROL, 2, val);
}

/* --- Where MSI-X tables are ------------------------------------------------ */

static uint64_t table_size(const struct function *f)
{
	return (uint64_t)f->entries * ENTRY_SIZE;
}

/* 0: nowhere that a guest could reach it. */
static paddr_t table_location(const struct function *f)
{
	unsigned int reg = PCI_BARS + 4u * f->bar;
	uint32_t low = port_pci_read(f->sbdf, reg, 4);
	uint64_t at = low & ~0xfu;

	if (!(port_pci_read(f->sbdf, PCI_COMMAND, 2) & COMMAND_MEMORY) || low & BAR_IO)
		return 0;
	if ((low & BAR_TYPE) == BAR_64 && f->bar + 1u < f->nr_bars)
		at |= (uint64_t)port_pci_read(f->sbdf, reg + 4, 4) << 32;
	if (add_overflows(at, f->offset, &at) ||
	    !range_within(at, table_size(f), P2M_MAX_GFN << PAGE_SHIFT))
		return 0;
	return at;
}

static bool is_table_page(const struct function *f, gfn_t gfn)
{
	return f->table && gfn.v >= f->table >> PAGE_SHIFT &&
	       gfn.v <= (f->table + table_size(f) - 1) >> PAGE_SHIFT;
}

/* Looks again where the table of @f is, and takes those pages out of the guest's reach. */
static void table_moved(struct vpci *p, struct function *f)
{
	struct domain *d = p->domain;
	paddr_t at = table_location(f);
	int rc = 0;

	if (at == f->table)
		return;
	f->table = at;
	write_lock(&d->p2m.lock);
	for (gfn_t gfn = gpa_to_gfn(at); is_table_page(f, gfn) && !rc; gfn.v++) {
		if (p2m_get(&d->p2m, gfn).type == P2M_MMIO)
			rc = p2m_set(d, gfn, PAGE_ORDER_4K, INVALID_MFN, P2M_HOLE);
	}
	p2m_flush(d);
	write_unlock(&d->p2m.lock);
	if (!rc)
		return;
	log_warn("PCI function %06x: its MSI-X table cannot be protected: %d", f->sbdf, rc);
	port_pci_write(f->sbdf, PCI_COMMAND, 2,
		       port_pci_read(f->sbdf, PCI_COMMAND, 2) & ~COMMAND_MEMORY);
	f->table = 0;
}

/* --- Accesses: lock held --------------------------------------------------- */

/* Where the pointer to @sbdf is, or would be. */
static struct function **find(struct vpci *p, uint32_t sbdf)
{
	struct function **at = &p->bucket[(sbdf ^ sbdf >> 8) % BUCKETS];

	while (*at && (*at)->sbdf != sbdf)
		at = &(*at)->next;
	return at;
}

static uint32_t raw_access(struct vpci *p, struct function *f, uint32_t sbdf, unsigned int reg,
			   unsigned int size, const uint32_t *val)
{
	unsigned int dword = reg / 4;

	if (!val)
		return port_pci_read(sbdf, reg, size);
	port_pci_write(sbdf, reg, size, *val);
	if (f && f->entries &&
	    (dword == PCI_COMMAND / 4 || dword - PCI_BARS / 4 < f->nr_bars))
		table_moved(p, f);
	return 0;
}

/* @reg is a multiple of @size, which is 1, 2 or 4; @val: NULL to read. */
static uint32_t config_access(struct vpci *p, uint32_t sbdf, unsigned int reg, unsigned int size,
			      const uint32_t *val)
{
	struct function *f = *find(p, sbdf);
	unsigned int shift = 8 * (reg & 3), offset;
	uint32_t mask = (uint32_t)((1ULL << 8 * size) - 1) << shift, old;

	if (iommu_is_unit(sbdf))
		return ~0u;
	/* Virtual functions, whose tables we would not find: it can have none. */
	if (f && f->sriov && reg - (f->sriov + SRIOV_CONTROL) < SRIOV_CONTROL_SIZE)
		return 0;
	if (!f || reg - f->msi >= f->msi_size)
		return raw_access(p, f, sbdf, reg, size, val);
	offset = (unsigned int)index_nospec((reg & ~3u) - f->msi, f->msi_size);
	old = msi_read(f, offset);
	if (val)
		msi_write(f, offset, (old & ~mask) | (*val << shift & mask));
	return (old & mask) >> shift;
}

/* The function that is configured at @gpa. */
static bool ecam_at(gpa_t gpa, uint32_t *sbdf)
{
	const struct pci_segment *s;

	for (unsigned int i = 0; (s = port_pci_segment(i)); i++) {
		uint64_t nr = (gpa - s->ecam) >> PAGE_SHIFT;

		if (!s->ecam || nr >> 8 < s->first_bus || nr >> 8 > s->last_bus)
			continue;
		*sbdf = (uint32_t)s->nr << 16 | (uint32_t)nr;
		return true;
	}
	return false;
}

/* Whose table is at @gpa? */
static struct function *table_at(struct vpci *p, gpa_t gpa)
{
	struct function *f = p->tables;

	while (f && (!f->table || gpa - f->table >= table_size(f)))
		f = f->next_table;
	return f;
}

static uint32_t table_access(struct function *f, gpa_t gpa, unsigned int size,
			     const uint64_t *val)
{
	uint64_t offset = gpa - f->table;
	struct vector *e = &f->vectors[index_nospec(offset / ENTRY_SIZE, f->entries)];
	unsigned int word = offset / 4 % WORDS;

	if (!val)
		return e->reg[word] >> 8 * (offset & 3);
	if (size == 4)
		entry_write(f, f->table + (offset & ~(ENTRY_SIZE - 1ULL)), e, word,
			    (uint32_t)*val);
	return 0;
}

/* @gpa is a multiple of @size, which is 1, 2, 4 or 8; @val: NULL to read. */
static uint64_t memory_access(struct vpci *p, gpa_t gpa, unsigned int size, const uint64_t *val)
{
	uint32_t sbdf, low = val ? (uint32_t)*val : 0;
	bool ecam = ecam_at(gpa, &sbdf);
	struct function *f = ecam ? NULL : table_at(p, gpa);

	if (size == 8 && (ecam || f)) {
		const uint64_t half[2] = { low, val ? *val >> 32 : 0 };
		uint64_t read = memory_access(p, gpa, 4, val ? &half[0] : NULL);

		return read | memory_access(p, gpa + 4, 4, val ? &half[1] : NULL) << 32;
	}
	if (ecam)
		return config_access(p, sbdf, gpa & ~PAGE_MASK, size, val ? &low : NULL);
	if (f)
		return table_access(f, gpa, size, val);
	if (!val)
		return port_mmio_read(gpa, size);
	port_mmio_write(gpa, size, *val);
	return 0;
}

/* --- What the guest does --------------------------------------------------- */

/* Data ports, or something that reaches into them. */
static bool is_data(uint16_t port, unsigned int size)
{
	return port + size > PORT_DATA && port < PORT_DATA + 4;
}

static uint32_t data_access(struct vpci *p, uint16_t port, unsigned int size, const uint32_t *val)
{
	uint32_t read = ~0u;

	spin_lock(&p->lock);
	if (p->address & ADDRESS_ENABLE && port >= PORT_DATA && !(port & (size - 1)))
		read = config_access(p, p->address >> 8 & 0xffff, (p->address & 0xfc) | (port & 3),
				     size, val);
	spin_unlock(&p->lock);
	return read;
}

bool vpci_port_in(struct domain *d, uint16_t port, unsigned int size, uint32_t *val)
{
	if (port == PORT_ADDRESS && size == 4)
		*val = read_once(d->devices->pci->address);
	else if (is_data(port, size))
		*val = data_access(d->devices->pci, port, size, NULL);
	else
		return false;
	return true;
}

bool vpci_port_out(struct domain *d, uint16_t port, unsigned int size, uint32_t val)
{
	if (port == PORT_ADDRESS && size == 4)
		write_once(d->devices->pci->address, val);
	else if (is_data(port, size))
		(void)data_access(d->devices->pci, port, size, &val);
	else
		return false;
	return true;
}

/* Lock held. */
static bool must_trap(const struct vpci *p, gfn_t gfn)
{
	uint32_t sbdf;
	bool found = ecam_at(gfn_to_gpa(gfn), &sbdf);

	for (const struct function *f = p->tables; f && !found; f = f->next_table)
		found = is_table_page(f, gfn);
	return found;
}

bool vpci_claims(const struct domain *d, gpa_t gpa)
{
	struct vpci *p = d->devices->pci;
	bool found;

	spin_lock(&p->lock);
	found = must_trap(p, gpa_to_gfn(gpa));
	spin_unlock(&p->lock);
	return found;
}

bool vpci_map(struct domain *d, gfn_t gfn)
{
	struct vpci *p = d->devices->pci;
	bool mapped = false;
	struct p2m_entry e;

	spin_lock(&p->lock);
	if (!must_trap(p, gfn)) {
		write_lock(&d->p2m.lock);
		e = p2m_get(&d->p2m, gfn);
		mapped = e.type == P2M_MMIO ||
			 (e.type == P2M_HOLE &&
			  !p2m_set(d, gfn, PAGE_ORDER_4K, MFN(gfn.v), P2M_MMIO));
		write_unlock(&d->p2m.lock);
	}
	spin_unlock(&p->lock);
	return mapped;
}

/* In naturally aligned pieces. */
static uint64_t guest_access(struct vpci *p, gpa_t gpa, unsigned int size, const uint64_t *val)
{
	unsigned int n;
	uint64_t read = 0;

	spin_lock(&p->lock);
	for (unsigned int done = 0; done < size; done += n) {
		uint64_t part = val ? *val >> 8 * done : 0;

		for (n = 8; n > size - done || (gpa + done) % n; n /= 2)
			;
		part = memory_access(p, gpa + done, n, val ? &part : NULL);
		read |= (part & ~0ULL >> (64 - 8 * n)) << 8 * done;
	}
	spin_unlock(&p->lock);
	return read;
}

uint64_t vpci_read(struct domain *d, gpa_t gpa, unsigned int size)
{
	return guest_access(d->devices->pci, gpa, size, NULL);
}

void vpci_write(struct domain *d, gpa_t gpa, unsigned int size, uint64_t val)
{
	(void)guest_access(d->devices->pci, gpa, size, &val);
}

/* --- Functions come and go ------------------------------------------------- */

static bool is_present(uint32_t sbdf)
{
	return (uint16_t)port_pci_read(sbdf, PCI_ID, 2) != 0xffff && !iommu_is_unit(sbdf);
}

/* What firmware left on goes off: its message would be for a vector of ours. */
static uint16_t disable(uint32_t sbdf, unsigned int cap, uint16_t enable)
{
	uint16_t control = (uint16_t)port_pci_read(sbdf, cap + CAP_CONTROL, 2);

	if (control & enable)
		port_pci_write(sbdf, cap + CAP_CONTROL, 2, control & ~enable);
	return control;
}

static void add_msi(struct function *f, uint8_t cap)
{
	uint16_t control = disable(f->sbdf, cap, MSI_ENABLE);
	uint8_t size = control & MSI_64 ? 16 : 12;

	if (cap + size > PCI_COMMON_END)
		return;
	f->msi = cap;
	f->msi_size = size;
}

static void add_msix(struct function *f, uint8_t cap)
{
	uint16_t control = disable(f->sbdf, cap, MSIX_ENABLE);
	uint32_t table = port_pci_read(f->sbdf, cap + 4u, 4);

	if ((table & 7) >= f->nr_bars)
		return;
	f->msix = cap;
	f->entries = (control & 0x7ff) + 1;
	f->bar = table & 7;
	f->offset = table & ~7u;
}

static void find_sriov(struct function *f)
{
	unsigned int cap = PCI_COMMON_END;

	for (unsigned int i = 0; i < EXTENDED_CAPS_MAX && cap >= PCI_COMMON_END; i++) {
		uint32_t head = port_pci_read(f->sbdf, cap, 4);

		if (head == ~0u)	/* out of reach */
			return;
		if ((uint16_t)head == EXTENDED_CAP_SRIOV) {
			f->sriov = (uint16_t)cap;
			port_pci_write(f->sbdf, cap + SRIOV_CONTROL, 2, 0);
			return;
		}
		cap = head >> 20 & ~3u;
	}
}

static void find_capabilities(struct function *f)
{
	uint8_t header = port_pci_read(f->sbdf, PCI_HEADER, 1) & (uint8_t)~HEADER_MULTI;
	uint8_t cap = (uint8_t)port_pci_read(f->sbdf, PCI_CAPABILITIES, 1) & 0xfc;

	f->nr_bars = header == 0 ? 6 : header == 1 ? 2 : 0;
	if (header > 1 || !(port_pci_read(f->sbdf, PCI_STATUS, 2) & STATUS_CAPABILITIES))
		return;
	for (unsigned int i = 0; i < CAPS_MAX && cap >= 0x40; i++) {
		uint16_t head = (uint16_t)port_pci_read(f->sbdf, cap, 2);

		if ((uint8_t)head == CAP_MSI && !f->msi)
			add_msi(f, cap);
		else if ((uint8_t)head == CAP_MSIX && !f->msix)
			add_msix(f, cap);
		cap = head >> 8 & 0xfc;
	}
	find_sriov(f);
}

/* @at: where find() says. */
static int function_add(struct vpci *p, struct function **at, uint32_t sbdf)
{
	struct function *f = hv_alloc(sizeof(*f));
	unsigned int nr;

	if (!f)
		return -XEN_ENOMEM;
	f->sbdf = sbdf;
	f->id = port_pci_read(sbdf, PCI_ID, 4);
	find_capabilities(f);
	nr = f->entries + (f->msi ? 1u : 0);
	if (nr) {
		f->vectors = hv_alloc(nr * sizeof(*f->vectors));
		if (!f->vectors) {
			hv_free(f);
			return -XEN_ENOMEM;
		}
	}
	for (unsigned int i = 0; i < nr; i++) {
		f->vectors[i] = (struct vector){ .domain = p->domain, .message = NO_MESSAGE,
						 .reg[CONTROL] = ENTRY_MASKED };
	}
	*at = f;
	if (f->entries) {
		f->next_table = p->tables;
		p->tables = f;
		table_moved(p, f);
	}
	return 0;
}

static void function_remove(struct vpci *p, struct function **at)
{
	struct function *f = *at, **t = &p->tables;

	if (f->msi)
		(void)disable(f->sbdf, f->msi, MSI_ENABLE);
	if (f->entries) {
		(void)disable(f->sbdf, f->msix, MSIX_ENABLE);
		while (*t != f)
			t = &(*t)->next_table;
		*t = f->next_table;
	}
	for (unsigned int i = 0; i < f->entries + (f->msi ? 1u : 0); i++)
		irq_free(&f->vectors[i].irq);
	*at = f->next;
	hv_free(f->vectors);
	hv_free(f);
}

static int scan_device(struct vpci *p, uint32_t sbdf)
{
	bool multi = port_pci_read(sbdf, PCI_HEADER, 1) & HEADER_MULTI;
	int rc = 0;

	for (uint32_t end = sbdf + (multi ? 8 : 1); sbdf < end && !rc; sbdf++) {
		if (is_present(sbdf))
			rc = function_add(p, find(p, sbdf), sbdf);
	}
	return rc;
}

int vpci_init(struct domain *d)
{
	struct vpci *p = hv_alloc(sizeof(*p));
	const struct pci_segment *s;
	int rc = 0;

	if (!p)
		return -XEN_ENOMEM;
	spin_init(&p->lock, LOCK_VPCI);
	p->domain = d;
	d->devices->pci = p;
	spin_lock(&p->lock);
	for (unsigned int i = 0; (s = port_pci_segment(i)) && !rc; i++) {
		uint32_t sbdf = (uint32_t)s->nr << 16 | (uint32_t)s->first_bus << 8;
		uint32_t end = ((uint32_t)s->nr << 16 | (uint32_t)s->last_bus << 8) + 0x100;

		for (; sbdf != end && !rc; sbdf += 8) {
			if (is_present(sbdf))
				rc = scan_device(p, sbdf);
		}
	}
	spin_unlock(&p->lock);
	if (rc)
		vpci_destroy(d);
	return rc;
}

void vpci_destroy(struct domain *d)
{
	struct vpci *p = d->devices->pci;

	if (!p)
		return;
	spin_lock(&p->lock);
	for (unsigned int i = 0; i < BUCKETS; i++) {
		while (p->bucket[i])
			function_remove(p, &p->bucket[i]);
	}
	spin_unlock(&p->lock);
	hv_free(p);
	d->devices->pci = NULL;
}

/* --- physdev_op ------------------------------------------------------------ */

/* Its driver says where configuration space is: it had better be what we found. */
int64_t physdevop_mmcfg_reserved(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct physdev_pci_mmcfg_reserved *r = arg;
	const struct pci_segment *s;

	if (!v->domain->devices)
		return -XEN_ENOSYS;
	if (r->flags & ~XEN_PCI_MMCFG_RESERVED)
		return -XEN_EINVAL;
	for (unsigned int i = 0; (s = port_pci_segment(i)); i++) {
		if (s->ecam && s->nr == r->segment && s->first_bus == r->start_bus &&
		    s->last_bus == r->end_bus)
			return s->ecam == r->address ? 0 : -XEN_EIO;
	}
	return -XEN_ENODEV;
}

/* A function that was found already is new only if it is another one. */
static int64_t device_add(struct vpci *p, struct function **at, uint32_t sbdf)
{
	if (!is_present(sbdf))
		return -XEN_ENODEV;
	if (*at && (*at)->id == port_pci_read(sbdf, PCI_ID, 4))
		return 0;
	if (*at) {
		function_remove(p, at);
		at = find(p, sbdf);
	}
	return function_add(p, at, sbdf);
}

int64_t physdevop_pci_device(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct physdev_pci_device *dev = arg;	/* as pci_device_add begins, too */
	uint32_t sbdf = (uint32_t)dev->seg << 16 | (uint32_t)dev->bus << 8 | dev->devfn;
	struct function **at;
	struct vpci *p;
	int64_t rc = 0;

	if (!v->domain->devices)
		return -XEN_ENOSYS;
	p = v->domain->devices->pci;
	spin_lock(&p->lock);
	at = find(p, sbdf);
	if (hc->op == PHYSDEVOP_pci_device_add)
		rc = device_add(p, at, sbdf);
	else if (*at)
		function_remove(p, at);
	else
		rc = -XEN_ENODEV;
	spin_unlock(&p->lock);
	return rc;
}
