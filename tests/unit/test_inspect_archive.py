# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading images that are damaged, hostile, or made by others."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, other, tree

from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.inspect import archive as archive_module
from preroot.inspect.archive import read_archive, read_file
from preroot.inspect.listing import rows, segment_rows
from preroot.tree.model import Tree

BASE = tree(file("usr/bin/x", b"x" * 999, 0o4755), other("lib", "symlink", 0o777, target="usr/lib"))


def cpio(content: Tree = BASE) -> bytes:
    return b"".join(archive_chunks(content.entries.values(), ContentReader().read))


def header(name: bytes, data: bytes, *, mode: int = 0o100644, links: int = 1, inode: int = 1, magic: bytes = b"070701",
           check: int = 0) -> bytes:  # fmt: skip
    numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, check)
    head = magic + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    head += bytes(-len(head) % 4)
    return head + data + bytes(-len(data) % 4)


END = header(b"TRAILER!!!", b"", mode=0)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("codec", PACKERS)
def test_each_codec_between_others_and_padding(codec: str) -> None:
    first, second, third = cpio(), cpio(tree(file("a", b"1"))), cpio(tree(file("a", b"22"), file("b", b"3")))
    packed = PACKERS[codec](second)
    packed += bytes(-len(packed) % 4)
    image = first + bytes(512) + packed + bytes(8) + gzip.compress(third) + bytes(3)
    found = read_archive(image, "x")
    assert [segment.codec for segment in found.segments] == ["none", codec, "gzip"]
    assert found.segments[1].offset == len(first) + 512
    effective = found.effective()
    assert found.read(effective["a"]) == b"22", "a later segment wins"
    assert list(effective) == ["a", "b", "lib", "usr", "usr/bin", "usr/bin/x"]


def test_two_archives_in_one_stream() -> None:
    found = read_archive(gzip.compress(cpio() + bytes(256) + cpio(tree(file("a", b"1"))) + bytes(512)), "x")
    assert len(found.segments) == 1
    assert "a" in found.effective()


def test_others_spellings() -> None:
    image = header(b".", b"", mode=0o040755) + header(b"./etc", b"", mode=0o040755) + header(b"/etc//x", b"1") + END
    assert list(read_archive(image, "x").effective()) == [".", "etc", "etc/x"]


def test_hard_links_share_their_content() -> None:
    image = header(b"a", b"", links=2) + header(b"b", b"data", links=2) + header(b"c", b"", links=1, inode=2) + END
    found = read_archive(image, "x")
    assert {path: found.read(entry) for path, entry in found.effective().items()} == {
        "a": b"data",
        "b": b"data",
        "c": b"",
    }


def test_checksums_of_the_crc_format() -> None:
    good = header(b"a", b"\x01\x02\xff", magic=b"070702", check=258) + END
    assert read_archive(good, "x").effective()["a"].size == 3
    with pytest.raises(BuildError, match="checksum of a"):
        read_archive(header(b"a", b"\x01\x02\xff", magic=b"070702", check=257) + END, "x")


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "there is no segment"),
        (bytes(512), "there is no segment"),
        (b"\x7fELF" + bytes(60), "offset 0 is no cpio archive"),
        (cpio() + b"junk", f"offset {len(cpio())} is no cpio archive"),
        (bytes(2) + cpio(), "not aligned"),
        (cpio()[:-40], "cut off"),
        (header(b"a", b"1"), "there is no trailer"),
        (header(b"a", b"1").replace(b"00000001", b"FFFFFFFF"), "beyond the end"),
        (header(b"a", b"").replace(b"0", b" ", 20) + END, "is no cpio archive"),
        (b"070701" + b"+" * 104 + END, "hexadecimal"),
        (b"070701" + b" 1" * 52 + END, "hexadecimal"),
        (header(b"a" * 5000, b"") + END, "a name of 5001 bytes"),
        (header(b"", b"")[:94] + b"00000000" + header(b"", b"")[102:] + END, "a name of 0 bytes"),
        (header(b"a", b"", mode=0o150000) + END, "unknown file type"),
        (b"070707" + bytes(200), "is no cpio archive"),
        (b"\x89LZO\0\r\n\x1a\n" + bytes(8), "compressed with lzo"),
        (gzip.compress(b"hello world, no cpio at all" * 9, mtime=0), "is damaged at its offset 0"),
        (gzip.compress(bytes(100), mtime=0), "unpacks to no cpio archive"),
        (gzip.compress(header(b"a", b"1"), mtime=0), r"offset 0 \(gzip\) is cut off"),
    ],
)
def test_what_is_wrong_is_said_with_its_offset(image: bytes, text: str) -> None:
    with pytest.raises(BuildError, match=text):
        read_archive(image, "x")


@pytest.mark.parametrize("codec", [codec for codec in PACKERS if codec != "none"])
def test_cut_off_and_damaged_streams(codec: str) -> None:
    packed = PACKERS[codec](cpio())
    for end in range(7, len(packed) - 1, 11):
        with pytest.raises(BuildError, match=rf"x: the segment at offset 0 \({codec}\)"):
            read_archive(packed[:end], "x")


@pytest.mark.parametrize("codec", [codec for codec in PACKERS if codec != "none"])
def test_bombs_are_stopped(codec: str) -> None:
    bomb = PACKERS[codec](header(b"a", bytes(64 << 20)) + END)
    assert len(bomb) < 1 << 20
    with pytest.raises(BuildError, match="unpacks to more than 1048576 bytes"):
        read_archive(bomb, "x", limit=1 << 20)
    assert read_archive(bomb, "x", limit=65 << 20).effective()["a"].size == 64 << 20


def test_the_limit_is_for_all_segments_together() -> None:
    segment = gzip.compress(header(b"a", bytes(600_000)) + END)
    assert read_archive(segment, "x", limit=1 << 20)
    with pytest.raises(BuildError, match="unpack"):
        read_archive(segment * 2, "x", limit=1 << 20)


def test_the_number_of_entries_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "ENTRIES_LIMIT", 3)
    read_archive(header(b"a", b"") * 3 + END, "x")
    with pytest.raises(BuildError, match="more than 3 entries"):
        read_archive(header(b"a", b"") * 4 + END, "x")


@given(st.data())
def test_no_damage_makes_anything_but_a_build_error(data: st.DataObject) -> None:
    image = bytearray(cpio() + zlib.compress(cpio(), wbits=31) + zstandard.compress(cpio()))
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(image)))
    try:
        found = read_archive(bytes(image[:cut]), "x", limit=1 << 20)
    except BuildError as error:
        assert "\n" not in error.message
    else:
        for entry in found.effective().values():
            assert len(found.read(entry)) == entry.size


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"070701", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"]\0\0", b"\x28\xb5\x2f\xfd"]),
)
def test_any_bytes(rest: bytes, magic: bytes) -> None:
    with contextlib.suppress(BuildError):
        read_archive(magic + rest, "x", limit=1 << 20)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot read .*none: No such file"):
        read_file(tmp_path / "none")
    with pytest.raises(BuildError, match=r"cannot read .*Is a directory"):
        read_file(tmp_path)


def test_listing() -> None:
    image = cpio(tree(*BASE.entries.values(), other("dev/sda", "node", 0o660, device=("b", 8, 16))))
    found = read_archive(image + bytes(4) + gzip.compress(cpio()), "x")
    listed = {row.path: row for row in rows(found.effective().values())}
    assert (listed["usr/bin/x"].mode, listed["usr/bin/x"].size, listed["usr/bin/x"].segment) == ("-rwsr-xr-x", "999", 1)
    assert (listed["dev/sda"].mode, listed["dev/sda"].size) == ("brw-rw----", "8, 16")
    assert (listed["lib"].mode, listed["lib"].target) == ("lrwxrwxrwx", "usr/lib")
    first, second = segment_rows(found)
    assert (first.offset, first.size, first.codec, first.entries) == (0, len(image), "none", 6)
    assert (second.offset, second.codec, second.unpacked) == (len(image) + 4, "gzip", len(cpio()))
