# SPDX-License-Identifier: MIT
# Memory given back and taken again.
start one 'memory = 128' 'maxmem = 192'
free=$(free_memory)
xl mem-set one 96
wait_for 30 settled "$((free + 30))"
xl mem-set one 128
wait_for 30 eval '[ "$(free_memory)" -le "$((free + 2))" ]'
[ "$(ask one 'echo alive')" = alive ]
xl mem-max one 160
! xl mem-set one 100000 2>/dev/null || fail 'more than there is was accepted'
