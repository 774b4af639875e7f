# SPDX-License-Identifier: LGPL-2.1-or-later
"""Decompression piece by piece, bounded, so that a decompression bomb costs neither memory nor disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

#: What packages are compressed with: gzip (RFC 1952), xz (https://tukaani.org/xz/xz-file-format.txt), zstd (RFC 8878).
#: Images may have lzma (`xz --format=lzma`) and bz2 too.
CODECS = ("gz", "xz", "zst")
#: Memory that a stream may ask for: xz -9 needs 65 MiB, zstd --ultra -22 a window of 128 MiB.
_MAX_XZ_MEMORY = 192 << 20
_MAX_WINDOW = 128 << 20
#: A zstd block of 4 bytes (RFC 8878, RLE_Block) expands to 128 KiB and zstandard puts out all that its input holds:
#: this many bytes of input are 64 MiB at the most.
_ZSTD_INPUT = 2048
_INPUT = 1 << 18


class CodecError(Exception):
    """Compressed data is damaged, cut off, or larger than its bound. The text says which, without naming a file."""


class _Engine(Protocol):
    """The part of lzma.LZMADecompressor's interface that is used here."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """One gzip member."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstd:
    """One zstd frame; input is fed in small slices, which bounds what comes out of each."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
        self._pending = b""
        self._at = 0

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._at >= len(self._pending)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + self._pending[self._at :]

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._pending, self._at = self._pending[self._at :] + data, 0
        start, self._at = self._at, self._at + _ZSTD_INPUT
        return self._inner.decompress(self._pending[start : self._at])


def _engine(codec: str) -> _Engine:
    if codec == "gz":
        return _Gzip()
    if codec == "zst":
        return _Zstd()
    if codec == "bz2":
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    form = lzma.FORMAT_ALONE if codec == "lzma" else lzma.FORMAT_XZ
    return lzma.LZMADecompressor(format=form, memlimit=_MAX_XZ_MEMORY)


def _errors(codec: str) -> tuple[type[Exception], ...]:
    if codec == "gz":
        import zlib

        return (zlib.error,)
    if codec == "zst":
        import zstandard

        return (zstandard.ZstdError,)
    if codec == "bz2":
        return (OSError, ValueError)
    import lzma

    return (lzma.LZMAError,)


def decompressed(read: Callable[[int], bytes], codec: str, limit: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """Yield what the compressed stream holds, in pieces of about `piece` bytes (zstd: of at most 64 MiB).

    Arguments: `read(size)` returns up to `size` bytes and b"" at the end; `codec` is one of CODECS; `limit` in bytes.
    Several streams in a row are one, as gzip, xz and zstd have it. Raises CodecError for damaged or truncated data, and
    as soon as more than `limit` bytes came out.
    """
    errors = _errors(codec)
    engine = _engine(codec)
    total = 0
    data = b""
    while True:
        if engine.eof:
            data = engine.unused_data.lstrip(b"\0") or read(_INPUT).lstrip(b"\0")
            if not data:
                return
            engine = _engine(codec)
        elif engine.needs_input and not data:
            data = read(_INPUT)
            if not data:
                raise CodecError(f"{codec} data is cut off")
        try:
            out = engine.decompress(data, piece)
        except errors as error:
            raise CodecError(f"{codec} data is damaged: {error}") from error
        data = b""
        total += len(out)
        if total > limit:
            raise CodecError(f"more than {limit} bytes inside")
        if out:
            yield out


def first_stream(data: bytes | memoryview, offset: int, codec: str, limit: int) -> tuple[bytes, int]:
    """Return what the one stream that begins at `offset` holds, and the offset behind it.

    `codec` is one of CODECS, `lzma` or `bz2`; `limit` in bytes. Raises CodecError for damaged or truncated data, and as
    soon as more than `limit` bytes came out; its text is what the stream is or does.
    """
    errors = _errors(codec)
    engine = _engine(codec)
    made: list[bytes] = []
    total, position = 0, offset
    while not engine.eof:
        piece = b""
        if engine.needs_input:
            piece = bytes(data[position : position + _INPUT])
            if not piece:
                raise CodecError("is cut off")
            position += len(piece)
        try:
            out = engine.decompress(piece, limit + 1 - total)
        except errors as error:
            raise CodecError(f"is damaged ({error})") from error
        total += len(out)
        if total > limit:
            raise CodecError(f"unpacks to more than {limit} bytes")
        made.append(out)
    return b"".join(made), position - len(engine.unused_data)


def decompress(data: bytes, codec: str, limit: int) -> bytes:
    """Return `data` decompressed. Raises CodecError as `decompressed` does, which has the arguments."""
    return b"".join(pieces(data, codec, limit))


def pieces(data: bytes, codec: str, limit: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """Yield what `data` holds in pieces; arguments and errors as of `decompressed`."""
    from io import BytesIO

    return decompressed(BytesIO(data).read, codec, limit, piece)
