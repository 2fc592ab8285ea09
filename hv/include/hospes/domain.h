/* SPDX-License-Identifier: MIT */
/*
 * Domains and vCPUs: what they are made of and how they live and die.
 *
 * Life cycle: created (paused, refcount 1) -> unpaused -> [shut down] ->
 * dying (torn down in bounded pieces) -> dead (last reference gone).
 * Domains are never entered again once d->dying is set.
 */
#ifndef HOSPES_DOMAIN_H
#define HOSPES_DOMAIN_H

#include "hospes/abi.h"
#include "hospes/cpu.h"
#include "hospes/evtchn.h"
#include "hospes/guest_access.h"
#include "hospes/lib.h"
#include "hospes/p2m.h"
#include "hospes/pcpu.h"
#include "hospes/policy.h"
#include "hospes/vlapic.h"

struct console_ring;
struct devices;
struct guest_config;
struct grant_table;
struct iommu_map;

#define MAX_VCPUS 128u
#define MAX_DOMAINS 1024u
#define E820_MAX 112u

/* Reasons why a vCPU does not run; runnable when no bit is set. */
#define PAUSE_DOWN	0x01u	/* offline: not started, or VCPUOP_down */
#define PAUSE_BLOCKED	0x02u	/* HLT or sched_op block: ends with an event */
#define PAUSE_POLL	0x04u	/* sched_op poll */
#define PAUSE_DOMAIN	0x08u	/* the domain is paused: being built, or by the toolstack */
#define PAUSE_SHUTDOWN	0x10u	/* the domain has shut down, which can be undone */
#define PAUSE_DYING	0x20u	/* for good */

/* Where a vCPU stands between INIT and its first instruction. */
#define STARTUP_NONE	0u
#define STARTUP_WAIT	1u		/* for a start-up IPI; PAUSE_DOWN is set */
#define STARTUP_GO	0x100u		/* | vector: begins there when it is next scheduled */

struct vcpu {
	/* Own, on the CPU that runs it. First, because exits touch it most. */
	struct guest_regs regs;
	void *cpu_state;		/* owned by cpu.h implementation */
	struct domain *domain;		/* borrowed: lives longer */
	unsigned int id;
	bool initialised;		/* has a context to run */
	uint8_t upcall_vector;		/* event upcalls come by the local APIC; 0 = they do not */
	_Atomic uint8_t callback_vector; /* or past it, as long as one is pending; 0 = not so */

	atomic_uint pause_flags;	/* PAUSE_*, any CPU */
	atomic_bool nmi_pending;	/* any CPU */
	atomic_uint startup;		/* STARTUP_*, any CPU */

	struct guest_memo memo[GUEST_MEMOS];	/* own; guest_access.c */

	struct sched_vcpu sched;
	struct vlapic lapic;

	/* vcpu_info: the legacy slot, a dummy page, or where the guest put it. */
	struct vcpu_info *info;		/* never NULL; pinned by info_pin or shared page */
	struct guest_pin info_pin;
	struct evtchn_vcpu evtchn;
	uint32_t poll_port;		/* while PAUSE_POLL: one port, or ~0 for several */

	struct vcpu_runstate_info runstate;	/* scheduler lock of sched.cpu */
	gva_t runstate_area;		/* guest virtual, 0 = none; own */
	gva_t time_area;

	/* Ready to set: the first two raise VIRQ_TIMER, poll_timer ends a poll. */
	struct timer singleshot, periodic, poll_timer;
	uint64_t period_ns;		/* of the periodic timer, 0 = off; atomic */
	uint64_t tsc_offset;

	/* MSRs the policy keeps per vCPU. */
	struct {
		uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16];
		uint64_t tsc_adjust, tsc_aux, xcr0, hwcr, mc_ctl[2];
	} msr;

	uint64_t long_since;		/* ns: when the long hypercall began; own */
	uint64_t soft_affinity;		/* stored for the toolstack; atomic */
	uint64_t pinned_from;		/* affinity to go back to, 0 = no override; own */
	uint64_t exits[EXIT_KIND_COUNT];	/* always on; own */
};

enum domain_life { DOMAIN_ALIVE, DOMAIN_DYING, DOMAIN_DEAD };

struct domain {
	domid_t id;
	uint32_t slot;			/* index in the domain table */
	char name[32];
	bool privileged;
	atomic_uint refs;
	atomic_int life;		/* enum domain_life */
	atomic_bool building;		/* who created it is not done: its end waits */
	uint8_t handle[16];

	struct spinlock lock;		/* covers the block below */
	uint64_t pause_count;		/* by who controls it; 1 since creation */
	bool has_run;			/* was ever unpaused */
	bool shut_down;
	bool xs_domain;			/* created to be a xenstore domain */
	uint32_t suspend_port;		/* its own that it sends to when it suspends; 0 = none */
	int64_t wallclock_offset;	/* seconds that its wall clock is ahead */
	uint8_t shutdown_code;		/* valid when shut_down, */
	bool shutdown_code_set;		/* or the guest said beforehand which it will be */
	bool restart;			/* static guest: start it again once it is gone */

	unsigned int nr_vcpus;
	struct vcpu **vcpus;		/* owned; [MAX_VCPUS], fixed before first run */

	struct p2m p2m;
	struct iommu_map *iommu;	/* what devices see of it, NULL: it has none; p2m lock */
	atomic_ulong tot_pages;		/* frames owned */
	uint64_t max_pages;		/* atomic */
	uint64_t claim;			/* frames kept free for it; heap lock */
	struct e820entry_abi { uint64_t addr, size; uint32_t type; } __packed e820[E820_MAX];
	unsigned int nr_e820;		/* domain lock, once it may run */

	struct shared_info *shared;	/* owned hypervisor page */
	void *dummy_info;		/* page for vCPUs without a legacy slot */
	struct evtchn_domain evtchn;
	struct grant_table *grants;	/* owned */

	struct cpu_policy *policy;	/* owned; constant once running */
	uint64_t params[HVM_NR_PARAMS];	/* domain lock */
	struct sched_params sched;
	struct sched_budget cap;
	uint64_t time_offset;		/* its system time less ours, ns; set while paused */
	uint64_t time_brought;		/* its system time when it came here, 0: it began here */
	uint64_t stopped_tsc;		/* the moment to save it as of, 0: none; domain lock */
	uint32_t tsc_mode, tsc_incarnation;	/* as the toolstack set them */
	bool runstate_flag;		/* vm_assist: runstate areas say when they change; atomic */

	/* Armed by sched_op, which prepares the timers; stopped here at death. */
	struct timer watchdog[2];

	struct console_ring *console;	/* owned, NULL = none */
	struct devices *devices;	/* owned; the control domain has those of the machine */
	struct guest_config *config;	/* borrowed: to restart it */

	uint8_t reap_stage;		/* how far the teardown is; reaper */
	uint64_t restart_by;		/* ns: until then it waits for an idle CPU; reaper */
	struct domain *reap_next;	/* reaper's list */
	struct timer reap_timer;	/* looks again when others still use its pages */
};

/* --- Finding and holding ------------------------------------------------ */

/*
 * The domain @id, with a reference, or NULL. DOMID_SELF is not resolved
 * here. Dying domains are found until they are dead.
 */
struct domain *domain_get_by_id(domid_t id);
/* As above, but DOMID_SELF means v's own domain. Always with a reference. */
struct domain *domain_get_target(struct vcpu *v, domid_t id);
/* And only what @v may act for: -XEN_ESRCH, or -XEN_EPERM for others' without privilege. */
int domain_find_target(struct vcpu *v, domid_t id, struct domain **out) __must_check;
static inline void domain_get(struct domain *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
}
void domain_put(struct domain *d);

/* The domain with the lowest id from @id on, with a reference, or NULL. */
struct domain *domain_get_from(domid_t id);

/* Slot in the domain table -> domain, for page_put(). Borrowed. */
struct domain *domain_by_slot(uint32_t slot);

/* The vCPU @id of @d, or NULL; speculation-safe bounds check. */
static inline struct vcpu *domain_vcpu(const struct domain *d, uint64_t id)
{
	/* The mask keeps a mispredicted branch inside the array. */
	return id < d->nr_vcpus ? d->vcpus[id & (MAX_VCPUS - 1)] : NULL;
}

static inline bool domain_is_dying(const struct domain *d)
{
	return atomic_load_explicit(&d->life, memory_order_acquire) != DOMAIN_ALIVE;
}

/* --- Life --------------------------------------------------------------- */

struct domain_create {
	domid_t id;			/* DOMID_INVALID = pick */
	const char *name;
	const uint8_t *handle;		/* 16 bytes, NULL = zeros */
	unsigned int nr_vcpus;
	uint64_t max_pages;
	uint32_t max_evtchn_port;
	unsigned int max_grant_frames, max_maptrack_frames, max_grant_version;
	bool privileged;
	bool xs_domain;
	bool devices;			/* gets those of the machine */
	bool building;			/* stays until the caller clears domain.building */
};

/* A new paused domain with one reference. -XEN_ENOMEM, -XEN_EEXIST, -XEN_EINVAL. */
int domain_create(const struct domain_create *c, struct domain **out) __must_check;

/*
 * Pauses are counted; a new domain has one. When domain_pause() returns no vCPU of
 * @d runs any more but the current one, and no CPU has its state loaded. Undone by
 * domain_unpause(), which is false when there is nothing to undo. No lock held.
 */
void domain_pause(struct domain *d);
bool domain_unpause(struct domain *d);

/*
 * The guest asked for it (or triple-faulted): stop all vCPUs, record @code, tell
 * the control domain. No lock held.
 */
void domain_shutdown(struct domain *d, uint8_t code);

/*
 * Marks it dying and tears it down piece by piece: from an idle CPU, or
 * between guest exits when none is idle. Gives away the reference of domain_create().
 * Any context with no lock above LOCK_SCHED held; once or many times.
 */
void domain_destroy(struct domain *d);
/*
 * One bounded piece of all pending teardown. True if there is more to do now.
 * No lock held. One CPU works at a time; for others there is nothing to do.
 */
bool domain_reap_step(void);

/*
 * As domain_destroy(), of another domain than the current one, and a piece of the work
 * is done here. True: its memory is free, but for what others still use. No lock held.
 */
bool domain_destroy_step(struct domain *d) __must_check;

/* Undoes domain_shutdown(), of a domain that stayed. */
void domain_resume(struct domain *d);

/*
 * The state of @d's guest cannot be repaired: prints why, a register dump,
 * and applies its crash policy. The vCPU, if current, does not return to the
 * guest. No lock held.
 */
void domain_crash(struct domain *d, const char *fmt, ...) __printf(2, 3);

/* Calls @fn for every live domain with a reference held meanwhile. */
void domain_for_each(void (*fn)(struct domain *d, void *data), void *data);

/* --- vCPUs -------------------------------------------------------------- */

/* Sets / clears pause reasons and tells the scheduler. */
void vcpu_pause_set(struct vcpu *v, unsigned int flag);
void vcpu_pause_clear(struct vcpu *v, unsigned int flag);

static inline bool vcpu_runnable(const struct vcpu *v)
{
	return atomic_load_explicit(&v->pause_flags, memory_order_acquire) == 0;
}

/*
 * Something for @v to see: wakes it if blocked with work to do, or polling;
 * kicks it if it runs elsewhere. The caller made it visible with a full barrier, such as an atomic
 * read-modify-write.
 */
void vcpu_notify(struct vcpu *v);

/* sched_op block of the current vCPU, and HLT with interrupts on. */
void vcpu_block(struct vcpu *v);

/* HLT of the current vCPU: blocks, or with interrupts off goes down. */
void vcpu_halt(struct vcpu *v);

/* Offline until VCPUOP_up or INIT; the last one to go powers the domain off. */
void vcpu_down(struct vcpu *v);

/* Is an event or interrupt waiting that ends a block? @v is the current one, or blocked. */
bool vcpu_has_work(struct vcpu *v);

/* The vector of a pending upcall that comes past the local APIC, whatever its TPR; or 0. */
static inline uint8_t vcpu_callback(const struct vcpu *v)
{
	uint8_t vector = atomic_load_explicit(&v->callback_vector, memory_order_relaxed);

	return unlikely(vector) && read_once(v->info->evtchn_upcall_pending) ? vector : 0;
}

/* evtchn -> 0-to-1 edge of upcall_pending: interrupt it in. */
void vcpu_mark_upcall(struct vcpu *v);

/*
 * Gives a vCPU that is down (not the current one) the context to begin with:
 * VCPUOP_initialise, builder. It stays down: vcpu_pause_clear(v, PAUSE_DOWN)
 * brings it up. -XEN_EEXIST when it has a context already, -XEN_EINVAL when
 * the CPU would not run this one.
 */
int vcpu_set_entry(struct vcpu *v, const struct guest_regs *regs, const struct guest_system *sys)
	__must_check;
/* Checks and translates a guest's context for it. -XEN_EINVAL (vcpu_context.c). */
int vcpu_context_check(const struct domain *d, const struct vcpu_hvm_context *c,
		       struct guest_regs *regs, struct guest_system *sys) __must_check;

/*
 * INIT and start-up IPIs, from any vCPU to any, itself included. INIT takes
 * the target down without waiting for it; a start-up IPI after that lets it
 * reset itself and begin; at any other time it is ignored.
 */
void vcpu_init_signal(struct vcpu *v);
void vcpu_sipi(struct vcpu *v, uint8_t vector);
/* The target's own part, before it enters: schedule() calls it. */
void vcpu_start(struct vcpu *v);

/* Prints its registers. */
void vcpu_dump(struct vcpu *v);

/* A domain's vCPUs and their memory. Called by domain.c only. */
int vcpu_create(struct domain *d, unsigned int id) __must_check;
void vcpu_destroy(struct vcpu *v);

/* --- Time (pvclock.c) --------------------------------------------------- */

/* Its system time now; and when its time @ns is or was on our clock, 0 when before that began. */
static inline uint64_t domain_time_ns(const struct domain *d)
{
	return port_time_ns() + d->time_offset;
}
/*
 * The moment, on the host's TSC, as of which time is saved of @d, which is paused:
 * once it has shut down it stays, so that all that is saved fits together.
 */
uint64_t domain_save_tsc(struct domain *d);
static inline uint64_t domain_to_host_ns(const struct domain *d, uint64_t ns)
{
	return unlikely((int64_t)d->time_offset > 0 && d->time_offset > ns) ? 0 :
	       ns - d->time_offset;
}

/*
 * Refreshes v's time info in vcpu_info and in its secondary area, whose address
 * is one of the current vCPU's. At creation (so the legacy slots are filled from
 * the start) and when the guest changes v's TSC offset or where the info lies.
 * Physical CPUs do not matter: their TSCs are synchronous.
 */
void pvclock_update(struct vcpu *v);
/*
 * As of the moment @tsc the system time of @d, paused, is what it brought along; and
 * all that tells it the time. Domain lock held.
 */
void domain_set_time(struct domain *d, uint64_t tsc);
/* Writes the wall clock into shared_info. Domain lock held, or nobody else knows @d. */
void pvclock_update_wallclock(struct domain *d);
/*
 * Copies the runstate to the guest's area, when it has one. @v is current and
 * its state loaded: called when it was scheduled in.
 */
void runstate_update_area(struct vcpu *v);
/* Accounts for a change of state at @now. Scheduler lock held. */
void runstate_change(struct vcpu *v, int state, uint64_t now);

/*
 * What a guest can set to go off: a vCPU's timers (singleshot, periodic,
 * poll; killed with them: the local APIC's) and the domain's watchdogs
 * (ops_vcpu.c, ops_sched.c). init: at creation. kill: at teardown, no lock held.
 */
void vcpu_timers_init(struct vcpu *v);
void vcpu_timers_kill(struct vcpu *v);
void domain_watchdogs_init(struct domain *d);
void domain_watchdogs_kill(struct domain *d);

/* --- Exits -------------------------------------------------------------- */

/* Chooses what the next entry of @v, the current vCPU, injects (hv/x86/exit.c). */
void exit_prepare(struct vcpu *v);

/* Handles one exit of @v, the current vCPU (hv/x86/exit.c). */
void exit_handle(struct vcpu *v, const struct vm_exit *exit);

#endif
