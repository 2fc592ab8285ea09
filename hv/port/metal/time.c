/* SPDX-License-Identifier: MIT */
/*
 * Time: the TSC, its frequency measured once against a clock of known
 * frequency, and one deadline per CPU on the local APIC's timer.
 *
 * Owns: the scales below, constant after boot.
 */
#include "hospes/lib.h"
#include "hospes/log.h"
#include "hospes/timer.h"
#include "port/metal/metal.h"

#define CALIBRATE_US 10000u
#define SAMPLES 32u
#define NO_DEADLINE UINT64_MAX

#define PIT_HZ 1193182u
#define FEMTO 1000000000000000ULL

/* ns = (tsc - base) * mul >> (32 - shift), as in pvclock. */
static struct {
	uint64_t base;
	uint32_t mul;
	int8_t shift;			/* -4..26 for 62 kHz to 16 GHz */
} tsc;

uint64_t port_tsc_khz, port_wallclock_base_ns;

static uint64_t timer_scale;		/* ticks of the APIC's timer per ns, 32 fraction bits */

/* --- A clock of known frequency --- */

struct reference {
	const char *name;
	uint32_t (*read)(void);
	uint64_t hz;
	uint32_t mask;
};

static volatile uint32_t *hpet;

static uint32_t hpet_read(void)
{
	return hpet[0xf0 / 4];
}

static uint32_t pit_read(void)
{
	uint32_t count;

	outb(0x43, 0);			/* latch counter 0, which counts down */
	count = inb(0x40);
	return 0u - (count | (uint32_t)inb(0x40) << 8);
}

static struct reference find_reference(void)
{
	if (acpi.hpet)
		hpet = map_device(acpi.hpet, 0x400);
	if (hpet && hpet[1] && hpet[1] <= 100000000) {	/* its period in fs */
		hpet[0x10 / 4] |= 1;
		return (struct reference){ "HPET", hpet_read, FEMTO / hpet[1], ~0u };
	}
	outb(0x43, 0x34);		/* counter 0, from 65536 down, again and again */
	outb(0x40, 0);
	outb(0x40, 0);
	return (struct reference){ "PIT", pit_read, PIT_HZ, 0xffff };
}

struct sample { uint64_t tsc; uint32_t ref; };

/* The pair that was read in the shortest time: nothing came between its halves. */
static struct sample take_sample(const struct reference *ref)
{
	uint64_t best = UINT64_MAX;
	struct sample s = { 0 };

	for (unsigned int i = 0; i < SAMPLES; i++) {
		uint64_t before = port_tsc();
		uint32_t now = ref->read();
		uint64_t took = port_tsc() - before;

		if (took < best) {
			best = took;
			s = (struct sample){ before + took / 2, now };
		}
	}
	return s;
}

static void set_scale(uint64_t khz)
{
	uint64_t n = 1000000ULL << 32;

	port_tsc_khz = khz;
	for (; n / khz >> 32; n >>= 1)
		tsc.shift++;
	for (; !(n / khz >> 31); n <<= 1)
		tsc.shift--;
	tsc.mul = (uint32_t)(n / khz);
}

static void calibrate(const struct reference *ref)
{
	uint32_t wanted = (uint32_t)(ref->hz * CALIBRATE_US / 1000000), ticks, count;
	struct sample first, last;

	first = take_sample(ref);
	lapic_write(LAPIC_TIMER_INIT, UINT32_MAX);
	while (((ref->read() - first.ref) & ref->mask) < wanted)
		port_relax();
	count = UINT32_MAX - lapic_read(LAPIC_TIMER_COUNT);
	last = take_sample(ref);
	lapic_write(LAPIC_TIMER_INIT, 0);
	ticks = (last.ref - first.ref) & ref->mask;
	set_scale((last.tsc - first.tsc) * ref->hz / (ticks * 1000ULL));
	/* The APIC's timer ran for the loop alone, which is close enough: early means again. */
	timer_scale = ((uint64_t)count << 32) / (CALIBRATE_US * 1000);
}

/* --- Wall clock --- */

static uint8_t cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static uint64_t days_since_1970(uint64_t y, uint64_t m, uint64_t d)
{
	/* Years from March on, so that the leap day comes last. */
	y -= m <= 2;
	m = (m + 9) % 12;
	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + d - 719469;
}

static uint64_t rtc_seconds(void)
{
	static const uint8_t regs[] = { 0, 2, 4, 7, 8, 9 };
	uint8_t mode = cmos(0x0b);
	uint64_t v[ARRAY_SIZE(regs)], noon;

	/* An update takes 2 ms, and none begins within 244 us after this. */
	for (unsigned int tries = 0; cmos(0x0a) & 0x80 && tries < 1000; tries++)
		delay_us(10);
	for (unsigned int i = 0; i < ARRAY_SIZE(regs); i++)
		v[i] = cmos(regs[i]);
	noon = mode & 2 ? 0 : v[2] & 0x80;
	v[2] -= noon;
	for (unsigned int i = 0; !(mode & 4) && i < ARRAY_SIZE(regs); i++)
		v[i] = (v[i] >> 4) * 10 + (v[i] & 15);
	if (!(mode & 2))
		v[2] = v[2] % 12 + (noon ? 12 : 0);
	return days_since_1970(2000 + v[5], v[4], v[3]) * 86400 + v[2] * 3600 + v[1] * 60 + v[0];
}

/* --- Boot and interrupt --- */

void time_init(uint64_t start)
{
	struct reference ref = find_reference();

	calibrate(&ref);
	tsc.base = start;
	port_wallclock_base_ns = rtc_seconds() * 1000000000ULL - port_time_ns();
	log_info("TSC at %lu kHz by the %s", port_tsc_khz, ref.name);
}

/* The timer's own scale is rough: it may fire a little early. */
void time_interrupt(void)
{
	struct cpu *c = this_cpu();

	if (c->deadline > port_time_ns()) {
		port_timer_arm(c->deadline);
		return;
	}
	c->deadline = NO_DEADLINE;
	timer_interrupt();
}

void delay_us(uint64_t us)
{
	uint64_t end = port_tsc() + us * port_tsc_khz / 1000;

	while (port_tsc() < end)
		port_relax();
}

/* --- port.h --- */

uint64_t port_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

uint64_t port_tsc_to_ns(uint64_t t)
{
	uint64_t ns = t > tsc.base ? t - tsc.base : 0, high;

	/* The product has 64 + 32 bits; what is shifted out of it leaves 64. */
	__asm__("mulq %2; shrdq %b3, %1, %0"
		: "+a"(ns), "=&d"(high) : "r"((uint64_t)tsc.mul), "c"(32 - tsc.shift));
	return ns;
}

uint64_t port_time_ns(void)
{
	return port_tsc_to_ns(port_tsc());
}

void port_pvclock_scale(uint64_t *tsc_base, uint32_t *mul, int8_t *shift)
{
	*tsc_base = tsc.base;
	*mul = tsc.mul;
	*shift = tsc.shift;
}

void port_timer_arm(uint64_t ns)
{
	uint64_t now = port_time_ns(), left = ns > now ? ns - now : 0;
	uint64_t ticks = (uint64_t)((unsigned __int128)left * timer_scale >> 32);

	this_cpu()->deadline = ns;
	lapic_write(LAPIC_TIMER_INIT,
		    ns == NO_DEADLINE ? 0 : (uint32_t)MIN(ticks + 1, UINT32_MAX));
}
