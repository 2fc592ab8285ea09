# SPDX-License-Identifier: MIT
"""A hostile guest beside a calm one: the hypervisor and the calm one do not notice."""
import os
import re
import subprocess
import time

from machine import BUILD, HOSPES, Guest, hospes, long

HOSTILE = os.path.join(BUILD, 'tests/guest/hostile.elf')
BAD = r'Kernel panic|Oops|BUG:|soft lockup|rcu_sched self-detected|panic:'


def free_pages_after(count, name, timeout=120):
    """What is free when the hostile guest has made count hypercalls and gone."""
    calm = Guest('calm', args='hospes.test=busy:10')
    hostile = Guest('hostile', kernel=HOSTILE, initrd=None, memory=64, vcpus=2)
    hostile.args = f'only=hypercalls count={count}'
    with hospes([calm, hostile], name) as m:
        m.expect(r'PASS hostile', timeout, anywhere=True)
        m.expect(r'guest hostile: ended', timeout, anywhere=True)
        m.expect(r'HOSPES-BUSY-OK rounds=[1-9]\d* broken=0 new_warnings=0', timeout, anywhere=True)
        m.send('\x01\x01\x01')
        m.expect(r'console of the hypervisor')
        free = 0
        for _ in range(10):     # what an idle CPU scrubs just now is not counted as free
            m.send('m')
            free = max(free, int(m.expect(r'free (\d+) of \d+ pages').group(1)))
            time.sleep(0.3)
        m.absent(BAD)
    return free


def check(count, name, timeout=120):
    before = free_pages_after(1, name + '-before')
    after = free_pages_after(count, name, timeout)
    if before != after:
        raise AssertionError(f'{before - after} frames are missing after {count} hypercalls')


def test_random_hypercalls():
    check(100000, 'hostile')


@long
def test_ten_million_hypercalls():
    check(10000000, 'hostile-long', 3600)


def test_breakpoint_in_hypervisor():
    """In QEMU a guest's breakpoint stays armed behind its exits, here in code that each of them runs."""
    symbols = subprocess.run(['nm', HOSPES], check=True, capture_output=True, text=True).stdout
    address = int(re.search(r'^(\w+) . svm_decode_exit$', symbols, re.MULTILINE).group(1), 16)
    guest = Guest('breakpoint', kernel=os.path.join(BUILD, 'tests/guest/breakpoint.elf'),
                  initrd=None, memory=64)
    guest.args = f'at={address}'
    with hospes([guest], 'hostile-breakpoint') as m:
        m.expect(r'PASS breakpoint')
        m.expect(r'guest breakpoint: ended')
        m.absent(r'panic:')
