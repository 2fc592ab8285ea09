/* SPDX-License-Identifier: MIT */
/*
 * Two whole domains share pages and events through hypercalls, and one of them
 * dies first: every frame comes back.
 */
#include "unit.h"

#include "real_domain.h"

#define ARG 0x1000UL
#define ENTRY_GFN 0x300UL		/* where the grant frame goes */
#define SHARED_GFN 16UL
#define MAP_GPA 0x500000UL
#define CONTROL_GFN 40UL
#define ARRAY_GFN 41UL

static uint64_t free_before;
static struct domain *d1, *d2;

static int setup(void **state)
{
	test_machine_init(8192, 2);
	free_before = page_free_count();
	d1 = guest_new(1, 2, false);
	d2 = guest_new(2, 1, false);
	return 0;
}

static int teardown(void **state)
{
	test_machine_fini();
	return 0;
}

static int64_t call(struct domain *d, uint64_t nr, uint64_t op, void *arg, size_t size)
{
	int64_t rc;

	memcpy(guest_mem(d, ARG), arg, size);
	rc = hcall(d->vcpus[0], nr, op, ARG, 1);
	memcpy(arg, guest_mem(d, ARG), size);
	lock_check_none();
	return rc;
}

#define EVENT(d, op, arg) call(d, __HYPERVISOR_event_channel_op, op, &(arg), sizeof(arg))
#define GRANT(d, op, arg) call(d, __HYPERVISOR_grant_table_op, op, &(arg), sizeof(arg))

static void offer(unsigned int ref, uint16_t flags)
{
	struct xen_add_to_physmap a = { .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table,
					.gpfn = ENTRY_GFN };
	struct grant_entry_v1 *e;

	assert_int_equal(call(d1, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &a, sizeof(a)), 0);
	e = (struct grant_entry_v1 *)guest_mem(d1, ENTRY_GFN << PAGE_SHIFT) + ref;
	*e = (struct grant_entry_v1){ GTF_permit_access | flags, 2, SHARED_GFN };
}

static void test_pages(void **state)
{
	struct gnttab_map_grant_ref map = { .host_addr = MAP_GPA, .flags = GNTMAP_host_map,
					    .ref = 9, .dom = 1 };
	struct gnttab_unmap_grant_ref unmap = { .host_addr = MAP_GPA };
	struct gnttab_copy copy = { .source = { .u.ref = 9, .domid = 1 }, .len = 4096,
				    .dest = { .u.gmfn = 5, .domid = DOMID_SELF },
				    .flags = GNTCOPY_source_gref };
	struct gnttab_setup_table table = { .dom = DOMID_SELF, .nr_frames = 2 };
	uint64_t list[2], word = 0x1122334455667788;

	offer(9, 0);
	table.frame_list.p = (void *)0x2000;
	assert_int_equal(GRANT(d1, GNTTABOP_setup_table, table), 0);
	assert_int_equal(table.status, 0);
	memcpy(list, guest_mem(d1, 0x2000), sizeof(list));
	assert_int_equal(list[0], ENTRY_GFN);
	assert_true(list[1] == ~0ULL);

	for (unsigned int round = 0; round < 2; round++) {
		assert_int_equal(GRANT(d2, GNTTABOP_map_grant_ref, map), 0);
		assert_int_equal(map.status, 0);
		assert_int_equal(guest_phys_write(d2, MAP_GPA + 8, &word, sizeof(word)), 0);
		assert_memory_equal(guest_mem(d1, (SHARED_GFN << PAGE_SHIFT) + 8), &word, 8);
		unmap.handle = map.handle;
		assert_int_equal(GRANT(d2, GNTTABOP_unmap_grant_ref, unmap), 0);
		assert_int_equal(unmap.status, 0);
		assert_int_equal(p2m_get(&d2->p2m, GFN(MAP_GPA >> PAGE_SHIFT)).type, P2M_HOLE);
	}
	assert_int_equal(GRANT(d2, GNTTABOP_copy, copy), 0);
	assert_int_equal(copy.status, 0);
	assert_memory_equal(guest_mem(d2, 0x5008), &word, 8);

	/* The owner dies, and stays known until its page is let go of. */
	assert_int_equal(GRANT(d2, GNTTABOP_map_grant_ref, map), 0);
	assert_int_equal(map.status, 0);
	assert_false(guest_end(d1));
	assert_memory_equal(guest_mem(d2, MAP_GPA + 8), &word, 8);
	assert_true(guest_end(d2));
	test_advance_ns(1000000000);
	test_run_timers(0);
	while (domain_reap_step())
		;
	assert_null(domain_get_by_id(1));
	assert_int_equal(page_free_count(), free_before);
}

static void test_events(void **state)
{
	struct evtchn_alloc_unbound unbound = { .dom = DOMID_SELF, .remote_dom = 1 };
	struct evtchn_bind_interdomain bind = { .remote_dom = 2 };
	struct evtchn_init_control control = { .control_gfn = CONTROL_GFN };
	struct evtchn_expand_array array = { .array_gfn = ARRAY_GFN };
	struct sched_poll poll = { .nr_ports = 1 };
	struct evtchn_fifo_control_block *block = guest_mem(d1, CONTROL_GFN << PAGE_SHIFT);
	uint32_t *words = guest_mem(d1, ARRAY_GFN << PAGE_SHIFT);
	struct vcpu *v = d1->vcpus[0];
	struct evtchn_send send;
	uint32_t port;

	assert_int_equal(EVENT(d2, EVTCHNOP_alloc_unbound, unbound), 0);
	send.port = bind.remote_port = unbound.port;
	assert_int_equal(EVENT(d1, EVTCHNOP_init_control, control), 0);
	assert_int_equal(control.link_bits, EVTCHN_FIFO_LINK_BITS);
	assert_int_equal(EVENT(d1, EVTCHNOP_expand_array, array), 0);
	assert_int_equal(EVENT(d1, EVTCHNOP_bind_interdomain, bind), 0);
	port = bind.local_port;
	assert_int_equal(v->info->evtchn_upcall_pending, 1);
	assert_int_equal(block->head[EVTCHN_FIFO_PRIORITY_DEFAULT], port);
	words[port] = 1u << EVTCHN_FIFO_MASKED;
	block->ready = 0;
	v->info->evtchn_upcall_pending = 0;

	/* Masked: no upcall, but who polls for it wakes. */
	memcpy(guest_mem(d1, 0x2000), &port, sizeof(port));
	poll.ports.p = (void *)0x2000;
	assert_int_equal(call(d1, __HYPERVISOR_sched_op, SCHEDOP_poll, &poll, sizeof(poll)), 0);
	assert_true(atomic_load(&v->pause_flags) & PAUSE_POLL);
	assert_int_equal(EVENT(d2, EVTCHNOP_send, send), 0);
	assert_false(atomic_load(&v->pause_flags) & PAUSE_POLL);
	assert_int_equal(v->info->evtchn_upcall_pending, 0);
	assert_int_equal(call(d1, __HYPERVISOR_sched_op, SCHEDOP_poll, &poll, sizeof(poll)), 0);
	assert_false(atomic_load(&v->pause_flags) & PAUSE_POLL);

	assert_true(guest_end(d1));
	assert_int_equal(EVENT(d2, EVTCHNOP_send, send), 0);
	assert_true(guest_end(d2));
	assert_int_equal(page_free_count(), free_before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
