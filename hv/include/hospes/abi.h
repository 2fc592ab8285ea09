/* SPDX-License-Identifier: MIT */
/*
 * The guest ABI: the one place that includes Xen's published headers
 * (package libxen-dev). The asserts pin every size and offset we rely on, so
 * that a header of another version cannot change the ABI silently.
 *
 * Guest handles are 8-byte pointers in these structs. They hold guest virtual
 * addresses: convert with guest_handle() and never dereference them.
 */
#ifndef HOSPES_ABI_H
#define HOSPES_ABI_H

#include <stddef.h>
#include <stdint.h>

/* We see the ABI from the hypervisor's side, at the headers' own version. */
#define __XEN_TOOLS__ 1

#include <xen/xen.h>

#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

/* What xen_version and CPUID leaf 0x40000001 report. */
#define ABI_VERSION_MAJOR 4
#define ABI_VERSION_MINOR 17

/* The guest virtual address in a guest handle, as a number. */
#define guest_handle(h) ((uint64_t)(uintptr_t)(h).p)

#define ABI_SIZE(type, size) \
	_Static_assert(sizeof(type) == (size), "ABI size of " #type)
#define ABI_OFFSET(type, field, off) \
	_Static_assert(offsetof(type, field) == (off), "ABI offset of " #type "." #field)

/* --- Shared pages --- */

ABI_SIZE(struct vcpu_time_info, 32);
ABI_OFFSET(struct vcpu_time_info, version, 0);
ABI_OFFSET(struct vcpu_time_info, tsc_timestamp, 8);
ABI_OFFSET(struct vcpu_time_info, system_time, 16);
ABI_OFFSET(struct vcpu_time_info, tsc_to_system_mul, 24);
ABI_OFFSET(struct vcpu_time_info, tsc_shift, 28);
ABI_OFFSET(struct vcpu_time_info, flags, 29);

ABI_SIZE(struct vcpu_info, 64);
ABI_OFFSET(struct vcpu_info, evtchn_upcall_pending, 0);
ABI_OFFSET(struct vcpu_info, evtchn_pending_sel, 8);
ABI_OFFSET(struct vcpu_info, arch.cr2, 16);
ABI_OFFSET(struct vcpu_info, time, 32);

ABI_SIZE(struct shared_info, 3136);
ABI_OFFSET(struct shared_info, vcpu_info, 0);
ABI_OFFSET(struct shared_info, evtchn_pending, 2048);
ABI_OFFSET(struct shared_info, evtchn_mask, 2560);
ABI_OFFSET(struct shared_info, wc_version, 3072);
ABI_OFFSET(struct shared_info, wc_sec, 3076);
ABI_OFFSET(struct shared_info, wc_nsec, 3080);
ABI_OFFSET(struct shared_info, wc_sec_hi, 3084);
ABI_OFFSET(struct shared_info, arch, 3088);

ABI_SIZE(struct vcpu_runstate_info, 48);
ABI_OFFSET(struct vcpu_runstate_info, state, 0);
ABI_OFFSET(struct vcpu_runstate_info, state_entry_time, 8);
ABI_OFFSET(struct vcpu_runstate_info, time, 16);

ABI_OFFSET(struct xencons_interface, in, 0);
ABI_OFFSET(struct xencons_interface, out, 1024);
ABI_OFFSET(struct xencons_interface, in_cons, 3072);
ABI_OFFSET(struct xencons_interface, in_prod, 3076);
ABI_OFFSET(struct xencons_interface, out_cons, 3080);
ABI_OFFSET(struct xencons_interface, out_prod, 3084);

ABI_OFFSET(struct xenstore_domain_interface, req, 0);
ABI_OFFSET(struct xenstore_domain_interface, rsp, 1024);
ABI_OFFSET(struct xenstore_domain_interface, req_cons, 2048);
ABI_OFFSET(struct xenstore_domain_interface, rsp_prod, 2060);
ABI_OFFSET(struct xenstore_domain_interface, connection, 2068);

/* --- PVH entry --- */

ABI_SIZE(struct hvm_start_info, 56);
ABI_OFFSET(struct hvm_start_info, magic, 0);
ABI_OFFSET(struct hvm_start_info, version, 4);
ABI_OFFSET(struct hvm_start_info, flags, 8);
ABI_OFFSET(struct hvm_start_info, nr_modules, 12);
ABI_OFFSET(struct hvm_start_info, modlist_paddr, 16);
ABI_OFFSET(struct hvm_start_info, cmdline_paddr, 24);
ABI_OFFSET(struct hvm_start_info, rsdp_paddr, 32);
ABI_OFFSET(struct hvm_start_info, memmap_paddr, 40);
ABI_OFFSET(struct hvm_start_info, memmap_entries, 48);
ABI_SIZE(struct hvm_modlist_entry, 32);
ABI_OFFSET(struct hvm_modlist_entry, size, 8);
ABI_OFFSET(struct hvm_modlist_entry, cmdline_paddr, 16);
ABI_SIZE(struct hvm_memmap_table_entry, 24);
ABI_OFFSET(struct hvm_memmap_table_entry, size, 8);
ABI_OFFSET(struct hvm_memmap_table_entry, type, 16);

/* --- Hypercalls of general use --- */

ABI_SIZE(struct multicall_entry, 64);
ABI_OFFSET(struct multicall_entry, result, 8);
ABI_OFFSET(struct multicall_entry, args, 16);

ABI_SIZE(xen_extraversion_t, 16);
ABI_SIZE(xen_compile_info_t, 144);
ABI_SIZE(xen_capabilities_info_t, 1024);
ABI_SIZE(xen_changeset_info_t, 64);
ABI_SIZE(xen_platform_parameters_t, 8);
ABI_SIZE(xen_feature_info_t, 8);
ABI_SIZE(xen_domain_handle_t, 16);
ABI_SIZE(xen_commandline_t, 1024);

ABI_SIZE(struct vcpu_register_vcpu_info, 16);
ABI_OFFSET(struct vcpu_register_vcpu_info, mfn, 0);
ABI_OFFSET(struct vcpu_register_vcpu_info, offset, 8);
ABI_OFFSET(struct vcpu_register_vcpu_info, rsvd, 12);
ABI_SIZE(struct vcpu_register_runstate_memory_area, 8);
ABI_SIZE(struct vcpu_register_time_memory_area, 8);
ABI_SIZE(struct vcpu_set_periodic_timer, 8);
ABI_SIZE(struct vcpu_set_singleshot_timer, 16);
ABI_OFFSET(struct vcpu_set_singleshot_timer, flags, 8);
ABI_SIZE(struct vcpu_hvm_context, 128);
ABI_OFFSET(struct vcpu_hvm_context, cpu_regs, 8);

ABI_SIZE(struct sched_shutdown, 4);
ABI_SIZE(struct sched_poll, 24);
ABI_OFFSET(struct sched_poll, nr_ports, 8);
ABI_OFFSET(struct sched_poll, timeout, 16);
ABI_SIZE(struct sched_remote_shutdown, 8);
ABI_OFFSET(struct sched_remote_shutdown, reason, 4);
ABI_SIZE(struct sched_watchdog, 8);
ABI_SIZE(struct sched_pin_override, 4);

ABI_SIZE(struct xen_hvm_param, 16);
ABI_OFFSET(struct xen_hvm_param, index, 4);
ABI_OFFSET(struct xen_hvm_param, value, 8);
ABI_SIZE(struct xen_hvm_evtchn_upcall_vector, 8);
ABI_OFFSET(struct xen_hvm_evtchn_upcall_vector, vector, 4);
ABI_OFFSET(struct xen_hvm_get_mem_type, mem_type, 2);
ABI_OFFSET(struct xen_hvm_get_mem_type, pfn, 8);

/* --- Event channels --- */

ABI_SIZE(struct evtchn_alloc_unbound, 8);
ABI_OFFSET(struct evtchn_alloc_unbound, remote_dom, 2);
ABI_OFFSET(struct evtchn_alloc_unbound, port, 4);
ABI_SIZE(struct evtchn_bind_interdomain, 12);
ABI_OFFSET(struct evtchn_bind_interdomain, remote_port, 4);
ABI_OFFSET(struct evtchn_bind_interdomain, local_port, 8);
ABI_SIZE(struct evtchn_bind_virq, 12);
ABI_OFFSET(struct evtchn_bind_virq, vcpu, 4);
ABI_OFFSET(struct evtchn_bind_virq, port, 8);
ABI_SIZE(struct evtchn_bind_pirq, 12);
ABI_SIZE(struct evtchn_bind_ipi, 8);
ABI_OFFSET(struct evtchn_bind_ipi, port, 4);
ABI_SIZE(struct evtchn_close, 4);
ABI_SIZE(struct evtchn_send, 4);
ABI_SIZE(struct evtchn_status, 24);
ABI_OFFSET(struct evtchn_status, port, 4);
ABI_OFFSET(struct evtchn_status, status, 8);
ABI_OFFSET(struct evtchn_status, vcpu, 12);
ABI_OFFSET(struct evtchn_status, u, 16);
ABI_SIZE(struct evtchn_bind_vcpu, 8);
ABI_SIZE(struct evtchn_unmask, 4);
ABI_SIZE(struct evtchn_reset, 2);
ABI_SIZE(struct evtchn_init_control, 24);
ABI_OFFSET(struct evtchn_init_control, offset, 8);
ABI_OFFSET(struct evtchn_init_control, vcpu, 12);
ABI_OFFSET(struct evtchn_init_control, link_bits, 16);
ABI_SIZE(struct evtchn_expand_array, 8);
ABI_SIZE(struct evtchn_set_priority, 8);
ABI_SIZE(struct evtchn_fifo_control_block, 72);
ABI_OFFSET(struct evtchn_fifo_control_block, ready, 0);
ABI_OFFSET(struct evtchn_fifo_control_block, head, 8);

/* --- Memory --- */

ABI_SIZE(struct xen_add_to_physmap, 24);
ABI_OFFSET(struct xen_add_to_physmap, size, 2);
ABI_OFFSET(struct xen_add_to_physmap, space, 4);
ABI_OFFSET(struct xen_add_to_physmap, idx, 8);
ABI_OFFSET(struct xen_add_to_physmap, gpfn, 16);
ABI_SIZE(struct xen_add_to_physmap_batch, 32);
ABI_OFFSET(struct xen_add_to_physmap_batch, space, 2);
ABI_OFFSET(struct xen_add_to_physmap_batch, size, 4);
ABI_OFFSET(struct xen_add_to_physmap_batch, u, 6);
ABI_OFFSET(struct xen_add_to_physmap_batch, idxs, 8);
ABI_OFFSET(struct xen_add_to_physmap_batch, gpfns, 16);
ABI_OFFSET(struct xen_add_to_physmap_batch, errs, 24);
ABI_SIZE(struct xen_memory_map, 16);
ABI_OFFSET(struct xen_memory_map, buffer, 8);
ABI_SIZE(struct xen_memory_reservation, 32);
ABI_OFFSET(struct xen_memory_reservation, nr_extents, 8);
ABI_OFFSET(struct xen_memory_reservation, extent_order, 16);
ABI_OFFSET(struct xen_memory_reservation, mem_flags, 20);
ABI_OFFSET(struct xen_memory_reservation, domid, 24);
ABI_SIZE(struct xen_memory_exchange, 72);
ABI_OFFSET(struct xen_memory_exchange, nr_exchanged, 64);
ABI_SIZE(struct xen_remove_from_physmap, 16);
ABI_OFFSET(struct xen_remove_from_physmap, gpfn, 8);
ABI_SIZE(struct xen_mem_acquire_resource, 32);
ABI_OFFSET(struct xen_mem_acquire_resource, type, 2);
ABI_OFFSET(struct xen_mem_acquire_resource, id, 4);
ABI_OFFSET(struct xen_mem_acquire_resource, nr_frames, 8);
ABI_OFFSET(struct xen_mem_acquire_resource, frame, 16);
ABI_OFFSET(struct xen_mem_acquire_resource, frame_list, 24);

/* --- Grant tables --- */

ABI_SIZE(struct grant_entry_v1, 8);
ABI_OFFSET(struct grant_entry_v1, domid, 2);
ABI_OFFSET(struct grant_entry_v1, frame, 4);
ABI_SIZE(union grant_entry_v2, 16);
ABI_SIZE(grant_status_t, 2);
ABI_SIZE(struct gnttab_map_grant_ref, 32);
ABI_OFFSET(struct gnttab_map_grant_ref, flags, 8);
ABI_OFFSET(struct gnttab_map_grant_ref, ref, 12);
ABI_OFFSET(struct gnttab_map_grant_ref, dom, 16);
ABI_OFFSET(struct gnttab_map_grant_ref, status, 18);
ABI_OFFSET(struct gnttab_map_grant_ref, handle, 20);
ABI_OFFSET(struct gnttab_map_grant_ref, dev_bus_addr, 24);
ABI_SIZE(struct gnttab_unmap_grant_ref, 24);
ABI_OFFSET(struct gnttab_unmap_grant_ref, dev_bus_addr, 8);
ABI_OFFSET(struct gnttab_unmap_grant_ref, handle, 16);
ABI_OFFSET(struct gnttab_unmap_grant_ref, status, 20);
ABI_SIZE(struct gnttab_setup_table, 24);
ABI_OFFSET(struct gnttab_setup_table, nr_frames, 4);
ABI_OFFSET(struct gnttab_setup_table, status, 8);
ABI_OFFSET(struct gnttab_setup_table, frame_list, 16);
ABI_SIZE(struct gnttab_copy, 40);
ABI_OFFSET(struct gnttab_copy, dest, 16);
ABI_OFFSET(struct gnttab_copy, len, 32);
ABI_OFFSET(struct gnttab_copy, flags, 34);
ABI_OFFSET(struct gnttab_copy, status, 36);
ABI_SIZE(struct gnttab_query_size, 16);
ABI_OFFSET(struct gnttab_query_size, nr_frames, 4);
ABI_OFFSET(struct gnttab_query_size, max_nr_frames, 8);
ABI_OFFSET(struct gnttab_query_size, status, 12);
ABI_SIZE(struct gnttab_set_version, 4);
ABI_SIZE(struct gnttab_get_version, 8);
ABI_OFFSET(struct gnttab_get_version, version, 4);
ABI_SIZE(struct gnttab_get_status_frames, 16);
ABI_SIZE(struct gnttab_swap_grant_ref, 12);

#endif
