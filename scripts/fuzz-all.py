#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs every fuzz target for a number of seconds each: fuzz-all.py <seconds> [part of a name]...

As many at a time as HOSPES_JOBS says (default: all CPUs). Inputs found are kept in
build/fuzz/corpus, logs in build/logs. Closes with 'N passed, N failed'.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGETS = os.path.join(TOP, 'build/fuzz/tests/fuzz')
LOGS = os.path.join(TOP, 'build/logs')


def fuzz(name, seconds):
    log = os.path.join(LOGS, f'fuzz-{name}.log')
    with open(log, 'wb') as out:
        rc = subprocess.call([sys.executable, os.path.join(TOP, 'tests/fuzz/run.py'),
                              os.path.join(TARGETS, 'fuzz_' + name),
                              os.path.join(TOP, 'tests/fuzz/corpus', name), seconds,
                              os.path.join(TOP, 'build/fuzz/corpus', name)],
                             stdout=out, stderr=subprocess.STDOUT)
    with open(log, encoding='utf-8', errors='replace') as f:
        text = f.read()
    runs = re.findall(r'number_of_executed_units: *(\d+)', text)
    detail = f'{runs[-1]} runs' if runs else 'no statistics'
    if rc:
        detail += f', see {log}\n' + '\n'.join(text.splitlines()[-30:])
    print(f"{'FAIL' if rc else 'PASS'} {name} ({detail})", flush=True)
    return rc == 0


def main():
    seconds = sys.argv[1]
    wanted = sys.argv[2:]
    names = sorted(f[5:] for f in os.listdir(TARGETS) if re.fullmatch(r'fuzz_[a-z0-9_]+', f))
    names = [n for n in names if not wanted or any(w in n for w in wanted)]
    jobs = int(os.environ.get('HOSPES_JOBS', os.cpu_count() or 1))
    os.makedirs(LOGS, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        good = sum(pool.map(lambda n: fuzz(n, seconds), names))
    print(f'{good} passed, {len(names) - good} failed')
    return 0 if names and good == len(names) else 1


if __name__ == '__main__':
    sys.exit(main())
