/* SPDX-License-Identifier: MIT */
/*
 * Exits: what a guest did that the CPU handed to us, and what it gets for it.
 *
 * Everything here runs on the vCPU's own CPU between two runs of it, with no
 * lock held. Guest input: registers and instruction bytes. What cannot be
 * carried out ends in an exception for the guest or in domain_crash().
 */
#include "hospes/console.h"
#include "hospes/cpu_insn.h"
#include "hospes/domain.h"
#include "hospes/emulate.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"
#include "hospes/log.h"

#define RFLAGS_TF (1u << 8)
#define DR6_BS (1u << 14)

#define VECTOR_DB 1
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

#define PORT_DEBUG 0xe9

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u
#define XCR0_AVX512 0xe0u

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u

static void inject_gp(struct vcpu *v)
{
	cpu->inject(v, EVENT_EXCEPTION, VECTOR_GP, true, 0);
}

static void inject_ud(struct vcpu *v)
{
	cpu->inject(v, EVENT_EXCEPTION, VECTOR_UD, false, 0);
}

/* A guest that steps through its code expects to stop after this, too. */
static void step_trap(struct vcpu *v)
{
	struct guest_system sys;

	cpu->get_system(v, &sys);
	sys.dr6 |= DR6_BS;
	if (!cpu->set_system(v, &sys))
		cpu->inject(v, EVENT_EXCEPTION, VECTOR_DB, false, 0);
}

/* The one place where an instruction done here is left behind. */
static void advance(struct vcpu *v, unsigned int len)
{
	v->regs.rip += len;
	if (unlikely(v->regs.rflags & RFLAGS_TF))
		step_trap(v);
}

/* --- Instruction bytes -------------------------------------------------- */

/* The guest's code at @ip and how many bytes of it lie in its page. p2m read lock held. */
static const uint8_t *code_at(struct vcpu *v, gva_t ip, size_t *avail)
{
	struct p2m_entry e;
	uint32_t pf_error;
	gpa_t gpa;

	*avail = 0;
	/* With a supervisor's rights to read: the CPU has checked the fetch itself. */
	if (guest_walk(v, ip, 0, &gpa, &pf_error))
		return NULL;
	e = p2m_get(&v->domain->p2m, gpa_to_gfn(gpa));
	if (!p2m_is_ram(e.type))
		return NULL;
	*avail = PAGE_SIZE - (gpa & ~PAGE_MASK);
	return (const uint8_t *)mfn_to_virt(e.mfn) + (gpa & ~PAGE_MASK);
}

/* Copies what can be read at @ip, across a page boundary too. */
static size_t fetch(struct vcpu *v, gva_t ip, uint8_t buf[INSN_MAX_LEN])
{
	size_t done = 0;

	read_lock(&v->domain->p2m.lock);
	while (done < INSN_MAX_LEN) {
		size_t avail;
		const uint8_t *code = code_at(v, ip + done, &avail);

		if (!code)
			break;
		avail = MIN(avail, INSN_MAX_LEN - done);
		memcpy(buf + done, code, avail);
		done += avail;
	}
	read_unlock(&v->domain->p2m.lock);
	return done;
}

static unsigned int length_slow(struct vcpu *v, enum insn_mode mode, gva_t ip, enum insn_op op)
{
	uint8_t buf[INSN_MAX_LEN];
	int len = insn_length(buf, fetch(v, ip, buf), mode, op);

	return len < 0 ? 0 : (unsigned int)len;
}

/*
 * How long the instruction is that exited, which was @op then. 0: it is
 * something else now, and the guest has to run it again.
 */
static unsigned int exit_length(struct vcpu *v, const struct vm_exit *exit, enum insn_op op)
{
	enum insn_mode mode;
	unsigned int len = 0;
	const uint8_t *code;
	size_t avail;
	gva_t ip;

	if (exit->insn_len)
		return exit->insn_len;
	mode = cpu->get_code(v, &ip);
	read_lock(&v->domain->p2m.lock);
	code = code_at(v, ip, &avail);
	if (likely(code))
		len = insn_length_fast(code, avail, op);
	read_unlock(&v->domain->p2m.lock);
	return likely(len) ? len : length_slow(v, mode, ip, op);
}

/* --- Instructions ------------------------------------------------------- */

static void exit_cpuid(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_CPUID);
	uint64_t *r = v->regs.gpr;
	struct cpuid_regs out;

	if (!len)
		return;
	policy_cpuid(v, (uint32_t)r[GPR_RAX], (uint32_t)r[GPR_RCX], &out);
	r[GPR_RAX] = out.eax;
	r[GPR_RBX] = out.ebx;
	r[GPR_RCX] = out.ecx;
	r[GPR_RDX] = out.edx;
	advance(v, len);
}

static bool is_apic_msr(uint32_t msr)
{
	return (msr >> 8) == 8 || msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE;
}

static void exit_msr_read(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_RDMSR);
	uint32_t msr = (uint32_t)v->regs.gpr[GPR_RCX];
	uint64_t val;
	bool ok;

	if (!len)
		return;
	if (is_apic_msr(msr))
		ok = vlapic_msr_read(v, msr, &val);
	else
		ok = cpu->msr_read(v, msr, &val) || msr_read(v, msr, &val);
	if (!ok) {
		inject_gp(v);
		return;
	}
	v->regs.gpr[GPR_RAX] = (uint32_t)val;
	v->regs.gpr[GPR_RDX] = val >> 32;
	advance(v, len);
}

static void exit_msr_write(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_WRMSR);
	const uint64_t *r = v->regs.gpr;
	uint32_t msr = (uint32_t)r[GPR_RCX];
	uint64_t val = (uint32_t)r[GPR_RAX] | r[GPR_RDX] << 32;
	int fault = 0;
	bool ok;

	if (!len)
		return;
	if (is_apic_msr(msr))
		ok = vlapic_msr_write(v, msr, val);
	else if (cpu->msr_write(v, msr, val, &fault))
		ok = !fault;
	else
		ok = msr_write(v, msr, val);
	if (ok)
		advance(v, len);
	else
		inject_gp(v);
}

static void exit_hypercall(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_VMMCALL);

	if (len && hypercall_exit(v))
		advance(v, len);
}

static void exit_hlt(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_HLT);

	if (!len)
		return;
	advance(v, len);
	vcpu_halt(v);
}

static void exit_pause(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_PAUSE);

	if (!len)
		return;
	advance(v, len);
	sched_yield_slice(v);
}

/* No device reads the guest's memory behind its caches. */
static void exit_wbinvd(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_WBINVD);

	if (!len)
		len = exit_length(v, exit, INSN_INVD);
	if (len)
		advance(v, len);
}

static bool xcr0_valid(uint64_t xcr0, uint64_t mask)
{
	if (!(xcr0 & XCR0_X87) || xcr0 & ~mask)
		return false;
	if ((xcr0 & XCR0_AVX) && !(xcr0 & XCR0_SSE))
		return false;
	return !(xcr0 & XCR0_AVX512) ||
	       ((xcr0 & XCR0_AVX512) == XCR0_AVX512 && (xcr0 & XCR0_AVX));
}

static void exit_xsetbv(struct vcpu *v, const struct vm_exit *exit)
{
	unsigned int len = exit_length(v, exit, INSN_XSETBV);
	const uint64_t *r = v->regs.gpr;
	uint64_t xcr0 = (uint32_t)r[GPR_RAX] | r[GPR_RDX] << 32;

	if (!len)
		return;
	if (cpu->get_cpl(v) || (uint32_t)r[GPR_RCX] ||
	    !xcr0_valid(xcr0, v->domain->policy->xcr0_mask)) {
		inject_gp(v);
		return;
	}
	v->msr.xcr0 = xcr0;
	insn_xsetbv(0, xcr0);
	advance(v, len);
}

static void exit_gp(struct vcpu *v, const struct vm_exit *exit)
{
	(void)exit;
	inject_gp(v);
}

static void exit_ud(struct vcpu *v, const struct vm_exit *exit)
{
	(void)exit;
	inject_ud(v);
}

static void exit_exception(struct vcpu *v, const struct vm_exit *exit)
{
	if (exit->exception.icebp) {
		unsigned int len = exit_length(v, exit, INSN_ICEBP);

		if (!len)
			return;
		v->regs.rip += len;
	}
	cpu->inject(v, EVENT_EXCEPTION, exit->exception.vector, exit->exception.has_error,
		    exit->exception.error);
}

/* --- Ports and memory that is not there --------------------------------- */

static uint32_t port_in(struct emul *e, uint16_t port, unsigned int size)
{
	(void)e;
	(void)port;
	(void)size;
	return ~0u;
}

static void port_out(struct emul *e, uint16_t port, unsigned int size, uint32_t value)
{
	struct vcpu *v = e->data;

	if (port == PORT_DEBUG && size == 1)
		console_debug_byte(v->domain, (uint8_t)value);
}

/* Registers of the local APIC are 32 bits wide, whatever the access. */
static void apic_access(struct vcpu *v, gpa_t gpa, void *buf, unsigned int len, bool write)
{
	uint32_t offset = gpa & ~PAGE_MASK & ~3u, reg = 0;
	uint64_t val = 0;

	if (!write) {
		if (vlapic_read(v, offset, &reg))
			val = (uint64_t)reg >> (8 * (gpa & 3));
		memcpy(buf, &val, len);
	} else if (len == 4 && !(gpa & 3)) {
		memcpy(&reg, buf, 4);
		/* The xAPIC ignores what it does not like. */
		(void)!vlapic_write(v, offset, reg);
	}
}

static bool walk(struct emul *e, gva_t addr, bool write, gpa_t *gpa)
{
	struct vcpu *v = e->data;
	unsigned int access = (write ? WALK_WRITE : 0) | (cpu->get_cpl(v) == 3 ? WALK_USER : 0);

	if (!guest_walk(v, addr, access, gpa, &e->error))
		return true;
	e->vector = VECTOR_PF;
	e->has_error = true;
	e->cr2 = addr;
	return false;
}

/* Memory of one page, guest virtual: RAM, the local APIC, or nothing. */
static bool access_page(struct emul *e, gva_t addr, uint8_t *buf, unsigned int len, bool write)
{
	struct vcpu *v = e->data;
	struct p2m_entry entry = { .type = P2M_HOLE };
	gpa_t gpa = 0;
	bool ok;

	read_lock(&v->domain->p2m.lock);
	ok = walk(e, addr, write, &gpa);
	if (ok) {
		uint8_t *ram;

		entry = p2m_get(&v->domain->p2m, gpa_to_gfn(gpa));
		ram = (uint8_t *)mfn_to_virt(entry.mfn) + (gpa & ~PAGE_MASK);
		if (write && p2m_is_ram(entry.type) && p2m_is_writable(entry.type))
			memcpy(ram, buf, len);
		else if (!write && p2m_is_ram(entry.type))
			memcpy(buf, ram, len);
	}
	read_unlock(&v->domain->p2m.lock);
	if (!ok || p2m_is_ram(entry.type))
		return ok;
	if (vlapic_claims(v, gpa & PAGE_MASK))
		apic_access(v, gpa, buf, len, write);
	else if (!write)
		memset(buf, 0xff, len);
	return true;
}

static bool access_guest(struct emul *e, gva_t addr, void *buf, unsigned int len, bool write)
{
	unsigned int first = (unsigned int)MIN(len, PAGE_SIZE - (addr & ~PAGE_MASK));

	if (unlikely(first < len)) {
		struct vcpu *v = e->data;
		gpa_t gpa;
		bool ok;

		/* The second page must not fault after the first was written. */
		read_lock(&v->domain->p2m.lock);
		ok = walk(e, addr + first, write, &gpa);
		read_unlock(&v->domain->p2m.lock);
		if (!ok || !access_page(e, addr, buf, first, write))
			return false;
		return access_page(e, addr + first, (uint8_t *)buf + first, len - first, write);
	}
	return access_page(e, addr, buf, len, write);
}

static bool read_guest(struct emul *e, gva_t addr, void *buf, unsigned int len)
{
	return access_guest(e, addr, buf, len, false);
}

static bool write_guest(struct emul *e, gva_t addr, const void *buf, unsigned int len)
{
	uint64_t copy = 0;

	memcpy(&copy, buf, len);
	return access_guest(e, addr, &copy, len, true);
}

static void get_segment(struct emul *e, enum guest_seg nr, struct guest_segment *seg)
{
	cpu->get_segment(e->data, nr, seg);
}

static const struct emul_ops emul_ops = {
	.read = read_guest, .write = write_guest, .segment = get_segment,
	.in = port_in, .out = port_out,
};

static void run_emulation(struct vcpu *v, enum insn_mode mode, const struct insn *in)
{
	struct emul e = {
		.insn = in, .mode = mode, .regs = &v->regs, .ops = &emul_ops, .data = v };

	switch (emulate(&e)) {
	case EMUL_OK:
		if (unlikely(v->regs.rflags & RFLAGS_TF))
			step_trap(v);
		break;
	case EMUL_FAULT:
		if (e.vector == VECTOR_PF)
			cpu->set_cr2(v, e.cr2);
		cpu->inject(v, EVENT_EXCEPTION, e.vector, e.has_error, e.error);
		break;
	case EMUL_UNHANDLED:
		log_debug("d%u v%u: instruction at %lx (opcode %x, map %u) is not emulated",
			  v->domain->id, v->id, v->regs.rip, in->opcode, in->map);
		inject_ud(v);
		break;
	}
}

/* Decodes what is at RIP. False: it was dealt with, or has to run again. */
static bool decode_here(struct vcpu *v, const struct vm_exit *exit, enum insn_mode *mode,
			struct insn *in)
{
	uint8_t buf[INSN_MAX_LEN];
	size_t avail = 0;
	gva_t ip;
	int rc;

	*mode = cpu->get_code(v, &ip);
	if (exit->kind == EXIT_NPF)
		avail = MIN((size_t)exit->npf.insn_avail, sizeof(buf));
	if (avail)
		memcpy(buf, exit->npf.insn, avail);
	else
		avail = fetch(v, ip, buf);
	rc = insn_decode(buf, avail, *mode, in);
	if (rc == -XEN_E2BIG)
		inject_gp(v);
	else if (rc == -XEN_EOPNOTSUPP)
		inject_ud(v);
	return !rc;
}

static void exit_io(struct vcpu *v, const struct vm_exit *exit)
{
	struct emul e = { .data = v };
	uint64_t *rax = &v->regs.gpr[GPR_RAX];
	enum insn_mode mode;
	struct insn in;

	if (unlikely(exit->io.string || !exit->insn_len)) {
		if (decode_here(v, exit, &mode, &in) && (in.op == INSN_INS || in.op == INSN_OUTS))
			run_emulation(v, mode, &in);
		return;
	}
	if (!exit->io.in)
		port_out(&e, exit->io.port, exit->io.size, (uint32_t)*rax);
	else if (exit->io.size == 4)
		*rax = ~0u;
	else
		*rax |= exit->io.size == 2 ? 0xffff : 0xff;
	advance(v, exit->insn_len);
}

static void triple_fault(struct vcpu *v)
{
	struct domain *d = v->domain;

	log_info("d%u v%u: triple fault at %lx", d->id, v->id, v->regs.rip);
	domain_shutdown(d, (uint8_t)d->params[HVM_PARAM_TRIPLE_FAULT_REASON]);
}

static void exit_npf(struct vcpu *v, const struct vm_exit *exit)
{
	struct p2m_entry entry;
	enum insn_mode mode;
	struct insn in;

	read_lock(&v->domain->p2m.lock);
	entry = p2m_get(&v->domain->p2m, gpa_to_gfn(exit->npf.gpa));
	read_unlock(&v->domain->p2m.lock);
	/* Somebody else has mapped it meanwhile. */
	if (exit->npf.write ? p2m_is_writable(entry.type) : p2m_is_ram(entry.type))
		return;
	if (cpu->event_pending(v))
		triple_fault(v);	/* an IDT or a stack of ones delivers nothing */
	else if (exit->npf.exec)
		inject_ud(v);		/* ones are not an instruction */
	else if (decode_here(v, exit, &mode, &in))
		run_emulation(v, mode, &in);
}

/* --- The end, and nothing ----------------------------------------------- */

static void exit_nothing(struct vcpu *v, const struct vm_exit *exit)
{
	(void)v;
	(void)exit;
}

static void exit_shutdown(struct vcpu *v, const struct vm_exit *exit)
{
	(void)exit;
	triple_fault(v);
}

static void exit_invalid(struct vcpu *v, const struct vm_exit *exit)
{
	(void)exit;
	domain_crash(v->domain, "vCPU %u: the CPU refuses its state", v->id);
}

static void exit_unknown(struct vcpu *v, const struct vm_exit *exit)
{
	domain_crash(v->domain, "vCPU %u: unexpected exit %#lx", v->id, exit->raw);
}

static void (*const handlers[EXIT_KIND_COUNT])(struct vcpu *v, const struct vm_exit *exit) = {
	[EXIT_INTERRUPT] = exit_nothing,	/* served by the main loop */
	[EXIT_NMI] = exit_nothing,
	[EXIT_HYPERCALL] = exit_hypercall,
	[EXIT_CPUID] = exit_cpuid,
	[EXIT_MSR_READ] = exit_msr_read,
	[EXIT_MSR_WRITE] = exit_msr_write,
	[EXIT_IO] = exit_io,
	[EXIT_NPF] = exit_npf,
	[EXIT_HLT] = exit_hlt,
	[EXIT_PAUSE] = exit_pause,
	[EXIT_IRQ_WINDOW] = exit_nothing,	/* exit_prepare() uses it */
	[EXIT_SHUTDOWN] = exit_shutdown,
	[EXIT_WBINVD] = exit_wbinvd,
	[EXIT_XSETBV] = exit_xsetbv,
	[EXIT_RDPMC] = exit_gp,
	[EXIT_MWAIT] = exit_ud,
	[EXIT_UNDEFINED] = exit_ud,
	[EXIT_EXCEPTION] = exit_exception,
	[EXIT_TASK_SWITCH] = exit_unknown,
	[EXIT_CR_ACCESS] = exit_unknown,
	[EXIT_INVALID] = exit_invalid,
	[EXIT_UNKNOWN] = exit_unknown,
};

void exit_handle(struct vcpu *v, const struct vm_exit *exit)
{
	v->exits[exit->kind]++;
	handlers[exit->kind](v, exit);
}

/* --- Before entry ------------------------------------------------------- */

/* The class of the highest request that only the guest's TPR holds back, or 0. */
static unsigned int held_by_tpr(struct vcpu *v)
{
	for (int i = 3; i >= 0; i--) {
		uint64_t irr = atomic_load_explicit(&v->lapic.irr[i], memory_order_relaxed);
		unsigned int prio = ((unsigned int)i * 64 + (unsigned int)fls64(irr)) >> 4;

		if (irr)
			return prio <= vlapic_get_cr8(&v->lapic) ? prio : 0;
	}
	return 0;
}

static void prepare_events(struct vcpu *v)
{
	unsigned int prio;
	int vector;

	if (atomic_load(&v->nmi_pending) && cpu->can_nmi(v)) {
		atomic_store(&v->nmi_pending, false);
		cpu->inject(v, EVENT_NMI, 2, false, 0);
	}
	vector = vlapic_pending(v);
	if (vector >= 0 && cpu->can_interrupt(v)) {
		vlapic_accept(v, (uint8_t)vector);
		cpu->inject(v, EVENT_INTR, (uint8_t)vector, false, 0);
		return;
	}
	prio = vector >= 0 ? (unsigned int)vector >> 4 : held_by_tpr(v);
	if (prio)
		cpu->irq_window(v, prio);
}

void exit_prepare(struct vcpu *v)
{
	if (unlikely(atomic_load_explicit(&v->lapic.irr_pending, memory_order_acquire) ||
		     atomic_load_explicit(&v->nmi_pending, memory_order_acquire)))
		prepare_events(v);
}
