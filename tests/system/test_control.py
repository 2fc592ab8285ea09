# SPDX-License-Identifier: MIT
"""Debian's stock kernel and Xen tools as control domain: the sessions of tests/control."""
from control import PEER, control
from machine import Skip

BAD = r'Kernel panic|Oops|BUG:|soft lockup|rcu_sched self-detected|panic:|Xen call trace'
SHELL = r'control:\S*# '


def sessions(*names, settings=None, patience=300):
    """Runs sessions one after the other on one host; each must print its PASS."""
    if PEER == 'hospes':
        raise Skip('the hypervisor starts no control domain yet; HOSPES_PEER=xen runs it on Xen')
    with control(names[0], **(settings or {})) as m:
        m.expect(r'HOSPES-CONTROL-OK cpus=\d+', 300)
        m.expect(SHELL)
        for name in names:
            m.send(f'session {name}\n')
            if m.expect(rf'^(PASS|FAIL) control\.{name}\b.*', patience).group(1) != 'PASS':
                m.expect(SHELL)
                raise m.failure(f'session {name} failed')
            m.expect(SHELL)
        m.send('poweroff\n')
        m.wait_exit()
        m.absent(BAD)


def test_info():
    sessions('info', 'lifecycle', 'console')
