/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the grant table hypercalls: each 48 byte record of the input is one
 * call with its element, or a write of the domain to its own table.
 */
#include "../unit/fake_core.h"
#include "../unit/gnttab_calls.h"
#include "../../hv/core/gnttab_private.h"

#define RECORD 48u
#define ROUNDS 512u
#define RAM 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hypercall_fn *const handlers[] = {
	gnttabop_map, gnttabop_unmap, gnttabop_copy, gnttabop_swap, gnttabop_query_size,
	gnttabop_set_version, gnttabop_get_version, gnttabop_setup_table,
};

/* An entry of the first or the status frame, as the guest likes. */
static void scribble(struct domain *d, const uint8_t *rec)
{
	uint64_t nr = rec[2] % 4, idx = nr ? nr - 1 : 0x80000000u;
	mfn_t mfn;

	if (gnttab_get_frame(d, idx, &mfn))
		return;
	memcpy((uint8_t *)mfn_to_virt(mfn) + rec[3] % 64 * 16, rec + 8, 16);
}

static void one(const uint8_t *rec)
{
	struct domain *d = &fake.dom[rec[0] % FAKE_DOMAINS];
	unsigned int op = rec[1] % (ARRAY_SIZE(handlers) + 4);
	uint64_t list[8], arg[5];
	struct gnttab_map_grant_ref *map = (void *)arg;
	struct gnttab_unmap_grant_ref *unmap = (void *)arg;

	memcpy(arg, rec + 8, sizeof(arg));
	/* Frames and grants that exist, mostly. */
	if (rec[2] & 1 && handlers[op % 8] == gnttabop_map) {
		map->host_addr = (map->host_addr % FAKE_GFNS) << PAGE_SHIFT;
		map->flags = GNTMAP_host_map | (map->flags & GNTMAP_readonly);
		map->dom %= FAKE_DOMAINS + 1;
		map->ref %= 64;
	} else if (rec[2] & 1 && handlers[op % 8] == gnttabop_unmap) {
		unmap->host_addr = (unmap->host_addr % FAKE_GFNS) << PAGE_SHIFT;
		unmap->handle %= 8;
	}
	if (handlers[op % 8] == gnttabop_setup_table) {
		((struct gnttab_setup_table *)(void *)arg)->frame_list.p = list;
		((struct gnttab_setup_table *)(void *)arg)->nr_frames %= ARRAY_SIZE(list);
	}
	if (op < ARRAY_SIZE(handlers))
		(void)fake_call(d->vcpus[0], handlers[op], arg, rec[3] == 255 ? UINT32_MAX : 1);
	else
		scribble(d, rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fake_core_init();
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		CHECK(!gnttab_init(&fake.dom[i], 4, 1, i == 2 ? 1 : 2));
		for (uint64_t gfn = 0; gfn < RAM; gfn++)
			fake_ram(&fake.dom[i], gfn, gfn % 8 ? P2M_RAM : P2M_RAM_RO);
	}
	fake.dom[0].privileged = true;
	for (unsigned int n = 0; n < ROUNDS && size >= RECORD; n++, data += RECORD, size -= RECORD)
		one(data);
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		while (!gnttab_release_step(&fake.dom[i]))
			;
	}
	for (unsigned int i = 0; i < FAKE_DOMAINS; i++) {
		CHECK(fake.dom[i].grants->nr_active == 0);
		gnttab_destroy(&fake.dom[i]);
	}
	fake_core_fini();
	return 0;
}
