/* SPDX-License-Identifier: MIT */
/*
 * The local APIC a guest sees, xAPIC and x2APIC.
 *
 * Owns: struct vlapic in struct vcpu. Locks: vlapic.lock covers the timer,
 * because its handler runs on the CPU where it was set; everything else is
 * the vCPU's own, but for IRR (atomics) and SVR, base_msr, LDR and DFR, which
 * senders of IPIs peek at.
 *
 * The timer's bus runs at 1 GHz: one tick of TMICT with divisor 1 is 1 ns.
 */
#include "hospes/vlapic.h"

#include "hospes/domain.h"
#include "hospes/vioapic.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u

#define BASE_MODE (APIC_BASE_ENABLE | APIC_BASE_EXTD)

#define VERSION 0x00050014u	/* LVT entries 0..5, no directed EOI */
#define SVR_ENABLE 0x100u
#define LVT_MASKED 0x10000u
#define LVT_STATUS 0x5000ULL	/* read-only bits, which may be written all the same */
#define TIMER_MODE(lvt) (((lvt) >> 17) & 3)
#define ESR_SEND_VECTOR 0x20u
#define ESR_REGISTER 0x80u

enum { TIMER_PERIODIC = 1, TIMER_DEADLINE };
enum { ICR_FIXED, ICR_LOWEST, ICR_NMI = 4, ICR_INIT, ICR_STARTUP };
enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

#define ICR_ASSERT 0x4000u

/* A faster periodic timer would only keep the physical CPU busy. */
#define PERIOD_MIN_NS 100000u
/* Some weeks to a year: far enough, and safe to convert. */
#define TSC_DELTA_MAX (1ULL << 56)

/* --- Registers as data -------------------------------------------------- */

/* Accesses in xAPIC mode and in x2APIC mode; an entry of the local vector table. */
enum { RD = 1, WR = 2, XRD = 4, XWR = 8, RW = RD | WR | XRD | XWR, LVT = 16 };

struct reg_info {
	uint8_t access;
	uint32_t valid;		/* bits a write may set: others are dropped, x2APIC: #GP */
};

#define READ_ONLY { RD | XRD, 0 }

static const struct reg_info reg_info[APIC_REGS] = {
	[APIC_ID] = { RD | WR | XRD, 0 }, [APIC_VERSION] = READ_ONLY,
	[APIC_TPR] = { RW, 0xff }, [APIC_PPR] = READ_ONLY, [APIC_EOI] = { WR | XWR, 0 },
	[APIC_LDR] = { RD | WR | XRD, 0xff000000 }, [APIC_DFR] = { RD | WR, 0xf0000000 },
	[APIC_SVR] = { RW, 0x3ff }, [APIC_ISR ... APIC_IRR + 7] = READ_ONLY,
	[APIC_ESR] = { RW, 0 }, [APIC_LVT_CMCI] = { RW | LVT, 0x107ff },
	[APIC_ICR] = { RW, 0xccfff }, [APIC_ICR2] = { RD | WR, 0xff000000 },
	[APIC_LVT_TIMER] = { RW | LVT, 0x700ff }, [APIC_LVT_ERROR] = { RW | LVT, 0x100ff },
	[APIC_LVT_THERMAL ... APIC_LVT_PERF] = { RW | LVT, 0x107ff },
	[APIC_LVT_LINT0 ... APIC_LVT_LINT1] = { RW | LVT, 0x1a7ff },
	[APIC_TMICT] = { RW, 0xffffffff }, [APIC_TMCCT] = READ_ONLY,
	[APIC_TDCR] = { RW, 0xb }, [APIC_SELF_IPI] = { XWR, 0xff },
};

static bool is_x2apic(const struct vlapic *l)
{
	return read_once(l->base_msr) & APIC_BASE_EXTD;
}

static bool is_enabled(const struct vlapic *l)
{
	return read_once(l->reg[APIC_SVR]) & SVR_ENABLE;
}

/* --- Priorities --------------------------------------------------------- */

static int highest(const uint64_t words[4])
{
	for (int i = 3; i >= 0; i--) {
		uint64_t w = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);

		if (w)
			return i * 64 + fls64(w);
	}
	return -1;
}

static uint32_t processor_priority(const struct vlapic *l)
{
	uint32_t tpr = l->reg[APIC_TPR];
	uint32_t served = (uint32_t)MAX(highest(l->isr), 0) & 0xf0;

	return (tpr & 0xf0) >= served ? tpr : served;
}

void vlapic_request(struct vcpu *v, uint8_t vector)
{
	struct vlapic *l = &v->lapic;
	uint64_t bit = 1ULL << (vector & 63);

	/* INIT, or turning it off, left SVR disabled: one check covers all. */
	if (vector < 16 || !is_enabled(l))
		return;
	if (__atomic_fetch_or(&l->irr[vector >> 6], bit, __ATOMIC_SEQ_CST) & bit)
		return;
	/* A full barrier: vcpu_notify() looks whether the vCPU sleeps. */
	atomic_store(&l->irr_pending, true);
	vcpu_notify(v);
}

int vlapic_pending(struct vcpu *v)
{
	struct vlapic *l = &v->lapic;
	int vector;

	if (likely(!atomic_load_explicit(&l->irr_pending, memory_order_relaxed)))
		return -1;
	vector = highest(l->irr);
	if (vector < 0) {
		/*
		 * A request sets its bit first, then the hint: clear, then look again.
		 * Only the vCPU itself, as it must not look between our two stores.
		 */
		if (v != current_vcpu())
			return -1;
		atomic_store(&l->irr_pending, false);
		vector = highest(l->irr);
		if (vector < 0)
			return -1;
		atomic_store(&l->irr_pending, true);
	}
	if ((uint32_t)vector >> 4 <= processor_priority(l) >> 4 || !is_enabled(l))
		return -1;
	return vector;
}

unsigned int vlapic_held_class(const struct vcpu *v)
{
	unsigned int prio = (unsigned int)MAX(highest(v->lapic.irr), 0) >> 4;

	return prio <= vlapic_get_cr8(&v->lapic) ? prio : 0;
}

void vlapic_accept(struct vcpu *v, uint8_t vector)
{
	uint64_t bit = 1ULL << (vector & 63);

	__atomic_fetch_and(&v->lapic.irr[vector >> 6], ~bit, __ATOMIC_RELAXED);
	v->lapic.isr[vector >> 6] |= bit;
}

static void end_of_interrupt(struct vcpu *v)
{
	struct vlapic *l = &v->lapic;
	int vector = highest(l->isr);
	uint64_t bit;

	if (vector < 0)
		return;
	bit = 1ULL << (vector & 63);
	l->isr[vector >> 6] &= ~bit;
	if (unlikely(read_once(l->tmr[vector >> 6]) & bit)) {
		__atomic_fetch_and(&l->tmr[vector >> 6], ~bit, __ATOMIC_RELAXED);
		vioapic_eoi(v->domain, (uint8_t)vector);
	}
}

void vlapic_set_cr8(struct vcpu *v, uint64_t cr8)
{
	v->lapic.reg[APIC_TPR] = (uint32_t)(cr8 & 0xf) << 4;
}

static void error(struct vcpu *v, uint32_t bit)
{
	uint32_t lvt = v->lapic.reg[APIC_LVT_ERROR];

	v->lapic.esr_latch |= bit;
	if (!(lvt & LVT_MASKED))
		vlapic_request(v, (uint8_t)lvt);
}

/* --- Inter-processor interrupts ------------------------------------------ */

static bool match_logical(const struct vlapic *l, uint32_t dest)
{
	uint32_t ldr = read_once(l->reg[APIC_LDR]);
	uint32_t mda = dest & 0xff;

	if (is_x2apic(l))
		return dest == UINT32_MAX ||
		       (dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff) != 0);
	ldr >>= 24;
	if (read_once(l->reg[APIC_DFR]) >> 28 == 0xf)
		return mda & ldr;
	return mda == 0xff || (mda >> 4 == ldr >> 4 && (mda & ldr & 0xf) != 0);
}

/* @msg as in the ICR's low half. SMI and ExtINT: there is nobody to send them to. */
static void deliver(struct vcpu *target, uint32_t msg)
{
	unsigned int mode = APIC_MSG_MODE(msg);
	uint8_t vector = (uint8_t)msg;

	if (mode <= ICR_LOWEST) {
		if (unlikely(msg & APIC_MSG_LEVEL) && vector >= 16 && is_enabled(&target->lapic))
			__atomic_fetch_or(&target->lapic.tmr[vector >> 6], 1ULL << (vector & 63),
					  __ATOMIC_RELAXED);
		vlapic_request(target, vector);
	} else if (mode == ICR_NMI) {
		atomic_store(&target->nmi_pending, true);
		vcpu_notify(target);
	} else if (mode == ICR_INIT) {
		vcpu_init_signal(target);
	} else if (mode == ICR_STARTUP) {
		vcpu_sipi(target, vector);
	}
}

/*
 * To several but @self, or to the one of them with the lowest priority. Among
 * [first, end) are all that a logical destination can mean.
 */
static void send_many(const struct domain *d, const struct vcpu *self, uint32_t msg, uint32_t dest,
		      unsigned int first, unsigned int end)
{
	struct vcpu *best = NULL;

	for (unsigned int i = first; i < MIN(end, d->nr_vcpus); i++) {
		struct vcpu *target = d->vcpus[i];

		if (!vlapic_present(&target->lapic) || target == self ||
		    (msg & APIC_MSG_LOGICAL && !match_logical(&target->lapic, dest)))
			continue;
		if (APIC_MSG_MODE(msg) != ICR_LOWEST)
			deliver(target, msg);
		else if (!best || read_once(target->lapic.reg[APIC_TPR]) <
				  read_once(best->lapic.reg[APIC_TPR]))
			best = target;
	}
	if (best)
		deliver(best, msg);
}

static void send_one(const struct domain *d, uint32_t msg, uint32_t dest)
{
	struct vcpu *target = dest & 1 ? NULL : domain_vcpu(d, dest >> 1);

	if (target && vlapic_present(&target->lapic))
		deliver(target, msg);
}

static void send_ipi(struct vcpu *v, uint32_t icr, uint32_t dest)
{
	unsigned int mode = APIC_MSG_MODE(icr), shorthand = (icr >> 18) & 3, first = 0;
	uint32_t broadcast = is_x2apic(&v->lapic) ? UINT32_MAX : 0xff;
	/* Only devices have levels; a shorthand leaves no other destination. */
	uint32_t msg = icr & ~(APIC_MSG_LEVEL | (shorthand ? APIC_MSG_LOGICAL : 0));
	unsigned int end = MAX_VCPUS;

	if (msg & APIC_MSG_LOGICAL && is_x2apic(&v->lapic) && dest != UINT32_MAX) {
		/* Ids are even, so a cluster of 16 ids holds 8 vCPUs. */
		first = (dest >> 16) * 8;
		end = first + 8;
	}
	if (mode <= ICR_LOWEST && (icr & 0xff) < 16)
		error(v, ESR_SEND_VECTOR);
	else if (mode == ICR_INIT && (icr & (APIC_MSG_LEVEL | ICR_ASSERT)) == APIC_MSG_LEVEL)
		return;		/* de-assert: only old CPUs took note of it */
	else if (shorthand == TO_SELF)
		deliver(v, msg);
	else if (shorthand || msg & APIC_MSG_LOGICAL || dest == broadcast)
		send_many(v->domain, shorthand == TO_OTHERS ? v : NULL, msg, dest, first, end);
	else
		send_one(v->domain, msg, dest);
}

void vlapic_message(const struct domain *d, uint64_t msg)
{
	uint32_t dest = (uint32_t)(msg >> 56);

	if (APIC_MSG_MODE(msg) > ICR_LOWEST)
		return;
	if (likely(!(msg & APIC_MSG_LOGICAL) && dest != 0xff))
		send_one(d, (uint32_t)msg, dest);
	else	/* all ones mean all, in either mode */
		send_many(d, NULL, (uint32_t)msg, dest == 0xff ? UINT32_MAX : dest, 0, MAX_VCPUS);
}

unsigned int vlapic_message_cpu(const struct domain *d, uint64_t msg)
{
	const struct vcpu *v = domain_vcpu(d, msg >> 57);

	return v ? read_once(v->sched.cpu) : port_this_pcpu()->cpu_id;
}

/* --- Timer -------------------------------------------------------------- */

/* log2 of the divisor; the encoding has 1 at its end and a hole at bit 2. */
static unsigned int timer_shift(const struct vlapic *l)
{
	uint32_t tdcr = l->reg[APIC_TDCR];

	return (((tdcr & 3) | ((tdcr & 8) >> 1)) + 1) & 7;
}

static bool is_tsc_mode(const struct vlapic *l)
{
	return TIMER_MODE(l->reg[APIC_LVT_TIMER]) == TIMER_DEADLINE;
}

/* @ns is 0 to stop; @tsc_deadline is what the MSR reads as, 0 in other modes. */
static void timer_arm(struct vlapic *l, uint64_t ns, uint64_t tsc_deadline)
{
	l->deadline = ns;
	l->tsc_deadline = tsc_deadline;
	if (ns)
		timer_set(&l->timer, ns);
	else
		timer_stop(&l->timer);
}

static void set_tsc_deadline(struct vcpu *v, uint64_t val)
{
	struct vlapic *l = &v->lapic;
	uint64_t now = port_tsc(), guest = now + v->tsc_offset;
	uint64_t delta = val > guest ? val - guest : 0;
	uint64_t ns = port_tsc_to_ns(now + MIN(delta, TSC_DELTA_MAX));

	spin_lock(&l->lock);
	timer_arm(l, val ? MAX(ns, 1U) : 0, val);
	spin_unlock(&l->lock);
}

void vlapic_tsc_changed(struct vcpu *v)
{
	uint64_t val = read_once(v->lapic.tsc_deadline);

	/* One that was loaded without its mode has none. */
	if (val)
		set_tsc_deadline(v, is_tsc_mode(&v->lapic) ? val : 0);
}

static void timer_fired(void *data)
{
	struct vcpu *v = data;
	struct vlapic *l = &v->lapic;
	uint64_t now = port_time_ns();
	uint32_t lvt;
	bool due;

	spin_lock(&l->lock);
	lvt = l->reg[APIC_LVT_TIMER];
	/* The vCPU, on another CPU, may have set it anew meanwhile. */
	due = l->deadline && now >= l->deadline;
	if (due && TIMER_MODE(lvt) == TIMER_PERIODIC) {
		uint64_t count = (uint64_t)l->reg[APIC_TMICT] << timer_shift(l);
		uint64_t period = MAX(count, PERIOD_MIN_NS);

		timer_arm(l, l->deadline + ((now - l->deadline) / period + 1) * period, 0);
	} else if (due) {
		l->deadline = 0;
		l->tsc_deadline = 0;
	}
	spin_unlock(&l->lock);
	if (due && !(lvt & LVT_MASKED))
		vlapic_request(v, (uint8_t)lvt);
}

static uint32_t timer_count(const struct vlapic *l)
{
	uint64_t now = port_time_ns(), deadline = read_once(l->deadline);
	unsigned int shift = timer_shift(l);

	if (deadline <= now || is_tsc_mode(l))
		return 0;
	return (uint32_t)((deadline - now + (1U << shift) - 1) >> shift);
}

/* LVT, initial count or divisor. With a new divisor the rest of the count goes on. */
static void timer_write(struct vlapic *l, unsigned int reg, uint32_t val)
{
	bool was_tsc = is_tsc_mode(l);
	uint32_t left;

	if (was_tsc && reg == APIC_TMICT)
		return;
	spin_lock(&l->lock);
	left = reg == APIC_TMICT ? val : timer_count(l);
	l->reg[reg] = val;
	if (was_tsc != is_tsc_mode(l))
		timer_arm(l, 0, 0);
	else if (reg == APIC_TMICT || (reg == APIC_TDCR && left))
		timer_arm(l, left ? port_time_ns() + ((uint64_t)left << timer_shift(l)) : 0, 0);
	spin_unlock(&l->lock);
}

/* --- Register access ---------------------------------------------------- */

static uint32_t reg_read(struct vcpu *v, unsigned int reg)
{
	struct vlapic *l = &v->lapic;

	if ((reg & ~7u) == APIC_ISR)
		return ((uint32_t *)l->isr)[reg & 7];
	if ((reg & ~7u) == APIC_TMR)
		return read_once(((uint32_t *)l->tmr)[reg & 7]);
	if ((reg & ~7u) == APIC_IRR)
		return read_once(((uint32_t *)l->irr)[reg & 7]);
	if (reg == APIC_PPR)
		return processor_priority(l);
	if (reg == APIC_TMCCT)
		return timer_count(l);
	return l->reg[reg];
}

static void mask_lvts(struct vlapic *l)
{
	for (unsigned int reg = 0; reg < APIC_REGS; reg++)
		l->reg[reg] |= reg_info[reg].access & LVT ? LVT_MASKED : 0;
}

static void write_svr(struct vcpu *v, uint32_t val)
{
	struct vlapic *l = &v->lapic;
	bool was = is_enabled(l);

	write_once(l->reg[APIC_SVR], val);
	if (was && !is_enabled(l))
		mask_lvts(l);
	/* An upcall that came while it was off was not kept. */
	if (!was && is_enabled(l) && v->info && read_once(v->info->evtchn_upcall_pending))
		vlapic_request(v, v->upcall_vector);
}

/* @val has only valid bits. */
static void reg_write(struct vcpu *v, unsigned int reg, uint32_t val)
{
	struct vlapic *l = &v->lapic;

	if (reg_info[reg].access & LVT && !is_enabled(l))
		val |= LVT_MASKED;
	if (reg == APIC_EOI) {
		end_of_interrupt(v);
	} else if (reg == APIC_ICR) {
		l->reg[APIC_ICR] = val;
		send_ipi(v, val, is_x2apic(l) ? l->reg[APIC_ICR2] : l->reg[APIC_ICR2] >> 24);
	} else if (reg == APIC_SELF_IPI) {
		send_ipi(v, val | (TO_SELF << 18), 0);
	} else if (reg == APIC_LVT_TIMER || reg == APIC_TMICT || reg == APIC_TDCR) {
		timer_write(l, reg, val);
	} else if (reg == APIC_SVR) {
		write_svr(v, val);
	} else if (reg == APIC_ESR) {
		l->reg[APIC_ESR] = l->esr_latch;
		l->esr_latch = 0;
	} else if (reg != APIC_ID) {	/* as on newer CPUs it stays what it is */
		write_once(l->reg[reg], reg == APIC_DFR ? val | ~reg_info[reg].valid : val);
	}
}

/* Does register *@nr, a guest's number, allow @access? *@nr is then safe as an index. */
static bool reg_allows(uint32_t *nr, unsigned int access)
{
	*nr = (uint32_t)index_nospec(*nr, APIC_REGS);	/* 0, which is none, for all beyond */
	return reg_info[*nr].access & access;
}

bool vlapic_read(struct vcpu *v, uint32_t offset, uint32_t *val)
{
	uint32_t reg = offset >> 4;
	bool ok = !(offset & 0xf) && reg_allows(&reg, RD);

	*val = ok ? reg_read(v, reg) : 0;
	if (!ok)
		error(v, ESR_REGISTER);
	return ok;
}

bool vlapic_write(struct vcpu *v, uint32_t offset, uint32_t val)
{
	uint32_t reg = offset >> 4;
	bool ok = !(offset & 0xf) && reg_allows(&reg, WR);

	if (ok)
		reg_write(v, reg, val & reg_info[reg].valid);
	else
		error(v, ESR_REGISTER);
	return ok;
}

/* --- Modes and MSRs ------------------------------------------------------ */

/* In x2APIC mode the logical id follows from the id. */
static void set_ids(struct vlapic *l)
{
	l->reg[APIC_ID] = is_x2apic(l) ? l->id : l->id << 24;
	if (is_x2apic(l))
		write_once(l->reg[APIC_LDR], (l->id >> 4) << 16 | 1u << (l->id & 15));
}

void vlapic_reset(struct vcpu *v)
{
	struct vlapic *l = &v->lapic;

	spin_lock(&l->lock);
	timer_arm(l, 0, 0);
	memset(l->reg, 0, sizeof(l->reg));
	mask_lvts(l);
	spin_unlock(&l->lock);
	l->reg[APIC_VERSION] = VERSION;
	l->reg[APIC_DFR] = UINT32_MAX;
	write_once(l->reg[APIC_SVR], 0xffU);
	set_ids(l);
	l->esr_latch = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(l->irr); i++) {
		__atomic_store_n(&l->irr[i], 0, __ATOMIC_SEQ_CST);
		write_once(l->tmr[i], 0);
	}
	memset(l->isr, 0, sizeof(l->isr));
}

static bool base_write(struct vcpu *v, uint64_t val)
{
	struct vlapic *l = &v->lapic;
	uint64_t old = l->base_msr & BASE_MODE, mode = val & BASE_MODE;

	/* It cannot move, and all other bits are reserved. */
	if ((val ^ l->base_msr) & ~(BASE_MODE | APIC_BASE_BSP))
		return false;
	if (mode == old)
		return true;
	/* Up only by one step, down only to off. */
	if (mode && mode != (old ? BASE_MODE : APIC_BASE_ENABLE))
		return false;
	write_once(l->base_msr, (l->base_msr & ~BASE_MODE) | mode);
	if (mode)
		set_ids(l);
	else
		vlapic_reset(v);
	return true;
}

bool vlapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct vlapic *l = &v->lapic;
	uint32_t reg = msr - MSR_X2APIC;

	if (msr == MSR_APIC_BASE)
		*val = l->base_msr;
	else if (msr == MSR_TSC_DEADLINE)
		*val = read_once(l->tsc_deadline);
	else if (!is_x2apic(l) || !reg_allows(&reg, XRD))
		return false;
	else
		*val = reg_read(v, reg) |
		       (reg == APIC_ICR ? (uint64_t)l->reg[APIC_ICR2] << 32 : 0);
	return true;
}

bool vlapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct vlapic *l = &v->lapic;
	uint32_t reg = msr - MSR_X2APIC;

	if (msr == MSR_APIC_BASE)
		return base_write(v, val);
	if (msr == MSR_TSC_DEADLINE) {
		if (is_tsc_mode(l))
			set_tsc_deadline(v, val);
		return true;
	}
	if (!is_x2apic(l) || !reg_allows(&reg, XWR))
		return false;
	if (reg_info[reg].access & LVT)
		val &= ~LVT_STATUS;	/* Linux sets them before it switches the machine off */
	if ((uint32_t)val & ~reg_info[reg].valid)
		return false;
	if (reg == APIC_ICR)
		l->reg[APIC_ICR2] = (uint32_t)(val >> 32);
	else if (val >> 32)
		return false;
	reg_write(v, reg, (uint32_t)val);
	return true;
}

bool vlapic_claims(const struct vcpu *v, gpa_t gpa)
{
	return (v->lapic.base_msr & BASE_MODE) == APIC_BASE_ENABLE &&
	       !((gpa ^ v->lapic.base_msr) >> PAGE_SHIFT);
}

/* --- Saving and loading --------------------------------------------------- */

#define SW_DISABLED 1u		/* in hvm_hw_lapic.disabled */
#define HW_DISABLED 2u

void vlapic_save(const struct vcpu *v, struct hvm_hw_lapic *hw)
{
	const struct vlapic *l = &v->lapic;

	*hw = (struct hvm_hw_lapic){
		.apic_base_msr = l->base_msr, .timer_divisor = 1u << timer_shift(l),
		.disabled = (is_enabled(l) ? 0 : SW_DISABLED) |
			    (vlapic_present(l) ? 0 : HW_DISABLED),
		.tdt_msr = read_once(l->tsc_deadline) };
}

int vlapic_load(struct vcpu *v, const struct hvm_hw_lapic *hw, bool commit)
{
	struct vlapic *l = &v->lapic;

	if ((hw->apic_base_msr ^ l->base_msr) & ~BASE_MODE ||
	    (hw->apic_base_msr & BASE_MODE) == APIC_BASE_EXTD)
		return -XEN_EINVAL;
	if (!commit)
		return 0;
	write_once(l->base_msr, hw->apic_base_msr);
	set_ids(l);
	spin_lock(&l->lock);
	timer_arm(l, 0, hw->tdt_msr);
	spin_unlock(&l->lock);
	return 0;
}

void vlapic_save_regs(struct vcpu *v, struct hvm_hw_lapic_regs *hw)
{
	for (unsigned int reg = 0; reg < APIC_REGS; reg++) {
		uint32_t val = reg_read(v, reg);

		memcpy(&hw->data[reg * 16], &val, sizeof(val));
	}
}

/* What register @reg can hold of @val. */
static uint32_t storable(const struct vlapic *l, unsigned int reg, uint32_t val)
{
	uint32_t valid = reg_info[reg].valid;

	if (reg == APIC_ESR)
		return val & 0xff;
	if (reg == APIC_ICR2 && is_x2apic(l))
		return val;
	if (reg == APIC_DFR)
		return val | ~valid;
	return val & valid;
}

void vlapic_load_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *hw)
{
	struct vlapic *l = &v->lapic;
	uint32_t count = 0;

	spin_lock(&l->lock);
	for (unsigned int reg = 0; reg < APIC_REGS; reg++) {
		uint32_t val;

		memcpy(&val, &hw->data[reg * 16], sizeof(val));
		if (reg == APIC_ISR || reg == APIC_IRR)
			val &= ~0xffffu;	/* no such vectors */
		if (reg - APIC_ISR < 8)
			((uint32_t *)l->isr)[reg & 7] = val;
		else if (reg - APIC_IRR < 8)
			write_once(((uint32_t *)l->irr)[reg & 7], val);
		else if (reg == APIC_TMCCT)
			count = val;
		else if (reg_info[reg].access & (WR | XWR) && reg != APIC_EOI &&
			 reg != APIC_SELF_IPI)
			l->reg[reg] = storable(l, reg, val);
	}
	if (!is_enabled(l))
		mask_lvts(l);
	set_ids(l);
	if (!is_tsc_mode(l))
		timer_arm(l, count ? port_time_ns() + ((uint64_t)count << timer_shift(l)) : 0, 0);
	spin_unlock(&l->lock);
	l->esr_latch = 0;
	atomic_store(&l->irr_pending, true);
}

/* --- Life --------------------------------------------------------------- */

void vlapic_init(struct vcpu *v)
{
	struct vlapic *l = &v->lapic;

	spin_init(&l->lock, LOCK_VLAPIC);
	timer_init(&l->timer, timer_fired, v);
	l->id = 2 * v->id;
	l->base_msr = APIC_DEFAULT_BASE | APIC_BASE_ENABLE | (v->id ? 0 : APIC_BASE_BSP);
	vlapic_reset(v);
}
