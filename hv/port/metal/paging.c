/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own page tables: the image with the rights its sections
 * need, RAM in the direct map less the image, device registers, stacks.
 *
 * Owns: the tables behind kernel_cr3. They change during boot only, on CPU 0,
 * but for the page that each CPU has to look at devices through.
 */
#include "hospes/cpu_insn.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/page.h"
#include "port/metal/metal.h"

#define DIRECTMAP 0xffff800000000000UL
#define DEVICES_BASE 0xffffffffc0000000UL
#define WINDOWS_BASE 0xffffffffbf000000UL	/* a page for each CPU */

#define PTE_ADDRESS 0x000ffffffffff000UL
#define LEVELS 4

uint8_t *port_directmap = (uint8_t *)DIRECTMAP;
uint64_t kernel_cr3;

static struct range_list *early;	/* where tables come from before page.h works */
static uint64_t devices_next = DEVICES_BASE;
static uint64_t *windows;		/* the table with the entries of all CPUs */

static uint64_t *table_at(uint64_t entry)
{
	return mfn_to_virt(paddr_to_mfn(entry & PTE_ADDRESS));
}

static paddr_t new_table(void)
{
	paddr_t early_pa = early ? ranges_take(early, PAGE_SIZE, BOOT_MAPPED) : 0;
	void *table = early_pa ? table_at(early_pa) : early ? NULL : hv_alloc_pages(PAGE_ORDER_4K);

	if (!table)
		panic("no memory for page tables");
	return mfn_to_paddr(virt_to_mfn(memset(table, 0, PAGE_SIZE)));
}

/* What one entry of a table maps. */
static uint64_t span(unsigned int level)
{
	return PAGE_SIZE << 9 * (level - 1);
}

static uint64_t *entry_of(uint64_t table, uint64_t va, unsigned int level)
{
	return &table_at(table)[va / span(level) & 511];
}

/* The largest page that starts at both addresses and fits. */
static unsigned int leaf_level(uint64_t va, paddr_t pa, uint64_t len)
{
	unsigned int level;
	uint32_t regs[4];

	insn_cpuid(0x80000001, 0, regs);
	level = regs[CPUID_EDX] & (1u << 26) ? 3 : 2;	/* 1 GiB pages */
	while (level > 1 && ((va | pa) % span(level) || len < span(level)))
		level--;
	return level;
}

void map_pages(uint64_t va, paddr_t pa, uint64_t len, uint64_t flags)
{
	while (len) {
		unsigned int leaf = leaf_level(va, pa, len);
		uint64_t *e = entry_of(kernel_cr3, va, LEVELS);

		for (unsigned int level = LEVELS - 1; level >= leaf; level--) {
			if (!*e)
				*e = new_table() | PTE_PRESENT | PTE_WRITE;
			e = entry_of(*e, va, level);
		}
		*e = pa | flags | PTE_PRESENT | (leaf > 1 ? PTE_LARGE : 0);
		va += span(leaf);
		pa += span(leaf);
		len -= span(leaf);
	}
}

static void map_image(const uint8_t *start, const uint8_t *end, uint64_t flags)
{
	map_pages((uint64_t)start, image_pa(start), ALIGN_UP((uint64_t)(end - start), PAGE_SIZE),
		  flags);
}

void paging_init(struct range_list *free)
{
	const uint8_t *rodata = (const uint8_t *)ALIGN_UP((uint64_t)text_end, PAGE_SIZE);
	uint64_t table;

	early = free;
	table = kernel_cr3 = new_table();
	for (const struct range *r = boot.ram.r; r < &boot.ram.r[boot.ram.nr]; r++)
		map_pages(DIRECTMAP + r->start, r->start, r->end - r->start, PTE_WRITE | PTE_NX);
	map_image(image_start, text_end, 0);
	map_image(rodata, rodata_end, PTE_NX);
	map_image(rodata_end, image_end, PTE_WRITE | PTE_NX);
	map_pages(WINDOWS_BASE, 0, PAGE_SIZE, PTE_NX);	/* for the tables on the way */
	for (unsigned int level = LEVELS; level > 1; level--)
		table = *entry_of(table, WINDOWS_BASE, level);
	windows = table_at(table);
	windows[0] = 0;
	__asm__ volatile("mov %0, %%cr3" : : "r"(kernel_cr3) : "memory");
	early = NULL;
}

volatile void *map_window(paddr_t pa)
{
	unsigned int cpu = this_cpu()->core.cpu_id;
	uint64_t va = WINDOWS_BASE + cpu * PAGE_SIZE + (pa & ~PAGE_MASK);
	uint64_t e = (pa & PTE_ADDRESS) | PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_UNCACHED;

	if (windows[cpu] != e) {
		windows[cpu] = e;
		__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
	}
	return (volatile void *)va;
}

volatile void *map_device(paddr_t pa, uint64_t len)
{
	uint64_t offset = pa & ~PAGE_MASK, va = devices_next;

	len = ALIGN_UP(offset + len, PAGE_SIZE);
	map_pages(va, pa - offset, len, PTE_WRITE | PTE_NX | PTE_UNCACHED);
	devices_next += len;
	return (volatile void *)(va + offset);
}

struct audit { unsigned int mappings, exec_writable, text_writable; };

static void audit_table(struct audit *a, const uint64_t *table, unsigned int level, bool write,
			bool exec)
{
	for (unsigned int i = 0; i < 512; i++) {
		uint64_t e = table[i];
		bool w = write && e & PTE_WRITE, x = exec && !(e & PTE_NX);
		paddr_t pa = e & PTE_ADDRESS;

		if (!(e & PTE_PRESENT))
			continue;
		if (level > 1 && !(e & PTE_LARGE)) {
			audit_table(a, table_at(e), level - 1, w, x);
			continue;
		}
		a->mappings++;
		a->exec_writable += w && x;
		a->text_writable += w && pa < image_pa(rodata_end) &&
				    pa + span(level) > image_pa(image_start);
	}
}

void paging_audit(void)
{
	struct audit a = { 0 };

	audit_table(&a, table_at(insn_read_cr3()), LEVELS, true, true);
	log_printf(a.exec_writable || a.text_writable ? LOG_ERR : LOG_INFO,
		   "page table audit: %u mappings, %u writable and executable, "
		   "%u writable over code or constants",
		   a.mappings, a.exec_writable, a.text_writable);
}
