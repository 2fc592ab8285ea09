/* SPDX-License-Identifier: MIT */
/* limit=120 args=count=20000 Random hypercalls, MSRs, ports, holes, instructions, from a seed. */
#include "guest.h"

#ifdef WILD
const char guest_name[] = "wild";
static const bool wild = true;
#else
const char guest_name[] = "hostile";
static const bool wild = false;
#endif

static u64 seed;
static u8 scratch[16 * PAGE_SIZE] __attribute__((aligned(4096)));

static u64 any(void)
{
	return random_next(&seed);
}

/*
 * A number that is often small, often at an edge, sometimes an address or a frame. As either it
 * must not hit the frames of our own code and data, which begin at 0x100, or we harm ourselves.
 */
static u64 interesting(void)
{
	u64 r = any();

	if (wild && (r >> 60) < 4)
		return (r >> 60) < 2 ? 1ul << (r & 63) : r & 0xffff;
	switch (r & 7) {
	case 0: return r >> 3 & 0xf;
	case 1: return r >> 3 & 0xff;
	case 2: return DOMID_SELF;
	case 3: return PTR(scratch) + (r >> 8 & 0x7fff);
	case 4: return 1ul << (21 + (r >> 8) % 43);
	case 5: return ~0ul << (r >> 8 & 63);
	case 6: return gfn_of(scratch) + (r >> 8 & 15);
	default: return r;
	}
}

static void fill(void)
{
	u64 *p = (u64 *)(void *)scratch;

	for (unsigned int i = 0; i < 64; i++)
		p[i] = interesting();
}

/* Calls that would end or stop us are not what this is about. */
static bool deadly(unsigned int nr, u64 cmd)
{
	u32 low = (u32)cmd;

	if (wild)		/* suspended it would stay for ever */
		return nr == __HYPERVISOR_sched_op &&
		       (low == SCHEDOP_shutdown || low == SCHEDOP_watchdog ||
			low == SCHEDOP_shutdown_code);
	if (nr == __HYPERVISOR_sched_op)
		return low == SCHEDOP_shutdown || low == SCHEDOP_block || low == SCHEDOP_poll ||
		       low == SCHEDOP_watchdog || low == SCHEDOP_shutdown_code;
	if (nr == __HYPERVISOR_vcpu_op)
		return low == VCPUOP_down || low == VCPUOP_send_nmi || low == VCPUOP_initialise ||
		       low == VCPUOP_up;
	/* Random moves of memory would hit our own code. */
	if (nr == __HYPERVISOR_memory_op)
		return (low & 63) == XENMEM_decrease_reservation ||
		       (low & 63) == XENMEM_add_to_physmap ||
		       (low & 63) == XENMEM_add_to_physmap_batch ||
		       (low & 63) == XENMEM_remove_from_physmap ||
		       (low & 63) == XENMEM_exchange;
	return nr == __HYPERVISOR_multicall;
}

/* Those write where their arguments say: only ever into our scratch pages. */
static void one_hypercall(void)
{
	unsigned int nr = any() & 1 ? (unsigned int)(any() % 64) :
		(unsigned int[]){ 12, 17, 20, 21, 24, 29, 32, 34 }[any() % 8];
	u64 cmd = any() & 3 ? any() % 32 : interesting();
	u64 p = PTR(scratch) + (any() & 0xff8), q = any() & 1 ? any() % 4 : interesting();

	if (deadly(nr, cmd))
		return;
	if (any() % 8 == 0)
		p = PTR(BAD_PTR) + (any() & 0xfff);
	if (nr == __HYPERVISOR_grant_table_op)
		q = any() % 32;
	for (unsigned int i = 0; i < 8; i++)
		((u64 *)(void *)scratch)[any() % 512] = interesting();
	if (nr == __HYPERVISOR_vcpu_op)
		hypercall(nr, cmd, q, p, interesting(), 0);
	else
		hypercall(nr, cmd, p, q, interesting(), 0);
}

static void one_msr(void)
{
	static const u32 bases[] = { 0,		 0x10,	     0x174,	0x1a0,	    0x200,
				     0x250,	 0x277,	     0x2ff,	0x400,	    0x6e0,
				     0x810,	 0x820,	     0x840,	0xc0000080, 0xc0010000,
				     0xc0010110, 0xc0011000, 0x40000000 };
	u32 msr = bases[any() % ARRAY_SIZE(bases)] + (any() & 0xf);
	u64 value;

	if (any() % 4 == 0)
		msr = (u32)any();
	/* Not: our own segments, system call entries, APIC switch, IPIs, the mode we run in. */
	rdmsr_safe(msr, &value);
	if ((msr >= 0xc0000080 && msr <= 0xc0000102) || msr == MSR_APIC_BASE ||
	    (msr >= 0x800 && msr < 0x900) || msr == 0x40000000)
		return;
	wrmsr_safe(msr, any() & 1 ? value ^ 1ul << (any() & 63) : interesting());
}

static void one_port(void)
{
	u16 port = (u16)any();

	if (port == 0xe9 || port == 0xf4)
		return;
	switch (any() % 4) {
	case 0: inb(port); break;
	case 1: inw(port); break;
	case 2: inl(port); break;
	default: outb(port, (u8)any()); break;
	}
}

static void touch(void *arg)
{
	volatile u64 *p = arg;

	if (PTR(p) & 8)
		*p = any();
	else
		(void)*p;
}

static void one_hole(void)
{
	guarded_call(touch, (void *)(uintptr_t)((0xd0000000 + (any() & 0xffffff8))));
}

/* Instructions that exit, with prefixes of chance. Whatever faults is ours to take. */
static void one_instruction(void)
{
	static const u8 codes[][4] = {
		{ 0x0f, 0xa2 },
		{ 0x0f, 0x32 },
		{ 0x0f, 0x33 },
		{ 0x0f, 0x31 },
		{ 0x0f, 0x01, 0xf9 },
		{ 0x0f, 0x08 },
		{ 0x0f, 0x09 },
		{ 0x0f, 0x01, 0xd8 },
		{ 0x0f, 0x01, 0xda },
		{ 0x0f, 0x01, 0xdb },
		{ 0x0f, 0x01, 0xdc },
		{ 0x0f, 0x01, 0xdd },
		{ 0x0f, 0x01, 0xde },
		{ 0x0f, 0x01, 0xdf },
		{ 0x0f, 0x01, 0xc8 },
		{ 0x0f, 0x01, 0xc9 },
		{ 0x0f, 0x01, 0xd1 },
		{ 0x0f, 0xaa },
		{ 0x0f, 0x01, 0xfd },
		{ 0xf3, 0x90 },
		{ 0x0f, 0x01, 0xc1 },
		{ 0xcc },
		{ 0xf1 },
		{ 0x0f, 0x20, 0xc0 },
		{ 0x0f, 0x01, 0xe0 },
		{ 0xec },
		{ 0xed },
		{ 0x0f, 0x0b },
	};
	static const u8 prefixes[] = { 0x66, 0x67, 0x2e, 0x3e, 0xf2, 0xf3, 0x40, 0x48, 0x41, 0x64 };
	const u8 *code = codes[any() % ARRAY_SIZE(codes)];
	u64 regs[4] = { interesting(), any() & 0xffff, interesting(), interesting() };
	u8 bytes[16];
	size_t n = 0;

	while (n < 8 && any() % 3 == 0)
		bytes[n++] = prefixes[any() % ARRAY_SIZE(prefixes)];
	for (unsigned int i = 0; i < 3 && (i == 0 || code[i]); i++)
		bytes[n++] = code[i];
	if (code[0] == 0xec || code[0] == 0xed)
		regs[2] = 0x1000;
	if (regs[0] == __HYPERVISOR_sched_op || regs[0] == __HYPERVISOR_memory_op ||
	    regs[0] == __HYPERVISOR_vcpu_op)
		regs[0] = 63;
	probe_code(bytes, n, regs);
}

static void ignore(struct regs *r)
{
	(void)r;
}

static void for_ever(void *arg)
{
	(void)arg;
	for (;;)
		one_hypercall();
}

/* No restraint: it will fall over its own feet, and the watchdog buries it. */
static void go_wild(void)
{
	struct sched_watchdog dog = { .id = 0, .timeout = 4 };

	CHECK(sched_op(SCHEDOP_watchdog, &dog) > 0);
	print("PASS %s\n", guest_name);
	if (smp_count() > 1 && smp_start(1))
		smp_run(1, for_ever, NULL);
	for_ever(NULL);
}

void guest_main(void)
{
	static void (*const what[])(void) = {
		one_hypercall, one_msr, one_port, one_hole, one_instruction,
	};
	u64 count = arg_number("count", 20000);
	bool hypercalls_only = arg_is("only", "hypercalls");

	if (!on_xen)
		skip("no hypervisor");
	/* seed=0: another one each time. */
	seed = arg_number("seed", 1);
	seed = (seed ? seed : rdtsc()) * 0x9e3779b97f4a7c15 | 1;
	apic_init();
	for (unsigned int vector = 32; vector < 256; vector++)
		if (vector != USER_RETURN_VECTOR)
			trap_handlers[vector] = ignore;
	trap_handlers[TRAP_NMI] = ignore;
	fill();
	if (wild)
		go_wild();
	for (u64 i = 0; i < count; i++)
		what[hypercalls_only ? 0 : any() % ARRAY_SIZE(what)]();
	print("NOTE %s: %lu attempts\n", guest_name, (unsigned long)count);
}
