# SPDX-License-Identifier: MIT
"""KVM as a peer: a stock Debian kernel in the emulator with kvm-amd, and vmm.c running tiny guests on it."""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import peers

HERE = os.path.dirname(os.path.abspath(__file__))

INIT = """#!/bin/sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /lib/kvm/*.ko; do insmod $m; done
for g in /guests/*; do
    echo "GUEST-START $g"
    timeout 60 vmm $g
    echo "GUEST-END $g"
done
echo PEER-DONE
poweroff -f
"""

# In the order they need each other.
MODULES = ["drivers/char/hw_random/rng-core", "drivers/crypto/ccp/ccp", "virt/lib/irqbypass", "arch/x86/kvm/kvm",
           "arch/x86/kvm/kvm-amd"]


def image(guests):
    vmm = os.path.join(peers.PEERS, "vmm")
    peers.run("gcc", "-O2", "-Wall", "-Werror", "-static", "-o", vmm, os.path.join(HERE, "vmm.c"))
    disk = peers.Image("kvm")
    disk.text("init", INIT, 0o755)
    disk.add(vmm, "bin/vmm")
    _, modules = peers.kernel("amd64")
    for i, module in enumerate(MODULES):
        path = os.path.join(modules, "kernel", module + ".ko")
        if os.path.exists(path):
            disk.add(path, f"lib/kvm/{i}.ko")
    for g in guests:
        disk.add(g["kernel"], "guests/" + g["name"])
    return disk.finish()


def run(guests, icount=False, timeout=900, echo=False):
    """Boots the kernel, runs every guest on one vCPU, returns {name: text of its console}."""
    bzimage, _ = peers.kernel("amd64")
    out = peers.emulate(["-kernel", bzimage, "-initrd", image(guests), "-append",
                         "console=ttyS0 quiet loglevel=3 rdinit=/init"],
                        timeout, icount, 1, 1024, until="PEER-DONE", echo=echo)
    result, name = {}, "boot"
    for line in out.replace("\r", "").splitlines():
        m = re.search(r"GUEST-START /guests/(\S+)", line)
        if m:
            name = m.group(1)
        result[name] = result.get(name, "") + line + "\n"
    return result
