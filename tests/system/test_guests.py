# SPDX-License-Identifier: MIT
"""Tiny guests, one behaviour each, side by side on the hypervisor: tests/guest/run as tests."""
import importlib.machinery
import importlib.util
import os

from machine import HOSPES, TOP, Failure, Skip

RUN = os.path.join(TOP, 'tests/guest/run')


def load_runner():
    loader = importlib.machinery.SourceFileLoader('guest_run', RUN)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('guest_run', loader))
    loader.exec_module(module)
    return module


runner = load_runner()
said = {}       # name: what it and the hypervisor said, once its batch ran


def all_guests():
    names = sorted(f[:-2] for f in os.listdir(os.path.dirname(RUN)) if f.endswith('.c'))
    return [g for g in map(runner.settings, names) if g['only'] in (None, 'hospes')]


def check(guest):
    """The first test of a batch runs all of it."""
    if not os.path.exists(HOSPES):
        raise Skip('no hypervisor image at ' + HOSPES)
    if guest['name'] not in said:
        batch = next(b for b in runner.batches(all_guests()) if guest in b)
        said.update(runner.on_hospes(batch, False))
    verdict, lines = runner.judge(guest, said[guest['name']], 'hospes')
    if verdict == 'SKIP':
        raise Skip('\n'.join(lines))
    if verdict != 'PASS':
        raise Failure('\n'.join(lines[:12]))


def make(guest):
    def test():
        check(guest)
    return test


for each in all_guests():
    globals()['test_' + each['name']] = make(each)
