# SPDX-License-Identifier: MIT
"""Debian's Xen 4.17 as a peer: a control domain of busybox, xenstored and xl in one RAM disk, which starts
PVH guests one after the other. A guest's writes to port 0xE9 come back through the hypervisor's console."""

import gzip
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import peers

INIT = """#!/bin/sh
export PATH=/bin:/sbin LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
mkdir -p /run/xen /run/lock /var/lib/xen /var/lib/xenstored /var/log/xen
ln -s /run /var/run
for m in evtchn privcmd gntdev fs; do insmod /lib/xen/$m.ko; done
mount -t xenfs xenfs /proc/xen
xenstored --pid-file=/run/xenstored.pid
xen-init-dom0
xenconsoled --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen
echo PEER-READY
for g in /guests/*.cfg; do
    echo "GUEST-START $g"
    if [ -e ${g%.cfg}.stays ]; then
        xl create $g > /tmp/log 2>&1 || cat /tmp/log
        sleep 1
    else
        timeout $(cat ${g%.cfg}.limit) xl create -F $g > /tmp/log 2>&1 || {
            echo "GUEST-ENDED $g rc $?"; cat /tmp/log; xl destroy guest; }
        cat /var/log/xen/guest-guest.log 2>/dev/null
        : > /var/log/xen/guest-guest.log
    fi
    echo "GUEST-END $g"
done
echo PEER-DONE
poweroff -f
"""

CONFIG = """name = "{name}"
type = "pvh"
kernel = "{kernel}"
cmdline = "{args}"
memory = {memory}
tsc_mode = "native"
vcpus = {vcpus}
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
{extra}
"""


def hypervisor():
    root = peers.packages("xen", peers.XEN_PACKAGES)
    path = os.path.join(root, "xen.elf")
    if not os.path.exists(path):
        with gzip.open(os.path.join(root, "boot/xen-4.17-amd64.gz")) as f, open(path, "wb") as out:
            out.write(f.read())
    return root, path


def control_domain(guests, name="xen-dom0"):
    """guests: list of dicts with kernel, args, vcpus, memory, limit (seconds), ramdisk (or None); one that
    stays is left running while the next ones run."""
    root, _ = hypervisor()
    image = peers.Image(name)
    image.text("init", INIT, 0o755)
    image.text("etc/xen/xl.conf", 'autoballoon="off"\nclaim_mode=0\n')
    for tool in "xl", "xenstored", "xenconsoled", "xen-init-dom0":
        image.program(root, "usr/lib/xen-4.17/bin/" + tool, "sbin/" + tool)
    image.add("/lib/x86_64-linux-gnu/libgcc_s.so.1", "lib/x86_64-linux-gnu/libgcc_s.so.1")
    bzimage, modules = peers.kernel("amd64")
    for src, dst in (("xen-evtchn", "evtchn"), ("xen-privcmd", "privcmd"), ("xen-gntdev", "gntdev"),
                     ("xenfs/xenfs", "fs")):
        image.add(os.path.join(modules, "kernel/drivers/xen", src + ".ko"), f"lib/xen/{dst}.ko")
    for i, guest in enumerate(guests):
        base = f"guests/{i:03}-{guest['name']}"
        kernel = f"guests/kernel-{os.path.basename(guest['kernel'])}"
        image.add(guest["kernel"], kernel)
        extra = ""
        if guest.get("ramdisk"):
            image.add(guest["ramdisk"], base + ".ramdisk")
            extra = f'ramdisk = "/{base}.ramdisk"'
        image.text(base + ".cfg", CONFIG.format(name="stays" if guest.get("stays") else "guest",
                                                kernel="/" + kernel, args=guest.get("args", ""),
                                                memory=guest.get("memory", 64),
                                                vcpus=guest.get("vcpus", 2), extra=extra))
        image.text(base + ".limit", str(guest.get("limit", 60)))
        if guest.get("stays"):
            image.text(base + ".stays", "")
    return peers.vmlinux(bzimage), image.finish()


def run(guests, icount=False, smp=2, timeout=900, echo=False, options=""):
    """Boots Xen, runs every guest, returns {name: text of its console}."""
    _, xen = hypervisor()
    linux, initrd = control_domain(guests)
    memory = 1024 + sum(os.path.getsize(g["kernel"]) for g in guests) // 500000
    out = peers.emulate(
        ["-kernel", xen, "-append",
         "dom0=pv dom0_mem=512M,max:512M dom0_max_vcpus=1 console=com1 loglvl=warning "
         "guest_loglvl=all noreboot=0 sync_console=0 cpufreq=none watchdog=0 edd=off " + options,
         "-initrd", f"{linux} console=hvc0 quiet loglevel=3 rdinit=/init,{initrd}"],
        timeout, icount, smp, memory, cpu="max,+svm,-smap,-pku,-la57,-smep,-rdtscp",
        until="PEER-DONE", echo=echo)
    return split(out)


def split(out):
    result, name = {}, "boot"
    for line in re.sub(r"\r*\n", "\n", out).splitlines():
        m = re.search(r"GUEST-START /guests/\d+-(\S+)\.cfg", line)
        if m:
            name = m.group(1)
        line = re.sub(r"^\(XEN\) (\[[^]]*\] )?", "", line)
        line = re.sub(r"^\(d\d+\) ", "", line)
        result[name] = result.get(name, "") + line + "\n"
    return result


if __name__ == "__main__":
    peers.build_guests()
    names = sys.argv[1:] or ["hello"]
    guests = [{"name": n, "kernel": os.path.join(peers.GUESTS, n + ".elf")} for n in names]
    for key, text in run(guests, echo=True).items():
        print("==", key)
        print(text)
