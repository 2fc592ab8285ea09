/* SPDX-License-Identifier: MIT */
/* The timer of the local APIC: one-shot, periodic, TSC deadline, divisors, masked. */
#include "guest.h"

const char guest_name[] = "lapictimer";

#define VECTOR 0x62
#define PERIODIC 0x20000
#define DEADLINE 0x40000
#define MASKED 0x10000
#define MSR_DEADLINE 0x6e0

static volatile u32 *ticks;

static void one_shot(void)
{
	u32 before = *ticks, count;

	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVT_TIMER, VECTOR);
	apic_write(APIC_TMICT, 4000000000);
	count = apic_read(APIC_TMCCT);
	CHECK(count > 0 && count <= 4000000000);
	CHECK(apic_read(APIC_TMCCT) <= count);
	apic_write(APIC_TMICT, 2000000);
	CHECK(wait_for(ticks, before + 1, 5000));
	CHECK_EQ(apic_read(APIC_TMCCT), 0);
	delay_us(5000);
	irq_window();
	CHECK_EQ(*ticks, before + 1);
	/* Stopped, then masked: nothing comes, but the masked one counts down. */
	apic_write(APIC_TMICT, 4000000000);
	apic_write(APIC_TMICT, 0);
	CHECK_EQ(apic_read(APIC_TMCCT), 0);
	apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
	apic_write(APIC_TMICT, 100000);
	while (apic_read(APIC_TMCCT))
		pause();
	irq_window();
	CHECK_EQ(*ticks, before + 1);
}

/* Ticks of the timer in @us microseconds with divisor setting @tdcr, measured undisturbed. */
static u64 rate(u32 tdcr, u64 us)
{
	u64 ticks_seen = 0, start, spent, limit = us * tsc_khz() / 1000 * 5 / 4;

	for (int i = 0; i < 1000; i++) {
		u32 from;

		apic_write(APIC_LVT_TIMER, MASKED | VECTOR);
		apic_write(APIC_TDCR, tdcr);
		start = rdtsc();
		apic_write(APIC_TMICT, 0xffffffff);
		from = apic_read(APIC_TMCCT);
		delay_us(us);
		ticks_seen = from - apic_read(APIC_TMCCT);
		spent = rdtsc() - start;
		if (spent < limit)
			break;
	}
	return ticks_seen;
}

static void divisors(void)
{
	u64 one = rate(0xb, 1000), sixteen = rate(0x3, 1000);

	CHECK(one > 1000);
	CHECK(sixteen > one / 32 && sixteen < one / 8);
}

static void periodic(void)
{
	u32 before = *ticks;
	u64 start, end;

	apic_write(APIC_TDCR, 0xb);
	apic_write(APIC_LVT_TIMER, PERIODIC | VECTOR);
	apic_write(APIC_TMICT, 2000000);
	CHECK(wait_for(ticks, before + 1, 5000));
	start = rdtsc();
	CHECK(wait_for(ticks, before + 6, 10000));
	end = rdtsc();
	CHECK(end - start > 0);
	while (*ticks < before + 10)		/* from HLT as well */
		halt_on();
	apic_write(APIC_TMICT, 0);
	irq_window();
	before = *ticks;
	delay_us(6000);
	irq_window();
	CHECK_EQ(*ticks, before);
}

static void deadline(void)
{
	u32 before = *ticks;
	u64 when;

	wrmsr(MSR_DEADLINE, rdtsc() + 1000);		/* not this mode: ignored */
	CHECK_EQ(rdmsr(MSR_DEADLINE), 0);
	apic_write(APIC_LVT_TIMER, DEADLINE | VECTOR);
	when = rdtsc() + 3 * tsc_khz();
	wrmsr(MSR_DEADLINE, when);
	if (rdtsc() < when)
		CHECK_EQ(rdmsr(MSR_DEADLINE), when);
	CHECK(wait_for(ticks, before + 1, 5000));
	CHECK(rdtsc() >= when);
	CHECK_EQ(rdmsr(MSR_DEADLINE), 0);
	wrmsr(MSR_DEADLINE, 1);				/* past: at once */
	CHECK(wait_for(ticks, before + 2, 5000));
	do {						/* off, before it was due */
		when = rdtsc() + 50 * tsc_khz();
		wrmsr(MSR_DEADLINE, when);
		wrmsr(MSR_DEADLINE, 0);
	} while (rdtsc() >= when);
	irq_window();
	before = *ticks;
	delay_us(100000);
	irq_window();
	CHECK_EQ(*ticks, before);
	wrmsr(MSR_DEADLINE, rdtsc() + 1000 * 1000 * tsc_khz());
	apic_write(APIC_LVT_TIMER, VECTOR);		/* another mode: off */
	CHECK_EQ(rdmsr(MSR_DEADLINE), 0);
}

void guest_main(void)
{
	u32 r[4];

	ticks = &this_cpu()->irqs[VECTOR];
	apic_init();
	one_shot();
	divisors();
	periodic();
	cpuid(1, 0, r);
	if (r[2] >> 24 & 1)
		deadline();
	else
		print("NOTE lapictimer: no TSC deadline\n");
}
