/* SPDX-License-Identifier: MIT */
/*
 * The world switch of AMD-V. See svm_enter() in svm.h.
 */
	.text
	.globl svm_enter
	.type svm_enter, @function
svm_enter:
	push	%rbp
	mov	%rsp, %rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdx			/* host VMCB */
	push	%rsi			/* registers */

	/*
	 * With GIF clear no NMI can see half a world. The host's IF says whether
	 * a physical interrupt ends the guest, so it is set meanwhile.
	 */
	clgi
	sti
	mov	%rdi, %rax
	vmload
	mov	0x08(%rsi), %rcx
	mov	0x10(%rsi), %rdx
	mov	0x18(%rsi), %rbx
	mov	0x28(%rsi), %rbp
	mov	0x38(%rsi), %rdi
	mov	0x40(%rsi), %r8
	mov	0x48(%rsi), %r9
	mov	0x50(%rsi), %r10
	mov	0x58(%rsi), %r11
	mov	0x60(%rsi), %r12
	mov	0x68(%rsi), %r13
	mov	0x70(%rsi), %r14
	mov	0x78(%rsi), %r15
	mov	0x30(%rsi), %rsi
	vmrun				/* keeps RAX and RSP */
	vmsave
	pop	%rax
	mov	%rcx, 0x08(%rax)
	mov	%rdx, 0x10(%rax)
	mov	%rbx, 0x18(%rax)
	mov	%rbp, 0x28(%rax)
	mov	%rsi, 0x30(%rax)
	mov	%rdi, 0x38(%rax)
	mov	%r8, 0x40(%rax)
	mov	%r9, 0x48(%rax)
	mov	%r10, 0x50(%rax)
	mov	%r11, 0x58(%rax)
	mov	%r12, 0x60(%rax)
	mov	%r13, 0x68(%rax)
	mov	%r14, 0x70(%rax)
	mov	%r15, 0x78(%rax)
	pop	%rax
	vmload

	/* Nothing the guest chose stays where speculation could use it. */
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%ebp, %ebp
	/* RBX and R12 to R15 are overwritten below, before any branch depends on them. */
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx

	/* The return predictor holds the guest's: fill it with ours. */
	.rept	32
	call	1f
	int3
1:
	.endr
	add	$32 * 8, %rsp
	cli
	stgi
	pop	%rbp
	ret
	.size svm_enter, . - svm_enter
	.section .note.GNU-stack, "", @progbits
