#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes boot media with GRUB, for BIOS and UEFI: an ISO for CD or USB stick, or a disk.

    iso.py [--output FILE] [--disk FILE] [--image FILE] [--options TEXT] [--control MIB]
           [MODULE | 'MODULE ARGUMENTS']...

Each module is a file, with arguments behind a blank; the hypervisor knows it by its file name.
--control MIB adds the control domain of `make control`.
"""
import argparse
import os
import shlex
import shutil
import struct
import subprocess
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUESTS = os.path.join(TOP, 'build/guests')
GRUB = '/usr/lib/grub'
MIB = 1 << 20
SECTOR = 512

CONFIG = '''set timeout=0
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
menuentry "Hospes" {{
	multiboot2 /boot/hospes.elf {options}
{modules}
}}
'''

# What GRUB on a disk starts with: it finds its configuration by the hypervisor's file.
FIND = '''search --file --set=root /boot/hospes.elf
set prefix=($root)/boot/grub
configfile /boot/grub/grub.cfg
'''
PARTS = '''part_msdos fat search search_fs_file configfile normal multiboot2 serial terminal
    echo'''.split()


def words(text):
    """A command line as GRUB wants it: it takes the quotes off and puts its own on again."""
    return ' '.join("'" + w.replace("'", "'\\''") + "'" for w in shlex.split(text))


def fill(root, image, options, modules):
    """Writes what every medium holds into a folder: hypervisor, modules, GRUB's configuration."""
    boot = os.path.join(root, 'boot')
    os.makedirs(os.path.join(boot, 'grub'))
    shutil.copy(image, os.path.join(boot, 'hospes.elf'))
    lines = []
    for module in modules:
        path, _, arguments = module.partition(' ')
        name = os.path.basename(path)
        shutil.copy(path, os.path.join(boot, name))
        lines.append(f'\tmodule2 /boot/{name} {name} {words(arguments)}')
    with open(os.path.join(boot, 'grub/grub.cfg'), 'w', encoding='utf-8') as f:
        f.write(CONFIG.format(options=words(options), modules='\n'.join(lines)))


def make(output, image, options='', modules=()):
    with tempfile.TemporaryDirectory() as root:
        fill(root, image, options, modules)
        subprocess.run(['grub-mkrescue', '-o', output, root], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def core(root, platform, output, parts):
    """GRUB itself, with the configuration FIND inside."""
    config = os.path.join(root, 'find.cfg')
    with open(config, 'w', encoding='utf-8') as f:
        f.write(FIND)
    subprocess.run(['grub-mkimage', '-O', platform, '-c', config, '-o', output,
                    '-p', '/boot/grub', *PARTS, *parts], check=True)


def make_disk(output, image, options='', modules=()):
    """A disk with one FAT partition, which is also UEFI's, behind GRUB for BIOS.

    GRUB's boot sector looks for the rest of GRUB in the sectors behind it, and there it is.
    """
    with tempfile.TemporaryDirectory() as work:
        root = os.path.join(work, 'root')
        os.makedirs(os.path.join(root, 'EFI/BOOT'))
        fill(root, image, options, modules)
        efi, bios = os.path.join(root, 'EFI/BOOT/BOOTX64.EFI'), os.path.join(work, 'core')
        core(work, 'x86_64-efi', efi, ['efi_gop', 'all_video'])
        core(work, 'i386-pc', bios, ['biosdisk'])
        size = sum(os.path.getsize(os.path.join(folder, f))
                   for folder, _, files in os.walk(root) for f in files)
        size = (size * 5 // 4 // MIB + 64) * MIB
        with open(os.path.join(GRUB, 'i386-pc/boot.img'), 'rb') as f:
            sector = bytearray(f.read(SECTOR))
        sector[446:510] = struct.pack('<B3sB3sII48x', 0x80, b'\xfe\xff\xff', 0xef, b'\xfe\xff\xff',
                                      MIB // SECTOR, size // SECTOR)
        with open(bios, 'rb') as f:
            behind = f.read()
        if len(behind) > MIB - SECTOR:
            raise SystemExit('iso.py: GRUB does not fit in front of the partition')
        with open(output, 'wb') as f:
            f.write(sector + behind)
            f.truncate(MIB + size)
        partition = f'{output}@@1M'
        subprocess.run(['mformat', '-i', partition, '-F', '-T', str(size // SECTOR), '-h', '255',
                        '-s', '63', '-H', str(MIB // SECTOR), '::'], check=True)
        subprocess.run(['mcopy', '-i', partition, '-s', '-Q', os.path.join(root, 'boot'),
                        os.path.join(root, 'EFI'), '::'], check=True)


def control(memory):
    """(options, modules) of the control domain, its RAM disk packed: firmware reads slowly."""
    packed = os.path.join(GUESTS, 'control.cpio.zst')
    plain = os.path.join(GUESTS, 'control.cpio')
    if not os.path.exists(packed) or os.path.getmtime(packed) < os.path.getmtime(plain):
        subprocess.run(['nice', 'zstd', '-q', '-f', '-9', plain, '-o', packed + '.new'], check=True)
        os.replace(packed + '.new', packed)
    config = (f'control="kernel=vmlinuz-generic initrd=control.cpio.zst memory={memory} vcpus=1 '
              "args='console=hvc0 quiet'\"")
    return config, [os.path.join(GUESTS, 'vmlinuz-generic'), packed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', help='the ISO; the default is build/hospes.iso')
    parser.add_argument('--disk', help='the disk image')
    parser.add_argument('--image', default=os.path.join(TOP, 'build/gcc/hospes.elf'))
    parser.add_argument('--options', default='', help='the command line of the hypervisor')
    parser.add_argument('--control', type=int, metavar='MIB', help='a control domain of this size')
    parser.add_argument('modules', nargs='*')
    args = parser.parse_args()
    options, modules = args.options, args.modules
    if args.control:
        config, files = control(args.control)
        options, modules = f'{config} {options}'.strip(), files + modules
    if args.disk:
        make_disk(args.disk, args.image, options, modules)
        print(args.disk)
    if args.output or not args.disk:
        output = args.output or os.path.join(TOP, 'build/hospes.iso')
        make(output, args.image, options, modules)
        print(output)


if __name__ == '__main__':
    main()
