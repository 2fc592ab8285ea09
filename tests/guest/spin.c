/* SPDX-License-Identifier: MIT */
/* ends=never Spins with interrupts off on all its vCPUs: the others still get their share. */
#include "guest.h"

const char guest_name[] = "spin";

static void spin(void *arg)
{
	(void)arg;
	irq_off();
	for (;;)
		;
}

void guest_main(void)
{
	if (smp_count() > 1 && smp_start(1))
		smp_run(1, spin, NULL);
	print("PASS %s\n", guest_name);
	spin(NULL);
}
