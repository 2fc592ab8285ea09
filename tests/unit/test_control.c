/* SPDX-License-Identifier: MIT */
/*
 * The control domain: memory at the machine's addresses, the map and tables it is shown,
 * ports and device memory that reach the machine, and the console without a ring.
 */
#include "unit.h"

#include "elf_maker.h"
#include "hospes/builder.h"
#include "hospes/console.h"
#include "hospes/devices.h"
#include "hospes/hypercall.h"
#include "hospes/log.h"
#include "port/testport.h"
#include "real_domain.h"

#define MIB (1ul << 20)
#define PAGES 16384u			/* 64 MiB */
#define RAM_END ((uint64_t)PAGES << PAGE_SHIFT)
#define MODULES 0x100000ul		/* up to KERNEL: not the allocator's */
#define INITRD 0x180000ul
#define MADT 0x1f0000ul			/* a table of the firmware's */
#define MODULES_END 0x200000ul
#define KERNEL 0x800000ul
#define LOW_END 0x9f000ul		/* whole pages of what is below the BIOS's data */
#define DEVICE (RAM_END + 16 * MIB)

static const struct elf_part parts[] = { { KERNEL, 0x3000, 0x4000, 0x1000 } };

static struct guest_config config;

/* The allocator has nothing below @end, and not the frame at @hole: they are in use for good. */
static void hold(paddr_t end, paddr_t hole)
{
	void *p, *others = NULL;

	while ((p = hv_alloc_pages(0))) {
		paddr_t pa = (paddr_t)((uint8_t *)p - port_directmap);

		if (pa < end || pa == hole)
			continue;
		*(void **)p = others;
		others = p;
	}
	while ((p = others)) {
		others = *(void **)p;
		hv_free_pages(p, 0);
	}
}

/* Two CPUs, one IO-APIC, one override, and an entry that is cut off. */
static void make_madt(void)
{
	static const uint8_t entries[] = {
		0, 8, 0, 0, 1, 0, 0, 0,  0, 8, 1, 1, 1, 0, 0, 0,
		1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,  2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0,
		2, 40,
	};
	uint8_t *t = port_directmap + MADT;

	memset(t, 0, 44);
	memcpy(t, "APIC", 4);
	memcpy(t + 44, entries, sizeof(entries));
	test_boot.tables[0] = (struct boot_acpi_table){ "APIC", 44 + sizeof(entries), MADT };
	test_boot.tables[1] = (struct boot_acpi_table){ "FACP", 276, RAM_END + 0x1000 };
	test_boot.tables[2] = (struct boot_acpi_table){ "HPET", 56, RAM_END + 0x2000 };
	test_boot.tables[3] = (struct boot_acpi_table){ "MCFG", 60, RAM_END + 0x3000 };
	test_boot.nr_tables = 4;
}

static void start_machine(paddr_t hole)
{
	const struct boot_memory memory[] = {
		{ 0, 0x9fc00, E820_RAM }, { 0x9fc00, 0x60400, E820_RESERVED },
		{ MIB, RAM_END - MIB, E820_RAM }, { RAM_END, MIB, E820_ACPI },
		{ 0xfffc0000, 0x40000, E820_RESERVED },
	};

	machine_new(PAGES, 2);
	hold(MODULES_END, hole);
	memcpy(test_boot.memory, memory, sizeof(memory));
	test_boot.nr_memory = ARRAY_SIZE(memory);
	test_boot.modules[0] = (struct boot_module){
		MODULES, elf_make(port_directmap + MODULES, true, parts, 1, KERNEL + 0x123), "k" };
	test_boot.modules[1] = (struct boot_module){ INITRD, 5000, "initrd" };
	test_boot.nr_modules = 2;
	memset(port_directmap + INITRD, 0x77, 5000);
	make_madt();
	config = (struct guest_config){
		.name = "control", .args = "quiet", .memory = 16 * MIB, .vcpus = 3, .weight = 256,
		.max_grant_frames = 4, .initrd_module = 1, .control = true,
	};
}

static int setup(void **state)
{
	start_machine(0);
	return 0;
}

static int teardown(void **state)
{
	struct domain *d = domain_get_by_id(0);

	if (d) {
		domain_destroy(d);
		domain_put(d);
	}
	while (domain_reap_step())
		;
	test_machine_fini();
	return 0;
}

static struct domain *start_control(void)
{
	struct domain *d;

	assert_true(builder_start(&config));
	d = domain_get_by_id(0);
	assert_non_null(d);
	domain_put(d);
	return d;
}

/* --- Memory ----------------------------------------------------------------- */

static bool is_identity(struct domain *d, paddr_t start, paddr_t end)
{
	for (; start < end; start += PAGE_SIZE) {
		struct p2m_entry e = p2m_get(&d->p2m, gpa_to_gfn(start));

		if (e.type != P2M_RAM || mfn_to_paddr(e.mfn) != start ||
		    frame_table[e.mfn.v].owner != d->slot + 1)
			return false;
	}
	return true;
}

static uint32_t type_at(const struct domain *d, uint64_t addr)
{
	uint32_t type = 0;

	for (unsigned int i = 0; i < d->nr_e820; i++) {
		if (addr >= d->e820[i].addr && addr - d->e820[i].addr < d->e820[i].size) {
			assert_int_equal(type, 0);	/* no address twice */
			type = d->e820[i].type;
		}
	}
	return type;
}

/* Where the piece begins that has the kernel: behind what the hypervisor uses itself. */
static paddr_t main_piece(const struct domain *d)
{
	for (unsigned int i = 0; i < d->nr_e820; i++) {
		if (d->e820[i].type == E820_RAM && d->e820[i].addr >= MIB)
			return d->e820[i].addr;
	}
	return 0;
}

static void memory_is_the_machines(void **state)
{
	struct domain *d = start_control();
	uint64_t low = LOW_END / PAGE_SIZE - 1;
	paddr_t start = main_piece(d);

	assert_in_range(start, MODULES_END, KERNEL);
	assert_true(d->privileged);
	assert_true(is_identity(d, PAGE_SIZE, LOW_END));
	assert_true(is_identity(d, start, start + 16 * MIB));
	assert_int_equal(p2m_get(&d->p2m, GFN(0)).type, P2M_HOLE);
	assert_int_equal(p2m_get(&d->p2m, gpa_to_gfn(MODULES)).type, P2M_HOLE);
	assert_int_equal(p2m_get(&d->p2m, gpa_to_gfn(start + 16 * MIB)).type, P2M_HOLE);
	assert_int_equal(d->max_pages, low + 16 * MIB / PAGE_SIZE);
	assert_int_equal(atomic_load(&d->tot_pages), d->max_pages);
	assert_int_equal(p2m_get(&d->p2m, gpa_to_gfn(KERNEL)).order, PAGE_ORDER_2M);
	assert_memory_equal(guest_mem(d, KERNEL), port_directmap + MODULES + 0x1000, 0x3000);
}

static void map_shows_all_of_it(void **state)
{
	struct domain *d = start_control();

	paddr_t start = main_piece(d);

	assert_int_equal(type_at(d, 0), E820_UNUSABLE);
	assert_int_equal(type_at(d, PAGE_SIZE), E820_RAM);
	assert_int_equal(type_at(d, LOW_END), E820_UNUSABLE);
	assert_int_equal(type_at(d, 0x9fc00), E820_RESERVED);
	assert_int_equal(type_at(d, MODULES), E820_UNUSABLE);
	assert_int_equal(type_at(d, start), E820_RAM);
	assert_int_equal(type_at(d, start + 16 * MIB - 1), E820_ACPI);
	assert_int_equal(type_at(d, start + 16 * MIB), E820_UNUSABLE);
	assert_int_equal(type_at(d, RAM_END - 1), E820_UNUSABLE);
	assert_int_equal(type_at(d, RAM_END), E820_ACPI);
	assert_int_equal(type_at(d, RAM_END + MIB), 0);
	assert_int_equal(type_at(d, 0xffffffff), E820_RESERVED);
}

/* A frame of ours in the middle: two pieces, the kernel's first. */
static void memory_in_pieces(void **state)
{
	struct domain *d;
	paddr_t hole = MODULES_END + 10 * MIB;

	teardown(NULL);
	start_machine(hole);
	d = start_control();
	assert_true(is_identity(d, main_piece(d), hole));
	assert_int_equal(type_at(d, hole), E820_UNUSABLE);
	assert_int_equal(p2m_get(&d->p2m, gpa_to_gfn(hole)).type, P2M_HOLE);
	assert_true(is_identity(d, hole + 2 * MIB, hole + 4 * MIB));
	assert_int_equal(type_at(d, hole + PAGE_SIZE), E820_UNUSABLE);
	assert_int_equal(type_at(d, hole + 2 * MIB), E820_RAM);
	assert_int_equal(type_at(d, hole - 1), E820_ACPI);
}

/* Firmware that names the same memory twice: nothing is given out twice. */
static void map_that_overlaps(void **state)
{
	uint64_t low = LOW_END / PAGE_SIZE - 1, total = page_total_count();
	struct domain *d;

	test_boot.memory[test_boot.nr_memory++] = (struct boot_memory){ 0, 0x9fc00, E820_RAM };
	test_boot.memory[test_boot.nr_memory++] = (struct boot_memory){ 0x5000, 0x3000, E820_RAM };
	d = start_control();
	assert_int_equal(page_total_count(), total + low);
	assert_int_equal(d->max_pages, low + 16 * MIB / PAGE_SIZE);
	assert_int_equal(atomic_load(&d->tot_pages), d->max_pages);
	assert_true(is_identity(d, PAGE_SIZE, LOW_END));
}

static void no_room(void **state)
{
	uint64_t before = page_free_count();

	config.memory = 128 * MIB;
	assert_false(builder_start(&config));
	while (domain_reap_step())
		;
	assert_int_equal(page_free_count(), before);
	config.memory = 8 * MIB;
	test_boot.modules[0].size = elf_make(port_directmap + MODULES, true,
		&(struct elf_part){ KERNEL, 0x3000, 16 * MIB, 0x1000 }, 1, KERNEL);
	assert_false(builder_start(&config));
	while (domain_reap_step())
		;
	assert_int_equal(page_free_count(), before);
}

/* Wherever memory runs out, nothing of it stays. */
static void failures(void **state)
{
	uint64_t low = LOW_END / PAGE_SIZE - 1, before = page_free_count();
	unsigned int n = 0;
	bool started;

	do {
		page_fail_after = ++n;
		started = builder_start(&config);
		page_fail_after = 0;
		if (started)
			break;
		while (domain_reap_step())
			;
		assert_null(domain_get_by_id(0));
		assert_true(page_free_count() == before || page_free_count() == before + low);
		teardown(NULL);
		start_machine(0);
	} while (n < 1000);
	assert_in_range(n, 10, 999);
}

/* A page given back can come back as itself only. */
static void balloon(void **state)
{
	struct domain *d = start_control();
	gfn_t gfn = gpa_to_gfn(KERNEL + MIB);

	assert_int_equal(p2m_release(d, gfn, 1), 0);
	assert_int_equal(p2m_populate(d, gfn, 0), 0);
	assert_true(is_identity(d, KERNEL + MIB, KERNEL + MIB + PAGE_SIZE));
	assert_int_equal(p2m_release(d, gfn, 1), 0);
	assert_int_equal(page_alloc_domain_at(d, 0, MFN(gfn.v)), 0);	/* somebody has it */
	assert_int_equal(p2m_populate(d, gfn, 0), -XEN_E2BIG);
	d->max_pages++;
	assert_int_equal(p2m_populate(d, gfn, 0), -XEN_ENOMEM);
	page_put(&frame_table[gfn.v]);
	assert_int_equal(p2m_populate(d, gfn, 0), 0);
}

/* --- What it is told ---------------------------------------------------------- */

static const uint8_t *table_at(struct domain *d, gpa_t gpa, const char *signature)
{
	const uint8_t *t = guest_mem(d, gpa);
	uint32_t length;
	uint8_t sum = 0;

	assert_memory_equal(t, signature, 4);
	memcpy(&length, t + 4, sizeof(length));
	for (uint32_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + t[i]);
	assert_int_equal(sum, 0);
	return t;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void start_info_and_tables(void **state)
{
	static const uint8_t interrupts[] = {
		1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,  2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0,
	};
	struct domain *d = start_control();
	const struct hvm_start_info *info = guest_mem(d, d->vcpus[0]->regs.gpr[GPR_RBX]);
	const struct hvm_modlist_entry *mod = guest_mem(d, info->modlist_paddr);
	const uint8_t *rsdp = guest_mem(d, info->rsdp_paddr), *xsdt, *madt;

	assert_int_equal(info->magic, XEN_HVM_START_MAGIC_VALUE);
	assert_int_equal(info->flags, SIF_PRIVILEGED | SIF_INITDOMAIN);
	/* This machine has no IOMMU. */
	assert_string_equal(guest_mem(d, info->cmdline_paddr), "quiet swiotlb=force");
	assert_int_equal(info->memmap_entries, d->nr_e820);
	assert_memory_equal(guest_mem(d, mod->paddr), port_directmap + INITRD, 4096);
	assert_int_equal(type_at(d, info->rsdp_paddr), E820_ACPI);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	xsdt = table_at(d, load64(rsdp + 24), "XSDT");
	/* Ours, then the firmware's but its HPET and its MADT. */
	assert_int_equal(*(const uint32_t *)(const void *)(xsdt + 4), 36 + 3 * 8);
	assert_int_equal(load64(xsdt + 44), RAM_END + 0x1000);
	assert_int_equal(load64(xsdt + 52), RAM_END + 0x3000);
	madt = table_at(d, load64(xsdt + 36), "APIC");
	for (unsigned int i = 0; i < 3; i++) {
		const uint8_t *e = madt + 44 + 16 * i;

		assert_int_equal(e[0], 9);
		assert_int_equal(e[1], 16);
		assert_int_equal(e[4], 2 * i);
		assert_int_equal(e[8], 1);
		assert_int_equal(e[12], i);
	}
	assert_memory_equal(madt + 44 + 48, interrupts, sizeof(interrupts));
	assert_int_equal(madt[4], 44 + 48 + sizeof(interrupts));
}

/* --- Devices ------------------------------------------------------------------ */

static bool exits(struct domain *d, uint16_t port)
{
	return d->devices->io_bitmap[port / 8] >> port % 8 & 1;
}

static void ports(void **state)
{
	struct domain *d = start_control();

	assert_false(exits(d, 0));
	assert_false(exits(d, 0x80));
	assert_false(exits(d, 0xffff));
	assert_true(exits(d, TEST_IO_KEPT) && exits(d, TEST_IO_KEPT + 7));
	assert_true(exits(d, TEST_IO_SLEEP) && exits(d, 0xe9));
	assert_true(d->devices->io_bitmap[8192] & 1);	/* behind the last port */
	memcpy(&test_io[TEST_IO_KEPT - 2], "\1\2\3\4", 4);
	assert_int_equal(devices_in(d, TEST_IO_KEPT, 1), ~0u);
	assert_int_equal(devices_in(d, TEST_IO_KEPT - 2, 2), 0x201);
	assert_int_equal(devices_in(d, TEST_IO_KEPT - 2, 4), ~0u);
	devices_out(d, TEST_IO_KEPT - 2, 4, 0);
	assert_memory_equal(&test_io[TEST_IO_KEPT - 2], "\1\2\3\4", 4);
	devices_out(d, 0x80, 2, 0x1234);
	assert_int_equal(devices_in(d, 0x80, 2), 0x1234);
	devices_out(d, TEST_IO_SLEEP, 2, 0x401);
	assert_int_equal(devices_in(d, TEST_IO_SLEEP, 2), 0x401);
	assert_true(TEST_PANICS(devices_out(d, TEST_IO_SLEEP, 2, 0x3c01)));
}

static void device_memory(void **state)
{
	struct domain *d = start_control();
	struct p2m_entry e;

	assert_true(devices_map(d, DEVICE + 0x123));
	e = p2m_get(&d->p2m, gpa_to_gfn(DEVICE));
	assert_int_equal(e.type, P2M_MMIO);
	assert_int_equal(mfn_to_paddr(e.mfn), DEVICE);
	assert_true(devices_map(d, DEVICE));		/* another vCPU was faster */
	assert_true(devices_map(d, 0));
	assert_false(devices_map(d, RAM_END - PAGE_SIZE));	/* RAM that is not its own */
	test_kept_gfn = DEVICE / PAGE_SIZE + 1;
	assert_false(devices_map(d, DEVICE + PAGE_SIZE));
	assert_false(devices_map(d, P2M_MAX_GFN << PAGE_SHIFT));
	for (unsigned int i = 0; i < 600; i++)
		(void)devices_map(d, ALIGN_UP(DEVICE, 2 * MIB) + 2 * MIB + i * PAGE_SIZE);
	assert_int_equal(p2m_get(&d->p2m, gpa_to_gfn(ALIGN_UP(DEVICE, 2 * MIB) + 2 * MIB)).order,
			 PAGE_ORDER_2M);
}

/* --- Console -------------------------------------------------------------------- */

static void console(void **state)
{
	struct domain *d = start_control();
	struct vcpu *v = d->vcpus[0];
	struct evtchn_bind_virq *bind = guest_mem(d, 0x3000);
	char *text = guest_mem(d, 0x4000);

	*bind = (struct evtchn_bind_virq){ .virq = VIRQ_CONSOLE };
	assert_int_equal(hcall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, 0x3000, 0), 0);
	strcpy(text, "hello\n");
	test_console_clear();
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_write, 6, 0x4000), 0);
	assert_string_equal(test_console_output(), "hello\n");
	assert_int_equal(evtchn_is_pending(d, bind->port), 0);
	test_console_type("ls\r");
	console_poll();
	assert_int_equal(evtchn_is_pending(d, bind->port), 1);
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 2, 0x4000), 2);
	assert_memory_equal(text, "ls", 2);
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 100, GUEST_BAD),
			 -XEN_EFAULT);
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 100, 0x4000), 0);
	for (unsigned int i = 0; i < 300; i++)
		test_console_type("x");
	console_poll();
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 1000, 0x4000), 128);
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 1000, 0x4000), 128);
	assert_int_equal(hcall(v, __HYPERVISOR_console_io, CONSOLEIO_read, 1000, 0x4000), 0);
}

/* Its end is the machine's. */
static void end_of_it(void **state)
{
	struct domain *d = start_control();

	assert_true(TEST_PANICS(domain_shutdown(d, SHUTDOWN_reboot)));
	assert_string_equal(test_panic_text, "reboot");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(memory_is_the_machines), T(map_shows_all_of_it), T(memory_in_pieces),
		T(map_that_overlaps), T(no_room),
		T(failures), T(balloon), T(start_info_and_tables), T(ports), T(device_memory),
		T(console), T(end_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
