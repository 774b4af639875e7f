# SPDX-License-Identifier: LGPL-2.1-or-later
"""The content of a disk on its way into a file system image: entries, and the directory that mkfs tools read.

An ordinary user cannot make files of another owner, nor device nodes. So files are staged as files of whoever runs
this, readable, and the image is told owner, mode and nodes by means that need no privilege (see `filesystems`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from msgspec import Struct

from preroot.boot.rootfs import RootFiles
from preroot.errors import BuildError


class DiskEntry(Struct, frozen=True):
    """One path of a file system, relative to its root, without a leading slash.

    `mode` is the permission bits with set-id and sticky; `data` a file's content, `target` a symbolic link's,
    `device` a node's ("c" or "b", major, minor). Directories above a path that are not given are 0755 root:root.
    """

    path: str
    type: Literal["file", "directory", "symlink", "node"]
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytes = b""
    target: str = ""
    device: tuple[str, int, int] | None = None


class Staged(Struct, frozen=True):
    """A staged tree: its directory, its entries without their data, by path and parents first, and the bytes in it."""

    directory: Path
    entries: dict[str, DiskEntry]
    size: int

    @property
    def only_root(self) -> bool:
        """Return whether everything belongs to root:root."""
        return all(entry.uid == 0 == entry.gid for entry in self.entries.values())


def entries_of(files: RootFiles) -> Iterator[DiskEntry]:
    """Yield the entries of a mapping path → (mode, content), all of root's, as `rootfs.tiny_root` gives it."""
    for path, (mode, content) in files.items():
        if content is None:
            yield DiskEntry(path, "directory", mode)
        elif isinstance(content, str):
            yield DiskEntry(path, "symlink", 0o777, target=content)
        else:
            yield DiskEntry(path, "file", mode, data=content)


def digest(entries: Iterable[DiskEntry]) -> str:
    """Return a digest of entries, their order left aside: what a disk recipe names its content by."""
    each = []
    for entry in entries:
        head = (entry.path, entry.type, entry.mode, entry.uid, entry.gid, entry.target, entry.device)
        each.append(hashlib.sha256(repr(head).encode() + b"\0" + hashlib.sha256(entry.data).digest()).digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def stage(entries: Iterable[DiskEntry], directory: Path, *, exact: bool = False) -> Staged:
    """Write `entries` below `directory`, which is made.

    With `exact`, modes, owners and nodes are set on the files themselves, which only root can do for all of them;
    otherwise files are made readable and nodes are left to the file system's maker.
    Raises BuildError for a path that would leave the directory or goes through a link, for a duplicate, and for
    what the file system of `directory` refuses.
    """
    made: dict[str, DiskEntry] = {}
    size = 0
    directory.mkdir()
    directory.chmod(0o755)  # whatever the umask is: this becomes the root directory
    for entry in entries:
        parts = entry.path.split("/")
        if not entry.path or any(part in ("", ".", "..") or "\0" in part or "\n" in part for part in parts):
            raise BuildError(f"the path {entry.path!r} cannot be put on a disk", "paths are relative and canonical")
        try:
            for depth in range(1, len(parts)):
                _parent("/".join(parts[:depth]), directory, made, entry)
            known = made.get(entry.path)
            if known is not None and (known.type, entry.type) != ("directory", "directory"):
                raise BuildError(f"the path {entry.path} is there twice")
            if known is None:
                _write(entry, directory / entry.path, exact=exact)
        except OSError as error:
            raise BuildError(f"cannot stage {entry.path} for a disk: {error.strerror}") from error
        made[entry.path] = DiskEntry(
            entry.path, entry.type, entry.mode, entry.uid, entry.gid, target=entry.target, device=entry.device
        )
        size += len(entry.data)
    if exact:
        # Last and deepest first: a directory without write permission would keep an ordinary user out.
        for path, entry in sorted(made.items(), reverse=True):
            _set_exactly(entry, directory / path)
    return Staged(directory=directory, entries=dict(sorted(made.items())), size=size)


def _parent(path: str, directory: Path, made: dict[str, DiskEntry], entry: DiskEntry) -> None:
    known = made.get(path)
    if known is None:
        (directory / path).mkdir(mode=0o755)
        made[path] = DiskEntry(path, "directory", 0o755)
    elif known.type != "directory":
        # Written through a link, it could land anywhere on this host.
        raise BuildError(f"the path {entry.path} goes through {path}, which is a {known.type}")


def _write(entry: DiskEntry, place: Path, *, exact: bool) -> None:
    match entry.type:
        case "directory":
            place.mkdir(mode=0o755)
        case "symlink":
            place.symlink_to(entry.target)
        case "file":
            with place.open("xb", buffering=0) as file:
                file.write(entry.data)
            place.chmod(0o755 if entry.mode & 0o111 else 0o644)
        case "node":
            if entry.device is None:
                raise BuildError(f"the node {entry.path} has no device number")
            if exact:
                kind, major, minor = entry.device
                os.mknod(place, 0o600 | (0o020000 if kind == "c" else 0o060000), os.makedev(major, minor))


def _set_exactly(entry: DiskEntry, place: Path) -> None:
    try:
        if os.getuid() == 0:
            os.lchown(place, entry.uid, entry.gid)
        if entry.type != "symlink":
            place.chmod(entry.mode)
    except OSError as error:
        raise BuildError(f"cannot stage {entry.path} for a disk: {error.strerror}") from error
