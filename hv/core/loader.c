/* SPDX-License-Identifier: MIT */
/*
 * Kernel formats: ELF and bzImage headers. See loader.h.
 */
#include "hospes/loader.h"

#include "hospes/lib.h"
#include "unpack/unpack.h"

/* Fields of the x86 boot protocol's setup header. */
#define SETUP_SECTS 0x1f1u
#define SETUP_MAGIC 0x202u	/* "HdrS" */
#define SETUP_VERSION 0x206u
#define SETUP_PAYLOAD_OFFSET 0x248u
#define SETUP_PAYLOAD_LENGTH 0x24cu
#define SETUP_ADDRESS 0x258u
#define SETUP_END 0x264u
#define VERSION_PAYLOAD 0x0208	/* the first one that tells where the payload is */
#define SECTOR 512u

#define EXTRACT ": unpack it with scripts/extract-vmlinux.py and name the result in kernel="

static const struct {
	char magic[8];
	uint8_t len;
	const char *error;
} payloads[] = {
	{ XZ_MAGIC, XZ_MAGIC_SIZE, NULL },
	{ LZ4_MAGIC, LZ4_MAGIC_SIZE, NULL },
	{ "\x1f\x8b", 2, "the kernel is packed with gzip" EXTRACT },
	{ "\x28\xb5\x2f\xfd", 4, "the kernel is packed with zstd" EXTRACT },
	{ "\x89LZO", 4, "the kernel is packed with lzo" EXTRACT },
	{ "BZh", 3, "the kernel is packed with bzip2" EXTRACT },
	{ "\x5d\0\0", 3, "the kernel is packed with lzma" EXTRACT },
};

static const char *parse_bzimage(const uint8_t *file, uint64_t size, struct kernel_image *k)
{
	uint64_t sectors = file[SETUP_SECTS] ? file[SETUP_SECTS] : 4;
	uint64_t payload = (sectors + 1) * SECTOR + load_le32(file + SETUP_PAYLOAD_OFFSET);

	if ((file[SETUP_VERSION] | file[SETUP_VERSION + 1] << 8) < VERSION_PAYLOAD)
		return "the bzImage is too old: its header does not name the payload" EXTRACT;
	k->payload_size = load_le32(file + SETUP_PAYLOAD_LENGTH);
	if (!range_within(payload, k->payload_size, size) || k->payload_size < 16)
		return "the bzImage is cut short: load the whole file";
	k->payload = file + payload;
	k->start = load_le32(file + SETUP_ADDRESS);
	k->end = load_le32(k->payload + k->payload_size - 4);
	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		if (!memcmp(k->payload, payloads[i].magic, payloads[i].len))
			return payloads[i].error;
	}
	return "the kernel is packed in an unknown way" EXTRACT;
}

const char *kernel_parse(const uint8_t *file, uint64_t size, struct kernel_image *k)
{
	const char *error;

	*k = (struct kernel_image){ .file = file };
	if (size >= SETUP_END && !memcmp(file + SETUP_MAGIC, "HdrS", 4)) {
		error = parse_bzimage(file, size, k);
		k->file = unpack_elf;
		size = (size_t)(unpack_elf_end - unpack_elf);
		return error ? error : elf_parse(unpack_elf, size, size, &k->elf);
	}
	if (size < 4 || memcmp(file, "\177ELF", 4))
		return "the kernel is neither ELF nor bzImage: name another module in kernel=";
	error = elf_parse(file, size, size, &k->elf);
	k->start = k->elf.segment[0].paddr;
	k->end = k->elf.end;
	return error;
}
