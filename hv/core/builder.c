/* SPDX-License-Identifier: MIT */
/*
 * Building static guests. See builder.h.
 *
 * A guest's low memory ends at 3 GiB at the latest, the rest lies from 4 GiB
 * on. What we put there stands at the end of low memory, from the top down:
 * console ring, ACPI tables, initrd, start info and, for a packed kernel, the
 * unpacker and the payload. From the start info on all is below 1 GiB, too; what
 * is below is the kernel's.
 */
#include "hospes/builder.h"

#include "builder_private.h"
#include "hospes/acpi_guest.h"
#include "hospes/console.h"
#include "hospes/gnttab.h"
#include "hospes/log.h"
#include "unpack/unpack.h"

#define LOW_END (3ULL << 30)
#define HIGH_START (4ULL << 30)

#define SHORT_LIFE_NS 1000000000u
#define SHORT_LIVES_MAX 5u

/* --- What goes where ----------------------------------------------------- */

static const uint8_t *map_module(int32_t nr, uint64_t *size)
{
	const struct boot_module *mod = &port_boot_info()->modules[nr];

	*size = mod->size;
	return port_map_boot(mod->start, mod->size);
}

static const char *find_files(struct build *b)
{
	const struct guest_config *config = b->config;
	uint64_t size;
	const uint8_t *kernel = map_module(config->kernel_module, &size);

	if (!kernel)
		return "the kernel's module is not in memory: load it again";
	if (config->initrd_module >= 0) {
		b->initrd = map_module(config->initrd_module, &b->initrd_size);
		if (!b->initrd)
			return "the initrd's module is not in memory: load it again";
	}
	return kernel_parse(kernel, size, &b->kernel);
}

/* Takes whole pages for @size bytes from the top, even below 0: checked once, at the end. */
static gpa_t take(int64_t *top, uint64_t size)
{
	*top -= (int64_t)ALIGN_UP(size, PAGE_SIZE);
	return (gpa_t)*top;
}

const char *builder_place(struct build *b, gpa_t end)
{
	uint64_t memory = b->config->memory;
	int64_t top = (int64_t)end, missing;

	b->low_end = end;
	b->acpi_size = b->config->control ? acpi_control_size(b->config->vcpus) :
		       acpi_guest_size(b->config->vcpus);
	b->at_console = b->config->control ? end : take(&top, PAGE_SIZE);
	b->at_acpi = take(&top, b->acpi_size);
	b->at_initrd = take(&top, b->initrd_size);
	top = MIN(top, (int64_t)BOOT_MAP_END);
	b->at_info = take(&top, sizeof(struct info_page));
	if (b->kernel.payload) {
		b->at_program = take(&top, b->kernel.elf.end);
		b->at_payload = take(&top, b->kernel.payload_size);
	}
	missing = (int64_t)b->kernel.end - top;
	if (missing <= 0)
		return NULL;
	hv_snprintf(b->error, sizeof(b->error), TOO_SMALL, memory / MIB,
		    (memory + (uint64_t)missing + MIB - 1) / MIB);
	return b->error;
}

static const char *plan_memory(struct build *b)
{
	uint64_t memory = b->config->memory;

	b->high_end = memory > LOW_END ? HIGH_START + memory - LOW_END : 0;
	return builder_place(b, MIN(memory, LOW_END));
}

/* --- The domain and its memory ------------------------------------------- */

static int populate(struct domain *d, gpa_t start, gpa_t end)
{
	uint64_t gfn = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;
	int rc = 0;

	while (!rc && gfn < last) {
		unsigned int order = MIN((unsigned int)fls64(last - gfn), PAGE_MAX_ORDER);

		rc = p2m_populate(d, GFN(gfn), order);
		gfn += 1ULL << order;
	}
	return rc;
}

static const char *create(struct build *b)
{
	const struct guest_config *config = b->config;
	bool no_fifo = config->evtchn == GUEST_EVTCHN_2LEVEL;
	struct domain_create create = {
		.id = config->control ? 0 : DOMID_INVALID,
		.name = config->name, .nr_vcpus = config->vcpus,
		.max_pages = config->memory >> PAGE_SHIFT,
		.max_evtchn_port = (uint32_t)(no_fifo ? EVTCHN_2L_NR_CHANNELS :
					      EVTCHN_FIFO_NR_CHANNELS) - 1,
		.max_grant_frames = config->max_grant_frames,
		.max_maptrack_frames = GNTTAB_MAPTRACK_DEFAULT, .max_grant_version = 2,
		.privileged = config->control, .devices = config->control, .building = true,
	};

	if (domain_create(&create, &b->d))
		return NO_MEMORY;
	b->d->evtchn.no_fifo = no_fifo;
	b->d->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
	return NULL;
}

static const char *set_scheduling(struct build *b)
{
	const struct guest_config *config = b->config;
	struct sched_params params = {
		.weight = (uint16_t)config->weight, .cap = (uint16_t)config->cap,
		.rt_period_ns = config->rt[0] * 1000ULL, .rt_budget_ns = config->rt[1] * 1000ULL,
	};

	for (unsigned int i = 0; config->cpus && i < config->vcpus; i++) {
		if (sched_set_affinity(b->d->vcpus[i], config->cpus))
			return "cpus= names no CPU of this machine: correct or remove it";
	}
	return sched_set_params(b->d, &params) ?
	       "rt= asks for more than its period or the CPUs have left: lower the budget" : NULL;
}

static const char *add_memory(struct build *b)
{
	struct domain *d = b->d;
	const struct e820entry_abi map[] = {
		{ 0, b->at_acpi, E820_RAM },
		{ b->at_acpi, b->at_console - b->at_acpi, E820_ACPI },
		{ b->at_console, b->low_end - b->at_console, E820_RESERVED },
		{ HIGH_START, b->high_end - HIGH_START, E820_RAM },
	};

	if (populate(d, 0, b->low_end) || populate(d, HIGH_START, b->high_end))
		return "there is not enough free memory: lower memory=";
	d->nr_e820 = ARRAY_SIZE(map) - !b->high_end;
	memcpy(d->e820, map, d->nr_e820 * sizeof(map[0]));
	return NULL;
}

/* --- What the guest finds in it ------------------------------------------ */

static const char *load_files(struct build *b)
{
	const struct kernel_image *k = &b->kernel;

	/* What a segment has beyond its file is zero: fresh memory is. */
	for (unsigned int i = 0; i < k->elf.nr_segments; i++) {
		const struct elf_range *s = &k->elf.segment[i];

		if (guest_phys_write(b->d, b->at_program + s->paddr, k->file + s->offset,
				     s->filesz))
			return NO_MEMORY;
	}
	if (guest_phys_write(b->d, b->at_payload, k->payload, k->payload_size) ||
	    guest_phys_write(b->d, b->at_initrd, b->initrd, b->initrd_size))
		return NO_MEMORY;
	return NULL;
}

static const char *load_tables(struct build *b)
{
	bool control = b->config->control;
	uint8_t *tables = hv_alloc(b->acpi_size);
	const char *error = NO_MEMORY;

	if (tables) {
		if (control)
			acpi_control_build(tables, b->at_acpi, b->config->vcpus);
		else
			acpi_guest_build(tables, b->at_acpi, b->config->vcpus);
		if (!guest_phys_write(b->d, b->at_acpi, tables, b->acpi_size))
			error = NULL;
	}
	hv_free(tables);
	return error;
}

static const char *add_console(struct build *b)
{
	int rc = b->config->control ? console_attach_control(b->d) :
		 console_attach(b->d, gpa_to_gfn(b->at_console));

	return rc ? NO_MEMORY : NULL;
}

static const char *load_info(struct build *b)
{
	struct info_page *p = &b->page;
	struct domain *d = b->d;

	p->info = (struct hvm_start_info){
		.magic = XEN_HVM_START_MAGIC_VALUE, .version = 1, .nr_modules = b->initrd ? 1 : 0,
		.flags = b->config->control ? SIF_PRIVILEGED | SIF_INITDOMAIN : 0,
		.modlist_paddr = b->at_info + offsetof(struct info_page, initrd),
		.cmdline_paddr = b->at_info + offsetof(struct info_page, cmdline),
		.memmap_paddr = b->at_info + offsetof(struct info_page, memmap),
		.memmap_entries = d->nr_e820, .rsdp_paddr = b->at_acpi,
	};
	p->initrd = (struct hvm_modlist_entry){ .paddr = b->at_initrd, .size = b->initrd_size };
	for (unsigned int i = 0; i < d->nr_e820; i++)
		p->memmap[i] = (struct hvm_memmap_table_entry){
			d->e820[i].addr, d->e820[i].size, d->e820[i].type, 0,
		};
	hv_snprintf(p->cmdline, sizeof(p->cmdline), "%s%s", b->config->args,
		    b->more_args ? b->more_args : "");
	return guest_phys_write(d, b->at_info, p, sizeof(*p)) ? NO_MEMORY : NULL;
}

/* vCPU 0 as the PVH ABI starts it; the unpacker finds its own input in more registers. */
static const char *set_entry(struct build *b)
{
	static const struct guest_segment data = { .attr = 0xc93, .limit = ~0u };
	/* Protected, no paging: flat segments, a task of minimal size, an empty LDT. */
	struct guest_system sys = {
		.cr0 = 0x11, .dr6 = 0xffff0ff0, .dr7 = 0x400, .pat = 0x0007040600070406ULL,
		.seg = {
			[SEG_ES] = data, [SEG_SS] = data, [SEG_DS] = data, [SEG_FS] = data,
			[SEG_GS] = data, [SEG_CS] = { .attr = 0xc9b, .limit = ~0u },
			[SEG_TR] = { .attr = 0x8b, .limit = 0x67 }, [SEG_LDTR] = { .attr = 0x82 },
		},
	};
	struct guest_regs regs = {
		.gpr = {
			[GPR_RAX] = b->at_program, [GPR_RBX] = b->at_info,
			[GPR_RCX] = b->kernel.payload_size, [GPR_RSI] = b->at_payload,
		},
		.rip = b->at_program + b->kernel.elf.entry, .rflags = 2,
	};

	if (vcpu_set_entry(b->d->vcpus[0], &regs, &sys))
		return "its first vCPU cannot be set up: report this as a bug";
	vcpu_pause_clear(b->d->vcpus[0], PAUSE_DOWN);
	return NULL;
}

/* In this order; each returns NULL, or why there is no guest. */
typedef const char *step_fn(struct build *b);
static step_fn *const guest_steps[] = {
	find_files, plan_memory, create, set_scheduling, add_memory, load_files, load_tables,
	add_console, load_info, set_entry,
};
static step_fn *const control_steps[] = {
	find_files, create, set_scheduling, control_add_memory, load_files, load_tables,
	add_console, control_add_devices, load_info, set_entry,
};

bool builder_start(struct guest_config *config)
{
	struct build *b = hv_alloc(sizeof(*b));
	step_fn *const *steps = config->control ? control_steps : guest_steps;
	size_t nr_steps = config->control ? ARRAY_SIZE(control_steps) : ARRAY_SIZE(guest_steps);
	const char *error = b ? NULL : NO_MEMORY;

	if (b)
		b->config = config;
	for (size_t i = 0; i < nr_steps && !error; i++)
		error = steps[i](b);
	if (error) {
		log_err("guest %s: not started: %s", config->name, error);
		if (b && b->d)
			domain_destroy(b->d);
	} else {
		log_info("guest %s: started as domain %u, %lu MiB, %u vCPUs", config->name,
			 b->d->id, config->memory / MIB, config->vcpus);
		config->started = port_time_ns();
		b->d->config = config;
		domain_unpause(b->d);
	}
	if (b && b->d)
		atomic_store(&b->d->building, false);	/* now it may be gone */
	hv_free(b);
	return !error;
}

/* Does a guest that may start again need module @nr? */
static bool module_is_used(const struct guest_list *list, int32_t nr)
{
	for (unsigned int i = 0; i < list->nr; i++) {
		const struct guest_config *g = &list->guest[i];

		if (!g->control && (g->kernel_module == nr || g->initrd_module == nr))
			return true;
	}
	return false;
}

/* Boot loaders put modules on pages of their own; what does not look so stays. */
static bool module_is_alone(const struct boot_info *info, unsigned int nr)
{
	const struct boot_module *m = &info->modules[nr], *other = info->modules;
	paddr_t end = ALIGN_UP(m->start + m->size, PAGE_SIZE);

	for (; other < &info->modules[info->nr_modules]; other++) {
		if (other != m && ALIGN_DOWN(other->start, PAGE_SIZE) < end &&
		    m->start < ALIGN_UP(other->start + other->size, PAGE_SIZE))
			return false;
	}
	return !(m->start & ~PAGE_MASK);
}

void builder_free_modules(const struct guest_list *list)
{
	const struct boot_info *info = port_boot_info();

	for (unsigned int i = 0; i < info->nr_modules; i++) {
		const struct boot_module *m = &info->modules[i];

		if (!module_is_used(list, (int32_t)i) && module_is_alone(info, i))
			page_add_range(paddr_to_mfn(m->start),
				       ALIGN_UP(m->size, PAGE_SIZE) >> PAGE_SHIFT);
	}
}

void builder_domain_gone(struct guest_config *config, bool again)
{
	bool short_life = port_time_ns() - config->started < SHORT_LIFE_NS;

	config->short_lives = short_life ? config->short_lives + 1 : 0;
	if (again && config->short_lives == SHORT_LIVES_MAX) {
		log_err("guest %s: stays down: it ended %u times in a row within a second of its"
			" start: correct its kernel=, initrd= or args=", config->name,
			SHORT_LIVES_MAX);
		return;
	}
	log_info("guest %s: %s", config->name, again ? "starts again" : "ended");
	if (again && !builder_start(config))
		log_err("guest %s: ended, for it cannot be started again", config->name);
}
