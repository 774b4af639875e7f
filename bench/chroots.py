# SPDX-License-Identifier: LGPL-2.1-or-later
"""The chroots in which the peers run: made by mmdebstrap from the mirror that this machine's own apt uses."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from msgspec import Struct

from bench.measure import run_once
from preroot.errors import BuildError
from preroot.run import run

ENTER = Path(__file__).with_name("enter")

#: What an installation with everything in scope has, whichever generator it uses; bench/scope.toml checks the
#: outcome. systemd-sysv has poweroff and reboot, which dracut wants.
COMMON = (
    "systemd", "systemd-sysv", "systemd-cryptsetup", "udev", "kmod", "cryptsetup", "lvm2", "mdadm", "tpm2-tools",
    "libtss2-rc0t64", "libfido2-1", "e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools", "kbd", "console-setup",
    "busybox", "zstd",
)  # fmt: skip


class Chroot(Struct, frozen=True):
    """One chroot: its directory, and the packages that are asked for."""

    path: Path
    packages: tuple[str, ...]

    def inside(self, *argv: str) -> list[str]:
        """Return the command line that runs `argv` in the chroot."""
        return [str(ENTER), str(self.path), *argv]

    def version(self, package: str) -> str:
        """Return the version of a package that is installed in it."""
        out = run(["dpkg-query", f"--admindir={self.path}/var/lib/dpkg", "-W", "-f", "${Version}", package],
                  purpose="to tell a peer's version")  # fmt: skip
        return out.decode()


class KernelFiles(Struct, frozen=True):
    """A kernel in a chroot: its release (uname -r), its package's version, vmlinuz, its modules (by name)."""

    release: str
    version: str
    vmlinuz: Path
    modules: frozenset[str]


def make(chroot: Chroot, suite: str, log: Path, *, refresh: bool) -> None:
    """Make the chroot, or bring it up to date with `refresh`.

    Kernels are installed in a second step, with INITRD=No in the environment (bench/enter): their packages would
    otherwise run the generator, which is what is to be measured.
    """
    if os.geteuid():
        raise BuildError("the peers are measured in chroots, and making those takes root",
                         "run `make bench` as root, or `make bench QUICK=1` for preroot alone")  # fmt: skip
    kernels = [name for name in chroot.packages if name.startswith("linux-image-")]
    others = [name for name in chroot.packages if name not in kernels]
    if not chroot.path.exists():
        aside = chroot.path.with_name(f"{chroot.path.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        argv = ["mmdebstrap", "--variant=apt", f"--include={','.join(others)}", "--skip=cleanup/apt", suite]
        run_once([*argv, str(aside), host_mirror()], log)
        (aside / "usr/lib/firmware").mkdir(exist_ok=True)  # mkosi-initrd copies it
        aside.rename(chroot.path)
        refresh = True
    if refresh:
        shutil.copyfile("/etc/resolv.conf", chroot.path / "etc/resolv.conf")
        run_once(chroot.inside("apt-get", "update", "-q"), log)
        run_once(chroot.inside("apt-get", "install", "-qy", "--no-install-recommends", *others, *kernels), log)
    (chroot.path / "out").mkdir(exist_ok=True)


def host_mirror() -> str:
    """Return the address of Debian's archive that this machine's apt uses.

    Raises BuildError on a machine whose apt knows none.
    """
    out = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"],
              purpose="to find this machine's Debian mirror")  # fmt: skip
    for line in out.decode().splitlines():
        uri, _, label = line.partition(" ")
        if label == "Debian":
            return uri
    raise BuildError("this machine's apt knows no Debian archive", "run apt-get update, or measure on Debian")


def kernel_in(chroot: Chroot, package: str) -> KernelFiles:
    """Return the kernel that the (meta) package depends on, as it is installed in the chroot."""
    admin = f"--admindir={chroot.path}/var/lib/dpkg"
    depends = run(["dpkg-query", admin, "-W", "-f", "${Depends}", package], purpose="to find the kernel").decode()
    found = re.match(r"linux-image-(\S+)", depends)
    if found is None:
        raise BuildError(f"{package} depends on no kernel: {depends}", "is it a kernel's meta package?")
    return kernel_files(chroot.path, found[1], chroot.version(f"linux-image-{found[1]}"))


def kernel_files(root: Path, release: str, version: str) -> KernelFiles:
    """Return the kernel whose package lies unpacked in the directory `root`."""
    merged = root / "usr/lib/modules" / release
    directory = merged if merged.exists() else root / "lib/modules" / release
    return KernelFiles(
        release=release,
        version=version,
        vmlinuz=root / f"boot/vmlinuz-{release}",
        modules=frozenset(module_name(path.name) for path in directory.rglob("*.ko*")),
    )


def module_name(path: str) -> str:
    """Return the name of a module as lsmod shows it: virtio_blk for kernel/drivers/block/virtio-blk.ko.xz."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
