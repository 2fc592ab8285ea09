#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes decode_lengths.h: instruction lengths as objdump sees them.

Run by hand when a row is added: gen_decode_lengths.py > decode_lengths.h
Each row is mode, bytes before the opcode, bytes behind it; then one character
per opcode: a hexadecimal length, or '.' where objdump knows no instruction, or
one of the 80486's test registers or of VIA's cryptography.
"""
import re
import subprocess
import sys
import tempfile

SLOT = 32
ARCH = {16: "i8086", 32: "i386", 64: "x86-64,amd64"}

LEGACY_TAILS = ["00", "4424", "8425", "05", "0425", "c0", "d1", "50", "a8", "46", "7c6b"]
PREFIXES = {16: ["", "66", "67", "6667", "f3", "26"],
            32: ["", "66", "67", "6667", "f2", "64"],
            64: ["", "66", "67", "48", "6648", "f3", "4f", "6541"]}
VEX64 = ["c5f8", "c5fd", "c4e179", "c4e279", "c4e2fd", "c4e379", "62f17c48", "62f27d48",
         "62f37d48", "62f57c48", "62f67d48", "8fe878", "8fe978", "8fea78"]


def rows():
    for mode in (16, 32, 64):
        for tail in LEGACY_TAILS:
            yield mode, "", tail
        for prefix in PREFIXES[mode]:
            for tail in ("00", "c8", "94f5"):
                if prefix:
                    yield mode, prefix, tail
                yield mode, prefix + "0f", tail
            yield mode, prefix + "0f38", "94f5"
            yield mode, prefix + "0f3a", "94f5"
        for tail in LEGACY_TAILS:
            yield mode, "0f", tail
        for vex in VEX64:
            if mode == 64:
                yield mode, vex, "c8"
            if mode != 16:
                yield mode, vex, "94f5"


def lengths(mode, before, after):
    blob = b""
    for opcode in range(256):
        insn = bytes.fromhex(before) + bytes([opcode]) + bytes.fromhex(after)
        blob += insn.ljust(SLOT, b"\x90")
    with tempfile.NamedTemporaryFile() as f:
        f.write(blob)
        f.flush()
        text = subprocess.run(["objdump", "-D", "-z", "-w", "-b", "binary", "-m", "i386",
                               "-M", ARCH[mode], f.name],
                              check=True, capture_output=True, text=True).stdout
    starts, bad = [], set()
    for match in re.finditer(r"^\s*([0-9a-f]+):\t[0-9a-f ]+(?:\t(.*))?$", text, re.M):
        at = int(match.group(1), 16)
        what = (match.group(2) or "").split("#")[0].strip()
        starts.append(at)
        words = set(what.split())
        prefixes = {"data16", "addr16", "addr32", "rep", "repz", "repnz", "es", "cs", "ss", "ds",
                    "fs", "gs", "lock"}
        gone = re.search(r"\(bad\)|%tr|xcrypt|xstore|montmul|xsha", what)
        if gone or all(w in prefixes or w.startswith("rex") for w in words):
            bad.add(at)
    following = dict(zip(starts, starts[1:] + [len(blob)]))
    out = ""
    for opcode in range(256):
        at = opcode * SLOT
        size = following[at] - at if at in following else 0
        out += "%x" % size if at not in bad and 0 < size <= 15 else "."
    return out


def main():
    print("/* SPDX-License-Identifier: MIT */")
    print("/* Written by gen_decode_lengths.py from objdump's disassembly; do not edit. */")
    seen = set()
    for row in rows():
        if row in seen:
            continue
        seen.add(row)
        text = lengths(*row)
        print('{ %d, "%s", "%s",' % row)
        for i in range(0, 256, 64):
            print('\t"%s"%s' % (text[i:i + 64], " }," if i == 192 else ""))


sys.exit(main())
