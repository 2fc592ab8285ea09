/* SPDX-License-Identifier: MIT */
/* ends=reboot A triple fault reboots this domain, and nobody else. */
#include "guest.h"

const char guest_name[] = "triple";

void guest_main(void)
{
	struct { u16 limit; u64 base; } __attribute__((packed)) none = { 0, 0 };

	print("PASS %s\n", guest_name);
	__asm__ volatile("lidt %0; int3" :: "m"(none));
	fail(__FILE__, __LINE__, "still here");
}
