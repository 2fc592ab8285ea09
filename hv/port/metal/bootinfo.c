/* SPDX-License-Identifier: MIT */
/*
 * Boot protocols: multiboot 1, multiboot 2 and PVH become one boot_data.
 */
#include "port/metal/firmware.h"

#include "hospes/abi.h"
#include "hospes/log.h"
#include "hospes/page.h"

#define MAX_ENTRIES 4096u	/* no table is as long; bounds what a broken one costs */

/* --- Ranges --- */

static void append(struct range_list *l, paddr_t start, paddr_t end)
{
	if (start < end && l->nr < MAX_RANGES)
		l->r[l->nr++] = (struct range){ start, end };
}

void ranges_sub(struct range_list *l, paddr_t start, paddr_t end)
{
	start = ALIGN_DOWN(start, PAGE_SIZE);
	end = end > MAX_RAM ? MAX_RAM : ALIGN_UP(end, PAGE_SIZE);
	for (unsigned int i = l->nr; i-- > 0;) {
		struct range r = l->r[i];

		if (start >= end || r.end <= start || r.start >= end)
			continue;
		l->r[i] = l->r[--l->nr];
		append(l, r.start, MIN(r.end, start));
		append(l, MAX(r.start, end), r.end);
	}
}

void ranges_add(struct range_list *l, paddr_t start, paddr_t end)
{
	start = ALIGN_UP(MIN(start, MAX_RAM), PAGE_SIZE);
	end = ALIGN_DOWN(MIN(end, MAX_RAM), PAGE_SIZE);
	for (unsigned int i = l->nr; i-- > 0 && start < end;) {
		struct range r = l->r[i];

		if (r.end < start || r.start > end)
			continue;
		l->r[i] = l->r[--l->nr];
		start = MIN(start, r.start);
		end = MAX(end, r.end);
	}
	append(l, start, end);
}

bool ranges_contain(const struct range_list *l, paddr_t start, uint64_t size)
{
	for (unsigned int i = 0; i < l->nr; i++) {
		const struct range *r = &l->r[i];

		if (start >= r->start && start <= r->end && size <= r->end - start)
			return true;
	}
	return false;
}

paddr_t ranges_take(struct range_list *l, uint64_t size, paddr_t limit)
{
	for (unsigned int i = 0; i < l->nr; i++) {
		const struct range *r = &l->r[i];
		paddr_t end = MIN(r->end, limit);

		if (r->start < end && size <= end - r->start) {
			ranges_sub(l, end - size, end);
			return end - size;
		}
	}
	return 0;
}

paddr_t ranges_end(const struct range_list *l)
{
	paddr_t end = 0;

	for (unsigned int i = 0; i < l->nr; i++)
		end = MAX(end, l->r[i].end);
	return end;
}

paddr_t ranges_take_frame_table(struct range_list *l, paddr_t *end)
{
	while ((*end = ranges_end(l)) != 0) {
		uint64_t size = ALIGN_UP(page_table_bytes(*end), PAGE_SIZE);
		paddr_t table = ranges_take(l, size, MAX_RAM);

		if (table)
			return table;
		ranges_sub(l, *end / 2, MAX_RAM);
		log_warn("memory above %lu MiB is too far above the rest", *end >> 21);
	}
	return 0;
}

/* --- What all protocols share --- */

static bool read(const struct boot_data *b, paddr_t at, void *to, size_t len)
{
	return phys_read(b->map, at, to, len);
}

/* Copies a string of the loader's, cut where the space ends. */
static const char *copy_text(struct boot_data *b, paddr_t text)
{
	const char *start = &b->text[b->text_used], *c;

	for (; text && (c = b->map(text, 1)) && *c && b->text_used < BOOT_TEXT_MAX - 1; text++)
		b->text[b->text_used++] = *c;
	b->text[b->text_used] = '\0';
	b->text_used = MIN(b->text_used + 1, BOOT_TEXT_MAX - 1);
	return start;
}

static void add_module(struct boot_data *b, paddr_t start, uint64_t size, paddr_t text)
{
	if (b->info.nr_modules == ARRAY_SIZE(b->info.modules))
		b->dropped++;
	else
		b->info.modules[b->info.nr_modules++] =
			(struct boot_module){ start, size, copy_text(b, text) };
}

/* RAM counts in the first pass; in the second everything else wins over it. */
static void add_memory(struct boot_data *b, uint64_t start, uint64_t len, uint32_t type)
{
	uint64_t end;

	if (add_overflows(start, len, &end))
		end = UINT64_MAX;
	if (b->pass == 0 && b->info.nr_memory < ARRAY_SIZE(b->info.memory))
		b->info.memory[b->info.nr_memory++] =
			(struct boot_memory){ start, end - start, type };
	if (b->pass == 0 && type == E820_RAM)
		ranges_add(&b->ram, start, end);
	else if (b->pass == 1 && type != E820_RAM)
		ranges_sub(&b->ram, start, end);
}

/* --- Multiboot 1 --- */

struct mb1_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
		mmap_length, mmap_addr;
};

enum { MB1_CMDLINE = 0x04, MB1_MODULES = 0x08, MB1_MEMORY_MAP = 0x40 };

static int mb1_parse(struct boot_data *b, paddr_t info)
{
	struct __packed { uint32_t size; uint64_t start, len; uint32_t type; } e;
	struct { uint32_t start, end, text, pad; } m;
	struct mb1_info i;
	uint64_t off = 0;

	if (!read(b, info, &i, sizeof(i)) || !(i.flags & MB1_MEMORY_MAP))
		return -XEN_EINVAL;
	b->info.cmdline = copy_text(b, i.flags & MB1_CMDLINE ? i.cmdline : 0);
	if (!(i.flags & MB1_MODULES))
		i.mods_count = 0;
	for (uint32_t n = 0; n < MIN(i.mods_count, MAX_ENTRIES) &&
	     read(b, i.mods_addr + n * sizeof(m), &m, sizeof(m)); n++)
		add_module(b, m.start, (uint64_t)m.end - m.start, m.text);
	for (uint32_t n = 0; n < MAX_ENTRIES && range_within(off, sizeof(e), i.mmap_length) &&
	     read(b, i.mmap_addr + off, &e, sizeof(e)); n++) {
		add_memory(b, e.start, e.len, e.type);
		off += (uint64_t)e.size + sizeof(e.size);
	}
	return 0;
}

/* --- Multiboot 2 --- */

enum { MB2_END = 0, MB2_CMDLINE = 1, MB2_MODULE = 3, MB2_MEMORY_MAP = 6, MB2_RSDP_OLD = 14,
       MB2_RSDP_NEW = 15 };

struct mb2_tag { uint32_t type, size; };

static void mb2_memory(struct boot_data *b, paddr_t tag)
{
	struct { struct mb2_tag tag; uint32_t entry_size, version; } h;
	struct { uint64_t start, len; uint32_t type, pad; } e;

	if (!read(b, tag, &h, sizeof(h)) || h.entry_size < sizeof(e))
		return;
	for (uint64_t off = sizeof(h); range_within(off, sizeof(e), h.tag.size) &&
	     read(b, tag + off, &e, sizeof(e)); off += h.entry_size)
		add_memory(b, e.start, e.len, e.type);
}

static int mb2_parse(struct boot_data *b, paddr_t info)
{
	struct { struct mb2_tag tag; uint32_t start, end; } m;
	struct { uint32_t size, reserved; } h;
	struct mb2_tag t;

	if (!read(b, info, &h, sizeof(h)))
		return -XEN_EINVAL;
	for (uint64_t off = sizeof(h); range_within(off, sizeof(t), h.size);
	     off += ALIGN_UP((uint64_t)t.size, 8)) {
		paddr_t at = info + off;

		if (!read(b, at, &t, sizeof(t)) || t.type == MB2_END || t.size < sizeof(t) ||
		    !range_within(off, t.size, h.size))
			break;
		if (t.type == MB2_CMDLINE)
			b->info.cmdline = copy_text(b, at + sizeof(t));
		else if (t.type == MB2_MODULE && t.size >= sizeof(m) && read(b, at, &m, sizeof(m)))
			add_module(b, m.start, (uint64_t)m.end - m.start, at + sizeof(m));
		else if (t.type == MB2_MEMORY_MAP)
			mb2_memory(b, at);
		else if (t.type == MB2_RSDP_NEW || (t.type == MB2_RSDP_OLD && !b->rsdp))
			b->rsdp = at + sizeof(t);
	}
	return 0;
}

/* --- PVH --- */

static int pvh_parse(struct boot_data *b, paddr_t info)
{
	struct hvm_memmap_table_entry e;
	struct hvm_modlist_entry m;
	struct hvm_start_info i;

	if (!read(b, info, &i, sizeof(i)) || i.magic != XEN_HVM_START_MAGIC_VALUE || i.version < 1)
		return -XEN_EINVAL;
	b->info.cmdline = copy_text(b, i.cmdline_paddr);
	b->rsdp = i.rsdp_paddr;
	for (uint32_t n = 0; n < MIN(i.nr_modules, MAX_ENTRIES) &&
	     read(b, i.modlist_paddr + n * sizeof(m), &m, sizeof(m)); n++)
		add_module(b, m.paddr, m.size, m.cmdline_paddr);
	for (uint32_t n = 0; n < MIN(i.memmap_entries, MAX_ENTRIES) &&
	     read(b, i.memmap_paddr + n * sizeof(e), &e, sizeof(e)); n++)
		add_memory(b, e.addr, e.size, e.type);
	return 0;
}

static const struct protocol {
	uint32_t magic;
	int (*parse)(struct boot_data *b, paddr_t info);
	const char *name;
} protocols[] = {
	{ 0x2badb002, mb1_parse, "multiboot 1" },
	{ 0x36d76289, mb2_parse, "multiboot 2" },
	{ XEN_HVM_START_MAGIC_VALUE, pvh_parse, "PVH" },
};

int boot_parse(struct boot_data *b, uint32_t magic, paddr_t info, phys_map_fn map, paddr_t image,
	       paddr_t image_end)
{
	const struct protocol *p = protocols;
	unsigned int nr;
	int rc = 0;

	memset(b, 0, sizeof(*b));
	b->map = map;
	b->info.cmdline = "";
	for (; p->magic != magic; p++) {
		if (p == &protocols[ARRAY_SIZE(protocols) - 1])
			return -XEN_EINVAL;
	}
	b->protocol = p->name;
	for (; !rc && b->pass < 2; b->pass++) {
		b->info.nr_modules = 0;
		b->dropped = 0;
		b->text_used = 0;
		rc = p->parse(b, info);
	}
	/* A module outside of RAM, or over the image, would be read or freed at our peril. */
	nr = b->info.nr_modules;
	b->info.nr_modules = 0;
	for (unsigned int i = 0; i < nr; i++) {
		const struct boot_module *m = &b->info.modules[i];

		if (m->size && ranges_contain(&b->ram, m->start, m->size) &&
		    (m->start >= image_end || m->start + m->size <= image))
			b->info.modules[b->info.nr_modules++] = *m;
		else
			b->dropped++;
	}
	return rc || b->ram.nr ? rc : -XEN_EINVAL;
}
