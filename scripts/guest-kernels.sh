#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Prepares the stock guests in build/guests: Debian's kernels (downloaded, not
# installed) and one initrd for all of them. Quick when all is there.
#
#   vmlinuz-cloud, vmlinuz-generic   the bzImages as packaged
#   vmlinux-cloud                    the ELF kernel from inside the first one
#   initrd.cpio                      busybox, tests/guest/linux/init and probe
#
# HOSPES_DEBS names a folder with packages already downloaded.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/guests
src=$top/tests/guest/linux
mkdir -p "$out/debs"
cd "$out"
. "$top/scripts/debs.sh"
only_one

# fetch <meta package> <name>: the kernel of the package it depends on, as vmlinuz-<name>
fetch() {
	[ -s "vmlinuz-$2" ] && return
	deb=$(find ${HOSPES_DEBS:+"$HOSPES_DEBS"} debs -name "linux-image-[0-9]*-$3_*.deb" |
		grep -v -- "$4" | sort | tail -n 1)
	if [ -z "$deb" ]; then
		real=$(depends "$1")
		echo "downloading $real"
		download "$real"
		deb=$(find debs -name "${real}_*.deb")
	fi
	rm -rf unpack
	mkdir unpack
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C unpack --wildcards './boot/vmlinuz-*'
	mv unpack/boot/vmlinuz-* "vmlinuz-$2"
	rm -rf unpack
}

# The package a meta package stands for; package lists are fetched when there are none.
depends() {
	real=$(apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
	if [ -z "$real" ]; then
		update_lists
		real=$(apt-cache depends "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
	fi
	echo "$real"
}

fetch linux-image-cloud-amd64 cloud cloud-amd64 '^$'
fetch linux-image-amd64 generic amd64 'cloud\|rt-'

if [ ! -s vmlinux-cloud ]; then
	"$top/scripts/extract-vmlinux.py" vmlinuz-cloud vmlinux-cloud.new
	mv vmlinux-cloud.new vmlinux-cloud
fi

if [ ! -s initrd.cpio ] || [ "$src/init" -nt initrd.cpio ] || [ "$src/probe.c" -nt initrd.cpio ] ||
   [ "$top/scripts/guest-kernels.sh" -nt initrd.cpio ]; then
	rm -rf root
	mkdir -p root/bin root/dev root/proc root/sys root/tmp root/root
	cp /bin/busybox root/bin/busybox
	for applet in $(/bin/busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "root/bin/$applet"
	done
	ln -s bin root/sbin
	cp "$src/init" root/init
	chmod 755 root/init
	gcc -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -pthread -o root/bin/probe "$src/probe.c"
	(cd root && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >initrd.new
	mv initrd.new initrd.cpio
	rm -rf root
fi
