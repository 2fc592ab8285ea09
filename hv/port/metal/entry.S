/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts: every vector gets a stub of 16 bytes, which
 * makes the frames alike and goes on to trap_handler().
 */
#define WITH_ERROR	0x60227d00	/* the exceptions that push an error code */

	.macro	stub vector
	.balign 16
	.if	(\vector >= 32) || !((WITH_ERROR >> (\vector & 31)) & 1)
	push	$0
	.endif
	push	$\vector
	jmp	trap_common
	.endm

	.text
	.balign 16
	.globl	trap_stubs
trap_stubs:
	.set	vector, 0
	.rept	32
	stub	vector
	.set	vector, vector + 1
	.endr
	.set	vector, 0xf0
	.rept	16
	stub	vector
	.set	vector, vector + 1
	.endr

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
	call	trap_handler
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

	.section .note.GNU-stack, "", @progbits
