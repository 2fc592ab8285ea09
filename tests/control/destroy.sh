# SPDX-License-Identifier: MIT
# A guest goes in any state, and gives its memory back.
before=$(free_memory)
start one "$(disk one.img 8)" "vif = ['']"
[ "$(free_memory)" -lt "$((before - 127))" ]
tell one 'while :; do :; done'
xl destroy one
wait_for 10 gone one
wait_for 10 settled "$before"
# before its first instruction
guest one
xl create -q -p /etc/xen/one.cfg
paused one
xl destroy one
wait_for 10 settled "$before"
# while it boots
xl create -q /etc/xen/one.cfg
xl destroy one
wait_for 10 gone one
wait_for 10 settled "$before"
wait_for 10 eval '[ -z "$(/usr/bin/losetup -a)" ]'
