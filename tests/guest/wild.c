/* SPDX-License-Identifier: MIT */
/* ends=any Random hypercalls without restraint, on two vCPUs, until the domain breaks. */
#define WILD
#include "hostile.c"
