# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sizes by package, feature, directory, reason and kind: they add up, and say what each feature costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, other, part, plan, tree, trees
from msgspec import structs

from preroot.cli.why import PHRASES
from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks, archive_size
from preroot.image.manifest import make_manifest
from preroot.image.write import WrittenImage, WrittenPart
from preroot.inspect.archive import read_archive
from preroot.inspect.kinds import kind_of
from preroot.inspect.size import (
    REASONS,
    SHARED,
    UNEXPLAINED,
    Group,
    Grouping,
    PartSize,
    SizedFile,
    Sizes,
    compressed,
    groups,
    largest,
    sizes_of_archive,
    sizes_of_plan,
)
from preroot.inspect.why import WhyPath
from preroot.tree.model import BytesContent, Entry, Reason, ReasonKind, Tree

READ = ContentReader().read
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)

LUKS, UDEV, NOT_THERE = Reason("feature", "luks"), Reason("feature", "udev"), Reason("needed", "usr/bin/gone")
CONTENT = tree(
    file("usr/bin/cryptsetup", b"c" * 100, 0o755, (LUKS,)),
    file("usr/bin/udevadm", b"u" * 1000, 0o755, (UDEV,)),
    other("usr/lib/libc.so.6", "symlink", target="libc.so"),
    file("usr/lib/libc.so", b"\x7fELF" + bytes(9996), reasons=(Reason("symlink", "usr/lib/libc.so.6"),)),
    file("usr/lib/libluks.so", b"\x7fELF" + bytes(46), reasons=(Reason("needed", "usr/bin/cryptsetup", "x"),)),
    file("etc/passwd", b"p" * 7, reasons=(Reason("generated", "preroot", "users"),)),
    file("etc/own", b"o" * 3, reasons=(Reason("recipe", "recipe", "[[file]]"),)),
    file("usr/lib/orphan", b"?", reasons=(NOT_THERE,)),
)
LINKED = Tree({
    path: structs.replace(entry, reasons=(Reason("needed", "usr/bin/cryptsetup"), Reason("needed", "usr/bin/udevadm")))
    if path == "usr/lib/libc.so.6" else entry
    for path, entry in CONTENT.entries.items()
})  # fmt: skip
SIZES = sizes_of_plan(plan(part("base", LINKED)), READ)


def by_name(found: Iterable[Group]) -> dict[str, int]:
    return {group.name: group.size for group in found}


def archive_of(content: Tree) -> bytes:
    return b"".join(archive_chunks(content.entries.values(), READ))


def test_a_feature_has_its_own_bytes_and_those_that_it_shares() -> None:
    found = {group.name: (group.size, group.with_shared) for group in groups(SIZES, "feature")}
    assert found == {
        SHARED: (10000, None),
        "udev": (1000, 11000),
        "luks": (150, 10150),
        "(preroot)": (7, 7),
        "(recipe)": (3, 3),
        UNEXPLAINED: (1, 1),
    }


@pytest.mark.parametrize(
    ("by", "sizes"),
    [
        ("package", {"a=1": 11161}),
        ("reason", {"end of a link": 10000, "named by a feature": 1100, "library that a file is linked to": 51,
                    "written by preroot": 7, "named by the recipe": 3}),
        ("kind", {"libraries": 10050, "other": 1101, "settings": 10}),
        ("directory", {"usr/lib": 10051, "usr/bin": 1100, "etc": 10}),
    ],
)  # fmt: skip
def test_groups(by: Grouping, sizes: dict[str, int]) -> None:
    found = groups(SIZES, by)
    assert by_name(found) == sizes
    assert [group.size for group in found] == sorted(sizes.values(), reverse=True)


def test_directories_by_depth_and_by_share() -> None:
    files = [SizedFile(path, size, "p", "other") for path, size in
             (("top", 1), ("usr/a/x/1", 900), ("usr/a/y/2", 60), ("usr/b/1", 30), ("usr/c", 9))]  # fmt: skip
    sizes = Sizes("i", (PartSize("p", "none", 0, 1100),), tuple(files), {})
    assert by_name(groups(sizes, "directory", depth=1)) == {"usr": 999, "/": 1}
    assert by_name(groups(sizes, "directory", depth=2)) == {"usr/a": 960, "usr/b": 30, "usr": 9, "/": 1}
    assert by_name(groups(sizes, "directory")) == {"usr/a/x": 900, "usr/a/y": 60, "usr/b": 30, "usr": 9, "/": 1}
    assert sizes.headers == 100


def test_what_is_not_known_is_said() -> None:
    sizes = sizes_of_archive(read_archive(archive_of(CONTENT), "x.img"))
    assert [part.name for part in sizes.parts] == ["segment 0"]
    assert by_name(groups(sizes, "directory")) == by_name(groups(SIZES, "directory"))
    for by in ("package", "feature", "reason"):
        with pytest.raises(BuildError, match=r"x\.img: packages, features and reasons are known only"):
            groups(sizes, by)


def test_an_image_with_its_manifest_says_what_its_plan_says() -> None:
    made = plan(part("base", LINKED), part("modules", tree(file("usr/lib/modules/1/x.ko", b"k" * 10))))
    pieces = [archive_of(each.tree) for each in made.parts]
    places = (WrittenPart("base", 0, len(pieces[0]), len(pieces[0])),
              WrittenPart("modules", len(pieces[0]), len(pieces[1]), len(pieces[1])))  # fmt: skip
    manifest = make_manifest(made, WrittenImage("t", 1, "0", places), {})
    sizes, planned = sizes_of_archive(read_archive(b"".join(pieces), "t"), manifest), sizes_of_plan(made, READ)
    assert [(each.name, each.unpacked) for each in sizes.parts] == [
        (each.name, each.unpacked) for each in planned.parts
    ]
    for by in GROUPINGS:
        assert groups(sizes, by) == groups(planned, by)


@pytest.mark.parametrize("secret", [b"", b"#!/b", b"planted" * 99])
def test_of_a_secret_nothing_is_told(secret: bytes) -> None:
    """Neither by its own size, nor by what is left of its part, nor by its kind."""
    entry = Entry("etc/key", "file", 0o755, 0, 0, "recipe", (), content=BytesContent(secret, secret=True))
    content = tree(*LINKED.entries.values(), entry)
    made, data = plan(part("base", content), secret=True), archive_of(content)
    manifest = make_manifest(made, WrittenImage("t", 1, "0", (WrittenPart("base", 0, len(data), len(data)),)), {})
    sizes, planned = sizes_of_archive(read_archive(data, "t"), manifest), sizes_of_plan(made, READ)
    assert sizes.unpacked == planned.unpacked and sizes.headers == planned.headers
    assert [each for each in sizes.files if each.path == "etc/key"] == [
        SizedFile("etc/key", 0, "base", kind_of("etc/key", 0o755, None), "recipe")
    ]
    assert sizes.files == planned.files


def test_hard_links_count_once() -> None:
    from preroot.image.cpio import _header

    def entry(name: bytes, data: bytes) -> bytes:
        head = _header(name + b"\0", (7, 0o100644, 0, 0, 2, 0, len(data), 0, 0, 0, 0))
        return head + data + bytes(-len(data) % 4)

    image = entry(b"a", b"") + entry(b"b", b"x" * 8) + _header(b"TRAILER!!!\0", (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    sizes = sizes_of_archive(read_archive(image, "x"))
    assert {each.path: each.size for each in sizes.files} == {"a": 8, "b": 0}
    assert sizes.unpacked == len(image)


_reasons = st.builds(Reason, st.sampled_from(["feature", "needed", "unit", "symlink", "recipe", "generated", "module"]),
                     st.sampled_from(["a", "b", "c", "d", "f1", "f2"]))  # fmt: skip
_files = st.builds(SizedFile, st.sampled_from(["a", "b", "c", "d", "e/f", "e/g/h", "x"]), st.integers(0, 10**6),
                   st.sampled_from(["base", "modules"]), st.sampled_from(["k1", "k2"]),
                   st.sampled_from(["p=1", "q=2", ""]))  # fmt: skip


@st.composite
def some_sizes(draw: st.DrawFn) -> Sizes:
    files = draw(st.lists(_files, max_size=8, unique_by=lambda file: (file.path, file.part)))
    reasons = st.lists(_reasons, max_size=3).map(tuple)
    index = {file.path: WhyPath(file.owner, draw(reasons)) for file in files}
    extra = draw(st.integers(0, 100))
    contents = sum(file.size for file in files)
    return Sizes("x", (PartSize("base", "none", 0, contents + extra),), tuple(files), index or {"a": WhyPath("", ())})


@given(some_sizes(), st.integers(0, 3))
def test_each_grouping_is_a_partition_that_adds_up(sizes: Sizes, depth: int) -> None:
    for by in GROUPINGS:
        found = groups(sizes, by, depth=depth)
        assert sum(group.size for group in found) + sizes.headers == sizes.unpacked
        listed = [file for group in found for file in group.files]
        assert sorted(listed, key=repr) == sorted(sizes.files, key=repr)
        assert len({group.name for group in found}) == len(found)


@given(some_sizes())
def test_refusing_a_feature_takes_away_exactly_its_own_bytes(sizes: Sizes) -> None:
    """What a feature has alone is what no chain leads to any more once its own reasons are gone, found by walking."""

    def reached(without: str) -> set[str]:
        def ends(reason: Reason) -> bool:
            asker = reason.asker if reason.kind == "feature" else f"({reason.asker})"
            return reason.kind in ("feature", "recipe", "generated") and asker != without

        here = {path for path, its in sizes.index.items() if any(ends(reason) for reason in its.reasons)}
        while more := {
            path for path, its in sizes.index.items()
            if any(reason.kind not in ("feature", "recipe", "generated") and reason.asker in here
                   for reason in its.reasons)
        } - here:  # fmt: skip
            here |= more
        return here

    everything = reached("")
    for group in groups(sizes, "feature"):
        if group.name in (SHARED, UNEXPLAINED):
            continue
        gone = everything - reached(group.name)
        assert {file.path for file in group.files} == {file.path for file in sizes.files if file.path in gone}
        assert (group.with_shared or 0) >= group.size


@given(trees(), st.sampled_from([4, 16]))
def test_the_size_of_an_archive_is_known_before_it_is_written(content: Tree, align: int) -> None:
    entries = content.entries.values()
    assert archive_size(entries, align=align) == len(b"".join(archive_chunks(entries, READ, align=align)))


@given(trees())
def test_an_image_is_files_and_headers(content: Tree) -> None:
    image = archive_of(content)
    sizes = sizes_of_archive(read_archive(image, "x"))
    assert sizes.unpacked == len(image)
    assert sizes.headers >= 110 * (len(content.entries) + 1)


def test_compressed_alone_by_part() -> None:
    asked: list[tuple[str, int, bytes]] = []

    def pack(chunks: Iterable[bytes], of: PartSize, size: int) -> int:
        data = b"".join(chunks)
        asked.append((of.name, size, data))
        return len(data) // 2

    parts = (PartSize("base", "zstd", 3, 100), PartSize("modules", "xz", 6, 100))
    files = (SizedFile("b", 4, "base", "k"), SizedFile("a", 2, "base", "k"), SizedFile("m", 6, "modules", "k"),
             SizedFile("empty", 0, "modules", "k"))  # fmt: skip
    (group,) = compressed(groups(Sizes("x", parts, files, {}), "kind"), parts,
                          lambda file: file.path[:1].encode() * file.size, pack)  # fmt: skip
    assert group.compressed == 6
    assert asked == [("base", 6, b"aabbbb"), ("modules", 6, b"mmmmmm")]


def test_largest() -> None:
    assert largest(groups(SIZES, "feature"), 2) == ((SHARED, 10000), ("udev", 1000))
    assert largest([Group("none", 0, ())], 2) == ()


ELF = b"\x7fELF"


@pytest.mark.parametrize(
    ("path", "mode", "head", "kind"),
    [
        ("usr/lib/modules/6.1/kernel/fs/xfs.ko.xz", 0o644, ELF, "kernel modules"),
        ("lib/modules/6.1/kernel/fs/xfs.ko", 0o644, None, "kernel modules"),
        ("usr/lib/modules/6.1/modules.dep.bin", 0o644, b"", "module indexes"),
        ("lib/firmware/amdgpu/x.bin", 0o644, b"", "firmware"),
        ("kernel/x86/microcode/GenuineIntel.bin", 0o644, b"", "microcode"),
        ("etc/udev/hwdb.bin", 0o644, b"", "hardware database"),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-16.so", 0o644, ELF, "locales"),
        ("usr/share/doc/x/copyright", 0o644, b"", "licence texts"),
        ("usr/share/doc/x/changelog", 0o644, b"", "documentation"),
        ("usr/share/perl/5.40/x.pm", 0o644, b"", "Perl and Python"),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", 0o755, ELF, "libraries"),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", 0o644, None, "libraries"),
        ("bin/sh", 0o755, ELF, "programs"),
        ("bin/sh", 0o755, None, "programs"),
        ("usr/bin/ldd", 0o755, b"#!/b", "scripts"),
        ("usr/lib/systemd/system/a.service", 0o644, b"[Uni", "units"),
        ("usr/lib/udev/rules.d/60-x.rules", 0o644, b"", "udev rules"),
        ("etc/fstab", 0o644, b"", "settings"),
        ("usr/share/x", 0o644, b"", "other"),
    ],
)
def test_kinds(path: str, mode: int, head: bytes | None, kind: str) -> None:
    assert kind_of(path, mode, head) == kind


def test_every_kind_of_reason_has_its_words() -> None:
    assert set(REASONS) == set(PHRASES) == set(get_args(ReasonKind))
