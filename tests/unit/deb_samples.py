# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages made on the spot, byte by byte where a real tool would refuse to make them."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import zstandard

from preroot.packages.model import Package

CONTROL = (
    "Package: sample\nVersion: 1:2.0-1\nArchitecture: amd64\nDepends: libc6 (>= 2.36)\nDescription: a sample\n long\n"
)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def header(
    name: bytes,
    type_: bytes = b"0",
    size: int = 0,
    link: bytes = b"",
    *,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    magic: bytes = b"ustar\x0000",
    size_field: bytes | None = None,
    prefix: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """Return one tar header, with whatever is asked for in its fields."""
    numbers = mode + uid + gid + (size_field or b"%011o\0" % size) + b"00000000000\0"
    head = name.ljust(100, b"\0") + numbers
    tail = (
        type_
        + link.ljust(100, b"\0")
        + magic
        + bytes(32)
        + bytes(32)
        + bytes(16)
        + prefix.ljust(155, b"\0")
        + bytes(12)
    )
    total = sum(head) + 8 * 32 + sum(tail) if checksum is None else checksum
    block = head + b"%06o\0 " % total + tail
    assert len(block) == 512
    return block


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, content: bytes = b"", type_: bytes = b"0", link: bytes = b"", **fields: bytes) -> bytes:
    """Return a tar member: header and content."""
    return header(name, type_, len(content), link, **fields) + padded(content)  # type: ignore[arg-type]


END = bytes(1024)


def ar_member(name: bytes, data: bytes) -> bytes:
    return (
        name.ljust(16) + b"0           0     0     100644  " + b"%-10d`\n" % len(data) + data + b"\n" * (len(data) % 2)
    )


def control_tar(control: str = CONTROL, **others: str) -> bytes:
    files = {"control": control, **others}
    return b"".join(member(b"./" + name.encode(), text.encode()) for name, text in files.items()) + END


def deb(data_tar: bytes, suffix: str = ".gz", control: bytes | None = None, extra: Sequence[bytes] = ()) -> bytes:
    """Return a package with this data.tar, compressed as `suffix` says; `extra` ar members stand before control.tar."""
    parts = [b"!<arch>\n", ar_member(b"debian-binary", b"2.0\n"), *extra]
    parts.append(
        ar_member(b"control.tar" + suffix.encode(), PACK[suffix](control_tar() if control is None else control))
    )
    parts.append(ar_member(b"data.tar" + suffix.encode(), PACK[suffix](data_tar)))
    return b"".join(parts)


def plain_tar(files: Iterable[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Return an archive of regular files as Python's own writer makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo("./" + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def package_of(data: bytes, name: str = "sample", version: str = "1:2.0-1") -> Package:
    sha256 = hashlib.sha256(data).hexdigest()
    return Package(name, version, "amd64", sha256, len(data), f"pool/{name}.deb")


def saved(data: bytes, directory: Path, name: str = "sample.deb") -> Path:
    path = directory / name
    path.write_bytes(data)
    return path
