# SPDX-License-Identifier: MIT
"""Machines with a control domain: Debian's stock kernel and the image of scripts/control-image.sh.

HOSPES_PEER=xen (or xen-pv) starts Debian's Xen 4.17 instead of the hypervisor under test, and
HOSPES_PEER=none the kernel alone: so the sessions and devices themselves are checked.
"""
import os
import sys

from machine import CPU, GUESTS, HOSPES, TOP, Machine, Skip

VMLINUX = os.path.join(GUESTS, 'vmlinux-generic')
IMAGE = os.path.join(GUESTS, 'control.cpio')
PEER = os.environ.get('HOSPES_PEER', 'hospes')

# What makes the device of the emulator; {} is the name of its disk or network.
DISKS = {'virtio': ['-device', 'virtio-blk-pci,drive={}'],
         'nvme': ['-device', 'nvme,serial=1,drive={}'],
         'ahci': ['-device', 'ide-hd,drive={},bus=ide.0']}
CARDS = {'virtio': 'virtio-net-pci', 'e1000e': 'e1000e'}
IOMMUS = {None: [], 'intel': ['-device', 'intel-iommu,intremap=on'],
          'intel-dma': ['-device', 'intel-iommu,intremap=off'],
          'amd': ['-device', 'amd-iommu']}


def disk(kind, path, name='disk0'):
    """Arguments of the emulator for a disk with a raw image; what is written is forgotten."""
    return (['-drive', f'if=none,id={name},format=raw,file={path},snapshot=on'] +
            [a.format(name) for a in DISKS[kind]])


def card(kind, backend='user', name='net0'):
    """Arguments of the emulator for a network card."""
    return ['-netdev', f'{backend},id={name}', '-device', f'{CARDS[kind]},netdev={name}']


def xen():
    """The ELF image of Debian's Xen, downloaded the first time."""
    sys.path.insert(0, os.path.join(TOP, 'bench'))
    from xen import peer  # pylint: disable=import-outside-toplevel
    return peer.hypervisor()[1]


def arguments(on=PEER, linux='', options='', memory=768, vcpus=1, cpus=1, iommu=None, extra=(),
              image=IMAGE):
    """Everything of a Machine but its name, for a hypervisor with a control domain.

    cpus counts those that run guests: Hospes gets one more for them, as hospes_arguments() does.
    """
    for path in (VMLINUX, image):
        if not os.path.exists(path):
            raise Skip('no control domain: scripts/control-image.sh makes it')
    settings = {'smp': cpus, 'mem': 2048, 'extra': IOMMUS[iommu] + list(extra), 'cpu': CPU}
    if on == 'none':
        return dict(settings, kernel=VMLINUX, append=f'console=ttyS0 quiet {linux}',
                    modules=[image])
    linux = f'console=hvc0 quiet {linux}'.strip()
    if on == 'hospes':
        if not os.path.exists(HOSPES):
            raise Skip('no hypervisor image')
        config = (f'control="kernel={os.path.basename(VMLINUX)} initrd={os.path.basename(image)} '
                  f"memory={memory} vcpus={vcpus} args='{linux}'\"")
        return dict(settings, kernel=HOSPES, append=f'{options} {config}'.strip(),
                    modules=[VMLINUX, image])
    if on not in ('xen', 'xen-pv'):
        raise Skip(f'no such peer: {on}')
    kind = 'pv' if on == 'xen-pv' else 'pvh'
    cpu = 'max,+svm,-la57,-pku,-rdtscp'
    if kind == 'pv':
        cpu += ',-smap,-smep'
    elif iommu is None:        # its PVH control domain needs one
        settings['extra'] = IOMMUS['intel-dma'] + settings['extra']
    # With state of the FPU that is loaded late, QEMU 7.2 loses AVX registers: programs crash.
    append = (f'spec-ctrl=eager-fpu dom0={kind} dom0_mem={memory}M,max:{memory}M '
              f'dom0_max_vcpus={vcpus} console=com1 loglvl=warning guest_loglvl=warning '
              f'cpufreq=none edd=off {options}')
    return dict(settings, kernel=xen(), append=append, cpu=cpu,
                modules=[(VMLINUX, linux), image])


def control(name, mem=None, **settings):
    """A machine with a control domain, on what HOSPES_PEER says."""
    found = arguments(**settings)
    if mem:
        found['mem'] = mem
    return Machine(name='control-' + name, **found)
