/* SPDX-License-Identifier: MIT */
/*
 * Exceptions, interrupts, and the end: panic.
 *
 * Owns: the IDT, built once. The first CPU that panics stops the others by
 * NMI and has the last word.
 */
#include "hospes/cmdline.h"
#include "hospes/cpu_insn.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "port/metal/metal.h"

#define STUB_SIZE 16
#define FIRST_INTERRUPT 0xf0u
#define BACKTRACE_MAX 32
#define NOBODY (-1)

enum { EXC_NMI = 2, EXC_DOUBLE_FAULT = 8, EXC_GP = 13, EXC_PAGE_FAULT = 14, EXC_MC = 18,
       EXC_COUNT = 32 };

#define MSR_MCG_CAP 0x179
#define MSR_MCG_CTL 0x17b
#define MSR_MC0_CTL 0x400	/* then STATUS, ADDR, MISC; four for each bank */

static struct gate {
	uint16_t offset0, selector;
	uint8_t ist, type;
	uint16_t offset1;
	uint32_t offset2, reserved;
} idt[256];

extern const struct fixup {
	uint64_t from, to;
} fixup_start[], fixup_end[];

/* Functions in rising order, made by scripts/symbols.py: offsets from image_start, names. */
extern const uint32_t symbol_count, symbol_offsets[];
extern const char symbol_names[];

static atomic_int panic_cpu = NOBODY;

/* --- IDT --- */

static void set_gate(unsigned int vector, unsigned int stub)
{
	uint64_t to = (uint64_t)trap_stubs + stub * STUB_SIZE;

	idt[vector] = (struct gate){
		.offset0 = (uint16_t)to,
		.offset1 = (uint16_t)(to >> 16),
		.offset2 = (uint32_t)(to >> 32),
		.selector = 0x08,
		.type = 0x8e,
	};
}

void trap_init(void)
{
	for (unsigned int i = 0; i < EXC_COUNT; i++)
		set_gate(i, i);
	for (unsigned int i = FIRST_INTERRUPT; i < ARRAY_SIZE(idt); i++)
		set_gate(i, i - FIRST_INTERRUPT + EXC_COUNT);
	idt[EXC_NMI].ist = IST_NMI;
	idt[EXC_DOUBLE_FAULT].ist = IST_DOUBLE_FAULT;
	idt[EXC_MC].ist = IST_MACHINE_CHECK;
}

void idt_load(void)
{
	struct __packed { uint16_t limit; const void *base; } idtr = { sizeof(idt) - 1, idt };

	__asm__ volatile("lidt %0" : : "m"(idtr));
}

/* --- Panic --- */

void halt_forever(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void print_symbol(const char *what, uint64_t rip)
{
	uint64_t offset = rip - (uint64_t)image_start;
	const char *name = symbol_names;
	uint32_t i = 0;

	if (rip < (uint64_t)image_start || rip >= (uint64_t)text_end || !symbol_count ||
	    offset < symbol_offsets[0]) {
		log_err("%s %016lx", what, rip);
		return;
	}
	for (; i + 1 < symbol_count && symbol_offsets[i + 1] <= offset; i++)
		name += strlen(name) + 1;
	log_err("%s %016lx %s+0x%lx", what, rip, name, offset - symbol_offsets[i]);
}

static void backtrace(uint64_t rip, uint64_t rbp)
{
	print_symbol("backtrace:", rip);
	for (unsigned int i = 0; i < BACKTRACE_MAX && !(rbp & 7) && is_stack(rbp); i++) {
		const uint64_t *frame = (const uint64_t *)rbp;

		if (!frame[1])
			break;
		/* The call lies before the address it returns to. */
		print_symbol("          ", frame[1] - 1);
		if (frame[0] <= rbp)
			break;
		rbp = frame[0];
	}
}

static void print_registers(const struct trap_frame *f)
{
	log_err("rip %016lx rsp %016lx rflags %08lx cs %lx ss %lx error %lx",
		f->rip, f->rsp, f->rflags, f->cs, f->ss, f->error);
	log_err("rax %016lx rbx %016lx rcx %016lx rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
	log_err("rsi %016lx rdi %016lx rbp %016lx r8  %016lx", f->rsi, f->rdi, f->rbp, f->r8);
	log_err("r9  %016lx r10 %016lx r11 %016lx r12 %016lx", f->r9, f->r10, f->r11, f->r12);
	log_err("r13 %016lx r14 %016lx r15 %016lx", f->r13, f->r14, f->r15);
}

/* @f is NULL when the hypervisor itself gave up. */
static void __noreturn die(const struct trap_frame *f, uint64_t rip, uint64_t rbp,
			   const char *fmt, va_list ap)
{
	int me = (int)this_cpu()->core.cpu_id, first = NOBODY;
	char text[200];

	__asm__ volatile("cli");
	if (atomic_compare_exchange_strong(&panic_cpu, &first, me)) {
		log_panic_mode();
		if (port_nr_pcpus() > 1)
			lapic_send(0, ICR_NMI | ICR_OTHERS);
		hv_vsnprintf(text, sizeof(text), fmt, ap);
		log_err("panic: %s (CPU %d)", text, me);
		if (f)
			print_registers(f);
		log_err("cr0 %lx cr2 %lx cr3 %lx cr4 %lx", insn_read_cr0(), insn_read_cr2(),
			insn_read_cr3(), insn_read_cr4());
		backtrace(rip, rbp);
	} else if (first != me) {
		halt_forever();
	}
	if (hv_options.noreboot) {
		log_err("halted");
		halt_forever();
	}
	port_reboot();
}

void port_panic(const char *fmt, ...)
{
	const uint64_t *frame = __builtin_frame_address(0);
	va_list ap;

	va_start(ap, fmt);
	die(NULL, frame[1] - 1, frame[0], fmt, ap);
}

static void __noreturn __printf(2, 3) trap_panic(const struct trap_frame *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	die(f, f->rip, f->rbp, fmt, ap);
}

/* --- Machine checks and NMIs --- */

static unsigned int machine_check_banks(void)
{
	uint32_t regs[4];

	insn_cpuid(1, 0, regs);
	/* MCE and MCA. */
	if ((regs[CPUID_EDX] & 0x4080) != 0x4080)
		return 0;
	return insn_rdmsr(MSR_MCG_CAP) & 0xff;
}

void machine_check_init(void)
{
	unsigned int banks = machine_check_banks();

	if (banks && insn_rdmsr(MSR_MCG_CAP) & 0x100)
		insn_wrmsr(MSR_MCG_CTL, ~0ULL);
	for (unsigned int i = 0; i < banks; i++) {
		insn_wrmsr(MSR_MC0_CTL + 4 * i, ~0ULL);
		insn_wrmsr(MSR_MC0_CTL + 4 * i + 1, 0);
	}
}

static void __noreturn machine_check(const struct trap_frame *f)
{
	unsigned int banks = machine_check_banks();

	for (unsigned int i = 0; i < banks; i++) {
		uint32_t msr = MSR_MC0_CTL + 4 * i;
		uint64_t status = insn_rdmsr(msr + 1);

		if (!(status >> 63))
			continue;
		log_err("machine check bank %u: status %016lx address %016lx misc %016lx", i,
			status, status >> 58 & 1 ? insn_rdmsr(msr + 2) : 0,
			status >> 59 & 1 ? insn_rdmsr(msr + 3) : 0);
	}
	trap_panic(f, "machine check");
}

static void nmi(void)
{
	if (atomic_load(&panic_cpu) != NOBODY)
		halt_forever();
	log_warn("NMI, system control port 0x%x", inb(0x61));
}

/* --- Dispatch --- */

static bool fix_up(struct trap_frame *f)
{
	for (const struct fixup *x = fixup_start; x < fixup_end; x++) {
		if (x->from == f->rip) {
			f->rip = x->to;
			return true;
		}
	}
	return false;
}

static void exception(struct trap_frame *f)
{
	switch (f->vector) {
	case EXC_NMI:
		nmi();
		break;
	case EXC_MC:
		machine_check(f);
	case EXC_GP:
		if (fix_up(f))
			break;
		trap_panic(f, "general protection fault");
	case EXC_PAGE_FAULT:
		trap_panic(f, "page fault at %lx", insn_read_cr2());
	case EXC_DOUBLE_FAULT:
		trap_panic(f, "double fault: stack overflow?");
	default:
		trap_panic(f, "exception %lu", f->vector);
	}
}

void trap_handler(struct trap_frame *f)
{
	struct cpu *c = this_cpu();

	if (f->vector < EXC_COUNT) {
		exception(f);
		return;
	}
	/* The vector came sign-extended from its stub. */
	c->woken = true;
	switch ((uint8_t)f->vector) {
	case VECTOR_TIMER:
		lapic_eoi();
		time_interrupt();
		return;
	case VECTOR_KICK:
		/* An exchange, so that what the kicker wrote before is seen after it. */
		atomic_exchange(&c->kick_pending, false);
		break;
	case VECTOR_SERIAL:
		serial_interrupt();
		break;
	case VECTOR_SPURIOUS:
		return;
	default:
		log_warn("stray interrupt 0x%x", (uint8_t)f->vector);
		break;
	}
	lapic_eoi();
}
