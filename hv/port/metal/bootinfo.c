/* SPDX-License-Identifier: MIT */
/*
 * Boot protocols: multiboot 1, multiboot 2 and PVH become one boot_data.
 */
#include "port/metal/firmware.h"

#include "hospes/abi.h"

#define TYPE_RAM 1u
#define MAX_ENTRIES 4096u	/* no table is as long; bounds what a broken one costs */

/* --- Ranges --- */

static void drop(struct range_list *l, unsigned int i)
{
	l->r[i] = l->r[--l->nr];
}

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
		drop(l, i);
		append(l, r.start, MIN(r.end, start));
		append(l, MAX(r.start, end), r.end);
	}
}

void ranges_add(struct range_list *l, paddr_t start, paddr_t end)
{
	end = ALIGN_DOWN(MIN(end, MAX_RAM), PAGE_SIZE);
	if (start >= end)
		return;
	start = ALIGN_UP(start, PAGE_SIZE);
	if (start >= end)
		return;
	ranges_sub(l, start, end);
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

/* --- What all protocols share --- */

/* Copies a string of the loader's, cut where the space ends. */
static const char *copy_text(struct boot_data *b, paddr_t text, phys_map_fn map)
{
	char *to = b->text + b->text_used;
	size_t room = BOOT_TEXT_MAX - b->text_used, n = 0;
	const char *c;

	if (!room)
		return "";
	while (text && n + 1 < room && (c = map(text + n, 1)) != NULL && *c)
		to[n++] = *c;
	to[n++] = '\0';
	b->text_used += n;
	return to;
}

static void add_module(struct boot_data *b, paddr_t start, uint64_t size, paddr_t text,
		       phys_map_fn map)
{
	struct boot_module *m = &b->info.modules[b->info.nr_modules];

	if (b->info.nr_modules == ARRAY_SIZE(b->info.modules)) {
		b->dropped++;
		return;
	}
	*m = (struct boot_module){ start, size, copy_text(b, text, map) };
	b->info.nr_modules++;
}

/* RAM counts in the first pass; in the second everything else wins over it. */
static void add_memory(struct boot_data *b, uint64_t start, uint64_t len, uint32_t type)
{
	uint64_t end;

	if (add_overflows(start, len, &end))
		end = UINT64_MAX;
	if (b->pass == 0 && type == TYPE_RAM)
		ranges_add(&b->ram, start, end);
	else if (b->pass == 1 && type != TYPE_RAM)
		ranges_sub(&b->ram, start, end);
}

/* --- Multiboot 1 --- */

struct mb1_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
		mmap_length, mmap_addr;
};

#define MB1_CMDLINE	0x04u
#define MB1_MODULES	0x08u
#define MB1_MEMORY_MAP	0x40u

static void mb1_memory(struct boot_data *b, const struct mb1_info *i, phys_map_fn map)
{
	struct __packed { uint32_t size; uint64_t start, len; uint32_t type; } e;
	uint64_t off = 0;

	for (unsigned int n = 0; n < MAX_ENTRIES && range_within(off, sizeof(e), i->mmap_length);
	     n++) {
		if (!phys_read(map, i->mmap_addr + off, &e, sizeof(e)))
			break;
		add_memory(b, e.start, e.len, e.type);
		off += (uint64_t)e.size + sizeof(e.size);
	}
}

static int mb1_parse(struct boot_data *b, paddr_t info, phys_map_fn map)
{
	struct { uint32_t start, end, text, pad; } m;
	struct mb1_info i;

	if (!phys_read(map, info, &i, sizeof(i)) || !(i.flags & MB1_MEMORY_MAP))
		return -XEN_EINVAL;
	b->info.cmdline = copy_text(b, i.flags & MB1_CMDLINE ? i.cmdline : 0, map);
	if (!(i.flags & MB1_MODULES))
		i.mods_count = 0;
	for (uint32_t n = 0; n < MIN(i.mods_count, MAX_ENTRIES); n++) {
		if (!phys_read(map, i.mods_addr + n * sizeof(m), &m, sizeof(m)))
			break;
		if (m.start <= m.end)
			add_module(b, m.start, m.end - m.start, m.text, map);
	}
	mb1_memory(b, &i, map);
	return 0;
}

/* --- Multiboot 2 --- */

enum { MB2_END = 0, MB2_CMDLINE = 1, MB2_MODULE = 3, MB2_MEMORY_MAP = 6, MB2_RSDP_OLD = 14,
       MB2_RSDP_NEW = 15 };

struct mb2_tag {
	uint32_t type, size;
};

static void mb2_memory(struct boot_data *b, paddr_t tag, uint32_t size, phys_map_fn map)
{
	struct { struct mb2_tag tag; uint32_t entry_size, version; } h;
	struct { uint64_t start, len; uint32_t type, pad; } e;

	if (!phys_read(map, tag, &h, sizeof(h)) || h.entry_size < sizeof(e))
		return;
	for (uint64_t off = sizeof(h); range_within(off, sizeof(e), size); off += h.entry_size) {
		if (!phys_read(map, tag + off, &e, sizeof(e)))
			break;
		add_memory(b, e.start, e.len, e.type);
	}
}

static void mb2_take_tag(struct boot_data *b, paddr_t at, uint32_t type, uint32_t size,
			 phys_map_fn map)
{
	struct { struct mb2_tag tag; uint32_t start, end; } m;

	switch (type) {
	case MB2_CMDLINE:
		b->info.cmdline = copy_text(b, at + sizeof(m.tag), map);
		break;
	case MB2_MODULE:
		if (size >= sizeof(m) && phys_read(map, at, &m, sizeof(m)) && m.start <= m.end)
			add_module(b, m.start, m.end - m.start, at + sizeof(m), map);
		break;
	case MB2_MEMORY_MAP:
		mb2_memory(b, at, size, map);
		break;
	case MB2_RSDP_OLD:
		if (!b->rsdp)
			b->rsdp = at + sizeof(m.tag);
		break;
	case MB2_RSDP_NEW:
		b->rsdp = at + sizeof(m.tag);
		break;
	default:
		break;
	}
}

static int mb2_parse(struct boot_data *b, paddr_t info, phys_map_fn map)
{
	struct { uint32_t size, reserved; } h;
	struct mb2_tag t;

	if (!phys_read(map, info, &h, sizeof(h)))
		return -XEN_EINVAL;
	for (uint64_t off = sizeof(h); range_within(off, sizeof(t), h.size);
	     off += ALIGN_UP((uint64_t)t.size, 8)) {
		if (!phys_read(map, info + off, &t, sizeof(t)) || t.type == MB2_END ||
		    t.size < sizeof(t) || !range_within(off, t.size, h.size))
			break;
		mb2_take_tag(b, info + off, t.type, t.size, map);
	}
	return 0;
}

/* --- PVH --- */

static int pvh_parse(struct boot_data *b, paddr_t info, phys_map_fn map)
{
	struct hvm_memmap_table_entry e;
	struct hvm_modlist_entry m;
	struct hvm_start_info i;

	if (!phys_read(map, info, &i, sizeof(i)) || i.magic != XEN_HVM_START_MAGIC_VALUE ||
	    i.version < 1)
		return -XEN_EINVAL;
	b->info.cmdline = copy_text(b, i.cmdline_paddr, map);
	b->rsdp = i.rsdp_paddr;
	for (uint32_t n = 0; n < MIN(i.nr_modules, MAX_ENTRIES); n++) {
		if (!phys_read(map, i.modlist_paddr + n * sizeof(m), &m, sizeof(m)))
			break;
		add_module(b, m.paddr, m.size, m.cmdline_paddr, map);
	}
	for (uint32_t n = 0; n < MIN(i.memmap_entries, MAX_ENTRIES); n++) {
		if (!phys_read(map, i.memmap_paddr + n * sizeof(e), &e, sizeof(e)))
			break;
		add_memory(b, e.addr, e.size, e.type);
	}
	return 0;
}

/* A module outside of RAM, or over the image, would be read or freed at our peril. */
static void check_modules(struct boot_data *b, paddr_t image, paddr_t image_end)
{
	struct boot_module *m = b->info.modules;
	unsigned int kept = 0;

	for (unsigned int i = 0; i < b->info.nr_modules; i++) {
		if (m[i].size && ranges_contain(&b->ram, m[i].start, m[i].size) &&
		    (m[i].start >= image_end || m[i].start + m[i].size <= image))
			m[kept++] = m[i];
		else
			b->dropped++;
	}
	b->info.nr_modules = kept;
}

static const struct protocol {
	uint32_t magic;
	int (*parse)(struct boot_data *b, paddr_t info, phys_map_fn map);
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
	int rc = 0;

	memset(b, 0, sizeof(*b));
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
		rc = p->parse(b, info, map);
	}
	check_modules(b, image, image_end);
	return rc || b->ram.nr ? rc : -XEN_EINVAL;
}
