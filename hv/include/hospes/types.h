/* SPDX-License-Identifier: MIT */
/*
 * Scalars that must not be mixed up, and the small macros everybody needs.
 *
 * gfn_t numbers a 4 KiB frame of a guest's physical address space, mfn_t one
 * of the machine's. They are structs so that the compiler refuses a mix-up;
 * both compile to a plain register.
 */
#ifndef HOSPES_TYPES_H
#define HOSPES_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { uint64_t v; } gfn_t;
typedef struct { uint64_t v; } mfn_t;
typedef uint64_t gpa_t;		/* guest physical address, bytes */
typedef uint64_t paddr_t;	/* machine physical address, bytes */
typedef uint64_t gva_t;		/* guest virtual address; never dereferenced */

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define GFN(x) ((gfn_t){ (x) })
#define MFN(x) ((mfn_t){ (x) })
#define INVALID_GFN GFN(~0ULL)
#define INVALID_MFN MFN(~0ULL)

static inline gfn_t gfn_add(gfn_t g, uint64_t n) { return GFN(g.v + n); }
static inline gfn_t gpa_to_gfn(gpa_t a) { return GFN(a >> PAGE_SHIFT); }
static inline gpa_t gfn_to_gpa(gfn_t g) { return g.v << PAGE_SHIFT; }
static inline mfn_t paddr_to_mfn(paddr_t a) { return MFN(a >> PAGE_SHIFT); }
static inline paddr_t mfn_to_paddr(mfn_t m) { return m.v << PAGE_SHIFT; }

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a) (((x) + ((a) - 1)) & ~((a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((a) - 1))
#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define __must_check __attribute__((warn_unused_result))
#define __noreturn __attribute__((noreturn))
#define __printf(f, a) __attribute__((format(printf, f, a)))
#define __packed __attribute__((packed))
#define __aligned(n) __attribute__((aligned(n)))

#endif
