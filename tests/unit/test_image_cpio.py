# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cpio writer, and the reader that must read it back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, other, tree, trees

from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.inspect.archive import read_archive
from preroot.tree.model import Entry, Tree

READ = ContentReader().read


def archive(content: Tree, align: int = 4) -> bytes:
    return b"".join(archive_chunks(content.entries.values(), READ, align=align))


@given(trees(), st.sampled_from([4, 16]))
def test_what_is_written_is_read_back(content: Tree, align: int) -> None:
    data = archive(content, align)
    assert len(data) % 4 == 0
    found = read_archive(data, "x")
    (segment,) = found.segments
    assert (segment.offset, segment.size, segment.codec) == (0, len(data), "none")
    assert [entry.path for entry in segment.entries] == sorted(content.entries)
    for entry in segment.entries:
        wanted = content.entries[entry.path]
        assert (entry.type, entry.mode, entry.uid, entry.gid) == (wanted.type, wanted.mode, wanted.uid, wanted.gid)
        assert (entry.target, entry.device, entry.mtime) == (wanted.target, wanted.device, 0)
        if wanted.type == "file":
            assert found.read(entry) == READ(wanted)
            assert entry.size == 0 or entry.offset % align == 0


def test_the_bytes_of_a_small_archive() -> None:
    data = archive(tree(file("a", b"hello", 0o640)))
    zeros = b"0" * 8
    head = (
        b"07070100000001000081A0" + zeros + zeros + b"00000001" + zeros + b"00000005" + zeros * 4 + b"00000002" + zeros
    )
    end = b"070701" + zeros * 4 + b"00000001" + zeros * 6 + b"0000000B" + zeros + b"TRAILER!!!\0"
    assert data == head + b"a\0" + b"hello\0\0\0" + end + bytes(-len(end) % 4)


def test_large_contents_and_small_ones_keep_their_order() -> None:
    content = tree(*(file(f"f{number:03}", bytes([number]) * (size)) for number, size in
                     enumerate([1, 65536, 65535, 3, 200_001, 0, 65539, 7] * 3)))  # fmt: skip
    found = read_archive(archive(content), "x")
    for entry in found.segments[0].entries:
        assert found.read(entry) == READ(content.entries[entry.path])


def test_the_order_of_entries_does_not_matter() -> None:
    content = tree(file("a/b/c"), file("a/b-c"), other("dev/console", "node", 0o600, device=("c", 5, 1)))
    turned = Tree(dict(reversed(content.entries.items())))
    assert archive(content) == archive(turned)


@pytest.mark.parametrize(
    "bad",
    [
        Tree({"a/b": file("a/b")}),
        Tree({"a": file("a"), "a/b": file("a/b")}),
        Tree({"/a": file("/a")}),
        Tree({"..": other("..", "directory")}),
        Tree({"a\0b": file("a\0b")}),
        Tree({"": file("")}),
        Tree({"TRAILER!!!": file("TRAILER!!!")}),
        Tree({"a": other("a", "symlink", target="")}),
        Tree({"a": other("a", "symlink", target="x" * 4096)}),
        Tree({"a" * 4096: file("a" * 4096)}),
        Tree({"a": Entry("a", "directory", 0o10000, 0, 0, "x", ())}),
        Tree({"a": Entry("a", "directory", 0o755, -1, 0, "x", ())}),
    ],
)
def test_what_the_kernel_would_skip_is_refused(bad: Tree) -> None:
    with pytest.raises(BuildError):
        archive(bad)


def test_the_longest_name_and_target_are_written() -> None:
    above = ["/".join(["d" * 255] * depth) for depth in range(1, 16)]
    longest = f"{above[-1]}/{'e' * 253}/f"
    assert len(longest) == 4095
    directories = [other(each, "directory") for each in (*above, longest[:-2])]
    content = tree(*directories, file(longest), other("x", "symlink", target="x" * 4095))
    assert list(read_archive(archive(content), "x").effective())[-2:] == [longest, "x"]


def test_files_of_4_gib_are_refused() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(BuildError, match="4 GiB"):
        b"".join(archive_chunks(tree(file("a")).entries.values(), lambda entry: Huge()))
