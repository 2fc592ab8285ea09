/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables of the control domain: a root of ours that leads to those of the
 * firmware's tables it may use, and a MADT of ours with its vCPUs and the
 * machine's IO-APICs.
 */
#include "acpi_private.h"

#include "hospes/acpi_guest.h"
#include "hospes/lib.h"
#include "hospes/port.h"

#define MADT_ENTRIES 44u	/* where they begin */
#define MADT_PCAT 1u

enum { MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };

struct madt_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t id, flags, processor;
} __packed;

struct madt_head {
	struct table head;
	uint32_t lapic, flags;
} __packed;

_Static_assert(sizeof(struct madt_head) == MADT_ENTRIES, "MADT");

/*
 * What says something of devices or the platform. Not: the MADT, which is
 * ours; CPUs' and memory's place in the machine; timers and IOMMUs, which
 * the hypervisor keeps.
 */
static const char passed[][4] = {
	"FACP", "PSDT", "SSDT", "SBST", "MCFG", "SLIC", "MSDM", "WDAT", "FPDT", "S3PT", "TPM2",
	"SPCR",
};

static bool is_passed(const struct boot_acpi_table *t)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(passed); i++) {
		if (!memcmp(t->signature, passed[i], sizeof(passed[i])))
			return true;
	}
	return false;
}

static const struct boot_acpi_table *host_madt(void)
{
	const struct boot_info *info = port_boot_info();

	for (unsigned int i = 0; i < info->nr_tables; i++) {
		if (!memcmp(info->tables[i].signature, "APIC", 4))
			return &info->tables[i];
	}
	return NULL;
}

static size_t xsdt_size(void)
{
	return sizeof(struct table) + (port_boot_info()->nr_tables + 1) * sizeof(uint64_t);
}

static size_t madt_offset(void)
{
	return ALIGN_UP(ALIGN_UP(sizeof(struct rsdp), 16) + xsdt_size(), 16);
}

size_t acpi_control_size(unsigned int nr_vcpus)
{
	const struct boot_acpi_table *host = host_madt();

	return madt_offset() + MADT_ENTRIES + nr_vcpus * sizeof(struct madt_x2apic) +
	       (host ? host->length : 0);
}

/* Copies the machine's IO-APICs and what is wired to them; returns where they end. */
static uint8_t *copy_interrupts(uint8_t *to)
{
	const struct boot_acpi_table *host = host_madt();
	const uint8_t *from = host ? port_map_firmware(host->at, host->length) : NULL;
	uint32_t length = from ? host->length : 0;

	for (uint32_t off = MADT_ENTRIES, size; range_within(off, 2, length); off += size) {
		size = from[off + 1];
		if (size < 2 || !range_within(off, size, length))
			break;
		if (from[off] != MADT_IOAPIC && from[off] != MADT_OVERRIDE)
			continue;
		memcpy(to, from + off, size);
		to += size;
	}
	return to;
}

static void build_madt(struct madt_head *m, unsigned int nr_vcpus)
{
	struct madt_x2apic *cpus = (void *)(m + 1);

	m->lapic = 0xfee00000u;
	m->flags = MADT_PCAT;
	for (unsigned int i = 0; i < nr_vcpus; i++)
		cpus[i] = (struct madt_x2apic){
			.type = MADT_X2APIC, .length = sizeof(*cpus), .id = 2 * i, .flags = 1,
			.processor = i,
		};
	acpi_finish(m, "APIC", 4,
		    (size_t)(copy_interrupts((uint8_t *)&cpus[nr_vcpus]) - (uint8_t *)m));
}

void acpi_control_build(uint8_t *buf, gpa_t gpa, unsigned int nr_vcpus)
{
	const struct boot_info *info = port_boot_info();
	uint8_t *xsdt = buf + ALIGN_UP(sizeof(struct rsdp), 16);
	size_t length = sizeof(struct table);
	uint64_t at = gpa + madt_offset();

	build_madt((void *)(buf + madt_offset()), nr_vcpus);
	memcpy(xsdt + length, &at, sizeof(at));
	length += sizeof(at);
	for (unsigned int i = 0; i < info->nr_tables; i++) {
		if (!is_passed(&info->tables[i]))
			continue;
		memcpy(xsdt + length, &info->tables[i].at, sizeof(at));
		length += sizeof(at);
	}
	acpi_finish(xsdt, "XSDT", 1, length);
	acpi_finish_rsdp((void *)buf, gpa + ALIGN_UP(sizeof(struct rsdp), 16));
}
