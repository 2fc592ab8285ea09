/* SPDX-License-Identifier: MIT */
/* Multicalls, the hypercall page, calls from user mode, registers that stay as they are. */
#include "guest.h"

const char guest_name[] = "multicall";

static u8 page[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 user_stack[PAGE_SIZE] __attribute__((aligned(4096)));

static long multicall(struct multicall_entry *list, u64 count)
{
	return hcall2(__HYPERVISOR_multicall, PTR(list), count);
}

static void lists(void)
{
	static struct multicall_entry many[300];
	struct multicall_entry m[5] = {
		{ .op = __HYPERVISOR_xen_version, .args = { XENVER_version } },
		{ .op = 63 },
		{ .op = __HYPERVISOR_vcpu_op, .args = { VCPUOP_is_up, 0 } },
		{ .op = __HYPERVISOR_multicall, .args = { 0, 0 } },
		{ .op = __HYPERVISOR_xen_version, .args = { XENVER_pagesize } },
	};

	CHECK_EQ(multicall(m, 5), 0);
	CHECK_EQ(m[0].result, 4 << 16 | 17);
	CHECK_EQ(m[1].result, -XEN_ENOSYS);
	CHECK_EQ(m[2].result, 1);
	CHECK_EQ(m[3].result, -XEN_EINVAL);
	CHECK_EQ(m[4].result, PAGE_SIZE);
	CHECK_EQ(multicall(m, 0), 0);
	CHECK_EQ(multicall(BAD_PTR, 1), -XEN_EFAULT);
	for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = m[0];
	for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
		many[i].result = 0;
	CHECK_EQ(multicall(many, ARRAY_SIZE(many)), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(many); i++)
		CHECK_EQ(many[i].result, 4 << 16 | 17);
}

/* The bytes of a stub: mov $nr, %eax; vmcall or vmmcall; ret. */
static void page_of_stubs(void)
{
	long rc;

	CHECK_EQ(wrmsr_safe(0x40000000, PTR(page) + 1), TRAP_GP);
	CHECK_EQ(wrmsr_safe(0x40000000, hole_gfn(1) << 12), TRAP_GP);
	CHECK_EQ(wrmsr_safe(0x40000000, PTR(page)), NO_TRAP);
	for (unsigned int nr = 0; nr < 56; nr++) {
		const u8 *stub = page + 32 * nr;

		if (nr == __HYPERVISOR_iret) {
			CHECK(stub[0] == 0x0f && stub[1] == 0x0b);
			continue;
		}
		CHECK_EQ(stub[0], 0xb8);
		CHECK_EQ(stub[1], nr);
		CHECK(stub[5] == 0x0f && stub[6] == 0x01);
		CHECK_EQ(stub[7], (u8)hypercall_insn[2]);
		CHECK_EQ(stub[8], 0xc3);
	}
	__asm__ volatile("call *%1"
			 : "=a"(rc)
			 : "r"(page + 32 * __HYPERVISOR_xen_version), "D"(XENVER_version), "S"(0)
			 : "memory", "cc");
	CHECK_EQ(rc, 4 << 16 | 17);
}

/* All registers but rax keep their values. */
static void registers(void)
{
	u64 regs[4] = { __HYPERVISOR_xen_version, 0x1111, 0x2222, 0x3333 };
	/* push %rdi; xor %edi, %edi; vmcall; pop %rdi */
	u8 code[] = { 0x57, 0x31, 0xff, 0x0f, 0x01, (u8)hypercall_insn[2], 0x5f };

	CHECK_EQ(probe_code(code, sizeof(code), regs), NO_TRAP);
	CHECK_EQ(regs[0], 4 << 16 | 17);
	CHECK_EQ(regs[1], 0x1111);
	CHECK_EQ(regs[2], 0x2222);
	CHECK_EQ(regs[3], 0x3333);
}

static void from_user(void *arg)
{
	*(volatile long *)arg = hcall2(__HYPERVISOR_xen_version, XENVER_version, 0);
}

void guest_main(void)
{
	static volatile long rc;

	if (!on_xen)
		skip("no hypervisor");
	lists();
	page_of_stubs();
	registers();
	CHECK_EQ(user_call(from_user, (void *)(uintptr_t)&rc, user_stack + sizeof(user_stack)),
		 NO_TRAP);
	CHECK_EQ(rc, -XEN_EPERM);
}
