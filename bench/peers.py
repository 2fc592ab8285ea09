# SPDX-License-Identifier: MIT
"""What the benchmarks and the tests on other hypervisors share: Debian packages (downloaded once into
build/peers, never installed), initial RAM disks, and the emulator's command line."""

import fcntl
import glob
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("HOSPES_BUILD", os.path.join(TOP, "build/gcc"))
PEERS = os.path.join(TOP, "build/peers")
GUESTS = os.path.join(BUILD, "tests/guest")

XEN_PACKAGES = """xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils libxencall1
    libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenmisc4.17 libxenstore4 libxentoollog1
    libxenhypfs1 libxendevicemodel1 libxentoolcore1 libyajl2""".split()


def run(*cmd, **kw):
    return subprocess.run(cmd, check=True, **kw)


def build_guests():
    """Builds the tiny guests (and only them)."""
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        run("meson", "setup", "-Dkind=metal", BUILD, TOP, stdout=subprocess.DEVNULL,
            env=dict(os.environ, CC="gcc"))
    names = [os.path.basename(p)[:-2] for p in glob.glob(os.path.join(TOP, "tests/guest/*.c")) +
             glob.glob(os.path.join(TOP, "bench/guest/*.c"))]
    run("ninja", "-C", BUILD, *[f"tests/guest/{n}.elf" for n in sorted(names)],
        stdout=subprocess.DEVNULL)
    return sorted(names)


def packages(root, names):
    """Downloads packages and unpacks them into build/peers/<root>; does nothing the second time."""
    dest = os.path.join(PEERS, root)
    stamp = os.path.join(dest, ".complete")
    if os.path.exists(stamp) and open(stamp).read() == " ".join(names):
        return dest
    debs = os.path.join(PEERS, "debs")
    os.makedirs(debs, exist_ok=True)
    os.makedirs(dest, exist_ok=True)
    for name in names:
        if not glob.glob(os.path.join(debs, name + "_*.deb")):
            run("apt-get", "-q", "download", name, cwd=debs, stdout=subprocess.DEVNULL)
        run("dpkg-deb", "-x", sorted(glob.glob(os.path.join(debs, name + "_*.deb")))[-1], dest)
    with open(stamp, "w") as f:
        f.write(" ".join(names))
    return dest


def real_package(meta):
    """linux-image-amd64 and its like depend on the package that holds the kernel."""
    out = run("apt-cache", "depends", meta, capture_output=True, text=True).stdout
    return re.search(r"Depends: (linux-image-\S+)", out).group(1)


def kernel(flavour):
    """(path of the bzImage, modules folder) of linux-image-<flavour>."""
    name = real_package("linux-image-" + flavour)
    root = packages("kernel-" + flavour, [name])
    release = name[len("linux-image-"):]
    return (os.path.join(root, "boot/vmlinuz-" + release),
            os.path.join(root, "lib/modules", release))


def vmlinux(bzimage):
    """The unpacked ELF of a bzImage with an xz payload, beside it."""
    out = bzimage + ".elf"
    if not os.path.exists(out):
        data = open(bzimage, "rb").read()
        setup = (data[0x1f1] or 4) + 1
        offset, length = struct.unpack_from("<II", data, 0x248)
        payload = data[setup * 512 + offset:][:length]
        unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        with open(out, "wb") as f:
            f.write(unpack.decompress(payload))
    return out


class Image:
    """An initial RAM disk under construction."""

    def __init__(self, name):
        self.tree = os.path.join(PEERS, name + ".tree")
        self.path = os.path.join(PEERS, name + ".cpio")
        shutil.rmtree(self.tree, ignore_errors=True)
        for folder in "bin dev etc lib proc run sys tmp var/lib var/lock var/log root".split():
            os.makedirs(os.path.join(self.tree, folder))
        self.add("/bin/busybox", "bin/busybox")
        for tool in "sh mount mkdir echo cat sleep insmod timeout poweroff ls dmesg ln".split():
            os.symlink("busybox", os.path.join(self.tree, "bin", tool))

    def add(self, src, dst):
        dst = os.path.join(self.tree, dst)
        os.makedirs(os.path.dirname(dst), exist_ok=True)
        shutil.copy(src, dst)

    def text(self, dst, text, mode=0o644):
        dst = os.path.join(self.tree, dst)
        os.makedirs(os.path.dirname(dst), exist_ok=True)
        with open(dst, "w") as f:
            f.write(text)
        os.chmod(dst, mode)

    def program(self, root, path, dst):
        """A dynamic program of an unpacked package with every library it needs."""
        self.add(os.path.join(root, path), dst)
        libs = os.path.join(root, "usr/lib/x86_64-linux-gnu")
        out = run("ldd", os.path.join(root, path), capture_output=True, text=True,
                  env=dict(os.environ, LD_LIBRARY_PATH=libs)).stdout
        if "not found" in out:
            raise SystemExit(path + " lacks a library:\n" + out)
        for lib in re.findall(r"(/\S+) \(0x", out):
            name = "lib64/" if "ld-linux" in lib else "lib/x86_64-linux-gnu/"
            self.add(lib, name + os.path.basename(lib))

    def finish(self):
        names = subprocess.run(["find", ".", "-print0"], cwd=self.tree, capture_output=True,
                               check=True).stdout
        with open(self.path, "wb") as f:
            run("cpio", "-0", "-o", "-H", "newc", "--quiet", "--reproducible", input=names,
                cwd=self.tree, stdout=f)
        return self.path


def emulate(args, timeout, icount=False, smp=1, memory=1024, cpu="max,+svm,-la57,-pku", until=None,
            echo=False, port="serial"):
    """Runs the emulator, at most two at a time on one machine, and returns what the serial port said."""
    cmd = ["timeout", str(timeout), "qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", cpu,
           "-smp", str(smp), "-m", str(memory), "-display", "none", "-no-reboot", "-nodefaults",
           "-chardev", "stdio,id=com",
           "-device", f"isa-{port},chardev=com",
           "-device", "isa-debug-exit,iobase=0xf4"] + args
    if icount:
        cmd += ["-icount", "shift=0,sleep=off"]
    text = []
    with slot():
        p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, text=True, errors="replace")
        for line in p.stdout:
            text.append(line)
            if echo:
                sys.stderr.write(line)
            if until and until in line:
                p.terminate()
        p.wait()
    return "".join(text)


class slot:
    """One of two machine-wide places to run an emulator in."""

    def __enter__(self):
        names = ["/tmp/emu.lock.A", "/tmp/emu.lock.B"]
        self.files = [open(n, "a") for n in names]
        for f in self.files:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                continue
        fcntl.flock(self.files[0], fcntl.LOCK_EX)
        return self

    def __exit__(self, *unused):
        for f in self.files:
            f.close()
