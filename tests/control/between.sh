# SPDX-License-Identifier: MIT
# Two guests talk to each other over the bridge.
start one "vif = ['']"
start two "vif = ['']"
tell one 'ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up'
tell two 'ip addr add 10.0.0.3/24 dev eth0; ip link set eth0 up'
tell two 'mkfifo /tmp/hold; nc -l -p 5000 <>/tmp/hold >/tmp/data; echo "LEN"GTH $(wc -c </tmp/data)'
ask one 'dd if=/dev/zero bs=1M count=16 2>/dev/null | nc 10.0.0.3 5000' >/dev/null
says two '^LENGTH 16777216$' >/dev/null
