/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what a guest can do to MSRs and the local APIC of two vCPUs.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/vioapic.h"
#include "port/testport.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct domain dom;
static struct vcpu vcpus[2], *table[2] = { &vcpus[0], &vcpus[1] };
static struct cpu_policy policy;
static struct test_vcpu cpu_states[2];
static struct vcpu_info info;

void vcpu_notify(struct vcpu *v) { (void)v; }
void vcpu_init_signal(struct vcpu *v) { vlapic_reset(v); }
void vcpu_sipi(struct vcpu *v, uint8_t vector) { (void)v; (void)vector; }
void vioapic_eoi(struct domain *d, uint8_t vector) { (void)d; (void)vector; abort(); }
void pvclock_update(struct vcpu *v) { (void)v; }
int hypercall_page_write(struct domain *d, gpa_t gpa) { (void)d; return gpa & 1 ? -1 : 0; }

static void must(bool truth)
{
	if (!truth)
		abort();
}

/* What is pending is requested, above what is served, and the modes are legal. */
static void check(struct vcpu *v)
{
	uint64_t mode = v->lapic.base_msr & (APIC_BASE_ENABLE | APIC_BASE_EXTD);
	int vector = vlapic_pending(v);
	uint64_t val;

	must(mode != APIC_BASE_EXTD && (v->lapic.base_msr & ~0xfffULL) == APIC_DEFAULT_BASE);
	must((v->lapic.irr[0] & 0xffff) == 0 && (v->lapic.isr[0] & 0xffff) == 0);
	must(v->lapic.deadline == 0 || timer_is_set(&v->lapic.timer));
	must(msr_read(v, 0x10, &val) && val == port_tsc() + v->tsc_offset);
	if (vector < 0)
		return;
	must(vector >= 16 && (v->lapic.irr[vector / 64] >> (vector % 64) & 1));
	for (int i = vector | 15; i < 256; i++)
		must(!(v->lapic.isr[i / 64] >> (i % 64) & 1));
	vlapic_accept(v, (uint8_t)vector);
}

static void step(struct vcpu *v, uint8_t op, uint32_t nr, uint64_t val)
{
	bool apic = nr == 0x1b || nr == 0x6e0 || nr >> 8 == 8;
	bool (*rd)(struct vcpu *, uint32_t, uint64_t *) = apic ? vlapic_msr_read : msr_read;
	uint32_t reg;

	switch (op & 3) {
	case 0:
		(void)rd(v, nr, &val);
		break;
	case 1:
		if (apic ? vlapic_msr_write(v, nr, val) : msr_write(v, nr, val))
			(void)rd(v, nr, &val);
		break;
	case 2:
		(void)vlapic_write(v, nr & 0xfff, (uint32_t)val);
		(void)vlapic_read(v, nr & 0xfff, &reg);
		break;
	default:
		test_advance_ns(val & 0xffffff);
		test_run_timers(0);
		break;
	}
}

/* Records of 13 bytes: operation and vCPU, number, value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	test_machine_init(0, 1);
	policy_init_host();
	policy = guest_policy;
	dom = (struct domain){ .vcpus = table, .nr_vcpus = 2, .policy = &policy };
	for (unsigned int i = 0; i < 2; i++) {
		vcpus[i] = (struct vcpu){ .id = i, .domain = &dom, .cpu_state = &cpu_states[i],
					  .info = &info, .upcall_vector = 0xf3 };
		vlapic_init(&vcpus[i]);
		msr_vcpu_init(&vcpus[i]);
	}
	for (; size >= 13; data += 13, size -= 13) {
		uint32_t nr;
		uint64_t val;

		memcpy(&nr, data + 1, sizeof(nr));
		memcpy(&val, data + 5, sizeof(val));
		step(&vcpus[data[0] >> 7], data[0], nr, val);
		check(&vcpus[0]);
		check(&vcpus[1]);
	}
	timer_kill(&vcpus[0].lapic.timer);
	timer_kill(&vcpus[1].lapic.timer);
	test_machine_fini();
	return 0;
}
