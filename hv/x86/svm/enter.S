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
	.irp	r, rbx, r12, r13, r14, r15, rdx, rsi	/* the last two: host VMCB, registers */
	push	%\r
	.endr

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
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	8 * \n(%rsi), %r\n
	.endr
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
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	%r\n, 8 * \n(%rax)
	.endr
	pop	%rax
	vmload

	/* Nothing the guest chose stays where speculation could use it. */
	.irp	r, ecx, edx, esi, edi, r8d, r9d, r10d, r11d, ebp
	xor	%\r, %\r
	.endr
	/* RBX and R12 to R15 are overwritten below, before any branch depends on them. */
	.irp	r, r15, r14, r13, r12, rbx
	pop	%\r
	.endr

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
