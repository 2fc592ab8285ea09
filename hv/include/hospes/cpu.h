/* SPDX-License-Identifier: MIT */
/*
 * The contract for running vCPUs: AMD-V implements it in hv/x86/svm, a
 * process for unit tests in tests/port. Everything above works on neutral
 * registers and a neutral exit.
 */
#ifndef HOSPES_CPU_H
#define HOSPES_CPU_H

#include "hospes/decode.h"
#include "hospes/regs.h"
#include "hospes/types.h"

struct pcpu;
struct vcpu;

enum exit_kind {
	EXIT_INTERRUPT,		/* a physical interrupt wants service */
	EXIT_NMI,
	EXIT_HYPERCALL,
	EXIT_CPUID,
	EXIT_MSR_READ,
	EXIT_MSR_WRITE,
	EXIT_IO,
	EXIT_NPF,		/* nested page fault */
	EXIT_HLT,
	EXIT_PAUSE,
	EXIT_IRQ_WINDOW,	/* the guest can take an interrupt now */
	EXIT_SHUTDOWN,		/* triple fault */
	EXIT_WBINVD,
	EXIT_XSETBV,
	EXIT_RDPMC,
	EXIT_UNDEFINED,		/* an instruction the guest does not have: #UD */
	EXIT_ICEBP,		/* raises #DB, as an instruction that is done */
	EXIT_EXCEPTION,		/* an intercepted exception to pass on */
	EXIT_CR8_WRITE,
	EXIT_UNKNOWN,		/* not ours, or the CPU refused the guest's state */
	EXIT_KIND_COUNT,
};

struct vm_exit {
	enum exit_kind kind;
	uint8_t insn_len;	/* 0: not given by the CPU, decode it */
	uint64_t raw;		/* the vendor's exit code, for dumps */
	union {
		struct {
			uint16_t port;
			uint8_t size;		/* 1, 2, 4 */
			bool in, string;
		} io;
		struct {
			gpa_t gpa;
			bool write, exec;
			const uint8_t *insn;	/* 15 bytes from RIP until the next run, */
						/* or NULL when the CPU gave less */
		} npf;
		uint8_t vector;			/* #DB or #AC: an error code is 0 */
	};
};

/* What a page walk needs to know. */
struct guest_paging {
	uint64_t cr0, cr3, cr4, efer;
	uint8_t cpl;
	bool nx, wp;
};

/* Everything that is not in struct guest_regs, for building, dumping, saving. */
struct guest_system {
	uint64_t cr0, cr2, cr3, cr4, efer, dr6, dr7, pat;
	struct guest_segment seg[SEG_COUNT];
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t dr[4];		/* as of when it was last loaded or saved */
	uint32_t event, event_error;	/* queued for injection; 0: none */
	uint8_t cpl;
};

/* guest_system.event: above the vector, in the format of both vendors and of saved state. */
#define EVENT_TYPE_SHIFT 8
#define EVENT_HAS_ERROR	(1u << 11)
#define EVENT_VALID	(1u << 31)

/* An event to inject: type as in both vendors' formats. */
enum event_type { EVENT_INTR = 0, EVENT_NMI = 2, EVENT_EXCEPTION = 3, EVENT_SOFT_INT = 4 };

#define PRIO_NMI 16u	/* a priority class above all others */

struct cpu_ops {
	/* Once per CPU: turn virtualisation on. -XEN_ENODEV with a log line. */
	int (*pcpu_init)(struct pcpu *p) __must_check;

	/* Allocates and frees what a vCPU needs; set_system() before it runs. */
	int (*vcpu_init)(struct vcpu *v) __must_check;
	void (*vcpu_destroy)(struct vcpu *v);

	/* Brings a vCPU's extended state onto this CPU, and off it. */
	void (*load)(struct vcpu *v);
	void (*save)(struct vcpu *v);

	/*
	 * Runs the current vCPU until the next exit. v->regs is loaded and
	 * stored; a changed RIP means that an instruction was completed, which
	 * ends an interrupt shadow; outside 64-bit mode its low half counts.
	 * p2m flushes asked for before entry are honoured: it publishes
	 * pcpu.in_guest with a full barrier before it reads the p2m's flush
	 * generation, and clears it after the exit.
	 */
	void (*run)(struct vcpu *v, struct vm_exit *exit);

	void (*get_system)(struct vcpu *v, struct guest_system *s);
	/*
	 * The event replaces the one queued by inject(). @v is current or loaded
	 * nowhere. -XEN_EINVAL and no change when the CPU would refuse the state.
	 */
	int (*set_system)(struct vcpu *v, const struct guest_system *s);
	bool (*system_valid)(const struct guest_system *s);	/* or would it not? */
	void (*get_paging)(struct vcpu *v, struct guest_paging *g);
	void (*get_segment)(struct vcpu *v, enum guest_seg nr, struct guest_segment *s);
	/* The linear address of RIP; returns how to decode what is there. */
	enum insn_mode (*get_code)(struct vcpu *v, gva_t *ip);
	uint8_t (*get_cpl)(struct vcpu *v);

	/* Can an external interrupt / NMI be taken at the next entry? */
	bool (*can_interrupt)(struct vcpu *v);
	bool (*can_nmi)(struct vcpu *v);
	bool (*event_pending)(struct vcpu *v);	/* one is queued for injection */
	/*
	 * Queues one event for the next entry (one at a time). @error is for the
	 * exceptions that have one; @extra is #PF's CR2, or bits #DB sets in DR6.
	 */
	void (*inject)(struct vcpu *v, enum event_type type, uint8_t vector, uint32_t error,
		       uint64_t extra);
	/*
	 * Asks for EXIT_IRQ_WINDOW as soon as an interrupt of this priority class
	 * (vector >> 4) becomes possible, or while the TPR holds it back, for
	 * EXIT_CR8_WRITE when the guest writes CR8. Holds until the next exit.
	 * PRIO_NMI: not before an NMI is unmasked, which gives an exit anyway.
	 */
	void (*irq_window)(struct vcpu *v, unsigned int prio);

	/* MSRs whose value lives in vendor state. False: not one of them, or #GP(0). */
	bool (*msr_read)(struct vcpu *v, uint32_t msr, uint64_t *val);
	bool (*msr_write)(struct vcpu *v, uint32_t msr, uint64_t val);
	/* guest TSC = host TSC + offset (host scale; scaling is not needed yet). */
	void (*set_tsc_offset)(struct vcpu *v, uint64_t offset);

	/*
	 * Where the extended state of @v, loaded nowhere, is kept: *size bytes in
	 * XSAVE's standard format. What XRSTOR refuses must not be put there.
	 */
	uint8_t *(*xsave_area)(struct vcpu *v, size_t *size);

	/* One line per register group, for crash dumps. */
	void (*dump)(struct vcpu *v);

	/* The opcode bytes of VMMCALL or VMCALL, for the hypercall page. */
	uint8_t hypercall_insn[3];
};

/* Chosen by the port, by the CPU's vendor, before hospes_start(). */
extern const struct cpu_ops *cpu;
extern const struct cpu_ops svm_ops;

/* For get_code: what the registers mean for the code at RIP. */
static inline enum insn_mode cpu_code(uint64_t cr0, uint64_t efer, const struct guest_segment *cs,
				      const struct guest_regs *regs, gva_t *ip)
{
	if (likely((cs->attr & 0x200) && (efer & EFER_LMA))) {
		*ip = regs->rip;
		return INSN_MODE_64;
	}
	*ip = (uint32_t)(cs->base + regs->rip);
	if ((cr0 & CR0_PE) && !(regs->rflags & RFLAGS_VM) && (cs->attr & 0x400))
		return INSN_MODE_32;
	return INSN_MODE_16;
}

#endif
