# SPDX-License-Identifier: MIT
# A guest's disk: what it writes is in the file, what the file holds it reads.
start one "$(disk one.img 32)"
[ "$(ask one 'cat /sys/block/xvda/size')" = 65536 ]
sum=$(ask one 'dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null; sha256sum </tmp/data')
[ "$(ask one 'dd if=/tmp/data of=/dev/xvda bs=64k seek=16 conv=fsync 2>/dev/null; echo $?')" = 0 ]
[ "$(dd if=/disks/one.img bs=1M skip=1 count=16 2>/dev/null | sha256sum)" = "$sum" ] ||
	fail 'the file does not hold what the guest wrote'
dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null
loop=$(/usr/bin/losetup -j /disks/one.img -n -O NAME)
dd if=/tmp/data of="$loop" bs=1M seek=20 conv=fsync 2>/dev/null
[ "$(ask one 'dd if=/dev/xvda bs=1M skip=20 count=4 2>/dev/null | sha256sum')" = \
	"$(sha256sum </tmp/data)" ] || fail 'the guest does not read what the file holds'
