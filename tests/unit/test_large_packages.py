# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages with very many files, very large ones, very long names, or far more inside than outside."""

from __future__ import annotations

import hashlib
import lzma
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import deb_samples as samples
import msgspec
import pytest
from msgspec import structs

from preroot.errors import BuildError
from preroot.image.cpio import archive_chunks
from preroot.packages import deb
from preroot.packages.model import Package
from preroot.packages.store import Store
from preroot.tree.model import BytesContent, Entry

#: unpacks a package in a process of its own and prints the number of its files and the peak of its memory in bytes
UNPACK = """
import sys
from pathlib import Path
import msgspec
from preroot.packages.model import Package
from preroot.packages.store import Store
package = msgspec.json.decode(sys.argv[1], type=Package)
with Store(Path(sys.argv[3])) as store:
    index = store.unpack(package, Path(sys.argv[2]))
# not getrusage(2), whose peak is that of the process that this one was forked from, too
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(len(index.files), int(peak.split()[1]) * 1024)
"""


def compressed(pieces: Iterable[bytes], codec: str) -> bytes:
    """Compress piece by piece: what is inside need not be in memory."""
    engine = lzma.LZMACompressor(preset=0) if codec == ".xz" else zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*(engine.compress(piece) for piece in pieces), engine.flush()])


def package(pieces: Iterable[bytes], where: Path, codec: str = ".gz") -> tuple[Package, Path]:
    """Write a package with this data.tar."""
    control = samples.ar_member(b"control.tar" + codec.encode(), samples.PACK[codec](samples.control_tar()))
    body = samples.ar_member(b"data.tar" + codec.encode(), compressed(pieces, codec))
    data = b"!<arch>\n" + samples.ar_member(b"debian-binary", b"2.0\n") + control + body
    return samples.package_of(data), samples.saved(data, where)


def unpacked(made: Package, file: Path, top: Path) -> tuple[int, int]:
    argv = [sys.executable, "-c", UNPACK, msgspec.json.encode(made).decode(), str(file), str(top)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    files, memory = map(int, done.stdout.split())
    return files, memory


def many(number: int) -> Iterator[bytes]:
    """Yield an archive of so many files, half of them empty, a thousand in each directory."""
    for place in range(number):
        if not place % 1000:
            yield samples.member(b"./usr/share/many/%04d/" % (place // 1000), type_=b"5")
        content = b"%d" % place if place % 2 else b""
        yield samples.member(b"./usr/share/many/%04d/file-%07d" % (place // 1000, place), content)
    yield samples.END


def large(size: int) -> Iterator[bytes]:
    """Yield an archive of one file of so many bytes, zeros but for its beginning."""
    yield samples.header(b"./usr/large", size=size, size_field=b"\x80" + size.to_bytes(11, "big"))
    piece = bytes(1 << 20)
    yield b"begins" + piece[6:]
    for _ in range((size >> 20) - 1):
        yield piece
    yield samples.END


@pytest.mark.parametrize("number", [50_000, pytest.param(1_000_000, marks=pytest.mark.matrix)])
def test_very_many_files(tmp_path: Path, number: int) -> None:
    """Memory grows by less than 700 bytes a file, beside what Python itself takes."""
    made, file = package(many(number), tmp_path)
    files, memory = unpacked(made, file, tmp_path / "store")
    assert files == number + number // 1000
    assert memory < (64 << 20) + 700 * number
    (index,) = (tmp_path / "store").rglob("*.index")
    assert index.stat().st_size < 130 * files


def test_more_files_than_any_package_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb, "MAX_MEMBERS", 1000)
    made, file = package(many(2000), tmp_path)
    with Store(tmp_path / "store") as store, pytest.raises(BuildError, match="has more than 1000 members"):
        store.unpack(made, file)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [64 << 20, pytest.param(5 << 30, marks=pytest.mark.matrix)])
def test_a_very_large_file(tmp_path: Path, size: int) -> None:
    """It is streamed, its zeros take no room in the store, and its content is what it was."""
    made, file = package(large(size), tmp_path)
    files, memory = unpacked(made, file, tmp_path / "store")
    assert files == 1 and memory < 256 << 20  # of which a part is the file itself, mapped
    (blob,) = (tmp_path / "store").rglob("*.blob")
    assert blob.stat().st_size == size and blob.stat().st_blocks * 512 < 4 << 20
    with Store(tmp_path / "store") as store:
        assert store.verify() == []
        index = store.index(made)
        assert index is not None and index.files[0].size == size
        if size < 1 << 30:
            wanted = hashlib.sha256(b"begins" + bytes(size - 6)).digest()
            assert hashlib.sha256(store.read(made.sha256, index.files[0])).digest() == wanted


def test_an_image_can_not_hold_4_gib() -> None:
    """The file is refused before anything of it is read."""
    entry = Entry("large", "file", 0o644, 0, 0, "sample=1", (), 5 << 30, "0" * 64)

    def read(_: Entry) -> bytes:
        raise AssertionError("it was read")

    with pytest.raises(BuildError, match="large of sample=1 is 4 GiB or more"):
        list(archive_chunks([entry], read))


@pytest.mark.parametrize(
    ("inside", "limit"), [(64 << 20, 32 << 20), pytest.param(10 << 30, deb.MAX_CONTENTS, marks=pytest.mark.matrix)]
)
def test_a_bomb(tmp_path: Path, inside: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb, "MAX_CONTENTS", limit)
    made, file = package(large(inside), tmp_path, ".xz")
    assert file.stat().st_size < inside // 1000
    with Store(tmp_path / "store") as store, pytest.raises(BuildError, match=f"more than {limit} bytes inside"):
        store.unpack(made, file)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def named(path: str) -> list[Entry]:
    """Return a file with the directories above it."""
    parts = path.split("/")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    file = Entry(path, "file", 0o644, 0, 0, "sample=1", (), 0, content=BytesContent(b""))
    return [*(structs.replace(file, path=each, type="directory", content=None) for each in above), file]


def test_names_as_long_as_the_kernel_takes(tmp_path: Path) -> None:
    """4095 bytes, and 255 in each part: both go through package and image; a byte more of either does not."""
    longest = "/".join(["d" * 255] * 15 + ["e" * 253, "f"])
    longest += "g" * (4095 - len(longest))
    assert len(longest.encode()) == 4095
    name = f"./{longest}".encode()
    tar = samples.member(b"././@LongLink", name + b"\0", b"L") + samples.member(name[:100], b"x") + samples.END
    data = samples.deb(tar)
    with Store(tmp_path / "store") as store:
        assert store.unpack(samples.package_of(data), samples.saved(data, tmp_path)).files[0].path == longest
    assert longest.encode() in b"".join(archive_chunks(named(longest), lambda _: b""))
    with pytest.raises(BuildError, match="has a name of 4096 bytes"):
        list(archive_chunks(named(longest + "g"), lambda _: b""))
    with pytest.raises(BuildError, match="more than 255 bytes"):
        list(archive_chunks(named("usr/" + "ä" * 128), lambda _: b""))
