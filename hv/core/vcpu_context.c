/* SPDX-License-Identifier: MIT */
/*
 * The context a guest gives to VCPUOP_initialise: checked, and translated to
 * neutral registers. Combinations of control bits are for cpu->set_system()
 * to refuse.
 */
#include "hospes/domain.h"

#define CR0_ET 0x10u

#define ATTR_RW 0x2u		/* readable code or writable data */
#define ATTR_CODE 0x8u
#define ATTR_S 0x10u
#define ATTR_DPL 0x60u
#define ATTR_P 0x80u
#define ATTR_RESERVED 0xf000u

/* What attributes a segment must have; a data segment may be absent instead. */
static const struct { uint16_t mask, value; } segment_rules[SEG_COUNT] = {
	[SEG_CS] = { ATTR_P | ATTR_S | ATTR_CODE, ATTR_P | ATTR_S | ATTR_CODE },
	[SEG_SS] = { ATTR_P | ATTR_S | ATTR_CODE | ATTR_RW, ATTR_P | ATTR_S | ATTR_RW },
	[SEG_DS] = { ATTR_S, ATTR_S }, [SEG_ES] = { ATTR_S, ATTR_S },
	[SEG_TR] = { ATTR_P | ATTR_S | 0x7, ATTR_P | 0x3 },	/* a busy TSS */
};

static bool segments_ok(const struct guest_segment *seg)
{
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		bool data = i == SEG_DS || i == SEG_ES;
		uint16_t attr = seg[i].attr;

		if (attr & ATTR_RESERVED)
			return false;
		if (data && !(attr & ATTR_P))
			continue;
		if ((attr & segment_rules[i].mask) != segment_rules[i].value)
			return false;
		/* Execute-only code cannot be read through them. */
		if (data && (attr & (ATTR_CODE | ATTR_RW)) == ATTR_CODE)
			return false;
	}
	return (seg[SEG_CS].attr & ATTR_DPL) == (seg[SEG_SS].attr & ATTR_DPL);
}

#define SEGMENT(c, name) \
	{ .base = (c)->name##_base, .limit = (c)->name##_limit, .attr = (c)->name##_ar }

/* The registers, named with e or r. */
#define REGS(c, e) { \
	.gpr = { (c)->e##ax, (c)->e##cx, (c)->e##dx, (c)->e##bx, \
		 (c)->e##sp, (c)->e##bp, (c)->e##si, (c)->e##di }, \
	.rip = (c)->e##ip, .rflags = (c)->e##flags | RFLAGS_RESET }
#define CONTROL(c) \
	.cr0 = (c)->cr0 | CR0_ET, .cr3 = (c)->cr3, .cr4 = (c)->cr4, .efer = (c)->efer

static void from_32(const struct vcpu_hvm_x86_32 *c, struct guest_regs *r, struct guest_system *s)
{
	*r = (struct guest_regs)REGS(c, e);
	*s = (struct guest_system){ CONTROL(c), .seg = {
		[SEG_CS] = SEGMENT(c, cs), [SEG_DS] = SEGMENT(c, ds), [SEG_SS] = SEGMENT(c, ss),
		[SEG_ES] = SEGMENT(c, es), [SEG_TR] = SEGMENT(c, tr),
	} };
}

static void from_64(const struct vcpu_hvm_x86_64 *c, struct guest_regs *r, struct guest_system *s)
{
	static const struct guest_segment data = { .attr = 0xc93, .limit = ~0u };

	*r = (struct guest_regs)REGS(c, r);
	*s = (struct guest_system){ CONTROL(c), .seg = {
		[SEG_CS] = { .attr = 0xa9b, .limit = ~0u }, [SEG_DS] = data, [SEG_SS] = data,
		[SEG_ES] = data, [SEG_TR] = { .attr = 0x8b, .limit = 0x67 },
	} };
}

int vcpu_context_check(const struct domain *d, const struct vcpu_hvm_context *c,
		       struct guest_regs *r, struct guest_system *s)
{
	if (c->mode == VCPU_HVM_MODE_64B)
		from_64(&c->cpu_regs.x86_64, r, s);
	else if (c->mode == VCPU_HVM_MODE_32B)
		from_32(&c->cpu_regs.x86_32, r, s);
	else
		return -XEN_EINVAL;
	if (s->cr4 & ~d->policy->cr4_valid || s->efer & ~d->policy->efer_valid ||
	    !segments_ok(s->seg))
		return -XEN_EINVAL;
	if (c->mode == VCPU_HVM_MODE_64B &&
	    (!(s->cr0 & CR0_PG) || !(s->efer & EFER_LME) || !gva_is_canonical(r->rip)))
		return -XEN_EINVAL;
	s->cpl = (s->seg[SEG_SS].attr & ATTR_DPL) >> 5;
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	s->pat = PAT_RESET;
	return 0;
}
