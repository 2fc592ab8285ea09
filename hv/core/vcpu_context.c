/* SPDX-License-Identifier: MIT */
/*
 * The context a guest gives to VCPUOP_initialise: checked, and translated to
 * neutral registers. What passes is a state the CPU accepts.
 */
#include "hospes/domain.h"
#include "hospes/lib.h"

#define CR0_PE 0x1u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u
#define CR0_VALID 0xe005003fu
#define CR0_ET 0x10u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define RFLAGS_ONE 0x2u
#define DR6_RESET 0xffff0ff0u
#define DR7_RESET 0x400u
#define PAT_RESET 0x0007040600070406ULL

#define ATTR_READ_WRITE 0x2u	/* readable code or writable data */
#define ATTR_CODE 0x8u
#define ATTR_S 0x10u
#define ATTR_DPL 0x60u
#define ATTR_P 0x80u
#define ATTR_L 0x200u
#define ATTR_DB 0x400u
#define ATTR_RESERVED 0xf000u

/* What attributes a segment must have, unless it may be absent and is. */
static const struct segment_rule {
	uint16_t mask, value;
	bool may_be_absent;
} segment_rules[SEG_COUNT] = {
	[SEG_CS] = { ATTR_P | ATTR_S | ATTR_CODE, ATTR_P | ATTR_S | ATTR_CODE, false },
	[SEG_SS] = { ATTR_P | ATTR_S | ATTR_CODE | ATTR_READ_WRITE,
		     ATTR_P | ATTR_S | ATTR_READ_WRITE, false },
	[SEG_DS] = { ATTR_P | ATTR_S, ATTR_P | ATTR_S, true },
	[SEG_ES] = { ATTR_P | ATTR_S, ATTR_P | ATTR_S, true },
	[SEG_FS] = { 0, 0, true },
	[SEG_GS] = { 0, 0, true },
	[SEG_LDTR] = { 0, 0, true },
	[SEG_TR] = { ATTR_P | ATTR_S | 0x7, ATTR_P | 0x3, false },	/* a busy TSS */
};

static bool segments_ok(const struct guest_system *s)
{
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		const struct segment_rule *r = &segment_rules[i];
		uint16_t attr = s->seg[i].attr;

		if (attr & ATTR_RESERVED)
			return false;
		if (r->may_be_absent && !(attr & ATTR_P))
			continue;
		if ((attr & r->mask) != r->value)
			return false;
		/* Execute-only code cannot be read through DS or ES. */
		if (r->may_be_absent && (attr & (ATTR_CODE | ATTR_READ_WRITE)) == ATTR_CODE)
			return false;
	}
	return (s->seg[SEG_CS].attr & ATTR_DPL) == (s->seg[SEG_SS].attr & ATTR_DPL);
}

static bool control_ok(const struct domain *d, const struct guest_system *s)
{
	bool paging = s->cr0 & CR0_PG;

	if (s->cr0 & ~(uint64_t)CR0_VALID || s->cr4 & ~d->policy->cr4_valid ||
	    s->efer & ~(d->policy->efer_valid | EFER_LMA))
		return false;
	if ((s->cr0 & CR0_NW && !(s->cr0 & CR0_CD)) || (paging && !(s->cr0 & CR0_PE)))
		return false;
	if (paging && s->efer & EFER_LME && !(s->cr4 & CR4_PAE))
		return false;
	/* The CPU's own business, but whoever names it must name it right. */
	return !(s->efer & EFER_LMA) || (paging && s->efer & EFER_LME);
}

#define SEGMENT(c, name) \
	{ .base = (c)->name##_base, .limit = (c)->name##_limit, .attr = (c)->name##_ar }

static void from_32(const struct vcpu_hvm_x86_32 *c, struct guest_regs *r, struct guest_system *s)
{
	*r = (struct guest_regs){
		.gpr = { c->eax, c->ecx, c->edx, c->ebx, c->esp, c->ebp, c->esi, c->edi },
		.rip = c->eip,
		.rflags = c->eflags | RFLAGS_ONE,
	};
	*s = (struct guest_system){
		.cr0 = c->cr0 | CR0_ET, .cr3 = c->cr3, .cr4 = c->cr4, .efer = c->efer,
		.seg = {
			[SEG_CS] = SEGMENT(c, cs), [SEG_DS] = SEGMENT(c, ds),
			[SEG_SS] = SEGMENT(c, ss), [SEG_ES] = SEGMENT(c, es),
			[SEG_TR] = SEGMENT(c, tr),
		},
	};
}

static void from_64(const struct vcpu_hvm_x86_64 *c, struct guest_regs *r, struct guest_system *s)
{
	static const struct guest_segment data = { .attr = 0xc93, .limit = ~0u };

	*r = (struct guest_regs){
		.gpr = { c->rax, c->rcx, c->rdx, c->rbx, c->rsp, c->rbp, c->rsi, c->rdi },
		.rip = c->rip,
		.rflags = c->rflags | RFLAGS_ONE,
	};
	*s = (struct guest_system){
		.cr0 = c->cr0 | CR0_ET, .cr3 = c->cr3, .cr4 = c->cr4, .efer = c->efer,
		.seg = {
			[SEG_CS] = { .attr = 0xa9b, .limit = ~0u },
			[SEG_DS] = data, [SEG_SS] = data, [SEG_ES] = data,
			[SEG_TR] = { .attr = 0x8b, .limit = 0x67 },
		},
	};
}

int vcpu_context_check(const struct domain *d, const struct vcpu_hvm_context *c,
		       struct guest_regs *r, struct guest_system *s)
{
	bool long_mode;

	if (c->mode > VCPU_HVM_MODE_64B)
		return -XEN_EINVAL;
	if (c->mode == VCPU_HVM_MODE_64B)
		from_64(&c->cpu_regs.x86_64, r, s);
	else
		from_32(&c->cpu_regs.x86_32, r, s);
	if (!control_ok(d, s) || !segments_ok(s))
		return -XEN_EINVAL;
	long_mode = s->cr0 & CR0_PG && s->efer & EFER_LME;
	if (c->mode == VCPU_HVM_MODE_64B && (!long_mode || !gva_is_canonical(r->rip)))
		return -XEN_EINVAL;
	if (long_mode && (s->seg[SEG_CS].attr & (ATTR_L | ATTR_DB)) == (ATTR_L | ATTR_DB))
		return -XEN_EINVAL;
	s->efer |= long_mode ? EFER_LMA : 0;
	s->cpl = (s->seg[SEG_SS].attr & ATTR_DPL) >> 5;
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	s->pat = PAT_RESET;
	return 0;
}
