# SPDX-License-Identifier: MIT
# Live migration to the same host, while the guest writes memory.
before=$(free_memory)
start one "vif = ['mac=00:16:3e:00:00:02']"
tell one 'ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up'
sum=$(ask one 'dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null; sha256sum </tmp/data')
tell one 'while :; do dd if=/dev/urandom of=/tmp/more bs=64k count=32 2>/dev/null; done &'
for round in 1 2 3; do
	id=$(xl domid one)
	xl migrate -s '' one 'xl migrate-receive' >/tmp/migrate 2>&1 || fail "$(tail -n 1 /tmp/migrate)"
	moved one
	[ "$(xl domid one)" != "$id" ] || fail 'it is the same domain'
	[ "$(ask one 'sha256sum </tmp/data')" = "$sum" ] || fail "memory differs, round $round"
	ping -c 1 -W 20 10.0.0.2 >/dev/null || fail "no network, round $round"
done
xl destroy one
wait_for 10 settled "$before"
