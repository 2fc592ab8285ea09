/* SPDX-License-Identifier: MIT */
/*
 * Entry of a tiny guest: PVH (32-bit, paging off) to long mode, the real-mode start of the other
 * vCPUs, trap stubs, guarded calls and calls at CPL 3. The identity map covers 4 GiB, open to
 * CPL 3.
 */
#include "layout.h"

	.section .note.xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long guest_start

	.text
	.code32
	.globl guest_start
guest_start:
	cli
	cld
	rdtsc				/* the first thing measured: how long the start took */
	movl	%eax, boot_tsc
	movl	%edx, boot_tsc + 4
	movl	%ebx, start_info_pa
	movl	$boot_stack + STACK_SIZE, %esp
	xorl	%ebp, %ebp
	jmp	enter64

	/* Start of another vCPU, copied to AP_START; cs is AP_START >> 4. */
	.code16
	.globl ap_code, ap_code_end
ap_code:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	ap_gdtr - ap_code
	movl	%cr0, %eax
	andl	$0x9fffffff, %eax	/* reset leaves the caches off */
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_CODE32, $ap_start32
	.balign 4
ap_gdtr:
	.word	GDT_BYTES - 1
	.long	gdt
ap_code_end:

	.code32
ap_start32:
	movw	$SEL_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	ap_stack, %esp
	movl	ap_cpu, %ebp

enter64:
	movl	%cr4, %eax
	orl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x901, %eax		/* SCE, LME, NXE */
	wrmsr
	movl	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	movl	%eax, %cr0
	lgdt	gdtr32
	ljmpl	$SEL_CODE, $long_mode

	.code64
	.globl long_mode
long_mode:
	movl	$SEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%esp, %esp
	movl	%ebp, %edi
	xorl	%ebp, %ebp
	call	runtime_cpu_start
	ud2

	/* The hypercall instruction, patched to VMCALL where the vendor needs it. */
	.balign 16
	.globl hypercall_insn
hypercall_insn:
	vmmcall
	ret

	/* int guarded_call(void (*fn)(void *), void *arg): -1, or the vector that ended fn */
	.globl guarded_call, guarded_return
guarded_call:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	push	%gs:CPU_RECOVER
	mov	%rsp, %gs:CPU_RECOVER
	sub	$8, %rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	call	*%rax
	mov	$-1, %eax
guarded_return:
	mov	%gs:CPU_RECOVER, %rsp
	pop	%gs:CPU_RECOVER
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	cld
	ret

	/* int user_call(void (*fn)(void *), void *arg, void *stack_top): the same at CPL 3 */
	.globl user_call
user_call:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	push	%gs:CPU_RECOVER
	mov	%rsp, %gs:CPU_RECOVER
	mov	%rdi, %rax
	mov	%rsi, %rdi
	and	$-16, %rdx
	push	$SEL_UDATA | 3
	push	%rdx
	push	$2
	push	$SEL_UCODE | 3
	push	$user_start
	iretq
user_start:
	call	*%rax
	int	$USER_RETURN_VECTOR
	ud2

	.balign 16
trap_common:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	call	runtime_trap
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

	.balign 16
	.globl trap_stubs
trap_stubs:
	.set	vec, 0
	.rept	256
	.balign 16
	.if	!(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || \
	      vec == 30)
	push	$0
	.endif
	push	$vec
	jmp	trap_common
	.set	vec, vec + 1
	.endr

	.data
	.balign 8
	.globl gdt
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08 code, 64-bit */
	.quad	0x00cf93000000ffff	/* 0x10 data */
	.quad	0x00cf9b000000ffff	/* 0x18 code, 32-bit */
	.quad	0x00cff3000000ffff	/* 0x20 data, CPL 3 */
	.quad	0x00affb000000ffff	/* 0x28 code, CPL 3 */
	.fill	2 * MAX_CPUS, 8, 0	/* task segments */
gdtr32:
	.word	GDT_BYTES - 1
	.long	gdt
	.long	0

	.globl boot_tsc, start_info_pa, ap_stack, ap_cpu
	.balign 8
boot_tsc:
	.quad	0
start_info_pa:
	.quad	0
ap_stack:
	.long	0
ap_cpu:
	.long	0

	.balign 4096
	.globl pml4, pdpt, pd
pml4:
	.quad	pdpt + 7
	.fill	511, 8, 0
pdpt:
	.quad	pd + 7, pd + 0x1007, pd + 0x2007, pd + 0x3007
	.fill	508, 8, 0
pd:
	.set	addr, 0
	.rept	2048
	.quad	addr + 0xe7
	.set	addr, addr + 0x200000
	.endr

	.bss
	.balign 4096
	.globl boot_stack
boot_stack:
	.skip	STACK_SIZE
	.section .note.GNU-stack, "", @progbits
