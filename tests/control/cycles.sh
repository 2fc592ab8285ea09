# SPDX-License-Identifier: MIT
# Created and destroyed over and over, nothing stays.
guest one "$(disk one.img 4)" "vif = ['']" 'memory = 96'
xl create -q -p /etc/xen/one.cfg
xl destroy one
wait_for 10 gone one
sleep 1
before=$(free_memory)
channels=$(lsevtchn | wc -l)
i=0
while [ $((i += 1)) -le 20 ]; do
	xl create -q -p /etc/xen/one.cfg
	xl destroy one
	wait_for 10 gone one
done
wait_for 10 settled "$before"
wait_for 10 eval '[ "$(lsevtchn | wc -l)" -le "$channels" ]'
