/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables of a static guest.
 *
 * Hardware-reduced ACPI: there is no PM block, no SCI, no PIC and no timer to
 * probe for, and a guest that knows so does not try. The DSDT has one
 * processor device per vCPU; its _UID and the MADT's processor id are the
 * vCPU's number, which is where guests take it from.
 */
#include "hospes/acpi_guest.h"

#include "acpi_private.h"
#include "hospes/lib.h"
#include "hospes/vlapic.h"

struct xsdt {
	struct table head;
	uint64_t table[2];
} __packed;

struct fadt {
	struct table head;
	uint32_t facs, dsdt;
	uint8_t pad1[109 - 44];
	uint16_t boot_arch;
	uint8_t pad2;
	uint32_t flags;
	uint8_t pad3[140 - 116];
	uint64_t x_dsdt;
	uint8_t pad4[268 - 148];
} __packed;

struct madt {
	struct table head;
	uint32_t lapic, flags;
	struct madt_lapic {
		uint8_t type, length, processor, apic_id;
		uint32_t flags;
	} __packed cpu[];
} __packed;

/* AML: Device(Cnnn) { Name(_HID, "ACPI0007") Name(_UID, nnn) }, nnn in a byte. */
struct aml_cpu {
	char device[2];
	uint8_t length;
	char name[4], hid[15], uid[6];
	uint8_t number;
} __packed;

/* AML: Scope(\_SB), its length in three bytes: low nibble, then eight bits each. */
struct dsdt {
	struct table head;
	uint8_t scope, length[3];
	char name[5];
	struct aml_cpu cpu[];
} __packed;

/* All of them; one more processor in the MADT moves the DSDT behind it. */
struct area {
	struct rsdp rsdp;
	struct xsdt xsdt __aligned(16);
	struct fadt fadt __aligned(16);
	struct madt madt __aligned(16);
};

_Static_assert(sizeof(struct fadt) == 268, "FADT of revision 5");

#define FADT_BOOT_ARCH 0x24u	/* no VGA, no RTC */
#define FADT_FLAGS 0x100031u	/* WBINVD works, no power or sleep button, hardware-reduced */

static size_t dsdt_offset(unsigned int n)
{
	return ALIGN_UP(offsetof(struct area, madt.cpu) + n * sizeof(struct madt_lapic), 16);
}

static uint8_t checksum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

void acpi_finish(void *table, const char *signature, uint8_t revision, size_t length)
{
	struct table *t = table;

	*t = (struct table){
		.length = (uint32_t)length, .revision = revision, .oem_revision = 1,
		.oem = "Hospes", .oem_table = "HospesPC", .creator = "HSPS", .creator_revision = 1,
	};
	memcpy(t->signature, signature, sizeof(t->signature));
	t->checksum = checksum(table, length);
}

void acpi_finish_rsdp(struct rsdp *r, uint64_t xsdt)
{
	*r = (struct rsdp){
		.signature = "RSD PTR ", .oem = "Hospes", .revision = 2, .length = sizeof(*r),
		.xsdt = xsdt,
	};
	r->checksum = checksum(r, 20);
	r->checksum_all = checksum(r, sizeof(*r));
}

/* The tables with one entry per processor. */
static void build_cpus(struct madt *m, struct dsdt *d, unsigned int n)
{
	size_t length = sizeof(d->length) + sizeof(d->name) + n * sizeof(struct aml_cpu);

	d->scope = 0x10;
	d->length[0] = (uint8_t)(0x80 | (length & 15));
	d->length[1] = (uint8_t)(length >> 4);
	d->length[2] = (uint8_t)(length >> 12);
	memcpy(d->name, "\\_SB_", sizeof(d->name));
	m->lapic = (uint32_t)APIC_DEFAULT_BASE;
	for (unsigned int i = 0; i < n; i++) {
		m->cpu[i] = (struct madt_lapic){
			.length = sizeof(struct madt_lapic), .processor = (uint8_t)i,
			.apic_id = (uint8_t)(2 * i), .flags = 1,
		};
		d->cpu[i] = (struct aml_cpu){
			.device = "\x5b\x82", .length = sizeof(struct aml_cpu) - 2,
			.name = { 'C', (char)('0' + i / 100), (char)('0' + i / 10 % 10),
				  (char)('0' + i % 10) },
			.hid = "\x08_HID\x0d" "ACPI0007", .uid = "\x08_UID\x0a",
			.number = (uint8_t)i,
		};
	}
	acpi_finish(d, "DSDT", 2, sizeof(*d) + n * sizeof(struct aml_cpu));
	acpi_finish(m, "APIC", 4, sizeof(*m) + n * sizeof(struct madt_lapic));
}

size_t acpi_guest_size(unsigned int nr_vcpus)
{
	return dsdt_offset(nr_vcpus) + sizeof(struct dsdt) + nr_vcpus * sizeof(struct aml_cpu);
}

void acpi_guest_build(uint8_t *buf, gpa_t gpa, unsigned int nr_vcpus)
{
	size_t dsdt = dsdt_offset(nr_vcpus);
	struct area *a = (void *)buf;

	build_cpus(&a->madt, (void *)(buf + dsdt), nr_vcpus);
	a->fadt.dsdt = (uint32_t)(gpa + dsdt);
	a->fadt.x_dsdt = gpa + dsdt;
	a->fadt.boot_arch = FADT_BOOT_ARCH;
	a->fadt.flags = FADT_FLAGS;
	acpi_finish(&a->fadt, "FACP", 5, sizeof(a->fadt));
	a->xsdt.table[0] = gpa + offsetof(struct area, fadt);
	a->xsdt.table[1] = gpa + offsetof(struct area, madt);
	acpi_finish(&a->xsdt, "XSDT", 1, sizeof(a->xsdt));
	acpi_finish_rsdp(&a->rsdp, gpa + offsetof(struct area, xsdt));
}
