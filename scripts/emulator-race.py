#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows why the tests give guests no time on the first CPU of an emulated machine.

    emulator-race.py [--rounds N] [--seconds N]

One guest does nothing but exit, another on another CPU nothing but load x87 state. At each such
load QEMU's TCG (7.2: cpu_clear_ignne() in target/i386/tcg/sysemu/fpu_helper.c) changes a flag of
the machine's first CPU without a lock. If that CPU is in a world switch meanwhile, its own change
of the same word can get lost, among it whether nested paging is on: the guest faults at once, or
goes on with the hypervisor's registers. Other CPUs have no such trouble, nor have real ones.
"""
import argparse
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, 'tests/system'))
sys.dont_write_bytecode = True

from machine import BUILD, Guest, Machine  # noqa: E402


def race(exits, loads, seconds):
    """What became of it, with the exits on one CPU and the loads on another."""
    guests = [Guest(what, kernel=os.path.join(BUILD, 'tests/guest/x87.elf'), initrd=None,
                    memory=64, keys=f'cpus={cpu}') for what, cpu in (('exit', exits), ('load', loads))]
    for guest in guests:
        guest.args = f'only={guest.name} ms={1000 * seconds}'
    with Machine(append=' '.join(g.config() for g in guests), modules=guests[0].modules(), smp=3,
                 mem=512, name='emulator-race') as m:
        return m.expect(r'(triple fault|panic:|unexpected exit|FAIL|PASS x87).*',
                        60 + 10 * seconds).group(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=int, default=30, help='length of a round')
    args = parser.parse_args()
    for _ in range(args.rounds):
        for exits, loads in (0, 1), (1, 2):
            print(f'exits on CPU {exits}, x87 loads on CPU {loads}: '
                  + race(exits, loads, args.seconds), flush=True)


if __name__ == '__main__':
    main()
