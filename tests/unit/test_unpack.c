/* SPDX-License-Identifier: MIT */
/*
 * The unpacker's decoders against the output of the xz and lz4 tools, whole and damaged, and the
 * placing of ELF kernels.
 */
#include "unit.h"

#include <unistd.h>

#include "hospes/lib.h"
#include "elf_maker.h"
#include "unpack/unpack.h"

#define ROOM (4u << 20)

static uint8_t plain[ROOM], packed[ROOM], out[ROOM + 64];
static uint64_t seed;

static uint64_t rnd(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 24;
}

/* Text like a kernel's: repeats near and far, zeroes, noise, calls to a few places. */
static void make_plain(size_t size, uint64_t s)
{
	size_t at = 0;

	seed = s;
	while (at < size) {
		size_t n = 1 + rnd() % 300, back = 1 + rnd() % 100000;

		n = MIN(n, size - at);
		switch (rnd() % 5) {
		case 0:
			memset(plain + at, 0, n);
			break;
		case 1:
			for (size_t i = 0; i < n; i++)
				plain[at + i] = (uint8_t)rnd();
			break;
		case 2:
			for (size_t i = 0; i < n; i++)
				plain[at + i] = (uint8_t)(rnd() % 3 ? 0xe8 + rnd() % 2 :
							  0xff * (rnd() & 1));
			break;
		default:
			for (size_t i = 0; i < n; i++)
				plain[at + i] = at + i < back ? 0xe8 : plain[at + i - back];
			break;
		}
		at += n;
	}
	for (at = 0; at + 5 <= size; at += 5 + rnd() % 40) {
		uint32_t rel = (uint32_t)(rnd() % 64 * 4096 - at);

		plain[at] = 0xe8;
		memcpy(plain + at + 1, &rel, 4);
	}
}

/* Runs a tool over plain; returns the size of what it wrote to packed. */
static size_t pack(const char *command, size_t size)
{
	char in[64], cmd[256];
	FILE *f;
	size_t n;

	snprintf(in, sizeof(in), "/tmp/hospes-unpack-%d", (int)getpid());
	f = fopen(in, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(plain, 1, size, f), size);
	fclose(f);
	snprintf(cmd, sizeof(cmd), "%s <%s", command, in);
	f = popen(cmd, "r");
	assert_non_null(f);
	n = fread(packed, 1, sizeof(packed), f);
	assert_int_equal(pclose(f), 0);
	unlink(in);
	assert_true(n > 0 && n < sizeof(packed));
	return n;
}

static const char *unpack(size_t size, size_t room, size_t *produced)
{
	struct unpack u = { packed, packed + size, out, out + room };
	const char *error;

	memset(out, 0xa5, room + 64);
	error = packed[0] == 0xfd ? xz_unpack(&u) : lz4_unpack(&u);
	*produced = (size_t)(u.out - out);
	assert_true(u.out <= out + room);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(out[room + i], 0xa5);
	return error;
}

static const char *const xz_commands[] = {
	"xz -c --check=crc32", "xz -0 -c --check=crc32",
	"xz -9e -c --check=crc32", "xz -c --check=crc32 --x86 --lzma2=dict=4KiB",
	"xz -c --check=crc32 --x86 --lzma2=dict=1MiB,lc=0,lp=4,pb=4",
	"xz -c --check=crc32 --lzma2=lc=4,lp=0,pb=0", "xz -c --check=crc32 --lzma2=lc=1,lp=2,pb=1",
	"xz -c --check=crc32 --block-size=50000",
	"xz -c --check=crc32 --x86 --lzma2=mode=fast,nice=5",
	"xz -c -T2 --check=crc32 --block-size=65536 --x86 --lzma2",
};
static const size_t sizes[] = { 1, 4, 5, 100, 4096, 65537, 400001, 1500000 };

static void test_xz(void **state)
{
	size_t n, got;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(xz_commands); i++) {
		for (unsigned int j = 0; j < ARRAY_SIZE(sizes); j++) {
			if (j >= 6 && i % 4)
				continue;
			make_plain(sizes[j], 100 * i + j);
			n = pack(xz_commands[i], sizes[j]);
			assert_null(unpack(n, sizes[j], &got));
			assert_int_equal(got, sizes[j]);
			assert_memory_equal(out, plain, got);
		}
	}
}

static void test_lz4(void **state)
{
	size_t n, got;

	(void)state;
	for (unsigned int j = 0; j < ARRAY_SIZE(sizes); j++) {
		make_plain(sizes[j], j);
		n = pack(j & 1 ? "lz4 -l -9 -c -q" : "lz4 -l -1 -c -q", sizes[j]);
		assert_null(unpack(n, sizes[j], &got));
		assert_int_equal(got, sizes[j]);
		assert_memory_equal(out, plain, got);
	}
}

/* A short buffer is filled to its end before the error. */
/* A match that the buffer cuts is an error even if nothing follows it. */
static void test_lz4_cut_match(void **state)
{
	/* One literal, 19 bytes from one byte back, no literals. */
	static const uint8_t stream[] = { 2, 0x21, 0x4c, 0x18, 6, 0, 0, 0, 0x1f, 'a', 1, 0, 0, 0 };
	uint8_t buf[20];

	(void)state;
	for (size_t room = 1; room <= sizeof(buf); room++) {
		struct unpack u = { stream, stream + sizeof(stream), buf, buf + room };
		const char *error = lz4_unpack(&u);

		assert_true(!error == (room == sizeof(buf)));
		assert_ptr_equal(u.out, buf + room);
		for (size_t i = 0; i < room; i++)
			assert_int_equal(buf[i], 'a');
	}
}

static void test_head(void **state)
{
	static const char *const commands[] = {
		"xz -c --check=crc32", "xz -c --check=crc32 --x86 --lzma2", "lz4 -l -9 -c -q",
	};
	size_t n, got;

	(void)state;
	make_plain(300000, 7);
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++) {
		n = pack(commands[i], 300000);
		for (size_t room = 1; room < 300000; room += room < 600 ? 1 : 13007) {
			assert_non_null(unpack(n, room, &got));
			assert_int_equal(got, room);
			assert_memory_equal(out, plain, room > 8 ? room - 8 : 0);
		}
	}
}

/* Unpacks 6000 bytes: there is an error, or nothing is wrong with them. */
static void no_wrong_output(size_t n)
{
	size_t got;

	if (!unpack(n, 6000, &got)) {
		assert_int_equal(got, 6000);
		assert_memory_equal(out, plain, 6000);
	}
}

/* Damage is found, except behind the data, or in lz4, which has no check sums, does no harm. */
static void test_damaged(void **state)
{
	size_t n, got;

	(void)state;
	make_plain(6000, 9);
	n = pack("xz -c --check=crc32 --x86 --lzma2", 6000);
	for (size_t i = 0; i < n; i++) {
		for (unsigned int bit = 0; bit < 8; bit += 3) {
			packed[i] ^= (uint8_t)(1u << bit);
			no_wrong_output(n);
			assert_true(i >= n - 64 || unpack(n, 6000, &got));
			packed[i] ^= (uint8_t)(1u << bit);
		}
	}
	for (size_t cut = 0; cut < n; cut += 1 + cut / 50) {
		no_wrong_output(cut);
		assert_true(cut >= n - 64 || unpack(cut, 6000, &got));
	}
	n = pack("lz4 -l -9 -c -q", 6000);
	for (size_t i = 0; i < n; i++) {
		packed[i] ^= 1u << (i & 7);
		(void)unpack(n, 6000, &got);
		packed[i] ^= 1u << (i & 7);
	}
	assert_non_null(unpack(n - 1, 6000, &got));
	assert_non_null(unpack(3, 6000, &got));
}

static void refused(const char *command, const char *word)
{
	size_t got, n = pack(command, 1000);
	const char *error = unpack(n, 1000, &got);

	assert_true(error && strstr(error, word));
}

static void test_refused(void **state)
{
	(void)state;
	make_plain(1000, 1);
	refused("xz -c --check=none", "--check=crc32");
	refused("xz -c --check=crc64", "--check=crc32");
	refused("xz -c --check=sha256", "--check=crc32");
	refused("xz -c --check=crc32 --arm --lzma2", "filters");
	refused("xz -c --check=crc32 --delta --x86 --lzma2", "filters");
}

static void test_crc32(void **state)
{
	(void)state;
	assert_int_equal(crc32((const uint8_t *)"123456789", 9), 0xcbf43926);
	assert_int_equal(crc32(plain, 0), 0);
}

/* --- Kernels --------------------------------------------------------------- */

static uint8_t memory[8u << 20];

/* Packs plain, a file of @size bytes, as a bzImage's payload is. */
static size_t payload(const char *command, size_t size)
{
	size_t n = pack(command, size);
	uint32_t total = (uint32_t)size;

	memcpy(packed + n, &total, 4);
	return n + 4;
}

static const struct elf_part parts[] = {
	{ 0x200000, 0x3000, 0x3000, 0x1000 }, { 0x203000, 0x5001, 0x9000, 0x8000 },
	{ 0x20c000, 0, 0x1000, 0x20000 }, { 0x20d000, 0x2f00, 0x2f00, 0x30000 },
};

static void check_kernel(const char *command, bool wide)
{
	uint32_t entry = 0;
	size_t size, n;

	make_plain(0x40000, 3);
	size = elf_make(plain, wide, parts, ARRAY_SIZE(parts), 0x201234);
	n = payload(command, size);
	memset(memory, 0xcc, sizeof(memory));
	assert_null(unpack_kernel(packed, n, memory, sizeof(memory), &entry));
	assert_int_equal(entry, 0x201234);
	for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++) {
		const struct elf_part *p = &parts[i];

		assert_memory_equal(memory + p->paddr, plain + p->offset, p->filesz);
		for (uint64_t j = p->filesz; j < p->memsz; j++)
			assert_int_equal(memory[p->paddr + j], 0);
	}
}

static void test_kernel(void **state)
{
	(void)state;
	check_kernel("xz -c --check=crc32 --x86 --lzma2", true);
	check_kernel("xz -c --check=crc32", false);
	check_kernel("lz4 -l -9 -c -q", true);
}

static const char *try_kernel(size_t size, uint64_t room)
{
	uint32_t entry;
	size_t n = payload("lz4 -l -9 -c -q", size);

	return unpack_kernel(packed, n, memory, room, &entry);
}

static void test_kernel_errors(void **state)
{
	uint32_t entry, lie;
	size_t size, n;

	(void)state;
	make_plain(0x40000, 3);
	size = elf_make(plain, true, parts, ARRAY_SIZE(parts), 0x201234);
	assert_null(try_kernel(size, sizeof(memory)));
	assert_non_null(strstr(try_kernel(size, 0x210000), "memory="));
	assert_non_null(strstr(try_kernel(size, 0x20d000), "memory="));
	n = payload("lz4 -l -9 -c -q", size);
	lie = (uint32_t)size - 1;
	memcpy(packed + n - 4, &lie, 4);
	assert_non_null(unpack_kernel(packed, n, memory, sizeof(memory), &entry));
	lie = (uint32_t)size + 1;
	memcpy(packed + n - 4, &lie, 4);
	assert_non_null(unpack_kernel(packed, n, memory, sizeof(memory), &entry));
	assert_non_null(unpack_kernel(packed, 4, memory, sizeof(memory), &entry));
	packed[0] = 0x55;
	assert_non_null(unpack_kernel(packed, n, memory, sizeof(memory), &entry));
	elf_make(plain, true, parts, ARRAY_SIZE(parts), 0);
	memset(plain + elf_note_offset(true, ARRAY_SIZE(parts)), 0, 16);
	assert_non_null(strstr(try_kernel(size, sizeof(memory)), "PVH"));
	plain[0] = 0;
	assert_non_null(strstr(try_kernel(size, sizeof(memory)), "ELF"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32), cmocka_unit_test(test_xz), cmocka_unit_test(test_lz4),
		cmocka_unit_test(test_lz4_cut_match),
		cmocka_unit_test(test_head), cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_kernel_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
