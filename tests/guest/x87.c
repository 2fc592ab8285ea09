/* SPDX-License-Identifier: MIT */
/* vcpus=2 One vCPU loads x87 state while another exits, both without a pause; neither is lost. */
#include "guest.h"

const char guest_name[] = "x87";

/* What FXSAVE writes. */
struct fxsave {
	u16 fcw, fsw;
	u8 ftw, opcode[19];
	u32 mxcsr, mxcsr_mask;
	u64 st[8][2];
	u8 rest[352];
} __attribute__((aligned(16)));

static volatile u64 end;

static void load_x87(void *arg)
{
	static struct fxsave image, back;

	(void)arg;
	__asm__ volatile("mov %%cr0, %%rax; and $~0xc, %%rax; or $2, %%rax; mov %%rax, %%cr0"
			 ::: "rax", "memory");
	__asm__ volatile("mov %%cr4, %%rax; or $0x200, %%rax; mov %%rax, %%cr4"
			 ::: "rax", "memory");
	image.fcw = 0x37f;
	image.ftw = 0xff;
	image.mxcsr = 0x1f80;
	for (u32 i = 0; i < ARRAY_SIZE(image.st); i++) {
		image.st[i][0] = 1ul << 63 | i;
		image.st[i][1] = 0x3fff;
	}
	while (rdtsc() < end) {
		for (u32 i = 0; i < 1000; i++)
			__asm__ volatile("fxrstor %0" :: "m"(image));
		__asm__ volatile("fxsave %0" : "=m"(back));
		CHECK_EQ(memcmp(back.st, image.st, sizeof(image.st)), 0);
	}
}

static void exit_often(void)
{
	u32 first[4], r[4];

	cpuid(0, 0, first);
	while (rdtsc() < end) {
		cpuid(0, 0, r);
		CHECK_EQ(memcmp(r, first, sizeof(r)), 0);
	}
}

void guest_main(void)
{
	end = rdtsc() + arg_number("ms", 200) * tsc_khz();
	if (smp_count() > 1) {
		apic_init();
		CHECK(smp_start_all());
		smp_run(1, load_x87, NULL);
		exit_often();
		CHECK(smp_wait(1, 2000));
	} else if (arg_is("only", "load")) {
		load_x87(NULL);
	} else {
		exit_often();
	}
}
