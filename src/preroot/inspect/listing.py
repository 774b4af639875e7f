# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `preroot ls` shows of an image, as data."""

from __future__ import annotations

import stat
from collections.abc import Iterable

from msgspec import Struct

from preroot.inspect.archive import Archive, ArchiveEntry, Segment

_BITS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
         "socket": stat.S_IFSOCK}  # fmt: skip


class Row(Struct, frozen=True):
    """One line of a listing."""

    #: as ls(1) has it: drwxr-xr-x
    mode: str
    uid: int
    gid: int
    #: bytes, or `MAJOR, MINOR` of a node
    size: str
    path: str
    #: of a symlink
    target: str
    #: number of the segment, from 0
    segment: int


class SegmentRow(Struct, frozen=True):
    """One segment of an image: sizes and offset in bytes."""

    number: int
    offset: int
    size: int
    unpacked: int
    codec: str
    entries: int


def rows(entries: Iterable[ArchiveEntry]) -> tuple[Row, ...]:
    """Return the lines for entries, in their order."""
    return tuple(_row(entry) for entry in entries)


def segment_rows(archive: Archive) -> tuple[SegmentRow, ...]:
    """Return one line for each segment of an image."""
    return tuple(_segment_row(number, segment) for number, segment in enumerate(archive.segments))


def _segment_row(number: int, segment: Segment) -> SegmentRow:
    unpacked = segment.size if segment.codec == "none" else len(segment.data)
    return SegmentRow(number, segment.offset, segment.size, unpacked, segment.codec, len(segment.entries))


def _row(entry: ArchiveEntry) -> Row:
    size, bits = str(entry.size), _BITS.get(entry.type, 0)
    if entry.device is not None:
        letter, major, minor = entry.device
        bits = stat.S_IFBLK if letter == "b" else stat.S_IFCHR
        size = f"{major}, {minor}"
    return Row(stat.filemode(bits | entry.mode), entry.uid, entry.gid, size, entry.path, entry.target, entry.segment)
