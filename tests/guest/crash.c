/* SPDX-License-Identifier: MIT */
/* ends=crash A domain that says it crashed is taken down; the call does not return. */
#include "guest.h"

const char guest_name[] = "crash";

void guest_main(void)
{
	print("PASS %s\n", guest_name);
	shutdown(SHUTDOWN_crash);
}
