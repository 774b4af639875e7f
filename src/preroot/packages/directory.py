# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory of this machine read as if it were a package: its files go into the store, named by their content.

What matters to an image is kept, and what differs between two copies of one tree is not: files belong to root, and are
0755 where their owner may execute them, else 0644; directories are 0755; times, further permissions, extended
attributes and hard links are left behind. A link that leads out of the directory is never followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from msgspec import Struct

from preroot.errors import BuildError
from preroot.packages.aside import FORMAT
from preroot.packages.model import Package, PackageIndex
from preroot.packages.store import Store
from preroot.packages.tar import Member
from preroot.packages.unpack import contents
from preroot.unchanged import Stamp, stamp

Kind = Literal["file", "directory", "symlink", "other"]

#: A file that was changed less than this ago could change again without another time stamp (git's index has the same
#: rule): coarse clocks of file systems tick every few milliseconds, FAT's every two seconds.
_SETTLED = 2.5


class Found(Struct, frozen=True, array_like=True):
    """One path below the root, as lstat(2) has it. Times in nanoseconds."""

    path: str
    kind: Kind
    mode: int
    size: int
    mtime: int
    ctime: int
    inode: int
    #: of a symbolic link, as written
    target: str = ""


def walk(
    root: Path, enter: Callable[[str], bool], wanted: Callable[[str], bool]
) -> tuple[list[Found], dict[Path, Stamp]]:
    """Return what is wanted below `root`, sorted, and the directories that were looked into, with stamps from before.

    Arguments: the directory; which directories below it to look into, and which other paths to return, both decided by
    the path below the root. Links are returned and not followed. Raises BuildError where a directory can't be read, and
    for a name (or a link's target) that is not UTF-8 or has control characters, as no package has them.
    """
    found: list[Found] = []
    directories: dict[Path, Stamp] = {}
    todo = [""]
    while todo:
        below = todo.pop()
        directory = root / below if below else root
        directories[directory] = stamp(directory)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if enter(path):
                            todo.append(path)
                    elif wanted(path):
                        found.append(_found(path, entry.stat(follow_symlinks=False), entry.path))
        except OSError as error:
            raise BuildError(f"cannot read {error.filename or directory}: {error.strerror}") from None
    return sorted(found, key=lambda each: each.path), directories


def _found(path: str, status: os.stat_result, full: str) -> Found:
    kind: Kind = "other"
    if stat.S_ISREG(status.st_mode):
        kind = "file"
    elif stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind = "symlink"
    target = os.readlink(full) if kind == "symlink" else ""  # noqa: PTH115 - in the midst of os.scandir
    if not (path + target).isprintable():
        raise BuildError(f"{full!r} has a name or target that no package could have", "rename it")
    return Found(
        path, kind, stat.S_IMODE(status.st_mode), status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        status.st_ino, target,
    )  # fmt: skip


def named(path: Path) -> Found:
    """Return the file that somebody has named, wherever it lies, links to it followed; its path is below `/`.

    Raises BuildError where it can't be looked at.
    """
    end = os.path.realpath(path)
    try:
        return _found(end[1:], os.lstat(end), end)
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from None


def follow(root: Path, link: Found) -> Found | None:
    """Return the file at the end of a link, None where that is not there or not below `root`."""
    base, end = os.path.realpath(root), os.path.realpath(root / link.path)
    if not end.startswith(f"{base}/"):
        return None
    try:
        found = _found(end[len(base) + 1 :], os.lstat(end), end)
    except OSError:
        return None
    return None if found.kind == "symlink" else found  # that is how a loop ends


def is_settled(found: Mapping[str, Found]) -> bool:
    """Return whether files were last changed long enough ago for their time stamps to name their content."""
    newest = max((max(each.mtime, each.ctime) for each in found.values()), default=0)
    return newest < (time.time() - _SETTLED) * 1e9


def ingest(
    root: Path, chosen: Mapping[str, Found], *, name: str, version: str, arch: str, spelling: str, store: Store
) -> tuple[Package, PackageIndex]:
    """Read files of a directory into the store as one package, and return it with its index.

    Arguments: the directory; path in the package → file below the root (`Found.path`); the package's name, version and
    architecture; how the recipe names the directory. The package's digest is of the paths, permissions and contents, so
    it is the same wherever the directory lies. Raises BuildError for a path that can't be read, that changes meanwhile,
    or that is neither file nor link.
    """
    digest = ""

    def write(blob: BinaryIO) -> PackageIndex:
        nonlocal digest
        files = tuple(contents(_Files(root, chosen), blob))
        listing = hashlib.sha256(f"preroot directory 1\0{name}\0{version}\0".encode())
        for each in files:
            listing.update(f"{each.path}\0{each.type}\0{each.mode:o}\0{each.sha256}\0{each.target}\0".encode())
        digest = listing.hexdigest()
        return PackageIndex(FORMAT, digest, name, version, arch, blob.tell(), files, (), {}, {})

    index = store.adopt(write)
    return Package(name, version, arch, digest, index.blob_size, spelling), index


class _Files:
    """The chosen files, as `unpack.contents` reads a package's."""

    def __init__(self, root: Path, chosen: Mapping[str, Found]) -> None:
        self._root = root
        self._chosen = chosen
        self._now: Found

    def members(self) -> Iterator[Member]:
        for path, found in sorted(self._chosen.items()):
            full = self._root / found.path
            if found.kind == "other":
                raise BuildError(f"{full} is neither a file nor a link: a device, pipe or socket", "remove it")
            self._now = found
            mode = 0o777 if found.kind == "symlink" else 0o755 if found.mode & 0o100 else 0o644
            mode = 0o755 if found.kind == "directory" else mode
            yield Member(path, found.kind, mode, 0, 0, found.size if found.kind == "file" else 0, found.target)

    def content(self) -> Iterator[bytes]:
        full, left = self._root / self._now.path, self._now.size
        try:
            descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                while piece := file.read(1 << 20):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise BuildError(f"cannot read {full}: {error.strerror}") from None
        if left:
            raise BuildError(f"{full} changed while it was read", "run the same command again")
