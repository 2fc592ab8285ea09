/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts: every vector gets a stub of 16 bytes, which
 * makes the frames alike and goes on to trap_handler().
 */
#define WITH_ERROR	0x60227d00	/* the exceptions that push an error code */

	.text
	.balign 16
	.globl	trap_stubs
trap_stubs:
	.irp	sixteen, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	.set	vector, \sixteen * 16
	.rept	16
	.balign 16
	.if	(vector >= 32) || !((WITH_ERROR >> (vector & 31)) & 1)
	push	$0
	.endif
	push	$vector
	jmp	trap_common
	.set	vector, vector + 1
	.endr
	.endr

	.balign 16
trap_common:
	.irp reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	push	%\reg
	.endr
	cld
	mov	%rsp, %rdi
	call	trap_handler
	.irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	pop	%\reg
	.endr
	add	$16, %rsp
	iretq
