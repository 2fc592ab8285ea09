/* SPDX-License-Identifier: MIT */
/*
 * From the boot loader, or the start-up interrupt of a further CPU, to C.
 *
 * All ways in arrive in 32-bit protected mode without paging. The boot page
 * tables map the first 4 GiB at 0 and in the direct map, the first 1 GiB
 * where the image is linked; paging.c replaces them, and wipes them once all CPUs run.
 */
#define BASE		0xffffffff80000000
#define PA(x)		((x) - BASE)

#define MB1_MAGIC	0x1badb002
#define MB1_FLAGS	0x00010002	/* memory map, address fields */
#define MB2_MAGIC	0xe85250d6
#define PVH_MAGIC	0x336ec578
#define NOTE_PHYS32_ENTRY 18

#define CS64		0x08
#define CS32		0x10
#define BOOT_STACK	16384

	.section .head, "ax"
	.code32

	.balign 8
mb1_header:
	.long	MB1_MAGIC, MB1_FLAGS, -(MB1_MAGIC + MB1_FLAGS)
	.long	PA(mb1_header), PA(image_start), PA(load_end), PA(image_end), PA(start_multiboot)

	.balign 8
mb2_header:
	.long	MB2_MAGIC, 0, mb2_end - mb2_header, -(MB2_MAGIC + mb2_end - mb2_header)
	.long	3, 12, PA(start_multiboot), 0	/* entry address, and what rounds it up */
	.long	0, 8
mb2_end:

	.globl	start_multiboot, trampoline, trampoline_end
start_multiboot:
	mov	%eax, %ebp
	jmp	start32

start_pvh:
	mov	$PVH_MAGIC, %ebp

/* EBP: the magic that tells the protocols apart. EBX: its information. */
start32:
	cli
	cld
	movl	$PA(boot_pdpt) + 3, PA(boot_pml4)
	movl	$PA(boot_pdpt) + 3, PA(boot_pml4) + 256 * 8
	movl	$PA(high_pdpt) + 3, PA(boot_pml4) + 511 * 8
	movl	$PA(boot_pd) + 3, PA(high_pdpt) + 510 * 8
	.irp	i, 0, 1, 2, 3
	movl	$PA(boot_pd) + \i * 0x1000 + 3, PA(boot_pdpt) + \i * 8
	.endr
	mov	$0x83, %eax		/* present, writable, 2 MiB */
	xor	%ecx, %ecx
1:	mov	%eax, PA(boot_pd)(, %ecx, 8)
	add	$0x200000, %eax
	inc	%ecx
	cmp	$2048, %ecx
	jb	1b
	lgdt	PA(trampoline_gdtr)

/* Both kinds of CPU (EBP 0: a further one): long mode, then on at the linked address. */
enter_long_mode:
	mov	$PA(boot_pml4), %eax
	mov	%eax, %cr3
	mov	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	/* EFER: LME, NXE */
	rdmsr
	or	$0x900, %eax
	wrmsr
	mov	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	mov	%eax, %cr0
	ljmp	$CS64, $PA(start64)

/* Copied to a page under 1 MiB, where a start-up interrupt begins in real mode. */
	.code16
trampoline:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	trampoline_gdtr - trampoline
	mov	$0x11, %eax
	mov	%eax, %cr0
	xor	%ebp, %ebp
	ljmpl	$CS32, $PA(enter_long_mode)
	.balign 4
trampoline_gdtr:
	.short	boot_gdt_end - boot_gdt - 1
	.long	PA(boot_gdt)
trampoline_end:

	.balign 8
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* CS64 */
	.quad	0x00cf9b000000ffff	/* CS32 */
boot_gdt_end:

	.code64
start64:
	movabs	$1f, %rax
	jmp	*%rax
1:	xor	%eax, %eax
	.irp	segment, %ds, %es, %fs, %gs, %ss
	mov	%eax, \segment
	.endr
	test	%ebp, %ebp
	jz	start_ap64
	lea	boot_stack + BOOT_STACK(%rip), %rsp
	mov	%ebp, %edi
	mov	%ebx, %esi
	xor	%ebp, %ebp
	call	boot_main
start_ap64:
	mov	kernel_cr3(%rip), %rax
	mov	%rax, %cr3
	mov	ap_stack(%rip), %rsp
	xor	%ebp, %ebp
	call	ap_main

	.section .note.Xen, "a", @note
	.balign 4
	.long	4, 8, NOTE_PHYS32_ENTRY
	.asciz	"Xen"
	.quad	PA(start_pvh)

	.comm	boot_pml4, 4096, 4096
	.comm	boot_pdpt, 4096, 4096
	.comm	high_pdpt, 4096, 4096
	.comm	boot_pd, 4 * 4096, 4096
	.comm	boot_stack, BOOT_STACK, 4096
