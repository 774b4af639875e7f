# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Debian of a dozen tiny packages in an archive of its own, from which a whole busybox initrd is built in a second.

The packages have the names, versions and files of Debian's, but only those files that the image takes, so a build from
nothing (indexes, resolving, fetching, unpacking) can be done again and again: killed, starved, beside others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deb_archive import DebArchive, Key
from msgspec import Struct

from preroot.engine import Engine, Overrides, Plan
from preroot.packages.model import Package
from preroot.run import run
from preroot.tree.model import StoreContent

SETS = (
    "name=small", "kernel.modules=list",
    "part.base.flavour=busybox", 'part.base.features=["busybox", "ext4", "virtio"]',
)  # fmt: skip
#: what a build writes beside a recipe `small.toml`
OUTPUTS = ("small.initrd", "small.manifest.json", "small.vmlinuz")
_KERNEL = "linux-image-cloud-amd64"
#: of a kernel's image: enough for what only looks at its head, and quick to copy
_KERNEL_BYTES = 1 << 20


class World(Struct, frozen=True):
    """An archive, and the text of a recipe that takes everything from it."""

    archive: str
    recipe: str

    def place(self, directory: Path, more: str = "") -> Path:
        """Write the recipe, `more` at its top, into a directory; return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "small.toml"
        path.write_text(more + self.recipe)
        return path


def make_world(top: Path, engine: Engine, lock: Path) -> World:
    """Make a world below `top`, of what the image of SETS takes of the packages of `lock`."""
    loaded = engine.load(None, Overrides(set=SETS))
    locked = engine.lock(loaded, lock)
    plan = engine.plan(loaded, locked)
    # a home for keys may not be deep in the file system: see Key
    key = Key("small")
    try:
        archive = DebArchive(top / "mirror")
        for package, paths in _taken(plan, locked.lock.packages).items():
            file = engine.workspace.cache / "archives" / package.sha256
            _repack(archive, package, file, paths)
        names = sorted({each["Package"] for each in archive.stanzas})
        for request in sorted({request.partition("=")[0] for request in locked.requests} - {*names, _KERNEL}):
            archive.add(request)
            names.append(request)
        archive.add(_KERNEL, Depends=", ".join(names))
        archive.publish(key)
        shutil.copy(key.public, top / "keyring.gpg")
    finally:
        key.close()
    recipe = f"""
name = "small"
[distribution]
mirror = "{archive.mirror}"
keyring = "{top}/keyring.gpg"
suites = ["trixie"]
components = ["main"]
[kernel]
package = "{_KERNEL}"
modules = "list"
[part.base]
flavour = "busybox"
features = ["busybox", "ext4", "virtio"]
"""
    return World(str(archive.root), recipe)


def _taken(plan: Plan, packages: Sequence[Package]) -> dict[Package, set[str]]:
    """Return which paths the image takes of each package; those of the kernel include what describes it."""
    by_digest = {package.sha256: package for package in packages}
    taken: dict[Package, set[str]] = {package: set() for package in packages if package.name == "base-passwd"}
    for part in plan.parts:
        for entry in part.tree.entries.values():
            owner = next((each for each in packages if each.owner == entry.owner), None)
            if isinstance(entry.content, StoreContent):
                owner = by_digest.get(entry.content.package, owner)
            if owner is not None and entry.type != "directory":
                taken.setdefault(owner, set()).add(entry.path)
    return taken


def _repack(archive: DebArchive, package: Package, file: Path, paths: set[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, tree = Path(name, "whole"), Path(name, "tree")
        run(["dpkg-deb", "-x", file, whole], purpose="to unpack a package")
        for each in sorted(whole.rglob("*")):
            path = str(each.relative_to(whole))
            plain = path.removesuffix(".xz")
            about = path.startswith("boot/") or "/modules." in path or path.endswith(".master")
            if (each.is_symlink() or each.is_file()) and (about or {plain, f"usr/{plain}"} & paths):
                target = tree / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(each, target, follow_symlinks=False)
                if path.startswith(("boot/vmlinuz", "boot/System.map")):
                    os.truncate(target, min(_KERNEL_BYTES, target.stat().st_size))
        tree.mkdir(exist_ok=True)
        archive.add(package.name, package.version, package.arch, content=tree)


def argv(*arguments: str | Path, python: Sequence[str] = ("-m", "preroot")) -> list[str]:
    """Return the command line of preroot in a process of its own."""
    return [sys.executable, *python, *map(str, arguments)]


def environment(directory: Path, **more: str) -> Mapping[str, str]:
    """Return an environment whose cache and temporary directory lie in `directory`."""
    (directory / "tmp").mkdir(exist_ok=True)
    return {**os.environ, "PREROOT_CACHE": str(directory / "cache"), "TMPDIR": str(directory / "tmp"), **more}


def build(directory: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Build the recipe in `directory` into its `out`."""
    return subprocess.run(
        argv("build", "small.toml", "--output", "out", *arguments), cwd=directory,
        env=environment(directory, **more), capture_output=True, text=True, check=False,
    )  # fmt: skip


def outputs(directory: Path) -> dict[str, bytes]:
    """Return what a build into `out` wrote, and the lock; files that are not there are left out."""
    paths = [*(directory / "out" / name for name in OUTPUTS), directory / "small.lock"]
    return {path.name: path.read_bytes() for path in paths if path.exists()}
