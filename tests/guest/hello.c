/* SPDX-License-Identifier: MIT */
/* The smallest guest: starts, finds the hypervisor, takes an exception, prints, powers off. */
#include "guest.h"

const char guest_name[] = "hello";

void guest_main(void)
{
	u64 regs[4] = { 0 };

	print("hello from a tiny guest, hypervisor %s, start_info version %u, entry at TSC %lu\n",
	      on_xen ? "found" : "not found", start_info->version, (unsigned long)rdtsc());
	CHECK_EQ(start_info->magic, XEN_HVM_START_MAGIC_VALUE);
	CHECK_EQ(probe_code("\x0f\x0b", 2, regs), TRAP_UD);
	CHECK_EQ(probe_code("\x90", 1, regs), NO_TRAP);
}
