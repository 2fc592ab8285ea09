/* SPDX-License-Identifier: MIT */
/* xen_version: numbers, strings, features, what is denied. */
#include "guest.h"

const char guest_name[] = "version";

static bool contains(const char *text, const char *what)
{
	for (size_t n = strlen(what); *text; text++)
		if (!memcmp(text, what, n))
			return true;
	return false;
}

void guest_main(void)
{
	static char text[1040];
	static struct xen_compile_info info;
	struct xen_feature_info f = { .submap_idx = 0 };
	xen_platform_parameters_t platform;

	if (!on_xen)
		skip("no hypervisor");
	CHECK_EQ(xen_version_op(XENVER_version, NULL), 4 << 16 | 17);
	memset(text, 'x', sizeof(text));
	CHECK_EQ(xen_version_op(XENVER_extraversion, text), 0);
	CHECK(strlen(text) < XEN_EXTRAVERSION_LEN);
	CHECK_EQ(text[XEN_EXTRAVERSION_LEN], 'x');
	CHECK_EQ(xen_version_op(XENVER_compile_info, &info), 0);
	CHECK(strlen(info.compiler) < sizeof(info.compiler));
	memset(text, 'x', sizeof(text));
	CHECK_EQ(xen_version_op(XENVER_capabilities, text), 0);
	CHECK(contains(text, "hvm-3.0-x86_64"));
	CHECK_EQ(text[sizeof(xen_capabilities_info_t)], 'x');
	CHECK_EQ(xen_version_op(XENVER_changeset, text), 0);
	CHECK_EQ(xen_version_op(XENVER_platform_parameters, &platform), 0);
	CHECK_EQ(platform.virt_start, 0xffff800000000000);
	CHECK_EQ(xen_version_op(XENVER_get_features, &f), 0);
	CHECK_EQ(f.submap, 0x12305);
	f.submap_idx = 1;
	CHECK_EQ(xen_version_op(XENVER_get_features, &f), -XEN_EINVAL);
	CHECK_EQ(xen_version_op(XENVER_pagesize, NULL), PAGE_SIZE);
	CHECK_EQ(xen_version_op(XENVER_pagesize, text), -XEN_EINVAL);
	CHECK_EQ(xen_version_op(XENVER_guest_handle, text), 0);
	memset(text, 'x', sizeof(text));
	CHECK_EQ(xen_version_op(XENVER_commandline, text), 0);
	CHECK(!memcmp(text, "<denied>", 9));
	CHECK_EQ(xen_version_op(XENVER_build_id, NULL), -XEN_EPERM);
	CHECK_EQ(xen_version_op(XENVER_extraversion, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(xen_version_op(XENVER_get_features, BAD_PTR), -XEN_EFAULT);
	CHECK_EQ(xen_version_op(55, NULL), -XEN_ENOSYS);
}
