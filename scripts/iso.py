#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a bootable ISO with GRUB, for BIOS and UEFI, for CD or USB stick.

    iso.py [--output FILE] [--image FILE] [--options TEXT] [MODULE | 'MODULE ARGUMENTS']...

Each module is a file, with arguments behind a blank; the hypervisor knows it by its file name.
"""
import argparse
import os
import shlex
import shutil
import subprocess
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

CONFIG = '''set timeout=0
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
menuentry "Hospes" {{
	multiboot2 /boot/hospes.elf {options}
{modules}
}}
'''


def words(text):
    """A command line as GRUB wants it: it takes the quotes off and puts its own on again."""
    return ' '.join("'" + w.replace("'", "'\\''") + "'" for w in shlex.split(text))


def make(output, image, options='', modules=()):
    with tempfile.TemporaryDirectory() as root:
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
        subprocess.run(['grub-mkrescue', '-o', output, root], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', default=os.path.join(TOP, 'build/hospes.iso'))
    parser.add_argument('--image', default=os.path.join(TOP, 'build/gcc/hospes.elf'))
    parser.add_argument('--options', default='', help='the command line of the hypervisor')
    parser.add_argument('modules', nargs='*')
    args = parser.parse_args()
    make(args.output, args.image, args.options, args.modules)
    print(args.output)


if __name__ == '__main__':
    main()
