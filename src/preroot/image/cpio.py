# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes cpio archives in the newc format, as the kernel reads them.

Sources: Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c. What that reader silently skips
(names and link targets of PATH_MAX bytes and more, paths whose directory is not there) is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from preroot.errors import BuildError
from preroot.tree.model import Entry

#: raised whenever the same entries give other bytes than before
ARCHIVE_FORMAT = 1
#: magic, thirteen numbers in hexadecimal
_HEADER = b"070701" + b"%08X" * 13
_HEADER_SIZE = 110
_TRAILER = b"TRAILER!!!"
_PATH_MAX = 4096
#: limits.h: of one part of a path, on the file system that the kernel unpacks to
_NAME_MAX = 255
_FILE_LIMIT = 1 << 32
_DIRECTORY, _FILE, _SYMLINK = 0o040000, 0o100000, 0o120000
_NODES = {"c": 0o020000, "b": 0o060000}
#: contents from this size on are handed over as they are, smaller ones are gathered
_LARGE = 64 << 10
_CHUNK = 1 << 20


def archive_chunks(
    entries: Iterable[Entry], read: Callable[[Entry], bytes], *, mtime: int = 0, align: int = 4
) -> Iterator[bytes]:
    """Write an archive: yields its bytes in chunks of about a megabyte; the total is a multiple of four.

    `read` returns the content of a file entry. Entries are written sorted by path, numbered from 1, each with one link
    and with the time `mtime` (seconds). `align` is the alignment in bytes of files' contents within the archive:
    processors want microcode at multiples of 16 (Intel SDM 3A, "Microcode Update Facilities"). It is reached by more
    than one NUL behind a name, as iucode_tool(8) does.
    Raises BuildError for what the format cannot hold or the kernel would not unpack.
    """
    gathered: list[bytes] = []
    amount = position = 0
    directories = {""}
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry.path), 1):
        name = _checked_name(entry, directories)
        kind, major, minor = _kind(entry)
        data = b""
        if entry.type == "file":
            data = b"" if entry.size >= _FILE_LIMIT else read(entry)  # there may be no room for it in memory
            if max(len(data), entry.size) >= _FILE_LIMIT:
                raise BuildError(f"{entry.path} of {entry.owner} is 4 GiB or more, which a cpio archive cannot hold")
        elif entry.type == "symlink":
            data = _checked_target(entry)
        name += b"\0"
        if align > 4 and entry.type == "file":
            name += bytes(-(position + _HEADER_SIZE + len(name)) % align)
        links = 2 if entry.type == "directory" else 1
        fields = (number, kind | entry.mode, entry.uid, entry.gid, links, mtime, len(data), 0, 0, major, minor)
        head = _header(name, fields)
        padding = bytes(-len(data) % 4)
        position += len(head) + len(data) + len(padding)
        gathered.append(head)
        if len(data) >= _LARGE:
            yield b"".join(gathered)
            yield data
            gathered, amount = [padding], 0
        else:
            gathered += (data, padding)
            amount += len(head) + len(data)
            if amount >= _CHUNK:
                yield b"".join(gathered)
                gathered, amount = [], 0
    gathered.append(_header(_TRAILER + b"\0", (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
    yield b"".join(gathered)


def archive_size(entries: Iterable[Entry], *, align: int = 4) -> int:
    """Return how many bytes `archive_chunks` writes for these entries (sizes of files as the entries have them)."""
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.path):
        name = len(entry.path.encode("utf-8", "surrogateescape")) + 1
        data = 0
        if entry.type == "file":
            data = entry.size
            if align > 4:
                name += -(position + _HEADER_SIZE + name) % align
        elif entry.type == "symlink":
            data = len(entry.target.encode("utf-8", "surrogateescape"))
        position += _padded(_HEADER_SIZE + name) + _padded(data)
    return position + _padded(_HEADER_SIZE + len(_TRAILER) + 1)


def _padded(size: int) -> int:
    return size + -size % 4


def _header(name: bytes, fields: tuple[int, ...]) -> bytes:
    """Return a header with the NUL-terminated name behind it, padded to four bytes.

    `fields`: inode, mode, uid, gid, links, mtime, size, then major and minor of the device that the file is on, and of
    the device that it is. The checksum, unused in this format, is 0.
    """
    head = _HEADER % (*fields, len(name), 0) + name
    return head + bytes(-len(head) % 4)


def _kind(entry: Entry) -> tuple[int, int, int]:
    """Return the file type bits and the device numbers of an entry."""
    if entry.type == "file":
        return _FILE, 0, 0
    if entry.type == "directory":
        return _DIRECTORY, 0, 0
    if entry.type == "symlink":
        return _SYMLINK, 0, 0
    if entry.device is None:
        raise ValueError(f"{entry.path}: a node without a device")
    letter, major, minor = entry.device
    return _NODES[letter], major, minor


def _checked_name(entry: Entry, directories: set[str]) -> bytes:
    path = entry.path
    name = path.encode("utf-8", "surrogateescape")
    if len(name) >= _PATH_MAX:
        raise BuildError(
            f"{path[:60]}… of {entry.owner} has a name of {len(name)} bytes, the kernel unpacks up to 4095"
        )
    if any(len(part) > _NAME_MAX for part in name.split(b"/")):
        raise BuildError(f"{path[:60]}… of {entry.owner} has a part of more than {_NAME_MAX} bytes in its name, "
                         "and the kernel could not unpack it")  # fmt: skip
    if (
        not path
        or b"\0" in name
        or path == _TRAILER.decode()
        or any(part in ("", ".", "..") for part in path.split("/"))
    ):
        raise BuildError(f"{path!r} of {entry.owner} is no path for an image")
    if not (0 <= entry.mode <= 0o7777 and 0 <= entry.uid < 1 << 32 and 0 <= entry.gid < 1 << 32):
        raise BuildError(f"{path} of {entry.owner} has mode {entry.mode:o}, owner {entry.uid}:{entry.gid}")
    if path.rpartition("/")[0] not in directories:
        raise BuildError(f"{path} of {entry.owner}: the directory above it is not in the image")
    if entry.type == "directory":
        directories.add(path)
    return name


def _checked_target(entry: Entry) -> bytes:
    target = entry.target.encode("utf-8", "surrogateescape")
    if not 0 < len(target) < _PATH_MAX or b"\0" in target:
        raise BuildError(f"{entry.path} of {entry.owner} is a link whose target has {len(target)} bytes or a NUL")
    return target
