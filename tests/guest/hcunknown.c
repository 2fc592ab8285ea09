/* SPDX-License-Identifier: MIT */
/* Hypercalls nobody defined, or for PV guests only, answer -ENOSYS; so do sub-operations. */
#include "guest.h"

const char guest_name[] = "hcunknown";

static const u8 absent[] = {
	0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 19, 22, 23, 25, 27, 28, 30, 31, 37, 38, 39,
	43, 44, 45, 46, 47, 48, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 100,
};

/* hypercall, first sub-operation nobody has */
static const struct {
	unsigned int nr;
	u64 cmd;
} sub_ops[] = {
	{ __HYPERVISOR_memory_op, 63 }, { __HYPERVISOR_memory_op, 10 },
	{ __HYPERVISOR_memory_op, 12 },
	{ __HYPERVISOR_xen_version, 11 }, { __HYPERVISOR_xen_version, 99 },
	{ __HYPERVISOR_vcpu_op, 14 }, { __HYPERVISOR_vcpu_op, 1000 },
	{ __HYPERVISOR_sched_op, 8 }, { __HYPERVISOR_sched_op, 99 },
	{ __HYPERVISOR_event_channel_op, 15 }, { __HYPERVISOR_event_channel_op, 77 },
	{ __HYPERVISOR_hvm_op, 2 }, { __HYPERVISOR_hvm_op, 3 }, { __HYPERVISOR_hvm_op, 4 },
	{ __HYPERVISOR_hvm_op, 6 }, { __HYPERVISOR_hvm_op, 7 }, { __HYPERVISOR_hvm_op, 8 },
	{ __HYPERVISOR_hvm_op, 99 },
};

void guest_main(void)
{
	static u64 zeros[64];

	if (!on_xen)
		skip("no hypervisor");
	for (size_t i = 0; i < sizeof(absent); i++) {
		long rc = hypercall(absent[i], 0, 0, 0, 0, 0);

		if (rc != -XEN_ENOSYS)
			fail("hypercall", absent[i], "returns %ld", rc);
	}
	CHECK_EQ(hypercall(0xffffffff, 0, 0, 0, 0, 0), -XEN_ENOSYS);
	for (size_t i = 0; i < ARRAY_SIZE(sub_ops); i++) {
		u64 arg3 = sub_ops[i].nr == __HYPERVISOR_vcpu_op ? PTR(zeros) : 0;
		u64 arg2 = arg3 ? 0 : PTR(zeros);
		long rc = hypercall(sub_ops[i].nr, sub_ops[i].cmd, arg2, arg3, 0, 0);

		if (rc != -XEN_ENOSYS)
			fail("hypercall", (int)sub_ops[i].nr, "sub-operation %lu returns %ld",
			     (unsigned long)sub_ops[i].cmd, rc);
	}
	/* grant operations an HVM container has not: 3, 4, 7, 9, 12 */
	for (unsigned int cmd = 0; cmd < 16; cmd++)
		if (cmd == 3 || cmd == 4 || cmd == 7 || cmd == 9 || cmd > 11)
			CHECK_EQ(grant_op(cmd, zeros, 1), -XEN_ENOSYS);
	CHECK_EQ(hypercall(__HYPERVISOR_vm_assist, 2, 5, 0, 0, 0), -XEN_ENOSYS);
	CHECK_EQ(hypercall(__HYPERVISOR_vm_assist, 0, 4, 0, 0, 0), -XEN_EINVAL);
	CHECK_EQ(hypercall(__HYPERVISOR_vm_assist, 0, 5, 0, 0, 0), 0);
	CHECK_EQ(hypercall(__HYPERVISOR_vcpu_op, 77, 0, 0, 0, 0), -XEN_ENOSYS);
	CHECK_EQ(hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, 4000, 0, 0, 0), -XEN_ENOENT);
}
