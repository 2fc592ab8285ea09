/* SPDX-License-Identifier: MIT */
/*
 * What single operations cost: TSC ticks of each, the median of many. Under the emulator's
 * -icount a tick is one instruction, of the guest and of whatever is below it.
 *
 * Prints "COST <row> <median> <minimum> <maximum>"; rows that need an ABI which is not there
 * are left out. The grant rows need the guest "granter" as the domain before this one.
 */
#include "guest.h"

const char guest_name[] = "ops";

#define ROUNDS 101
#define IPI_VECTOR 0x40
#define WARM_UP 8

static u64 sample[ROUNDS];
static volatile u64 arrived;		/* TSC in the handler */
static u32 event_port, timer_port;
static u8 data_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 map_gfn, page_gfn;
static domid_t domid;

static void report(const char *row)
{
	for (unsigned int i = 1; i < ROUNDS; i++) {
		u64 v = sample[i];
		unsigned int j = i;

		for (; j && sample[j - 1] > v; j--)
			sample[j] = sample[j - 1];
		sample[j] = v;
	}
	print("COST %s %lu %lu %lu\n", row, sample[ROUNDS / 2], sample[0], sample[ROUNDS - 1]);
}

/* Measures stmt, with what the two readings of the TSC cost taken off. */
#define MEASURE(row, before, stmt, after)					\
	do {									\
		for (int i_ = -WARM_UP; i_ < ROUNDS; i_++) {			\
			u64 start_, end_;					\
										\
			before;							\
			start_ = rdtsc();					\
			stmt;							\
			end_ = rdtsc();						\
			after;							\
			if (i_ >= 0)						\
				sample[i_] = end_ - start_;			\
		}								\
		report(row);							\
	} while (0)

/* The same until the handler of an interrupt runs, interrupts being on. */
#define MEASURE_ARRIVAL(row, stmt)						\
	do {									\
		for (int i_ = -WARM_UP; i_ < ROUNDS; i_++) {			\
			u64 start_;						\
										\
			arrived = 0;						\
			irq_on();						\
			start_ = rdtsc();					\
			stmt;							\
			while (!arrived)					\
				;						\
			irq_off();						\
			if (i_ >= 0)						\
				sample[i_] = arrived - start_;			\
		}								\
		report(row);							\
	} while (0)

static void on_ipi(struct regs *r)
{
	(void)r;
	arrived = rdtsc();
}

static void on_event(unsigned int port)
{
	if (port == event_port || port == timer_port)
		arrived = rdtsc();
}

static void set_timer(u64 ns)
{
	struct vcpu_set_singleshot_timer t = { .timeout_abs_ns = ns };

	CHECK_EQ(vcpu_op(VCPUOP_set_singleshot_timer, 0, &t), 0);
}

static void plain_rows(void)
{
	u32 r[4];

	MEASURE("cpuid", , cpuid(1, 0, r), );
	MEASURE("rdmsr", , rdmsr(MSR_APIC_BASE), );
	apic_init();
	MEASURE("x2apic_read", , rdmsr(MSR_X2APIC + APIC_ID), );
	trap_handlers[IPI_VECTOR] = on_ipi;
	MEASURE_ARRIVAL("self_ipi", wrmsr(MSR_X2APIC + APIC_SELF_IPI, IPI_VECTOR));
}

static void event_rows(void)
{
	events_init();
	event_port = (u32)bind_ipi(0);
	timer_port = (u32)bind_virq(VIRQ_TIMER, 0);
	upcall_hook = on_event;
	MEASURE_ARRIVAL("event_self", evtchn_send(event_port));
	MEASURE_ARRIVAL("timer_fired", set_timer(1));
	MEASURE("timer_set", , set_timer(now_ns() + 1000000000ul), );
	set_timer(~0ul >> 2);
}

static void move_page(unsigned int cmd)
{
	CHECK_EQ(reservation_op(cmd, &page_gfn, 1, 0), 1);
}

static void memory_rows(void)
{
	page_gfn = gfn_of(data_page);
	MEASURE("populate", move_page(XENMEM_decrease_reservation),
		move_page(XENMEM_populate_physmap), );
	MEASURE("hole_read", , (void)READ_ONCE(*(u32 *)gfn_ptr(map_gfn)), );
}

/* The granter is the domain before this one. Leaf 0x40000004 tells our own id. */
static domid_t granter_domid(void)
{
	u32 r[4];

	cpuid(0x40000004, 0, r);
	return (domid_t)(r[2] - 1);
}

static void map_grant(grant_handle_t *handle)
{
	struct gnttab_map_grant_ref m = {
		.host_addr = map_gfn << 12, .flags = GNTMAP_host_map, .ref = 8, .dom = domid,
	};

	CHECK_EQ(grant_op(GNTTABOP_map_grant_ref, &m, 1), 0);
	CHECK_EQ(m.status, GNTST_okay);
	*handle = m.handle;
}

static void unmap_grant(grant_handle_t handle)
{
	struct gnttab_unmap_grant_ref u = { .host_addr = map_gfn << 12, .handle = handle };

	CHECK_EQ(grant_op(GNTTABOP_unmap_grant_ref, &u, 1), 0);
	CHECK_EQ(u.status, GNTST_okay);
}

static void copy_grant(void)
{
	struct gnttab_copy c = {
		.source.u.ref = 8, .source.domid = domid,
		.dest.u.gmfn = gfn_of(data_page), .dest.domid = DOMID_SELF,
		.len = PAGE_SIZE, .flags = GNTCOPY_source_gref,
	};

	CHECK_EQ(grant_op(GNTTABOP_copy, &c, 1), 0);
	CHECK_EQ(c.status, GNTST_okay);
}

static void grant_rows(void)
{
	grant_handle_t handle;

	domid = granter_domid();
	MEASURE("grant_map", , map_grant(&handle), unmap_grant(handle));
	MEASURE("grant_map_unmap", , { map_grant(&handle); unmap_grant(handle); }, );
	MEASURE("grant_copy", , copy_grant(), );
}

void guest_main(void)
{
	plain_rows();
	if (!on_xen) {
		MEASURE("hypercall", , hcall2(100, 0, 0), );
		return;
	}
	map_gfn = hole_gfn(1);
	MEASURE("port_read", , inb(0x2f9), );
	MEASURE("hypercall", , xen_version_op(XENVER_version, NULL), );
	MEASURE("yield", , sched_op(SCHEDOP_yield, NULL), );
	event_rows();
	memory_rows();
	grant_rows();
}
