/* SPDX-License-Identifier: MIT */
/* HVM parameters: which a guest may read, which it may set, what the others answer. */
#include "guest.h"

const char guest_name[] = "hvmparam";

static long get_of(domid_t dom, u32 index)
{
	struct xen_hvm_param p = { .domid = dom, .index = index };

	return hvm_op(HVMOP_get_param, &p);
}

void guest_main(void)
{
	static const u8 hidden[] = { HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN,
		HVM_PARAM_TIMER_MODE, HVM_PARAM_IDENT_PT, HVM_PARAM_TRIPLE_FAULT_REASON };
	static const u8 gone[] = { 4, 13, 20, 25, 26, 30 };
	struct xen_hvm_get_mem_type type = { .domid = DOMID_SELF, .pfn = 0x100 };
	u64 value;

	if (!on_xen)
		skip("no hypervisor");
	CHECK_EQ(hvm_param_get(HVM_PARAM_CALLBACK_IRQ, &value), 0);
	CHECK_EQ(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 1), 0);
	CHECK_EQ(hvm_param_get(HVM_PARAM_CALLBACK_IRQ, &value), 0);
	CHECK_EQ(value, 1);
	CHECK_EQ(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 77ul << 56), 0);
	CHECK_EQ(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 0), 0);
	CHECK_EQ(hvm_param_get(HVM_PARAM_STORE_PFN, &value), 0);
	CHECK_EQ(hvm_param_get(HVM_PARAM_CONSOLE_PFN, &value), 0);
	CHECK_EQ(hvm_param_get(HVM_PARAM_CONSOLE_EVTCHN, &value), 0);
	CHECK_EQ(hvm_param_set(HVM_PARAM_CONSOLE_EVTCHN, value), 0);
	CHECK_EQ(hvm_param_set(HVM_PARAM_STORE_PFN, 0x1234), -XEN_EPERM);
	CHECK_EQ(hvm_param_set(HVM_PARAM_CONSOLE_PFN, 0x1234), -XEN_EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		CHECK_EQ(hvm_param_get(hidden[i], &value), -XEN_EPERM);
		CHECK_EQ(hvm_param_set(hidden[i], 0), -XEN_EPERM);
	}
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		CHECK_EQ(hvm_param_get(gone[i], &value), -XEN_EINVAL);
	CHECK_EQ(hvm_param_get(39, &value), -XEN_EINVAL);
	CHECK_EQ(hvm_param_get(~0u, &value), -XEN_EINVAL);
	CHECK_EQ(hvm_param_set(1000, 0), -XEN_EINVAL);
	CHECK_EQ(get_of(1234, HVM_PARAM_STORE_PFN), -XEN_ESRCH);
	CHECK_EQ(hvm_op(HVMOP_get_param, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(hvm_op(HVMOP_get_mem_type, &type), 0);
	CHECK_EQ(type.mem_type, HVMMEM_ram_rw);
	type.pfn = hole_gfn(1);
	CHECK_EQ(hvm_op(HVMOP_get_mem_type, &type), 0);
	CHECK_EQ(type.mem_type, HVMMEM_mmio_dm);
	CHECK_EQ(hvm_op(HVMOP_flush_tlbs, &type), -XEN_EINVAL);
	CHECK_EQ(hvm_op(HVMOP_flush_tlbs, NULL), 0);
}
