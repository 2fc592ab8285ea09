#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs one libFuzzer target for a number of seconds: run.py <target> <seeds> <seconds> [work folder].

New inputs go to the work folder (default: a temporary one); the seeds are only read. A crash
leaves its input beside the target and makes this program fail.
"""
import os
import subprocess
import sys
import tempfile


def main():
    target, seeds, seconds = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as tmp:
        work = sys.argv[4] if len(sys.argv) > 4 else tmp
        os.makedirs(work, exist_ok=True)
        args = [target, work]
        if os.path.isdir(seeds):
            args.append(seeds)
        args += [f'-max_total_time={seconds}', '-timeout=25', '-rss_limit_mb=2048',
                 '-print_final_stats=1', '-verbosity=0',
                 f'-artifact_prefix={target}-crash-']
        return subprocess.call(args)


if __name__ == '__main__':
    sys.exit(main())
