/* SPDX-License-Identifier: MIT */
/*
 * Saved state of vCPUs: what is saved comes back exactly, in another domain too;
 * what is no good changes nothing; how the toolstack asks for it.
 */
#include "unit.h"

#include "hospes/hvm_context.h"
#include "toolstack.h"

#define CODE(name) ((uint16_t)HVM_SAVE_CODE(name))
#define MAX_BLOB 65536u

static uint8_t blob[MAX_BLOB], again[MAX_BLOB];
static size_t blob_size;
static uint64_t seed;

static int setup(void **state)
{
	tool_start(8192, 3);
	seed = 12345;
	return 0;
}

static int teardown(void **state)
{
	assert_true(tool_end());
	return 0;
}

static uint64_t rnd(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return seed ^ seed >> 29;
}

static void rnd_fill(void *p, size_t len)
{
	for (uint8_t *b = p; len--; b++)
		*b = (uint8_t)rnd();
}

/* --- Blobs -------------------------------------------------------------------- */

static size_t save(struct domain *d, uint8_t *buf)
{
	size_t len;

	memset(buf, 0, MAX_BLOB);
	assert_true(hvm_context_max(d) <= MAX_BLOB);
	len = hvm_context_save(d, buf);
	assert_true(len <= hvm_context_max(d));
	return len;
}

/* The n-th record of that kind, or NULL; *at is its descriptor. */
static void *record(uint8_t *buf, uint16_t code, uint16_t instance)
{
	struct hvm_save_descriptor *desc = (void *)buf;

	while (desc->typecode) {
		if (desc->typecode == code && desc->instance == instance)
			return desc + 1;
		desc = (void *)((uint8_t *)(desc + 1) + desc->length);
	}
	return NULL;
}

static struct hvm_save_descriptor *descriptor(void *rec)
{
	return (struct hvm_save_descriptor *)rec - 1;
}

static size_t blob_put(size_t at, uint16_t code, uint16_t instance, const void *body, size_t len)
{
	const struct hvm_save_descriptor desc = { code, instance, (uint32_t)len };

	memcpy(blob + at, &desc, sizeof(desc));
	if (len)
		memcpy(blob + at + sizeof(desc), body, len);
	return at + sizeof(desc) + len;
}

/* As the builder does it: header, one record, end. */
static void blob_partial(uint16_t code, uint16_t instance, const void *body, size_t len)
{
	const struct hvm_save_header h = { .magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION };
	size_t at = blob_put(0, CODE(HEADER), 0, &h, sizeof(h));

	at = blob_put(at, code, instance, body, len);
	blob_size = blob_put(at, CODE(END), 0, NULL, 0);
}

/* It is refused, and nothing has changed. */
static void assert_refused(struct domain *d, int rc)
{
	size_t len = save(d, again);
	static uint8_t after[MAX_BLOB];

	assert_int_equal(hvm_context_load(d, blob, blob_size), rc);
	assert_int_equal(save(d, after), len);
	assert_memory_equal(after, again, len);
}

/* --- Random state --------------------------------------------------------------- */

/* Anything that a guest can bring its vCPU to, as far as the fake CPU tells. */
static void randomise(struct vcpu *v)
{
	static const uint8_t types[] = { 0, 1, 4, 5, 6 };
	struct test_vcpu *t = test_vcpu(v);
	struct guest_system *s = &t->sys;

	rnd_fill(&v->regs, sizeof(v->regs));
	v->regs.rflags = (v->regs.rflags & 0x3f7fd5) | 2;
	rnd_fill(s, sizeof(*s));
	s->cr0 = 0x80000011 | (rnd() & 0x60040000);
	s->cr3 &= (1ULL << v->domain->policy->maxphysaddr) - 1;
	s->cr4 = 0x20 | (rnd() & v->domain->policy->cr4_valid);
	s->efer = rnd() & v->domain->policy->efer_valid;
	s->pat = PAT_RESET;
	s->cpl = rnd() & 3;
	for (unsigned int i = 0; i < SEG_COUNT; i++) {
		bool table = i == SEG_GDTR || i == SEG_IDTR;

		s->seg[i].attr = table ? 0 : s->seg[i].attr & 0xfff;
		s->seg[i].sel = table ? 0 : s->seg[i].sel;
	}
	s->seg[SEG_SS].attr = (uint16_t)((s->seg[SEG_SS].attr & ~0x60) | s->cpl << 5);
	s->event = rnd() & 1 ? EVENT_VALID | EVENT_HAS_ERROR | 0x30e : 0;
	rnd_fill(t->xsave, sizeof(t->xsave));
	memset(t->xsave + 512, 0, 64);
	t->xsave[512] = (uint8_t)(3 | (rnd() & 4));
	memset(t->xsave + 26, 0, 2);		/* MXCSR has 16 bits here */
	v->msr.xcr0 = rnd() & 1 ? 7 : 3;
	for (unsigned int i = 0; i < 11; i++)
		memset(&v->msr.mtrr_fixed[i], types[rnd() % 5], 8);
	for (unsigned int i = 0; i < 16; i += 2) {
		v->msr.mtrr_var[i] = (rnd() & 0xffffff000) | types[rnd() % 5];
		v->msr.mtrr_var[i + 1] = (rnd() & 0xffffff000) | 0x800;
	}
	v->msr.mtrr_def = 0xc00 | types[rnd() % 5];
	v->msr.tsc_adjust = rnd();
	v->msr.tsc_aux = (uint32_t)rnd();
	v->msr.mc_ctl[0] = rnd();
	v->msr.mc_ctl[1] = rnd() & 1 ? rnd() : 0;
	v->tsc_offset = rnd();
	v->initialised = true;
	atomic_store(&v->startup, STARTUP_NONE);
	vcpu_pause_clear(v, PAUSE_DOWN);
}

/* The local APIC by the ways the guest has, timer running in each of its modes. */
static void randomise_lapic(struct vcpu *v, unsigned int timer_mode)
{
	struct vlapic *l = &v->lapic;

	assert_true(vlapic_write(v, 0xf0, 0x1ff));
	assert_true(vlapic_write(v, 0xd0, (uint32_t)rnd() & 0xff000000));
	assert_true(vlapic_write(v, 0xe0, rnd() & 1 ? 0xffffffff : 0x0fffffff));
	if (rnd() & 1)
		assert_true(vlapic_msr_write(v, 0x1b, l->base_msr | APIC_BASE_EXTD));
	(void)vlapic_write(v, 0x80, (uint32_t)rnd() & 0xff);
	for (uint32_t offset = 0x350; offset <= 0x370; offset += 0x10)
		assert_true(vlapic_write(v, offset, (uint32_t)rnd() & 0x100ff));
	assert_true(vlapic_write(v, 0x3e0, (uint32_t)rnd() & 0xb));
	assert_true(vlapic_write(v, 0x320, timer_mode << 17 | 0x10000 | 0xec));
	if (timer_mode == 2)
		assert_true(vlapic_msr_write(v, 0x6e0, port_tsc() + v->tsc_offset + 5000000));
	else
		assert_true(vlapic_write(v, 0x380, 1000000));
	for (unsigned int i = 0; i < 10; i++) {
		uint8_t vector = (uint8_t)(16 + rnd() % 240);

		vlapic_request(v, vector);
		if (i < 3)
			vlapic_accept(v, vector);
	}
}

/* --- Tests ------------------------------------------------------------------------ */

static void test_round_trip(void **state)
{
	for (unsigned int round = 0; round < 200; round++) {
		struct domain *other = target_new(3, 3);
		size_t len;

		for (unsigned int i = 0; i < 3; i++) {
			randomise(target->vcpus[i]);
			randomise_lapic(target->vcpus[i], (round + i) % 3);
		}
		test_advance_ns(rnd() % 100000);
		if (round & 1)
			vcpu_pause_set(target->vcpus[2], PAUSE_DOWN);
		blob_size = save(target, blob);
		assert_non_null(record(blob, CODE(CPU), 1));
		assert_int_equal(!record(blob, CODE(CPU), 2), round & 1);
		assert_int_equal(hvm_context_load(other, blob, blob_size), 0);
		len = save(other, again);
		assert_int_equal(len, blob_size);
		assert_memory_equal(again, blob, len);
		for (unsigned int i = 0; i < 3; i++) {
			const struct vcpu *a = target->vcpus[i], *b = other->vcpus[i];

			if (i == 2 && (round & 1)) {
				assert_true(atomic_load(&b->pause_flags) & PAUSE_DOWN);
				continue;
			}
			assert_int_equal(atomic_load(&b->pause_flags), PAUSE_DOMAIN);
			assert_memory_equal(&a->regs, &b->regs, sizeof(a->regs));
			assert_memory_equal(&test_vcpu(target->vcpus[i])->sys,
					    &test_vcpu(other->vcpus[i])->sys,
					    offsetof(struct guest_system, cpl) + 1);
			assert_int_equal(a->tsc_offset, b->tsc_offset);
			assert_int_equal(test_vcpu(other->vcpus[i])->tsc_offset, b->tsc_offset);
			/* To a tick of the timer. */
			assert_true(b->lapic.deadline - a->lapic.deadline < 128);
			assert_memory_equal(&a->msr, &b->msr, sizeof(a->msr));
		}
		assert_true(guest_end(other));
		test_set_cpu(0);
		assert_true(guest_end(target));
		target = target_new(2, 3);
		test_set_cpu(0);
	}
}

/* As the toolstack brings a new guest to its entry point: memory types, then the first CPU. */
static void test_builder(void **state)
{
	struct vcpu *v = target->vcpus[0];
	struct hvm_hw_mtrr mtrr;
	struct hvm_hw_cpu c;

	blob_size = save(target, blob);
	assert_null(record(blob, CODE(CPU), 0));
	assert_non_null(record(blob, CODE(LAPIC), 2));
	assert_non_null(record(blob, CODE(PCI_IRQ), 0));
	assert_non_null(record(blob, CODE(ISA_IRQ), 0));
	assert_non_null(record(blob, CODE(PCI_LINK), 0));
	for (uint16_t i = 0; i < 3; i++) {
		mtrr = *(struct hvm_hw_mtrr *)record(blob, CODE(MTRR), i);
		assert_int_equal(mtrr.msr_mtrr_cap, 0x508);
		mtrr.msr_mtrr_def_type |= 0x806;
		blob_size = save(target, blob);
		blob_partial(CODE(MTRR), i, &mtrr, sizeof(mtrr));
		assert_int_equal(blob_size, 0x120);
		assert_int_equal(hvm_context_load(target, blob, blob_size), 0);
		assert_int_equal(target->vcpus[i]->msr.mtrr_def, 0x806);
		blob_size = save(target, blob);
	}
	memset(&c, 0, sizeof(c));
	c.cs_limit = c.ds_limit = c.es_limit = c.ss_limit = UINT32_MAX;
	c.tr_limit = 0x67;
	c.cs_arbytes = 0xc9b;
	c.ds_arbytes = c.es_arbytes = c.ss_arbytes = 0xc093;	/* the older way */
	c.tr_arbytes = 0x8b;
	c.cr0 = 0x11;
	c.rip = 0x1000200;
	c.rbx = 0x4a00000;
	c.dr6 = DR6_RESET;
	c.dr7 = DR7_RESET;
	blob_partial(CODE(CPU), 0, &c, sizeof(c));
	assert_int_equal(blob_size, 0x438);
	test_advance_ns(12345);
	assert_int_equal(hvm_context_load(target, blob, blob_size), 0);
	assert_true(v->initialised);
	assert_int_equal(atomic_load(&v->pause_flags), PAUSE_DOMAIN);
	assert_int_equal(atomic_load(&target->vcpus[1]->pause_flags), PAUSE_DOMAIN | PAUSE_DOWN);
	assert_int_equal(v->regs.rip, 0x1000200);
	assert_int_equal(v->regs.rflags, RFLAGS_RESET);
	assert_int_equal(test_vcpu(v)->sys.seg[SEG_DS].attr, 0xc93);
	assert_int_equal(test_vcpu(v)->sys.pat, PAT_RESET);
	assert_int_equal(v->msr.xcr0, 1);
	/* Its TSC begins now, and the others' with it. */
	assert_int_equal(v->tsc_offset, 0 - port_tsc());
	assert_int_equal(target->vcpus[2]->tsc_offset, v->tsc_offset);
	assert_int_equal(v->info->time.tsc_timestamp, target->vcpus[2]->info->time.tsc_timestamp);
	/* One that waits for a start-up IPI still gets it. */
	vcpu_sipi(target->vcpus[1], 0x9a);
	assert_int_equal(atomic_load(&target->vcpus[1]->pause_flags), PAUSE_DOMAIN);
	/* Which is obeyed before its state is saved. */
	blob_size = save(target, blob);
	assert_int_equal(((struct hvm_hw_cpu *)record(blob, CODE(CPU), 1))->cs_base, 0x9a000);
}

/* One change each to a good blob of all records. */
static void test_bad_blobs(void **state)
{
	struct hvm_hw_cpu_xsave *xsave;
	struct hvm_save_header *header;
	struct hvm_hw_lapic *lapic;
	struct hvm_vmce_vcpu *vmce;
	struct hvm_hw_mtrr *mtrr;
	struct hvm_hw_cpu *c;
	struct hvm_msr *msr;

	for (unsigned int i = 0; i < 3; i++) {
		randomise(target->vcpus[i]);
		randomise_lapic(target->vcpus[i], i);
		target->vcpus[i]->msr.xcr0 = 7;
		target->vcpus[i]->msr.mc_ctl[0] = 1;
	}
	blob_size = save(target, blob);
#define BAD(rc, ...)								\
	do {									\
		size_t full = save(target, blob);				\
										\
		blob_size = full;						\
		header = record(blob, CODE(HEADER), 0);				\
		c = record(blob, CODE(CPU), 1);					\
		lapic = record(blob, CODE(LAPIC), 1);				\
		mtrr = record(blob, CODE(MTRR), 1);				\
		xsave = record(blob, CPU_XSAVE_CODE, 1);			\
		vmce = record(blob, CODE(VMCE_VCPU), 1);			\
		msr = record(blob, CPU_MSR_CODE, 1);				\
		assert_true(header && c && lapic && mtrr && xsave && vmce && msr); \
		__VA_ARGS__;							\
		assert_refused(target, rc);					\
	} while (0)
	BAD(-XEN_EINVAL, header->magic++);
	BAD(-XEN_EINVAL, header->version++);
	BAD(-XEN_ENODATA, descriptor(header)->typecode = CODE(CPU));
	BAD(-XEN_ENODATA, descriptor(header)->typecode = CODE(END));
	BAD(-XEN_EINVAL, descriptor(header)->length--);
	BAD(-XEN_ENODATA, blob_size = 0);
	BAD(-XEN_ENODATA, blob_size = 7);
	BAD(-XEN_ENODATA, blob_size = 8);
	BAD(-XEN_ENODATA, blob_size -= 8);	/* no end */
	BAD(-XEN_ENODATA, blob_size -= 9);	/* in the middle of a record */
	BAD(-XEN_ENODATA, descriptor(msr)->length = UINT32_MAX);
	BAD(-XEN_EINVAL, descriptor(c)->instance = 3);
	BAD(-XEN_EINVAL, descriptor(c)->instance = UINT16_MAX);
	BAD(-XEN_EINVAL, descriptor(c)->typecode = 3);
	BAD(-XEN_EINVAL, descriptor(c)->typecode = 21);
	BAD(-XEN_EINVAL, descriptor(c)->length = 1040);
	BAD(-XEN_EINVAL, descriptor(mtrr)->length = 232);
	BAD(-XEN_EINVAL, c->cr0 &= ~0x10ULL);
	BAD(-XEN_EINVAL, c->cr0 &= ~1ULL);
	BAD(-XEN_EINVAL, c->cr4 |= 1u << 31);
	BAD(-XEN_EINVAL, c->msr_efer |= 1u << 12);
	BAD(-XEN_EINVAL, c->cr3 |= 1ULL << target->policy->maxphysaddr);
	BAD(-XEN_EINVAL, c->pad0 = 1);
	BAD(-XEN_EINVAL, c->flags |= 2);
	BAD(-XEN_EINVAL, c->fpu_regs[26] = 1);
	BAD(-XEN_EINVAL, c->msr_tsc_aux |= 1ULL << 32);
	BAD(-XEN_EINVAL, lapic->apic_base_msr ^= 1ULL << 12);
	BAD(-XEN_EINVAL, lapic->apic_base_msr ^= 1ULL << 8);
	BAD(-XEN_EINVAL, lapic->apic_base_msr = APIC_DEFAULT_BASE | APIC_BASE_EXTD);
	BAD(-XEN_EINVAL, mtrr->msr_pat_cr = 2, mtrr->msr_mtrr_cap = 9);
	BAD(-XEN_EINVAL, mtrr->msr_mtrr_def_type = 2);
	BAD(-XEN_EINVAL, mtrr->msr_mtrr_fixed[10] = 2);
	BAD(-XEN_EINVAL, mtrr->msr_mtrr_var[15] = 1);
	BAD(-XEN_EINVAL, xsave->xcr0 = 5);
	BAD(-XEN_EINVAL, xsave->xcr0 = 0x207);
	BAD(-XEN_EINVAL, xsave->save_area.xsave_hdr.xstate_bv |= 0x20);
	BAD(-XEN_EINVAL, xsave->save_area.xsave_hdr.xcomp_bv = 1ULL << 63);
	BAD(-XEN_EINVAL, xsave->save_area.xsave_hdr.reserved[5] = 1);
	BAD(-XEN_EINVAL, xsave->save_area.fpu_sse.x[27] = 1);
	BAD(-XEN_EPERM, vmce->caps = 1 << 24);
	BAD(-XEN_EINVAL, msr->count++);
	BAD(-XEN_EINVAL, msr->count = UINT32_MAX);
	BAD(-XEN_ENXIO, msr->msr[0].index = 0x10);
	BAD(-XEN_ENXIO, msr->msr[0].index = 0xc0000103);
	BAD(-XEN_EOPNOTSUPP, msr->msr[0]._rsvd = 1);
#undef BAD
	/* Not even the scratch page can be had. */
	blob_size = save(target, blob);
	page_fail_after = 1;
	assert_int_equal(hvm_context_load(target, blob, blob_size), -XEN_ENOMEM);
	page_fail_after = 0;
}

/* What is shorter than we know it goes on with zeros; what is longer may have them. */
static void test_lengths(void **state)
{
	struct vcpu *v = target->vcpus[0];
	static uint8_t body[4200];
	struct hvm_hw_cpu_xsave *x = (void *)body;
	size_t len = sizeof(*x) + TEST_XSTATE_SIZE - 576;
	struct hvm_hw_cpu c = { .cr0 = 0x11, .msr_tsc_aux = 5, .tsc = 1234 };

	v->msr.tsc_aux = 77;
	blob_partial(CODE(CPU), 0, &c, offsetof(struct hvm_hw_cpu, msr_tsc_aux));
	assert_int_equal(hvm_context_load(target, blob, blob_size), 0);
	assert_int_equal(v->msr.tsc_aux, 0);
	assert_int_equal(v->tsc_offset, 0 - port_tsc());
	x->xcr0 = 7;
	x->save_area.xsave_hdr.xstate_bv = 4;
	body[24 + 600] = 0xab;
	blob_partial(CPU_XSAVE_CODE, 0, body, len + 64);
	assert_int_equal(hvm_context_load(target, blob, blob_size), 0);
	assert_int_equal(v->msr.xcr0, 7);
	assert_int_equal(test_vcpu(v)->xsave[600], 0xab);
	body[len + 10] = 1;
	blob_partial(CPU_XSAVE_CODE, 0, body, len + 64);
	assert_refused(target, -XEN_EOPNOTSUPP);
	blob_partial(CPU_XSAVE_CODE, 0, body, 16);	/* not even where the area would be */
	assert_refused(target, -XEN_EINVAL);
	blob_partial(CPU_XSAVE_CODE, 0, body, 599);
	assert_refused(target, -XEN_EINVAL);
	blob_partial(CPU_XSAVE_CODE, 0, body, sizeof(body));
	assert_refused(target, -XEN_EINVAL);
	blob_partial(CPU_MSR_CODE, 0, body, 7);
	assert_refused(target, -XEN_EINVAL);
}

/* --- The toolstack's calls ---------------------------------------------------------- */

static int64_t get_context(uint32_t size, bool with_buffer, uint32_t *got)
{
	struct xen_domctl op = { .u.hvmcontext.size = size };
	int64_t rc;

	if (with_buffer)
		HANDLE(op.u.hvmcontext.buffer, 0);
	rc = domctl(XEN_DOMCTL_gethvmcontext, 2, &op);
	*got = op.u.hvmcontext.size;
	return rc;
}

static int64_t set_context(uint32_t size)
{
	struct xen_domctl op = { .u.hvmcontext.size = size };

	HANDLE(op.u.hvmcontext.buffer, 0);
	memcpy(tool_buf(0), blob, MIN(size, MAX_BLOB));
	return domctl(XEN_DOMCTL_sethvmcontext, 2, &op);
}

static void test_calls(void **state)
{
	struct xen_domctl op = { 0 };
	uint32_t size, len;

	randomise(target->vcpus[1]);
	assert_int_equal(get_context(0, false, &size), 0);
	assert_int_equal(size, hvm_context_max(target));
	assert_int_equal(get_context(size - 1, true, &len), -XEN_ENOSPC);
	assert_int_equal(get_context(size, true, &len), 0);
	assert_int_equal(len, save(target, blob));
	assert_memory_equal(tool_buf(0), blob, len);
	assert_int_equal(target->pause_count, 1);
	assert_int_equal(set_context(len), 0);
	assert_int_equal(target->pause_count, 1);
	assert_int_equal(set_context(len - 8), -XEN_ENODATA);
	assert_int_equal(set_context(7), -XEN_ENODATA);
	assert_int_equal(set_context(2u << 20), -XEN_ENOMEM);
	((struct hvm_hw_cpu *)record(blob, CODE(CPU), 1))->cr0 = 0;
	assert_int_equal(set_context(len), -XEN_EINVAL);
	/* The n-th allocation fails, or the memory is not there: all is as before. */
	save(target, again);
	for (unsigned int n = 1; n <= 2; n++) {
		page_fail_after = n;
		assert_int_equal(set_context(len), -XEN_ENOMEM);
		page_fail_after = 0;
	}
	page_fail_after = 1;
	assert_int_equal(get_context(size, true, &size), -XEN_ENOMEM);
	page_fail_after = 0;
	op.u.hvmcontext.size = len;
	HANDLE_BAD(op.u.hvmcontext.buffer);
	assert_int_equal(domctl(XEN_DOMCTL_sethvmcontext, 2, &op), -XEN_EFAULT);
	op.u.hvmcontext.size = size;
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext, 2, &op), -XEN_EFAULT);
	save(target, blob);
	assert_memory_equal(blob, again, len);
	/* Not one's own, nor one that is going. */
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext, 1, &op), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_sethvmcontext, 1, &op), -XEN_EINVAL);
	domain_destroy(target);
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext, 2, &op), -XEN_EINVAL);
	assert_int_equal(domctl(XEN_DOMCTL_sethvmcontext, 2, &op), -XEN_EINVAL);
	op.u.hvmcontext_partial = (struct xen_domctl_hvmcontext_partial){ .type = CODE(MTRR) };
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext_partial, 2, &op), -XEN_EINVAL);
}

static int64_t get_partial(uint32_t type, uint32_t instance, uint64_t *size)
{
	struct xen_domctl op = { .u.hvmcontext_partial = {
		.type = type, .instance = instance, .bufsz = *size } };
	int64_t rc;

	if (*size)
		HANDLE(op.u.hvmcontext_partial.buffer, 0);
	rc = domctl(XEN_DOMCTL_gethvmcontext_partial, 2, &op);
	*size = op.u.hvmcontext_partial.bufsz;
	return rc;
}

static void test_partial(void **state)
{
	struct xen_domctl op = { .u.hvmcontext_partial = { .type = CODE(MTRR), .bufsz = 4096 } };
	uint64_t size = 0;

	randomise(target->vcpus[1]);
	save(target, blob);
	assert_int_equal(get_partial(CODE(CPU), 1, &size), 0);
	assert_int_equal(size, sizeof(struct hvm_hw_cpu));
	size = 4096;
	assert_int_equal(get_partial(CODE(CPU), 1, &size), 0);
	assert_int_equal(size, sizeof(struct hvm_hw_cpu));
	assert_memory_equal(tool_buf(0), record(blob, CODE(CPU), 1), size);
	size = 100;
	assert_int_equal(get_partial(CODE(CPU), 1, &size), -XEN_ENOBUFS);
	assert_int_equal(size, 100);
	assert_int_equal(get_partial(CODE(CPU), 0, &size), -XEN_ENOENT);	/* is down */
	assert_int_equal(get_partial(CODE(CPU), 3, &size), -XEN_ENOENT);
	assert_int_equal(get_partial(CODE(PCI_IRQ), 1, &size), -XEN_ENOENT);
	assert_int_equal(get_partial(CODE(PCI_IRQ), 0, &size), 0);
	assert_int_equal(size, 16);
	assert_int_equal(get_partial(CODE(HEADER), 0, &size), -XEN_EINVAL);
	assert_int_equal(get_partial(CODE(END), 0, &size), -XEN_EINVAL);
	assert_int_equal(get_partial(3, 0, &size), -XEN_EINVAL);
	assert_int_equal(get_partial(1000, 0, &size), -XEN_EINVAL);
	page_fail_after = 1;
	assert_int_equal(get_partial(CODE(MTRR), 0, &size), -XEN_ENOMEM);
	page_fail_after = 0;
	HANDLE_BAD(op.u.hvmcontext_partial.buffer);
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext_partial, 2, &op), -XEN_EFAULT);
	assert_int_equal(domctl(XEN_DOMCTL_gethvmcontext_partial, 1, &op), -XEN_EINVAL);
}

static int64_t vcpu_context(uint32_t cmd, uint32_t vcpu)
{
	struct xen_domctl op = { .u.vcpucontext.vcpu = vcpu };

	HANDLE(op.u.vcpucontext.ctxt, 0);
	return domctl(cmd, 2, &op);
}

/* A suspend that is called off: the toolstack sets RAX of the first vCPU, and all else stays. */
static void test_resume(void **state)
{
	struct xen_domctl op = { .u.vcpucontext.vcpu = 1 };
	struct vcpu_guest_context *c = tool_buf(0);
	struct vcpu *t = target->vcpus[1];
	size_t len;

	randomise(t);
	test_vcpu(t)->sys.dr6 = DR6_RESET;
	len = save(target, blob);
	assert_int_equal(vcpu_context(XEN_DOMCTL_getvcpucontext, 1), 0);
	assert_int_equal(c->user_regs.rip, t->regs.rip);
	assert_int_equal(c->user_regs.r15, t->regs.gpr[GPR_R15]);
	assert_int_equal(c->user_regs.ss, test_vcpu(t)->sys.seg[SEG_SS].sel);
	assert_int_equal(c->ctrlreg[3], test_vcpu(t)->sys.cr3);
	assert_int_equal(c->debugreg[7], test_vcpu(t)->sys.dr7);
	assert_true(c->flags & VGCF_online);
	c->user_regs.rax = 1;
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 1), 0);
	((struct hvm_hw_cpu *)record(blob, CODE(CPU), 1))->rax = 1;
	assert_int_equal(save(target, again), len);
	assert_memory_equal(again, blob, len);
	assert_int_equal(atomic_load(&t->pause_flags), PAUSE_DOMAIN);
	/* What it can change. */
	c->debugreg[0] = 0x1000;
	c->fpu_ctxt.x[100] = 0x55;
	c->flags &= ~(unsigned long)VGCF_online;
	c->user_regs.rflags = ~0UL;
	c->ctrlreg[3] = 0;
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 1), 0);
	assert_int_equal(test_vcpu(t)->sys.dr[0], 0x1000);
	assert_int_equal(test_vcpu(t)->xsave[100], 0x55);
	assert_int_equal(t->regs.rflags, 0x3f7fd7);
	assert_true(test_vcpu(t)->sys.cr3 != 0);
	assert_true(atomic_load(&t->pause_flags) & PAUSE_DOWN);
	c->flags |= VGCF_online;
	c->fpu_ctxt.x[27] = 1;
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 1), -XEN_EINVAL);
	c->flags &= ~(unsigned long)VGCF_i387_valid;
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 1), 0);
	assert_false(atomic_load(&t->pause_flags) & PAUSE_DOWN);

	assert_int_equal(vcpu_context(XEN_DOMCTL_getvcpucontext, 3), -XEN_EINVAL);
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 3), -XEN_EINVAL);
	assert_int_equal(vcpu_context(XEN_DOMCTL_getvcpucontext, 0), -XEN_ENODATA);
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 0), -XEN_EINVAL);
	page_fail_after = 1;
	assert_int_equal(vcpu_context(XEN_DOMCTL_getvcpucontext, 1), -XEN_ENOMEM);
	page_fail_after = 1;
	assert_int_equal(vcpu_context(XEN_DOMCTL_setvcpucontext, 1), -XEN_ENOMEM);
	page_fail_after = 0;
	HANDLE_BAD(op.u.vcpucontext.ctxt);
	assert_int_equal(domctl(XEN_DOMCTL_getvcpucontext, 2, &op), -XEN_EFAULT);
	assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 2, &op), -XEN_EFAULT);
	assert_int_equal(domctl(XEN_DOMCTL_getvcpucontext, 1, &op), -XEN_EINVAL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_round_trip), T(test_builder), T(test_bad_blobs), T(test_lengths),
		T(test_calls), T(test_partial), T(test_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
