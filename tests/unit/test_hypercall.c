/* SPDX-License-Identifier: MIT */
/*
 * Tests of hypercall dispatch: registers, privilege, continuation, multicall,
 * the page of stubs, and the errno every operation has for bad input.
 */
#include "unit.h"

#include "real_domain.h"

#define PTR 0x2000u

static struct domain *d;
static struct vcpu *v;

static int setup(void **state)
{
	(void)state;
	machine_new(4096, 1);
	d = guest_new(1, 2, false);
	v = d->vcpus[0];
	assert_ptr_equal(guest_run(v), v);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_true(guest_end(d));
	test_machine_fini();
	return 0;
}

/* --- The tables ----------------------------------------------------------- */

static const struct row {
	uint64_t call, nr, size, flags;
	const char *name;
	unsigned int op_arg, op_bits, ptr_arg;
} rows[] = {
#define OP(call, number, opname, handler, bytes, hc_flags) \
	{ .name = #opname, .nr = number, .size = bytes, .flags = hc_flags },
#define CALL(number, callname, arg, bits, ptr) \
	{ .call = number, .op_arg = arg, .op_bits = bits, .ptr_arg = ptr },
#define NONE 5
#include "hospes/hypercalls.def"
};

/* The call that row @i is an operation of. */
static const struct row *call_of(size_t i)
{
	while (!rows[i].call)
		i--;
	return &rows[i];
}

static bool listed(uint64_t call, uint64_t op)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!rows[i].call && call_of(i)->call == call &&
		    (rows[i].nr == op || !call_of(i)->op_bits))
			return true;
	}
	return false;
}

static void unknown_is_enosys(void **state)
{
	static const uint64_t odd[] = { 64, 81, 100, 128 + 17, 1ULL << 32 | 17, 1ULL << 63, ~0ULL };

	(void)state;
	for (uint64_t nr = 0; nr < 64; nr++) {
		for (uint64_t op = 0; op < 64; op++) {
			if (!listed(nr, op))
				assert_int_equal(hcall(v, nr, op, PTR, PTR), -XEN_ENOSYS);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		assert_int_equal(hcall(v, odd[i], 0, 0, 0), -XEN_ENOSYS);
	/* Operations are 32 bits wide, all of them. */
	assert_int_equal(hcall(v, 17, 0x100, 0, 0), -XEN_ENOSYS);
	assert_int_equal(hcall(v, 17, 0x80000000, 0, 0), -XEN_ENOSYS);
	assert_int_equal(hcall(v, 17, 1ULL << 32, 0, 0), 4 << 16 | 17);
}

static void bad_pointers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i], *c = call_of(i);
		struct hypercall hc = { .nr = c->call };
		int64_t want = r->flags & HC_PRIV ? -XEN_EPERM :
			       r->flags & HC_COUNT ? 0 : -XEN_EFAULT;

		if (r->call || !r->size)
			continue;
		hc.arg[c->op_arg] = r->nr;
		hc.arg[c->ptr_arg] = GUEST_BAD;
		assert_int_equal(hypercall_dispatch(v, &hc), want);
		hc.arg[c->ptr_arg] = ~0ULL - 3;
		assert_int_equal(hypercall_dispatch(v, &hc), want);
		/* A struct that only begins in memory is as bad. */
		hc.arg[c->ptr_arg] = GUEST_PAGES * PAGE_SIZE - 1;
		assert_int_equal(hypercall_dispatch(v, &hc), want);
	}
}

static void unknown_vcpus(void **state)
{
	(void)state;
	for (uint64_t op = 0; op <= 13; op++) {
		assert_int_equal(hcall(v, 24, op, 2, GUEST_BAD), -XEN_ENOENT);
		assert_int_equal(hcall(v, 24, op, ~0u, GUEST_BAD), -XEN_ENOENT);
	}
	/* The id is 32 bits wide. */
	assert_int_equal(hcall(v, 24, VCPUOP_is_up, 1ULL << 32, 0), 1);
}

/* Known answers of a domain that may do nothing special. */
static void known_answers(void **state)
{
	static const struct { uint64_t nr, a0, a1, a2; int64_t rc; } answers[] = {
		{ 17, 0, 0, 0, 4 << 16 | 17 },
		{ 17, 7, 0, 0, 4096 }, { 17, 7, 8, 0, -XEN_EINVAL },
		{ 17, 1, GUEST_BAD, 0, -XEN_EFAULT }, { 17, 2, GUEST_BAD, 0, -XEN_EFAULT },
		{ 17, 3, GUEST_BAD, 0, -XEN_EFAULT }, { 17, 4, GUEST_BAD, 0, -XEN_EFAULT },
		{ 17, 5, GUEST_BAD, 0, -XEN_EFAULT }, { 17, 8, GUEST_BAD, 0, -XEN_EFAULT },
		{ 17, 9, GUEST_BAD, 0, -XEN_EFAULT }, { 17, 10, 0, 0, -XEN_EPERM },
		{ 17, 11, 0, 0, -XEN_ENOSYS },
		{ 18, 0, 1, PTR, -XEN_EPERM }, { 18, 1, 1, PTR, -XEN_EPERM },
		{ 18, 2, 1, PTR, -XEN_ENOSYS },
		{ 21, 0, 5, 0, 0 }, { 21, 1, 5, 0, 0 }, { 21, 0, 4, 0, -XEN_EINVAL },
		{ 21, 0, 32, 0, -XEN_EINVAL }, { 21, 2, 5, 0, -XEN_ENOSYS },
		{ 24, 3, 0, 0, 1 }, { 24, 3, 1, 0, 0 }, { 24, 1, 1, 0, -XEN_EINVAL },
		{ 24, 7, 0, 0, 0 }, { 24, 7, 1, 0, 0 }, { 24, 9, 0, 0, 0 },
		{ 24, 9, 1, 0, -XEN_EINVAL }, { 24, 11, 0, 8, -XEN_EINVAL },
		{ 24, 12, 0, PTR, -XEN_EINVAL },
		{ 29, 0, 0, 0, 0 }, { 29, 4, PTR, 0, -XEN_EPERM }, { 29, 7, PTR, 0, -XEN_EPERM },
		{ 34, 5, 0, 0, 0 }, { 34, 5, 1, 0, -XEN_EINVAL },
		{ 40, 0, 0, 0, -XEN_EOPNOTSUPP }, { 40, 4, PTR, 0, -XEN_EOPNOTSUPP },
		{ 20, 3, PTR, 1, -XEN_ENOSYS }, { 20, 4, PTR, 1, -XEN_ENOSYS },
		{ 20, 9, PTR, 1, -XEN_ENOSYS }, { 20, 12, PTR, 1, -XEN_ENOSYS },
		{ 20, 6, PTR, 0, -XEN_EINVAL }, { 20, 1, PTR, 0, 0 },
		{ 12, 10, PTR, 0, -XEN_ENOSYS }, { 12, 11, PTR, 0, -XEN_ENOSYS },
		{ 12, 1, GUEST_BAD, 0, 0 }, { 12, 6, GUEST_BAD, 0, 0 },
		{ 32, 14, PTR, 0, -XEN_ENOSYS }, { 34, 24, PTR, 0, -XEN_ENOSYS },
		{ 13, GUEST_BAD, 1, 0, -XEN_EFAULT }, { 13, GUEST_BAD, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		int64_t rc = hcall(v, answers[i].nr, answers[i].a0, answers[i].a1, answers[i].a2);

		if (rc != answers[i].rc)
			fail_msg("call %lu op %lu (row %zu): %ld, not %ld", answers[i].nr,
				 answers[i].a0, i, rc, answers[i].rc);
	}
}

/* --- The exit ------------------------------------------------------------- */

static void long_mode(void)
{
	struct guest_system *s = &test_vcpu(v)->sys;
	uint64_t *pml4 = guest_mem(d, 0x10000), *pdpt = guest_mem(d, 0x11000);

	pml4[0] = 0x11000 | 0x67;
	pdpt[0] = 0 | 0xe7;		/* the first GiB */
	s->cr0 = 0x80010011;
	s->cr3 = 0x10000;
	s->cr4 = 0x20;
	s->efer = 0xd00;
	s->seg[SEG_CS].attr = 0xa9b;
}

static int64_t vmmcall(uint64_t nr, uint64_t a0, uint64_t a1)
{
	v->regs.gpr[GPR_RAX] = nr;
	v->regs.gpr[GPR_RDI] = a0;
	v->regs.gpr[GPR_RSI] = a1;
	assert_true(hypercall_exit(v));
	return (int64_t)v->regs.gpr[GPR_RAX];
}

static void exit_registers(void **state)
{
	const struct guest_regs before = {
		.gpr = { 17, 1, 7, 3, 4, 5, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
		.rip = 0x1234, .rflags = 2,
	};
	struct guest_regs after = before;

	(void)state;
	long_mode();
	v->regs = before;
	v->regs.gpr[GPR_RDI] = 0;
	after.gpr[GPR_RDI] = 0;
	after.gpr[GPR_RAX] = 4 << 16 | 17;
	assert_true(hypercall_exit(v));
	assert_memory_equal(&v->regs, &after, sizeof(after));
	assert_int_equal(vmmcall(63, 0, 0), -XEN_ENOSYS);
}

static void exit_modes(void **state)
{
	struct guest_system *s = &test_vcpu(v)->sys;

	(void)state;
	long_mode();
	for (s->cpl = 1; s->cpl <= 3; s->cpl++)
		assert_int_equal(vmmcall(17, 0, 0), -XEN_EPERM);
	s->cpl = 0;
	assert_int_equal(vmmcall(17, 0, 0), 4 << 16 | 17);
	s->seg[SEG_CS].attr = 0xc9b;	/* compatibility mode */
	assert_int_equal(vmmcall(17, 0, 0), -XEN_ENOSYS);
	s->cpl = 3;
	assert_int_equal(vmmcall(17, 0, 0), -XEN_EPERM);
}

/* --- Continuation and multicall ------------------------------------------- */

static struct multicall_entry *entries(void)
{
	return guest_mem(d, PTR);
}

static void multicall_runs_all(void **state)
{
	struct multicall_entry *e = entries();

	(void)state;
	e[0] = (struct multicall_entry){ .op = 17, .args = { 0 } };
	e[1] = (struct multicall_entry){ .op = 13, .args = { PTR, 1 } };
	e[2] = (struct multicall_entry){ .op = 63 };
	e[3] = (struct multicall_entry){ .op = 17, .args = { 7 }, .result = 1 };
	e[4] = (struct multicall_entry){ .op = 17, .result = 99 };
	assert_int_equal(hcall(v, 13, PTR, 4, 0), 0);
	assert_int_equal(e[0].result, 4 << 16 | 17);
	assert_int_equal((int64_t)e[1].result, -XEN_EINVAL);
	assert_int_equal((int64_t)e[2].result, -XEN_ENOSYS);
	assert_int_equal(e[3].result, 4096);
	assert_int_equal(e[4].result, 99);
	/* The array runs out of memory: what came before has happened. */
	e = guest_mem(d, GUEST_PAGES * PAGE_SIZE - sizeof(*e));
	*e = (struct multicall_entry){ .op = 17 };
	assert_int_equal(hcall(v, 13, GUEST_PAGES * PAGE_SIZE - sizeof(*e), 2, 0), -XEN_EFAULT);
	assert_int_equal(e->result, 4 << 16 | 17);
}

static void multicall_stops_between(void **state)
{
	struct hypercall hc = { .nr = 13, .arg = { PTR, 3 } };
	struct multicall_entry *e = entries();

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		e[i] = (struct multicall_entry){ .op = 17, .args = { 7 } };
	atomic_store(&port_this_pcpu()->softirqs, 1);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(hypercall_dispatch(v, &hc), HC_CONTINUE);
		assert_int_equal(hc.arg[0], PTR + (i + 1) * sizeof(*e));
		assert_int_equal(hc.arg[1], 2 - i);
		assert_int_equal(e[i].result, 4096);
		assert_int_equal(e[i + 1].result, 0);
	}
	assert_int_equal(hypercall_dispatch(v, &hc), 0);
	assert_int_equal(e[2].result, 4096);
}

/* decrease_reservation of @nr pages from @first on; the list lies at PTR + 0x800. */
static void reservation(gpa_t at, uint64_t first, uint64_t nr)
{
	struct xen_memory_reservation *r = guest_mem(d, at);
	uint64_t *list = guest_mem(d, PTR + 0x800);

	memset(r, 0, sizeof(*r));
	set_xen_guest_handle(r->extent_start, (xen_pfn_t *)(uintptr_t)(PTR + 0x800));
	r->nr_extents = nr;
	r->domid = DOMID_SELF;
	for (uint64_t i = 0; i < nr; i++)
		list[i] = first + i;
}

static void continues_through_registers(void **state)
{
	unsigned int rounds = 0;

	(void)state;
	long_mode();
	reservation(PTR, 300, 10);
	v->regs.rip = 0x500;
	v->regs.gpr[GPR_RAX] = 12;
	v->regs.gpr[GPR_RDI] = XENMEM_decrease_reservation;
	v->regs.gpr[GPR_RSI] = PTR;
	atomic_store(&port_this_pcpu()->softirqs, 1);
	while (!hypercall_exit(v)) {
		rounds++;
		assert_int_equal(v->regs.gpr[GPR_RAX], 12);
		assert_int_equal(v->regs.gpr[GPR_RDI] & 63, XENMEM_decrease_reservation);
		assert_true(v->regs.gpr[GPR_RDI] >> 6 >= rounds);
	}
	assert_true(rounds > 0 && rounds < 10);
	assert_int_equal(v->regs.gpr[GPR_RAX], 10);
	assert_int_equal(v->regs.rip, 0x500);
}

static void continues_inside_multicall(void **state)
{
	struct hypercall hc = { .nr = 13, .arg = { PTR, 2 } };
	struct multicall_entry *e = entries();
	unsigned int rounds = 0;
	int64_t rc;

	(void)state;
	e[0] = (struct multicall_entry){
		.op = 12, .args = { XENMEM_decrease_reservation, PTR + 0x400 } };
	e[1] = (struct multicall_entry){ .op = 17, .args = { 7 } };
	reservation(PTR + 0x400, 300, 10);
	atomic_store(&port_this_pcpu()->softirqs, 1);
	while ((rc = hypercall_dispatch(v, &hc)) == HC_CONTINUE) {
		assert_true(++rounds < 12);
		assert_int_equal(e[0].op, 12);
	}
	assert_int_equal(rc, 0);
	assert_true(rounds > 1);
	assert_int_equal(e[0].result, 10);
	assert_int_equal(e[1].result, 4096);
}

static void preempts_on_time(void **state)
{
	(void)state;
	assert_int_equal(hcall(v, 13, PTR, 0, 0), 0);	/* begins to count */
	assert_false(hypercall_preempt(v));
	test_advance_ns(1000000);
	assert_true(hypercall_preempt(v));
	assert_int_equal(hcall(v, 13, PTR, 0, 0), 0);
	assert_false(hypercall_preempt(v));
	atomic_store(&port_this_pcpu()->softirqs, 1);
	assert_true(hypercall_preempt(v));
}

/* --- The page of stubs ---------------------------------------------------- */

static void page_of_stubs(void **state)
{
	const uint8_t *page = guest_mem(d, 0x30000);

	(void)state;
	assert_int_equal(hypercall_page_write(d, 0x30000), 0);
	for (uint32_t nr = 0; nr < 128; nr++) {
		const uint8_t want[] = { 0xb8, (uint8_t)nr, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3 };

		if (nr == 23)
			assert_memory_equal(page + nr * 32, "\x0f\x0b", 2);
		else
			assert_memory_equal(page + nr * 32, want, sizeof(want));
	}
	assert_int_equal(hypercall_page_write(d, 0x30001), -XEN_EINVAL);
	assert_int_equal(hypercall_page_write(d, 0x30800), -XEN_EINVAL);
	assert_int_equal(hypercall_page_write(d, GUEST_BAD), -XEN_EINVAL);
	assert_int_equal(hypercall_page_write(d, 0xfffffffffffff000ULL), -XEN_EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(unknown_is_enosys), T(bad_pointers), T(unknown_vcpus), T(known_answers),
		T(exit_registers), T(exit_modes), T(multicall_runs_all),
		T(multicall_stops_between), T(continues_through_registers),
		T(continues_inside_multicall), T(preempts_on_time), T(page_of_stubs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
