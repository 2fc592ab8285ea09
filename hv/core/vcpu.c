/* SPDX-License-Identifier: MIT */
/*
 * vCPUs: creation, pausing and waking, INIT and start-up.
 *
 * pause_flags says why a vCPU does not run. Whoever changes them tells the
 * scheduler, which looks at the flags again under its lock; so the order in
 * which two of them get there does not matter.
 */
#include "hospes/domain.h"
#include "hospes/log.h"

#define CR0_RESET 0x60000010u	/* caches off, real mode */
#define SEG_CODE 0x9bu		/* present, accessed, readable */
#define SEG_DATA 0x93u
#define SEG_SYS_LDT 0x82u
#define SEG_SYS_TSS 0x8bu
#define PAUSE_WAITING (PAUSE_BLOCKED | PAUSE_POLL)

/* --- Pausing and waking ------------------------------------------------- */

void vcpu_pause_set(struct vcpu *v, unsigned int flag)
{
	if (!(atomic_fetch_or(&v->pause_flags, flag) & flag))
		sched_sleep(v);
}

void vcpu_pause_clear(struct vcpu *v, unsigned int flag)
{
	unsigned int old = atomic_fetch_and(&v->pause_flags, ~flag);

	if (old & ~flag)	/* what is left may be another runstate */
		sched_sleep(v);
	else if (old)
		sched_wake(v);
}

void vcpu_notify(struct vcpu *v)
{
	unsigned int flags = atomic_load(&v->pause_flags);

	if (unlikely(flags & PAUSE_WAITING)) {
		/* HLT does not end with an interrupt that the TPR holds back. */
		if (flags & PAUSE_POLL || vcpu_has_work(v))
			vcpu_pause_clear(v, PAUSE_WAITING);
	} else if (atomic_load(&v->sched.running) && v != current_vcpu()) {
		port_kick(read_once(v->sched.cpu));
	}
}

bool vcpu_has_work(struct vcpu *v)
{
	return atomic_load(&v->nmi_pending) || vcpu_callback(v) || vlapic_pending(v) >= 0;
}

/*
 * The flag first, then the look: who comes after the look sees the flag and
 * takes it away. If work is found, others may have paused the vCPU between the
 * two, and left it to us to tell the scheduler.
 */
void vcpu_block(struct vcpu *v)
{
	atomic_fetch_or(&v->pause_flags, PAUSE_BLOCKED);
	if (!vcpu_has_work(v) ||
	    atomic_fetch_and(&v->pause_flags, ~PAUSE_BLOCKED) & ~PAUSE_BLOCKED)
		sched_sleep(v);
}

void vcpu_halt(struct vcpu *v)
{
	if (v->regs.rflags & RFLAGS_IF || vcpu_has_work(v))
		vcpu_block(v);
	else
		vcpu_down(v);
}

void vcpu_down(struct vcpu *v)
{
	struct domain *d = v->domain;
	unsigned int up = 0;

	/* Each is down before it looks at the others, so the last one sees it. */
	vcpu_pause_set(v, PAUSE_DOWN);
	for (unsigned int i = 0; i < d->nr_vcpus; i++)
		up += !(atomic_load(&d->vcpus[i]->pause_flags) & PAUSE_DOWN);
	if (!up)
		domain_shutdown(d, SHUTDOWN_poweroff);
}

void vcpu_mark_upcall(struct vcpu *v)
{
	if (likely(v->upcall_vector))
		vlapic_request(v, v->upcall_vector);
	else
		vcpu_notify(v);
}

/* --- Context ------------------------------------------------------------ */

int vcpu_set_entry(struct vcpu *v, const struct guest_regs *regs, const struct guest_system *sys)
{
	unsigned int wait = STARTUP_WAIT;

	/* Of two who try, or of us and a start-up IPI, one gets it. */
	if (v->initialised || !(atomic_load(&v->pause_flags) & PAUSE_DOWN) ||
	    !atomic_compare_exchange_strong(&v->startup, &wait, STARTUP_NONE))
		return -XEN_EEXIST;
	sched_sleep_sync(v);
	if (cpu->set_system(v, sys)) {
		atomic_store(&v->startup, STARTUP_WAIT);
		return -XEN_EINVAL;
	}
	v->regs = *regs;
	v->initialised = true;
	return 0;
}

void vcpu_init_signal(struct vcpu *v)
{
	atomic_store(&v->startup, STARTUP_WAIT);
	vcpu_pause_set(v, PAUSE_DOWN);
	/*
	 * It may have been asleep for another reason already, or be woken before
	 * its CPU noticed: it must pass through schedule(), where it starts.
	 */
	sched_sleep(v);
}

void vcpu_sipi(struct vcpu *v, uint8_t vector)
{
	unsigned int wait = STARTUP_WAIT;

	if (atomic_compare_exchange_strong(&v->startup, &wait, STARTUP_GO | vector))
		vcpu_pause_clear(v, PAUSE_DOWN | PAUSE_WAITING);
}

/* What INIT leaves of the system registers, and a start-up IPI makes of CS. */
static void reset_system(struct guest_system *s, uint8_t vector)
{
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		s->seg[i] = (struct guest_segment){ .attr = SEG_DATA, .limit = 0xffff };
	s->seg[SEG_CS] = (struct guest_segment){ .sel = (uint16_t)(vector << 8), .attr = SEG_CODE,
						 .limit = 0xffff, .base = (uint64_t)vector << 12 };
	s->seg[SEG_LDTR].attr = SEG_SYS_LDT;
	s->seg[SEG_TR].attr = SEG_SYS_TSS;
	s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
	s->cr0 = CR0_RESET;
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	s->event = 0;
	s->cpl = 0;
}

void vcpu_start(struct vcpu *v)
{
	unsigned int startup = atomic_load(&v->startup);
	struct guest_system sys;

	/* Another INIT may overtake us: then it is down again, and waits. */
	if (!(startup & STARTUP_GO) ||
	    !atomic_compare_exchange_strong(&v->startup, &startup, STARTUP_NONE))
		return;
	cpu->get_system(v, &sys);
	reset_system(&sys, (uint8_t)startup);
	cpu->set_system(v, &sys);
	v->regs = (struct guest_regs){ .rflags = RFLAGS_RESET };
	v->regs.gpr[GPR_RDX] = v->domain->policy->basic[1].eax;
	atomic_store(&v->nmi_pending, false);
	vlapic_reset(v);
	v->initialised = true;
}

void vcpu_dump(struct vcpu *v)
{
	log_err("d%uv%u:", v->domain->id, v->id);
	cpu->dump(v);
}

/* --- Creation ----------------------------------------------------------- */

int vcpu_create(struct domain *d, unsigned int id)
{
	struct vcpu *v = hv_alloc(sizeof(*v));

	if (!v)
		return -XEN_ENOMEM;
	v->domain = d;
	v->id = id;
	v->soft_affinity = ~0ULL;
	atomic_init(&v->pause_flags, PAUSE_DOWN | PAUSE_DOMAIN);
	atomic_init(&v->startup, STARTUP_WAIT);
	v->info = id < XEN_LEGACY_MAX_VCPUS ? &d->shared->vcpu_info[id] : d->dummy_info;
	if (cpu->vcpu_init(v)) {
		hv_free(v);
		return -XEN_ENOMEM;
	}
	msr_vcpu_init(v);
	vlapic_init(v);
	vcpu_timers_init(v);
	pvclock_update(v);
	d->vcpus[id] = v;	/* from here on destroyed with its domain */
	return sched_vcpu_init(v);
}

void vcpu_destroy(struct vcpu *v)
{
	sched_vcpu_destroy(v);
	vcpu_timers_kill(v);
	cpu->vcpu_destroy(v);
	hv_free(v);
}
