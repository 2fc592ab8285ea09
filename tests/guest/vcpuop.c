/* SPDX-License-Identifier: MIT */
/* vcpus=4 vcpu_op: initialise, up, down, is_up, a vcpu_info of one's own, NMI, refusals. */
#include "guest.h"

const char guest_name[] = "vcpuop";

static u8 own_info[2][PAGE_SIZE] __attribute__((aligned(4096)));
static u8 stack[4096] __attribute__((aligned(16)));
volatile u32 reached;

/* Where a vCPU starts by VCPUOP_initialise: 32-bit, flat, no paging. */
__asm__(".code32\n"
	"vcpu_entry32:\n"
	"	lock incl reached\n"
	"1:	cli\n"
	"	hlt\n"
	"	jmp 1b\n"
	".code64\n");
extern char vcpu_entry32[];

static struct vcpu_hvm_context context32(void)
{
	struct vcpu_hvm_context c = { .mode = VCPU_HVM_MODE_32B };

	c.cpu_regs.x86_32 = (struct vcpu_hvm_x86_32){
		.eip = (u32)PTR(vcpu_entry32), .esp = (u32)PTR(stack + sizeof(stack)),
		.cr0 = 0x11, .cs_ar = 0xc9b, .ds_ar = 0xc93, .ss_ar = 0xc93, .es_ar = 0xc93,
		.tr_ar = 0x8b, .cs_limit = ~0u, .ds_limit = ~0u, .ss_limit = ~0u, .es_limit = ~0u,
		.tr_limit = 0x67,
	};
	return c;
}

static void start_by_hypercall(void)
{
	struct vcpu_hvm_context c = context32(), bad = c;

	CHECK_EQ(vcpu_op(VCPUOP_up, 1, NULL), -XEN_EINVAL);
	CHECK_EQ(vcpu_op(VCPUOP_initialise, 1, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(vcpu_op(VCPUOP_initialise, 4000, &c), -XEN_ENOENT);
	bad.mode = 7;
	CHECK(vcpu_op(VCPUOP_initialise, 1, &bad) < 0);
	bad = c;
	bad.cpu_regs.x86_32.cs_ar = 0;
	CHECK_EQ(vcpu_op(VCPUOP_initialise, 1, &bad), -XEN_EINVAL);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
	CHECK_EQ(vcpu_op(VCPUOP_initialise, 1, &c), 0);
	CHECK_EQ(vcpu_op(VCPUOP_initialise, 1, &c), -XEN_EEXIST);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
	delay_us(2000);
	CHECK_EQ(reached, 0);
	CHECK_EQ(vcpu_op(VCPUOP_up, 1, NULL), 0);
	CHECK(wait_for(&reached, 1, 2000));
	/* It halts with interrupts off: down by itself. */
	for (int ms = 0; ms < 2000 && vcpu_op(VCPUOP_is_up, 1, NULL); ms++)
		delay_us(1000);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 1, NULL), 0);
}

static void spin(void *arg)
{
	volatile u64 *count = arg;

	for (;;)
		++*count;
}

static void down_and_up(void)
{
	static volatile u64 count;
	u64 before;

	CHECK(smp_start(2));
	smp_run(2, spin, (void *)(uintptr_t)&count);
	while (!count)
		pause();
	CHECK_EQ(vcpu_op(VCPUOP_down, 2, NULL), 0);
	delay_us(10000);
	before = count;
	delay_us(10000);
	CHECK_EQ(count, before);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 2, NULL), 0);
	CHECK_EQ(vcpu_op(VCPUOP_up, 2, NULL), 0);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 2, NULL), 1);
	while (count == before)
		pause();
	CHECK_EQ(vcpu_op(VCPUOP_down, 2, NULL), 0);
	CHECK_EQ(vcpu_op(VCPUOP_down, 4000, NULL), -XEN_ENOENT);
}

/* The vcpu_info moves: what was pending is seen there, and the time is filled in. */
static void move_info(void)
{
	struct vcpu_register_vcpu_info r = { .mfn = gfn_of(own_info[0]), .offset = 64 };
	struct vcpu_info *info = (struct vcpu_info *)(void *)(own_info[0] + 64);
	int port = bind_ipi(0);

	r.offset = 4040;
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), -XEN_ENXIO);
	r.offset = 60;
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), -XEN_ENXIO);
	r.offset = 64;
	r.mfn = hole_gfn(1);
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), -XEN_EINVAL);
	r.mfn = gfn_of(own_info[0]);
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 4000, &r), -XEN_ENOENT);
	CHECK_EQ(evtchn_send((u32)port), 0);
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), 0);
	CHECK_EQ(info->evtchn_upcall_pending, 1);
	CHECK_EQ(info->evtchn_pending_sel, ~0ul);
	CHECK(info->time.version && !(info->time.version & 1));
	CHECK(info->time.tsc_to_system_mul);
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 0, &r), -XEN_EINVAL);
	/* New events go there. */
	port_clear((u32)port);
	info->evtchn_upcall_pending = 0;
	info->evtchn_pending_sel = 0;
	CHECK_EQ(evtchn_send((u32)port), 0);
	CHECK_EQ(info->evtchn_upcall_pending, 1);
	CHECK_EQ(info->evtchn_pending_sel, 1ul << (port / 64));
	/* For a vCPU that is down, by another. */
	r.mfn = gfn_of(own_info[1]);
	CHECK_EQ(vcpu_op(VCPUOP_register_vcpu_info, 3, &r), 0);
	info = (struct vcpu_info *)(void *)(own_info[1] + 64);
	CHECK(info->time.tsc_to_system_mul);
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	if (smp_count() < 4)
		skip("needs 4 vCPUs");
	shared_info_map();
	apic_init();
	start_by_hypercall();
	down_and_up();
	move_info();
	CHECK_EQ(vcpu_op(VCPUOP_send_nmi, 0, (void *)1), -XEN_EINVAL);
	CHECK_EQ(vcpu_op(VCPUOP_is_up, 0, NULL), 1);
}
