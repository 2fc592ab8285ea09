/* SPDX-License-Identifier: MIT */
/*
 * Guests as configuration text describes them: one line, key=value words.
 *
 *   guest="name=web kernel=vmlinuz initrd=initrd.gz memory=256M args='quiet'"
 *
 * The control domain is described the same way, by control="...".
 *
 * A module is named by the base name of its command line's first word, which
 * is what QEMU and GRUB pass alike, or by its number: kernel=#0.
 */
#include "hospes/guest_config.h"

#include "hospes/abi.h"
#include "hospes/cmdline.h"
#include "hospes/lib.h"
#include "hospes/log.h"

#define CONTROL "control="
#define GUEST "guest="
#define KEY(field, ...) OPTION(struct guest_config, field, __VA_ARGS__)

static const struct option guest_keys[] = {
	KEY(name, OPT_NAME, 1, GUEST_NAME_SIZE - 1, NULL),
	KEY(kernel, OPT_TEXT, 1, GUEST_MODULE_SIZE - 1, NULL),
	KEY(initrd, OPT_TEXT, 1, GUEST_MODULE_SIZE - 1, NULL),
	KEY(args, OPT_TEXT, 0, GUEST_ARGS_SIZE - 1, NULL),
	KEY(memory, OPT_SIZE, GUEST_MEMORY_MIN, GUEST_MEMORY_MAX, NULL),
	KEY(vcpus, OPT_UINT, 1, GUEST_VCPUS_MAX, NULL),
	KEY(weight, OPT_UINT, 1, 65535, NULL),
	KEY(cap, OPT_UINT, 0, 100 * GUEST_VCPUS_MAX, NULL),
	KEY(cpus, OPT_CPUS, 0, MAX_PCPUS - 1, NULL),
	KEY(rt, OPT_PAIR, 100, 10000000, NULL),
	KEY(on_crash, OPT_CHOICE, 0, 0, "destroy|restart|preserve"),
	KEY(max_grant_frames, OPT_UINT, 1, 1024, NULL),
	KEY(evtchn, OPT_CHOICE, 0, 0, "fifo|2level"),
};

static const char *base_name(const char *s, size_t *len)
{
	const char *base = s, *p;

	for (p = s; (unsigned char)*p > ' '; p++) {
		if (*p == '/')
			base = p + 1;
	}
	*len = (size_t)(p - base);
	return base;
}

static bool module_is_config(const struct boot_module *mod)
{
	size_t len;
	const char *name = base_name(mod->cmdline, &len);

	return (len == 6 && !strncmp(name, "config", 6)) ||
	       (len >= 4 && !strncmp(name + len - 4, ".cfg", 4));
}

/* Index of the module @name stands for, or -1, logged, for @key of @guest. */
static int module_find(const struct boot_info *info, const char *name, const char *key,
		       const char *guest)
{
	const char *base, *number = name + 1;
	uint64_t wanted;
	bool by_number = *name == '#' && !parse_u64(&number, &wanted) && !*number;
	size_t len;

	for (unsigned int nr = 0; nr < info->nr_modules; nr++) {
		base = base_name(info->modules[nr].cmdline, &len);
		if (by_number ? nr == wanted : len == strlen(name) && !strncmp(base, name, len))
			return (int)nr;
	}
	log_err("guest %s: %s=%s: no boot module has that name: load it, or give its number"
		" as #0", guest, key, name);
	return -1;
}

/* Sets one key from list->word. Returns the number of errors, all logged. */
static unsigned int config_word(struct guest_list *list, struct guest_config *cfg, int rc)
{
	char hint[128], *key = list->word, *value = cmdline_split(key);
	const struct option *opt = option_find(guest_keys, ARRAY_SIZE(guest_keys), key);

	if (opt && rc > 0 && !option_set(opt, cfg, value))
		return 0;
	if (rc == -XEN_EINVAL) {
		log_err("guest %s: %.32s: a quote has no end: close it", cfg->name, key);
	} else if (!opt) {
		log_err("guest %s: the key %.32s is unknown: remove it, or quote args='...'",
			cfg->name, key);
	} else {
		option_explain(opt, hint, sizeof(hint));
		log_err("guest %s: %s=%.64s: must be %s", cfg->name, key, value ? value : "", hint);
	}
	return 1;
}

/*
 * Reads the words of one line. The name is looked for first, so that every
 * message can carry it wherever it stands in the line.
 */
static unsigned int config_words(struct guest_list *list, struct guest_config *cfg,
				 const char *text, const char *end)
{
	unsigned int errors = 0;
	int rc;

	for (int round = 0; round < 2; round++) {
		const char *pos = text;

		while ((rc = cmdline_next(&pos, end, list->word, sizeof(list->word))) != 0) {
			bool name = rc > 0 && !strncmp(list->word, "name=", 5);

			if (name == (round == 0))
				errors += config_word(list, cfg, rc);
		}
	}
	return errors;
}

/* Finds the modules. Without args=, what the boot loader gave the kernel module is used. */
static bool config_modules(struct guest_config *cfg, const struct boot_info *info)
{
	const char *p;
	size_t len;

	if (!*cfg->kernel) {
		log_err("guest %s: kernel= is missing: name a boot module", cfg->name);
		return false;
	}
	cfg->kernel_module = module_find(info, cfg->kernel, "kernel", cfg->name);
	if (*cfg->initrd)
		cfg->initrd_module = module_find(info, cfg->initrd, "initrd", cfg->name);
	if (cfg->kernel_module < 0 || (*cfg->initrd && cfg->initrd_module < 0))
		return false;
	if (*cfg->args)
		return true;
	p = base_name(info->modules[cfg->kernel_module].cmdline, &len);
	for (p += len; *p && (unsigned char)*p <= ' '; p++)
		;
	if (hv_snprintf(cfg->args, sizeof(cfg->args), "%s", p) < GUEST_ARGS_SIZE)
		return true;
	log_err("guest %s: the arguments of module %d are longer than %d characters: shorten them",
		cfg->name, (int)cfg->kernel_module, GUEST_ARGS_SIZE - 1);
	return false;
}

/* Reads one line, accepts or rejects it. */
static void list_add(struct guest_list *list, const struct boot_info *info, bool control,
		     const char *text, const char *end)
{
	struct guest_config *cfg = &list->guest[list->nr];
	unsigned int errors;

	if (list->nr == GUESTS_MAX) {
		log_err("more than %u guests: \"%.*s\" is ignored", GUESTS_MAX,
			(int)MIN(end - text, 40), text);
		list->rejected++;
		return;
	}
	*cfg = (struct guest_config){
		.memory = 256ULL << 20, .vcpus = 1, .weight = 256, .max_grant_frames = 64,
		.kernel_module = -1, .initrd_module = -1, .control = control,
	};
	if (control)
		hv_snprintf(cfg->name, sizeof(cfg->name), "control");
	else
		hv_snprintf(cfg->name, sizeof(cfg->name), "guest%u", list->nr + list->rejected);
	errors = config_words(list, cfg, text, end);
	errors += !config_modules(cfg, info);
	for (unsigned int i = 0; i < list->nr; i++) {
		if (!strcmp(list->guest[i].name, cfg->name)) {
			log_err("guest %s: name= is taken by another guest: choose another",
				cfg->name);
			errors++;
		}
	}
	*(errors ? &list->rejected : &list->nr) += 1;
}

/* Handles the words of [pos, end) that begin with @key; the others are not for us. */
static void list_add_wrapped(struct guest_list *list, const struct boot_info *info,
			     const char *key, const char *pos, const char *end)
{
	size_t len = strlen(key);
	int rc;

	while ((rc = cmdline_next(&pos, end, list->line, sizeof(list->line))) != 0) {
		if (strncmp(list->line, key, len))
			continue;
		if (rc < 0) {
			log_err("\"%.40s...\": %s", list->line, rc == -XEN_E2BIG ?
				"longer than 2047 characters: shorten args=" :
				"a quote has no end: close it");
			list->rejected++;
			continue;
		}
		if (list->nr && *key == *CONTROL && list->guest[0].control) {
			log_err("a second control= is ignored: there is one control domain");
			list->rejected++;
			continue;
		}
		list_add(list, info, *key == *CONTROL, list->line + len,
			 list->line + strlen(list->line));
	}
}

static void list_add_file(struct guest_list *list, const struct boot_info *info,
			  const char *text, uint64_t size)
{
	const char *end = text + size, *line, *pos;

	for (; text < end; text++) {
		line = text;
		while (text < end && *text != '\n')
			text++;
		pos = line;
		if (!cmdline_next(&pos, text, list->word, sizeof(list->word)) || *list->word == '#')
			continue;
		if (!strncmp(list->word, GUEST, sizeof(GUEST) - 1))
			list_add_wrapped(list, info, GUEST, line, text);
		else
			list_add(list, info, false, line, text);
	}
}

void guest_list_load(const struct boot_info *info, map_module_fn map, struct guest_list *list)
{
	const char *end = info->cmdline + strlen(info->cmdline);
	bool have_file = false;

	list->nr = 0;
	list->rejected = 0;
	list_add_wrapped(list, info, CONTROL, info->cmdline, end);
	list_add_wrapped(list, info, GUEST, info->cmdline, end);
	for (unsigned int i = 0; i < info->nr_modules; i++) {
		const struct boot_module *mod = &info->modules[i];
		const char *text;

		if (!module_is_config(mod))
			continue;
		have_file = true;
		text = map(mod->start, mod->size);
		if (text)
			list_add_file(list, info, text, mod->size);
		else
			log_err("module %u: configuration is not in readable memory", i);
	}
	/* Kernel and initrd alone, as QEMU's -kernel hospes -initrd "vmlinuz args,initrd" gives. */
	if (!list->nr && !list->rejected && !have_file && info->nr_modules) {
		const char *text = info->nr_modules > 1 ? "kernel=#0 initrd=#1" : "kernel=#0";

		list_add(list, info, false, text, text + strlen(text));
	}
}
