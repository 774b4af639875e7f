# SPDX-License-Identifier: LGPL-2.1-or-later
"""What this machine has of what preroot uses: programs, the cache, a mirror, an emulator. Looks, and changes nothing
but the kept result of the KVM probe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from preroot.engine.workspace import Workspace, source_of
from preroot.errors import PrerootError
from preroot.packages.apt import AptSource
from preroot.recipe.schema import Distribution
from preroot.run import TOOL_PACKAGES, find_tool, run, version_in

#: bytes; a first build takes about 300 MB of package files and unpacked packages
_NEEDED_SPACE = 1 << 30


class Tool(Struct, frozen=True):
    """What a program is used for, and how it is asked for its version."""

    purpose: str
    #: no image can be built without it
    needed: bool = False
    version: tuple[str, ...] = ("--version",)


TOOLS: dict[str, Tool] = {
    "apt-get": Tool("resolves and fetches packages", needed=True),
    "apt-cache": Tool("tells packages' versions", needed=True),
    "apt-config": Tool("reads how this machine reaches its mirror", needed=True),
    "gpgv": Tool("checks the signatures of archives", needed=True),
    "depmod": Tool("indexes the image's kernel modules", needed=True),
    "systemd-hwdb": Tool("compiles the hardware database for features that take some of it"),
    "lz4": Tool("compresses and reads images with lz4"),
    "mke2fs": Tool("makes ext4 roots for boot", version=("-V",)),
    "debugfs": Tool("sets owners and modes in ext4 roots for boot", version=("-V",)),
    "mkfs.xfs": Tool("makes xfs roots for boot", version=("-V",)),
    "xfs_db": Tool("sets modes in xfs roots for boot", version=("-V",)),
    "mkfs.btrfs": Tool("makes btrfs roots for boot"),
    "mkfs.erofs": Tool("makes erofs roots for boot", version=("-V",)),
    "mksquashfs": Tool("makes squashfs roots for boot", version=("-version",)),
    "mkfs.vfat": Tool("makes vfat disks for boot", version=("--help",)),
    "mcopy": Tool("fills vfat disks for boot"),
    "sfdisk": Tool("partitions disks for boot"),
    "swtpm": Tool("gives machines for boot a TPM"),
    "setpriv": Tool("ends QEMU when preroot is killed"),
    "unshare": Tool("makes btrfs roots as an ordinary user"),
    "qemu-system-x86_64": Tool("boots amd64 images"),
    "qemu-system-aarch64": Tool("boots arm64 images"),
    "qemu-system-arm": Tool("boots armhf images"),
    "qemu-system-ppc64": Tool("boots ppc64el images"),
    "qemu-system-riscv64": Tool("boots riscv64 images"),
    "qemu-system-s390x": Tool("boots s390x images"),
}


class Check(Struct, frozen=True):
    """One thing that was looked at. `needed`: no image can be built without it."""

    name: str
    good: bool
    needed: bool
    #: version, path or reason
    found: str
    purpose: str
    #: the way out, where it is not good
    hint: str = ""


def examine(workspace: Workspace, distribution: Distribution) -> Iterator[Check]:
    """Yield what was found, in the order in which a build uses it; `distribution` is the one whose mirror is tried."""
    for name, tool in TOOLS.items():
        yield _tool(name, tool)
    yield _cache(workspace.cache)
    yield _mirror(workspace, distribution)
    yield _kvm(workspace)


def _tool(name: str, tool: Tool) -> Check:
    if find_tool(name) is None:
        hint = f"apt-get install {TOOL_PACKAGES.get(name, name)}"
        return Check(name, False, tool.needed, "not installed", tool.purpose, hint)
    return Check(name, True, tool.needed, _version(name, tool), tool.purpose)


def _version(name: str, tool: Tool) -> str:
    """Return the first thing that looks like a version in what the program says of itself."""
    errors: list[str] = []
    try:
        said = run([name, *tool.version], purpose="to name its version", ok=range(256), warn=errors.append)
    except PrerootError as error:
        return error.message
    text = "\n".join([said.decode("utf-8", "replace"), *errors])
    return version_in(text) or "of unknown version"


def _cache(cache: Path) -> Check:
    import os
    import shutil

    purpose = "keeps packages, unpacked once"
    existing = next((each for each in (cache, *cache.parents) if each.exists()), cache)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("cache", False, True, f"{cache} cannot be written", purpose, "set PREROOT_CACHE")
    free = shutil.disk_usage(existing).free
    found = f"{cache}, {free / 1e9:.1f} GB free"
    return Check("cache", free >= _NEEDED_SPACE, True, found, purpose, "free some space, or set PREROOT_CACHE")


def _mirror(workspace: Workspace, distribution: Distribution) -> Check:
    purpose = f"where packages of {distribution.name} {distribution.release} come from"
    try:
        source = source_of(distribution, workspace)
        addresses = source.mirrors() if isinstance(source, AptSource) else ()
        return Check("mirror", True, True, ", ".join(addresses), purpose)
    except PrerootError as error:
        return Check("mirror", False, True, error.message, purpose, error.hint)


def _kvm(workspace: Workspace) -> Check:
    import os

    from preroot.boot.host import kvm_runs
    from preroot.facts.arch import arch

    purpose = "makes boots fast"
    try:
        here = arch(os.uname().machine)
    except PrerootError as error:
        return Check("KVM", False, False, error.message, purpose)
    program = find_tool(f"qemu-system-{here.qemu}")
    if program is None:
        return Check("KVM", False, False, "QEMU is not installed", purpose)
    if kvm_runs(here.name, program, workspace.boot):
        return Check("KVM", True, False, "a guest runs", purpose)
    return Check("KVM", False, False, "no guest runs under it: QEMU emulates the processor", purpose,
                 "check /dev/kvm and the group kvm")  # fmt: skip
