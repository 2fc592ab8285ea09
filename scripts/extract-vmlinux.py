#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the ELF kernel packed inside a bzImage: extract-vmlinux.py <bzImage> <vmlinux>.

The x86 boot protocol names the place: payload_offset and payload_length (protocol 2.08 and
later) count from the start of the protected-mode code, after setup_sects + 1 sectors.
"""
import lzma
import struct
import sys
import zlib


def lz4_block(block, out):
    """Appends one unpacked LZ4 block to out."""
    pos = 0
    end = len(block)
    while pos < end:
        token = block[pos]
        pos += 1
        literals = token >> 4
        if literals == 15:
            while True:
                more = block[pos]
                pos += 1
                literals += more
                if more != 255:
                    break
        out += block[pos:pos + literals]
        pos += literals
        if pos >= end:
            break
        back = block[pos] | block[pos + 1] << 8
        pos += 2
        length = (token & 15) + 4
        if length == 19:
            while True:
                more = block[pos]
                pos += 1
                length += more
                if more != 255:
                    break
        start = len(out) - back
        if back >= length:
            out += out[start:start + length]
        else:
            piece = bytes(out[start:])
            out += (piece * (length // back + 1))[:length]


def lz4_legacy(payload):
    """The frame format without checksums: a magic, then blocks with their packed size."""
    out = bytearray()
    pos = 4
    while pos + 8 <= len(payload):
        size, = struct.unpack_from('<I', payload, pos)
        lz4_block(payload[pos + 4:pos + 4 + size], out)
        pos += 4 + size
    return bytes(out)


def unpack(payload):
    """Decompresses by magic. Some formats carry the unpacked size in four more bytes at the end."""
    if payload.startswith(b'\xfd7zXZ\0'):
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    if payload.startswith(b'\x5d\0\0'):
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload)
    if payload.startswith(b'\x1f\x8b'):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload)
    if payload.startswith(b'\x02\x21\x4c\x18'):
        return lz4_legacy(payload)
    if payload.startswith(b'\x7fELF'):
        return payload
    sys.exit('extract-vmlinux.py: unknown compression ' + payload[:4].hex())


def main():
    image = open(sys.argv[1], 'rb').read()
    if image[0x202:0x206] != b'HdrS' or struct.unpack_from('<H', image, 0x206)[0] < 0x208:
        sys.exit('extract-vmlinux.py: not a bzImage with a payload field')
    setup_sects = image[0x1f1] or 4
    offset, length = struct.unpack_from('<II', image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    elf = unpack(image[start:start + length])
    if not elf.startswith(b'\x7fELF'):
        sys.exit('extract-vmlinux.py: the payload is no ELF file')
    with open(sys.argv[2], 'wb') as out:
        out.write(elf)


if __name__ == '__main__':
    main()
