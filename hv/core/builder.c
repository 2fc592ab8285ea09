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

#include "hospes/acpi_guest.h"
#include "hospes/console.h"
#include "hospes/domain.h"
#include "hospes/gnttab.h"
#include "hospes/lib.h"
#include "hospes/loader.h"
#include "hospes/log.h"
#include "unpack/unpack.h"

#define LOW_END (3ULL << 30)
#define HIGH_START (4ULL << 30)
#define BOOT_MAP_END (1ULL << 30)	/* of what Linux has mapped when it reads its start info */
#define MIB (1UL << 20)

#define EVTCHN_2L_PORTS 4096u
#define EVTCHN_FIFO_PORTS 131072u

#define E820_RAM 1u
#define E820_RESERVED 2u
#define E820_ACPI 3u
#define E820_MAX_BUILT 4u

#define CR0_PE_ET 0x11u
#define MTRR_DEF_WB 0x806u
#define SEG_CODE 0xc9bu
#define SEG_DATA 0xc93u
#define SEG_TSS 0x8bu
#define SEG_NO_LDT 0x82u

#define TOO_SMALL "memory=%luM is too small: kernel, initrd and tables need at least %luM"

/* One page: all that the guest is told at its entry. */
struct info_page {
	struct hvm_start_info info;
	struct hvm_modlist_entry initrd;
	struct hvm_memmap_table_entry memmap[E820_MAX_BUILT];
	char cmdline[GUEST_ARGS_SIZE];
};
_Static_assert(sizeof(struct info_page) <= PAGE_SIZE, "the start info is one page");

/* Work space of one build. */
struct build {
	const struct guest_config *config;
	struct domain *d;
	struct kernel_image kernel;
	const uint8_t *initrd;			/* NULL: none */
	uint64_t initrd_size;
	gpa_t low_end, high_end;
	gpa_t at_console, at_acpi, at_info, at_initrd, at_unpacker, at_payload;
	struct info_page page;
};

static int fail(const struct build *b, int rc, const char *why)
{
	log_err("guest %s: not started: %s", b->config->name, why);
	return rc;
}

/* --- What goes where ----------------------------------------------------- */

static const uint8_t *map_module(int32_t nr, uint64_t *size)
{
	const struct boot_module *mod = &port_boot_info()->modules[nr];

	*size = mod->size;
	return port_map_boot(mod->start, mod->size);
}

static int find_files(struct build *b)
{
	const struct guest_config *config = b->config;
	const uint8_t *kernel;
	const char *error;
	uint64_t size;

	kernel = map_module(config->kernel_module, &size);
	if (!kernel)
		return fail(b, -XEN_EINVAL, "the kernel's module is not in memory: load it again");
	error = kernel_parse(kernel, size, &b->kernel);
	if (error)
		return fail(b, -XEN_EINVAL, error);
	if (config->initrd_module < 0)
		return 0;
	b->initrd = map_module(config->initrd_module, &b->initrd_size);
	if (!b->initrd)
		return fail(b, -XEN_EINVAL, "the initrd's module is not in memory: load it again");
	return 0;
}

/* Takes whole pages for @size bytes from the top, even below 0: checked once, at the end. */
static gpa_t take(int64_t *top, uint64_t size)
{
	*top -= (int64_t)ALIGN_UP(size, PAGE_SIZE);
	return (gpa_t)*top;
}

static int plan_memory(struct build *b)
{
	uint64_t memory = b->config->memory;
	int64_t top, room;

	b->low_end = MIN(memory, LOW_END);
	b->high_end = memory > LOW_END ? HIGH_START + memory - LOW_END : 0;
	top = (int64_t)b->low_end;
	b->at_console = take(&top, PAGE_SIZE);
	b->at_acpi = take(&top, acpi_guest_size(b->config->vcpus));
	b->at_initrd = take(&top, b->initrd_size);
	top = MIN(top, (int64_t)BOOT_MAP_END);
	b->at_info = take(&top, sizeof(struct info_page));
	if (b->kernel.packed) {
		b->at_unpacker = take(&top, unpack_memory_size);
		b->at_payload = take(&top, b->kernel.payload_size);
	}
	room = top - (int64_t)b->kernel.end;
	if (room >= 0)
		return 0;
	log_err("guest %s: not started: " TOO_SMALL, b->config->name, memory / MIB,
		((b->low_end + (uint64_t)-room) + MIB - 1) / MIB);
	return -XEN_EINVAL;
}

static void add_e820(struct domain *d, gpa_t start, gpa_t end, uint32_t type)
{
	d->e820[d->nr_e820++] = (struct e820entry_abi){ start, end - start, type };
}

/* --- The domain and its memory ------------------------------------------- */

static int populate(struct domain *d, gpa_t start, gpa_t end)
{
	static const unsigned int orders[] = { PAGE_ORDER_1G, PAGE_ORDER_2M, PAGE_ORDER_4K };
	uint64_t gfn = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;
	unsigned int best = 0;	/* sizes before this one are used up */

	while (gfn < last) {
		unsigned int i = best;
		int rc;

		while (gfn & ((1ULL << orders[i]) - 1) || last - gfn < 1ULL << orders[i])
			i++;
		rc = p2m_populate(d, GFN(gfn), orders[i]);
		if (rc == -XEN_ENOMEM && i + 1 < ARRAY_SIZE(orders)) {
			best = i + 1;
			continue;
		}
		if (rc)
			return rc;
		gfn += 1ULL << orders[i];
	}
	return 0;
}

static int create(struct build *b)
{
	const struct guest_config *config = b->config;
	struct domain_create create = {
		.id = DOMID_INVALID,
		.name = config->name,
		.nr_vcpus = config->vcpus,
		.max_pages = config->memory >> PAGE_SHIFT,
		.max_evtchn_port = (config->evtchn == GUEST_EVTCHN_2LEVEL ? EVTCHN_2L_PORTS :
				    EVTCHN_FIFO_PORTS) - 1,
		.max_grant_frames = config->max_grant_frames,
		.max_maptrack_frames = GNTTAB_MAPTRACK_DEFAULT,
		.max_grant_version = 2,
	};
	int rc = domain_create(&create, &b->d);

	if (rc == -XEN_ENOMEM)
		return fail(b, rc, "the hypervisor is out of memory: give guests less memory");
	if (rc)
		return fail(b, rc, "no domain can be made of it: start fewer guests");
	b->d->evtchn.no_fifo = config->evtchn == GUEST_EVTCHN_2LEVEL;
	b->d->params[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
	return 0;
}

static int set_scheduling(struct build *b)
{
	const struct guest_config *config = b->config;
	struct sched_params params = {
		.weight = (uint16_t)config->weight,
		.cap = (uint16_t)config->cap,
		.rt_period_ns = config->rt[0] * 1000ULL,
		.rt_budget_ns = config->rt[1] * 1000ULL,
	};
	int rc = 0;

	for (unsigned int i = 0; config->cpus && !rc && i < config->vcpus; i++)
		rc = sched_set_affinity(b->d->vcpus[i], config->cpus);
	if (rc)
		return fail(b, rc, "cpus= names no CPU of this machine: correct or remove it");
	rc = sched_set_params(b->d, &params);
	if (rc == -XEN_ENOSPC)
		return fail(b, rc, "rt= asks for more than the CPUs have left: lower the budget");
	if (rc)
		return fail(b, rc, "weight=, cap= or rt= cannot be used: correct or remove it");
	return 0;
}

static int add_memory(struct build *b)
{
	struct domain *d = b->d;
	int rc = populate(d, 0, b->low_end);

	if (!rc && b->high_end)
		rc = populate(d, HIGH_START, b->high_end);
	if (rc)
		return fail(b, rc, "there is not enough free memory: lower memory=");
	add_e820(d, 0, b->at_acpi, E820_RAM);
	add_e820(d, b->at_acpi, b->at_console, E820_ACPI);
	add_e820(d, b->at_console, b->low_end, E820_RESERVED);
	if (b->high_end)
		add_e820(d, HIGH_START, b->high_end, E820_RAM);
	return 0;
}

/* --- What the guest finds in it ------------------------------------------ */

static int load_kernel(struct build *b)
{
	const struct kernel_image *k = &b->kernel;
	int rc = 0;

	if (k->packed) {
		rc = guest_phys_write(b->d, b->at_unpacker, unpack_image, unpack_image_size);
		if (!rc)
			rc = guest_phys_write(b->d, b->at_payload, k->file + k->payload,
					      k->payload_size);
		return rc;
	}
	/* What a segment has beyond its file is zero: fresh memory is. */
	for (unsigned int i = 0; i < k->elf.nr_segments && !rc; i++) {
		const struct elf_range *s = &k->elf.segment[i];

		if (s->filesz)
			rc = guest_phys_write(b->d, s->paddr, k->file + s->offset, s->filesz);
	}
	return rc;
}

static int load_acpi(struct build *b)
{
	size_t size = acpi_guest_size(b->config->vcpus);
	uint8_t *tables = hv_alloc(size);
	int rc;

	if (!tables)
		return -XEN_ENOMEM;
	acpi_guest_build(tables, b->at_acpi, b->config->vcpus);
	rc = guest_phys_write(b->d, b->at_acpi, tables, size);
	hv_free(tables);
	return rc;
}

static int load_info(struct build *b)
{
	struct info_page *p = &b->page;
	struct domain *d = b->d;

	p->info = (struct hvm_start_info){
		.magic = XEN_HVM_START_MAGIC_VALUE,
		.version = 1,
		.cmdline_paddr = b->at_info + offsetof(struct info_page, cmdline),
		.rsdp_paddr = b->at_acpi,
		.memmap_paddr = b->at_info + offsetof(struct info_page, memmap),
		.memmap_entries = d->nr_e820,
	};
	if (b->initrd) {
		p->info.nr_modules = 1;
		p->info.modlist_paddr = b->at_info + offsetof(struct info_page, initrd);
		p->initrd = (struct hvm_modlist_entry){
			.paddr = b->at_initrd, .size = b->initrd_size,
		};
	}
	for (unsigned int i = 0; i < d->nr_e820; i++) {
		p->memmap[i].addr = d->e820[i].addr;
		p->memmap[i].size = d->e820[i].size;
		p->memmap[i].type = d->e820[i].type;
	}
	hv_snprintf(p->cmdline, sizeof(p->cmdline), "%s", b->config->args);
	return guest_phys_write(d, b->at_info, p, sizeof(*p));
}

static int load(struct build *b)
{
	int rc = load_kernel(b);

	if (!rc && b->initrd)
		rc = guest_phys_write(b->d, b->at_initrd, b->initrd, b->initrd_size);
	if (!rc)
		rc = load_acpi(b);
	if (!rc)
		rc = load_info(b);
	if (!rc)
		rc = console_attach(b->d, gpa_to_gfn(b->at_console));
	return rc ? fail(b, rc, "the hypervisor is out of memory: give guests less memory") : 0;
}

/* vCPU 0 as the PVH ABI starts it; the unpacker finds its own input in more registers. */
static int set_entry(struct build *b)
{
	struct guest_segment data = { .attr = SEG_DATA, .limit = ~0u };
	struct guest_system sys = {
		.cr0 = CR0_PE_ET, .dr6 = 0xffff0ff0, .dr7 = 0x400, .pat = 0x0007040600070406ULL,
		.seg = {
			[SEG_ES] = data, [SEG_SS] = data, [SEG_DS] = data, [SEG_FS] = data,
			[SEG_GS] = data, [SEG_CS] = { .attr = SEG_CODE, .limit = ~0u },
			[SEG_TR] = { .attr = SEG_TSS, .limit = 0x67 },
			[SEG_LDTR] = { .attr = SEG_NO_LDT },
		},
	};
	struct guest_regs regs = {
		.gpr = { [GPR_RBX] = b->at_info }, .rip = b->kernel.entry, .rflags = 2,
	};
	int rc;

	if (b->kernel.packed) {
		regs.rip = regs.gpr[GPR_RAX] = b->at_unpacker;
		regs.gpr[GPR_RSI] = b->at_payload;
		regs.gpr[GPR_RCX] = b->kernel.payload_size;
	}
	for (unsigned int i = 0; i < b->config->vcpus; i++)
		b->d->vcpus[i]->msr.mtrr_def = MTRR_DEF_WB;
	rc = vcpu_set_entry(b->d->vcpus[0], &regs, &sys);
	if (rc)
		return fail(b, rc, "its first vCPU cannot be set up: report this as a bug");
	vcpu_pause_clear(b->d->vcpus[0], PAUSE_DOWN);
	return 0;
}

static int build(struct build *b)
{
	int rc = find_files(b);

	if (!rc)
		rc = plan_memory(b);
	if (rc)
		return rc;
	rc = create(b);
	if (rc)
		return rc;
	rc = set_scheduling(b);
	if (!rc)
		rc = add_memory(b);
	if (!rc)
		rc = load(b);
	if (!rc)
		rc = set_entry(b);
	if (rc) {
		domain_destroy(b->d);
		return rc;
	}
	b->d->config = b->config;
	log_info("guest %s: started as domain %u, %lu MiB, %u vCPUs", b->config->name, b->d->id,
		 b->config->memory / MIB, b->config->vcpus);
	domain_unpause(b->d);
	return 0;
}

int builder_start(const struct guest_config *config)
{
	struct build *b = hv_alloc(sizeof(*b));
	int rc;

	if (!b) {
		log_err("guest %s: not started: the hypervisor is out of memory", config->name);
		return -XEN_ENOMEM;
	}
	b->config = config;
	rc = build(b);
	hv_free(b);
	return rc;
}

void builder_domain_gone(const struct guest_config *config, bool again)
{
	log_info("guest %s: %s", config->name, again ? "starts again" : "ended");
	if (again && builder_start(config))
		log_err("guest %s: ended, for it cannot be started again", config->name);
}
