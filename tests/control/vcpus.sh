# SPDX-License-Identifier: MIT
# vCPUs of a running guest come and go, are pinned, get weights.
start one 'vcpus = 2'
xl vcpu-set -i one 1
wait_for 30 eval '[ "$(ask one nproc)" = 1 ]'
xl vcpu-list one | grep -q '^one .* 1  *-  *--p ' || fail 'vCPU 1 is not offline'
xl vcpu-set -i one 2
wait_for 30 eval '[ "$(ask one "echo 1 >/sys/devices/system/cpu/cpu1/online; nproc")" = 2 ]'
xl vcpu-pin one 0 0
# A host of one CPU calls that one all.
[ "$(xl info nr_cpus)" = 1 ] && pinned=all || pinned=0
xl vcpu-list one | grep -q "^one  *[0-9]*  *0  *0 .* $pinned / " || fail 'not pinned'
xl sched-credit2 -d one -w 512 -c 50
xl sched-credit2 -d one | grep -q '^one .* 512 *50' || fail 'no weight'
