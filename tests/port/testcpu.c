/* SPDX-License-Identifier: MIT */
/*
 * The test CPU: cpu.h on a plain struct. See testport.h.
 */
#include "port/testport.h"

#include <stdlib.h>
#include <string.h>

#include "hospes/abi.h"
#include "hospes/domain.h"

#define CR0_WP (1u << 16)
#define EFER_NX (1u << 11)

void (*test_run_hook)(struct vcpu *v, struct vm_exit *exit);
unsigned int test_vcpu_init_fail;

struct test_vcpu *test_vcpu(struct vcpu *v)
{
	return v->cpu_state;
}

void test_queue_exit(struct vcpu *v, const struct vm_exit *exit)
{
	struct test_vcpu *t = test_vcpu(v);

	if (t->exit_tail - t->exit_head >= TEST_EXITS)
		abort();
	t->exits[t->exit_tail++ % TEST_EXITS] = *exit;
}

static int test_pcpu_init(struct pcpu *p)
{
	(void)p;
	return 0;
}

static int test_vcpu_create(struct vcpu *v)
{
	struct test_vcpu *t;

	if (test_vcpu_init_fail && --test_vcpu_init_fail == 0)
		return -XEN_ENOMEM;
	t = calloc(1, sizeof(*t));
	if (!t)
		abort();
	t->can_interrupt = true;
	t->can_nmi = true;
	t->xsave[24] = 0x80;	/* MXCSR */
	t->xsave[25] = 0x1f;
	t->sys.cr0 = 0x60000010;
	t->sys.dr6 = 0xffff0ff0;
	t->sys.dr7 = 0x400;
	t->sys.pat = 0x0007040600070406ULL;
	v->cpu_state = t;
	return 0;
}

static void test_vcpu_destroy(struct vcpu *v)
{
	free(v->cpu_state);
	v->cpu_state = NULL;
}

static void test_load(struct vcpu *v)
{
	struct test_vcpu *t = test_vcpu(v);

	if (t->loaded)
		panic("vCPU loaded twice: on %u and %u", t->loaded_on, port_this_pcpu()->cpu_id);
	t->loaded = true;
	t->loaded_on = port_this_pcpu()->cpu_id;
}

static void test_save(struct vcpu *v)
{
	struct test_vcpu *t = test_vcpu(v);

	if (!t->loaded || t->loaded_on != port_this_pcpu()->cpu_id)
		panic("vCPU saved on CPU %u, where it is not loaded", port_this_pcpu()->cpu_id);
	t->loaded = false;
}

static void test_run(struct vcpu *v, struct vm_exit *exit)
{
	struct test_vcpu *t = test_vcpu(v);

	t->nr_runs++;
	t->event_pending = false;
	t->irq_window = 0;
	if (t->exit_head != t->exit_tail)
		*exit = t->exits[t->exit_head++ % TEST_EXITS];
	else
		*exit = (struct vm_exit){ .kind = EXIT_INTERRUPT };
	if (test_run_hook)
		test_run_hook(v, exit);
}

static void test_get_system(struct vcpu *v, struct guest_system *s)
{
	*s = test_vcpu(v)->sys;
}

/* Two rules of the real ones stand for all. */
static bool test_system_valid(const struct guest_system *s)
{
	return !(s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) && s->cpl <= 3;
}

static int test_set_system(struct vcpu *v, const struct guest_system *s)
{
	if (!test_system_valid(s))
		return -XEN_EINVAL;
	test_vcpu(v)->sys = *s;
	return 0;
}

static uint8_t *test_xsave_area(struct vcpu *v, size_t *size)
{
	*size = sizeof(test_vcpu(v)->xsave);
	return test_vcpu(v)->xsave;
}

static void test_get_paging(struct vcpu *v, struct guest_paging *g)
{
	const struct guest_system *s = &test_vcpu(v)->sys;

	*g = (struct guest_paging){
		.cr0 = s->cr0, .cr3 = s->cr3, .cr4 = s->cr4, .efer = s->efer, .cpl = s->cpl,
		.nx = s->efer & EFER_NX, .wp = s->cr0 & CR0_WP,
	};
}

static void test_get_segment(struct vcpu *v, enum guest_seg nr, struct guest_segment *s)
{
	*s = test_vcpu(v)->sys.seg[nr];
}

static enum insn_mode test_get_code(struct vcpu *v, gva_t *ip)
{
	const struct guest_system *s = &test_vcpu(v)->sys;

	return cpu_code(s->cr0, s->efer, &s->seg[SEG_CS], &v->regs, ip);
}

static uint8_t test_get_cpl(struct vcpu *v)
{
	return test_vcpu(v)->sys.cpl;
}

static bool test_can_interrupt(struct vcpu *v)
{
	return test_vcpu(v)->can_interrupt;
}

static bool test_can_nmi(struct vcpu *v)
{
	return test_vcpu(v)->can_nmi;
}

static bool test_event_pending(struct vcpu *v)
{
	return test_vcpu(v)->event_pending;
}

static void test_inject(struct vcpu *v, enum event_type type, uint8_t vector, uint32_t error,
			uint64_t extra)
{
	struct test_vcpu *t = test_vcpu(v);

	t->injected[t->nr_injected++ % TEST_INJECTED] =
		(struct test_event){ type, vector, error, extra };
	t->event_pending = true;
}

static void test_irq_window(struct vcpu *v, unsigned int prio)
{
	test_vcpu(v)->irq_window = prio;
}

/* The MSRs that live in struct guest_system. */
static uint64_t *msr_slot(struct vcpu *v, uint32_t msr)
{
	struct guest_system *s = &test_vcpu(v)->sys;

	switch (msr) {
	case 0x174: return &s->sysenter_cs;
	case 0x175: return &s->sysenter_esp;
	case 0x176: return &s->sysenter_eip;
	case 0x277: return &s->pat;
	case 0xc0000080: return &s->efer;
	case 0xc0000081: return &s->star;
	case 0xc0000082: return &s->lstar;
	case 0xc0000083: return &s->cstar;
	case 0xc0000084: return &s->sfmask;
	case 0xc0000100: return &s->seg[SEG_FS].base;
	case 0xc0000101: return &s->seg[SEG_GS].base;
	case 0xc0000102: return &s->kernel_gs_base;
	default: return NULL;
	}
}

static bool test_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	const uint64_t *slot = msr_slot(v, msr);

	if (slot)
		*val = *slot;
	return slot;
}

static bool test_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	uint64_t *slot = msr_slot(v, msr);

	if (slot)
		*slot = val;
	return slot;
}

static void test_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
	test_vcpu(v)->tsc_offset = offset;
}

static void test_dump(struct vcpu *v)
{
	(void)v;
}

const struct cpu_ops test_cpu_ops = {
	.pcpu_init = test_pcpu_init,
	.vcpu_init = test_vcpu_create,
	.vcpu_destroy = test_vcpu_destroy,
	.load = test_load,
	.save = test_save,
	.run = test_run,
	.get_system = test_get_system,
	.set_system = test_set_system,
	.system_valid = test_system_valid,
	.xsave_area = test_xsave_area,
	.get_paging = test_get_paging,
	.get_segment = test_get_segment,
	.get_code = test_get_code,
	.get_cpl = test_get_cpl,
	.can_interrupt = test_can_interrupt,
	.can_nmi = test_can_nmi,
	.event_pending = test_event_pending,
	.inject = test_inject,
	.irq_window = test_irq_window,
	.msr_read = test_msr_read,
	.msr_write = test_msr_write,
	.set_tsc_offset = test_set_tsc_offset,
	.dump = test_dump,
	.hypercall_insn = { 0x0f, 0x01, 0xd9 },
};
