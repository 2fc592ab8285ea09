/* SPDX-License-Identifier: MIT */
/*
 * The runtime of the tiny guests: a freestanding 64-bit PVH program that checks one behaviour,
 * prints PASS or FAIL lines and powers its domain off.
 *
 * A guest defines guest_name and guest_main(). Its command line may hold
 * console=e9 | ring | both, and name=value pairs the guest asks for with arg_number().
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040d00
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/io/console.h>
#include <xen/arch-x86/hvm/start_info.h>

#include "layout.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int64_t s64;

#define PAGE_SIZE 4096ul
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define barrier() __asm__ volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

/* ---- what a guest file provides ---- */
extern const char guest_name[];
void guest_main(void);

/* ---- runtime.c: console, checks, end ---- */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void skip(const char *why) __attribute__((noreturn));
void finish(void) __attribute__((noreturn));
void shutdown(unsigned int reason) __attribute__((noreturn));
u64 arg_number(const char *name, u64 otherwise);
bool arg_is(const char *name, const char *value);
/* On Xen, as a peer: some of what we promise it does not, or not in an emulator. */
bool on_peer(void);

#define CHECK(cond)							\
	do {								\
		if (!(cond))						\
			fail(__FILE__, __LINE__, "%s", #cond);		\
	} while (0)
#define CHECK_EQ(got, want)						\
	do {								\
		s64 got_ = (s64)(got), want_ = (s64)(want);		\
		if (got_ != want_)					\
			fail(__FILE__, __LINE__, "%s is %ld (%#lx), not %ld (%#lx)", #got, \
			     (long)got_, (unsigned long)got_, (long)want_, (unsigned long)want_); \
	} while (0)

void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

/* ---- per-vCPU state and traps ---- */
struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

struct cpu {
	struct cpu *self;
	u64 recover;			/* stack of the innermost guarded call, 0 if none */
	u32 id;
	volatile bool online;
	void (*volatile work)(void *);	/* what the vCPU shall run next */
	void *volatile work_arg;
	struct regs trap;		/* the last trap a guarded call ended with */
	u64 cr2;
	volatile u32 irqs[256];
};

typedef void (*trap_handler)(struct regs *r);
extern bool manual_eoi;			/* handlers end their interrupts themselves */
extern struct cpu cpus[MAX_CPUS];
extern trap_handler trap_handlers[256];

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	__asm__("mov %%gs:0, %0" : "=r"(c));
	return c;
}

/* Runs fn(arg); -1, or the vector of the exception that ended it (details in this_cpu()->trap). */
int guarded_call(void (*fn)(void *), void *arg);
/* The same at CPL 3 on a stack of its own. */
int user_call(void (*fn)(void *), void *arg, void *stack_top);
/* Runs up to 15 bytes of code with the given rax, rcx, rdx, rbx (updated); -1 or the vector. */
int probe_code(const void *code, size_t len, u64 regs[4]);
int rdmsr_safe(u32 msr, u64 *value);
int wrmsr_safe(u32 msr, u64 value);

#define TRAP_DE 0
#define TRAP_DB 1
#define TRAP_NMI 2
#define TRAP_BP 3
#define TRAP_UD 6
#define TRAP_NM 7
#define TRAP_DF 8
#define TRAP_GP 13
#define TRAP_PF 14
#define NO_TRAP (-1)

/* ---- processor ---- */
static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) :: "memory");
	return (u64)hi << 32 | lo;
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr" :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "0"(leaf), "2"(sub) : "memory");
}

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port) : "memory");
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline u16 inw(u16 port)
{
	u16 v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline u32 inl(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
	return v;
}

static inline void irq_on(void) { __asm__ volatile("sti" ::: "memory"); }
static inline void irq_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void irq_window(void) { __asm__ volatile("sti; nop; nop; cli" ::: "memory"); }
static inline void halt_on(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }
static inline void pause(void) { __asm__ volatile("pause" ::: "memory"); }

static inline u64 read_cr3(void)
{
	u64 v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline void flush_tlb(void)
{
	__asm__ volatile("mov %0, %%cr3" :: "r"(read_cr3()) : "memory");
}

static inline u64 read_cr8(void)
{
	u64 v;

	__asm__ volatile("mov %%cr8, %0" : "=r"(v) :: "memory");
	return v;
}

static inline void write_cr8(u64 v)
{
	__asm__ volatile("mov %0, %%cr8" :: "r"(v) : "memory");
}

extern u64 pml4[512], pdpt[512], pd[2048];

/* ---- hypercalls ---- */
extern char hypercall_insn[];

static inline long hypercall(unsigned int nr, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
	long rc = nr;
	register u64 r10 __asm__("r10") = a4;
	register u64 r8 __asm__("r8") = a5;

	__asm__ volatile("call hypercall_insn"
			 : "+a"(rc), "+D"(a1), "+S"(a2), "+d"(a3), "+r"(r10), "+r"(r8)
			 :: "memory");
	return rc;
}

#define PTR(p) ((u64)(uintptr_t)(p))
#define BAD_PTR ((void *)0x700000000000)	/* not mapped; NULL is memory here */

static inline long hcall2(unsigned int nr, u64 a1, u64 a2)
{
	return hypercall(nr, a1, a2, 0, 0, 0);
}

static inline long memory_op(unsigned int cmd, void *arg)
{
	return hcall2(__HYPERVISOR_memory_op, cmd, PTR(arg));
}

static inline long evtchn_op(unsigned int cmd, void *arg)
{
	return hcall2(__HYPERVISOR_event_channel_op, cmd, PTR(arg));
}

static inline long sched_op(unsigned int cmd, void *arg)
{
	return hcall2(__HYPERVISOR_sched_op, cmd, PTR(arg));
}

static inline long xen_version_op(unsigned int cmd, void *arg)
{
	return hcall2(__HYPERVISOR_xen_version, cmd, PTR(arg));
}

static inline long hvm_op(unsigned int cmd, void *arg)
{
	return hcall2(__HYPERVISOR_hvm_op, cmd, PTR(arg));
}

static inline long vcpu_op(unsigned int cmd, unsigned int vcpu, void *arg)
{
	return hypercall(__HYPERVISOR_vcpu_op, cmd, vcpu, PTR(arg), 0, 0);
}

static inline long grant_op(unsigned int cmd, void *array, unsigned int count)
{
	return hypercall(__HYPERVISOR_grant_table_op, cmd, PTR(array), count, 0, 0);
}

/* ---- xen.c: shared info, events, memory, time ---- */
extern bool on_xen;			/* a hypervisor with this ABI answers */
extern struct hvm_start_info *start_info;
extern u8 shared_page[];			/* mapped by shared_info_map() */
#define shinfo ((struct shared_info *)shared_page)

void shared_info_map(void);
struct vcpu_info *vcpu_info(unsigned int cpu);
u64 now_ns(void);			/* system time, from the executing vCPU's record */
u64 tsc_khz(void);
void delay_us(u64 us);
long hvm_param_get(u32 index, u64 *value);
long hvm_param_set(u32 index, u64 value);

/* an unused frame number, outside RAM, below 4 GiB: n of them from the returned one on */
u64 hole_gfn(unsigned int n);
static inline void *gfn_ptr(u64 gfn) { return (void *)(uintptr_t)(gfn << 12); }
static inline u64 gfn_of(const void *p) { return PTR(p) >> 12; }
long physmap_add(unsigned int space, u64 idx, u64 gfn);
long physmap_remove(u64 gfn);
long reservation_op(unsigned int cmd, u64 *gfns, unsigned int nr, unsigned int order);

#define UPCALL_VECTOR 0xf3
extern volatile u32 port_count[4096];		/* events seen per port */
extern void (*upcall_hook)(unsigned int port);	/* called for each event, interrupts off */

void events_init(void);			/* shared info, LAPIC and upcall vector of this vCPU */
void events_init_vcpu(unsigned int cpu);
void events_scan_2l(void);
void events_scan_fifo(void);
extern void (*events_scan)(void);	/* what the upcall calls; 2-level at first */
int bind_virq(unsigned int virq, unsigned int cpu);	/* port or -errno */
int bind_ipi(unsigned int cpu);
int alloc_unbound(domid_t remote);
long evtchn_send(unsigned int port);
long evtchn_close(unsigned int port);
long evtchn_unmask(unsigned int port);
void port_mask(unsigned int port, bool masked);		/* 2-level bitmap */
bool port_pending(unsigned int port);
void port_clear(unsigned int port);

/* FIFO: one control block for each vCPU, one array page (1024 ports) */
long fifo_init(unsigned int cpu);
long fifo_expand(void);
extern u32 fifo_words[1024];
extern struct evtchn_fifo_control_block fifo_control[MAX_CPUS];
extern volatile u32 fifo_order[256], fifo_nr;	/* ports in the order they were taken */

/* waits (halting, interrupts on) until *value >= want or ms have passed; false if they have */
bool wait_for(volatile u32 *value, u32 want, unsigned int ms);

/* ---- apic.c ---- */
#define APIC_ID		0x02
#define APIC_VERSION	0x03
#define APIC_TPR	0x08
#define APIC_PPR	0x0a
#define APIC_EOI	0x0b
#define APIC_LDR	0x0d
#define APIC_DFR	0x0e
#define APIC_SPIV	0x0f
#define APIC_ISR	0x10
#define APIC_TMR	0x18
#define APIC_IRR	0x20
#define APIC_ESR	0x28
#define APIC_ICR	0x30
#define APIC_LVT_TIMER	0x32
#define APIC_LVT_LINT0	0x35
#define APIC_LVT_ERROR	0x37
#define APIC_TMICT	0x38
#define APIC_TMCCT	0x39
#define APIC_TDCR	0x3e
#define APIC_SELF_IPI	0x3f
#define MSR_APIC_BASE	0x1b
#define MSR_X2APIC	0x800

u32 apic_read(unsigned int reg);	/* in whichever mode the vCPU's LAPIC is */
void apic_write(unsigned int reg, u32 v);
void apic_icr(u32 dest, u32 low);
void apic_init(void);			/* x2APIC, software-enabled, spurious vector 0xff */
bool apic_bit(unsigned int base, unsigned int vector);	/* IRR, ISR or TMR bit */
u32 apic_id_of(unsigned int cpu);

/* ---- smp.c ---- */
unsigned int smp_count(void);		/* vCPUs of this domain */
bool smp_start(unsigned int cpu);	/* INIT, SIPI; true when it came up */
bool smp_start_all(void);
void smp_run(unsigned int cpu, void (*fn)(void *), void *arg);	/* starts fn there */
bool smp_wait(unsigned int cpu, unsigned int ms);		/* until it is done */
void cpu_tables_load(unsigned int cpu);

/* ---- between the files of the runtime ---- */
void runtime_cpu_start(unsigned int cpu);
void runtime_trap(struct regs *r);
void ap_main(unsigned int cpu);

/* ---- a small random generator (xorshift*), the same everywhere for a seed ---- */
static inline u64 random_next(u64 *state)
{
	u64 x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dul;
}

#endif
