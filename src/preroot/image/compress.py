# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compresses the archive of a part so that the kernel unpacks it, and so that the bytes depend on nothing else.

What the kernel's decompressors take (lib/decompress_*.c): a single zstd frame with a window of up to 128 MiB; xz with
CRC32 (or no) checks; gzip; lz4 in its legacy frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from preroot.errors import RecipeError
from preroot.recipe.schema import CODEC_LEVELS, Codec

#: the kernel's limit for the window of zstd (include/linux/zstd_lib.h: ZSTD_WINDOWLOG_LIMIT_DEFAULT), as a power of two
_ZSTD_WINDOW_LOG = 27

#: dictionary sizes of xz's presets 0 to 9 (xz(1)), as powers of two
_XZ_WINDOW_LOGS = (18, 20, 21, 22, 22, 23, 23, 24, 25, 26)


def check_level(codec: Codec, level: int) -> None:
    """Raise RecipeError when a codec has no such compression level."""
    low, high = CODEC_LEVELS.get(codec, (level, level))
    if not low <= level <= high:
        raise RecipeError(f"compression: {codec} has no level {level}", f"use {low} to {high}")


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    import os

    return len(os.sched_getaffinity(0))


def compress(chunks: Iterable[bytes], codec: Codec, level: int, *, threads: int = 0, size: int = 0) -> Iterator[bytes]:
    """Compress chunks to one stream; yields its pieces.

    `threads` 0 means all processors; the result does not depend on it. `size` is the expected size in bytes (0: not
    known): a window larger than that is not asked for, as the kernel would allocate it. Equal chunks, codec, level and
    size give equal bytes with the same library, however they are cut.
    Raises RecipeError for a level that the codec does not have, BuildError when the program lz4 is missing.
    """
    check_level(codec, level)
    if codec == "zstd":
        return _zstd(chunks, level, threads or available_threads(), size)
    if codec == "xz":
        return _xz(chunks, level, size)
    if codec == "gzip":
        return _gzip(chunks, level)
    if codec == "lz4":
        return _lz4(chunks, level)
    return iter(chunks)


def codec_tools(codecs: Iterable[Codec]) -> dict[str, str]:
    """Return name → version of what compresses with these codecs: other versions may give other bytes.

    Raises BuildError when the program lz4 is needed and missing.
    """
    return dict(codec_version(codec) for codec in sorted(set(codecs)) if codec != "none")


def codec_version(codec: Codec) -> tuple[str, str]:
    """Return name and version of what does the compression; two empty strings for `none`."""
    if codec == "zstd":
        import zstandard

        return "libzstd", ".".join(map(str, zstandard.ZSTD_VERSION))
    if codec == "gzip":
        import zlib

        return "zlib", zlib.ZLIB_RUNTIME_VERSION
    if codec == "xz":
        return "liblzma", _liblzma_version()
    if codec == "lz4":
        from preroot.run import tool_version

        return "lz4", tool_version("lz4")
    return "", ""


def _liblzma_version() -> str:
    """Return the version of the liblzma that Python's module lzma is linked to, which does not tell it itself.

    lzma_version_string() is in liblzma since 5.0 (lzma/version.h); dlsym(3) finds it over the extension module, which
    depends on the library. A Python that keeps it to itself (linked statically) stands for it by its own version.
    """
    import _lzma
    import ctypes
    import platform

    try:
        function = ctypes.CDLL(getattr(_lzma, "__file__", None)).lzma_version_string
        function.restype = ctypes.c_char_p
        return bytes(function()).decode()
    except (OSError, AttributeError):
        return f"python {platform.python_version()}"


def _zstd(chunks: Iterable[bytes], level: int, threads: int, size: int) -> Iterator[bytes]:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=size)
    # With one worker or more the input is cut into jobs of a size that follows from the parameters alone; without
    # workers it is not cut. So at least one worker is used always (seen with libzstd 1.5.7: 1, 2 and 3 workers give
    # equal bytes, 0 gives others), which also reads and compresses at the same time.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size,
        window_log=min(parameters.window_log, _ZSTD_WINDOW_LOG),
        threads=max(1, threads),
        write_checksum=True,
        write_content_size=False,
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    for chunk in chunks:
        piece = stream.compress(chunk)
        if piece:
            yield piece
    yield stream.flush()


def _xz(chunks: Iterable[bytes], level: int, size: int) -> Iterator[bytes]:
    import lzma

    window = _XZ_WINDOW_LOGS[level]
    if size:
        window = min(window, max(16, (size - 1).bit_length()))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": 1 << window}]
    stream = lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
    for chunk in chunks:
        yield stream.compress(chunk)
    yield stream.flush()


def _gzip(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    import zlib

    # wbits 31: a gzip header, which zlib writes without a name and with the time 0
    stream = zlib.compressobj(level, zlib.DEFLATED, 31)
    for chunk in chunks:
        yield stream.compress(chunk)
    yield stream.flush()


def _lz4(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    from preroot.run import run

    yield run(["lz4", "-q", "-l", f"-{level}", "-z", "-c", "-"], purpose="to compress with lz4", stdin=b"".join(chunks))
