# SPDX-License-Identifier: MIT
# Create, pause, unpause, shut down; nothing of it stays.
before=$(free_memory)
start one 'vcpus = 2'
[ "$(xenstore-read "/local/domain/$(xl domid one)/name")" = one ]
[ "$(ask one nproc)" = 2 ]
xl pause one
paused one || fail "paused, but $(state one)"
tell one 'echo awa"ke"'
sleep 2
! says_now one '^awake$' || fail 'it answers though it is paused'
xl unpause one
says one '^awake$' >/dev/null
xl shutdown -w one
wait_for 10 gone one
wait_for 10 settled "$before"
