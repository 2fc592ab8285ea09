# SPDX-License-Identifier: MIT
"""The stock kernel directly in the emulator: proves the guest images and this driver."""
from machine import CLOUD, INITRD, Machine


def direct(args, name, smp=2):
    return Machine(kernel=CLOUD, append='console=ttyS0 quiet guest=peer ' + args, modules=[INITRD],
                   smp=smp, mem=512, name=name)


def test_shell_and_poweroff():
    with direct('', 'peer-shell') as m:
        m.expect(r'HOSPES-INIT-OK name=peer cpus=2 mem=\d+')
        m.expect(r'peer:/# ')
        m.command('echo $((6 * 7))', r'^42$')
        m.command('sleep 100 & jobs', r'Running')
        m.send('poweroff\n')
        m.wait_exit()


def test_busy():
    with direct('hospes.test=busy:2 hospes.then=poweroff', 'peer-busy') as m:
        m.expect(r'HOSPES-BUSY-START cpus=2')
        m.expect(r'HOSPES-BUSY-(OK|FAIL) rounds=[1-9]\d* broken=0')
        m.wait_exit()


def test_clock():
    with direct('hospes.test=clock:2 hospes.then=poweroff', 'peer-clock') as m:
        m.expect(r'HOSPES-CLOCK-OK samples=[1-9]\d* backwards=0')
        m.wait_exit()


def test_panic():
    with direct('hospes.test=panic panic=-1', 'peer-panic') as m:
        m.expect(r'Kernel panic - not syncing: sysrq triggered crash')
        m.wait_exit()
