#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the Debian packages a make target needs: deps.sh <build|guests|run|bench>...
# Quick and silent when all are there. Needs root or sudo only to install.
set -eu

packages_of() {
	case $1 in
	build) echo meson ninja-build gcc clang lld libc6-dev libcmocka-dev libxen-dev \
		python3 universal-ctags cloc pkg-config lz4 xz-utils ;;
	guests) echo busybox-static cpio gcc libc6-dev xz-utils python3 ;;
	run) echo qemu-system-x86 ovmf grub-pc-bin grub-efi-amd64-bin grub-common xorriso mtools zstd python3 ;;
	bench) echo qemu-system-x86 xen-hypervisor-4.17-amd64 xz-utils cpio python3 ;;
	*) echo "deps.sh: unknown group $1" >&2; exit 2 ;;
	esac
}

missing=
for group in "$@"; do
	for p in $(packages_of "$group"); do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
		[ "$state" = installed ] || missing="$missing $p"
	done
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "deps.sh: please install:$missing" >&2; exit 1; }
	as_root=sudo
fi
echo "installing:$missing"
# sudo passes no variables on; another run may be installing.
apt_get="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600"
# shellcheck disable=SC2086  # the list is to be split
$apt_get install -y --no-install-recommends $missing ||
	{ $apt_get update && $apt_get install -y --no-install-recommends $missing; }
