/* SPDX-License-Identifier: MIT */
/*
 * xen_version: what a guest is told about the hypervisor.
 *
 * Numbers and the capability string are ABI; the other strings are ours.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"
#include "hospes/lib.h"

#define FEATURE(f) (1u << XENFEAT_##f)
#define FEATURES (FEATURE(writable_page_tables) | FEATURE(auto_translated_physmap) | \
		  FEATURE(hvm_callback_vector) | FEATURE(hvm_safe_pvclock) | \
		  FEATURE(memory_op_vnode_supported) | FEATURE(not_direct_mapped))

/* Where a paravirtual guest would find the hypervisor; the ABI wants a number. */
#define VIRT_START 0xffff800000000000ULL

/* @text at @dst, filled up with zeros to @size bytes. */
static int64_t put_text(struct vcpu *v, gva_t dst, const char *text, size_t size)
{
	static const char zeros[sizeof(xen_capabilities_info_t)];
	size_t len = MIN(strlen(text), size - 1);

	if (copy_to_guest(v, dst, text, len) || copy_to_guest(v, dst + len, zeros, size - len))
		return -XEN_EFAULT;
	return 0;
}

int64_t version_version(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return ABI_VERSION_MAJOR << 16 | ABI_VERSION_MINOR;
}

int64_t version_text(struct vcpu *v, struct hypercall *hc, void *arg)
{
	static const struct {
		const char *text;
		size_t size;
	} texts[] = {
		[XENVER_extraversion] = { ".7", sizeof(xen_extraversion_t) },
		[XENVER_capabilities] = { "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
					  sizeof(xen_capabilities_info_t) },
		[XENVER_changeset] = { "Hospes " HOSPES_VERSION, sizeof(xen_changeset_info_t) },
		[XENVER_commandline] = { "<denied>", sizeof(xen_commandline_t) },
	};
	const char *text = texts[hc->op].text;

	if (hc->op == XENVER_commandline && v->domain->privileged)
		text = port_boot_info()->cmdline;
	return put_text(v, hc->ptr, text, texts[hc->op].size);
}

int64_t version_compile_info(struct vcpu *v, struct hypercall *hc, void *arg)
{
	/* No host, no date: the same source makes the same image anywhere. */
	static const struct xen_compile_info info = {
		.compiler = __VERSION__, .compile_by = "hospes" };

	return copy_to_guest(v, hc->ptr, &info, sizeof(info));
}

int64_t version_platform_parameters(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct xen_platform_parameters p = { .virt_start = VIRT_START };

	return copy_to_guest(v, hc->ptr, &p, sizeof(p));
}

int64_t version_get_features(struct vcpu *v, struct hypercall *hc, void *arg)
{
	struct xen_feature_info *f = arg;

	if (f->submap_idx)
		return -XEN_EINVAL;
	f->submap = FEATURES | (v->domain->privileged ? FEATURE(dom0) : 0);
	return 0;
}

int64_t version_pagesize(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return hc->ptr ? -XEN_EINVAL : (int64_t)PAGE_SIZE;
}

int64_t version_guest_handle(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return copy_to_guest(v, hc->ptr, v->domain->handle, sizeof(xen_domain_handle_t));
}

int64_t version_build_id(struct vcpu *v, struct hypercall *hc, void *arg)
{
	const struct boot_info *info = port_boot_info();
	uint32_t len;

	if (!info->build_id_len)
		return -XEN_ENODATA;
	if (!hc->ptr)
		return info->build_id_len;
	if (copy_from_guest(v, &len, hc->ptr, sizeof(len)))
		return -XEN_EFAULT;
	if (len < info->build_id_len)
		return -XEN_ENOBUFS;
	if (copy_to_guest(v, hc->ptr + offsetof(struct xen_build_id, buf), info->build_id,
			  info->build_id_len))
		return -XEN_EFAULT;
	return info->build_id_len;
}
