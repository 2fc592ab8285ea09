/* SPDX-License-Identifier: MIT */
/*
 * A minimal user of /dev/kvm: runs one tiny PVH guest on one vCPU, with KVM's own interrupt
 * controllers, until it writes to port 0xf4. Its port 0xe9 goes to standard output.
 *
 *	vmm <guest.elf> [arguments]
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY (64u << 20)
#define INFO 0x1000			/* start info, then the command line */
#define CMDLINE 0x2000
#define NOTE_PHYS32_ENTRY 18

static uint8_t *ram;

static int control(int fd, unsigned long request, void *arg, const char *what)
{
	int rc = ioctl(fd, request, arg);

	if (rc < 0)
		err(1, "%s", what);
	return rc;
}

static uint32_t find_entry(const uint8_t *note, const uint8_t *end)
{
	while (note + sizeof(Elf64_Nhdr) <= end) {
		const Elf64_Nhdr *n = (const void *)note;
		const uint8_t *name = note + sizeof(*n);
		const uint8_t *desc = name + (n->n_namesz + 3) / 4 * 4;
		uint32_t entry;

		if (n->n_type == NOTE_PHYS32_ENTRY && !strcmp((const char *)name, "Xen")) {
			memcpy(&entry, desc, sizeof(entry));
			return entry;
		}
		note = desc + (n->n_descsz + 3) / 4 * 4;
	}
	return 0;
}

static uint32_t load(const char *path)
{
	int fd = open(path, O_RDONLY);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	const uint8_t *file = size < 0 ? MAP_FAILED :
		mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	const Elf64_Ehdr *e = (const void *)file;
	const Elf64_Phdr *p;
	uint32_t entry = 0;

	if (file == MAP_FAILED)
		err(1, "%s", path);
	p = (const void *)(file + e->e_phoff);
	for (int i = 0; i < e->e_phnum; i++, p++) {
		if (p->p_type == PT_LOAD)
			memcpy(ram + p->p_paddr, file + p->p_offset, p->p_filesz);
		if (p->p_type == PT_NOTE && !entry)
			entry = find_entry(file + p->p_offset, file + p->p_offset + p->p_filesz);
	}
	if (!entry)
		errx(1, "%s: no PVH entry", path);
	return entry;
}

static void set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));

	if (!c)
		err(1, "memory");
	c->nent = 256;
	control(kvm, KVM_GET_SUPPORTED_CPUID, c, "KVM_GET_SUPPORTED_CPUID");
	control(vcpu, KVM_SET_CPUID2, c, "KVM_SET_CPUID2");
	free(c);
}

/* The state at a PVH entry: 32-bit protected mode, flat, paging off. */
static void set_registers(int vcpu, uint32_t entry)
{
	struct kvm_regs regs = { .rip = entry, .rbx = INFO, .rflags = 2 };
	struct kvm_sregs s;
	struct kvm_segment flat = {
		.limit = ~0u, .present = 1, .s = 1, .g = 1, .db = 1, .type = 3, .selector = 16,
	};

	control(vcpu, KVM_GET_SREGS, &s, "KVM_GET_SREGS");
	s.ds = s.es = s.fs = s.gs = s.ss = s.cs = flat;
	s.cs.type = 11;
	s.cs.selector = 8;
	s.cr0 = 0x11;
	s.cr4 = s.efer = 0;
	control(vcpu, KVM_SET_SREGS, &s, "KVM_SET_SREGS");
	control(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static void run(int vcpu, struct kvm_run *r)
{
	for (;;) {
		const uint8_t *data;

		control(vcpu, KVM_RUN, NULL, "KVM_RUN");
		if (r->exit_reason != KVM_EXIT_IO)
			errx(1, "exit reason %u", r->exit_reason);
		data = (const uint8_t *)r + r->io.data_offset;
		if (r->io.direction == KVM_EXIT_IO_OUT && r->io.port == 0xf4)
			return;
		if (r->io.direction == KVM_EXIT_IO_OUT && r->io.port == 0xe9)
			fwrite(data, r->io.size, r->io.count, stdout);
	}
}

int main(int argc, char **argv)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	int kvm, vm, vcpu, size;
	uint32_t *info;
	struct kvm_run *r;

	if (argc < 2)
		errx(2, "usage: vmm <guest.elf> [arguments]");
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = control(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	control(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	ram = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		err(1, "memory");
	region.userspace_addr = (uintptr_t)ram;
	control(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	vcpu = control(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	size = control(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	r = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (r == MAP_FAILED)
		err(1, "vCPU");
	info = (void *)(ram + INFO);
	info[0] = 0x336ec578;		/* hvm_start_info: magic, version, ..., command line */
	info[1] = 1;
	info[6] = CMDLINE;
	snprintf((char *)ram + CMDLINE, 256, "%s", argc > 2 ? argv[2] : "");
	set_cpuid(kvm, vcpu);
	set_registers(vcpu, load(argv[1]));
	run(vcpu, r);
	return 0;
}
