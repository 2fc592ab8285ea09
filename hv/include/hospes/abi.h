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
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

/* These ask for unnamed unions, and do not know that C11 has them. */
#pragma push_macro("__STRICT_ANSI__")
#undef __STRICT_ANSI__
#include <xen/domctl.h>
#include <xen/hvm/save.h>
#pragma pop_macro("__STRICT_ANSI__")

#include <xen/sysctl.h>

/* What xen_version and CPUID leaf 0x40000001 report. */
#define ABI_VERSION_MAJOR 4
#define ABI_VERSION_MINOR 17

/* The guest virtual address in a guest handle, as a number. */
#define guest_handle(h) ((uint64_t)(uintptr_t)(h).p)

#define ABI_SIZE(none, type, size) \
	_Static_assert(sizeof(type) == (size), "ABI size of " #type)
#define ABI_AT(type, field, off) \
	_Static_assert(offsetof(type, field) == (off), "ABI offset of " #type "." #field)
/* The check of each of up to nine pairs. */
#define ABI_9(c, t, a, b) c(t, a, b)
#define ABI_8(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_9(c, t, __VA_ARGS__))
#define ABI_7(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_8(c, t, __VA_ARGS__))
#define ABI_6(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_7(c, t, __VA_ARGS__))
#define ABI_5(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_6(c, t, __VA_ARGS__))
#define ABI_4(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_5(c, t, __VA_ARGS__))
#define ABI_3(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_4(c, t, __VA_ARGS__))
#define ABI_2(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_3(c, t, __VA_ARGS__))
#define ABI_1(c, t, a, b, ...) c(t, a, b) __VA_OPT__(; ABI_2(c, t, __VA_ARGS__))

/* One row per struct: size, then pairs of field and offset. */
#define ABI(type, size, ...) \
	ABI_SIZE(, type, size) __VA_OPT__(; ABI_1(ABI_AT, type, __VA_ARGS__))
/* Structs of which the size says enough: pairs of type and size. */
#define ABI_SIZES(...) ABI_1(ABI_SIZE, , __VA_ARGS__)

/* --- Shared pages --- */

ABI(struct vcpu_time_info, 32, version, 0, tsc_timestamp, 8, system_time, 16, tsc_to_system_mul, 24,
	tsc_shift, 28, flags, 29);

ABI(struct vcpu_info, 64, evtchn_upcall_pending, 0, evtchn_pending_sel, 8, arch.cr2, 16, time, 32);

ABI(struct shared_info, 3136, vcpu_info, 0, evtchn_pending, 2048, evtchn_mask, 2560,
	wc_version, 3072, wc_sec, 3076, wc_nsec, 3080, wc_sec_hi, 3084, arch, 3088);

ABI(struct vcpu_runstate_info, 48, state, 0, state_entry_time, 8, time, 16);

ABI(struct xencons_interface, 3088, in, 0, out, 1024, in_cons, 3072, in_prod, 3076, out_cons, 3080,
	out_prod, 3084);

ABI(struct xenstore_domain_interface, 2076, req, 0, rsp, 1024, req_cons, 2048, rsp_prod, 2060,
	connection, 2068);

/* --- PVH entry --- */

ABI(struct hvm_start_info, 56, magic, 0, version, 4, flags, 8, nr_modules, 12, modlist_paddr, 16,
	cmdline_paddr, 24, rsdp_paddr, 32, memmap_paddr, 40, memmap_entries, 48);
ABI(struct hvm_modlist_entry, 32, size, 8, cmdline_paddr, 16);
ABI(struct hvm_memmap_table_entry, 24, size, 8, type, 16);

/* --- Hypercalls of general use --- */

ABI(struct multicall_entry, 64, result, 8, args, 16);

ABI(struct vcpu_register_vcpu_info, 16, mfn, 0, offset, 8, rsvd, 12);
ABI(struct vcpu_set_singleshot_timer, 16, flags, 8);
ABI(struct vcpu_hvm_context, 128, cpu_regs, 8);

ABI(struct sched_poll, 24, nr_ports, 8, timeout, 16);
ABI(struct sched_remote_shutdown, 8, reason, 4);

ABI(struct xen_hvm_param, 16, index, 4, value, 8);
ABI(struct xen_hvm_evtchn_upcall_vector, 8, vector, 4);
ABI(struct xen_hvm_get_mem_type, 16, mem_type, 2, pfn, 8);
ABI_SIZES(xen_extraversion_t, 16, xen_compile_info_t, 144, xen_capabilities_info_t, 1024,
	xen_changeset_info_t, 64, xen_platform_parameters_t, 8, xen_feature_info_t, 8,
	xen_domain_handle_t, 16, xen_commandline_t, 1024,
	struct vcpu_register_runstate_memory_area, 8);
ABI_SIZES(struct vcpu_register_time_memory_area, 8, struct vcpu_set_periodic_timer, 8,
	struct sched_shutdown, 4, struct sched_watchdog, 8, struct sched_pin_override, 4);

ABI(struct physdev_pci_mmcfg_reserved, 16, segment, 8, start_bus, 10, end_bus, 11, flags, 12);
ABI(struct physdev_pci_device_add, 12, bus, 2, devfn, 3, flags, 4, physfn, 8);
ABI(struct physdev_pci_device, 4, bus, 2, devfn, 3);

/* --- Event channels --- */

ABI(struct evtchn_alloc_unbound, 8, remote_dom, 2, port, 4);
ABI(struct evtchn_bind_interdomain, 12, remote_port, 4, local_port, 8);
ABI(struct evtchn_bind_virq, 12, vcpu, 4, port, 8);
ABI(struct evtchn_bind_ipi, 8, port, 4);
ABI(struct evtchn_status, 24, port, 4, status, 8, vcpu, 12, u, 16);
ABI(struct evtchn_init_control, 24, offset, 8, vcpu, 12, link_bits, 16);
ABI(struct evtchn_fifo_control_block, 72, ready, 0, head, 8);
ABI_SIZES(struct evtchn_bind_pirq, 12, struct evtchn_close, 4, struct evtchn_send, 4,
	struct evtchn_bind_vcpu, 8, struct evtchn_unmask, 4, struct evtchn_reset, 2,
	struct evtchn_expand_array, 8, struct evtchn_set_priority, 8);

/* --- Memory --- */

ABI(struct xen_add_to_physmap, 24, size, 2, space, 4, idx, 8, gpfn, 16);
ABI(struct xen_add_to_physmap_batch, 32, space, 2, size, 4, u, 6, idxs, 8, gpfns, 16, errs, 24);
ABI(struct xen_memory_map, 16, buffer, 8);
ABI(struct xen_memory_reservation, 32, nr_extents, 8, extent_order, 16, mem_flags, 20, domid, 24);
ABI(struct xen_remove_from_physmap, 16, gpfn, 8);
ABI(struct xen_foreign_memory_map, 24, map, 8);
ABI(struct xen_pod_target, 40, tot_pages, 8, pod_cache_pages, 16, pod_entries, 24, domid, 32);
ABI_SIZES(struct xen_vnuma_topology_info, 40);
ABI(struct xen_mem_acquire_resource, 32, type, 2, id, 4, nr_frames, 8, frame, 16, frame_list, 24);

/* --- Grant tables --- */

ABI(struct grant_entry_v1, 8, domid, 2, frame, 4);
ABI(struct gnttab_map_grant_ref, 32, flags, 8, ref, 12, dom, 16, status, 18, handle, 20,
	dev_bus_addr, 24);
ABI(struct gnttab_unmap_grant_ref, 24, dev_bus_addr, 8, handle, 16, status, 20);
ABI(struct gnttab_setup_table, 24, nr_frames, 4, status, 8, frame_list, 16);
ABI(struct gnttab_copy, 40, dest, 16, len, 32, flags, 34, status, 36);
ABI(struct gnttab_query_size, 16, nr_frames, 4, max_nr_frames, 8, status, 12);
ABI(struct gnttab_get_version, 8, version, 4);
ABI_SIZES(union grant_entry_v2, 16, grant_status_t, 2, struct gnttab_set_version, 4,
	struct gnttab_swap_grant_ref, 12);

/* --- Toolstack --- */

_Static_assert(XEN_DOMCTL_INTERFACE_VERSION == 0x15 && XEN_SYSCTL_INTERFACE_VERSION == 0x15 &&
	       XENPF_INTERFACE_VERSION == 0x03000001, "interface versions of 4.17");

ABI(struct xen_domctl, 144, interface_version, 4, domain, 8, u, 16);
ABI(struct xen_sysctl, 136, interface_version, 4, u, 8);
ABI(struct xen_platform_op, 136, interface_version, 4, u, 8);
ABI(struct xenctl_bitmap, 16, nr_bits, 8);

ABI(struct xen_cpuid_leaf, 24, subleaf, 4, a, 8);
ABI(struct xen_msr_entry, 16, flags, 4, val, 8);
ABI(struct xen_sysctl_cpu_policy, 32, nr_leaves, 4, nr_msrs, 8, leaves, 16, msrs, 24);
ABI(struct xen_sysctl_cpu_featureset, 16, nr_features, 4, features, 8);
ABI(struct xen_domctl_cpu_policy, 40, leaves, 8, msrs, 16, err_leaf, 24, err_subleaf, 28,
	err_msr, 32);
ABI(struct xen_domctl_hvmcontext, 16, buffer, 8);
ABI(struct xen_domctl_hvmcontext_partial, 24, instance, 4, bufsz, 8, buffer, 16);
ABI(struct xen_domctl_vcpucontext, 16, ctxt, 8);
ABI(struct xen_domctl_tsc_info, 24, gtsc_khz, 4, incarnation, 8, elapsed_nsec, 16);
ABI(struct xen_domctl_getpageframeinfo3, 16, array, 8);
ABI(struct xen_domctl_shadow_op, 40, mode, 4, mb, 8, dirty_bitmap, 16, pages, 24, stats, 32);
ABI(struct vcpu_guest_context, 5168, flags, 512, user_regs, 520, ctrlreg, 4984, debugreg, 5048);

/* --- Saved state --- */

ABI(struct hvm_save_descriptor, 8, instance, 2, length, 4);
ABI(struct hvm_save_header, 24, version, 4, changeset, 8, cpuid, 16, gtsc_khz, 20);
ABI(struct hvm_hw_cpu, 1032, rax, 512, rip, 640, cr0, 656, cs_sel, 736, cs_base, 808,
	sysenter_cs, 920, tsc, 1008, pending_event, 1016, flags, 1024);
ABI(struct hvm_hw_lapic, 24, disabled, 8, timer_divisor, 12, tdt_msr, 16);
ABI(struct hvm_hw_mtrr, 240, msr_mtrr_var, 8, msr_mtrr_fixed, 136, msr_mtrr_cap, 224,
	msr_mtrr_def_type, 232);
ABI(struct hvm_hw_cpu_xsave, 600, xcr0, 8, xcr0_accum, 16, save_area, 24);
ABI(struct hvm_one_msr, 16, val, 8);
ABI_SIZES(struct hvm_hw_lapic_regs, 1024, struct hvm_hw_pci_irqs, 16, struct hvm_hw_isa_irqs, 8,
	struct hvm_hw_pci_link, 8, struct hvm_vmce_vcpu, 32, struct hvm_tsc_adjust, 8);

#endif
