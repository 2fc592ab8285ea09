#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Starts the hypervisor in QEMU with stock Debian guests on this terminal.

    run.py [--guests N] [--memory MIB] [--cpus N] [--kernel cloud|generic] [--print]

Ctrl-A three times moves from guest to guest and to the hypervisor; Ctrl-] x ends the machine.
"""
import argparse
import os
import shlex
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, 'tests/system'))
sys.dont_write_bytecode = True

from machine import CLOUD, CPU, GENERIC, HOSPES, Guest, hospes_arguments, module_argument  # noqa: E402

NAMES = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--guests', type=int, default=2, choices=range(1, 9), metavar='N')
    parser.add_argument('--memory', type=int, default=256, metavar='MIB', help='of each guest')
    parser.add_argument('--vcpus', type=int, default=1, metavar='N', help='of each guest')
    parser.add_argument('--cpus', type=int, default=2, metavar='N', help='for the guests')
    parser.add_argument('--kernel', choices=['cloud', 'generic'], default='cloud')
    parser.add_argument('--options', default='', help='more of the hypervisor command line')
    parser.add_argument('--print', action='store_true', help='show the command only')
    args = parser.parse_args()

    kernel = CLOUD if args.kernel == 'cloud' else GENERIC
    guests = [Guest(n, kernel=kernel, memory=args.memory, vcpus=args.vcpus, args='loglevel=3')
              for n in NAMES[:args.guests]]
    smp, append, modules = hospes_arguments(guests, args.options, args.cpus)
    command = ['qemu-system-x86_64', '-M', 'q35,accel=tcg', '-cpu', CPU, '-smp', str(smp),
               '-m', str(args.memory * args.guests + 512), '-display', 'none', '-nodefaults',
               '-serial', 'mon:stdio', '-echr', '29', '-no-reboot', '-kernel', HOSPES,
               '-append', append, '-initrd', ','.join(module_argument(m) for m in modules)]
    if args.print:
        print(shlex.join(command))
        return
    print('Ctrl-A three times: next console.   Ctrl-] x: end.', flush=True)
    os.execvp(command[0], command)


if __name__ == '__main__':
    main()
