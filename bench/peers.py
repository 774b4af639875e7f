# SPDX-License-Identifier: LGPL-2.1-or-later
"""The peers: which generators are measured, and with which command line each makes its image."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from bench.chroots import COMMON, Chroot, KernelFiles
from bench.measure import Cost, Costs, run_often, run_once
from preroot.errors import BuildError

#: where an image is written, inside the chroot
OUTPUT = "/out"

#: mkosi-initrd asks for the modules that are loaded on the build host, besides the list of its own. This stands
#: before it in PATH and drops that: what runs here is another kernel, or has no modules at all.
_MKOSI = """#!/bin/sh
for word do
    shift
    [ "$word" = --kernel-modules-include=host ] || set -- "$@" "$word"
done
exec /usr/bin/mkosi "$@"
"""


class Peer(Struct, frozen=True):
    """A way to make an initrd: its name, the package that tells its version, the chroot, and the command line.

    In `argv`, `{release}` stands for the kernel's release and `{name}` for the output's name in /out. Where `may_fail`
    is not empty, it says why a failure is reported and not fatal.
    """

    key: str
    title: str
    package: str
    chroot: str
    argv: tuple[str, ...]
    may_fail: str = ""


_HOST_DEPENDS = "describes the machine it runs on, and that has no disk of its own here"

PEERS = (
    Peer("dracut", "dracut --no-hostonly", "dracut", "dracut",
         ("dracut", "--no-hostonly", "--force", "--kver", "{release}", "/out/{name}")),
    Peer("dracut-hostonly", "dracut --hostonly", "dracut", "dracut",
         ("dracut", "--hostonly", "--force", "--kver", "{release}", "/out/{name}"), _HOST_DEPENDS),
    Peer("mkosi", "mkosi-initrd", "mkosi", "dracut",
         ("mkosi-initrd", "--kernel-version", "{release}", "--kernel-image", "/boot/vmlinuz-{release}",
          "-O", OUTPUT, "-o", "{name}")),
    Peer("initramfs-tools", "initramfs-tools MODULES=most", "initramfs-tools", "initramfs-tools",
         ("mkinitramfs", "-d", "/opt/bench/most", "-o", "/out/{name}", "{release}")),
    Peer("initramfs-tools-dep", "initramfs-tools MODULES=dep", "initramfs-tools", "initramfs-tools",
         ("mkinitramfs", "-d", "/opt/bench/dep", "-o", "/out/{name}", "{release}"), _HOST_DEPENDS),
)  # fmt: skip


def chroots(cache: Path, kernels: tuple[str, ...]) -> dict[str, Chroot]:
    """Return the chroots that the peers need, by name: dracut's and initramfs-tools' packages exclude each other."""
    tools = {"dracut": ("dracut", "mkosi"), "initramfs-tools": ("initramfs-tools", "cryptsetup-initramfs")}
    return {name: Chroot(cache / f"chroot-{name}", (*COMMON, *extra, *kernels)) for name, extra in tools.items()}


def prepare(chroot: Chroot) -> None:
    """Write the peers' configuration into a chroot: initramfs-tools has none of it on the command line."""
    own = chroot.path / "opt/bench"
    own.mkdir(parents=True, exist_ok=True)
    (own / "mkosi").write_text(_MKOSI)
    (own / "mkosi").chmod(0o755)
    vendor = chroot.path / "etc/initramfs-tools"
    if not vendor.exists():
        return
    for modules in ("most", "dep"):
        for path in vendor.rglob("*"):
            copy = own / modules / path.relative_to(vendor)
            if path.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
                copy.chmod(path.stat().st_mode)
        text = (vendor / "initramfs.conf").read_text()
        changed, count = re.subn(r"(?m)^MODULES=.*$", f"MODULES={modules}", text)
        if count != 1:
            raise BuildError("initramfs.conf has no MODULES= to set", "see what this version of initramfs-tools wants")
        (own / modules / "initramfs.conf").write_text(changed)


def build(
    peer: Peer, chroot: Chroot, kernel: KernelFiles, runs: int, logs: Path, *, memory: bool = True
) -> tuple[Costs, Path]:
    """Make the peer's image so many times, and once more for the memory; return what it cost and where the image is."""
    name = f"{peer.key}-{kernel.release}.img"
    image = chroot.path / OUTPUT[1:] / name
    argv = chroot.inside(*(word.format(release=kernel.release, name=name) for word in peer.argv))

    def once(number: int, memory: bool) -> Cost:
        image.unlink(missing_ok=True)
        cost = run_once(argv, logs / f"{peer.key}-{number}.log", memory=memory)
        if not image.exists():
            raise BuildError(f"{peer.title} ended without an error and made no image", f"see {logs}")
        return cost

    return run_often(runs, once, memory=memory), image
