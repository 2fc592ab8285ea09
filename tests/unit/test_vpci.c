/* SPDX-License-Identifier: MIT */
/* The control domain's PCI functions on the fake machine's. */
#include "unit.h"

#include "hospes/abi.h"
#include "hospes/cpu_insn.h"
#include "hospes/vpci.h"
#include "port/metal/iommu_private.h"
#include "real_domain.h"

#define ECAM 0xb0000000ULL		/* buses 0 to 3 */
#define NVME 0x000020u			/* MSI-X in BAR 0, 64 bits wide */
#define AHCI 0x0000fau			/* 32-bit MSI; function 2 of device 31 */
#define ISA 0x0000f8u			/* no capabilities */
#define NIC 0x000100u			/* behind bus 1: 64-bit MSI and MSI-X in BAR 3 */
#define OURS 0x000002u
#define NVME_BAR 0x8000004000ULL
#define NVME_TABLE 0x2000u
#define NIC_BAR 0xfe000000ULL
#define NIC_TABLE 0xff8u		/* across the end of a page */
#define ENTRIES 5u

enum { CMD = 4, MEM = 2, MSIX_ENABLE = 0x8000, MSIX_MASK = 0x4000 };

static struct iommu_info firmware = { .kind = IOMMU_AMDVI, .nr_units = 1, .unit[0].rid = OURS };
static struct test_function nvme, ahci, isa, nic, ours;
static struct domain *d;
static struct vcpu *v;

static void machine(void)
{
	machine_new(4096, 2);
	test_segment_add(&(struct pci_segment){ ECAM, 0, 0, 3 });
	memset(&nvme, 0, sizeof(nvme));
	memset(&ahci, 0, sizeof(ahci));
	memset(&isa, 0, sizeof(isa));
	memset(&nic, 0, sizeof(nic));
	memset(&ours, 0, sizeof(ours));
	test_function_add(&nvme, NVME, 0);
	test_function_bar(&nvme, 0, NVME_BAR, 0x4000, true);
	test_function_msix(&nvme, ENTRIES, 0, NVME_TABLE);
	test_function_add(&isa, ISA, 0x80);
	test_function_add(&ahci, AHCI, 0);
	test_function_bar(&ahci, 5, 0xfebf0000, 0x1000, false);
	test_function_msi(&ahci, false);
	test_function_add(&nic, NIC, 0);
	test_function_bar(&nic, 3, NIC_BAR, 0x4000, false);
	test_function_msi(&nic, true);
	test_function_msix(&nic, ENTRIES, 3, NIC_TABLE);
	nic.config[CMD] = MEM;		/* as firmware left it */
	nic.config[nic.msi + 2] |= 1;
	test_function_add(&ours, OURS, 0);
	test_function_msi(&ours, true);
}

static int setup(void **state)
{
	machine();
	iommu.firmware = &firmware;
	test_kept_gfn = 0xfee00;
	d = guest_new(1, 3, true);
	guest_devices(d);
	v = d->vcpus[0];
	for (unsigned int i = 0; i < 3; i++)
		assert_true(vlapic_write(d->vcpus[i], APIC_SVR << 4, 0x1ff));
	return 0;
}

/* Nothing interrupts any more. */
static int teardown(void **state)
{
	assert_true(guest_end(d));
	for (unsigned int i = 0; i < ENTRIES; i++)
		assert_false(test_function_interrupt(&nvme, i) || test_function_interrupt(&nic, i));
	assert_false(test_function_interrupt(&ahci, 0));
	iommu.firmware = NULL;
	test_machine_fini();
	return 0;
}

/* --- Accesses ---------------------------------------------------------------- */

static uint32_t ones(unsigned int size)
{
	return (uint32_t)((1ULL << 8 * size) - 1);
}

static uint32_t in(uint16_t port, unsigned int size)
{
	uint32_t val = 0xdead;

	assert_true(vpci_port_in(d, port, size, &val));
	return val & ones(size);
}

static void out(uint16_t port, unsigned int size, uint32_t val)
{
	assert_true(vpci_port_out(d, port, size, val));
}

static uint32_t rd(uint32_t sbdf, unsigned int reg, unsigned int size)
{
	out(0xcf8, 4, 0x80000000 | sbdf << 8 | (reg & 0xfc));
	return in((uint16_t)(0xcfc + (reg & 3)), size);
}

static void wr(uint32_t sbdf, unsigned int reg, unsigned int size, uint32_t val)
{
	out(0xcf8, 4, 0x80000000 | sbdf << 8 | (reg & 0xfc));
	out((uint16_t)(0xcfc + (reg & 3)), size, val);
}

static gpa_t ecam(uint32_t sbdf, unsigned int reg)
{
	return ECAM + ((gpa_t)sbdf << PAGE_SHIFT) + reg;
}

/* What the guest finds there when it touches it. */
static enum p2m_type type_at(gpa_t gpa)
{
	bool mapped = devices_map(d, gpa);
	enum p2m_type t;

	read_lock(&d->p2m.lock);
	t = p2m_get(&d->p2m, gpa_to_gfn(gpa)).type;
	read_unlock(&d->p2m.lock);
	assert_int_equal(mapped, t == P2M_MMIO);
	return t;
}

static bool requested(unsigned int nr, uint8_t vector)
{
	return d->vcpus[nr]->lapic.irr[vector / 64] >> vector % 64 & 1;
}

static void test_config(void **state)
{
	uint32_t val;

	assert_int_equal(rd(NVME, 0, 4), 0x12340000 | NVME);
	assert_int_equal(rd(NVME, 2, 2), 0x1234);
	assert_int_equal(rd(NVME, 3, 1), 0x12);
	assert_int_equal(rd(0x18, 0, 4), 0xffffffff);		/* nobody there */
	assert_int_equal(rd(0x18, 0, 2), 0xffff);
	wr(0x18, 4, 4, 0);
	assert_int_equal(in(0xcf8, 4), 0x80001804);
	out(0xcf8, 4, 0x1004);					/* not enabled */
	assert_int_equal(in(0xcfc, 4), 0xffffffff);
	out(0xcfc, 4, 0xffffffff);
	out(0xcf8, 4, 0x80000000 | NVME << 8);
	assert_int_equal(in(0xcfe, 4), 0xffffffff);		/* not aligned, or across the end */
	assert_int_equal(in(0xcfd, 2), 0xffff);
	assert_int_equal(in(0xcff, 2), 0xffff);
	assert_int_equal(in(0xcf9, 4), 0xffffffff);
	out(0xcff, 2, 0xffff);
	/* Other ports are others' business, the reset register too. */
	assert_false(vpci_port_in(d, 0xcf9, 1, &val) || vpci_port_in(d, 0xcf8, 2, &val));
	assert_false(vpci_port_in(d, 0xd00, 4, &val) || vpci_port_in(d, 0xcfa, 2, &val));
	assert_false(vpci_port_out(d, 0xcf9, 1, 6) || vpci_port_out(d, 0xcfb, 1, 0));

	/* In memory, more registers, all sizes. */
	nvme.config[0x100] = 0x5a;
	assert_true(vpci_claims(d, ECAM) && vpci_claims(d, ECAM + 0x3fffff));
	assert_false(vpci_claims(d, ECAM - 1) || vpci_claims(d, ECAM + 0x400000));
	assert_int_equal(vpci_read(d, ecam(NVME, 0x100), 1), 0x5a);
	assert_int_equal(vpci_read(d, ecam(NVME, 0), 8), 0x0010000012340000 | NVME);
	assert_int_equal(vpci_read(d, ecam(NVME, 1), 4), 0x00123400);
	assert_int_equal(vpci_read(d, ecam(0x18, 0), 8), ~0ULL);
	vpci_write(d, ecam(NVME, 0x3a), 4, 0x00770000);
	assert_int_equal(nvme.config[0x3c], 0x77);
	vpci_write(d, ecam(NVME, 0x38), 8, 0x66ULL << 32);
	assert_int_equal(nvme.config[0x3c], 0x66);
}

static void test_hidden(void **state)
{
	unsigned long before = ours.config_writes;

	assert_int_equal(rd(OURS, 0, 4), 0xffffffff);
	wr(OURS, CMD, 2, 7);
	vpci_write(d, ecam(OURS, CMD), 2, 7);
	assert_int_equal(ours.config_writes, before);
	assert_int_equal(ours.config[CMD], 0);
}

/* --- MSI ---------------------------------------------------------------------- */

static void test_msi(void **state)
{
	unsigned int cap = ahci.msi;

	assert_int_equal(rd(AHCI, cap + 2, 2), 0x100);		/* one message is all it can */
	wr(AHCI, cap + 4, 4, 0xfee02000);
	wr(AHCI, cap + 8, 2, 0x41);
	assert_int_equal(rd(AHCI, cap + 4, 4), 0xfee02000);
	assert_int_equal(rd(AHCI, cap + 8, 2), 0x41);
	assert_int_equal(rd(AHCI, cap + 5, 1), 0x20);
	assert_false(test_function_interrupt(&ahci, 0));
	wr(AHCI, cap + 2, 2, 0x101 | 0x20);
	assert_int_equal(rd(AHCI, cap, 4) >> 16, 0x101);
	assert_int_equal(rd(AHCI, cap + 4, 4), 0xfee02000);
	assert_true(test_function_interrupt(&ahci, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(1, 0x41));
	/* To another vCPU while it is on, byte by byte. */
	wr(AHCI, cap + 5, 1, 0x40);
	wr(AHCI, cap + 8, 1, 0x42);
	assert_true(test_function_interrupt(&ahci, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(2, 0x42));
	/* The mask is the device's. */
	wr(AHCI, cap + 12, 4, 1);
	assert_int_equal(rd(AHCI, cap + 12, 4), 1);
	assert_false(test_function_interrupt(&ahci, 0));
	wr(AHCI, cap + 12, 4, 0);
	wr(AHCI, cap + 2, 2, 0);
	assert_false(test_function_interrupt(&ahci, 0));
	assert_int_equal(rd(AHCI, cap + 2, 2), 0x100);
}

static void test_msi_64(void **state)
{
	unsigned int cap = nic.msi;

	assert_int_equal(rd(NIC, cap + 2, 2), 0x180);		/* off again, too */
	wr(NIC, cap + 4, 4, 0xfee00000);
	wr(NIC, cap + 8, 4, 0);
	wr(NIC, cap + 12, 2, 0x51);
	wr(NIC, cap + 2, 2, 0x181);
	assert_int_equal(rd(NIC, cap + 8, 4), 0);
	assert_true(test_function_interrupt(&nic, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(0, 0x51));
	/* Not the address of a local APIC: it would be a write to memory, and is nothing. */
	wr(NIC, cap + 8, 4, 1);
	wr(NIC, cap + 12, 2, 0x52);
	assert_true(test_function_interrupt(&nic, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	wr(NIC, cap + 8, 4, 0);
	wr(NIC, cap + 4, 4, 0x12300000);
	assert_true(test_function_interrupt(&nic, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_false(requested(0, 0x52));
	/* Logical, lowest priority, and modes there is nothing for. */
	for (unsigned int i = 0; i < 3; i++)
		assert_true(vlapic_write(d->vcpus[i], APIC_LDR << 4, 1u << (24 + i)));
	wr(NIC, cap + 4, 4, 0xfee00004 | 6 << 12);
	wr(NIC, cap + 12, 2, 0x153);
	assert_true(test_function_interrupt(&nic, 0));
	wr(NIC, cap + 12, 2, 0x153);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_int_equal(requested(1, 0x53) + requested(2, 0x53), 1);
	wr(NIC, cap + 12, 2, 0x454);
	assert_true(test_function_interrupt(&nic, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_false(atomic_load(&d->vcpus[1]->nmi_pending) || requested(1, 0x54));
}

/* --- MSI-X -------------------------------------------------------------------- */

static gpa_t entry(gpa_t bar, unsigned int nr, unsigned int word)
{
	return bar + (bar == NIC_BAR ? NIC_TABLE : NVME_TABLE) + nr * 16 + word * 4;
}

static void set_entry(gpa_t bar, unsigned int nr, uint32_t address, uint32_t data, uint32_t control)
{
	vpci_write(d, entry(bar, nr, 3), 4, 1);
	vpci_write(d, entry(bar, nr, 0), 8, address);
	vpci_write(d, entry(bar, nr, 2), 4, data);
	vpci_write(d, entry(bar, nr, 3), 4, control);
}

static void enable(uint32_t sbdf, const struct test_function *f)
{
	wr(sbdf, CMD, 2, 6);
	wr(sbdf, f->msix + 2, 2, MSIX_ENABLE);
}

static void test_msix(void **state)
{
	enable(NVME, &nvme);
	assert_int_equal(rd(NVME, nvme.msix + 2, 2), MSIX_ENABLE | (ENTRIES - 1));
	assert_true(vpci_claims(d, entry(NVME_BAR, 0, 0)));
	assert_int_equal(vpci_read(d, entry(NVME_BAR, 4, 3), 4), 1);
	for (unsigned int i = 0; i < ENTRIES; i++)
		set_entry(NVME_BAR, i, 0xfee00000 | (i % 3 * 2) << 12, 0x60 + i, 0);
	for (unsigned int i = 0; i < ENTRIES; i++) {
		assert_int_equal(vpci_read(d, entry(NVME_BAR, i, 0), 8),
				 0xfee00000 | (i % 3 * 2) << 12);
		assert_int_equal(vpci_read(d, entry(NVME_BAR, i, 2), 8), 0x60 + i);
		assert_true(test_function_interrupt(&nvme, i));
		assert_int_equal(test_serve_interrupts(), 1);
		assert_true(requested(i % 3, (uint8_t)(0x60 + i)));
	}
	assert_int_equal(vpci_read(d, entry(NVME_BAR, 1, 0) + 1, 1), 0x20);
	assert_int_equal(vpci_read(d, entry(NVME_BAR, 1, 0) + 2, 2), 0xfee0);
	/* Masked; moved to another vCPU; opened. */
	vpci_write(d, entry(NVME_BAR, 2, 3), 4, 1);
	assert_false(test_function_interrupt(&nvme, 2));
	vpci_write(d, entry(NVME_BAR, 2, 0), 4, 0xfee02000);
	vpci_write(d, entry(NVME_BAR, 2, 2), 8, 0x71);
	assert_true(test_function_interrupt(&nvme, 2));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(1, 0x71));
	/* Pieces of a word are not written. */
	vpci_write(d, entry(NVME_BAR, 2, 3), 1, 1);
	vpci_write(d, entry(NVME_BAR, 2, 0), 2, 0);
	assert_int_equal(vpci_read(d, entry(NVME_BAR, 2, 0), 4), 0xfee02000);
	assert_true(test_function_interrupt(&nvme, 2));
	assert_int_equal(test_serve_interrupts(), 1);
	/* The mask of them all is the device's. */
	wr(NVME, nvme.msix + 2, 2, MSIX_ENABLE | MSIX_MASK);
	assert_false(test_function_interrupt(&nvme, 1));
}

/* What else lies in those pages. */
static void test_neighbours(void **state)
{
	enable(NVME, &nvme);
	vpci_write(d, NVME_BAR + 0x2100, 8, 0x1122334455667788);
	assert_int_equal(*(uint64_t *)(void *)(nvme.memory[0] + 0x2100), 0x1122334455667788);
	vpci_write(d, NVME_BAR + 0x2100, 1, 0x99);
	assert_int_equal(vpci_read(d, NVME_BAR + 0x2100, 4), 0x55667799);
	assert_int_equal(vpci_read(d, NVME_BAR + 0x2102, 4), 0x33445566);
	assert_int_equal(vpci_read(d, NVME_BAR + 0x2101, 1), 0x77);
	nvme.memory[0][NVME_TABLE + ENTRIES * 16] = 5;		/* the pending bits */
	assert_int_equal(vpci_read(d, entry(NVME_BAR, ENTRIES, 0), 8), 5);
}

/* A reset that the hypervisor does not see: the guest writes all again, and it works. */
static void test_reset(void **state)
{
	enable(NVME, &nvme);
	set_entry(NVME_BAR, 0, 0xfee00000, 0x60, 0);
	memset(nvme.memory[0] + NVME_TABLE, 0, ENTRIES * 16);
	nvme.memory[0][NVME_TABLE + 12] = 1;
	set_entry(NVME_BAR, 0, 0xfee00000, 0x60, 0);
	assert_true(test_function_interrupt(&nvme, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(0, 0x60));
}

static void test_pages(void **state)
{
	/* The NIC was on from the start, and its table lies in two pages. */
	assert_int_equal(type_at(NIC_BAR), P2M_HOLE);
	assert_int_equal(type_at(NIC_BAR + 0x1000), P2M_HOLE);
	assert_int_equal(type_at(NIC_BAR + 0x2000), P2M_MMIO);
	assert_int_equal(type_at(NIC_BAR - 1), P2M_MMIO);
	assert_true(vpci_claims(d, NIC_BAR) && vpci_claims(d, NIC_BAR + 0x1fff));
	assert_false(vpci_claims(d, NIC_BAR + 0x2000) || vpci_claims(d, NIC_BAR - 1));
	/* The other is off. */
	assert_int_equal(type_at(NVME_BAR + NVME_TABLE), P2M_MMIO);
	assert_false(vpci_claims(d, NVME_BAR + NVME_TABLE));
	wr(NVME, CMD, 2, MEM);
	assert_int_equal(type_at(NVME_BAR + NVME_TABLE), P2M_HOLE);
	assert_int_equal(type_at(NVME_BAR), P2M_MMIO);
	assert_true(vpci_claims(d, NVME_BAR + NVME_TABLE + 0xfff));
	/* Moves, with what is known of it. */
	enable(NIC, &nic);
	set_entry(NIC_BAR, 3, 0xfee00000, 0x70, 0);
	wr(NIC, CMD, 1, 0);
	assert_int_equal(type_at(NIC_BAR + 0x1000), P2M_MMIO);
	assert_false(vpci_claims(d, NIC_BAR));
	wr(NIC, 0x1c, 4, 0xffffffff);
	assert_int_equal(rd(NIC, 0x1c, 4), 0xffffc000);
	wr(NIC, 0x1c, 4, NIC_BAR + 0x100000);
	vpci_write(d, ecam(NIC, CMD), 2, 6);
	assert_int_equal(type_at(NIC_BAR), P2M_MMIO);
	assert_int_equal(type_at(NIC_BAR + 0x101000), P2M_HOLE);
	assert_int_equal(vpci_read(d, NIC_BAR + 0x100000 + NIC_TABLE + 3 * 16 + 8, 4), 0x70);
	assert_true(test_function_interrupt(&nic, 3));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(0, 0x70));
	/* While it is on, into the page of the other. */
	wr(NVME, 0x14, 4, 0);
	wr(NVME, 0x10, 4, (uint32_t)NIC_BAR + 0xfc000);
	assert_int_equal(type_at(NIC_BAR + 0xfc000 + NVME_TABLE), P2M_HOLE);
	wr(NIC, 0x1c, 4, NIC_BAR + 0xfc000);
	wr(NVME, 0x10, 4, (uint32_t)NIC_BAR + 0xf8000);
	wr(NVME, CMD, 2, 0);
	assert_int_equal(type_at(NIC_BAR + 0xfc000), P2M_HOLE);
	assert_int_equal(type_at(NIC_BAR + 0xfd000), P2M_HOLE);
}

/* Places where no table can be: RAM, the local APIC, the end of the world. */
static void test_odd_places(void **state)
{
	uint8_t before[64];

	memcpy(before, guest_mem(d, 0x2000), sizeof(before));
	nic.config[CMD] = 0;
	for (unsigned int i = 0x1c; i < 0x20; i++)
		nic.writable[i] = 0xf0 | (i > 0x1c ? 0xff : 0);
	wr(NIC, CMD, 2, MEM);
	wr(NIC, 0x1c, 4, 0x1000);		/* RAM stays RAM */
	assert_int_equal(type_at(0x1000 + NIC_TABLE), P2M_RAM);
	vpci_write(d, 0x1000 + NIC_TABLE + 8, 4, 0x55);
	vpci_write(d, 0x1000 + NIC_TABLE + 12, 4, 0);
	assert_memory_equal(before, guest_mem(d, 0x2000), sizeof(before));
	wr(NIC, 0x1c, 4, 0xfee00000);
	vpci_write(d, 0xfee00000 + NIC_TABLE + 12, 4, 0);
	assert_int_equal(vpci_read(d, 0xfee00000, 4), 0xffffffff);
	assert_int_equal(type_at(0xfee00000), P2M_HOLE);
	wr(NVME, CMD, 2, MEM);
	for (unsigned int i = 0x14; i < 0x18; i++)
		nvme.writable[i] = 0xff;
	wr(NVME, 0x14, 4, 0xffffffff);
	wr(NVME, 0x10, 4, 0xffffffff);
	assert_false(vpci_claims(d, 0xffffffffffffc000 + NVME_TABLE));
	wr(NVME, 0x14, 4, 0x10000);
	assert_false(vpci_claims(d, 0x10000ffffc000 + NVME_TABLE));
	/* And all well again. */
	wr(NVME, 0x14, 4, NVME_BAR >> 32);
	wr(NVME, 0x10, 4, (uint32_t)NVME_BAR);
	enable(NVME, &nvme);
	set_entry(NVME_BAR, 0, 0xfee00000, 0x60, 0);
	assert_true(test_function_interrupt(&nvme, 0));
	assert_int_equal(test_serve_interrupts(), 1);
}

/* --- Failures ------------------------------------------------------------------ */

static void test_no_vectors(void **state)
{
	enable(NVME, &nvme);
	port_irq_cpus = 0;
	test_console_clear();
	set_entry(NVME_BAR, 0, 0xfee00000, 0x60, 0);
	set_entry(NVME_BAR, 1, 0xfee00000, 0x61, 0);
	assert_false(test_function_interrupt(&nvme, 0) || test_function_interrupt(&nvme, 1));
	assert_non_null(strstr(test_console_output(), "000020 gets no interrupt"));
	assert_null(strstr(strstr(test_console_output(), "gets no") + 1, "gets no"));
	wr(AHCI, ahci.msi + 2, 2, 1);
	assert_int_equal(rd(AHCI, ahci.msi + 2, 2), 0x100);	/* it stays off */
	port_irq_cpus = 3;
	test_msi_fail(1);
	wr(AHCI, ahci.msi + 2, 2, 1);
	assert_int_equal(rd(AHCI, ahci.msi + 2, 2), 0x100);
	wr(AHCI, ahci.msi + 2, 2, 1);
	assert_int_equal(rd(AHCI, ahci.msi + 2, 2), 0x101);
	vpci_write(d, entry(NVME_BAR, 0, 3), 4, 0);
	assert_true(test_function_interrupt(&nvme, 0));
	assert_int_equal(test_serve_interrupts(), 2 - 1);
}

/* A table that cannot be protected goes out of reach with its device. */
static void test_protect_fails(void **state)
{
	/* A mapping of 2 MiB, which takes a table to be split. */
	write_lock(&d->p2m.lock);
	assert_int_equal(p2m_set(d, GFN(0x8000000), PAGE_ORDER_2M, MFN(0x8000000), P2M_MMIO), 0);
	write_unlock(&d->p2m.lock);
	while (d->p2m.spare) {
		hv_free_pages(d->p2m.spare, 0);
		d->p2m.spare = NULL;
	}
	page_fail_after = 1;
	wr(NVME, CMD, 2, MEM);
	assert_int_equal(page_fail_after, 0);
	assert_int_equal(rd(NVME, CMD, 2) & MEM, 0);
	assert_int_equal(type_at(NVME_BAR + NVME_TABLE), P2M_MMIO);
	assert_false(vpci_claims(d, NVME_BAR + NVME_TABLE));
	wr(NVME, CMD, 2, MEM);
	assert_int_equal(rd(NVME, CMD, 2) & MEM, MEM);
	assert_true(vpci_claims(d, NVME_BAR + NVME_TABLE));
}

static void test_init_fails(void **state)
{
	struct vpci *mine = d->devices->pci;
	uint64_t before = page_free_count();
	unsigned int n = 1;

	d->devices->pci = NULL;
	for (;; n++) {
		int rc;

		page_fail_after = n;
		rc = vpci_init(d);
		if (page_fail_after)
			break;
		assert_int_equal(rc, -XEN_ENOMEM);
		assert_null(d->devices->pci);
		assert_int_equal(page_free_count(), before);
	}
	page_fail_after = 0;
	assert_int_equal(n, 1 + 1 + 4 + 3);	/* itself, four functions, vectors of three */
	vpci_destroy(d);
	vpci_destroy(d);
	assert_int_equal(page_free_count(), before);
	d->devices->pci = mine;
}

/* --- Hypercalls ------------------------------------------------------------------ */

static int64_t physdev(uint64_t op, const void *arg, size_t size)
{
	memcpy(guest_mem(d, 0x3000), arg, size);
	return hcall(v, __HYPERVISOR_physdev_op, op, 0x3000, 0);
}

static int64_t device(uint64_t op, uint32_t sbdf)
{
	const struct physdev_pci_device_add add = { .seg = (uint16_t)(sbdf >> 16),
		.bus = (uint8_t)(sbdf >> 8), .devfn = (uint8_t)sbdf };

	return physdev(op, &add, sizeof(add));
}

static void test_physdev(void **state)
{
	struct physdev_pci_mmcfg_reserved r = { .address = ECAM, .end_bus = 3, .flags = 1 };
	struct domain *o = guest_new(2, 1, false);

	assert_int_equal(physdev(24, &r, sizeof(r)), 0);
	r.flags = 0;
	assert_int_equal(physdev(24, &r, sizeof(r)), 0);
	r.flags = 3;
	assert_int_equal(physdev(24, &r, sizeof(r)), -XEN_EINVAL);
	r = (struct physdev_pci_mmcfg_reserved){ .address = ECAM + 4096, .end_bus = 3 };
	assert_int_equal(physdev(24, &r, sizeof(r)), -XEN_EIO);
	r.segment = 1;
	assert_int_equal(physdev(24, &r, sizeof(r)), -XEN_ENODEV);

	assert_int_equal(device(25, NVME), 0);
	assert_int_equal(device(25, 0x18), -XEN_ENODEV);
	assert_int_equal(device(25, 0x10000 | NVME), -XEN_ENODEV);
	assert_int_equal(device(26, 0x18), -XEN_ENODEV);
	assert_int_equal(device(26, OURS), -XEN_ENODEV);
	/* Others do not have it. */
	assert_int_equal(hcall(o->vcpus[0], __HYPERVISOR_physdev_op, 24, 0x3000, 0), -XEN_ENOSYS);
	assert_int_equal(hcall(o->vcpus[0], __HYPERVISOR_physdev_op, 25, 0x3000, 0), -XEN_ENOSYS);
	assert_int_equal(hcall(v, __HYPERVISOR_physdev_op, 13, 0x3000, 0), -XEN_ENOSYS);
	assert_int_equal(hcall(v, __HYPERVISOR_physdev_op, 25, GUEST_BAD, 0), -XEN_EFAULT);
	assert_true(guest_end(o));
}

/* Pulled out, and another card put in. */
static void test_hotplug(void **state)
{
	uint64_t before;

	enable(NVME, &nvme);
	set_entry(NVME_BAR, 0, 0xfee00000, 0x60, 0);
	assert_true(test_function_interrupt(&nvme, 0));		/* under way */
	before = page_free_count();
	assert_int_equal(device(26, NVME), 0);
	assert_int_equal(test_serve_interrupts(), 1);
	assert_false(requested(0, 0x60));
	assert_int_equal(device(26, NVME), -XEN_ENODEV);
	nvme.present = false;
	assert_int_equal(device(25, NVME), -XEN_ENODEV);
	nvme.present = true;
	page_fail_after = 1;
	assert_int_equal(device(25, NVME), -XEN_ENOMEM);
	page_fail_after = 0;
	assert_int_equal(device(25, NVME), 0);
	assert_int_equal(page_free_count(), before);
	assert_int_equal(type_at(NVME_BAR + NVME_TABLE), P2M_HOLE);
	enable(NVME, &nvme);
	set_entry(NVME_BAR, 0, 0xfee00000, 0x61, 0);
	assert_true(test_function_interrupt(&nvme, 0));
	assert_int_equal(test_serve_interrupts(), 1);
	assert_true(requested(0, 0x61));
	/* Not told of the change: a new one is seen by its identity. */
	nvme.config[2] = 0x99;
	assert_int_equal(device(25, NVME), 0);
	assert_false(test_function_interrupt(&nvme, 0));
	assert_int_equal(vpci_read(d, entry(NVME_BAR, 0, 2), 4), 0);
}

/* Virtual functions are not to be had: a driver finds that there can be none. */
static void test_sriov(void **state)
{
	static const uint8_t cap[20] = { 0x10, 0, 1, 0, [8] = 0x09, [12] = 8, [14] = 8, [16] = 3 };

	nic.config[0x100] = 1;			/* another capability first */
	nic.config[0x103] = 0x18;
	memcpy(nic.config + 0x180, cap, sizeof(cap));
	memset(nic.writable + 0x188, 0xff, 12);
	nic.config[2] = 0x77;
	assert_int_equal(device(25, NIC), 0);
	assert_int_equal(nic.config[0x188], 0);
	assert_int_equal(vpci_read(d, ecam(NIC, 0x18c), 4), 0);
	assert_int_equal(vpci_read(d, ecam(NIC, 0x18e), 2), 0);
	vpci_write(d, ecam(NIC, 0x188), 2, 0x09);
	assert_int_equal(nic.config[0x188], 0);
	vpci_write(d, ecam(NIC, 0x190), 2, 5);		/* the rest is as it is */
	assert_int_equal(nic.config[0x190], 5);
	/* A list that never ends. */
	nic.config[0x180] = 2;
	nic.config[0x183] = 0x10;
	nic.config[2] = 0x78;
	assert_int_equal(device(25, NIC), 0);
	assert_int_equal(vpci_read(d, ecam(NIC, 0x18e), 2), 8);
}

/* --- Odd hardware ----------------------------------------------------------------- */

static void test_odd_functions(void **state)
{
	static struct test_function odd, bridge, card;
	struct domain *o;

	assert_true(guest_end(d));
	test_devices_reset();
	memset(&odd, 0, sizeof(odd));
	memset(&bridge, 0, sizeof(bridge));
	memset(&card, 0, sizeof(card));
	test_segment_add(&(struct pci_segment){ 0, 0, 0, 255 });
	test_function_add(&odd, 0x10, 0);
	test_function_bar(&odd, 5, 0x90000000, 0x10000, true);	/* no room for its high half */
	test_function_msix(&odd, 2048, 5, 0x1000 - 0x8);
	odd.config[odd.msix + 1] = (uint8_t)odd.msix;		/* a list without an end */
	odd.config[CMD] = MEM;
	test_function_add(&bridge, 0x18, 1);
	test_function_bar(&bridge, 2, 0x90100000, 0x1000, false);
	test_function_msix(&bridge, 2, 2, 0);			/* a bridge has no such BAR */
	test_function_add(&card, 0xfff8, 2);
	test_function_msi(&card, true);
	d = o = guest_new(1, 1, true);
	guest_devices(o);
	assert_false(vpci_claims(o, 0) || vpci_claims(o, ECAM));
	assert_true(vpci_claims(o, 0x90000000) && vpci_claims(o, 0x90008fff));
	assert_false(vpci_claims(o, 0x90009000) || vpci_claims(o, 0x90100000));
	wr(0xfff8, card.msi + 4, 4, 0xfee00000);		/* not a header we know: raw */
	assert_int_equal(card.config[card.msi + 6], 0xe0);
	vpci_write(o, 0x90000000 + 0x1000 - 8 + 2047 * 16 + 12, 4, 0);
	odd.config[odd.msix + 3] |= 0x80;
	assert_true(test_function_interrupt(&odd, 2047));
	assert_int_equal(test_serve_interrupts(), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_config), TEST(test_hidden), TEST(test_msi), TEST(test_msi_64),
		TEST(test_msix), TEST(test_neighbours), TEST(test_reset), TEST(test_pages),
		TEST(test_odd_places), TEST(test_no_vectors), TEST(test_protect_fails),
		TEST(test_init_fails), TEST(test_physdev), TEST(test_hotplug),
		TEST(test_sriov), TEST(test_odd_functions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
