/* SPDX-License-Identifier: MIT */
/*
 * Entered by the builder like a PVH kernel, in 32-bit mode with paging off:
 *   eax  address of this image, whole pages	ebx  start info, kept for the kernel
 *   esi  payload, the end of usable memory	ecx  its size
 * Unpacks in 64-bit mode, which is faster, and enters the kernel as PVH wants it.
 * The image is linked at 0: a symbol is an offset from ebp.
 */
#define TABLES_SIZE 0x6000	/* PML4, PDPT, four page directories: 4 GiB by 2 MiB */
#define STACK_SIZE 0x4000
#define EFER 0xc0000080
#define EFER_LME 0x100
#define CR4_PAE 0x20
#define CR0_PE_ET 0x11
#define CR0_PG 0x80000000

	.section .note.pvh, "a", @note
	.long	4, 4, 18
	.asciz	"Xen"
	.long	start

	.text
	.code32
start:
	cld
	mov	%eax, %ebp
	lea	stack + STACK_SIZE(%ebp), %esp
	lea	tables + 0x1003(%ebp), %eax
	mov	%eax, tables(%ebp)
	xor	%edx, %edx
1:	add	$0x1000, %eax
	mov	%eax, tables + 0x1000(%ebp, %edx, 8)
	inc	%edx
	cmp	$4, %edx
	jb	1b
	lea	tables + 0x2000(%ebp), %edi
	mov	$0x83, %eax
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	1b

	lea	tables(%ebp), %eax
	mov	%eax, %cr3
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	%ecx, %edi
	mov	$EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0_PG | CR0_PE_ET, %eax
	mov	%eax, %cr0
	lea	gdt(%ebp), %eax
	mov	%eax, gdtr + 2(%ebp)
	lgdt	gdtr(%ebp)
	push	$0x08
	lea	start64(%ebp), %eax
	push	%eax
	lret

	.code64
start64:
	mov	%ebx, %ebx
	mov	%esp, %esp
	xchg	%edi, %esi
	call	unpack_main
	mov	%eax, %esi
	push	$0x10
	lea	start32(%rip), %rax
	push	%rax
	lretq

	.code32
start32:
	mov	$0x18, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$CR0_PE_ET, %eax
	mov	%eax, %cr0
	mov	$EFER, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	mov	%eax, %cr4
	jmp	*%esi

	.data
	.balign 8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: 64-bit code */
	.quad	0x00cf9b000000ffff	/* 0x10: 32-bit code */
	.quad	0x00cf93000000ffff	/* 0x18: data */
gdtr:	.word	. - gdt - 1
	.long	0

	.bss
	.balign 4096
tables:	.skip	TABLES_SIZE
stack:	.skip	STACK_SIZE

	.section .note.GNU-stack, "", @progbits
