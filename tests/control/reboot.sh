# SPDX-License-Identifier: MIT
# on_reboot and on_crash do what they say.
start one "on_crash = 'preserve'"
tell one 'reboot'
says one 'HOSPES-INIT-OK name=one' >/dev/null
says one 'one:/# ' >/dev/null
xl sysrq one h
says one 'sysrq: HELP' >/dev/null
tell one 'echo 1 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger'
says one 'Kernel panic' >/dev/null
wait_for 30 eval '[ "$(state one)" = ----c- ] || [ "$(state one)" = ---sc- ]'
xl destroy one
