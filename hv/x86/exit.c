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
#include "hospes/devices.h"
#include "hospes/domain.h"
#include "hospes/emulate.h"
#include "hospes/hypercall.h"
#include "hospes/log.h"

#define PORT_DEBUG 0xe9

/* Where an instruction done here is left behind. */
static void advance(struct vcpu *v, unsigned int len)
{
	v->regs.rip += len;
	/* A guest that steps through its code expects to stop after this, too. */
	if (unlikely(v->regs.rflags & RFLAGS_TF))
		cpu->inject(v, EVENT_EXCEPTION, VECTOR_DB, 0, DR6_BS);
}

static bool raise_gp(struct vcpu *v)
{
	cpu->inject(v, EVENT_EXCEPTION, VECTOR_GP, 0, 0);
	return false;
}

static bool raise_ud(struct vcpu *v)
{
	cpu->inject(v, EVENT_EXCEPTION, VECTOR_UD, 0, 0);
	return false;
}

/* --- Instruction bytes -------------------------------------------------- */

/* Decodes what is at RIP, across a page boundary too. False: it was dealt with, or runs again. */
static bool decode_here(struct vcpu *v, const struct vm_exit *exit, enum insn_mode *mode,
			struct insn *in)
{
	uint8_t buf[INSN_MAX_LEN];
	size_t got = INSN_MAX_LEN;
	gva_t ip;
	int rc;

	*mode = cpu->get_code(v, &ip);
	if (exit->kind == EXIT_NPF && exit->npf.insn)
		memcpy(buf, exit->npf.insn, INSN_MAX_LEN);
	else
		(void)!guest_fetch(v, ip, buf, INSN_MAX_LEN, &got);
	rc = insn_decode(buf, got, *mode, in);
	if (rc == -XEN_E2BIG) {
		raise_gp(v);
	} else if (rc == -XEN_EOPNOTSUPP && exit->kind == EXIT_NPF) {
		log_debug("d%u v%u: instruction at %lx (opcode %x) is not emulated",
			  v->domain->id, v->id, v->regs.rip, in->opcode);
		raise_ud(v);
	}
	return !rc;
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
	struct insn in;
	size_t avail;
	gva_t ip;

	if (exit->insn_len)
		return exit->insn_len;
	cpu->get_code(v, &ip);
	read_lock(&v->domain->p2m.lock);
	code = guest_code(v, ip, &avail);
	if (likely(code))
		len = insn_length_fast(code, avail, op);
	read_unlock(&v->domain->p2m.lock);
	if (likely(len))
		return len;
	if (!decode_here(v, exit, &mode, &in))
		return 0;
	return in.op == op || (op == INSN_WBINVD && in.op == INSN_INVD) ? in.len : 0;
}

/* --- Instructions. True: done, RIP moves on. ------------------------------ */

static bool exit_cpuid(struct vcpu *v)
{
	uint64_t *r = v->regs.gpr;
	struct cpuid_regs out;

	policy_cpuid(v, (uint32_t)r[GPR_RAX], (uint32_t)r[GPR_RCX], &out);
	r[GPR_RAX] = out.eax;
	r[GPR_RBX] = out.ebx;
	r[GPR_RCX] = out.ecx;
	r[GPR_RDX] = out.edx;
	return true;
}

static bool exit_msr_read(struct vcpu *v)
{
	uint32_t msr = (uint32_t)v->regs.gpr[GPR_RCX];
	uint64_t val;

	if (!vlapic_msr_read(v, msr, &val) && !cpu->msr_read(v, msr, &val) &&
	    !msr_read(v, msr, &val))
		return raise_gp(v);
	v->regs.gpr[GPR_RAX] = (uint32_t)val;
	v->regs.gpr[GPR_RDX] = val >> 32;
	return true;
}

/* The 64-bit operand of WRMSR and XSETBV. */
static uint64_t edx_eax(const struct vcpu *v)
{
	return (uint32_t)v->regs.gpr[GPR_RAX] | v->regs.gpr[GPR_RDX] << 32;
}

static bool exit_msr_write(struct vcpu *v)
{
	uint32_t msr = (uint32_t)v->regs.gpr[GPR_RCX];
	uint64_t val = edx_eax(v);

	return vlapic_msr_write(v, msr, val) || cpu->msr_write(v, msr, val) ||
	       msr_write(v, msr, val) || raise_gp(v);
}

static bool exit_hlt(struct vcpu *v)
{
	vcpu_halt(v);
	return true;
}

static bool exit_pause(struct vcpu *v)
{
	sched_yield_slice(v);
	return true;
}

static bool exit_xsetbv(struct vcpu *v)
{
	uint64_t xcr0 = edx_eax(v);

	if (cpu->get_cpl(v) || (uint32_t)v->regs.gpr[GPR_RCX] ||
	    !policy_xcr0_valid(v->domain->policy, xcr0))
		return raise_gp(v);
	v->msr.xcr0 = xcr0;
	insn_xsetbv(0, xcr0);
	return true;
}

static bool exit_icebp(struct vcpu *v)
{
	cpu->inject(v, EVENT_EXCEPTION, VECTOR_DB, 0, 0);
	return true;
}

/* --- Ports and memory that is not there --------------------------------- */

static uint32_t port_in(struct emul *e, uint16_t port, unsigned int size)
{
	struct domain *d = ((struct vcpu *)e->data)->domain;

	return unlikely(d->devices) ? devices_in(d, port, size) : ~0u;
}

static void port_out(struct emul *e, uint16_t port, unsigned int size, uint32_t value)
{
	struct vcpu *v = e->data;

	if (port == PORT_DEBUG && size == 1)
		console_debug_byte(v->domain, (uint8_t)value);
	else if (unlikely(v->domain->devices))
		devices_out(v->domain, port, size, value);
}

/*
 * What no RAM takes: the local APIC, whose registers are 32 bits wide and which
 * ignores what it does not like, or nothing.
 */
static void access_device(struct vcpu *v, gpa_t gpa, uint8_t *buf, unsigned int len, bool write)
{
	uint32_t offset = gpa & ~PAGE_MASK & ~3u, reg = 0;
	uint64_t val = ~0ULL;

	if (unlikely(v->domain->devices) && devices_access(v->domain, gpa, buf, len, write))
		return;
	if (vlapic_claims(v, gpa & PAGE_MASK)) {
		if (write && len == 4 && !(gpa & 3)) {
			memcpy(&reg, buf, 4);
			(void)!vlapic_write(v, offset, reg);
		} else if (!write) {
			val = vlapic_read(v, offset, &reg) ? (uint64_t)reg >> (8 * (gpa & 3)) : 0;
		}
	}
	if (!write)
		memcpy(buf, &val, len);
}

/* False: no RAM. Of RAM that may not be written a write leaves all as it is. */
static bool access_ram(struct vcpu *v, gpa_t gpa, uint8_t *buf, unsigned int len, bool write)
{
	uint8_t *ram = NULL;
	struct p2m_entry entry;

	read_lock(&v->domain->p2m.lock);
	entry = p2m_get(&v->domain->p2m, gpa_to_gfn(gpa));
	if (p2m_is_ram(entry.type))
		ram = (uint8_t *)mfn_to_virt(entry.mfn) + (gpa & ~PAGE_MASK);
	if (ram && !write) {
		memcpy(buf, ram, len);
	} else if (ram && p2m_is_writable(entry.type)) {
		if (frame_table[entry.mfn.v].owner)
			page_mark_written(&frame_table[entry.mfn.v]);
		memcpy(ram, buf, len);
	}
	read_unlock(&v->domain->p2m.lock);
	return ram;
}

static bool walk(struct emul *e, gva_t addr, bool write, gpa_t *gpa)
{
	struct vcpu *v = e->data;
	unsigned int access = (write ? WALK_WRITE : 0) | (cpu->get_cpl(v) == 3 ? WALK_USER : 0);
	int rc;

	read_lock(&v->domain->p2m.lock);
	rc = guest_walk(v, addr, access, gpa, &e->error);
	read_unlock(&v->domain->p2m.lock);
	e->vector = VECTOR_PF;
	e->cr2 = addr;
	return !rc;
}

/* Guest virtual, at most one page boundary: nothing is done when one of the two faults. */
static bool access_guest(struct emul *e, gva_t addr, void *buf, unsigned int len, bool write)
{
	unsigned int first = (unsigned int)MIN(len, PAGE_SIZE - (addr & ~PAGE_MASK)), n = first;
	struct vcpu *v = e->data;
	gpa_t gpa[2];

	if (!walk(e, addr, write, &gpa[0]) ||
	    (first < len && !walk(e, addr + first, write, &gpa[1])))
		return false;
	for (unsigned int i = 0, done = 0; done < len; i++, done += n, n = len - done) {
		uint8_t *part = (uint8_t *)buf + done;

		if (!access_ram(v, gpa[i], part, n, write))
			access_device(v, gpa[i], part, n, write);
	}
	return true;
}

static void get_segment(struct emul *e, enum guest_seg nr, struct guest_segment *seg)
{
	cpu->get_segment(e->data, nr, seg);
}

static const struct emul_ops emul_ops = {
	.access = access_guest, .segment = get_segment, .in = port_in, .out = port_out,
};

static void run_emulation(struct vcpu *v, enum insn_mode mode, const struct insn *in)
{
	struct emul e = {
		.insn = in, .mode = mode, .regs = &v->regs, .ops = &emul_ops, .data = v };

	if (emulate(&e))
		advance(v, 0);
	else
		cpu->inject(v, EVENT_EXCEPTION, e.vector, e.error, e.cr2);
}

/* The guest lowers its TPR while an interrupt waits for that. */
static void exit_cr8_write(struct vcpu *v, const struct vm_exit *exit)
{
	enum insn_mode mode;
	struct insn in;
	uint64_t cr8;

	/* LOCK MOV CR0 is AMD's way to say CR8 outside 64-bit mode. */
	if (!decode_here(v, exit, &mode, &in) || in.op != INSN_MOV_TO_CR ||
	    (in.reg != 8 && !(in.reg == 0 && in.lock)))
		return;
	cr8 = mode == INSN_MODE_64 ? v->regs.gpr[in.rm] : (uint32_t)v->regs.gpr[in.rm];
	if (cr8 > 15) {
		raise_gp(v);
		return;
	}
	vlapic_set_cr8(v, cr8);
	advance(v, in.len);
}

static void exit_io(struct vcpu *v, const struct vm_exit *exit)
{
	struct emul e = { .data = v };
	uint64_t *rax = &v->regs.gpr[GPR_RAX];
	enum insn_mode mode;
	struct insn in;

	if (unlikely(exit->io.string)) {
		/* What the CPU allowed, no more: the task may have only some ports. */
		if (decode_here(v, exit, &mode, &in) && in.op_bytes == exit->io.size &&
		    in.op == (exit->io.in ? INSN_INS : INSN_OUTS))
			run_emulation(v, mode, &in);
		return;
	}
	if (!exit->io.in)
		port_out(&e, exit->io.port, exit->io.size, (uint32_t)*rax);
	else if (exit->io.size == 4)
		*rax = port_in(&e, exit->io.port, 4);
	else
		memcpy(rax, &(uint32_t){ port_in(&e, exit->io.port, exit->io.size) },
		       exit->io.size);
	advance(v, exit->insn_len);
}

static bool triple_fault(struct vcpu *v)
{
	struct domain *d = v->domain;

	log_info("d%u v%u: triple fault at %lx", d->id, v->id, v->regs.rip);
	domain_shutdown(d, (uint8_t)d->params[HVM_PARAM_TRIPLE_FAULT_REASON]);
	return false;
}

static void exit_npf(struct vcpu *v, const struct vm_exit *exit)
{
	uint64_t e, need = exit->npf.write ? P2M_E_P | P2M_E_W : P2M_E_P;
	enum insn_mode mode;
	unsigned int order;
	struct insn in;

	read_lock(&v->domain->p2m.lock);
	e = p2m_lookup(&v->domain->p2m, gpa_to_gfn(exit->npf.gpa), &order);
	read_unlock(&v->domain->p2m.lock);
	/* Somebody else has mapped it meanwhile. */
	if ((e & (need | P2M_E_UC)) == need && !(exit->npf.exec && (e & P2M_E_NX)))
		return;
	if (exit->npf.write && p2m_e_is_protected(e)) {
		p2m_write_fault(v->domain, gpa_to_gfn(exit->npf.gpa));
		return;
	}
	if (unlikely(v->domain->devices) && devices_map(v->domain, exit->npf.gpa))
		return;
	if (cpu->event_pending(v))
		triple_fault(v);	/* an IDT or a stack of ones delivers nothing */
	else if (exit->npf.exec)
		raise_ud(v);		/* neither ones nor what is shared is code */
	/* Of anything else it was not the memory that faulted: ports exit before. */
	else if (decode_here(v, exit, &mode, &in) && in.op >= INSN_ADD && in.op < INSN_INS)
		run_emulation(v, mode, &in);
}

/* --- Dispatch ----------------------------------------------------------- */

static void exit_exception(struct vcpu *v, const struct vm_exit *exit)
{
	cpu->inject(v, EVENT_EXCEPTION, exit->vector, 0, 0);
}

static void exit_unknown(struct vcpu *v, const struct vm_exit *exit)
{
	domain_crash(v->domain, "vCPU %u: unexpected exit 0x%lx", v->id, exit->raw);
}

/*
 * Either @handle has it all; or @instr, after it was checked that there still
 * is the instruction @op, says whether RIP moves on, as it does without @instr;
 * or there is nothing to do: the main loop serves interrupts, exit_prepare()
 * uses windows.
 */
static const struct {
	void (*handle)(struct vcpu *v, const struct vm_exit *exit);
	bool (*instr)(struct vcpu *v);
	enum insn_op op;
} rows[EXIT_KIND_COUNT] = {
	[EXIT_HYPERCALL] = { NULL, hypercall_exit, INSN_VMMCALL },
	[EXIT_CPUID] = { NULL, exit_cpuid, INSN_CPUID },
	[EXIT_MSR_READ] = { NULL, exit_msr_read, INSN_RDMSR },
	[EXIT_MSR_WRITE] = { NULL, exit_msr_write, INSN_WRMSR },
	[EXIT_IO] = { .handle = exit_io }, [EXIT_NPF] = { .handle = exit_npf },
	[EXIT_HLT] = { NULL, exit_hlt, INSN_HLT }, [EXIT_PAUSE] = { NULL, exit_pause, INSN_PAUSE },
	[EXIT_SHUTDOWN] = { .instr = triple_fault },
	/* No device reads the guest's memory behind its caches. */
	[EXIT_WBINVD] = { .op = INSN_WBINVD },
	[EXIT_XSETBV] = { NULL, exit_xsetbv, INSN_XSETBV },
	[EXIT_RDPMC] = { .instr = raise_gp }, [EXIT_UNDEFINED] = { .instr = raise_ud },
	[EXIT_ICEBP] = { NULL, exit_icebp, INSN_ICEBP },
	[EXIT_EXCEPTION] = { .handle = exit_exception },
	[EXIT_CR8_WRITE] = { .handle = exit_cr8_write },
	[EXIT_UNKNOWN] = { .handle = exit_unknown },
};

void exit_handle(struct vcpu *v, const struct vm_exit *exit)
{
	enum exit_kind kind = exit->kind;
	unsigned int len = 0;

	v->exits[kind]++;
	if (rows[kind].handle) {
		rows[kind].handle(v, exit);
	} else if (rows[kind].instr || rows[kind].op) {
		if (rows[kind].op)
			len = exit_length(v, exit, rows[kind].op);
		if ((len || !rows[kind].op) && (!rows[kind].instr || rows[kind].instr(v)))
			advance(v, len);
	}
}

/* --- Before entry ------------------------------------------------------- */

/* Out of line: most entries have nothing to deliver, and need not pay for its frame. */
static __attribute__((noinline)) void prepare_events(struct vcpu *v)
{
	uint8_t callback = vcpu_callback(v);
	bool nmi = atomic_load(&v->nmi_pending), ready;
	unsigned int prio;
	int vector;

	if (nmi && cpu->can_nmi(v)) {
		nmi = false;
		atomic_store(&v->nmi_pending, false);
		cpu->inject(v, EVENT_NMI, VECTOR_NMI, 0, 0);
	}
	vector = callback ? callback : vlapic_pending(v);
	ready = vector >= 0 && cpu->can_interrupt(v);
	/*
	 * Held back by the shadow of an STI: QEMU forgets that, and a HLT behind it
	 * would sleep on the interrupt it waits for, taken just before.
	 */
	if (vector >= 0 && !ready && (v->regs.rflags & RFLAGS_IF) && !cpu->event_pending(v) &&
	    exit_length(v, &(struct vm_exit){ .kind = EXIT_HLT }, INSN_HLT)) {
		advance(v, 1);
		ready = cpu->can_interrupt(v);
	}
	if (ready) {
		if (!callback)
			vlapic_accept(v, (uint8_t)vector);
		cpu->inject(v, EVENT_INTR, (uint8_t)vector, 0, 0);
		return;
	}
	prio = nmi ? PRIO_NMI : callback ? 15 : vector >= 0 ? (unsigned int)vector >> 4 :
	       vlapic_held_class(v);
	if (prio)
		cpu->irq_window(v, prio);
}

void exit_prepare(struct vcpu *v)
{
	if (unlikely(atomic_load_explicit(&v->lapic.irr_pending, memory_order_acquire) ||
		     atomic_load_explicit(&v->nmi_pending, memory_order_acquire) ||
		     vcpu_callback(v)))
		prepare_events(v);
}
