# SPDX-License-Identifier: MIT
"""QEMU's edu device reads and writes memory of its domain, and tries memory of others."""
from control import control
from machine import INITRD

EDU = ['-device', 'edu,dma_mask=0xffffffffffff,addr=05.0']
DEVICE = r'device 0000:00:05\.0 of control'


def dma(name, iommu, reached, options='', times=1):
    """Boots with that IOMMU; returns the machine after the device's transfers, not yet ended."""
    m = control('iommu-' + name, iommu=iommu, options=options, memory=256, image=INITRD, extra=EDU,
                linux=f'guest=control hospes.test=dma:{times}')
    try:
        m.expect(r'HOSPES-INIT-OK name=control', 240)
        m.expect(r'HOSPES-DMA-INSIDE OK', 60)
        there = m.expect(r'HOSPES-DMA-OUTSIDE (\S+) at=(\w+)', 120)
        if there.group(1) != ('REACHED' if reached else 'BLOCKED'):
            raise m.failure(f'the device {there.group(1).lower()} what is not its own')
        m.expect(r'control:\S*# ', 60)
    except BaseException:
        m.close()
        raise
    return m, there.group(2)


def end(m):
    """The control domain is well, typing reaches it, and it can switch the machine off."""
    m.command('echo alive-$((40 + 2))', 'alive-42')
    m.send('poweroff -f\n')
    m.wait_exit()
    m.close()


def test_none():
    """Without an IOMMU the host says so once. It is also what shows that the device tries."""
    m, _ = dma('none', None, reached=True)
    m.expect(r'no IOMMU: devices can reach all of memory', anywhere=True)
    m.absent(r'iommu: ')
    end(m)


def test_option():
    m, _ = dma('option', 'intel-dma', reached=True, options='iommu=no')
    m.expect(r'no IOMMU \(iommu=no\): devices can reach all of memory', anywhere=True)
    end(m)


def vtd(name, iommu, interrupts):
    m, at = dma(name, iommu, reached=False)
    m.expect(rf'iommu: 1 VT-d unit, pages up to 1G, {interrupts}', anywhere=True)
    m.expect(rf'iommu: {DEVICE}: write at {at} blocked: not writable', anywhere=True)
    m.expect(rf'iommu: {DEVICE}: read at {at} blocked: not readable', anywhere=True)
    m.absent('cut off')
    end(m)


def test_vtd():
    vtd('vtd', 'intel', 'interrupts remapped')


def test_vtd_without_interrupts():
    vtd('vtd-dma', 'intel-dma', 'interrupts not remapped')


def test_amd():
    """Emulators up to 7.2 at least keep no event log: then that there was a fault is all."""
    m, at = dma('amd', 'amd', reached=False)
    m.expect(r'iommu: 1 AMD-Vi unit, pages up to 1G, interrupts not remapped', anywhere=True)
    m.expect(rf'iommu: {DEVICE}: write at {at} blocked: not mapped|'
             r'iommu: the unit at \w+ blocked a device and does not say which', anywhere=True)
    end(m)


def test_cut_off():
    """A device that goes on and on loses its access, and the host nothing."""
    m, _ = dma('cut-off', 'intel', reached=False, times=40)
    m.expect(rf'{DEVICE} is cut off: 32 faults within 10 s', anywhere=True)
    m.send('probe dma 1\n')
    m.expect(r'HOSPES-DMA-INSIDE FAIL', 60)
    end(m)
