# SPDX-License-Identifier: MIT
# xl console in both directions.
start one
rm -f /tmp/keys
mkfifo /tmp/keys
timeout 200 xl console one </tmp/keys >/tmp/out 2>&1 &
exec 3>/tmp/keys
echo 'echo $((6 * 7)) $((6 * 8))' >&3
wait_for 60 grep -q '^42 48' /tmp/out
printf '\035' >&3
wait
