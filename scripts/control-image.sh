#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the image of the control domain in build/guests, from Debian packages (downloaded, not
# installed). Quick when all is there.
#
#   vmlinux-generic      the ELF kernel from inside vmlinuz-generic
#   control.cpio         its initial RAM disk: busybox, the stock Xen tools, image/, tests/control,
#                        and a guest kernel and initrd in /guests
#
# HOSPES_DEBS names a folder with packages already downloaded.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/guests
libs=usr/lib/x86_64-linux-gnu
packages='xen-utils-4.17 xen-utils-common xenstore-utils libxencall1 libxendevicemodel1
	libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 libxenmisc4.17 libxenstore4
	libxentoolcore1 libxentoollog1 libyajl2 libncurses6 libtinfo6 libsmartcols1 bash mount util-linux'
tools='xl xenstored oxenstored xenconsoled xenconsole xen-init-dom0 libxl-save-helper xentop
	xenctx xen-hvmctx lsevtchn xenperf'

mkdir -p "$out/debs"
cd "$out"
. "$top/scripts/debs.sh"

# package <name>: its newest downloaded file; fetches it when there is none
package() {
	deb=$(find ${HOSPES_DEBS:+"$HOSPES_DEBS"} debs -name "${1}_*.deb" | sort | tail -n 1)
	if [ -z "$deb" ]; then
		download "$1"
		deb=$(find debs -name "${1}_*.deb")
	fi
	echo "$deb"
}

# modules_of <kernel package> <into>: the modules named on standard input and all they need
modules_of() {
	rm -rf unpack
	mkdir unpack
	dpkg-deb --fsys-tarfile "$1" | tar -x -C unpack ./lib/modules
	release=$(ls unpack/lib/modules)
	busybox depmod -b "$PWD/unpack" "$release"
	tree=lib/modules/$release
	tr -s ' ' '\n' | grep . | while read -r name; do
		grep "/$name\.ko:" "unpack/$tree/modules.dep" || echo "no module $name" >&2
	done | tr -d : | tr ' ' '\n' | sort -u | grep . | while read -r file; do
		mkdir -p "$2/$tree/$(dirname "$file")"
		cp "unpack/$tree/$file" "$2/$tree/$file"
	done
	cp unpack/"$tree"/modules.builtin* "$2/$tree"
	rm -rf unpack
	busybox depmod -b "$PWD/$2" "$release"
}

# program <file in packages> <where>: copies it with all libraries it is linked to
program() {
	cp "packages/$1" "control/$2"
	LD_LIBRARY_PATH=$PWD/packages/$libs:$PWD/packages/lib/x86_64-linux-gnu ldd "packages/$1" \
		>ldd.out
	if grep 'not found' ldd.out >&2; then
		exit 1
	fi
	sed -n 's/.*[ \t]\(\/[^ ]*\) (0x.*/\1/p' ldd.out | while read -r lib; do
		case $lib in
		*/ld-linux*) cp -Ln "$lib" control/usr/lib64 ;;
		*) cp -Ln "$lib" control/$libs ;;
		esac
	done
	rm ldd.out
}

# What comes from packages alone, in control/.
tree() {
	rm -rf control packages
	mkdir -p packages control
	(cd control && mkdir -p usr/bin $libs usr/lib64 usr/lib/xen-4.17/bin etc proc sys dev run tmp \
		root disks guests tests var/lib/xenstored var/lib/xen/save var/log/xen/console)
	for p in $packages; do
		dpkg-deb -x "$(package "$p")" packages
	done
	for link in bin sbin lib lib64; do
		ln -s usr/$link control/$link
	done
	ln -s bin control/usr/sbin
	ln -s ../run control/var/run
	ln -s ../run/lock control/var/lock
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "control/usr/bin/$applet"
	done
	cp "$(command -v busybox)" control/usr/bin/busybox
	rm control/usr/bin/losetup
	for t in $tools; do
		program "usr/lib/xen-4.17/bin/$t" "usr/lib/xen-4.17/bin/$t"
		ln -s "../lib/xen-4.17/bin/$t" "control/usr/bin/$t"
	done
	for t in chmod exists list ls read rm watch write; do
		program "usr/bin/xenstore-$t" "usr/bin/xenstore-$t"
	done
	program bin/bash usr/bin/bash
	program usr/bin/flock usr/bin/flock
	program sbin/losetup usr/bin/losetup
	cp -Ln /lib/x86_64-linux-gnu/libgcc_s.so.1 control/$libs
	cp -a packages/etc/xen control/etc/xen
	rm -r packages
	sed 's/#.*//' "$top/image/modules" | modules_of "$kernel" control
}

# pack <file> <folder>: packs a folder as an initial RAM disk
pack() {
	(cd "$2" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$1.new"
	mv "$1.new" "$1"
}

"$top/scripts/guest-kernels.sh"
only_one
kernel=$(package 'linux-image-[0-9]*[0-9]-amd64')
cloud=$(package 'linux-image-[0-9]*-cloud-amd64')

if [ ! -s vmlinux-generic ]; then
	"$top/scripts/extract-vmlinux.py" vmlinuz-generic vmlinux-generic.new
	mv vmlinux-generic.new vmlinux-generic
fi

if [ ! -e control.complete ] || [ "$top/scripts/control-image.sh" -nt control.complete ] ||
   [ "$top/image/modules" -nt control.complete ] || [ "$kernel" -nt control.complete ]; then
	rm -f control.complete control.cpio
	tree
	rm -rf front
	echo xen-blkfront xen-netfront | modules_of "$cloud" front
	mkdir front/modules
	find front/lib -name '*.ko' -exec mv {} front/modules \;
	rm -r front/lib
	pack front.cpio front
	rm -r front
	touch control.complete
fi

if [ ! -s control.cpio ] ||
   [ "$(find "$top/image" "$top/tests/control" initrd.cpio -newer control.cpio)" ]; then
	rm -rf control/tests
	cp -a "$top/tests/control" control/tests
	cp -a "$top/image/etc/." control/etc
	cp "$top/image/init" control/init
	cp "$top"/image/bin/* control/usr/bin
	cp vmlinuz-cloud control/guests/vmlinuz
	cat initrd.cpio front.cpio >control/guests/initrd
	pack control.cpio control
fi
