/* SPDX-License-Identifier: MIT */
/*
 * The few ACPI tables the hypervisor reads itself: MADT, FADT, HPET, and the
 * power-off values in the DSDT.
 */
#include "port/metal/firmware.h"

#include "hospes/abi.h"

#define HEADER_SIZE 36u
#define TABLE_MAX (16u << 20)	/* far above any real table */

#define LAPIC_DEFAULT 0xfee00000ULL
#define IOAPIC_DEFAULT 0xfec00000ULL

struct __packed header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[26];
};

/* A table as mapped and checked: the bytes behind it belong to somebody else. */
struct table {
	const uint8_t *bytes;
	uint32_t length;
	phys_map_fn map;	/* for the tables it leads to */
};

/* Little-endian fields at any alignment; 0 outside of the table. */
static uint64_t field(const struct table *t, uint32_t off, unsigned int size)
{
	uint64_t v = 0;

	if (range_within(off, size, t->length))
		memcpy(&v, t->bytes + off, size);
	return v;
}

static bool sums_to_zero(const uint8_t *p, uint32_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return sum == 0;
}

static bool open_table(struct table *t, paddr_t at, phys_map_fn map)
{
	struct header h;

	if (!at || !phys_read(map, at, &h, sizeof(h)) || h.length < HEADER_SIZE ||
	    h.length > TABLE_MAX)
		return false;
	t->map = map;
	t->length = h.length;
	t->bytes = map(at, h.length);
	return t->bytes && sums_to_zero(t->bytes, h.length);
}

/* --- Root ---------------------------------------------------------------- */

struct __packed rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t checksum2, reserved[3];
};

#define RSDP_SIZE_1 20u

static bool read_rsdp(struct rsdp *r, paddr_t at, phys_map_fn map)
{
	const uint8_t *p = map(at, RSDP_SIZE_1);

	if (!p || memcmp(p, "RSD PTR ", 8) || !sums_to_zero(p, RSDP_SIZE_1))
		return false;
	memset(r, 0, sizeof(*r));
	memcpy(r, p, RSDP_SIZE_1);
	p = map(at, sizeof(*r));
	if (r->revision >= 2 && p && sums_to_zero(p, sizeof(*r)))
		memcpy(r, p, sizeof(*r));
	return true;
}

static bool scan_rsdp(struct rsdp *r, paddr_t start, paddr_t end, phys_map_fn map)
{
	while (start < end && !read_rsdp(r, start, map))
		start += 16;
	return start < end;
}

static bool find_rsdp(struct rsdp *r, phys_map_fn map)
{
	paddr_t ebda = 0;

	/* The extended BIOS data area, where there is one, and the BIOS. */
	if (phys_read(map, 0x40e, &ebda, 2) && ebda &&
	    scan_rsdp(r, ebda << 4, (ebda << 4) + 1024, map))
		return true;
	return scan_rsdp(r, 0xe0000, 0x100000, map);
}

/* --- MADT ---------------------------------------------------------------- */

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_ADDRESS = 5,
       MADT_X2APIC = 9 };

static void add_cpu(struct acpi_info *a, uint32_t id, uint32_t flags)
{
	if (!(flags & 1) || a->nr_cpus == MAX_PCPUS)
		return;
	for (unsigned int i = 0; i < a->nr_cpus; i++) {
		if (a->apic_id[i] == id)
			return;
	}
	a->apic_id[a->nr_cpus++] = id;
}

static void add_ioapic(struct acpi_info *a, paddr_t address, uint32_t gsi_base)
{
	if (a->nr_ioapics == MAX_IOAPICS)
		return;
	a->ioapic[a->nr_ioapics].address = address;
	a->ioapic[a->nr_ioapics++].gsi_base = gsi_base;
}

static void madt_entry(struct acpi_info *a, const struct table *t)
{
	uint64_t irq;

	/* Fields beyond a short entry read as 0: a disabled CPU, no address. */
	switch (field(t, 0, 1)) {
	case MADT_LAPIC:
		add_cpu(a, (uint32_t)field(t, 3, 1), (uint32_t)field(t, 4, 4));
		break;
	case MADT_X2APIC:
		add_cpu(a, (uint32_t)field(t, 4, 4), (uint32_t)field(t, 8, 4));
		break;
	case MADT_IOAPIC:
		if (t->length >= 12)
			add_ioapic(a, field(t, 4, 4), (uint32_t)field(t, 8, 4));
		break;
	case MADT_OVERRIDE:
		irq = field(t, 3, 1);
		if (t->length < 10 || irq >= ARRAY_SIZE(a->isa_irq))
			break;
		a->isa_irq[irq].gsi = (uint32_t)field(t, 4, 4);
		a->isa_irq[irq].flags = (uint16_t)field(t, 8, 2);
		break;
	case MADT_LAPIC_ADDRESS:
		if (t->length >= 12)
			a->lapic = field(t, 4, 8);
		break;
	default:
		break;
	}
}

static void parse_madt(struct acpi_info *a, const struct table *t)
{
	if (field(t, HEADER_SIZE, 4))
		a->lapic = field(t, HEADER_SIZE, 4);
	for (uint32_t off = HEADER_SIZE + 8; range_within(off, 2, t->length);) {
		struct table e = { t->bytes + off, t->bytes[off + 1], t->map };

		if (e.length < 2 || !range_within(off, e.length, t->length))
			break;
		madt_entry(a, &e);
		off += e.length;
	}
}

/* --- FADT, DSDT, HPET ---------------------------------------------------- */

/* An I/O port in a generic address structure; 0 when it is something else. */
static uint16_t gas_port(const struct table *t, uint32_t off)
{
	uint64_t address = field(t, off + 4, 8);

	return field(t, off, 1) == 1 && address < 0x10000 ? (uint16_t)address : 0;
}

/* An integer of the AML at @off, which moves behind it. */
static uint8_t aml_byte(const struct table *t, uint32_t *off)
{
	uint64_t op = field(t, (*off)++, 1);

	return op == 0x0a ? (uint8_t)field(t, (*off)++, 1) : op <= 1 ? (uint8_t)op : 0;
}

/*
 * Without an AML interpreter: looks for Name(_S5_, Package(){a, b...}), which
 * is a constant in every DSDT there is.
 */
static void parse_dsdt(struct acpi_info *a, const struct table *t)
{
	for (uint32_t off = HEADER_SIZE; range_within(off, 12, t->length); off++) {
		const uint8_t *p = t->bytes + off;
		uint32_t at = off + 5;

		if (p[0] != '_' || memcmp(p, "_S5_", 4) || p[4] != 0x12 ||
		    (p[-1] != 0x08 && !(p[-1] == '\\' && p[-2] == 0x08)))
			continue;
		at += 1 + (p[5] >> 6);		/* bytes of the package's length */
		if (field(t, at++, 1) < 2)
			continue;
		a->s5_type[0] = aml_byte(t, &at) & 7;
		a->s5_type[1] = aml_byte(t, &at) & 7;
		a->has_s5 = true;
		return;
	}
}

static void parse_fadt(struct acpi_info *a, const struct table *t)
{
	struct table dsdt;
	uint32_t flags = (uint32_t)field(t, 112, 4);

	a->smi_command = (uint16_t)field(t, 48, 4);
	a->acpi_enable = (uint8_t)field(t, 52, 1);
	a->pm1a_control = (uint16_t)field(t, 64, 4);
	a->pm1b_control = (uint16_t)field(t, 68, 4);
	a->pm_timer = (uint16_t)field(t, 76, 4);
	if (flags & (1u << 10)) {
		a->reset_port = gas_port(t, 116);
		a->reset_value = (uint8_t)field(t, 128, 1);
	}
	if (open_table(&dsdt, field(t, 140, 8), t->map) ||
	    open_table(&dsdt, field(t, 40, 4), t->map))
		parse_dsdt(a, &dsdt);
}

static void parse_hpet(struct acpi_info *a, const struct table *t)
{
	if (field(t, 40, 1) == 0)		/* in memory space */
		a->hpet = field(t, 44, 8);
}

static const struct {
	char signature[5];
	void (*parse)(struct acpi_info *a, const struct table *t);
} parsers[] = {
	{ "APIC", parse_madt },
	{ "FACP", parse_fadt },
	{ "HPET", parse_hpet },
};

static void parse_root(struct acpi_info *a, const struct table *root, unsigned int entry)
{
	bool seen[ARRAY_SIZE(parsers)] = { false };
	struct table t;

	for (uint32_t off = HEADER_SIZE; range_within(off, entry, root->length); off += entry) {
		paddr_t at = field(root, off, entry);
		char signature[4];

		if (!at || !phys_read(root->map, at, signature, sizeof(signature)))
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(parsers); i++) {
			if (seen[i] || memcmp(signature, parsers[i].signature, 4) ||
			    !open_table(&t, at, root->map))
				continue;
			seen[i] = true;
			parsers[i].parse(a, &t);
		}
	}
}

int acpi_parse(struct acpi_info *a, paddr_t rsdp, phys_map_fn map)
{
	struct table root;
	struct rsdp r;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	a->lapic = LAPIC_DEFAULT;
	for (unsigned int i = 0; i < ARRAY_SIZE(a->isa_irq); i++)
		a->isa_irq[i].gsi = i;
	if (!(rsdp && read_rsdp(&r, rsdp, map)) && !find_rsdp(&r, map))
		rc = -XEN_ENODEV;
	else if (open_table(&root, r.xsdt, map))
		parse_root(a, &root, 8);
	else if (open_table(&root, r.rsdt, map))
		parse_root(a, &root, 4);
	else
		rc = -XEN_ENODEV;
	if (!a->nr_ioapics)
		add_ioapic(a, IOAPIC_DEFAULT, 0);
	return rc;
}
