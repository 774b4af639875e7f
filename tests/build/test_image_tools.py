# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our images read by the field's own tools, and theirs read by us."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from preroot.errors import BuildError
from preroot.image.compress import compress
from preroot.image.cpio import archive_chunks
from preroot.inspect.archive import read_archive
from preroot.run import need_tool
from preroot.tree.model import Entry

CONTENTS = {"usr/bin/x": b"x" * 1001, "usr/empty": b"", "usr/y": bytes(range(256)) * 900}
ENTRIES = [
    Entry("usr", "directory", 0o755, 0, 0, "p", ()),
    Entry("usr/bin", "directory", 0o1777, 0, 0, "p", ()),
    *(Entry(path, "file", 0o4755, 12, 34, "a=1", (), len(data)) for path, data in CONTENTS.items()),
    Entry("bin", "symlink", 0o777, 0, 0, "p", (), target="usr/bin"),
    Entry("console", "node", 0o600, 0, 5, "p", (), device=("c", 5, 1)),
    Entry("vda", "node", 0o660, 0, 6, "p", (), device=("b", 254, 300)),
]


def tool(name: str, arguments: Sequence[str], data: bytes, cwd: Path | None = None) -> bytes:
    argv = [need_tool(name, "to test"), *arguments]
    done = subprocess.run(argv, input=data, capture_output=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def archive(align: int = 4) -> bytes:
    return b"".join(archive_chunks(ENTRIES, lambda entry: CONTENTS[entry.path], mtime=1, align=align))


@pytest.mark.parametrize("align", [4, 16])
def test_gnu_cpio_reads_ours(tmp_path: Path, align: int) -> None:
    listing = tool("cpio", ["-itv", "--numeric-uid-gid", "--quiet"], archive(align)).decode().splitlines()
    seen = {" ".join(line.split()).split(" 1970 ")[1]: line.split()[:4] for line in listing}
    assert seen["usr/bin"] == ["drwxrwxrwt", "2", "0", "0"]
    assert seen["usr/bin/x"] == ["-rwsr-xr-x", "1", "12", "34"]
    assert seen["bin -> usr/bin"][0] == "lrwxrwxrwx"
    assert seen["console"] == ["crw-------", "1", "0", "5"]
    assert seen["vda"] == ["brw-rw----", "1", "0", "6"]
    assert len(seen) == len(ENTRIES)
    tool("cpio", ["-id", "--quiet", "usr*"], archive(align), tmp_path)
    for path, data in CONTENTS.items():
        assert (tmp_path / path).read_bytes() == data


@pytest.mark.parametrize("form", ["newc", "crc"])
def test_we_read_gnu_cpio(tmp_path: Path, form: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"content")
    (tmp_path / "d/b").hardlink_to(tmp_path / "d/a")
    (tmp_path / "l").symlink_to("d/a")
    names = b"".join(name + b"\n" for name in (b".", b"d", b"d/a", b"d/b", b"l"))
    found = read_archive(tool("cpio", ["-o", "-H", form, "--quiet"], names, tmp_path), "x")
    effective = found.effective()
    assert {path: found.read(entry) for path, entry in effective.items() if entry.type == "file"} == {
        "d/a": b"content",
        "d/b": b"content",
    }
    assert effective["l"].target == "d/a"


@pytest.mark.parametrize(
    ("codec", "unpacker"), [("zstd", "zstd"), ("xz", "xz"), ("gzip", "gzip"), ("lz4", "lz4")]
)  # fmt: skip
def test_each_codec_is_unpacked_by_its_tool_and_by_us(codec: str, unpacker: str) -> None:
    data = archive() + bytes(12 << 20) + archive()  # more than one of lz4's blocks
    packed = b"".join(compress([data[:1000], data[1000:]], codec, 3, threads=2))  # type: ignore[arg-type]
    assert tool(unpacker, ["-dc"], packed) == data
    # behind lz4's legacy frame, which has no end, a word of zeros is needed
    image = packed + bytes(-len(packed) % 4) + bytes(4) + archive()
    first, second = read_archive(image, "x").segments
    assert (first.codec, len(first.data)) == (codec, len(data))
    assert second.offset == len(image) - len(archive())


def test_lz4_is_the_legacy_frame() -> None:
    packed = b"".join(compress([archive()], "lz4", 3))
    assert packed.startswith(b"\x02\x21\x4c\x18")


def test_hostile_lz4() -> None:
    packed = b"".join(compress([archive(), bytes(30 << 20)], "lz4", 3))
    with pytest.raises(BuildError, match=r"offset 0 \(lz4\) unpacks to more than"):
        read_archive(packed, "x", limit=1 << 20)
    with pytest.raises(BuildError, match=r"offset 0 \(lz4\) is cut off"):
        read_archive(packed[:-5], "x")
    damaged = packed[:8] + b"\xff" * 40 + packed[48:]
    with pytest.raises(BuildError, match=r"offset 0 \(lz4\) is damaged"):
        read_archive(damaged, "x")
