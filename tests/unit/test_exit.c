/* SPDX-License-Identifier: MIT */
/* Exits of a vCPU of a real domain on the test CPU, one kind after the other. */
#include "unit.h"

#include "hospes/console.h"
#include "hospes/cpu_insn.h"
#include "hospes/pcpu.h"
#include "real_domain.h"

#define IP 0x1000u		/* where the test's code lies */
#define HOLE 0x40000000u
#define APIC 0xfee00000u
#define IF 0x200u
#define TF 0x100u

static struct domain *d;
static struct vcpu *v;
static struct test_vcpu *t;

static int setup(void **state)
{
	machine_new(4096, 1);
	d = guest_new(1, 2, false);
	v = d->vcpus[0];
	assert_ptr_equal(guest_run(v), v);
	t = test_vcpu(v);
	t->sys.cr0 = 0x11;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		t->sys.seg[i] = (struct guest_segment){ 8, 0xc93, 0xffffffff, 0 };
	t->sys.seg[SEG_CS].attr = 0xc9b;
	v->regs.rip = IP;
	v->regs.rflags = 2;
	return 0;
}

static int teardown(void **state)
{
	assert_true(guest_end(d));
	test_machine_fini();
	return 0;
}

/* Puts code at IP and has the exit happen there. */
static void at(const char *code, size_t len, struct vm_exit exit)
{
	v->regs.rip = IP;
	memcpy(guest_mem(d, IP), code, len);
	exit_handle(v, &exit);
}
#define AT(code, ...) at(code, sizeof(code) - 1, (struct vm_exit){ __VA_ARGS__ })

static const struct test_event *last_event(void)
{
	assert_true(t->nr_injected);
	return &t->injected[(t->nr_injected - 1) % TEST_INJECTED];
}

/* Exactly this exception, and RIP at the instruction. */
static void expect_fault(uint8_t vector, uint32_t error)
{
	const struct test_event *e = last_event();

	assert_int_equal(e->type, EVENT_EXCEPTION);
	assert_int_equal(e->vector, vector);
	assert_int_equal(e->error, error);
	assert_int_equal(v->regs.rip, IP);
	t->event_pending = false;
	t->nr_injected = 0;
}

static void test_cpuid(void **state)
{
	struct cpuid_regs want;

	policy_cpuid(v, 0x40000000, 0, &want);
	v->regs.gpr[GPR_RAX] = 0xdead00000000 | 0x40000000;
	v->regs.gpr[GPR_RBX] = ~0ULL;
	AT("\x0f\xa2", .kind = EXIT_CPUID);
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(v->regs.gpr[GPR_RAX], want.eax);
	assert_int_equal(v->regs.gpr[GPR_RBX], want.ebx);
	assert_int_equal(v->regs.gpr[GPR_RBX], 0x566e6558);
	assert_int_equal(v->regs.gpr[GPR_RCX], want.ecx);
	assert_int_equal(v->regs.gpr[GPR_RDX], want.edx);
	assert_int_equal(v->exits[EXIT_CPUID], 1);

	AT("\x66\x67\x0f\xa2", .kind = EXIT_CPUID);	/* with prefixes */
	assert_int_equal(v->regs.rip, IP + 4);
	AT("\x90\x90", .kind = EXIT_CPUID, .insn_len = 7);	/* the CPU knows better */
	assert_int_equal(v->regs.rip, IP + 7);
}

/* Another vCPU has rewritten the code: nothing is done, the guest runs it. */
static void test_code_changed(void **state)
{
	uint64_t before = v->regs.gpr[GPR_RBX] = 0x1234;

	AT("\x90\x90\x90\x90", .kind = EXIT_CPUID);
	assert_int_equal(v->regs.rip, IP);
	assert_int_equal(v->regs.gpr[GPR_RBX], before);
	AT("\x0f\x32", .kind = EXIT_CPUID);
	assert_int_equal(v->regs.rip, IP);
	/* Nothing can be read there. */
	v->regs.rip = HOLE;
	exit_handle(v, &(struct vm_exit){ .kind = EXIT_CPUID });
	assert_int_equal(v->regs.rip, HOLE);
	assert_int_equal(t->nr_injected, 0);
}

static void test_code_across_pages(void **state)
{
	v->regs.rip = 0x1fff;
	memcpy(guest_mem(d, 0x1fff), "\x0f", 1);
	memcpy(guest_mem(d, 0x2000), "\xa2", 1);
	exit_handle(v, &(struct vm_exit){ .kind = EXIT_CPUID });
	assert_int_equal(v->regs.rip, 0x2001);
	v->regs.rip = 0x1ffe;	/* two bytes before the end: too few for the quick way */
	memcpy(guest_mem(d, 0x1ffe), "\x0f\xa2", 2);
	exit_handle(v, &(struct vm_exit){ .kind = EXIT_CPUID });
	assert_int_equal(v->regs.rip, 0x2000);
	v->regs.rip = 0x1fffff;	/* RAM ends in the midst of it */
	memcpy(guest_mem(d, 0x1fffff), "\x0f", 1);
	exit_handle(v, &(struct vm_exit){ .kind = EXIT_CPUID });
	assert_int_equal(v->regs.rip, 0x1fffff);
}

static void rdmsr(uint32_t msr)
{
	v->regs.gpr[GPR_RCX] = msr | 0xabULL << 32;
	v->regs.gpr[GPR_RAX] = v->regs.gpr[GPR_RDX] = ~0ULL;
	AT("\x0f\x32", .kind = EXIT_MSR_READ);
}

static void wrmsr(uint32_t msr, uint64_t val)
{
	v->regs.gpr[GPR_RCX] = msr;
	v->regs.gpr[GPR_RAX] = (uint32_t)val | 0xcdULL << 32;
	v->regs.gpr[GPR_RDX] = (val >> 32) | 0xefULL << 32;
	AT("\x0f\x30", .kind = EXIT_MSR_WRITE);
}

static void test_msrs(void **state)
{
	rdmsr(0x1b);			/* the APIC's */
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0xfee00900);
	assert_int_equal(v->regs.gpr[GPR_RDX], 0);
	wrmsr(0x277, 0x0102030405060708);	/* the CPU's */
	assert_int_equal(t->sys.pat, 0x0102030405060708);
	rdmsr(0x277);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x05060708);
	assert_int_equal(v->regs.gpr[GPR_RDX], 0x01020304);
	rdmsr(0xfe);			/* the table's */
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x508);
	rdmsr(0x12345678);
	expect_fault(13, 0);
	wrmsr(0xfe, 0);
	expect_fault(13, 0);
	wrmsr(0x80b, 1);		/* not in x2APIC mode */
	expect_fault(13, 0);
}

static void test_hypercall(void **state)
{
	v->regs.gpr[GPR_RAX] = 17;	/* xen_version */
	v->regs.gpr[GPR_RDI] = 0;
	t->sys.seg[SEG_CS].attr = 0xa9b;
	t->sys.efer = 0x500;
	AT("\x0f\x01\xd9", .kind = EXIT_HYPERCALL);
	assert_int_equal(v->regs.rip, IP + 3);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x40011);
	v->regs.gpr[GPR_RAX] = 63;
	AT("\x0f\x01\xd9", .kind = EXIT_HYPERCALL);
	assert_int_equal((int64_t)v->regs.gpr[GPR_RAX], -XEN_ENOSYS);
	v->regs.gpr[GPR_RAX] = 17;
	AT("\x0f\x01\xc1", .kind = EXIT_HYPERCALL);	/* now it is VMCALL */
	assert_int_equal(v->regs.rip, IP);
}

static void test_hlt(void **state)
{
	v->regs.rflags = 2 | IF;
	AT("\xf4", .kind = EXIT_HLT);
	assert_int_equal(v->regs.rip, IP + 1);
	assert_true(atomic_load(&v->pause_flags) & PAUSE_BLOCKED);
	assert_false(d->shut_down);
}

static void test_hlt_for_good(void **state)
{
	AT("\xf4", .kind = EXIT_HLT);
	assert_int_equal(v->regs.rip, IP + 1);
	assert_true(atomic_load(&v->pause_flags) & PAUSE_DOWN);
	/* The other vCPU never came up: this was the last. */
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_poweroff);
}

static void test_small_ones(void **state)
{
	AT("\xf3\x90", .kind = EXIT_PAUSE);
	assert_int_equal(v->regs.rip, IP + 2);
	AT("\x0f\x09", .kind = EXIT_WBINVD);
	assert_int_equal(v->regs.rip, IP + 2);
	AT("\x0f\x08\x90\x90", .kind = EXIT_WBINVD);	/* INVD */
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(t->nr_injected, 0);
	AT("\x0f\x33", .kind = EXIT_RDPMC);
	expect_fault(13, 0);
	AT("\x0f\x01\xc8", .kind = EXIT_UNDEFINED);
	expect_fault(6, 0);
	AT("\x0f\x01\xd8", .kind = EXIT_UNDEFINED);
	expect_fault(6, 0);
	AT("\x90", .kind = EXIT_EXCEPTION, .vector = 17);
	expect_fault(17, 0);
	AT("\x90", .kind = EXIT_EXCEPTION, .vector = 1);
	expect_fault(1, 0);
	AT("\xf1", .kind = EXIT_ICEBP);
	assert_int_equal(last_event()->vector, 1);
	assert_int_equal(v->regs.rip, IP + 1);
	t->nr_injected = 0;
	AT("\x90\x90\x90\x90", .kind = EXIT_ICEBP);
	AT("\x90", .kind = EXIT_INTERRUPT);
	AT("\x90", .kind = EXIT_NMI);
	AT("\x90", .kind = EXIT_IRQ_WINDOW);
	assert_int_equal(v->regs.rip, IP);
	assert_int_equal(t->nr_injected, 0);
}

static void xsetbv(uint64_t xcr0, uint32_t index)
{
	v->regs.gpr[GPR_RAX] = (uint32_t)xcr0;
	v->regs.gpr[GPR_RDX] = xcr0 >> 32;
	v->regs.gpr[GPR_RCX] = index;
	AT("\x0f\x01\xd1", .kind = EXIT_XSETBV);
}

static void test_xsetbv(void **state)
{
	static const uint64_t bad[] = { 0, 6, 5, 1ULL << 63 | 1, 0x18 | 1, 0x27, 0x63 };

	assert_int_equal(d->policy->xcr0_mask, 7);
	xsetbv(7, 0);
	assert_int_equal(v->regs.rip, IP + 3);
	assert_int_equal(v->msr.xcr0, 7);
	assert_int_equal(insn_xgetbv(0), 7);
	xsetbv(3, 0);
	assert_int_equal(insn_xgetbv(0), 3);
	d->policy->xcr0_mask = 0xe7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		xsetbv(bad[i], 0);
		expect_fault(13, 0);
	}
	xsetbv(0xe7, 0);
	assert_int_equal(v->msr.xcr0, 0xe7);
	xsetbv(3, 1);
	expect_fault(13, 0);
	t->sys.cpl = 3;
	xsetbv(3, 0);
	expect_fault(13, 0);
	assert_int_equal(v->msr.xcr0, 0xe7);
}

static void test_ports(void **state)
{
	struct vm_exit io = { .kind = EXIT_IO, .insn_len = 1, .io = { .port = 0x60, .in = true } };
	static const uint64_t want[] = { 0x11223344556677ff, 0x112233445566ffff, 0xffffffff };

	for (unsigned int i = 0; i < 3; i++) {
		v->regs.rip = IP;
		v->regs.gpr[GPR_RAX] = 0x1122334455667788;
		io.io.size = (uint8_t)(1 << i);
		exit_handle(v, &io);
		assert_int_equal(v->regs.gpr[GPR_RAX], want[i]);
		assert_int_equal(v->regs.rip, IP + 1);
	}
	assert_int_equal(console_attach(d, GFN(16)), 0);
	io.io = (__typeof__(io.io)){ .port = 0xe9, .size = 1 };
	for (const char *p = "port e9\n"; *p; p++) {
		v->regs.gpr[GPR_RAX] = (uint8_t)*p;
		exit_handle(v, &io);
	}
	assert_non_null(strstr(test_console_output(), "port e9"));
	io.io.port = 0xe8;
	v->regs.gpr[GPR_RAX] = 'X';
	test_console_clear();
	exit_handle(v, &io);
	assert_string_equal(test_console_output(), "");
}

static void test_string_ports(void **state)
{
	struct vm_exit io = { .kind = EXIT_IO, .insn_len = 2,
			      .io = { .port = 0x60, .size = 1, .in = true, .string = true } };
	uint8_t *mem = guest_mem(d, 0x8000);

	memset(mem, 0, 400);
	v->regs.gpr[GPR_RCX] = 200;
	v->regs.gpr[GPR_RDI] = 0x8000;
	at("\xf3\x6c", 2, io);
	assert_int_equal(v->regs.rip, IP);	/* a bounded piece */
	assert_in_range(v->regs.gpr[GPR_RCX], 1, 199);
	at("\xf3\x6c", 2, io);
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(v->regs.gpr[GPR_RCX], 0);
	assert_int_equal(mem[0], 0xff);
	assert_int_equal(mem[199], 0xff);
	assert_int_equal(mem[200], 0);
	at("\x90\x90", 2, io);		/* something else now */
	assert_int_equal(v->regs.rip, IP);
	v->regs.gpr[GPR_RCX] = 1;
	at("\xf3\x6d", 2, io);		/* wider than what the CPU allowed */
	assert_int_equal(v->regs.rip, IP);
	at("\xf3\x6e", 2, io);		/* the other direction */
	assert_int_equal(v->regs.rip, IP);
	assert_int_equal(v->regs.gpr[GPR_RCX], 1);
	assert_int_equal(t->nr_injected, 0);
	/* OUTS to the debug port. */
	assert_int_equal(console_attach(d, GFN(16)), 0);
	memcpy(mem, "outs\n", 5);
	v->regs.gpr[GPR_RCX] = 5;
	v->regs.gpr[GPR_RSI] = 0x8000;
	v->regs.gpr[GPR_RDX] = 0xe9;
	io.io = (__typeof__(io.io)){ .port = 0xe9, .size = 1, .string = true };
	at("\xf3\x6e", 2, io);
	assert_non_null(strstr(test_console_output(), "outs"));
}

#define NPF(code, addr, ...) AT(code, .kind = EXIT_NPF, .npf = { .gpa = addr, __VA_ARGS__ })

static void test_hole(void **state)
{
	v->regs.gpr[GPR_RBX] = HOLE + 0x10;
	v->regs.gpr[GPR_RAX] = 0;
	NPF("\x8b\x03", HOLE + 0x10);			/* mov (%ebx), %eax */
	assert_int_equal(v->regs.gpr[GPR_RAX], 0xffffffff);
	assert_int_equal(v->regs.rip, IP + 2);
	NPF("\x89\x03", HOLE + 0x10, .write = true);	/* mov %eax, (%ebx) */
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(t->nr_injected, 0);
	NPF("\x0f\x11\x03", HOLE + 0x10, .write = true);	/* movups: not emulated */
	expect_fault(6, 0);
	NPF("\xd6", HOLE);				/* no instruction at all */
	expect_fault(6, 0);
	NPF("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x8b\x03", HOLE);
	expect_fault(13, 0);			/* too long */
	NPF("\x90", HOLE, .exec = true);
	expect_fault(6, 0);
	/* The CPU gives the bytes itself. */
	v->regs.rip = IP;
	exit_handle(v, &(struct vm_exit){ .kind = EXIT_NPF, .npf = {
		.gpa = HOLE, .insn = (const uint8_t *)"\x8b\x0b\x90\x90\x90\x90\x90\x90\x90\x90"
				     "\x90\x90\x90\x90\x90" } });
	assert_int_equal(v->regs.gpr[GPR_RCX], 0xffffffff);
}

/* What cannot have faulted was written there since: it runs. */
static void test_hole_code_changed(void **state)
{
	static const char codes[][5] = {
		"\x0f\xa2", "\xf4", "\x0f\x01\xd9", "\x0f\x22\xc0", "\x6c", "\x6e", "\xf3\x6f" };

	assert_int_equal(console_attach(d, GFN(16)), 0);
	v->regs.gpr[GPR_RCX] = 1;
	v->regs.gpr[GPR_RSI] = v->regs.gpr[GPR_RDI] = 0x8000;
	v->regs.gpr[GPR_RDX] = 0xe9;
	memcpy(guest_mem(d, 0x8000), "\n", 1);
	test_console_clear();
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		at(codes[i], sizeof(codes[i]), (struct vm_exit){
			.kind = EXIT_NPF, .npf = { .gpa = HOLE } });
		assert_int_equal(v->regs.rip, IP);
		assert_int_equal(v->regs.gpr[GPR_RCX], 1);
		assert_int_equal(t->nr_injected, 0);
	}
	assert_string_equal(test_console_output(), "");
}

static void test_mapped_meanwhile(void **state)
{
	v->regs.gpr[GPR_RBX] = 0x8000;
	NPF("\x8b\x03", 0x8000);
	NPF("\x89\x03", 0x8000, .write = true);
	assert_int_equal(v->regs.rip, IP);
	assert_int_equal(t->nr_injected, 0);
}

static void test_read_only(void **state)
{
	struct p2m_entry e;

	write_lock(&d->p2m.lock);
	e = p2m_get(&d->p2m, GFN(8));
	assert_int_equal(p2m_set(d, GFN(8), 0, e.mfn, P2M_RAM_RO), 0);
	write_unlock(&d->p2m.lock);
	memcpy(guest_mem(d, 0x8000), "\x44\x33\x22\x11", 4);
	v->regs.gpr[GPR_RBX] = 0x8000;
	v->regs.gpr[GPR_RAX] = 1;
	NPF("\x0f\xc1\x03", 0x8000, .write = true);	/* xadd: reads, its write is dropped */
	assert_int_equal(v->regs.rip, IP + 3);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x11223344);
	assert_memory_equal(guest_mem(d, 0x8000), "\x44\x33\x22\x11", 4);
	NPF("\x8b\x03", 0x8000);	/* reads need no help */
	assert_int_equal(v->regs.rip, IP);
}

/* What is shared cannot be executed, which would go on for ever. */
static void test_shared_code(void **state)
{
	guest_map_grants(d, 600, 1);
	NPF("\x90", 600 << PAGE_SHIFT, .exec = true);
	expect_fault(6, 0);
	NPF("\x90", 600 << PAGE_SHIFT);
	assert_int_equal(t->nr_injected, 0);
}

static void test_apic_page(void **state)
{
	v->regs.gpr[GPR_RBX] = APIC + 0x80;		/* TPR */
	v->regs.gpr[GPR_RAX] = 0x35;
	NPF("\x89\x03", APIC + 0x80, .write = true);
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x35);
	v->regs.gpr[GPR_RAX] = 0;
	NPF("\x8b\x03", APIC + 0x80);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x35);
	NPF("\x88\x03", APIC + 0x80, .write = true);	/* a byte: ignored */
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x35);
	v->regs.gpr[GPR_RBX] = APIC + 0x32;		/* the version, from its third byte */
	v->regs.gpr[GPR_RAX] = 0;
	NPF("\x8a\x03", APIC + 0x32);
	assert_int_equal(v->regs.gpr[GPR_RAX], 5);
}

/* 32-bit paging: one table maps the first 4 MiB, but for what the test takes away. */
#define PD 0x10000u
#define PT 0x11000u

static uint32_t *paging(void)
{
	uint32_t *pd = guest_mem(d, PD), *pt = guest_mem(d, PT);

	memset(pd, 0, 4096);
	pd[0] = PT | 7;
	for (uint32_t i = 0; i < 1024; i++)
		pt[i] = i << 12 | 7;
	t->sys.cr3 = PD;
	t->sys.cr0 |= 0x80010000;
	return pt;
}

static void test_page_faults(void **state)
{
	uint32_t *pt = paging();
	uint8_t *mem = guest_mem(d, 0x8000);

	pt[0x100] = HOLE | 7;			/* linear 0x100000 is a hole */
	pt[0x101] = 0;
	memset(mem, 0x5a, 8);
	v->regs.gpr[GPR_RBX] = 0x100ffe;	/* four bytes, the last two not present */
	NPF("\x89\x03", HOLE + 0xffe, .write = true);
	expect_fault(14, 2);
	assert_int_equal(t->injected[0].extra, 0x101000);
	t->sys.cpl = 3;
	NPF("\x8b\x03", HOLE + 0xffe);
	expect_fault(14, 4);
	t->sys.cpl = 0;
	/* Backed by RAM now: the access falls into hole and RAM, and each gets its part. */
	pt[0x101] = 0x8000 | 7;
	v->regs.gpr[GPR_RAX] = 0;
	NPF("\x8b\x03", HOLE + 0xffe);
	assert_int_equal(v->regs.gpr[GPR_RAX], 0x5a5affff);
	v->regs.gpr[GPR_RAX] = 0x01020304;
	NPF("\x89\x03", HOLE + 0xffe, .write = true);
	assert_memory_equal(mem, "\x02\x01\x5a", 3);
	/* movsb from the hole to RAM */
	v->regs.gpr[GPR_RSI] = 0x100000;
	v->regs.gpr[GPR_RDI] = 0x8004;
	NPF("\xa4", HOLE);
	assert_int_equal(mem[4], 0xff);
	assert_int_equal(v->regs.gpr[GPR_RDI], 0x8005);
	/* The page of code went away from the page tables: the CPU will say so itself. */
	pt[IP >> 12] = 0;
	NPF("\xa4", HOLE);
	assert_int_equal(v->regs.rip, IP);
	assert_int_equal(t->nr_injected, 0);
}

/* The CPU was delivering an event when it came to the hole: that fails for good. */
static void test_fault_in_delivery(void **state)
{
	t->event_pending = true;
	v->regs.gpr[GPR_RBX] = HOLE;
	NPF("\x8b\x03", HOLE);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
	assert_int_equal(v->regs.rip, IP);
}

static void test_triple_fault(void **state)
{
	AT("\x90", .kind = EXIT_SHUTDOWN);
	assert_true(d->shut_down);
	assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
}

static void test_crash(void **state)
{
	AT("\x90", .kind = EXIT_UNKNOWN, .raw = 0x77);
	assert_true(d->shut_down || domain_is_dying(d));
	assert_false(vcpu_runnable(v));
	assert_non_null(strstr(test_console_output(), "0x77"));
}

static void test_single_step(void **state)
{
	v->regs.rflags = 2 | TF;
	AT("\x0f\xa2", .kind = EXIT_CPUID);
	assert_int_equal(v->regs.rip, IP + 2);
	assert_int_equal(last_event()->vector, 1);
	assert_int_equal(last_event()->type, EVENT_EXCEPTION);
	assert_int_equal(last_event()->extra, 0x4000);
	t->nr_injected = 0;
	t->event_pending = false;
	v->regs.gpr[GPR_RBX] = HOLE;
	v->regs.rflags = 2 | TF;
	NPF("\x8b\x03", HOLE);
	assert_int_equal(last_event()->vector, 1);
	t->nr_injected = 0;
	t->event_pending = false;
	rdmsr(0x12345678);		/* faults do not trap */
	expect_fault(13, 0);
}

/* --- Before entry ------------------------------------------------------- */

static void enable_apic(void)
{
	assert_true(vlapic_write(v, 0xf0, 0x1ff));
}

static void test_prepare_interrupt(void **state)
{
	enable_apic();
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	assert_int_equal(t->irq_window, 0);
	vlapic_request(v, 0x51);
	vlapic_request(v, 0x62);
	t->can_interrupt = false;
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	assert_int_equal(t->irq_window, 6);
	t->can_interrupt = true;
	exit_prepare(v);
	assert_int_equal(last_event()->type, EVENT_INTR);
	assert_int_equal(last_event()->vector, 0x62);
	assert_int_equal(t->nr_injected, 1);
	/* The other waits for the EOI, which exits: no window. */
	t->irq_window = 0;
	t->event_pending = false;
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 1);
	assert_int_equal(t->irq_window, 0);
	assert_true(vlapic_write(v, 0xb0, 0));
	exit_prepare(v);
	assert_int_equal(last_event()->vector, 0x51);
}

/* An interrupt that the shadow of an STI holds back ends the HLT there; no other instruction. */
static void test_prepare_behind_sti(void **state)
{
	enable_apic();
	vlapic_request(v, 0x51);
	t->can_interrupt = false;
	for (unsigned int i = 0; i < 4; i++) {
		at(i == 1 ? "\x90" : "\xf4", 1, (struct vm_exit){ .kind = EXIT_INTERRUPT });
		v->regs.rflags = i == 2 ? 2 : 2 | RFLAGS_IF;
		t->event_pending = i == 3;
		t->irq_window = 0;
		exit_prepare(v);
		assert_int_equal(v->regs.rip, i ? IP : IP + 1);
		assert_int_equal(t->nr_injected, 0);
		assert_int_equal(t->irq_window, 5);
	}
}

/* CR8 is lowered without an exit: a window of that priority says when. */
static void test_prepare_held_by_tpr(void **state)
{
	enable_apic();
	vlapic_set_cr8(v, 7);
	vlapic_request(v, 0x62);
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	assert_int_equal(t->irq_window, 6);
	vlapic_set_cr8(v, 5);
	exit_prepare(v);
	assert_int_equal(last_event()->vector, 0x62);
}

static void test_cr8_write(void **state)
{
	t->sys.seg[SEG_CS].attr = 0xa9b;
	t->sys.efer = 0x500;
	v->regs.gpr[GPR_RBX] = 5;
	AT("\x44\x0f\x22\xc3", .kind = EXIT_CR8_WRITE);	/* mov %rbx, %cr8 */
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x50);
	assert_int_equal(v->regs.rip, IP + 4);
	v->regs.gpr[GPR_R9] = 16;
	AT("\x45\x0f\x22\xc1", .kind = EXIT_CR8_WRITE);
	expect_fault(13, 0);
	AT("\x0f\x22\xc3", .kind = EXIT_CR8_WRITE);		/* CR0 now */
	assert_int_equal(v->regs.rip, IP);
	t->sys.efer = 0;
	t->sys.seg[SEG_CS].attr = 0xc9b;
	v->regs.gpr[GPR_RBX] = 0xff00000003;
	AT("\xf0\x0f\x22\xc3", .kind = EXIT_CR8_WRITE);
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x30);
	assert_int_equal(t->nr_injected, 0);
}

/* An upcall past the local APIC: as long as it is pending, whatever the TPR says. */
static void test_prepare_callback(void **state)
{
	enable_apic();
	vlapic_set_cr8(v, 8);
	vlapic_request(v, 0x62);
	atomic_store(&v->callback_vector, 0x30);
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	v->info->evtchn_upcall_pending = 1;
	t->can_interrupt = false;
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	assert_int_equal(t->irq_window, 15);
	t->can_interrupt = true;
	for (unsigned int i = 1; i <= 2; i++) {
		exit_prepare(v);
		assert_int_equal(last_event()->type, EVENT_INTR);
		assert_int_equal(last_event()->vector, 0x30);
		assert_int_equal(t->nr_injected, i);
		assert_int_equal(atomic_load(&v->lapic.isr[0]), 0);	/* no EOI needed */
		t->event_pending = false;
	}
	v->info->evtchn_upcall_pending = 0;
	vlapic_set_cr8(v, 0);
	exit_prepare(v);
	assert_int_equal(last_event()->vector, 0x62);
}

static void test_prepare_nmi(void **state)
{
	enable_apic();
	atomic_store(&v->nmi_pending, true);
	t->can_nmi = false;
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 0);
	assert_true(atomic_load(&v->nmi_pending));
	assert_int_equal(t->irq_window, PRIO_NMI);
	t->can_nmi = true;
	vlapic_request(v, 0x51);
	t->can_interrupt = false;	/* as after an injection */
	exit_prepare(v);
	assert_int_equal(t->nr_injected, 1);
	assert_int_equal(last_event()->type, EVENT_NMI);
	assert_int_equal(last_event()->vector, 2);
	assert_false(atomic_load(&v->nmi_pending));
	assert_int_equal(t->irq_window, 5);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_cpuid), T(test_code_changed), T(test_code_across_pages), T(test_msrs),
		T(test_hypercall), T(test_hlt), T(test_hlt_for_good), T(test_small_ones),
		T(test_xsetbv), T(test_ports), T(test_string_ports), T(test_hole),
		T(test_hole_code_changed), T(test_mapped_meanwhile), T(test_read_only),
		T(test_shared_code), T(test_apic_page), T(test_page_faults),
		T(test_fault_in_delivery), T(test_triple_fault), T(test_crash),
		T(test_single_step), T(test_prepare_interrupt), T(test_prepare_behind_sti),
		T(test_prepare_held_by_tpr),
		T(test_cr8_write), T(test_prepare_callback), T(test_prepare_nmi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
