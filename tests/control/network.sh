# SPDX-License-Identifier: MIT
# A guest's network card: pings, and a stream in each direction.
start one "vif = ['']"
tell one 'ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up'
ask one 'ping -c 3 -W 20 10.0.0.1 | grep -c ttl=' >/tmp/pings
[ "$(cat /tmp/pings)" = 3 ] || fail "$(cat /tmp/pings) of 3 pings"
ping -c 3 -s 1400 10.0.0.2 >/dev/null
# A nc ends when either side has no more to say: a pipe that nobody writes to keeps it.
mkfifo /tmp/hold
nc -l -p 5000 <>/tmp/hold >/tmp/data &
sum=$(ask one 'dd if=/dev/urandom of=/tmp/data bs=1M count=16 2>/dev/null;
	nc 10.0.0.1 5000 </tmp/data; sha256sum </tmp/data' | tail -n 1)
wait
[ "$(sha256sum </tmp/data)" = "$sum" ] || fail "what came is not what was sent"
nc -l -p 5000 </tmp/data >/dev/null &
[ "$(ask one 'mkfifo /tmp/hold; nc 10.0.0.1 5000 <>/tmp/hold | sha256sum')" = "$sum" ] || fail 'nor the way back'
wait
