/* SPDX-License-Identifier: MIT */
/*
 * From configuration to a domain ready to run: where everything lies, what the guest is told, and
 * that a failure at any step leaves nothing behind.
 */
#include "unit.h"

#include "elf_maker.h"
#include "hospes/abi.h"
#include "hospes/builder.h"
#include "hospes/domain.h"
#include "hospes/lib.h"
#include "hospes/loader.h"
#include "hospes/log.h"
#include "hospes/page.h"
#include "port/testport.h"
#include "unpack/unpack.h"

#define MIB (1ul << 20)
#define KERNEL_AT 0x100000ul	/* of the arena: the boot modules, not the allocator's */
#define INITRD_AT 0x180000ul
#define MODULES_END 0x200000ul
#define INITRD_SIZE 5000u
#define ENTRY 0x101234u

static const struct elf_part parts[] = {
	{ 0x100000, 0x3000, 0x3000, 0x1000 }, { 0x103000, 0x5001, 0x9000, 0x8000 },
};

static struct guest_config config;
static uint64_t free_before;

static void make_kernel(void)
{
	uint8_t *k = port_directmap + KERNEL_AT;
	size_t size;

	for (unsigned int i = 0; i < 0x10000; i++)
		k[i] = (uint8_t)(i * 7 >> 3);
	size = elf_make(k, true, parts, ARRAY_SIZE(parts), ENTRY);
	test_boot.modules[0] = (struct boot_module){ KERNEL_AT, size, "vmlinux" };
}

/* A bzImage whose payload only looks like lz4: nobody here unpacks it. */
static void make_bzimage(uint32_t unpacked)
{
	uint8_t *k = port_directmap + KERNEL_AT;

	memset(k, 0, 0x20000);
	k[0x1f1] = 1;
	memcpy(k + 0x202, "HdrS", 4);
	elf_put(k + 0x206, 0x20f, 2);
	elf_put(k + 0x24c, 0x10000, 4);
	memset(k + 1024, 0x5a, 0x10000);
	memcpy(k + 1024, LZ4_MAGIC, 4);
	elf_put(k + 1024 + 0x10000 - 4, unpacked, 4);
	test_boot.modules[0] = (struct boot_module){ KERNEL_AT, 1024 + 0x10000, "vmlinuz" };
}

static void start_machine(uint64_t pages)
{
	test_machine_init(pages, 2);
	policy_init_host();
	test_boot.nr_modules = 2;
	test_boot.modules[1] = (struct boot_module){ INITRD_AT, INITRD_SIZE, "initrd" };
}

static void *held[MODULES_END / PAGE_SIZE];
static unsigned int nr_held;

/* Takes every free frame below MODULES_END, so that the modules keep their contents. */
static void hold_modules(void)
{
	void *p, *others = NULL;

	nr_held = 0;
	while ((p = hv_alloc_pages(0))) {
		if ((uint8_t *)p < port_directmap + MODULES_END) {
			held[nr_held++] = p;
		} else {
			*(void **)p = others;
			others = p;
		}
	}
	while ((p = others)) {
		others = *(void **)p;
		hv_free_pages(p, 0);
	}
}

static uint64_t mark;		/* the log before the test's own lines */

static void set_mark(void)
{
	mark = UINT64_MAX;
	log_read(&mark, NULL, 0);
}

static int setup(void **state)
{
	(void)state;
	start_machine(16384);
	hold_modules();
	make_kernel();
	for (unsigned int i = 0; i < INITRD_SIZE; i++)
		port_directmap[INITRD_AT + i] = (uint8_t)(i * 3);
	config = (struct guest_config){
		.name = "test", .args = "console=hvc0 quiet", .memory = 16 * MIB, .vcpus = 2,
		.weight = 512, .cap = 50, .max_grant_frames = 8, .initrd_module = 1,
		.on_crash = ON_CRASH_DESTROY,
	};
	free_before = page_free_count();
	set_mark();
	return 0;
}

static void end(struct domain *d)
{
	domain_destroy(d);
	while (domain_reap_step())
		;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(page_free_count(), free_before);
	while (nr_held)
		hv_free_pages(held[--nr_held], 0);
	test_machine_fini();
	return 0;
}

static void find(struct domain *d, void *data)
{
	*(struct domain **)data = d;
}

static struct domain *start(void)
{
	struct domain *d = NULL;

	assert_true(builder_start(&config));
	domain_for_each(find, &d);
	assert_non_null(d);
	return d;
}

static void guest_read(struct domain *d, uint64_t gpa, void *buf, size_t len)
{
	assert_true(test_guest_read(d, gpa, buf, len));
}

/* The log since setup. */
static const char *logged(void)
{
	static char text[8192];
	uint64_t pos = mark;

	text[log_read(&pos, text, sizeof(text) - 1)] = '\0';
	return text;
}

static struct hvm_start_info read_info(struct domain *d)
{
	struct hvm_start_info info;

	guest_read(d, d->vcpus[0]->regs.gpr[GPR_RBX], &info, sizeof(info));
	assert_int_equal(info.magic, XEN_HVM_START_MAGIC_VALUE);
	assert_int_equal(info.version, 1);
	return info;
}

static void check_memmap(struct domain *d, const struct hvm_start_info *info, uint64_t ram)
{
	struct hvm_memmap_table_entry e;
	uint64_t sum = 0, last = 0;

	assert_int_equal(info->memmap_entries, d->nr_e820);
	for (unsigned int i = 0; i < info->memmap_entries; i++) {
		guest_read(d, info->memmap_paddr + i * sizeof(e), &e, sizeof(e));
		assert_int_equal(e.addr, d->e820[i].addr);
		assert_int_equal(e.size, d->e820[i].size);
		assert_int_equal(e.type, d->e820[i].type);
		assert_true(e.addr >= last && !(e.addr % PAGE_SIZE) && !(e.size % PAGE_SIZE));
		last = e.addr + e.size;
		sum += e.size;
		if (info->rsdp_paddr >= e.addr && info->rsdp_paddr < last)
			assert_int_equal(e.type, XEN_HVM_MEMMAP_TYPE_ACPI);
		if (d->params[HVM_PARAM_CONSOLE_PFN] << PAGE_SHIFT >= e.addr &&
		    d->params[HVM_PARAM_CONSOLE_PFN] << PAGE_SHIFT < last)
			assert_int_equal(e.type, XEN_HVM_MEMMAP_TYPE_RESERVED);
	}
	assert_int_equal(sum, ram);
	assert_int_equal(atomic_load(&d->tot_pages), ram >> PAGE_SHIFT);
}

static void test_elf(void **state)
{
	struct domain *d = start();
	struct hvm_start_info info = read_info(d);
	struct hvm_modlist_entry mod;
	const struct guest_system *sys = &test_vcpu(d->vcpus[0])->sys;
	uint8_t buf[0x9000];

	(void)state;
	check_memmap(d, &info, 16 * MIB);
	for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++) {
		guest_read(d, parts[i].paddr, buf, parts[i].memsz);
		assert_memory_equal(buf, port_directmap + KERNEL_AT + parts[i].offset,
				    parts[i].filesz);
		for (uint64_t j = parts[i].filesz; j < parts[i].memsz; j++)
			assert_int_equal(buf[j], 0);
	}
	assert_int_equal(info.nr_modules, 1);
	guest_read(d, info.modlist_paddr, &mod, sizeof(mod));
	assert_int_equal(mod.size, INITRD_SIZE);
	guest_read(d, mod.paddr, buf, INITRD_SIZE);
	assert_memory_equal(buf, port_directmap + INITRD_AT, INITRD_SIZE);
	guest_read(d, info.cmdline_paddr, buf, 19);
	assert_string_equal((char *)buf, "console=hvc0 quiet");
	guest_read(d, info.rsdp_paddr, buf, 8);
	assert_memory_equal(buf, "RSD PTR ", 8);

	assert_int_equal(d->vcpus[0]->regs.rip, ENTRY);
	assert_int_equal(d->vcpus[0]->regs.rflags, 2);
	assert_int_equal(sys->cr0, 0x11);
	assert_int_equal(sys->cr4 | sys->efer, 0);
	assert_int_equal(sys->seg[SEG_CS].attr, 0xc9b);
	assert_int_equal(sys->seg[SEG_SS].attr, 0xc93);
	assert_int_equal(sys->seg[SEG_DS].limit, 0xffffffff);
	assert_int_equal(sys->seg[SEG_TR].attr, 0x8b);
	assert_true(vcpu_runnable(d->vcpus[0]));
	assert_int_equal(atomic_load(&d->vcpus[1]->pause_flags), PAUSE_DOWN);
	assert_int_equal(d->vcpus[1]->msr.mtrr_def, 0x806);
	assert_int_equal(d->sched.weight, 512);
	assert_int_equal(d->sched.cap, 50);
	assert_ptr_equal(d->config, &config);
	assert_false(d->evtchn.no_fifo);
	end(d);
	assert_non_null(strstr(logged(), "guest test: ended"));
}

static void test_bzimage(void **state)
{
	struct domain *d;
	const struct guest_regs *r;
	uint8_t *buf = malloc(0x10000);
	struct hvm_modlist_entry mod;
	struct hvm_start_info info;
	struct kernel_image k;
	uint64_t at;

	(void)state;
	make_bzimage(8 * MIB);
	config.evtchn = GUEST_EVTCHN_2LEVEL;
	d = start();
	assert_true(d->evtchn.no_fifo);
	r = &d->vcpus[0]->regs;
	info = read_info(d);
	guest_read(d, info.modlist_paddr, &mod, sizeof(mod));
	at = r->gpr[GPR_RAX];
	assert_int_equal(at % PAGE_SIZE, 0);
	assert_null(kernel_parse(port_directmap + KERNEL_AT, test_boot.modules[0].size, &k));
	assert_int_equal(r->rip, at + k.elf.entry);
	guest_read(d, at, buf, k.elf.segment[0].filesz);
	assert_memory_equal(buf, unpack_elf + k.elf.segment[0].offset, k.elf.segment[0].filesz);
	assert_int_equal(r->gpr[GPR_RCX], 0x10000);
	guest_read(d, r->gpr[GPR_RSI], buf, 0x10000);
	assert_memory_equal(buf, port_directmap + KERNEL_AT + 1024, 0x10000);
	/* Payload, unpacker, start info, initrd: in this order, apart. */
	assert_true(r->gpr[GPR_RSI] + 0x10000 <= at);
	assert_true(at + k.elf.end <= r->gpr[GPR_RBX]);
	assert_true(r->gpr[GPR_RBX] + PAGE_SIZE <= mod.paddr);
	end(d);
	free(buf);
}

static void test_no_initrd(void **state)
{
	struct domain *d;

	(void)state;
	config.initrd_module = -1;
	d = start();
	assert_int_equal(read_info(d).nr_modules, 0);
	end(d);
}

static void expect_failure(const char *text)
{
	set_mark();
	assert_false(builder_start(&config));
	while (domain_reap_step())
		;
	assert_non_null(strstr(logged(), "guest test: not started: "));
	if (!strstr(logged(), text))
		print_error("%s\n", logged());
	assert_non_null(strstr(logged(), text));
	assert_int_equal(page_free_count(), free_before);
}

static void test_refused(void **state)
{
	(void)state;
	config.memory = MIB;
	expect_failure("memory=1M is too small: kernel, initrd and tables need at least 2M");
	config.memory = 1024 * MIB;
	expect_failure("not enough free memory: lower memory=");
	config.memory = 16 * MIB;
	config.cpus = 1ull << 40;
	expect_failure("cpus=");
	config.cpus = 0;
	config.rt[0] = config.rt[1] = 100000;
	config.vcpus = 8;
	expect_failure("rt=");
	config.rt[0] = config.rt[1] = 0;
	make_bzimage(15 * MIB + 0xf0000);
	expect_failure("is too small");
	memcpy(port_directmap + KERNEL_AT + 1024, "\x1f\x8b\x08", 4);
	expect_failure("scripts/extract-vmlinux.py");
	make_kernel();
	test_boot.modules[1].start = 1ull << 50;
	expect_failure("initrd's module");
	test_boot.modules[0].start = 1ull << 50;
	expect_failure("kernel's module");
}

/* The n-th allocation fails, for every n: an error, a log line, and all memory is back. */
static void test_out_of_memory(void **state)
{
	unsigned int n = 1;
	bool good;

	(void)state;
	config.memory = 3 * MIB;
	for (;; n++) {
		struct domain *d = NULL;

		set_mark();
		page_fail_after = n;
		good = builder_start(&config);
		if (page_fail_after) {		/* not reached any more */
			page_fail_after = 0;
			assert_true(good);
			domain_for_each(find, &d);
			end(d);
			break;
		}
		if (good) {			/* a smaller page did as well */
			domain_for_each(find, &d);
			end(d);
		} else {
			while (domain_reap_step())
				;
			assert_non_null(strstr(logged(), "guest test: not started: "));
		}
		assert_int_equal(page_free_count(), free_before);
	}
	assert_true(n > 20);
}

static void test_again(void **state)
{
	struct domain *d = NULL;

	(void)state;
	builder_domain_gone(&config, true);
	domain_for_each(find, &d);
	assert_non_null(d);
	end(d);
	config.memory = MIB;
	builder_domain_gone(&config, true);
	assert_non_null(strstr(logged(), "cannot be started again"));
}

/* Lives @ns and asks to be started again; is it? */
static bool lives_on(uint64_t ns)
{
	struct domain *d = NULL;

	domain_for_each(find, &d);
	assert_non_null(d);
	test_advance_ns(ns);
	domain_shutdown(d, SHUTDOWN_reboot);
	while (domain_reap_step())
		;
	d = NULL;
	domain_for_each(find, &d);
	return d;
}

/* Five starts in a row that come to nothing at once are enough; a longer life in between counts. */
static void test_restart_storm(void **state)
{
	(void)state;
	start();
	for (unsigned int i = 0; i < 4; i++)
		assert_true(lives_on(1000000));
	assert_true(lives_on(1000000000));
	for (unsigned int i = 0; i < 20; i++)
		assert_true(lives_on(1500000000));
	for (unsigned int i = 0; i < 4; i++)
		assert_true(lives_on(999999999));
	assert_null(strstr(logged(), "stays down"));
	assert_false(lives_on(0));
	assert_non_null(strstr(logged(), "guest test: stays down: it ended 5 times in a row"));
	assert_non_null(strstr(logged(), "correct its kernel="));
}

/* Memory beyond 3 GiB continues at 4 GiB. */
static void test_hole(void **state)
{
	struct domain *d;
	uint64_t left;
	uint8_t *k;

	(void)state;
	start_machine(5ul << 18);
	for (uint64_t i = 0; i < frame_table_size; i++)
		frame_table[i].flags &= (uint8_t)~PAGE_DIRTY;	/* so that the arena stays sparse */
	k = hv_alloc_pages(4);
	memset(k, 0, 0x10000);
	test_boot.modules[0] = (struct boot_module){
		.start = (uint64_t)(k - port_directmap), .cmdline = "vmlinux",
		.size = elf_make(k, true, parts, ARRAY_SIZE(parts), ENTRY),
	};
	config = (struct guest_config){
		.name = "test", .memory = 4096 * MIB, .vcpus = 1, .weight = 256,
		.max_grant_frames = 8, .initrd_module = -1,
	};
	left = page_free_count();
	d = start();
	assert_int_equal(d->nr_e820, 4);
	assert_int_equal(d->e820[3].addr, 4096 * MIB);
	assert_int_equal(d->e820[3].size, 1024 * MIB);
	assert_int_equal(d->e820[2].addr + d->e820[2].size, 3072 * MIB);
	assert_int_equal(atomic_load(&d->tot_pages), 1ul << 20);
	assert_int_equal(p2m_get(&d->p2m, GFN(1ul << 20)).type, P2M_RAM);
	assert_int_equal(p2m_get(&d->p2m, GFN(3ul << 18)).type, P2M_HOLE);
	assert_true(d->p2m.tables < 20);	/* large pages */
	assert_true(d->vcpus[0]->regs.gpr[GPR_RBX] < 1024 * MIB);	/* Linux maps no more */
	end(d);
	assert_int_equal(page_free_count(), left);
	hv_free_pages(k, 4);
	test_machine_fini();
}

/* What no guest starts again from is given away, but not what lies in one page with others. */
static void test_free_modules(void **state)
{
	static struct guest_list list;
	uint64_t before = page_total_count();

	(void)state;
	test_boot.nr_modules = 5;
	test_boot.modules[2] = (struct boot_module){ 0x190000, 0x2001, "unused" };
	test_boot.modules[3] = (struct boot_module){ 0x1a0000, 0x100, "with" };
	test_boot.modules[4] = (struct boot_module){ 0x1a0800, 0x100, "another" };
	list = (struct guest_list){ .nr = 2 };
	list.guest[0] = (struct guest_config){ .kernel_module = 0, .initrd_module = -1 };
	list.guest[1] = (struct guest_config){ .kernel_module = 0, .initrd_module = 1,
					       .control = true };
	nr_held = 0;		/* the frames of some are handed out a second time */
	builder_free_modules(&list);
	assert_int_equal(page_total_count() - before, 3 + ALIGN_UP(INITRD_SIZE, PAGE_SIZE) /
			 PAGE_SIZE);
	free_before = page_free_count();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_elf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_modules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bzimage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_initrd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_storm, setup, teardown),
		cmocka_unit_test(test_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
