#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes docs/abi.md, what of the guest ABI is there, from hypercalls.def and ctl.def.

abi-table.py writes the page; abi-table.py --check only says whether it is current.
"""
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEF = os.path.join(TOP, 'hv/include/hospes/hypercalls.def')
CTL = os.path.join(TOP, 'hv/include/hospes/ctl.def')
PAGE = os.path.join(TOP, 'docs/abi.md')

HEAD = '''# Hypercalls

Made from `hypercalls.def` and `ctl.def` in `hv/include/hospes/` by `scripts/abi-table.py`: do not edit. What is in this
table is what the dispatcher has.

- A call or an operation without a row answers -ENOSYS.
- Callers are 64-bit kernels. CPL above 0 gets -EPERM; 16- and 32-bit code gets -ENOSYS, as the 32-bit
  layouts are not offered.
- Arguments in rdi, rsi, rdx, r10, r8, number and result in rax; nothing else changes. A long call may
  be interrupted: then the same instruction runs again with arguments that say how far it came.
- Argument structs are fetched once, before the operation; an address that cannot be read is -EFAULT.
  Results that cannot be written are -EFAULT too, and the operation has happened all the same.

'''

CTL_HEAD = '''
# Operations of the toolstack

domctl and sysctl have the interface version 0x15, platform_op 0x03000001; another answers -EACCES.
They are for the control domain only, and a command without a row answers -ENOSYS.

'''

FLAGS = {'HC_PRIV': 'control domain', 'HC_VCPU': 'names a vCPU', 'HC_LONG': 'continues'}


def rows():
    """(call number, call, [(operation number, name, struct, flags)])"""
    calls = []
    with open(DEF, encoding='utf-8') as f:
        for line in f:
            m = re.match(r'CALL\((\d+), (\w+), (\d+), (\d+), (\w+)\)', line)
            if m:
                calls.append((int(m.group(1)), m.group(2), []))
            m = re.match(r'OP\((\w+), (\d+), (\w+), (\w+), (.+), ([\w |]+)\)$', line.strip())
            if m:
                if m.group(1) != calls[-1][1]:
                    sys.exit(f'{DEF}: operation of {m.group(1)} below {calls[-1][1]}')
                calls[-1][2].append((int(m.group(2)), m.group(3), m.group(5),
                                     m.group(6).split(' | ')))
    return calls


def ctl_rows():
    """[(call, command, name)]"""
    calls = {'DOMCTL': 'domctl', 'SYSCTL': 'sysctl', 'PLATFORM': 'platform_op'}
    with open(CTL, encoding='utf-8') as f:
        found = re.findall(r'^([A-Z]+)\((\d+), (\w+), [\w |]+\)$', f.read(), re.M)
    return [(calls[kind], int(cmd), name) for kind, cmd, name in found]


def argument(size, flags):
    if size == '0':
        return ''
    name = re.sub(r'^sizeof\((?:struct )?(\w+)\)$', r'\1', size)
    way = {'in': 'HC_IN' in flags, 'out': 'HC_OUT' in flags}
    return f'`{name}` ' + '/'.join(w for w, there in way.items() if there)


def page():
    calls = rows()
    total = sum(len(ops) for _, _, ops in calls)
    out = [HEAD, f'{len(calls)} calls, {total} operations.\n\n',
           '| call | operation | argument | notes |\n', '| --- | --- | --- | --- |\n']
    for nr, call, ops in calls:
        for op, name, size, flags in ops:
            what = name if name == call else f'{op} {name}'
            notes = ', '.join(text for flag, text in FLAGS.items() if flag in flags)
            cells = (f'{nr} {call}', what, argument(size, flags), notes)
            out.append('| ' + ' | '.join(cells) + ' |\n')
    out += [CTL_HEAD, '| call | operation |\n', '| --- | --- |\n']
    out += [f'| {call} | {cmd} {name} |\n' for call, cmd, name in ctl_rows()]
    return ''.join(out)


def is_current():
    try:
        with open(PAGE, encoding='utf-8') as f:
            return f.read() == page()
    except FileNotFoundError:
        return False


def main():
    if '--check' in sys.argv[1:]:
        return 0 if is_current() else 1
    os.makedirs(os.path.dirname(PAGE), exist_ok=True)
    with open(PAGE, 'w', encoding='utf-8') as f:
        f.write(page())
    return 0


if __name__ == '__main__':
    sys.exit(main())
