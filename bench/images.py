# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in an image, whoever made it: its paths, and its size when everybody's compressor is the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import zstandard
from msgspec import Struct

from bench.chroots import module_name
from preroot.inspect.archive import read_file
from preroot.inspect.size import groups, sizes_of_archive

#: directories at the top that are links in a merged /usr
_MERGED = ("bin/", "sbin/", "lib/", "lib64/")


class Contents(Struct, frozen=True):
    """An image's paths (with /usr merged), its modules' names, and sizes in bytes.

    `recompressed` is the size of all its archives, uncompressed and joined, as one frame of zstd -19: so the
    compressor and the level that each generator picks drop out.
    """

    paths: frozenset[str]
    modules: frozenset[str]
    size: int
    uncompressed: int
    recompressed: int
    #: kind of file → bytes of contents, as `preroot size --by kind` tells them
    kinds: dict[str, int] = {}


def read(image: Path, cache: Path) -> Contents:
    """Read an image; recompressing takes a minute, so its outcome is kept in `cache` under the content's digest."""
    archive = read_file(image)
    parts = []
    for segment in archive.segments:
        lies = slice(segment.offset, segment.offset + segment.size) if segment.codec == "none" else slice(None)
        parts.append(bytes(segment.data[lies]))
    plain = b"".join(parts)
    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    known = cache / "recompressed" / f"{hashlib.sha256(plain).hexdigest()}-{version}"
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        # zstd(1): how many threads compress does not change the outcome, as long as it is not "none".
        known.write_text(str(len(zstandard.ZstdCompressor(level=19, threads=2).compress(plain))))
    paths = frozenset(merged(path) for path in archive.effective())
    return Contents(
        paths=paths,
        modules=frozenset(module_name(path) for path in paths if ".ko" in path.rpartition("/")[2]),
        size=archive.size,
        uncompressed=len(plain),
        recompressed=int(known.read_text()),
        kinds={group.name: group.size for group in groups(sizes_of_archive(archive), "kind")},
    )


def merged(path: str) -> str:
    """Return a path as it is in a merged /usr: usr/bin/sh for bin/sh."""
    return f"usr/{path}" if path.startswith(_MERGED) else path
