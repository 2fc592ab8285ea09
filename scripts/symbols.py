#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the symbol table of panic's backtrace as assembly: symbols.py [<nm> <image>].

Without an image the table is empty: that is what the first link gets. The second link, with the
functions of the first, moves none of them, because the table lies behind all code.
"""
import subprocess
import sys


def functions(nm, image):
    """[(offset from image_start, name)] of everything in the text, rising."""
    text = subprocess.run([nm, image], text=True, capture_output=True, check=True).stdout
    symbols = [line.split() for line in text.splitlines() if len(line.split()) == 3]
    base = next(int(a, 16) for a, _, name in symbols if name == 'image_start')
    end = next(int(a, 16) for a, _, name in symbols if name == 'text_end')
    found = {}
    for address, kind, name in sorted(symbols, key=lambda s: (s[0], s[1] == 't', s[2])):
        if kind in 'tT' and base <= int(address, 16) < end and name != 'image_start':
            found.setdefault(int(address, 16) - base, name)
    return sorted(found.items())


def main():
    table = functions(*sys.argv[1:3]) if len(sys.argv) > 2 else []
    print('\t.section .symbols, "a"\n\t.balign 4\n\t.globl symbol_count, symbol_offsets, symbol_names')
    print(f'symbol_count:\n\t.long {len(table)}')
    print('symbol_offsets:')
    for offset, _ in table:
        print(f'\t.long {offset:#x}')
    print('symbol_names:')
    for _, name in table:
        print(f'\t.asciz "{name}"')
    print('\t.byte 0\n\t.section .note.GNU-stack, "", @progbits')


if __name__ == '__main__':
    main()
