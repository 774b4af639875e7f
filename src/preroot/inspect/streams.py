# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decompresses one stream out of the middle of an image: finds where it ends, and never makes more than is allowed.

Magic numbers: lib/decompress.c of the kernel. Every function takes the image, the offset of a stream and the most
bytes that it may yield, and returns the content and the offset behind the stream.
"""

from __future__ import annotations

from collections.abc import Callable

from preroot.errors import BuildError
from preroot.packages.codec import CodecError, first_stream

Buffer = bytes | memoryview

#: lz4's legacy frame: blocks of 8 MiB, each at most this long when compressed (LZ4_compressBound)
_LZ4_BLOCK = 8 << 20
_LZ4_BOUND = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16


class DamagedStream(Exception):
    """A stream is cut off, damaged, or yields more than is allowed; the text says which."""


def detect(image: Buffer, offset: int) -> str:
    """Return the codec of what is at `offset`: `none` for a cpio archive, '' for what the kernel would not know."""
    head = bytes(image[offset : offset + 6])
    return next((codec for magic, codec in _MAGIC if head.startswith(magic)), "")


def unpack(image: Buffer, offset: int, codec: str, limit: int) -> tuple[bytes, int]:
    """Decompress the stream of a known codec at `offset`, into at most `limit` bytes.

    Raises DamagedStream, and BuildError for a codec that is not read (lzo) or whose program is missing (lz4).
    """
    reader = _READERS.get(codec)
    if reader is None:
        raise BuildError(
            f"the image has a segment at offset {offset} that is compressed with {codec}, which is not read"
        )
    return reader(image, offset, limit)


def _with(codec: str) -> Callable[[Buffer, int, int], tuple[bytes, int]]:
    """Return a reader for a codec of packages/codec."""

    def read(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
        try:
            return first_stream(image, offset, codec, limit)
        except CodecError as error:
            raise DamagedStream(str(error)) from None

    return read


def _lz4(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
    """Unpack lz4's legacy frame with the program lz4; where it ends is found by walking over its blocks."""
    from preroot.run import run

    position, blocks = offset + 4, 0
    while position + 4 <= len(image):
        size = int.from_bytes(image[position : position + 4], "little")
        if bytes(image[position : position + 4]) == _LZ4_MAGIC:
            position += 4
            continue
        if size == 0 or size > _LZ4_BOUND:
            break
        if position + 4 + size > len(image):
            raise DamagedStream("is cut off")
        blocks += 1
        # the program holds what it unpacks in memory; only the last block may be shorter than 8 MiB
        if (blocks - 1) * _LZ4_BLOCK > limit:
            raise DamagedStream(f"unpacks to more than {limit} bytes")
        position += 4 + size
    try:
        data = run(["lz4", "-q", "-d", "-c", "-"], purpose="to unpack an image", stdin=bytes(image[offset:position]))
    except BuildError as error:
        if "not installed" in error.message:
            raise
        raise DamagedStream("is damaged") from None
    if len(data) > limit:
        raise DamagedStream(f"unpacks to more than {limit} bytes")
    return data, position


_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_MAGIC = (
    (b"070701", "none"),
    (b"070702", "none"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"]\0\0", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (_LZ4_MAGIC, "lz4"),
    (b"\x89LZO\0\r", "lzo"),
)
_READERS: dict[str, Callable[[Buffer, int, int], tuple[bytes, int]]] = {
    "gzip": _with("gz"),
    "bzip2": _with("bz2"),
    "xz": _with("xz"),
    "lzma": _with("lzma"),
    "zstd": _with("zst"),
    "lz4": _lz4,
}
