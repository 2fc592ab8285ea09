/* SPDX-License-Identifier: MIT */
/*
 * The other vCPUs of a tiny guest: brought up by INIT and SIPI, then waiting for work.
 */
#include "guest.h"

extern char ap_code[], ap_code_end[];
extern u32 ap_stack, ap_cpu;

static u8 ap_stacks[MAX_CPUS][STACK_SIZE] __attribute__((aligned(4096)));

unsigned int smp_count(void)
{
	unsigned int n = 1;

	if (!on_xen)
		return (unsigned int)arg_number("cpus", 1);
	while (n < MAX_CPUS && vcpu_op(VCPUOP_is_up, n, NULL) >= 0)
		n++;
	return n;
}

/* Where another vCPU starts and stays; interrupts are off unless the work enables them. */
void ap_main(unsigned int cpu)
{
	struct cpu *c = &cpus[cpu];

	apic_init();
	WRITE_ONCE(c->online, true);
	for (;;) {
		while (!c->work)
			pause();
		c->work(c->work_arg);
		irq_off();
		c->work = NULL;
	}
}

bool smp_start(unsigned int cpu)
{
	u32 dest = apic_id_of(cpu);

	if (cpus[cpu].online)
		return true;
	apic_init();
	memcpy(gfn_ptr(AP_START / PAGE_SIZE), ap_code, (size_t)(ap_code_end - ap_code));
	ap_stack = (u32)PTR(ap_stacks[cpu] + STACK_SIZE);
	ap_cpu = cpu;
	apic_icr(dest, 0xc500);
	apic_icr(dest, 0x8500);
	delay_us(100);
	for (int i = 0; i < 2 && !cpus[cpu].online; i++) {
		apic_icr(dest, 0x600 | AP_START / PAGE_SIZE);
		for (int ms = 0; ms < 200 && !READ_ONCE(cpus[cpu].online); ms++)
			delay_us(1000);
	}
	return cpus[cpu].online;
}

bool smp_start_all(void)
{
	unsigned int n = smp_count();

	for (unsigned int i = 1; i < n; i++)
		if (!smp_start(i))
			return false;
	return true;
}

void smp_run(unsigned int cpu, void (*fn)(void *), void *arg)
{
	cpus[cpu].work_arg = arg;
	barrier();
	cpus[cpu].work = fn;
}

bool smp_wait(unsigned int cpu, unsigned int ms)
{
	for (u64 i = 0; i < 10ul * ms && cpus[cpu].work; i++)
		delay_us(100);
	return !cpus[cpu].work;
}
