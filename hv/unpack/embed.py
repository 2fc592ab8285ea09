#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the unpacker a C array: embed.py <unpack.elf> <image.c>. It has one PT_LOAD."""
import struct
import sys

elf = open(sys.argv[1], 'rb').read()
phoff, = struct.unpack_from('<Q', elf, 32)
kind, _, offset, vaddr, _, filesz, memsz = struct.unpack_from('<IIQQQQQ', elf, phoff)
if kind != 1 or vaddr != 0:
    sys.exit('embed.py: the first program header is not a PT_LOAD at 0')
image = elf[offset:offset + filesz]
with open(sys.argv[2], 'w') as f:
    f.write('/* Made by embed.py. */\n#include "unpack/unpack.h"\n\n'
            f'const uint32_t unpack_image_size = {filesz};\n'
            f'const uint32_t unpack_memory_size = {memsz};\n'
            'const uint8_t unpack_image[] = {\n')
    for at in range(0, filesz, 16):
        f.write('\t' + ' '.join(f'{b},' for b in image[at:at + 16]) + '\n')
    f.write('};\n')
