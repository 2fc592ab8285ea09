# SPDX-License-Identifier: MIT
"""An emulated machine under test: starts QEMU, reads its serial line, types into it.

    with hospes([Guest('a', args='hospes.test=busy:5'), Guest('b', vcpus=2)]) as m:
        m.expect(r'HOSPES-INIT-OK name=b cpus=2')
        m.expect(r'HOSPES-BUSY-OK')

Time limits guard against hangs only: nothing passes or fails because of speed. No emulator
outlives the program, however it ends.
"""
import ctypes
import os
import re
import signal
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('HOSPES_BUILD', os.path.join(TOP, 'build/gcc'))
HOSPES = os.path.join(BUILD, 'hospes.elf')
GUESTS = os.path.join(TOP, 'build/guests')
CLOUD = os.path.join(GUESTS, 'vmlinuz-cloud')
GENERIC = os.path.join(GUESTS, 'vmlinuz-generic')
VMLINUX = os.path.join(GUESTS, 'vmlinux-cloud')
INITRD = os.path.join(GUESTS, 'initrd.cpio')
LOGS = os.path.join(TOP, 'build/logs')

CPU = 'max,+svm,-la57,-pku'
# Slow machines and busy ones: every limit below is multiplied by this.
PATIENCE = float(os.environ.get('HOSPES_PATIENCE', '1'))

ESCAPES = re.compile(r'\x1b(\[[0-9;?]*[A-Za-z]|c)')


class Failure(Exception):
    """The machine did not do what the test wants. Carries the end of its output."""


class Skip(Exception):
    """Raised by a test that cannot run here; counted and shown, never silent."""


def _die_with_parent():
    """In the child before exec: SIGKILL when this program goes, even if it is killed itself."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Machine:
    """One run of the emulator. All text seen is in .text, escape sequences removed."""

    def __init__(self, kernel=HOSPES, append='', modules=(), smp=2, mem=2048, cpu=CPU, extra=(),
                 name='machine'):
        args = ['qemu-system-x86_64', '-M', 'q35,accel=tcg', '-cpu', cpu, '-smp', str(smp),
                '-m', str(mem), '-display', 'none', '-serial', 'stdio', '-monitor', 'none',
                '-no-reboot', '-nodefaults']
        if kernel:             # otherwise it boots from what extra brings
            args += ['-kernel', kernel]
        if append:
            args += ['-append', append]
        if modules:
            args += ['-initrd', ','.join(module_argument(m) for m in modules)]
        args += list(extra)
        self.args = args
        self.name = name
        self.text = ''
        self.seen = 0          # expect() looks from here on
        self.started = time.monotonic()
        self._more = threading.Condition()
        self._open = True
        os.makedirs(LOGS, exist_ok=True)
        self.log_path = os.path.join(LOGS, name + '.log')
        self._log = open(self.log_path, 'wb')
        self._log.write((' '.join(repr(a) if ' ' in a else a for a in args) + '\n').encode())
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, preexec_fn=_die_with_parent)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self):
        tail = ''
        while True:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            self._log.write(data)
            self._log.flush()
            text = tail + data.decode('utf-8', 'replace').replace('\r', '')
            # An escape sequence may be cut by the end of the read.
            cut = text.rfind('\x1b')
            if cut >= 0 and len(text) - cut < 16 and not ESCAPES.match(text, cut):
                text, tail = text[:cut], text[cut:]
            else:
                tail = ''
            with self._more:
                self.text += ESCAPES.sub('', text)
                self._more.notify_all()
        with self._more:
            self._open = False
            self._more.notify_all()

    def elapsed(self):
        return time.monotonic() - self.started

    def expect(self, pattern, timeout=120, anywhere=False):
        """Waits for a regular expression; returns its match.

        The search begins behind the previous match, or at the start of all output if anywhere.
        """
        regex = re.compile(pattern, re.MULTILINE)
        limit = time.monotonic() + timeout * PATIENCE
        with self._more:
            while True:
                match = regex.search(self.text, 0 if anywhere else self.seen)
                if match:
                    if not anywhere:
                        self.seen = match.end()
                    return match
                if not self._open:
                    raise self.failure(f'ended before {pattern!r}')
                left = limit - time.monotonic()
                if left <= 0:
                    raise self.failure(f'no {pattern!r} within {timeout * PATIENCE:.0f} s')
                self._more.wait(left)

    def expect_all(self, patterns, timeout=120):
        """Waits for all the expressions, in any order; returns their matches."""
        limit = time.monotonic() + timeout
        found = [self.expect(p, max(limit - time.monotonic(), 1), anywhere=True) for p in patterns]
        self.seen = max([self.seen] + [m.end() for m in found])
        return found

    def absent(self, pattern):
        """Fails if the output so far has the expression."""
        with self._more:
            match = re.search(pattern, self.text, re.MULTILINE)
        if match:
            raise self.failure(f'unexpected {match.group(0)!r}')

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def command(self, line, pattern, timeout=60):
        """Types a line at a shell and waits for its answer.

        The echo of the line does not count as the answer.
        """
        self.send(line + '\n')
        self.expect(re.escape(line), timeout)
        return self.expect(pattern, timeout)

    def wait_exit(self, timeout=120):
        """Waits until the emulator ends by itself (power off, or reset with -no-reboot)."""
        try:
            self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            raise self.failure('still running') from None
        self._reader.join(10)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        for f in (self.process.stdin, self.process.stdout, self._log):
            try:
                f.close()
            except OSError:
                pass

    def failure(self, what):
        end = '\n'.join(self.text.splitlines()[-25:])
        return Failure(f'{what}\n--- end of {self.log_path}:\n{end}')


def module_argument(module):
    """One boot module for -initrd: a path, or (path, arguments). Commas are doubled."""
    path, args = (module, '') if isinstance(module, str) else module
    return f'{path} {args}'.strip().replace(',', ',,')


class Guest:
    """A static guest of the hypervisor: a stock kernel unless told otherwise."""

    def __init__(self, name, kernel=CLOUD, initrd=INITRD, memory=128, vcpus=1, args='', keys=''):
        self.name = name
        self.kernel = kernel
        self.initrd = initrd
        self.memory = memory
        self.vcpus = vcpus
        self.args = f'console=hvc0 quiet guest={name} {args}'.strip()
        self.keys = keys       # more of the configuration: 'weight=10 on_crash=restart'

    def config(self, keys=''):
        """The guest as a word of the hypervisor's command line, with more keys before its own."""
        words = [f'name={self.name}', f'kernel={os.path.basename(self.kernel)}']
        if self.initrd:
            words.append(f'initrd={os.path.basename(self.initrd)}')
        words += [f'memory={self.memory}M', f'vcpus={self.vcpus}', keys, self.keys,
                  f"args='{self.args}'"]
        return 'guest="' + ' '.join(w for w in words if w) + '"'

    def modules(self):
        return [m for m in (self.kernel, self.initrd) if m]


def hospes_arguments(guests, options='', cpus=2):
    """(CPUs, command line, boot modules) of a machine with these guests on this many CPUs.

    Of several CPUs the first is one more and runs no guest: in QEMU's TCG a CPU that loads x87
    state rewrites flags of the first CPU without a lock, and a world switch there can lose its
    change to them. scripts/emulator-race.py shows it. Each file is loaded once.
    """
    modules = list(dict.fromkeys(m for g in guests for m in g.modules()))
    keys = f'cpus=1-{cpus}' if cpus > 1 else ''
    words = [options] * bool(options) + [g.config(keys) for g in guests]
    return cpus + (cpus > 1), ' '.join(words), modules


def hospes(guests, name, options='', cpus=2, **settings):
    """A machine running the hypervisor with these guests."""
    if not os.path.exists(HOSPES):
        raise Skip('no hypervisor image in ' + BUILD)
    smp, append, modules = hospes_arguments(guests, options, cpus)
    return Machine(append=append, modules=modules, smp=smp, name=name, **settings)


def long(test):
    """Marks a test that only runs with tests/run --long."""
    test.long = True
    return test
