/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the number parsers and the formatter's string conversion.
 */
#include <stdlib.h>
#include <string.h>

#include "hospes/lib.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char out[16];
	const char *p = text;
	uint64_t v;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	while (*p) {
		const char *before = p;

		if (parse_u64(&p, &v))
			p++;
		if (p <= before || p > text + size)
			abort();
	}
	if (hv_snprintf(out, sizeof(out), "%s", text) != (int)strlen(text))
		abort();
	if (strlen(out) >= sizeof(out))
		abort();
	free(text);
	return 0;
}
