/* SPDX-License-Identifier: MIT */
/*
 * Runtime of the tiny guests: start of a vCPU, traps, console output, checks and the end.
 */
#include "guest.h"

#include <stdarg.h>

struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1, ist[7], reserved2;
	u16 reserved3, iomap;
} __attribute__((packed));

struct gate {
	u16 offset0, selector;
	u8 ist, type;
	u16 offset1;
	u32 offset2, reserved;
};

struct pseudo_desc {
	u16 limit;
	u64 base;
} __attribute__((packed));

extern u64 gdt[];
extern char trap_stubs[], guarded_return[];
extern u64 start_info_pa;

struct cpu cpus[MAX_CPUS];
trap_handler trap_handlers[256];
struct hvm_start_info *start_info;
bool manual_eoi;
bool on_xen;

static struct gate idt[256] __attribute__((aligned(16)));
static struct tss tss[MAX_CPUS];
static u8 trap_stack[MAX_CPUS][0x4000] __attribute__((aligned(16)));
static u8 probe_buffer[64] __attribute__((aligned(64)));
static unsigned int failures;
static int print_lock;
static bool to_debug_port = true, to_ring;
static struct xencons_interface *ring;
static u32 ring_port;

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) :: "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *p = a, *q = b;

	for (; n; n--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* ---- console ---- */

static void ring_write(const char *s, size_t n)
{
	for (; n; n--, s++) {
		while (READ_ONCE(ring->out_prod) - READ_ONCE(ring->out_cons) >= sizeof(ring->out))
			sched_op(SCHEDOP_yield, NULL);
		ring->out[ring->out_prod % sizeof(ring->out)] = *s;
		barrier();
		WRITE_ONCE(ring->out_prod, ring->out_prod + 1);
	}
	evtchn_send(ring_port);
}

static void console_write(const char *s, size_t n)
{
	while (__atomic_exchange_n(&print_lock, 1, __ATOMIC_ACQUIRE))
		pause();
	if (to_ring)
		ring_write(s, n);
	if (to_debug_port)
		for (size_t i = 0; i < n; i++)
			outb(0xe9, (u8)s[i]);
	__atomic_store_n(&print_lock, 0, __ATOMIC_RELEASE);
}

struct out {
	char text[256];
	size_t len;
};

static void put(struct out *o, char c)
{
	if (o->len < sizeof(o->text))
		o->text[o->len++] = c;
}

static void put_number(struct out *o, u64 v, unsigned int base, int width, char fill)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	for (; width > n; width--)
		put(o, fill);
	while (n)
		put(o, digits[--n]);
}

static void put_arg(struct out *o, char kind, bool wide, int width, char fill, va_list *ap)
{
	u64 v = wide ? va_arg(*ap, u64) : va_arg(*ap, u32);

	if (kind == 'd') {
		s64 s = wide ? (s64)v : (s64)(int)v;

		if (s < 0)
			put(o, '-');
		put_number(o, s < 0 ? -(u64)s : (u64)s, 10, width, fill);
	} else {
		put_number(o, v, kind == 'u' ? 10 : 16, width, fill);
	}
}

static void format(struct out *o, const char *f, va_list *ap)
{
	for (; *f; f++) {
		bool wide = false, alternate = false;
		char fill = ' ';
		int width = 0;

		if (*f != '%') {
			put(o, *f);
			continue;
		}
		for (f++; *f == '#' || *f == '0'; f++) {
			alternate |= *f == '#';
			fill = *f == '0' ? '0' : fill;
		}
		for (; *f >= '0' && *f <= '9'; f++)
			width = width * 10 + *f - '0';
		for (; *f == 'l' || *f == 'z'; f++)
			wide = true;
		if (*f == 's') {
			for (const char *s = va_arg(*ap, const char *); *s; s++)
				put(o, *s);
		} else if (*f == 'c') {
			put(o, (char)va_arg(*ap, int));
		} else if (*f == '%') {
			put(o, '%');
		} else {
			if (alternate || *f == 'p') {
				put(o, '0');
				put(o, 'x');
			}
			put_arg(o, *f, wide || *f == 'p', width, fill, ap);
		}
	}
}

void print(const char *fmt, ...)
{
	struct out o = { .len = 0 };
	va_list ap;

	va_start(ap, fmt);
	format(&o, fmt, &ap);
	va_end(ap);
	console_write(o.text, o.len);
}

void fail(const char *file, int line, const char *fmt, ...)
{
	struct out o = { .len = 0 };
	va_list ap;

	if (__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED) >= 20)
		return;
	va_start(ap, fmt);
	format(&o, fmt, &ap);
	va_end(ap);
	put(&o, 0);
	o.text[sizeof(o.text) - 1] = 0;
	for (const char *p = file; *p; p++)
		if (*p == '/')
			file = p + 1;
	print("FAIL %s: %s:%d: %s\n", guest_name, file, line, o.text);
}

void shutdown(unsigned int reason)
{
	struct sched_shutdown arg = { .reason = reason };

	irq_off();
	if (on_xen)
		sched_op(SCHEDOP_shutdown, &arg);
	for (;;) {
		outb(0xf4, (u8)reason);		/* QEMU's debug exit, when there is no hypervisor */
		__asm__ volatile("hlt");
	}
}

void finish(void)
{
	if (!failures)
		print("PASS %s\n", guest_name);
	print("DONE %s\n", guest_name);
	shutdown(SHUTDOWN_poweroff);
}

void skip(const char *why)
{
	print("SKIP %s: %s\nDONE %s\n", guest_name, why, guest_name);
	shutdown(SHUTDOWN_poweroff);
}

/* ---- arguments ---- */

static const char *arg_find(const char *name)
{
	const char *p = start_info->cmdline_paddr ? gfn_ptr(0) + start_info->cmdline_paddr : "";
	size_t n = strlen(name);

	while (*p) {
		while (*p == ' ')
			p++;
		if (!memcmp(p, name, n) && p[n] == '=')
			return p + n + 1;
		while (*p && *p != ' ')
			p++;
	}
	return NULL;
}

u64 arg_number(const char *name, u64 otherwise)
{
	const char *p = arg_find(name);
	u64 v = 0;

	if (!p)
		return otherwise;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (u64)(*p - '0');
	return v;
}

bool arg_is(const char *name, const char *value)
{
	const char *p = arg_find(name);
	size_t n = strlen(value);

	return p && !memcmp(p, value, n) && (p[n] == ' ' || !p[n]);
}

bool on_peer(void)
{
	return arg_number("peer", 0);
}

/* ---- traps ---- */

static void resume_guarded(struct regs *r, int vector)
{
	r->rax = (u64)(s64)vector;
	r->rip = PTR(guarded_return);
	r->rsp = this_cpu()->recover;
	r->cs = SEL_CODE;
	r->ss = SEL_DATA;
	r->rflags = 2;
}

static void trap_fatal(struct regs *r)
{
	fail("trap", (int)r->vector, "cpu %u rip %#lx error %#lx cr2 %#lx rsp %#lx", this_cpu()->id,
	     r->rip, r->error, this_cpu()->cr2, r->rsp);
	print("  rax %#lx rcx %#lx rdx %#lx rbx %#lx rsi %#lx rdi %#lx rflags %#lx\n",
	      r->rax, r->rcx,
	      r->rdx, r->rbx, r->rsi, r->rdi, r->rflags);
	print("DONE %s\n", guest_name);
	shutdown(SHUTDOWN_crash);
}

void runtime_trap(struct regs *r)
{
	struct cpu *c = this_cpu();
	unsigned int vector = (unsigned int)r->vector & 0xff;

	c->irqs[vector]++;
	if (vector == UPCALL_VECTOR)
		events_scan();
	if (trap_handlers[vector]) {
		trap_handlers[vector](r);
	} else if (vector < 32) {
		__asm__ volatile("mov %%cr2, %0" : "=r"(c->cr2));
		c->trap = *r;
		if (!c->recover)
			trap_fatal(r);
		resume_guarded(r, (int)vector);
	} else if (vector == USER_RETURN_VECTOR) {
		resume_guarded(r, NO_TRAP);
	}
	if (vector >= 32 && vector != USER_RETURN_VECTOR && vector != 0xff && !manual_eoi)
		apic_write(APIC_EOI, 0);
}

struct msr_access {
	u32 msr;
	u64 value;
};

static void do_rdmsr(void *arg)
{
	struct msr_access *a = arg;

	a->value = rdmsr(a->msr);
}

static void do_wrmsr(void *arg)
{
	struct msr_access *a = arg;

	wrmsr(a->msr, a->value);
}

int rdmsr_safe(u32 msr, u64 *value)
{
	struct msr_access a = { .msr = msr };
	int rc = guarded_call(do_rdmsr, &a);

	*value = a.value;
	return rc;
}

int wrmsr_safe(u32 msr, u64 value)
{
	struct msr_access a = { .msr = msr, .value = value };

	return guarded_call(do_wrmsr, &a);
}

static void do_probe(void *arg)
{
	u64 *r = arg;

	__asm__ volatile("call *%4"
			 : "+a"(r[0]), "+c"(r[1]), "+d"(r[2]), "+b"(r[3])
			 : "r"(probe_buffer)
			 : "memory", "cc", "rsi", "rdi", "r8", "r9", "r10", "r11");
}

int probe_code(const void *code, size_t len, u64 regs[4])
{
	memset(probe_buffer, 0xcc, sizeof(probe_buffer));
	memcpy(probe_buffer, code, len);
	probe_buffer[len] = 0xc3;
	return guarded_call(do_probe, regs);
}

/* ---- start ---- */

static void idt_fill(void)
{
	for (unsigned int v = 0; v < 256; v++) {
		u64 stub = PTR(trap_stubs) + 16 * v;

		idt[v] = (struct gate){
			.offset0 = (u16)stub, .offset1 = (u16)(stub >> 16),
			.selector = SEL_CODE, .type = v == USER_RETURN_VECTOR ? 0xee : 0x8e,
		};
	}
}

void cpu_tables_load(unsigned int cpu)
{
	struct pseudo_desc d = { sizeof(idt) - 1, PTR(idt) };
	u64 base = PTR(&tss[cpu]);
	u64 *desc = &gdt[SEL_TSS / 8 + 2 * cpu];

	cpus[cpu].self = &cpus[cpu];
	cpus[cpu].id = cpu;
	tss[cpu].rsp[0] = PTR(trap_stack[cpu] + sizeof(trap_stack[cpu]));
	tss[cpu].iomap = sizeof(struct tss);
	desc[0] = 0x890000000000ul | (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 |
		  (base >> 24 & 0xff) << 56;
	desc[1] = base >> 32;
	wrmsr(0xc0000101, PTR(&cpus[cpu]));
	__asm__ volatile("lidt %0" :: "m"(d));
	__asm__ volatile("ltr %w0" :: "r"(SEL_TSS + 16 * cpu));
}

static void hypervisor_find(void)
{
	u32 r[4];

	cpuid(0, 0, r);
	if (r[1] == 0x756e6547)			/* "Genu"ineIntel: VMCALL */
		hypercall_insn[2] = (char)0xc1;
	cpuid(0x40000000, 0, r);
	on_xen = r[1] == 0x566e6558 && r[2] == 0x65584d4d && r[3] == 0x4d4d566e;
}

static void console_find(void)
{
	u64 pfn = 0, port = 0;

	if (arg_is("console", "ring") || arg_is("console", "both"))
		to_ring = on_xen && !hvm_param_get(HVM_PARAM_CONSOLE_PFN, &pfn) && pfn &&
			  !hvm_param_get(HVM_PARAM_CONSOLE_EVTCHN, &port);
	ring = gfn_ptr(pfn);
	ring_port = (u32)port;
	to_debug_port = !to_ring || arg_is("console", "both");
}

void runtime_cpu_start(unsigned int cpu)
{
	if (!cpu)
		idt_fill();
	cpu_tables_load(cpu);
	if (cpu)
		ap_main(cpu);
	start_info = gfn_ptr(0) + start_info_pa;
	hypervisor_find();
	if (!on_xen) {			/* a PC: its old interrupt controllers keep quiet */
		outb(0x21, 0xff);
		outb(0xa1, 0xff);
	}
	console_find();
	cpus[0].online = true;
	guest_main();
	finish();
}
