#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Line coverage of hv/core and hv/x86 in a build directory with coverage: coverage.py <dir>.

Counts what the unit tests of that directory have run, after replaying the inputs that fuzzing
left in build/fuzz/corpus (the committed seeds are part of the unit tests). Fails below the bar.
"""
import json
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BAR = 85.0
FOLDERS = ('hv/core/', 'hv/x86/')


def replay(build):
    found = os.path.join(TOP, 'build/fuzz/corpus')
    for name in sorted(os.listdir(found)) if os.path.isdir(found) else []:
        target = os.path.join(build, 'tests/fuzz', 'fuzz_' + name)
        if os.path.exists(target):
            subprocess.run([target, os.path.join(found, name)], stdout=subprocess.DEVNULL,
                           check=True)


def collect(build):
    """{source: {line: count}}, merged over all objects a source is part of."""
    lines = {}
    for folder, _, files in os.walk(build):
        notes = sorted(f for f in files if f.endswith('.gcno'))
        if not notes:
            continue
        out = subprocess.run(['gcov', '--json-format', '--stdout', *notes], cwd=folder,
                             capture_output=True, text=True, check=True).stdout
        for report in out.splitlines():
            if not report.startswith('{'):
                continue
            for source in json.loads(report)['files']:
                path = source['file']
                if not os.path.isabs(path):
                    path = next((p for p in (os.path.join(base, path) for base in (build, TOP))
                                 if os.path.exists(p)), path)
                path = os.path.relpath(os.path.realpath(path), TOP)
                if not path.startswith(FOLDERS):
                    continue
                counts = lines.setdefault(path, {})
                for line in source['lines']:
                    number = line['line_number']
                    counts[number] = max(counts.get(number, 0), line['count'])
    return lines


def ranges(numbers):
    """'3-5 9': consecutive numbers joined."""
    out = []
    for n in sorted(numbers):
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ' '.join(str(a) if a == b else f'{a}-{b}' for a, b in out)


def main():
    build = os.path.abspath(sys.argv[1])
    replay(build)
    lines = collect(build)
    total = hit = 0
    for path in sorted(lines):
        counts = lines[path]
        missed = [n for n, c in counts.items() if not c]
        total += len(counts)
        hit += len(counts) - len(missed)
        share = 100.0 * (len(counts) - len(missed)) / max(len(counts), 1)
        print(f'{share:6.1f} % of {len(counts):5} {path}  {ranges(missed)[:60]}')
    share = 100.0 * hit / max(total, 1)
    print(f'{share:6.1f} % of {total:5} lines in hv/core and hv/x86 (bar: {BAR:.0f} %)')
    return 0 if share >= BAR else 1


if __name__ == '__main__':
    sys.exit(main())
