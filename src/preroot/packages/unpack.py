# SPDX-License-Identifier: LGPL-2.1-or-later
"""One package file, read once: its contents go to a blob, what was learnt about each file into the index."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

from preroot.errors import BuildError
from preroot.packages.aside import FORMAT
from preroot.packages.deb import Deb
from preroot.packages.learn import learn
from preroot.packages.model import FileInfo, FileType, Package, PackageIndex
from preroot.packages.tar import Member

#: Larger files are streamed to the blob and learnt from there, so that memory does not grow with them.
_IN_MEMORY = 8 << 20
_ZEROS = bytes(1 << 20)


class _Hashed:
    """A file whose every byte that is read goes into its SHA-256."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._sha256 = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise BuildError(
                f"package {self._name} cannot be read: {error.strerror}", "let it be fetched again"
            ) from error
        self._sha256.update(data)
        self.size += len(data)
        return data

    def finish(self) -> str:
        """Read the rest and return the digest of the whole."""
        while self.read(1 << 20):
            pass
        return self._sha256.hexdigest()


def unpack(package: Package, file: BinaryIO, name: str, blob: BinaryIO) -> PackageIndex:
    """Read a package file into `blob` and return its index.

    Arguments: the package as the lock has it; its file, open at the start, and the name for messages; the blob, empty
    and open for reading and writing. The digest is computed on the way: until this returns, nothing read is to be
    believed.
    Raises BuildError when the file is not what the lock names (also if it could not even be read), or not sound.
    """
    hashed = _Hashed(file, name)
    try:
        deb = Deb(cast(BinaryIO, hashed), name)
        files = contents(deb, blob)
    except BuildError as error:
        # A file that is not the one of the lock may fail in any way; only the digest says what is wrong with it.
        _check_digest(package, hashed, name, error)
        raise
    _check_digest(package, hashed, name, None)
    fields = deb.control.fields
    if (fields["Package"], fields["Version"]) != (package.name, package.version):
        found = f"{fields['Package']}={fields['Version']}"
        raise BuildError(f"package {name} is {found}, and {package.owner} was asked for", "preroot lock --update")
    return PackageIndex(
        format=FORMAT, sha256=package.sha256, name=package.name, version=package.version,
        arch=fields.get("Architecture", package.arch), blob_size=blob.tell(), files=tuple(files),
        conffiles=deb.control.conffiles, scripts=deb.control.scripts, control=fields,
    )  # fmt: skip


def _check_digest(package: Package, hashed: _Hashed, name: str, cause: BuildError | None) -> None:
    found = hashed.finish()
    if found != package.sha256:
        raise BuildError(
            f"package {package.owner}: {name} ({hashed.size} bytes) has the SHA-256 {found}, expected {package.sha256}",
            "remove that file, so that it is fetched again; if that does not help, the mirror has not what was locked",
        ) from cause


class Archive(Protocol):
    """What contents are read from: a package, or what is read as one."""

    def members(self) -> Iterator[Member]:
        """Yield the members, one after the other."""

    def content(self) -> Iterator[bytes]:
        """Yield the content of the current member, a regular file, in pieces."""


def contents(archive: Archive, blob: BinaryIO) -> list[FileInfo]:
    """Write the contents of all regular files to the blob, one after the other, and learn from each."""
    files: dict[str, FileInfo] = {}
    large = []
    offset = 0
    for member in archive.members():
        if member.type == "hardlink":
            files[member.path] = _link(member, files[member.target])
        elif member.type != "file":
            files[member.path] = _info(member, 0, "", 0, member.target)
        elif member.size > _IN_MEMORY:
            sha256 = hashlib.sha256()
            for piece in archive.content():
                sha256.update(piece)
                if piece == _ZEROS[: len(piece)]:
                    blob.seek(len(piece), os.SEEK_CUR)  # a hole: what is nothing but zeros takes no room
                else:
                    blob.write(piece)
            files[member.path] = _info(member, member.size, sha256.hexdigest(), offset)
            large.append(member.path)
        else:
            data = b"".join(archive.content())
            blob.write(data)
            files[member.path] = FileInfo(
                member.path, "file", member.mode, member.uid, member.gid, member.size, hashlib.sha256(data).hexdigest(),
                "", offset, learn(member.path, member.mode, data),
            )  # fmt: skip
        offset += member.size
    blob.flush()
    os.ftruncate(blob.fileno(), offset)
    for path in large:
        files[path] = _learn_in_place(files[path], blob)
    return [_link_again(each, files) if each.type == "hardlink" else each for each in files.values()]


def _info(member: Member, size: int, sha256: str, offset: int, target: str = "") -> FileInfo:
    return FileInfo(member.path, cast(FileType, member.type), member.mode, member.uid, member.gid, size, sha256, target,
                    offset, None)  # fmt: skip


def _link(member: Member, target: FileInfo) -> FileInfo:
    """Return a hard link to `target`, or to the file that `target` is itself a link to, with that file's content."""
    return FileInfo(member.path, "hardlink", target.mode, target.uid, target.gid, target.size, target.sha256,
                    target.target or target.path, target.offset, target.learnt)  # fmt: skip


def _link_again(link: FileInfo, files: dict[str, FileInfo]) -> FileInfo:
    """Return a hard link with what was learnt in the meantime of a large file."""
    from msgspec import structs

    return structs.replace(link, learnt=files[link.target].learnt)


def _learn_in_place(info: FileInfo, blob: BinaryIO) -> FileInfo:
    from msgspec import structs

    start = info.offset - info.offset % mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(blob.fileno(), info.offset - start + info.size, offset=start, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        content = view[info.offset - start :]
        try:
            return structs.replace(info, learnt=learn(info.path, info.mode, content))
        finally:
            content.release()
            view.release()
