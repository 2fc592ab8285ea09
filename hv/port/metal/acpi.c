/* SPDX-License-Identifier: MIT */
/*
 * The few ACPI tables the hypervisor reads itself: MADT, MCFG, FADT, HPET, the
 * power-off values in the DSDT, and (acpi_iommu.c) DMAR and IVRS.
 */
#include "port/metal/firmware.h"

#include "hospes/abi.h"

#define RSDP_SIZE_1 20u
#define RSDP_SIZE_2 36u
#define HEADER_SIZE 36u
#define TABLE_MAX (16u << 20)	/* far above any real table */

#define IOAPIC_DEFAULT 0xfec00000ULL

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
	t->map = map;
	if (!at || !phys_read(map, at + 4, &t->length, sizeof(t->length)) ||
	    t->length < HEADER_SIZE || t->length > TABLE_MAX)
		return false;
	t->bytes = map(at, t->length);
	return t->bytes && sums_to_zero(t->bytes, t->length);
}

/* --- Root ---------------------------------------------------------------- */

/* The pointer to the root, as a table: its second half came with revision 2. */
static bool read_rsdp(struct table *r, paddr_t at, phys_map_fn map)
{
	const uint8_t *whole = map(at, RSDP_SIZE_2);

	r->bytes = map(at, RSDP_SIZE_1);
	if (!r->bytes || memcmp(r->bytes, "RSD PTR ", 8) || !sums_to_zero(r->bytes, RSDP_SIZE_1))
		return false;
	r->length = r->bytes[15] >= 2 && whole && sums_to_zero(whole, RSDP_SIZE_2) ?
		    RSDP_SIZE_2 : RSDP_SIZE_1;
	return true;
}

static bool scan_rsdp(struct table *r, paddr_t start, paddr_t end, phys_map_fn map)
{
	while (start < end && !read_rsdp(r, start, map))
		start += 16;
	return start < end;
}

static bool find_rsdp(struct table *r, phys_map_fn map)
{
	paddr_t ebda = 0;

	/* The extended BIOS data area, where there is one, and the BIOS. */
	return (phys_read(map, 0x40e, &ebda, 2) && ebda &&
		scan_rsdp(r, ebda << 4, (ebda << 4) + 1024, map)) ||
	       scan_rsdp(r, 0xe0000, 0x100000, map);
}

/* --- MADT ---------------------------------------------------------------- */

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };

static void add_cpu(struct acpi_info *a, uint64_t id, uint64_t uid, uint64_t flags)
{
	bool seen = id == UINT32_MAX;		/* which would be all of them */

	for (unsigned int i = 0; i < a->nr_cpus; i++)
		seen |= a->apic_id[i] == id;
	if (!(flags & 1) || seen || a->nr_cpus == MAX_PCPUS)
		return;
	a->uid[a->nr_cpus] = (uint32_t)uid;
	a->apic_id[a->nr_cpus++] = (uint32_t)id;
}

/* Fields beyond a short entry read as 0: a disabled CPU. */
static void madt_entry(struct acpi_info *a, const struct table *t)
{
	uint64_t type = field(t, 0, 1), irq = field(t, 3, 1);	/* where the entry has one */

	if (type == MADT_LAPIC) {
		add_cpu(a, field(t, 3, 1), field(t, 2, 1), field(t, 4, 4));
	} else if (type == MADT_X2APIC) {
		add_cpu(a, field(t, 4, 4), field(t, 12, 4), field(t, 8, 4));
	} else if (type == MADT_IOAPIC && t->length >= 12 && a->nr_ioapics < MAX_IOAPICS) {
		a->ioapic[a->nr_ioapics].address = field(t, 4, 4);
		a->ioapic[a->nr_ioapics++].gsi_base = (uint32_t)field(t, 8, 4);
	} else if (type == MADT_OVERRIDE && t->length >= 10 && irq < ARRAY_SIZE(a->isa_irq)) {
		a->isa_irq[irq].gsi = (uint32_t)field(t, 4, 4);
		a->isa_irq[irq].flags = (uint16_t)field(t, 8, 2);
	}
}

static void parse_madt(struct acpi_info *a, const struct table *t)
{
	struct table e = { .map = t->map };

	for (uint32_t off = HEADER_SIZE + 8; range_within(off, 2, t->length); off += e.length) {
		e.bytes = t->bytes + off;
		e.length = e.bytes[1];
		if (e.length < 2 || !range_within(off, e.length, t->length))
			break;
		madt_entry(a, &e);
	}
}

/* --- MCFG ---------------------------------------------------------------- */

static void parse_mcfg(struct acpi_info *a, const struct table *t)
{
	for (uint32_t off = HEADER_SIZE + 8; range_within(off, 16, t->length); off += 16) {
		struct pci_segment s = {
			.ecam = field(t, off, 8), .nr = (uint16_t)field(t, off + 8, 2),
			.first_bus = (uint8_t)field(t, off + 10, 1),
			.last_bus = (uint8_t)field(t, off + 11, 1),
		};

		if (s.ecam && !(s.ecam & ((1u << 20) - 1)) && s.ecam < 1ULL << 48 &&
		    s.first_bus <= s.last_bus && a->nr_segments < MAX_SEGMENTS)
			a->segment[a->nr_segments++] = s;
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

	a->smi_command = (uint16_t)field(t, 48, 4);
	a->acpi_enable = (uint8_t)field(t, 52, 1);
	a->pm1a_control = (uint16_t)field(t, 64, 4);
	a->pm1b_control = (uint16_t)field(t, 68, 4);
	if (field(t, 112, 4) & (1u << 10)) {
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

static void parse_dmar(struct acpi_info *a, const struct table *t)
{
	dmar_parse(&a->iommu, t->bytes, t->length);
}

static void parse_ivrs(struct acpi_info *a, const struct table *t)
{
	ivrs_parse(&a->iommu, t->bytes, t->length);
}

static const struct {
	char signature[5];
	void (*parse)(struct acpi_info *a, const struct table *t);
} parsers[] = {
	{ "APIC", parse_madt },
	{ "FACP", parse_fadt },
	{ "HPET", parse_hpet },
	{ "DMAR", parse_dmar },
	{ "IVRS", parse_ivrs },
	{ "MCFG", parse_mcfg },
};

static void parse_root(struct acpi_info *a, const struct table *root, unsigned int entry)
{
	bool seen[ARRAY_SIZE(parsers)] = { false };
	struct table t;

	for (uint32_t off = HEADER_SIZE; range_within(off, entry, root->length); off += entry) {
		paddr_t at = field(root, off, entry);

		if (!open_table(&t, at, root->map))
			continue;
		if (a->nr_tables < ARRAY_SIZE(a->tables)) {
			struct boot_acpi_table *known = &a->tables[a->nr_tables++];

			memcpy(known->signature, t.bytes, sizeof(known->signature));
			known->length = t.length;
			known->at = at;
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(parsers); i++) {
			if (seen[i] || memcmp(t.bytes, parsers[i].signature, 4))
				continue;
			seen[i] = true;
			parsers[i].parse(a, &t);
		}
	}
}

int acpi_parse(struct acpi_info *a, paddr_t rsdp, phys_map_fn map)
{
	struct table root, r;
	bool found;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	a->ioapic[0].address = IOAPIC_DEFAULT;
	for (unsigned int i = 0; i < ARRAY_SIZE(a->isa_irq); i++)
		a->isa_irq[i].gsi = i;
	found = (rsdp && read_rsdp(&r, rsdp, map)) || find_rsdp(&r, map);
	if (found && open_table(&root, field(&r, 24, 8), map))
		parse_root(a, &root, 8);
	else if (found && open_table(&root, field(&r, 16, 4), map))
		parse_root(a, &root, 4);
	else
		rc = -XEN_ENODEV;
	a->nr_ioapics = MAX(a->nr_ioapics, 1u);
	return rc;
}
