# SPDX-License-Identifier: MIT
"""Debian's stock kernel and Xen tools as control domain: the sessions of tests/control."""
from control import PEER, control
from machine import Skip, long

BAD = r'Kernel panic|Oops|BUG:|soft lockup|rcu_sched self-detected|panic:|Xen call trace'
SHELL = r'control:\S*# '


class Host:
    """A machine with a control domain that is at its shell; powered off at the end."""

    def __init__(self, name, **settings):
        self.machine = control(name, **settings)

    def __enter__(self):
        try:
            self.machine.expect(r'HOSPES-CONTROL-OK cpus=\d+', 300)
            self.machine.expect(SHELL)
        except BaseException:
            self.machine.close()
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if not kind:
                self.machine.absent(BAD)
                self.machine.send('poweroff\n')
                self.machine.wait_exit()
        finally:
            self.machine.close()

    def session(self, name, timeout=600):
        self.machine.send(f'session {name}\n')
        verdict = self.machine.expect(rf'^(PASS|FAIL) control\.{name}\b.*', timeout).group(1)
        self.machine.expect(SHELL)
        if verdict != 'PASS':
            raise self.machine.failure(f'session {name} failed')


def sessions(*names, **settings):
    """Runs sessions one after the other on one host; each must print its PASS."""
    with Host(names[0], **settings) as host:
        for name in names:
            host.session(name)


def test_life():
    sessions('info', 'lifecycle', 'destroy', 'reboot')


def test_devices():
    sessions('disk', 'network', 'between')


def test_settings():
    sessions('vcpus', 'top')


def test_memory():
    if PEER == 'hospes':
        raise Skip('no populate-on-demand yet; HOSPES_PEER=xen runs it on Xen')
    sessions('memory')


def test_moving():
    sessions('save', 'migrate')


def test_daemons():
    sessions('xenconsoled')


@long
def test_cycles():
    sessions('cycles')


def test_console():
    """xl console in both directions, and out of it."""
    with Host('console') as host:
        m = host.machine
        m.command('xl create -q -c /etc/xen/one.cfg', r'^one:/# ', 120)
        m.command('echo $((6 * 7))', r'^42$')
        m.send('\x1d')
        m.expect(SHELL)
        m.command('xl destroy one', SHELL)
