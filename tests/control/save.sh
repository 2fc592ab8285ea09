# SPDX-License-Identifier: MIT
# Saved and restored, a guest goes on where it was: memory, disk, network and clock.
before=$(free_memory)
start one "$(disk one.img 8)" "vif = ['']" 'vcpus = 2'
tell one 'ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up'
sum=$(ask one 'dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null; sha256sum </tmp/data')
up=$(ask one 'cut -d . -f 1 /proc/uptime')
xl save one /tmp/save.one
gone one || fail 'it still runs'
wait_for 10 settled "$before"
xl restore /tmp/save.one >/dev/null
[ "$(ask one 'sha256sum </tmp/data')" = "$sum" ] || fail 'memory differs'
[ "$(ask one 'cut -d . -f 1 /proc/uptime')" -ge "$up" ] || fail 'uptime went back'
[ "$(ask one nproc)" = 2 ] || fail 'a vCPU is missing'
[ "$(ask one 'dd if=/tmp/data of=/dev/xvda bs=1M count=4 conv=fsync 2>/dev/null; echo $?')" = 0 ]
ping -c 3 -W 20 10.0.0.2 >/dev/null || fail 'no network'
# a checkpoint leaves it running
xl save -c one /tmp/save.one
[ "$(ask one 'sha256sum </tmp/data')" = "$sum" ] || fail 'memory differs behind a checkpoint'
xl destroy one
wait_for 10 settled "$before"
