# SPDX-License-Identifier: MIT
# xentop in batch mode counts the guest's time.
start one "$(disk one.img 8)" "vif = ['']"
xentop -b -i 2 -d 1 >/tmp/top
grep -c '^ *one ' /tmp/top | grep -q 2 || fail 'it is not listed twice'
grep -q '^ *Domain-0 ' /tmp/top || fail 'no control domain'
