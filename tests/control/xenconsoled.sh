# SPDX-License-Identifier: MIT
# A guest survives the death of xenconsoled, and a new one takes it over.
start one
kill -9 "$(cat /run/xenconsoled.pid)"
sleep 1
xl list one >/dev/null
xenconsoled --log=guest --pid-file=/run/xenconsoled.pid
wait_for 10 xenstore-exists "/local/domain/$(xl domid one)/console/tty"
rm -f /tmp/mark.one
wait_for 30 eval '[ "$(ask one "echo alive")" = alive ]'
