/* SPDX-License-Identifier: MIT */
/* Numbers shared by the assembly and the C of the tiny guests. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define MAX_CPUS	16
#define STACK_SIZE	0x8000
#define AP_START	0x8000

#define SEL_CODE	0x08
#define SEL_DATA	0x10
#define SEL_CODE32	0x18
#define SEL_UDATA	0x20
#define SEL_UCODE	0x28
#define SEL_TSS		0x30
#define GDT_BYTES	(SEL_TSS + 16 * MAX_CPUS)

#define USER_RETURN_VECTOR 0x80

/* offset in struct cpu */
#define CPU_RECOVER	8

#endif
