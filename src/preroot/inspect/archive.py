# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads an initrd, ours or not: segments one behind the other, each a cpio archive, compressed or not.

Sources: Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c. Nothing in an image is
trusted: every size is compared with what is there, and what a segment unpacks to is bounded.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from preroot.errors import BuildError
from preroot.inspect.streams import Buffer, DamagedStream, detect, unpack

#: the most that all segments of an image may unpack to, unless the caller says otherwise: bytes
UNPACKED_LIMIT = 2 << 30

#: the most entries of one archive: a small file can stand for gigabytes of empty entries
ENTRIES_LIMIT = 1_000_000

_HEADER_SIZE = 110
_PATH_MAX = 4096
_TRAILER = "TRAILER!!!"
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "node",
    stat.S_IFBLK: "node",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class ArchiveEntry(Struct, frozen=True):
    """One entry of a segment."""

    #: without `/` or `./` in front; bytes that are not UTF-8 are surrogates (PEP 383)
    path: str
    #: file, directory, symlink, node, fifo or socket
    type: str
    #: permission bits, set-id and sticky included
    mode: int
    uid: int
    gid: int
    #: seconds
    mtime: int
    #: of a file's content
    size: int
    target: str
    device: tuple[str, int, int] | None
    #: number of the segment, from 0
    segment: int
    #: of the content in the unpacked segment
    offset: int
    #: paths of one segment with the same (inode, device) and more than one link are one file
    links: int = 1
    inode: tuple[int, int, int] = (0, 0, 0)


class Segment(Struct, frozen=True):
    """One segment: where it lies in the image, how it is compressed, what is in it. Offset and sizes in bytes."""

    offset: int
    size: int
    codec: str
    data: Buffer
    entries: tuple[ArchiveEntry, ...]

    def content(self, entry: ArchiveEntry) -> bytes:
        """Return the content of a file entry of this segment."""
        return bytes(self.data[entry.offset : entry.offset + entry.size])


class Archive(Struct, frozen=True):
    """An image that was read."""

    name: str
    size: int
    segments: tuple[Segment, ...]

    def read(self, entry: ArchiveEntry) -> bytes:
        """Return the content of a file entry of this archive."""
        return self.segments[entry.segment].content(entry)

    def effective(self) -> dict[str, ArchiveEntry]:
        """Return what is there after the kernel has unpacked all segments: path → entry, sorted; later ones win."""
        found = {entry.path: entry for segment in self.segments for entry in segment.entries}
        return {path: found[path] for path in sorted(found)}


def read_file(path: Path, *, limit: int = UNPACKED_LIMIT) -> Archive:
    """Read the image in a file. Raises BuildError as read_archive does, and when the file cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from None
    return read_archive(data, str(path), limit=limit)


def read_archive(image: bytes, name: str, *, limit: int = UNPACKED_LIMIT) -> Archive:
    """Read an image. `name` names it in errors; `limit` is the most that all segments together may unpack to (bytes).

    Raises BuildError naming the offset of what is cut off, damaged, unknown or too large.
    """
    view = memoryview(image)
    segments: list[Segment] = []
    offset = 0
    while (offset := _skip_zeros(image, offset)) < len(image):
        codec = detect(view, offset)
        number = len(segments)
        try:
            if codec == "none" and offset % 4:
                raise DamagedStream("is not aligned to four bytes: the kernel would not find it")
            if codec == "none":
                entries, end = _read_entries(view, offset, number)
                data: Buffer = view
            elif codec:
                data, end = unpack(view, offset, codec, limit)
                entries = list(_read_unpacked(memoryview(data), number))
            else:
                raise DamagedStream("is no cpio archive, nor compressed in a way that the kernel knows")
        except DamagedStream as error:
            kind = f" ({codec})" if codec not in ("", "none") else ""
            hint = "" if segments else "is it an initrd?"
            raise BuildError(f"{name}: the segment at offset {offset}{kind} {error}", hint) from None
        limit -= sum(entry.size for entry in entries) if codec == "none" else len(data)
        if limit < 0:
            raise BuildError(f"{name}: the segments up to offset {end} unpack to more than is allowed")
        segments.append(Segment(offset, min(end, len(image)) - offset, codec, data, tuple(_resolve_links(entries))))
        offset = end
    if not segments:
        raise BuildError(f"{name}: there is no segment in it", "is it an initrd?")
    return Archive(name, len(image), tuple(segments))


def _skip_zeros(image: bytes, offset: int) -> int:
    """Return the offset of the next byte that is not zero."""
    while offset < len(image):
        piece = image[offset : offset + 65536]
        rest = piece.lstrip(b"\0")
        if rest:
            return offset + len(piece) - len(rest)
        offset += len(piece)
    return offset


def _read_unpacked(data: memoryview, number: int) -> Iterator[ArchiveEntry]:
    """Read a compressed segment: one archive, or several with zeros between them."""
    image = bytes(data) if len(data) < 8 else data.obj
    assert isinstance(image, bytes)
    offset = _skip_zeros(image, 0)
    if offset == len(image):
        raise DamagedStream("unpacks to no cpio archive")
    while offset < len(image):
        entries, offset = _read_entries(data, offset, number)
        yield from entries
        offset = _skip_zeros(image, offset)


def _read_entries(data: memoryview, start: int, number: int) -> tuple[list[ArchiveEntry], int]:
    """Read one archive up to its trailer; returns its entries and the offset behind it."""
    entries: list[ArchiveEntry] = []
    offset = start
    while True:
        # alignment counts from the beginning of the archive: the kernel wants that itself aligned
        where = f"at its offset {offset - start}"
        header = bytes(data[offset : offset + _HEADER_SIZE])
        if len(header) < _HEADER_SIZE:
            raise DamagedStream(f"is cut off {where}: there is no trailer")
        fields = _fields(header, where)
        inode, mode, uid, gid, links, mtime, size, major, minor, device_major, device_minor, name_size, check = fields
        content = offset + _HEADER_SIZE + name_size
        content += -(content - start) % 4
        if content + size > len(data):
            raise DamagedStream(
                f"is cut off {where}: an entry reaches {content + size - len(data)} bytes beyond the end"
            )
        path = _name(bytes(data[offset + _HEADER_SIZE : offset + _HEADER_SIZE + name_size]), where)
        if (
            header.startswith(b"070702")
            and stat.S_ISREG(mode)
            and sum(data[content : content + size]) & 0xFFFFFFFF != check
        ):
            raise DamagedStream(f"is damaged {where}: the checksum of {path} is wrong")
        offset = content + size
        offset += -(offset - start) % 4
        if path == _TRAILER:
            return entries, offset
        if len(entries) >= ENTRIES_LIMIT:
            raise DamagedStream(f"has more than {ENTRIES_LIMIT} entries")
        kind = _TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            raise DamagedStream(f"is damaged {where}: {path} has the unknown file type {mode:o}")
        target = bytes(data[content : content + size]).decode("utf-8", "surrogateescape") if kind == "symlink" else ""
        letter = "b" if stat.S_ISBLK(mode) else "c"
        entries.append(
            ArchiveEntry(
                _canonical(path), kind, stat.S_IMODE(mode), uid, gid, mtime, size if kind == "file" else 0, target,
                (letter, device_major, device_minor) if kind == "node" else None, number, content, links,
                (inode, major, minor),
            )
        )  # fmt: skip


def _fields(header: bytes, where: str) -> tuple[int, ...]:
    """Return the thirteen numbers of a header."""
    if header[:6] not in (b"070701", b"070702"):
        raise DamagedStream(f"is damaged {where}: {header[:6]!r} is not the magic of a cpio entry")
    try:
        # fromhex takes hexadecimal digits and, unlike int(), neither signs nor underscores; spaces make it shorter
        return struct.unpack(">13I", bytes.fromhex(header[6:].decode("ascii")))
    except (ValueError, struct.error):
        raise DamagedStream(f"is damaged {where}: a header has something else than hexadecimal digits") from None


def _name(raw: bytes, where: str) -> str:
    if not 0 < len(raw) <= _PATH_MAX or raw[-1]:
        raise DamagedStream(f"is damaged {where}: a name of {len(raw)} bytes, or without its NUL")
    # more than one NUL is used to align what follows
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _canonical(path: str) -> str:
    """Return a path without `/` and `./` in front and without a slash at the end; `.` is the root itself."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts) or "."


def _resolve_links(entries: Iterable[ArchiveEntry]) -> Iterator[ArchiveEntry]:
    """Give all hard links of a file its content: it stands with one of them, the others have size 0."""
    entries = list(entries)
    holders = {entry.inode: entry for entry in entries if entry.links > 1 and entry.type == "file" and entry.size}
    for entry in entries:
        holder = holders.get(entry.inode) if entry.links > 1 and entry.type == "file" and not entry.size else None
        if holder is None:
            yield entry
        else:
            yield ArchiveEntry(
                entry.path, entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, holder.size, "", None,
                entry.segment, holder.offset, entry.links, entry.inode,
            )  # fmt: skip
