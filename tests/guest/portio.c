/* SPDX-License-Identifier: MIT */
/* Ports nobody claims: all ones, at every size, by string instructions; refused in user mode. */
#include "guest.h"

const char guest_name[] = "portio";

static u8 user_stack[PAGE_SIZE] __attribute__((aligned(4096)));
static u8 buffer[64] __attribute__((aligned(64)));

static void user_in(void *arg)
{
	*(volatile u8 *)arg = inb(0x1234);
}

static void ins(unsigned int size, unsigned int count)
{
	void *to = buffer;
	u64 n = count;

	memset(buffer, 0x11, sizeof(buffer));
	if (size == 1)
		__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(0x1234) : "memory");
	else if (size == 2)
		__asm__ volatile("rep insw" : "+D"(to), "+c"(n) : "d"(0x1234) : "memory");
	else
		__asm__ volatile("rep insl" : "+D"(to), "+c"(n) : "d"(0x1234) : "memory");
	CHECK_EQ(n, 0);
	CHECK_EQ(to, buffer + size * count);
	for (unsigned int i = 0; i < sizeof(buffer); i++)
		CHECK_EQ(buffer[i], i < size * count ? 0xff : 0x11);
}

static void outs(void)
{
	const void *from = "through the string instruction\n";
	u64 n = 31;

	__asm__ volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(0xe9) : "memory");
	CHECK_EQ(n, 0);
	n = 8;
	from = buffer;
	__asm__ volatile("rep outsl" : "+S"(from), "+c"(n) : "d"(0x1234) : "memory");
	CHECK_EQ(from, buffer + 32);
	/* Backwards. */
	from = buffer + 32;
	n = 4;
	__asm__ volatile("std; rep outsw; cld" : "+S"(from), "+c"(n) : "d"(0x1234) : "memory");
	CHECK_EQ(from, buffer + 24);
}

/* The page under a string instruction is not there: the guest's own fault. */
static void faults(void *arg)
{
	void *to = arg;
	u64 n = 4;

	__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(0x1234) : "memory");
}

void guest_main(void)
{
	static const u16 ports[] = { 0x20, 0x21, 0x40, 0x42, 0x61, 0x70, 0x71, 0x80, 0x1234, 0x3f8,
		0xafe0, 0xb000, 0xcf8, 0xcfc, 0xffff };
	static volatile u8 seen;
	u64 rax = 0x1122334455667788;

	if (!on_xen)
		skip("no hypervisor");
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		CHECK_EQ(inb(ports[i]), 0xff);
		outb(ports[i], 0x55);
		CHECK_EQ(inb(ports[i]), 0xff);
	}
	CHECK_EQ(inw(0x1234), 0xffff);
	CHECK_EQ(inl(0x1234), 0xffffffff);
	CHECK_EQ(inl(0xcfc), 0xffffffff);
	/* Only as much of rax as was read, but 32 bits clear the rest. */
	__asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(0x1234));
	CHECK_EQ(rax, 0x11223344556677ff);
	__asm__ volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(0x1234));
	CHECK_EQ(rax, 0x112233445566ffff);
	__asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(0x1234));
	CHECK_EQ(rax, 0xffffffff);
	ins(1, 0);
	ins(1, 17);
	ins(2, 9);
	ins(4, 16);
	outs();
	CHECK_EQ(guarded_call(faults, (void *)0x700000000000), TRAP_PF);
	CHECK_EQ(this_cpu()->cr2, 0x700000000000);
	CHECK_EQ(user_call(user_in, (void *)(uintptr_t)&seen, user_stack + sizeof(user_stack)),
		 TRAP_GP);
}
