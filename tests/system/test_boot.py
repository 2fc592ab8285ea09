# SPDX-License-Identifier: MIT
"""The hypervisor alone: ways to boot it, sizes of machine, page tables, panic, power."""
import os
import re
import socket
import sys
import tempfile
import time

from machine import BUILD, CPU, HOSPES, TOP, Machine, Skip, long

sys.path.insert(0, os.path.join(TOP, 'scripts'))
import iso  # noqa: E402

OVMF = '/usr/share/OVMF'
CDROM = ['-drive', 'media=cdrom,file={}']
DISK = ['-drive', 'format=raw,snapshot=on,file={}']
MENU = '\x01\x01\x01'      # from no guest to the hypervisor's keys
MB1_MAGIC = (0x1badb002).to_bytes(4, 'little')


def machine(name, kernel=HOSPES, **settings):
    if not os.path.exists(HOSPES):
        raise Skip('no hypervisor image in ' + BUILD)
    return Machine(kernel=kernel, name='boot-' + name, **settings)


def up(m, protocol='multiboot 1', cpus=2):
    """Every boot must get this far, with nothing writable and executable."""
    m.expect(rf'Hospes \S+, started by {protocol}')
    m.expect(rf'{cpus} CPUs? online, TSC synchronous')
    m.expect(r'page table audit: [1-9]\d+ mappings, 0 writable and executable, '
             r'0 writable over code or constants')
    m.expect(r'0 of \d guests started')
    m.absent(r'panic:|stray interrupt|does not start|no ACPI')


def menu(m):
    """Types until the key menu answers: proves the serial interrupt too."""
    m.send(MENU)
    m.expect(r'console of the hypervisor')


def test_multiboot1():
    with machine('multiboot1') as m:
        up(m)
        m.send(MENU + '!#h')         # keys for self-tests only: they do nothing here
        m.expect(r'^h  this help')
        m.expect(r'^P  power')
        m.absent(r'^[!#]  |panic')


def test_pvh():
    if not os.path.exists(HOSPES):
        raise Skip('no hypervisor image in ' + BUILD)
    with open(HOSPES, 'rb') as f:
        image = f.read()
    assert image.count(MB1_MAGIC, 0, 8192) == 1
    path = os.path.join(BUILD, 'hospes-pvh.elf')
    with open(path, 'wb') as f:
        f.write(image.replace(MB1_MAGIC, bytes(4), 1))
    with machine('pvh', kernel=path, append='loglevel=3') as m:
        up(m, 'PVH')
        menu(m)


def from_medium(name, make, device, extra=()):
    if not os.path.exists(HOSPES):
        raise Skip('no hypervisor image in ' + BUILD)
    path = os.path.join(BUILD, name + '.medium')
    make(path, HOSPES, 'cpus=2 noreboot selftest', [os.path.abspath(__file__) + ' two words'])
    extra = [a.format(path) for a in device] + list(extra)
    with machine(name, kernel=None, extra=extra, smp=4, mem=512) as m:
        m.expect(r'started by multiboot 2', 300)
        m.expect(r'MiB free, 1 boot modules')
        m.seen = 0
        up(m, 'multiboot 2')
        menu(m)
        m.send('!')
        m.expect(r'panic: asked for by key')
        m.expect(r'halted')          # the option got through as well


def uefi():
    code, variables = (os.path.join(OVMF, f) for f in ('OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd'))
    if not os.path.exists(code):
        raise Skip('no OVMF')
    flash = 'if=pflash,format=raw,file='
    return ['-drive', flash + code + ',readonly=on', '-drive', flash + variables + ',snapshot=on']


def test_grub_bios():
    from_medium('grub-bios', iso.make, CDROM)


def test_grub_uefi():
    from_medium('grub-uefi', iso.make, CDROM, uefi())


def test_disk_bios():
    from_medium('disk-bios', iso.make_disk, DISK)


def test_disk_uefi():
    from_medium('disk-uefi', iso.make_disk, DISK, uefi())


def cpus(number):
    with machine(f'cpus-{number}', smp=number, mem=512) as m:
        up(m, cpus=number)
        menu(m)


def test_cpus():
    for number in (1, 4, 16):
        cpus(number)


@long
def test_cpus_64():
    cpus(64)


def test_cpus_limited():
    with machine('cpus-limited', smp=4, append='cpus=3') as m:
        up(m, cpus=3)


def test_memory():
    """What is free is what the machine has, less 1 % and the 16 MiB that a boot itself takes."""
    for mem in (128, 4096, 16384):
        with machine(f'memory-{mem}', mem=mem) as m:
            free = int(m.expect(r'(\d+) of \d+ MiB free').group(1))
            if not mem * 0.99 - 16 < free < mem:
                raise m.failure(f'{free} MiB free of {mem}')
            m.seen = 0
            up(m)


def test_boot_instructions():
    """Counting instructions, one per ns: a 1 GHz TSC, the same every time, and few of them.

    The reference ticks a million times while the TSC is measured: so exact can it be.
    """
    def run(name):
        with machine(name, smp=1, mem=1024, extra=['-icount', 'shift=0,sleep=off']) as m:
            up(m, cpus=1)
            m.absent(r'TSC at (?!(999999|100000[01]) kHz)')
            return re.search(r'\[ *(\d+\.\d+)\] 0 of 0 guests started', m.text).group(1)

    first, second = run('icount-1'), run('icount-2')
    assert first == second, (first, second)
    assert float(first) < 0.030, f'{first} s are too many instructions'


def test_old_parts():
    """Without x2APIC and HPET: the registers in memory, and the PIT as reference."""
    with machine('old-parts', smp=4, cpu=CPU + ',-x2apic', extra=['-machine', 'hpet=off']) as m:
        m.expect(r'local APIC in xAPIC mode')
        m.expect(r'TSC at \d+ kHz by the PIT')
        m.seen = 0
        up(m, cpus=4)
        menu(m)


def test_console_on_com2():
    with tempfile.NamedTemporaryFile() as log:
        with machine('com2', append='console=com2 baud=9600',
                     extra=['-serial', 'file:' + log.name]) as m:
            for _ in range(600):
                time.sleep(0.1)
                log.seek(0)
                if b'guests started' in log.read():
                    m.absent('Hospes')
                    return
            raise m.failure('nothing on the second port')


def test_loglevel():
    """Warnings and answers, but no information."""
    with machine('loglevel', append='loglevel=1 colour=blue') as m:
        m.expect(r'option colour is unknown')
        menu(m)
        m.absent(r'started|online|free')


def test_long_command_line():
    """What does not fit is cut, and said so."""
    with machine('long-line', append='loglevel=3 ' + 'y' * 20000) as m:
        m.expect(r'option y+ is unknown')
        m.expect(r'command lines are cut')
        m.seen = 0
        up(m)


def test_serial_flood():
    """More bytes than any buffer takes, faster than they are read: it answers afterwards."""
    with machine('flood') as m:
        up(m)
        menu(m)
        m.send('?' * 8000)
        for _ in range(600):         # while the ring is full, keys get lost
            m.send('h')
            time.sleep(0.1)
            if '\nh  this help' in m.text:
                return
        raise m.failure('no answer any more')


def test_panic():
    with machine('panic', append='selftest') as m:
        up(m)
        menu(m)
        m.send('!')
        m.expect(r'panic: asked for by key \(CPU 0\)')
        m.expect(r'cr0 [0-9a-f]+ cr2 [0-9a-f]+ cr3 [0-9a-f]+ cr4 [0-9a-f]+')
        for function in ('key_panic', 'key_press', 'console_poll', 'pcpu_main', 'start_core'):
            m.expect(rf'ffffffff80[0-9a-f]{{6}} {function}\+0x[0-9a-f]+')
        m.wait_exit()                # it reboots, which ends the emulator


def test_stack_overflow():
    """It meets the guard page, and the double fault has a stack of its own."""
    with machine('overflow', append='selftest noreboot') as m:
        up(m)
        menu(m)
        m.send('#')
        m.expect(r'panic: double fault: stack overflow\? \(CPU 0\)')
        m.expect(r'rsp ffffffffa000a000')
        m.expect(r'cr2 ffffffffa0009ff8')
        # A leaf function keeps no frame, which hides who called it.
        for function in ('key_overflow', 'console_poll', 'pcpu_main', 'start_core'):
            m.expect(rf'ffffffff80[0-9a-f]{{6}} {function}\+0x[0-9a-f]+')
        m.expect(r'halted')


def test_power_keys():
    for key, name in (('R', 'reboot'), ('P', 'poweroff')):
        with machine(name) as m:
            up(m)
            menu(m)
            m.send(key)
            m.wait_exit()
            m.absent(r'panic:|does not power off')


def monitor(path, command):
    """One command for the emulator itself."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        while b'(qemu)' not in s.recv(4096):
            pass
        s.send(command.encode() + b'\n')
        while b'(qemu)' not in s.recv(4096):
            pass


def test_nmi_and_machine_check():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'monitor')
        with machine('mce', extra=['-monitor', f'unix:{path},server,nowait']) as m:
            up(m)
            monitor(path, 'nmi')
            m.expect(r'NMI, system control port 0x')
            menu(m)                  # it goes on
            monitor(path, 'mce 1 2 0xb200000000000000 0x5 0x1234000 0x5678')
            m.expect(r'machine check bank 2: status b200000000000000')
            m.expect(r'panic: machine check')
            m.expect(r'backtrace: ffffffff80[0-9a-f]{6} \w+\+0x')
            m.wait_exit()
