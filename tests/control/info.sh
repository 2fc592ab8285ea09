# SPDX-License-Identifier: MIT
# What the host says about itself.
xl info >/tmp/info
for line in 'xen_major *: 4' 'xen_minor *: 17' 'nr_cpus *: [1-9]' 'total_memory *: [1-9]' \
	'xen_caps *: .*hvm-3.0-x86_64' 'virt_caps *: .*hvm.*hap' 'xen_scheduler *: credit2'; do
	grep -q "^$line" /tmp/info || fail "xl info lacks $line"
done
[ "$(free_memory)" -lt "$(xl info total_memory)" ]
xl list | grep -q '^Domain-0 .* r-----' || fail 'xl list does not show the control domain running'
xl vcpu-list 0 | grep -q '^Domain-0 *0 *0 ' || fail 'no vCPU 0 in xl vcpu-list'
xl uptime | grep -q '^Domain-0 *0 .*[0-9]:[0-9]' || fail 'no uptime'
xl dmesg | grep -q . || fail 'xl dmesg is empty'
xenstore-ls | grep -q '^ *0 = ""' || fail 'the store has no domain 0'
[ "$(xenstore-read /local/domain/0/name)" = Domain-0 ]
xl debug-keys h
