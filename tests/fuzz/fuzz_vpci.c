/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what a control domain can do to configuration space, MSI-X tables and
 * IO-APICs, with devices that interrupt in between. The fake machine aborts
 * when a message in the hardware is not the hypervisor's.
 */
#include "hospes/log.h"
#include "../unit/real_domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ECAM 0xb0000000u
#define IOAPIC 0xfec00000u
#define BAR 0xfebf0000u

static struct test_function f[2];
static const gpa_t regions[4] = { ECAM + 0x10000, ECAM + 0x18000, BAR, IOAPIC };
static const uint32_t values[16] = { 0, 1, 2, 6, 0x8000, 0xffff, ~0u, 0xfee00000, 0xfee02004, 0x41,
				     0x8051, 0x10000, BAR, BAR + 0x1000, ECAM, 0x181 };

static void make_machine(void)
{
	test_devices_reset();
	test_segment_add(&(struct pci_segment){ ECAM, 0, 0, 0 });
	test_ioapic_add(&(struct port_ioapic){ IOAPIC, 0, 24, 0, 0x20 });
	test_gsi(4)->kept = true;
	memset(f, 0, sizeof(f));
	for (unsigned int i = 0; i < 2; i++) {
		test_function_add(&f[i], 0x10 + 8 * i, 0);
		test_function_bar(&f[i], 0, BAR + i * 0x2000, 0x2000, i);
		test_function_msi(&f[i], i);
		test_function_msix(&f[i], 3 + 100 * i, 0, 0xff8);
	}
}

/* No page with a table can be mapped. */
static void check(struct domain *d)
{
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t at;

		memcpy(&at, f[i].config + 0x10, sizeof(at));
		at = (i ? at : (uint32_t)at) & ~0xfULL;
		if (f[i].config[4] & 2 && at < 1ULL << 47 && devices_map(d, at + 0xff8))
			abort();
	}
	lock_check_none();
}

static void step(struct domain *d, uint8_t op, uint16_t where, uint32_t val)
{
	unsigned int size = 1u << (op >> 3 & 3), nr = where >> 8 & 1;
	uint64_t wide = val | (uint64_t)val << 32;
	gpa_t gpa = regions[where >> 14] + (where & 0x3fff);
	struct vcpu *v = d->vcpus[op >> 5 & 1];

	if ((op & 7) == 0) {
		(void)devices_in(d, (uint16_t)(0xcf0 + (where & 31)), MIN(size, 4));
	} else if ((op & 7) == 1) {
		devices_out(d, 0xcf8, 4, 0x80000000 | f[nr].sbdf << 8 | (where & 0xfc));
		devices_out(d, (uint16_t)(0xcfc + (where & 3)), MIN(size, 4), val);
	} else if ((op & 7) <= 3) {
		(void)devices_access(d, gpa, (uint8_t *)&wide, size, op & 1);
	} else if ((op & 7) == 4) {
		(void)devices_map(d, gpa);
	} else if ((op & 7) == 5) {
		test_gsi_line(where & 15, op & 0x80);
		(void)test_function_interrupt(&f[nr], where % 3);
	} else if ((op & 7) == 6) {
		(void)test_serve_interrupts();
	} else {
		if (vlapic_pending(v) >= 0)
			vlapic_accept(v, (uint8_t)vlapic_pending(v));
		(void)vlapic_write(v, (where & 0xff) << 4, val);
	}
}

/* Records of 4 bytes: operation, place, value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t free_frames;
	struct domain *d;

	if (!free_frames) {
		machine_new(2048, 2);
		log_console_level = LOG_ERR;
	}
	make_machine();
	d = guest_new(1, 2, true);
	guest_devices(d);
	for (; size >= 4; data += 4, size -= 4) {
		step(d, data[0], (uint16_t)(data[1] | data[2] << 8),
		     values[data[3] & 15] << (data[3] >> 6) * 8);
		check(d);
	}
	if (!guest_end(d) || (free_frames && page_free_count() != free_frames))
		abort();
	free_frames = page_free_count();
	(void)test_serve_interrupts();
	return 0;
}
