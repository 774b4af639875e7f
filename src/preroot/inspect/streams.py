# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decompresses one stream out of the middle of an image: finds where it ends, and never makes more than is allowed.

Magic numbers: lib/decompress.c of the kernel. Every function takes the image, the offset of a stream and the most
bytes that it may yield, and returns the content and the offset behind the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from preroot.errors import BuildError

Buffer = bytes | memoryview

_PIECE = 256 << 10
#: lz4's legacy frame: blocks of 8 MiB, each at most this long when compressed (LZ4_compressBound)
_LZ4_BLOCK = 8 << 20
_LZ4_BOUND = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16


class DamagedStream(Exception):
    """A stream is cut off, damaged, or yields more than is allowed; the text says which."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


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


def _with(
    make: Callable[[], _Decompressor], errors: tuple[type[Exception], ...]
) -> Callable[[Buffer, int, int], tuple[bytes, int]]:
    """Return a reader for one of the standard library's decompressors, which bound what they return."""

    def read(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
        stream = make()
        made: list[bytes] = []
        total, position = 0, offset
        while not stream.eof:
            piece = b""
            if stream.needs_input:
                piece = bytes(image[position : position + _PIECE])
                if not piece:
                    raise DamagedStream("is cut off")
                position += len(piece)
            try:
                data = stream.decompress(piece, limit + 1 - total)
            except errors as error:
                raise DamagedStream(f"is damaged ({error})") from None
            total += len(data)
            if total > limit:
                raise DamagedStream(f"unpacks to more than {limit} bytes")
            made.append(data)
        return b"".join(made), position - len(stream.unused_data)

    return read


def _lzma(form: str) -> Callable[[Buffer, int, int], tuple[bytes, int]]:
    def read(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
        import lzma

        kind = lzma.FORMAT_XZ if form == "xz" else lzma.FORMAT_ALONE
        return _with(lambda: lzma.LZMADecompressor(format=kind, memlimit=256 << 20), (lzma.LZMAError,))(
            image, offset, limit
        )

    return read


def _bzip2(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
    import bz2

    return _with(bz2.BZ2Decompressor, (OSError, ValueError))(image, offset, limit)


def _gzip(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
    import zlib

    stream = zlib.decompressobj(31)
    made: list[bytes] = []
    total, position, piece = 0, offset, b""
    while not stream.eof:
        if not piece:
            piece = bytes(image[position : position + _PIECE])
            position += len(piece)
            if not piece:
                raise DamagedStream("is cut off")
        try:
            data = stream.decompress(piece, limit + 1 - total)
        except zlib.error as error:
            raise DamagedStream(f"is damaged ({error})") from None
        piece = stream.unconsumed_tail
        total += len(data)
        if total > limit:
            raise DamagedStream(f"unpacks to more than {limit} bytes")
        made.append(data)
    return b"".join(made), position - len(stream.unused_data) - len(piece)


def _zstd(image: Buffer, offset: int, limit: int) -> tuple[bytes, int]:
    import zstandard

    stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    made: list[bytes] = []
    total, position = 0, offset
    # a block of four bytes can stand for 128 KiB, and one call unpacks all that it is given: so little at a time
    size = 4 << 10
    while not stream.eof:
        piece = bytes(image[position : position + size])
        if not piece:
            raise DamagedStream("is cut off")
        position += len(piece)
        try:
            data = stream.decompress(piece)
        except zstandard.ZstdError as error:
            raise DamagedStream(f"is damaged ({error})") from None
        total += len(data)
        if total > limit:
            raise DamagedStream(f"unpacks to more than {limit} bytes")
        if data:
            made.append(data)
    return b"".join(made), position - len(stream.unused_data)


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
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _lzma("xz"),
    "lzma": _lzma("lzma"),
    "zstd": _zstd,
    "lz4": _lz4,
}
