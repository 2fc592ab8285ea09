/* SPDX-License-Identifier: MIT */
/*
 * The logic of AMD-V: what a VMCB holds before an entry, and what is made of
 * it after an exit. svm_enter() here is the CPU.
 */
#include "unit.h"

#include "hospes/cpu_insn.h"
#include "real_domain.h"
#include "x86/svm/svm.h"

#define FEATURES_ALL (SVM_NPT | SVM_NRIP | SVM_FLUSH_ASID | SVM_ASSISTS | SVM_PAUSE | SVM_PAUSE_THR)
#define IF 0x200u
#define SYSTEM_BYTES (offsetof(struct guest_system, cpl) + 1)	/* without the padding */

static struct domain *d, *other;
static struct vcpu *v;
static struct vmcb *b;

/* What the CPU does when it is entered; the VMCB as it saw it at that time. */
static void (*guest)(struct vmcb *b, uint64_t *gpr);
static struct vmcb seen;
static unsigned int nr_entries;

void svm_enter(paddr_t vmcb, uint64_t *gpr, paddr_t host_vmcb)
{
	struct vmcb *now = mfn_to_virt(paddr_to_mfn(vmcb));

	assert_true(host_vmcb && host_vmcb != vmcb);
	assert_true(now->asid != 0);
	assert_true(now->efer & EFER_SVME);
	assert_int_equal(atomic_load(&port_this_pcpu()->in_guest) != NULL, 1);
	seen = *now;
	nr_entries++;
	now->event_inj &= ~EVENT_VALID;
	now->exit_int_info = 0;
	now->exit_code = SVM_EXIT_INTR;
	if (guest)
		guest(now, gpr);
}

static void machine(uint32_t features, uint32_t asids, unsigned int ncpus)
{
	test_machine_init(4096, ncpus);
	memset(&svm, 0, sizeof(svm));
	cpu = &svm_ops;
	guest = NULL;
	nr_entries = 0;
	test_cpuid_set(0x8000000a, ~0u, 1, asids, 0, features);
	policy_init_host();
	for (unsigned int i = 0; i < ncpus; i++) {
		test_set_cpu(i);
		assert_int_equal(svm_ops.pcpu_init(port_this_pcpu()), 0);
	}
	test_set_cpu(0);
	d = guest_new(1, 2, false);
	other = NULL;
	v = d->vcpus[0];
	b = svm_vmcb(v);
	assert_ptr_equal(guest_run(v), v);
}

static int setup(void **state)
{
	machine(FEATURES_ALL, 8, 2);
	return 0;
}

static int setup_bare(void **state)	/* as QEMU has it */
{
	machine(SVM_NPT, 4, 2);
	return 0;
}

static int teardown(void **state)
{
	assert_true(guest_end(d));
	if (other)
		assert_true(guest_end(other));
	test_machine_fini();
	return 0;
}

static struct vm_exit run(void)
{
	struct vm_exit exit;

	memset(&exit, 0xa5, sizeof(exit));
	svm_ops.run(v, &exit);
	return exit;
}

static bool intercepted(unsigned int code)
{
	return (b->intercept[code / 32] >> (code % 32)) & 1;
}

/* --- Start -------------------------------------------------------------- */

static void test_refuses(void **state)
{
	static const struct { uint32_t leaf, ecx, asids, edx; } rows[] = {
		{ 0x80000001, 0, 8, 1 }, { 0x8000000a, 0, 8, 0 }, { 0x8000000a, 0, 1, 1 },
		{ 1, 0, 8, 1 } };
	unsigned int fail;
	int rc;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		test_machine_init(256, 1);
		memset(&svm, 0, sizeof(svm));
		if (rows[i].leaf == 0x8000000a)
			test_cpuid_set(rows[i].leaf, ~0u, 1, rows[i].asids, 0, rows[i].edx);
		else
			test_cpuid_set(rows[i].leaf, ~0u, 0, 0, rows[i].ecx, 0);
		assert_int_equal(svm_ops.pcpu_init(port_this_pcpu()), -XEN_ENODEV);
		assert_non_null(strstr(test_console_output(), "cannot run guests"));
		test_machine_fini();
	}
	test_machine_init(256, 1);
	test_msr_set(0xc0010114, 0x10, true);
	assert_int_equal(svm_ops.pcpu_init(port_this_pcpu()), -XEN_ENODEV);
	assert_non_null(strstr(test_console_output(), "firmware"));
	test_msr_set(0xc0010114, 0, true);
	policy_init_host();
	for (fail = 1;; fail++) {
		page_fail_after = fail;
		rc = svm_ops.pcpu_init(port_this_pcpu());
		if (!rc)
			break;
		assert_int_equal(rc, -XEN_ENOMEM);
	}
	page_fail_after = 0;
	assert_int_equal(fail, 3);
	assert_true(insn_rdmsr(MSR_EFER) & EFER_SVME);
	assert_int_not_equal(insn_rdmsr(0xc0010117), 0);
	assert_true(insn_read_cr4() & CR4_OSXSAVE);
	/* A second CPU that lacks something is refused. */
	test_cpuid_set(0x8000000a, ~0u, 1, 8, 0, SVM_NPT);
	assert_int_equal(svm_ops.pcpu_init(port_this_pcpu()), -XEN_ENODEV);
	test_cpuid_set(0x8000000a, ~0u, 1, 2, 0, ~0u);
	assert_int_equal(svm_ops.pcpu_init(port_this_pcpu()), -XEN_ENODEV);
	test_machine_fini();
}

static bool msr_passed(uint32_t msr, bool write)
{
	uint64_t bit = (msr & 0x1fff) * 2 + (msr >= 0xc0000000 ? 0x4000 : 0) + write;
	const uint8_t *map = mfn_to_virt(paddr_to_mfn(b->msrpm));

	return !((map[bit / 8] >> (bit % 8)) & 1);
}

static void test_fresh_vmcb(void **state)
{
	static const uint8_t always[] = {
		0x41, 0x51, 0x52, SVM_EXIT_INTR, SVM_EXIT_NMI, SVM_EXIT_CPUID, SVM_EXIT_HLT,
		SVM_EXIT_IOIO, SVM_EXIT_MSR, SVM_EXIT_SHUTDOWN, SVM_EXIT_VMRUN, SVM_EXIT_VMMCALL,
		SVM_EXIT_VMLOAD, SVM_EXIT_VMSAVE, SVM_EXIT_STGI, SVM_EXIT_CLGI, SVM_EXIT_SKINIT,
		SVM_EXIT_INVLPGA, SVM_EXIT_XSETBV, SVM_EXIT_MONITOR, SVM_EXIT_MWAIT,
		SVM_EXIT_INVD };
	static const uint8_t never[] = {
		0x4e, 0x00, 0x10, 0x18, SVM_EXIT_VINTR, SVM_EXIT_IRET, 0x6e, 0x79, 0x7d, 0x87 };
	const uint8_t *io = mfn_to_virt(paddr_to_mfn(b->iopm));
	struct guest_system s;

	for (size_t i = 0; i < sizeof(always); i++)
		assert_true(intercepted(always[i]));
	for (size_t i = 0; i < sizeof(never); i++)
		assert_false(intercepted(never[i]));
	for (unsigned int i = 0; i < 8192 + 1; i++)
		assert_int_equal(io[i], 0xff);
	assert_true(msr_passed(MSR_LSTAR, true) && msr_passed(MSR_LSTAR, false));
	assert_true(msr_passed(MSR_GS_BASE, true) && msr_passed(0x175, true));
	assert_false(msr_passed(MSR_EFER, true) || msr_passed(MSR_EFER, false));
	assert_false(msr_passed(MSR_PAT, true) || msr_passed(0x10, false));
	assert_false(msr_passed(0x1b, true));
	assert_false(msr_passed(0xc0010117, true) || msr_passed(0xda0, true));
	assert_int_equal(b->np_enable, 1);
	assert_int_equal(b->ncr3, d->p2m.root_paddr);
	assert_true(b->int_ctl & INT_MASKING);
	assert_int_equal(b->pause_count, 3000);
	svm_ops.get_system(v, &s);
	assert_int_equal(s.efer, 0);
	assert_true(s.pat == 0x0007040600070406);
}

static void test_no_memory(void **state)
{
	for (unsigned int fail = 1; fail <= 2; fail++) {
		struct vcpu w = { .domain = d };
		uint64_t before = page_free_count();

		page_fail_after = fail;
		if (svm_ops.vcpu_init(&w) == 0)
			svm_ops.vcpu_destroy(&w);
		page_fail_after = 0;
		assert_true(page_free_count() == before);
	}
	svm_ops.vcpu_destroy(&(struct vcpu){ .domain = d });	/* was never made */
}

/* --- State -------------------------------------------------------------- */

static void test_system_round_trip(void **state)
{
	struct guest_system s, got;
	struct guest_paging g;
	struct guest_segment seg;
	gva_t ip;

	memset(&s, 0, sizeof(s));
	s.cr0 = 0x80010033;
	s.cr2 = 0x1234567890;
	s.cr3 = 0xabc000;
	s.cr4 = 0x100020;
	s.efer = 0xd01;
	s.dr6 = 0xffff0ff0;
	s.dr7 = 0x400;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		s.seg[i] = (struct guest_segment){ (uint16_t)(8 * i), 0x893, 0x1000 + i,
						   0x10000 * i };
	s.seg[SEG_CS].attr = 0xa9b;
	s.star = 1, s.lstar = 2, s.cstar = 3, s.sfmask = 4, s.kernel_gs_base = 5;
	s.sysenter_cs = 6, s.sysenter_esp = 7, s.sysenter_eip = 8;
	s.pat = 0x0007040600070406;
	s.cpl = 3;
	assert_int_equal(svm_ops.set_system(v, &s), 0);
	svm_ops.get_system(v, &got);
	assert_memory_equal(&got, &s, SYSTEM_BYTES);
	assert_true(b->efer & EFER_SVME);
	assert_int_equal(b->clean, 0);
	svm_ops.get_paging(v, &g);
	assert_true(g.cr3 == s.cr3 && g.cpl == 3 && g.nx && g.wp && g.efer == s.efer);
	svm_ops.get_segment(v, SEG_TR, &seg);
	assert_memory_equal(&seg, &s.seg[SEG_TR], sizeof(seg));
	assert_int_equal(svm_ops.get_cpl(v), 3);
	v->regs.rip = 0xffffffff81000000;
	assert_int_equal(svm_ops.get_code(v, &ip), INSN_MODE_64);
	assert_int_equal(ip, v->regs.rip);
}

static void test_code_modes(void **state)
{
	static const struct {
		uint64_t cr0, efer, rflags;
		uint16_t attr;
		enum insn_mode mode;
		gva_t ip;
	} rows[] = {
		{ 0x80000011, 0x500, 2, 0xa9b, INSN_MODE_64, 0x100001234 },
		{ 0x80000011, 0x500, 2, 0xc9b, INSN_MODE_32, 0x11234 },	/* compatibility */
		{ 0x80000011, 0x500, 2, 0x89b, INSN_MODE_16, 0x11234 },
		{ 0x11, 0, 2, 0xc9b, INSN_MODE_32, 0x11234 },
		{ 0x11, 0, 2, 0xa9b, INSN_MODE_16, 0x11234 },	/* L means nothing here */
		{ 0x11, 0, 0x20002, 0xc9b, INSN_MODE_16, 0x11234 },	/* virtual-8086 */
		{ 0x10, 0, 2, 0xc9b, INSN_MODE_16, 0x11234 },	/* real */
	};
	gva_t ip;

	v->regs.rip = 0x100001234;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		b->cr0 = rows[i].cr0;
		b->efer = rows[i].efer | EFER_SVME;
		b->seg[SEG_CS].attr = rows[i].attr;
		b->seg[SEG_CS].base = 0x10000;
		v->regs.rflags = rows[i].rflags;
		assert_int_equal(svm_ops.get_code(v, &ip), rows[i].mode);
		assert_int_equal(ip, rows[i].ip);
	}
}

static void test_bad_states(void **state)
{
	struct guest_system good, s, got;

	svm_ops.get_system(v, &good);
#define BAD(...)								\
	do {									\
		s = good;							\
		__VA_ARGS__;							\
		assert_int_equal(svm_ops.set_system(v, &s), -XEN_EINVAL);	\
		svm_ops.get_system(v, &got);					\
		assert_memory_equal(&got, &good, SYSTEM_BYTES);			\
	} while (0)
	BAD(s.cr0 |= 1ULL << 32);
	BAD(s.cr4 |= 1ULL << 40);
	BAD(s.dr6 |= 1ULL << 32);
	BAD(s.dr7 |= 1ULL << 63);
	BAD(s.cr3 = 1ULL << 52);
	BAD(s.efer = EFER_SVME);
	BAD(s.cr0 = 0x20000010);			/* NW without CD */
	BAD(s.cr0 = 0x80000010);			/* paging without protection */
	BAD(s.cr0 = 0x80000011; s.efer = EFER_LME);	/* long mode without PAE */
	BAD(s.cr0 = 0x80000011; s.efer = EFER_LME; s.cr4 = CR4_PAE; s.seg[SEG_CS].attr = 0x69b);
	BAD(s.cpl = 4);
	BAD(s.pat = 0x0007040600070402);
	BAD(s.pat = 0x0807040600070406);
	BAD(s.event = 0x30e);				/* not valid, and not nothing */
	BAD(s.event = EVENT_VALID | 0x130);		/* no such type */
	BAD(s.event = EVENT_VALID | 0x203);		/* an NMI has one vector, */
	BAD(s.event = EVENT_VALID | 0x302);		/* and is no exception */
	BAD(s.event = EVENT_VALID | 0x320);
	BAD(s.event = EVENT_VALID | 0x1030);
#undef BAD
	s = good;
	s.efer = EFER_LME | EFER_LMA;	/* LMA follows from the rest */
	assert_int_equal(svm_ops.set_system(v, &s), 0);
	assert_int_equal(b->efer, EFER_LME | EFER_SVME);
}

static void test_msrs(void **state)
{
	uint64_t val;

	/* EFER: only what the policy has, no LME change while paging, LMA as it is. */
	assert_true(svm_ops.msr_write(v, MSR_EFER, 0x901));
	assert_true(svm_ops.msr_read(v, MSR_EFER, &val) && val == 0x901);
	assert_false(svm_ops.msr_write(v, MSR_EFER, EFER_SVME));
	assert_true(svm_ops.msr_write(v, MSR_EFER, EFER_LMA | EFER_LME));
	assert_true(svm_ops.msr_read(v, MSR_EFER, &val) && val == EFER_LME);
	b->cr0 |= CR0_PG;
	assert_false(svm_ops.msr_write(v, MSR_EFER, 0));
	assert_true(b->efer & EFER_SVME);

	b->clean = CLEAN_ALL;
	assert_true(svm_ops.msr_write(v, MSR_PAT, 0x0606060606060606));
	assert_true(svm_ops.msr_read(v, MSR_PAT, &val) && val == 0x0606060606060606);
	assert_false(b->clean & CLEAN_NP);
	assert_false(svm_ops.msr_write(v, MSR_PAT, 0x0606060606060603));

	for (uint64_t type = 0; type < 256; type++)
		assert_int_equal(svm_ops.msr_write(v, MSR_PAT, type << 24 | type << 56),
				 type < 8 && type != 2 && type != 3);

	d->policy->ext[1].edx |= 1u << 27;
	assert_true(svm_ops.msr_write(v, MSR_TSC_AUX, 5));
	assert_true(svm_ops.msr_read(v, MSR_TSC_AUX, &val) && val == 5);
	assert_int_equal(insn_rdmsr(MSR_TSC_AUX), 5);
	assert_false(svm_ops.msr_write(v, MSR_TSC_AUX, 1ULL << 32));
	d->policy->ext[1].edx &= ~(1u << 27);
	d->policy->leaf7[0].ecx &= ~(1u << 22);
	assert_false(svm_ops.msr_read(v, MSR_TSC_AUX, &val));
	assert_false(svm_ops.msr_write(v, MSR_TSC_AUX, 5));
	assert_false(svm_ops.msr_read(v, 0x1234, &val));
	assert_false(svm_ops.msr_write(v, 0x1234, 0));
}

static uint64_t spec_inside, virt_inside;

static void note_spec(struct vmcb *now, uint64_t *gpr)
{
	spec_inside = insn_rdmsr(MSR_SPEC_CTRL);
	virt_inside = insn_rdmsr(MSR_VIRT_SPEC);
}

static void test_speculation_controls(void **state)
{
	uint64_t val;

	d->policy->ext[8].ebx = 0;
	assert_false(svm_ops.msr_write(v, MSR_SPEC_CTRL, 1));
	assert_false(svm_ops.msr_read(v, MSR_VIRT_SPEC, &val));
	assert_false(svm_ops.msr_write(v, MSR_PRED_CMD, 1));
	d->policy->ext[8].ebx = 1u << 12 | 1u << 14 | 1u << 24 | 1u << 25;
	assert_false(svm_ops.msr_write(v, MSR_SPEC_CTRL, 2));	/* no STIBP */
	assert_true(svm_ops.msr_write(v, MSR_SPEC_CTRL, 5));
	assert_true(svm_ops.msr_read(v, MSR_SPEC_CTRL, &val) && val == 5);
	assert_true(svm_ops.msr_write(v, MSR_VIRT_SPEC, 4));
	assert_false(svm_ops.msr_write(v, MSR_VIRT_SPEC, 1));
	assert_true(svm_ops.msr_read(v, MSR_VIRT_SPEC, &val) && val == 4);
	assert_false(svm_ops.msr_write(v, MSR_PRED_CMD, 2));
	assert_true(svm_ops.msr_write(v, MSR_PRED_CMD, 1));
	assert_int_equal(insn_rdmsr(MSR_PRED_CMD), 1);
	guest = note_spec;
	run();
	assert_int_equal(spec_inside, 5);
	assert_int_equal(virt_inside, 4);
	assert_int_equal(insn_rdmsr(MSR_SPEC_CTRL), 0);
	assert_int_equal(insn_rdmsr(MSR_VIRT_SPEC), 0);
}

/* --- World switch ------------------------------------------------------- */

static void change_registers(struct vmcb *now, uint64_t *gpr)
{
	assert_int_equal(now->rax, 1);
	assert_int_equal(now->rsp, 2);
	assert_int_equal(gpr[GPR_RBX], 3);
	now->rax = 11;
	now->rsp = 12;
	now->rip = 13;
	now->rflags = 0x246;
	gpr[GPR_RBX] = 14;
}

static void test_registers(void **state)
{
	v->regs.gpr[GPR_RAX] = 1;
	v->regs.gpr[GPR_RSP] = 2;
	v->regs.gpr[GPR_RBX] = 3;
	v->regs.rflags = 0x10002;	/* RF */
	v->regs.rip = 5;
	guest = change_registers;
	run();
	assert_int_equal(v->regs.gpr[GPR_RAX], 11);
	assert_int_equal(v->regs.gpr[GPR_RSP], 12);
	assert_int_equal(v->regs.rip, 13);
	assert_int_equal(v->regs.rflags, 0x246);
	assert_int_equal(v->regs.gpr[GPR_RBX], 14);
	assert_null(atomic_load(&port_this_pcpu()->in_guest));
	assert_int_equal(seen.rflags, 2);	/* RIP was set: RF is over */
	assert_int_equal(b->clean, CLEAN_ALL);
	/* Where RIP has 32 bits an instruction done here does not leave them. */
	b->seg[SEG_CS].attr = 0xc9b;
	v->regs.gpr[GPR_RAX] = 1, v->regs.gpr[GPR_RSP] = 2, v->regs.gpr[GPR_RBX] = 3;
	v->regs.rip = 0x100000001;
	run();
	assert_int_equal(seen.rip, 1);
	b->seg[SEG_CS].attr = 0xa9b;
	v->regs.gpr[GPR_RAX] = 1, v->regs.gpr[GPR_RSP] = 2, v->regs.gpr[GPR_RBX] = 3;
	v->regs.rip = 0x100000001;
	run();
	assert_true(seen.rip == 0x100000001);
}

static void test_shadow(void **state)
{
	guest = NULL;
	v->regs.rflags = 2 | IF;
	run();
	b->int_shadow = 1;
	assert_false(svm_ops.can_interrupt(v));
	assert_false(svm_ops.can_nmi(v));
	v->regs.rip++;			/* completed here, as HLT after STI */
	assert_true(svm_ops.can_interrupt(v));
	assert_true(svm_ops.can_nmi(v));
	run();
	assert_int_equal(seen.int_shadow, 0);
	v->regs.rflags = 2;
	assert_false(svm_ops.can_interrupt(v));
	assert_true(svm_ops.can_nmi(v));
}

static void lower_tpr(struct vmcb *now, uint64_t *gpr)
{
	assert_int_equal(now->int_ctl & INT_TPR_MASK, 9);
	now->int_ctl = (now->int_ctl & ~INT_TPR_MASK) | 3;
}

static void test_tpr(void **state)
{
	vlapic_set_cr8(v, 9);
	guest = lower_tpr;
	run();
	assert_false(seen.clean & CLEAN_TPR);
	assert_int_equal(vlapic_get_cr8(&v->lapic), 3);
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x30);
	guest = NULL;
	run();
	assert_true(seen.clean & CLEAN_TPR);
	/* The low half of the register is not CR8's and stays. */
	v->lapic.reg[APIC_TPR] = 0x35;
	run();
	assert_int_equal(v->lapic.reg[APIC_TPR], 0x35);
}

/* --- Translations ------------------------------------------------------- */

static void test_flush(void **state)
{
	uint32_t asid;

	run();
	asid = seen.asid;
	run();
	assert_int_equal(seen.asid, asid);
	assert_int_equal(seen.tlb_control, 0);
	assert_true(seen.clean & CLEAN_ASID);
	p2m_flush(d);
	run();
	assert_int_equal(seen.asid, asid);
	assert_int_equal(seen.tlb_control, TLB_FLUSH_ASID);
	run();
	assert_int_equal(seen.tlb_control, 0);
}

static void test_flush_without_help(void **state)
{
	uint32_t asid;
	bool all = false;

	run();
	asid = seen.asid;
	/* Four ASIDs, one the host's: a new one each time, and when they are used up all go. */
	for (unsigned int i = 0; i < 6; i++) {
		p2m_flush(d);
		run();
		assert_true(seen.asid != asid || seen.tlb_control == TLB_FLUSH_ALL);
		assert_in_range(seen.asid, 1, 3);
		assert_false(seen.clean & CLEAN_ASID);
		all |= seen.tlb_control == TLB_FLUSH_ALL;
		asid = seen.asid;
	}
	assert_true(all);
}

/* Elsewhere it gets an ASID of that CPU; what it left here is not used again. */
static void test_move(void **state)
{
	unsigned int home = port_this_pcpu()->cpu_id;
	uint32_t asid;

	run();
	asid = seen.asid;
	svm_ops.save(v);
	test_set_cpu(1 - home);
	svm_ops.load(v);
	run();
	assert_int_equal(seen.clean, 0);
	svm_ops.save(v);
	test_set_cpu(home);
	svm_ops.load(v);
	run();
	assert_int_not_equal(seen.asid, asid);
	assert_int_equal(seen.clean, 0);
}

/* --- State that VMRUN does not switch ----------------------------------- */

static void test_extended_state(void **state)
{
	uint8_t *xstate = test_xstate(port_this_pcpu()->cpu_id);
	uint64_t dr[4];
	struct vcpu *w;

	other = guest_new(2, 1, false);
	w = other->vcpus[0];
	insn_xsetbv(0, 7);		/* without an exit, as QEMU lets guests */
	v->msr.tsc_aux = 3;
	memset(xstate, 0x11, TEST_XSTATE_SIZE);
	insn_write_drs((const uint64_t[4]){ 100, 101, 102, 103 });
	svm_ops.save(v);
	insn_wrmsr(MSR_PRED_CMD, 0);
	svm_ops.load(w);
	assert_int_equal(insn_rdmsr(MSR_PRED_CMD), 1);	/* another domain */
	assert_int_equal(insn_xgetbv(0), 1);
	assert_int_equal(insn_rdmsr(MSR_TSC_AUX), 0);
	insn_read_drs(dr);
	assert_int_equal(dr[2], 0);
	assert_int_equal(xstate[512], 0);	/* XSTATE_BV: all initial, but for MXCSR */
	assert_int_equal(xstate[25], 0x1f);
	assert_int_equal(xstate[300], 0);
	svm_ops.save(w);
	svm_ops.load(v);
	assert_int_equal(insn_xgetbv(0), 7);
	assert_int_equal(v->msr.xcr0, 7);
	assert_int_equal(insn_rdmsr(MSR_TSC_AUX), 3);
	insn_read_drs(dr);
	assert_int_equal(dr[2], 102);
	assert_int_equal(xstate[300], 0x11);
	insn_wrmsr(MSR_PRED_CMD, 0);
	svm_ops.save(v);
	svm_ops.load(v);
	assert_int_equal(insn_rdmsr(MSR_PRED_CMD), 0);	/* the same again: nothing to hide */
}

/* A dead domain's address may come back: its last load must not count for that. */
static void test_no_ghost(void **state)
{
	struct vcpu w = { .domain = d };

	assert_int_equal(svm_ops.vcpu_init(&w), 0);
	svm_ops.vcpu_destroy(&w);
	insn_wrmsr(MSR_PRED_CMD, 0);
	svm_ops.save(v);
	svm_ops.load(v);
	assert_int_equal(insn_rdmsr(MSR_PRED_CMD), 1);
}

/* --- Exits -------------------------------------------------------------- */

static uint64_t code, info1, info2, next_rip;

static void do_exit(struct vmcb *now, uint64_t *gpr)
{
	now->exit_code = code;
	now->exit_info1 = info1;
	now->exit_info2 = info2;
	now->next_rip = next_rip;
}

static struct vm_exit exit_with(uint64_t c, uint64_t i1, uint64_t i2)
{
	code = c;
	info1 = i1;
	info2 = i2;
	guest = do_exit;
	v->regs.rip = 0x1000;
	return run();
}

static void test_decode(void **state)
{
	static const struct { uint64_t code, info1; enum exit_kind kind; } rows[] = {
		{ 0x60, 0, EXIT_INTERRUPT }, { 0x61, 0, EXIT_NMI }, { 0x63, 0, EXIT_INTERRUPT },
		{ 0x64, 0, EXIT_IRQ_WINDOW }, { 0x6f, 0, EXIT_RDPMC }, { 0x72, 0, EXIT_CPUID },
		{ 0x73, 0, EXIT_UNDEFINED }, { 0x76, 0, EXIT_WBINVD }, { 0x77, 0, EXIT_PAUSE },
		{ 0x78, 0, EXIT_HLT }, { 0x7a, 0, EXIT_UNDEFINED }, { 0x7c, 0, EXIT_MSR_READ },
		{ 0x7c, 1, EXIT_MSR_WRITE }, { 0x7f, 0, EXIT_SHUTDOWN },
		{ 0x80, 0, EXIT_UNDEFINED },
		{ 0x81, 0, EXIT_HYPERCALL }, { 0x86, 0, EXIT_UNDEFINED }, { 0x89, 0, EXIT_WBINVD },
		{ 0x8a, 0, EXIT_UNDEFINED }, { 0x8b, 0, EXIT_UNDEFINED }, { 0x8d, 0, EXIT_XSETBV },
		{ 0x8e, 0, EXIT_UNDEFINED }, { 0xffffffff, 0, EXIT_UNKNOWN },
		{ ~0ULL, 0, EXIT_UNKNOWN },
		{ 0x7d, 0, EXIT_UNKNOWN }, { 0x18, 0, EXIT_CR8_WRITE }, { 0x00, 0, EXIT_UNKNOWN },
		{ 0x401, 0, EXIT_UNKNOWN },
		{ 0xbf, 0, EXIT_UNKNOWN }, { 0xc0, 0, EXIT_UNKNOWN },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vm_exit exit = exit_with(rows[i].code, rows[i].info1, 0);

		assert_int_equal(exit.kind, rows[i].kind);
		assert_true(exit.raw == rows[i].code);
		assert_int_equal(exit.insn_len, 0);
	}
}

static void test_decode_length(void **state)
{
	next_rip = 0x1003;
	assert_int_equal(exit_with(SVM_EXIT_VMMCALL, 0, 0).insn_len, 3);
	next_rip = 0x1010;	/* no instruction is that long */
	assert_int_equal(exit_with(SVM_EXIT_VMMCALL, 0, 0).insn_len, 0);
	next_rip = 0;
	svm.features &= ~SVM_NRIP;
	next_rip = 0x1003;
	assert_int_equal(exit_with(SVM_EXIT_VMMCALL, 0, 0).insn_len, 0);
	next_rip = 0;
}

static void test_decode_io(void **state)
{
	/* rep insb at port 0x1f0; out %eax, $0x70 */
	struct vm_exit exit = exit_with(SVM_EXIT_IOIO, 0x1f0 << 16 | 0x10 | 8 | 4 | 1, 0x1002);

	assert_int_equal(exit.kind, EXIT_IO);
	assert_int_equal(exit.io.port, 0x1f0);
	assert_int_equal(exit.io.size, 1);
	assert_true(exit.io.in && exit.io.string);
	assert_int_equal(exit.insn_len, 2);
	exit = exit_with(SVM_EXIT_IOIO, 0x70 << 16 | 0x40, 0x1002);
	assert_int_equal(exit.io.size, 4);
	assert_false(exit.io.in || exit.io.string);
}

static void test_decode_npf(void **state)
{
	struct vm_exit exit;

	b->insn_len = 15;
	exit = exit_with(SVM_EXIT_NPF, 1ULL << 32 | 2, 0x123456789000);
	assert_int_equal(exit.kind, EXIT_NPF);
	assert_int_equal(exit.npf.gpa, 0x123456789000);
	assert_true(exit.npf.write && !exit.npf.exec);
	assert_ptr_equal(exit.npf.insn, b->insn);
	b->insn_len = 7;
	exit = exit_with(SVM_EXIT_NPF, 1ULL << 32 | 16 | 1, 0x1000);
	assert_true(!exit.npf.write && exit.npf.exec);
	assert_null(exit.npf.insn);
	svm.features &= ~SVM_ASSISTS;
	b->insn_len = 15;
	assert_null(exit_with(SVM_EXIT_NPF, 0, 0x1000).npf.insn);
}

static void test_decode_exceptions(void **state)
{
	struct vm_exit exit = exit_with(0x41, 0, 0);

	assert_int_equal(exit.kind, EXIT_EXCEPTION);
	assert_int_equal(exit.vector, 1);
	exit = exit_with(0x51, 0, 0);
	assert_int_equal(exit.vector, 17);
	assert_int_equal(exit_with(SVM_EXIT_ICEBP, 0, 0).kind, EXIT_ICEBP);
	assert_true(TEST_PANICS(exit_with(0x52, 0, 0)));
	atomic_store(&port_this_pcpu()->in_guest, NULL);
}

/* --- Events ------------------------------------------------------------- */

static void test_inject(void **state)
{
	v->regs.rflags = 2 | IF;
	assert_true(svm_ops.can_interrupt(v));
	svm_ops.inject(v, EVENT_INTR, 0x51, 0, 0);
	assert_true(svm_ops.event_pending(v));
	assert_false(svm_ops.can_interrupt(v));
	assert_false(svm_ops.can_nmi(v));
	run();
	assert_true(seen.event_inj == (EVENT_VALID | 0x51));
	assert_false(svm_ops.event_pending(v));
	svm_ops.inject(v, EVENT_EXCEPTION, 14, 0xbeef, 77);
	assert_int_equal(b->cr2, 77);
	run();
	assert_false(seen.clean & CLEAN_CR2);
	assert_true(seen.event_inj == (EVENT_VALID | 0x300 | EVENT_HAS_ERROR | 14));
	assert_int_equal(seen.event_error, 0xbeef);
	b->dr6 = 0xffff0ff0;
	svm_ops.inject(v, EVENT_EXCEPTION, 1, 0, 0x4000);
	run();
	assert_true(seen.event_inj == (EVENT_VALID | 0x300 | 1));
	assert_int_equal(seen.dr6, 0xffff4ff0);
	assert_false(seen.clean & CLEAN_DR);
	assert_int_equal(b->cr2, 77);
	run();
	assert_false(seen.event_inj & EVENT_VALID);
}

static uint32_t int_info;

static void interrupt_delivery(struct vmcb *now, uint64_t *gpr)
{
	now->exit_code = SVM_EXIT_NPF;
	now->exit_int_info = int_info;
	now->exit_int_error = 0x77;
	guest = NULL;
}

static void test_delivery_interrupted(void **state)
{
	static const struct { uint32_t info; bool again; } rows[] = {
		{ EVENT_VALID | 0x51, true }, { EVENT_VALID | 0x300 | EVENT_HAS_ERROR | 14, true },
		{ EVENT_VALID | 0x200 | 2, true }, { EVENT_VALID | 0x400 | 0x80, false },
		{ EVENT_VALID | 0x300 | 3, false }, { EVENT_VALID | 0x300 | 4, false },
		{ 0x51, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int_info = rows[i].info;
		guest = interrupt_delivery;
		run();
		assert_int_equal(svm_ops.event_pending(v), rows[i].again);
		run();
		assert_int_equal(!!(seen.event_inj & EVENT_VALID), rows[i].again);
		if (rows[i].again) {
			assert_true(seen.event_inj == rows[i].info);
			assert_int_equal(seen.event_error, 0x77);
		}
		assert_false(svm_ops.event_pending(v));
	}
}

static void at_cr8(struct vmcb *now, uint64_t *gpr)
{
	now->exit_code = SVM_EXIT_CR8_WRITE;
}

static void test_irq_window(void **state)
{
	run();
	svm_ops.irq_window(v, 6);
	run();
	assert_true(seen.int_ctl & INT_IRQ);
	assert_int_equal((seen.int_ctl & INT_PRIO_MASK) >> INT_PRIO_SHIFT, 6);
	assert_true((seen.intercept[3] >> 4) & 1);
	assert_true((seen.intercept[0] >> 24) & 1);
	assert_false(seen.clean & (CLEAN_TPR | CLEAN_INTERCEPTS));
	/* It held for one entry. */
	run();
	assert_false(seen.int_ctl & INT_IRQ);
	/* Held back by the TPR: the write of CR8 says when it is time. */
	vlapic_set_cr8(v, 6);
	svm_ops.irq_window(v, 6);
	guest = at_cr8;
	assert_int_equal(run().kind, EXIT_CR8_WRITE);
	assert_false(seen.int_ctl & INT_IRQ);
	assert_true((seen.intercept[0] >> 24) & 1);
	guest = NULL;
	run();
	assert_false((seen.intercept[0] >> 24) & 1);
	assert_false((seen.intercept[3] >> 4) & 1);
}

static void at_iret(struct vmcb *now, uint64_t *gpr)
{
	now->exit_code = SVM_EXIT_IRET;
	now->rip = 0x5000;
}

static void after_iret(struct vmcb *now, uint64_t *gpr)
{
	now->rip = 0x6000;
}

static void test_nmi_masking(void **state)
{
	struct guest_system s;

	assert_true(svm_ops.can_nmi(v));
	svm_ops.inject(v, EVENT_NMI, 2, 0, 0);
	run();
	assert_true(seen.event_inj == (EVENT_VALID | 0x200 | 2));
	assert_true(intercepted(SVM_EXIT_IRET));
	assert_false(svm_ops.can_nmi(v));
	guest = at_iret;
	assert_int_equal(run().kind, EXIT_IRQ_WINDOW);
	assert_false(intercepted(SVM_EXIT_IRET));
	assert_false(svm_ops.can_nmi(v));	/* the IRET itself has not run */
	guest = NULL;
	run();
	assert_false(svm_ops.can_nmi(v));
	guest = after_iret;
	run();
	assert_true(svm_ops.can_nmi(v));
	/* One more is waiting: a window only while they are not masked. */
	svm_ops.irq_window(v, PRIO_NMI);
	guest = NULL;
	run();
	assert_true(seen.int_ctl & INT_IRQ);
	assert_int_equal((seen.int_ctl & INT_PRIO_MASK) >> INT_PRIO_SHIFT, 15);
	svm_ops.inject(v, EVENT_NMI, 2, 0, 0);
	run();
	svm_ops.irq_window(v, PRIO_NMI);
	run();
	assert_false(seen.int_ctl & INT_IRQ);
	/* INIT forgets it. */
	svm_ops.inject(v, EVENT_NMI, 2, 0, 0);
	svm_ops.get_system(v, &s);
	assert_int_equal(s.event, EVENT_VALID | EVENT_NMI << EVENT_TYPE_SHIFT | 2);
	s.event = 0;
	assert_int_equal(svm_ops.set_system(v, &s), 0);
	assert_true(svm_ops.can_nmi(v));
	assert_false(svm_ops.event_pending(v));
	assert_false(intercepted(SVM_EXIT_IRET));
}

/* What was to be injected is so elsewhere, and masks what it did here. */
static void test_event_moves(void **state)
{
	struct guest_system s;

	svm_ops.inject(v, EVENT_EXCEPTION, VECTOR_PF, 0x7, 0x1234);
	svm_ops.get_system(v, &s);
	assert_int_equal(s.event, EVENT_VALID | EVENT_HAS_ERROR | 0x30e);
	assert_int_equal(s.event_error, 7);
	run();
	assert_false(svm_ops.event_pending(v));
	s.dr[2] = 0x1000;
	assert_int_equal(svm_ops.set_system(v, &s), 0);
	run();
	assert_int_equal(seen.event_inj, s.event);
	assert_int_equal(seen.event_error, 7);
	assert_int_equal(seen.cr2, 0x1234);
	s.event = EVENT_VALID | EVENT_NMI << EVENT_TYPE_SHIFT | 2;
	assert_int_equal(svm_ops.set_system(v, &s), 0);
	run();
	assert_false(svm_ops.can_nmi(v));
	assert_true(intercepted(SVM_EXIT_IRET));
}

static void test_tsc_and_dump(void **state)
{
	run();
	svm_ops.set_tsc_offset(v, 0x123456);
	run();
	assert_int_equal(seen.tsc_offset, 0x123456);
	assert_false(seen.clean & CLEAN_INTERCEPTS);
	v->regs.gpr[GPR_R15] = 0xfeedface;
	test_console_clear();
	svm_ops.dump(v);
	assert_non_null(strstr(test_console_output(), "00000000feedface"));
	assert_non_null(strstr(test_console_output(), "ldtr"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define T_BARE(f) cmocka_unit_test_setup_teardown(f, setup_bare, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses), T(test_fresh_vmcb), T(test_no_memory),
		T(test_system_round_trip), T(test_code_modes), T(test_bad_states), T(test_msrs),
		T(test_speculation_controls), T(test_registers), T(test_shadow), T(test_tpr),
		T(test_flush), T_BARE(test_flush_without_help), T_BARE(test_move),
		T(test_extended_state), T(test_no_ghost), T(test_decode), T(test_decode_length),
		T(test_decode_io), T(test_decode_npf), T(test_decode_exceptions), T(test_inject),
		T(test_delivery_interrupted), T(test_irq_window), T(test_nmi_masking),
		T(test_event_moves), T(test_tsc_and_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
