# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compression: what the kernel can unpack, and equal bytes whatever the circumstances."""

from __future__ import annotations

import gzip
import lzma
import random

import pytest
import zstandard

from preroot.errors import RecipeError
from preroot.image.compress import check_level, compress
from preroot.recipe.schema import Codec


def sample(size: int) -> bytes:
    """Return data that is neither random nor all the same."""
    source = random.Random(1)
    words = [source.randbytes(source.randrange(3, 40)) for _ in range(3000)]
    made = bytearray()
    while len(made) < size:
        made += source.choice(words)
    return bytes(made[:size])


SAMPLE = sample(20 << 20)


def packed(
    data: bytes, codec: Codec, level: int, threads: int = 1, step: int = 1 << 20, *, size: int | None = None
) -> bytes:
    chunks = (data[start : start + step] for start in range(0, len(data), step))
    return b"".join(compress(chunks, codec, level, threads=threads, size=len(data) if size is None else size))


def test_zstd_does_not_depend_on_threads_or_chunks() -> None:
    reference = packed(SAMPLE, "zstd", 3)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(reference) == SAMPLE
    for threads, step in ((2, 1 << 20), (3, 70_001), (4, len(SAMPLE)), (0, 4 << 20)):
        assert packed(SAMPLE, "zstd", 3, threads, step) == reference, (threads, step)


@pytest.mark.parametrize("level", [-7, 0, 3, 19, 22])
def test_zstd_is_one_frame_with_a_window_that_the_kernel_takes(level: int) -> None:
    data = SAMPLE[: 1 << 20]
    for size in (0, len(data), 1 << 40):
        frame = packed(data, "zstd", level, size=size)
        parameters = zstandard.get_frame_parameters(frame)
        assert parameters.window_size <= 128 << 20
        assert parameters.has_checksum
        unpacker = zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj()
        assert unpacker.decompress(frame) == data
        assert unpacker.unused_data == b""
    assert zstandard.get_frame_parameters(packed(data, "zstd", 22)).window_size <= 2 << 20, "no more than the content"


def test_xz_has_crc32_and_a_small_dictionary() -> None:
    data = SAMPLE[: 1 << 20]
    stream = packed(data, "xz", 6)
    assert stream[:8] == b"\xfd7zXZ\0\0\x01", "stream flags 1: CRC32 (xz-file-format, 2.1.1.2)"
    assert lzma.decompress(stream, memlimit=3 << 20) == data
    with pytest.raises(lzma.LZMAError):
        lzma.decompress(packed(data, "xz", 6, size=0), memlimit=3 << 20)


def test_gzip_has_neither_name_nor_time() -> None:
    stream = packed(SAMPLE[: 1 << 20], "gzip", 9)
    assert stream[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    assert gzip.decompress(stream) == SAMPLE[: 1 << 20]


@pytest.mark.parametrize("codec", ["zstd", "xz", "gzip", "none"])
def test_nothing_and_little_can_be_compressed(codec: Codec) -> None:
    for data in (b"", b"a"):
        assert packed(data, codec, 3, 1) == packed(data, codec, 3, 2)


@pytest.mark.parametrize(
    ("codec", "level"), [("zstd", 23), ("zstd", -8), ("xz", 10), ("xz", -1), ("gzip", 0), ("lz4", 13)]
)
def test_levels_that_do_not_exist(codec: Codec, level: int) -> None:
    with pytest.raises(RecipeError, match=f"{codec} has no level {level}"):
        compress([], codec, level)
    check_level("none", level)
