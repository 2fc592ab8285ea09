/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the command line and the guests' configuration. The input is cut at
 * NUL bytes: command line, first module's command line, configuration file.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/cmdline.h"
#include "hospes/guest_config.h"
#include "hospes/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void log_printf(enum log_level level, const char *fmt, ...)
{
	(void)level;
	(void)fmt;
}

static const void *map_module(paddr_t start, uint64_t size)
{
	(void)size;
	return (const void *)(uintptr_t)start;
}

static char *take(const uint8_t **data, size_t *size)
{
	size_t len = strnlen((const char *)*data, *size);
	char *text = malloc(len + 1);

	if (!text)
		abort();
	memcpy(text, *data, len);
	text[len] = 0;
	len = len < *size ? len + 1 : len;
	*data += len;
	*size -= len;
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_list list;
	char *cmdline = take(&data, &size);
	char *module = take(&data, &size);
	uint8_t *file = malloc(size + 1);	/* exact size but for malloc(0) */
	const struct boot_info info = {
		.cmdline = cmdline,
		.nr_modules = 2,
		.modules = {
			{ .cmdline = module },
			{ .cmdline = "config", .start = (uintptr_t)(file + 1), .size = size },
		},
	};

	if (!file)
		abort();
	memcpy(file + 1, data, size);
	hv_options_parse(cmdline);
	guest_list_load(&info, map_module, &list);
	if (list.nr > GUESTS_MAX || hv_options.cpus - 1 >= MAX_PCPUS)
		abort();
	for (unsigned int i = 0; i < list.nr; i++) {
		const struct guest_config *g = &list.guest[i];

		if (g->kernel_module < 0 || (unsigned int)g->kernel_module >= info.nr_modules ||
		    g->initrd_module >= (int)info.nr_modules || g->vcpus - 1 >= GUEST_VCPUS_MAX ||
		    g->memory < GUEST_MEMORY_MIN || g->memory > GUEST_MEMORY_MAX ||
		    g->rt[1] > g->rt[0] || !memchr(g->args, 0, sizeof(g->args)) ||
		    !memchr(g->name, 0, sizeof(g->name)))
			abort();
	}
	free(file);
	free(module);
	free(cmdline);
	return 0;
}
