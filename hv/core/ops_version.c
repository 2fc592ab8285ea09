/* SPDX-License-Identifier: MIT */
/*
 * xen_version: what a guest is told about the hypervisor.
 *
 * Numbers and the capability string are ABI; the other strings are ours.
 */
#include "hospes/domain.h"
#include "hospes/hypercall.h"

#define FEATURE(f) (1u << XENFEAT_##f)
#define FEATURES (FEATURE(writable_page_tables) | FEATURE(auto_translated_physmap) | \
		  FEATURE(hvm_callback_vector) | FEATURE(hvm_safe_pvclock) | \
		  FEATURE(memory_op_vnode_supported) | FEATURE(not_direct_mapped))

/* Where a paravirtual guest would find the hypervisor; the ABI wants a number. */
#define VIRT_START 0xffff800000000000ULL

int64_t version_version(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return ABI_VERSION_MAJOR << 16 | ABI_VERSION_MINOR;
}

/* What is the same for all guests. No host, no date: the same source makes the same image. */
static const xen_extraversion_t extraversion = ".7";
static const xen_compile_info_t compile_info = { .compiler = __VERSION__, .compile_by = "hospes" };
static const xen_capabilities_info_t capabilities =
	"hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
static const xen_changeset_info_t changeset = "Hospes " HOSPES_VERSION;
static const xen_platform_parameters_t platform_parameters = { .virt_start = VIRT_START };

int64_t version_constant(struct vcpu *v, struct hypercall *hc, void *arg)
{
#define CONSTANT(name) [XENVER_##name] = { &name, sizeof(name) }
	static const struct { const void *data; size_t size; } constants[] = {
		CONSTANT(extraversion), CONSTANT(compile_info), CONSTANT(capabilities),
		CONSTANT(changeset), CONSTANT(platform_parameters),
	};

	return copy_to_guest(v, hc->ptr, constants[hc->op].data, constants[hc->op].size);
}

int64_t version_commandline(struct vcpu *v, struct hypercall *hc, void *arg)
{
	static const xen_commandline_t zeros;
	const char *text = v->domain->privileged ? port_boot_info()->cmdline : "<denied>";
	size_t len = strnlen(text, sizeof(zeros) - 1);

	if (copy_to_guest(v, hc->ptr, text, len))
		return -XEN_EFAULT;
	return copy_to_guest(v, hc->ptr + len, zeros, sizeof(zeros) - len);
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

/* The image's build id is not handed out: as if the linker had made none. */
int64_t version_build_id(struct vcpu *v, struct hypercall *hc, void *arg)
{
	return -XEN_ENODATA;
}
