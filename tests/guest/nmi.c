/* SPDX-License-Identifier: MIT */
/* NMIs: by hypercall and by IPI, in spite of cli, not inside each other, out of HLT. */
#include "guest.h"

const char guest_name[] = "nmi";

static volatile u32 taken, depth, deepest;

static void note(struct regs *r)
{
	(void)r;
	depth++;
	deepest = depth > deepest ? depth : deepest;
	taken++;
	/* A second one, while this one is served, waits for the IRET. */
	if (taken == 3)
		CHECK_EQ(vcpu_op(VCPUOP_send_nmi, this_cpu()->id, NULL), 0);
	delay_us(100);
	depth--;
}

static void sleeper(void *arg)
{
	(void)arg;
	halt_on();
}

void guest_main(void)
{
	if (!on_xen)
		skip("no hypervisor");
	apic_init();
	trap_handlers[TRAP_NMI] = note;
	CHECK_EQ(vcpu_op(VCPUOP_send_nmi, 0, NULL), 0);
	CHECK(wait_for(&taken, 1, 2000));
	apic_icr(apic_id_of(0), 0x400);
	CHECK(wait_for(&taken, 2, 2000));
	irq_off();
	CHECK_EQ(vcpu_op(VCPUOP_send_nmi, 0, NULL), 0);
	CHECK(wait_for(&taken, 4, 2000));
	CHECK_EQ(deepest, 1);
	CHECK_EQ(vcpu_op(VCPUOP_send_nmi, 4000, NULL), -XEN_ENOENT);
	if (smp_count() > 1 && smp_start(1)) {
		smp_run(1, sleeper, NULL);
		/* One that comes before it sleeps does not wake it. */
		for (int i = 0; i < 50 && cpus[1].work; i++) {
			CHECK_EQ(vcpu_op(VCPUOP_send_nmi, 1, NULL), 0);
			smp_wait(1, 100);
		}
		CHECK(!cpus[1].work);
		CHECK(taken >= 5);
	}
}
