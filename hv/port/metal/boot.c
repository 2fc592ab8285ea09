/* SPDX-License-Identifier: MIT */
/*
 * Start of day on CPU 0: from the boot loader's information to the core.
 *
 * Owns: what the boot loader said, constant afterwards.
 */
#include "hospes/cmdline.h"
#include "hospes/console.h"
#include "hospes/cpu.h"
#include "hospes/iommu.h"
#include "hospes/log.h"
#include "hospes/page.h"
#include "port/metal/metal.h"

#define LOW_MEMORY (1ULL << 20)
#define LOW_MEMORY_SAFE (512ULL << 10)	/* above that some firmware keeps things */

struct boot_data boot;
struct acpi_info acpi;

static paddr_t trampoline_page;

/* While the boot page tables are in use everything below 4 GiB can be read. */
static const void *map_low(paddr_t start, uint64_t len)
{
	return range_within(start, len, BOOT_MAPPED) ? port_directmap + start : NULL;
}

/* Does [start, start + size) touch a module that is not among the first @done of @order? */
static bool hits_module(struct boot_module *const *order, unsigned int done, paddr_t start,
			uint64_t size)
{
	for (unsigned int i = done; i < boot.info.nr_modules; i++) {
		if (start < order[i]->start + order[i]->size && order[i]->start < start + size)
			return true;
	}
	return false;
}

/*
 * Moves the modules to the end of the memory below 4 GiB, the highest first, so
 * that a control domain's kernel finds its address free, and much behind it.
 */
static void pack_modules(void)
{
	struct boot_module *order[ARRAY_SIZE(boot.info.modules)];
	unsigned int nr = boot.info.nr_modules;
	paddr_t top = 0, start = 0;

	for (unsigned int i = 0; i < boot.ram.nr; i++) {
		paddr_t end = MIN(boot.ram.r[i].end, BOOT_MAPPED);

		if (end > top && boot.ram.r[i].start < end) {
			top = end;
			start = boot.ram.r[i].start;
		}
	}
	for (unsigned int i = 0; i < nr; i++) {
		struct boot_module *m = &boot.info.modules[i];
		unsigned int at = i;

		for (; at > 0 && order[at - 1]->start < m->start; at--)
			order[at] = order[at - 1];
		order[at] = m;
	}
	for (unsigned int i = 0; i < nr; i++) {
		struct boot_module *m = order[i];
		uint64_t size = ALIGN_UP(m->size, PAGE_SIZE);

		if (size > top - start || hits_module(order, i + 1, top - size, size))
			return;
		top -= size;
		memmove(port_directmap + top, port_directmap + m->start, m->size);
		m->start = top;
	}
}

/*
 * The allocator gets RAM less the first megabyte (the trampoline, firmware
 * that lies about it), the image and the modules, which guests restart from.
 */
static void memory_init(void)
{
	static struct range_list free;
	paddr_t end, table;

	ranges_sub(&boot.ram, image_pa(image_start), image_pa(image_end));
	pack_modules();
	free = boot.ram;
	for (unsigned int i = 0; i < boot.info.nr_modules; i++) {
		const struct boot_module *m = &boot.info.modules[i];

		ranges_sub(&free, m->start, m->start + m->size);
	}
	trampoline_page = ranges_take(&free, PAGE_SIZE, LOW_MEMORY_SAFE);
	ranges_sub(&free, 0, LOW_MEMORY);
	paging_init(&free);
	table = ranges_take_frame_table(&free, &end);
	if (!table)
		panic("no memory for a frame table");
	page_init(port_directmap + table, end);
	for (unsigned int i = 0; i < free.nr; i++)
		page_add_range(paddr_to_mfn(free.r[i].start),
			       (free.r[i].end - free.r[i].start) >> PAGE_SHIFT);
	log_info("%lu of %lu MiB free, %u boot modules",
		 page_free_count() >> (20 - PAGE_SHIFT), end >> 20, boot.info.nr_modules);
	if (boot.dropped)
		log_warn("%u boot modules are not in RAM, or too many: ignored", boot.dropped);
	if (boot.text_used == BOOT_TEXT_MAX - 1)
		log_warn("command lines are cut: more than %u bytes", BOOT_TEXT_MAX);
}

static void key_panic(void)
{
	panic("asked for by key");
}

static void key_overflow(void)
{
	__asm__ volatile("1: push %rax; jmp 1b");
}

static void __noreturn start_core(void)
{
	cpu = &svm_ops;
	hospes_start();
	if (hv_options.selftest) {
		key_register('!', "self-test: panic", key_panic);
		key_register('#', "self-test: overflow the stack", key_overflow);
	}
	smp_release();
	pcpu_main();
}

void boot_main(uint32_t magic, uint32_t info)
{
	uint64_t start = port_tsc();
	void *stack;
	int rc;

	/* Until the stacks are mapped, what needs one of its own gets half of the boot stack. */
	for (unsigned int i = 0; i < IST_COUNT; i++)
		boot_cpu.tss.ist[i] = (uint64_t)boot_stack + BOOT_STACK_SIZE / 2;
	cpus[0] = &boot_cpu;
	pcpus[0] = &boot_cpu.core;
	trap_init();
	cpu_load(&boot_cpu);
	rc = boot_parse(&boot, magic, info, map_low, image_pa(image_start), image_pa(image_end));
	hv_options_parse(boot.info.cmdline);
	log_console_level = (enum log_level)hv_options.loglevel;
	serial_init();
	console_show_log();	/* what there was to say before */
	if (rc)
		panic("no boot information: magic %x, %d", magic, rc);
	log_info("Hospes " HOSPES_VERSION ", started by %s", boot.protocol);
	if (acpi_parse(&acpi, boot.rsdp, map_low))
		log_warn("no ACPI tables: one CPU, no power-off");
	boot.info.nr_tables = acpi.nr_tables;
	memcpy(boot.info.tables, acpi.tables, sizeof(acpi.tables));
	memory_init();
	stack = cpu_map_stacks(&boot_cpu, 0);
	apic_init();
	pci_init();
	machine_check_init();
	time_init(start);
	iommu_init(&acpi.iommu, acpi.nr_cpus, lapic_is_x2apic());
	serial_enable_irq();
	smp_start(trampoline_page);
	paging_audit();
	__asm__ volatile("mov %0, %%rsp; xor %%ebp, %%ebp; push %%rbp; jmp %P1"
			 : : "r"(stack), "i"(start_core) : "memory");
	__builtin_unreachable();
}

/* --- port.h --- */

const struct boot_info *port_boot_info(void)
{
	return &boot.info;
}

bool port_device_page(paddr_t pa)
{
	/* Frame 0 is RAM that nobody manages: the BIOS keeps its data there. */
	if (!(pa >> PAGE_SHIFT))
		return true;
	if (ranges_contain(&boot.ram, pa, PAGE_SIZE) || lapic_owns(pa) || iommu_owns(pa) ||
	    (acpi.hpet && pa >> PAGE_SHIFT == acpi.hpet >> PAGE_SHIFT))
		return false;
	return pa < image_pa(image_start) || pa >= image_pa(image_end);
}

const void *port_map_firmware(paddr_t start, uint64_t size)
{
	return (const void *)(uintptr_t)map_device(start, size);
}

const void *port_map_boot(paddr_t start, uint64_t size)
{
	return ranges_contain(&boot.ram, start, size) ? port_directmap + start : NULL;
}
