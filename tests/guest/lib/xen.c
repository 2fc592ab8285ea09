/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's side of a tiny guest: shared info, time, events, memory.
 */
#include "guest.h"

u8 shared_page[PAGE_SIZE] __attribute__((aligned(4096)));

volatile u32 port_count[4096];
void (*upcall_hook)(unsigned int port);
void (*events_scan)(void) = events_scan_2l;
u32 fifo_words[1024] __attribute__((aligned(4096)));
struct evtchn_fifo_control_block fifo_control[MAX_CPUS] __attribute__((aligned(4096)));
volatile u32 fifo_order[256], fifo_nr;

static u32 fifo_head[MAX_CPUS][EVTCHN_FIFO_MAX_QUEUES];
static bool shared_info_mapped;

/* ---- memory ---- */

long physmap_add(unsigned int space, u64 idx, u64 gfn)
{
	struct xen_add_to_physmap a = {
		.domid = DOMID_SELF, .space = space, .idx = idx, .gpfn = gfn,
	};

	return memory_op(XENMEM_add_to_physmap, &a);
}

long physmap_remove(u64 gfn)
{
	struct xen_remove_from_physmap a = { .domid = DOMID_SELF, .gpfn = gfn };

	return memory_op(XENMEM_remove_from_physmap, &a);
}

long reservation_op(unsigned int cmd, u64 *gfns, unsigned int nr, unsigned int order)
{
	struct xen_memory_reservation r = {
		.nr_extents = nr, .extent_order = order, .domid = DOMID_SELF,
	};

	set_xen_guest_handle(r.extent_start, (xen_pfn_t *)gfns);
	return memory_op(cmd, &r);
}

u64 hole_gfn(unsigned int n)
{
	static u64 next = 0xe0000000ul >> 12;
	u64 gfn = next;

	next += n;
	return gfn;
}

long hvm_param_get(u32 index, u64 *value)
{
	struct xen_hvm_param p = { .domid = DOMID_SELF, .index = index };
	long rc = hvm_op(HVMOP_get_param, &p);

	*value = p.value;
	return rc;
}

long hvm_param_set(u32 index, u64 value)
{
	struct xen_hvm_param p = { .domid = DOMID_SELF, .index = index, .value = value };

	return hvm_op(HVMOP_set_param, &p);
}

void shared_info_map(void)
{
	if (shared_info_mapped)
		return;
	if (physmap_add(XENMAPSPACE_shared_info, 0, gfn_of(shared_page)))
		fail(__FILE__, __LINE__, "shared info cannot be mapped");
	shared_info_mapped = true;
}

struct vcpu_info *vcpu_info(unsigned int cpu)
{
	return &shinfo->vcpu_info[cpu];
}

/* ---- time ---- */

u64 tsc_khz(void)
{
	static u64 khz;
	u32 r[4];

	if (khz)
		return khz;
	cpuid(0x40000003, 0, r);
	khz = on_xen && r[2] ? r[2] : 1000000;
	return khz;
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + us * tsc_khz() / 1000;

	while (rdtsc() < end)
		pause();
}

u64 now_ns(void)
{
	volatile struct vcpu_time_info *t = &vcpu_info(this_cpu()->id)->time;
	u64 delta, ns;
	u32 version;

	do {
		version = t->version;
		barrier();
		delta = rdtsc() - t->tsc_timestamp;
		delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
		ns = t->system_time + (u64)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
		barrier();
	} while (version & 1 || version != t->version);
	return ns;
}

bool wait_for(volatile u32 *value, u32 want, unsigned int ms)
{
	u64 end = rdtsc() + ms * tsc_khz();

	while (*value < want && rdtsc() < end)
		irq_window();
	return *value >= want;
}

/* ---- events, 2-level ---- */

static void event_taken(unsigned int port)
{
	port_count[port % ARRAY_SIZE(port_count)]++;
	if (upcall_hook)
		upcall_hook(port);
}

void events_scan_2l(void)
{
	struct vcpu_info *v = vcpu_info(this_cpu()->id);
	u64 sel, bits;

	__atomic_store_n(&v->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
	sel = __atomic_exchange_n(&v->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
	for (; sel; sel &= sel - 1) {
		unsigned int word = (unsigned int)__builtin_ctzl(sel);

		bits = READ_ONCE(shinfo->evtchn_pending[word]) &
		       ~READ_ONCE(shinfo->evtchn_mask[word]);
		for (; bits; bits &= bits - 1) {
			unsigned int port = word * 64 + (unsigned int)__builtin_ctzl(bits);

			port_clear(port);
			event_taken(port);
		}
	}
}

void port_mask(unsigned int port, bool masked)
{
	u64 bit = 1ul << (port % 64);

	if (masked)
		__atomic_fetch_or(&shinfo->evtchn_mask[port / 64], bit, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&shinfo->evtchn_mask[port / 64], ~bit, __ATOMIC_SEQ_CST);
}

bool port_pending(unsigned int port)
{
	return READ_ONCE(shinfo->evtchn_pending[port / 64]) >> (port % 64) & 1;
}

void port_clear(unsigned int port)
{
	__atomic_fetch_and(&shinfo->evtchn_pending[port / 64], ~(1ul << (port % 64)),
			   __ATOMIC_SEQ_CST);
}

/* ---- events, FIFO ---- */

static u32 fifo_unlink(u32 *word)
{
	u32 old = READ_ONCE(*word), new;

	do {
		new = old & ~(1u << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK);
	} while (!__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	return old & EVTCHN_FIFO_LINK_MASK;
}

static bool fifo_take(unsigned int cpu, unsigned int queue)
{
	struct evtchn_fifo_control_block *c = &fifo_control[cpu];
	u32 port = fifo_head[cpu][queue], old, *word;

	if (!port)
		port = __atomic_load_n(&c->head[queue], __ATOMIC_SEQ_CST);
	if (!port)
		return false;
	word = &fifo_words[port % ARRAY_SIZE(fifo_words)];
	fifo_head[cpu][queue] = fifo_unlink(word);
	old = READ_ONCE(*word);
	if (old >> EVTCHN_FIFO_PENDING & 1 && !(old >> EVTCHN_FIFO_MASKED & 1)) {
		__atomic_fetch_and(word, ~(1u << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
		fifo_order[fifo_nr++ % ARRAY_SIZE(fifo_order)] = port;
		event_taken(port);
	}
	return fifo_head[cpu][queue] != 0;
}

void events_scan_fifo(void)
{
	unsigned int cpu = this_cpu()->id;
	u32 ready;

	__atomic_store_n(&vcpu_info(cpu)->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
	ready = __atomic_exchange_n(&fifo_control[cpu].ready, 0, __ATOMIC_SEQ_CST);
	while (ready) {
		unsigned int queue = (unsigned int)__builtin_ctz(ready);

		if (!fifo_take(cpu, queue))
			ready &= ~(1u << queue);
		ready |= __atomic_exchange_n(&fifo_control[cpu].ready, 0, __ATOMIC_SEQ_CST);
	}
}

long fifo_init(unsigned int cpu)
{
	struct evtchn_init_control a = {
		.control_gfn = gfn_of(&fifo_control[cpu]), .vcpu = cpu,
		.offset = (u32)(PTR(&fifo_control[cpu]) % PAGE_SIZE),
	};
	long rc = evtchn_op(EVTCHNOP_init_control, &a);

	if (!rc)
		events_scan = events_scan_fifo;
	return rc;
}

long fifo_expand(void)
{
	struct evtchn_expand_array a = { .array_gfn = gfn_of(fifo_words) };

	return evtchn_op(EVTCHNOP_expand_array, &a);
}

/* ---- operations on ports ---- */

void events_init_vcpu(unsigned int cpu)
{
	struct xen_hvm_evtchn_upcall_vector v = { .vcpu = cpu, .vector = UPCALL_VECTOR };

	if (hvm_op(HVMOP_set_evtchn_upcall_vector, &v))
		fail(__FILE__, __LINE__, "no upcall vector for vCPU %u", cpu);
}

void events_init(void)
{
	shared_info_map();
	apic_init();
	events_init_vcpu(this_cpu()->id);
}

int bind_virq(unsigned int virq, unsigned int cpu)
{
	struct evtchn_bind_virq a = { .virq = virq, .vcpu = cpu };
	long rc = evtchn_op(EVTCHNOP_bind_virq, &a);

	return rc ? (int)rc : (int)a.port;
}

int bind_ipi(unsigned int cpu)
{
	struct evtchn_bind_ipi a = { .vcpu = cpu };
	long rc = evtchn_op(EVTCHNOP_bind_ipi, &a);

	return rc ? (int)rc : (int)a.port;
}

int alloc_unbound(domid_t remote)
{
	struct evtchn_alloc_unbound a = { .dom = DOMID_SELF, .remote_dom = remote };
	long rc = evtchn_op(EVTCHNOP_alloc_unbound, &a);

	return rc ? (int)rc : (int)a.port;
}

long evtchn_send(unsigned int port)
{
	struct evtchn_send a = { .port = port };

	return evtchn_op(EVTCHNOP_send, &a);
}

long evtchn_close(unsigned int port)
{
	struct evtchn_close a = { .port = port };

	return evtchn_op(EVTCHNOP_close, &a);
}

long evtchn_unmask(unsigned int port)
{
	struct evtchn_unmask a = { .port = port };

	return evtchn_op(EVTCHNOP_unmask, &a);
}
