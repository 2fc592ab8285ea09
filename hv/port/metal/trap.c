/* SPDX-License-Identifier: MIT */
/*
 * Exceptions, interrupts, and the end: panic.
 *
 * Owns: the IDT, built once. The first CPU that panics stops the others by
 * NMI and has the last word.
 */
#include "hospes/cmdline.h"
#include "hospes/cpu_insn.h"
#include "hospes/irq.h"
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/regs.h"
#include "port/metal/metal.h"

#define STUB_SIZE 16
#define BACKTRACE_MAX 32
#define NOBODY (-1)

enum { EXC_DB = 1, EXC_NMI = 2, EXC_DOUBLE_FAULT = 8, EXC_GP = 13, EXC_MC = 18, EXC_COUNT = 32 };

#define MSR_MCG_CAP 0x179
#define MSR_MCG_CTL 0x17b
#define MSR_MC0_CTL 0x400	/* then STATUS, ADDR, MISC; four for each bank */

extern const struct fixup { uint64_t from, to; } fixup_start[], fixup_end[];

/* Functions in rising order, made by scripts/symbols.py: offsets from image_start, names. */
extern const uint32_t symbol_count, symbol_offsets[];
extern const char symbol_names[];

static atomic_int panic_cpu = NOBODY;

/* --- IDT --- */

__typeof__(idt) idt;

void trap_init(void)
{
	static const uint8_t ist[ARRAY_SIZE(idt)] = {
		[EXC_NMI] = IST_NMI, [EXC_DOUBLE_FAULT] = IST_DOUBLE_FAULT,
		[EXC_MC] = IST_MACHINE_CHECK,
	};
	uint64_t to = (uint64_t)trap_stubs;

	for (unsigned int i = 0; i < ARRAY_SIZE(idt); i++) {
		if (i >= EXC_COUNT && i < IRQ_VECTORS)
			continue;
		/* Interrupt gates to selector 8. */
		idt[i].low = (to & 0xffff) | 0x8e0000080000 | (uint64_t)ist[i] << 32 |
			     (to >> 16 & 0xffff) << 48;
		idt[i].high = to >> 32;
		to += STUB_SIZE;
	}
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

	if (offset >= (uint64_t)(text_end - image_start) || !symbol_count) {
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
	log_err("exception %lu error %lx rflags %08lx cs %lx rsp %016lx ss %lx",
		f->vector, f->error, f->rflags, f->cs, f->rsp, f->ss);
	log_err("rax %016lx rbx %016lx rcx %016lx rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
	log_err("rsi %016lx rdi %016lx rbp %016lx r8  %016lx", f->rsi, f->rdi, f->rbp, f->r8);
	log_err("r9  %016lx r10 %016lx r11 %016lx r12 %016lx", f->r9, f->r10, f->r11, f->r12);
	log_err("r13 %016lx r14 %016lx r15 %016lx", f->r13, f->r14, f->r15);
}

/* @f is NULL when the hypervisor itself gave up. */
static void __noreturn die(const char *text, const struct trap_frame *f, uint64_t rip, uint64_t rbp)
{
	int me = (int)this_cpu()->core.cpu_id, first = NOBODY;

	__asm__ volatile("cli");
	if (atomic_compare_exchange_strong(&panic_cpu, &first, me)) {
		atomic_store(&log_panicking, true);
		if (port_nr_pcpus() > 1)
			lapic_send(0, ICR_NMI | ICR_OTHERS);
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
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	hv_vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	die(text, NULL, frame[1] - 1, frame[0]);
}

/* --- Machine checks --- */

void machine_check_init(void)
{
	uint64_t capabilities;		/* 0 where there are none; the low byte counts the banks */

	(void)!insn_rdmsr_safe(MSR_MCG_CAP, &capabilities);
	(void)!insn_wrmsr_safe(MSR_MCG_CTL, ~0ULL);
	for (unsigned int i = 0; i < (uint8_t)capabilities; i++) {
		insn_wrmsr(MSR_MC0_CTL + 4 * i, ~0ULL);
		insn_wrmsr(MSR_MC0_CTL + 4 * i + 1, 0);
	}
}

static void print_machine_check(void)
{
	uint64_t capabilities;

	(void)!insn_rdmsr_safe(MSR_MCG_CAP, &capabilities);
	for (unsigned int i = 0; i < (uint8_t)capabilities; i++) {
		uint32_t msr = MSR_MC0_CTL + 4 * i;
		uint64_t status = insn_rdmsr(msr + 1);

		if (!(status >> 63))
			continue;
		log_err("machine check bank %u: status %016lx address %016lx misc %016lx", i,
			status, status >> 58 & 1 ? insn_rdmsr(msr + 2) : 0,
			status >> 59 & 1 ? insn_rdmsr(msr + 3) : 0);
	}
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
	static const char *const names[EXC_COUNT] = {
		[0] = "division error", [3] = "breakpoint", [6] = "invalid opcode",
		[EXC_DOUBLE_FAULT] = "double fault: stack overflow?",
		[EXC_GP] = "general protection", [14] = "page fault", [EXC_MC] = "machine check",
	};
	const char *name = names[f->vector];

	if (f->vector == EXC_NMI) {
		if (atomic_load(&panic_cpu) != NOBODY)
			halt_forever();
		log_warn("NMI, system control port 0x%x", inb(0x61));
	} else if (f->vector == EXC_DB) {
		f->rflags |= RFLAGS_RF;		/* QEMU lets a guest's breakpoints hit us, too */
	} else if (f->vector != EXC_GP || !fix_up(f)) {
		if (f->vector == EXC_MC)
			print_machine_check();
		die(name ? name : "unexpected exception", f, f->rip, f->rbp);
	}
}

void trap_handler(struct trap_frame *f)
{
	uint8_t vector = (uint8_t)f->vector;	/* it came sign-extended from its stub */
	struct cpu *c = this_cpu();

	if (vector < EXC_COUNT) {
		exception(f);
		return;
	}
	c->woken = true;
	if (vector == VECTOR_SPURIOUS)
		return;
	/* What a level requests is masked before it may request again. */
	if (vector < IRQ_VECTORS_END)
		irq_dispatch(vector);
	lapic_write(LAPIC_EOI, 0);
	if (vector == VECTOR_TIMER)
		time_interrupt();
	else if (vector == VECTOR_KICK)
		/* An exchange, so that what the kicker wrote before is seen after it. */
		atomic_exchange(&c->kick_pending, false);
	else if (vector == VECTOR_SERIAL)
		serial_interrupt();
	else if (vector >= IRQ_VECTORS_END)
		log_warn("stray interrupt 0x%x", vector);
}
