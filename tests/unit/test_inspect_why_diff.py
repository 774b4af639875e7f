# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why something is in an image, and what differs between two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, other, part, plan, tree

from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.image.manifest import Manifest, make_manifest
from preroot.image.write import WrittenImage, WrittenPart
from preroot.inspect.archive import read_archive
from preroot.inspect.diff import diff, paths_of_archive, paths_of_manifest
from preroot.inspect.why import WhyPath, index_of_manifest, index_of_plan, lookup, why
from preroot.tree.model import Reason, Tree

UDEV = Reason("feature", "udev", "usr/bin/udevadm")
CONTENT = tree(
    file("usr/bin/udevadm", b"u", reasons=(UDEV,)),
    file("usr/lib/libkmod.so.2", b"k", reasons=(Reason("dlopen", "usr/bin/udevadm", "libkmod.so.2"),)),
    file(
        "usr/lib/liblzma.so.5",
        b"l",
        reasons=(Reason("needed", "usr/lib/libkmod.so.2", "liblzma.so.5"), Reason("recipe", "recipe", "take")),
    ),
    file("usr/lib/systemd/system/a.service", b"", reasons=(Reason("feature", "systemd", "a.service"),)),
    file("usr/lib/modules/6.1/kernel/fs/dm-x.ko", b"m", reasons=(Reason("feature", "luks", "dm-x"),)),
)
WHY = index_of_plan(plan(part("base", CONTENT)))


def test_chains_go_up_to_a_feature_the_shortest_first() -> None:
    found = why(WHY, "usr/lib/liblzma.so.5")
    assert found.owner == "a=1"
    assert [[(step.path, step.reason.kind) for step in chain] for chain in found.chains] == [
        [("usr/lib/liblzma.so.5", "recipe")],
        [("usr/lib/liblzma.so.5", "needed"), ("usr/lib/libkmod.so.2", "dlopen"), ("usr/bin/udevadm", "feature")],
    ]


@pytest.mark.parametrize(
    ("what", "path"),
    [
        ("/usr/bin/udevadm", "usr/bin/udevadm"),
        ("lib/libkmod.so.2", "usr/lib/libkmod.so.2"),
        ("dm-x", "usr/lib/modules/6.1/kernel/fs/dm-x.ko"),
        ("dm_x", "usr/lib/modules/6.1/kernel/fs/dm-x.ko"),
        ("a.service", "usr/lib/systemd/system/a.service"),
        ("udevadm", "usr/bin/udevadm"),
    ],
)
def test_lookup(what: str, path: str) -> None:
    assert lookup(WHY, what, "image") == path


def test_lookup_of_what_is_not_there() -> None:
    with pytest.raises(BuildError, match=r"udevadn is not in image \(did you mean 'udevadm'"):
        lookup(WHY, "udevadn", "image")


def test_circles_end() -> None:
    index = {
        "a": WhyPath("", (Reason("needed", "b"),)),
        "b": WhyPath("", (Reason("needed", "a"), Reason("needed", "gone"))),
        "c": WhyPath("", (Reason("needed", "d"),)),
        "d": WhyPath("", (Reason("needed", "c"),)),
        "e": WhyPath("", ()),
    }
    assert [step.path for step in why(index, "a").chains[0]] == ["a", "b"]
    assert [step.path for step in why(index, "c").chains[0]] == ["c", "d"]
    assert why(index, "e").chains == ()


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef!"), min_size=1, max_size=3), min_size=3)
)
def test_every_chain_of_a_reachable_path_ends_at_a_feature(graph: dict[str, list[str]]) -> None:
    graph = {path: [asker for asker in askers if asker == "!" or asker in graph] for path, askers in graph.items()}
    index = {
        path: WhyPath("", tuple(Reason("feature" if asker == "!" else "needed", asker) for asker in askers))
        for path, askers in graph.items()
    }
    reachable = {path: 1 for path, askers in graph.items() if "!" in askers}
    while more := {path for path, askers in graph.items() if reachable.keys() & set(askers)} - reachable.keys():
        reachable |= dict.fromkeys(more, max(reachable.values()) + 1)
    for path, askers in graph.items():
        chains = why(index, path).chains
        assert len(chains) == len(askers)
        assert all(len({step.path for step in chain}) == len(chain) for chain in chains)
        if path in reachable:
            assert chains[0][-1].reason.kind == "feature"
            assert len(chains[0]) == reachable[path]


def test_the_shortest_of_several_ways_is_taken() -> None:
    index = {
        "x": WhyPath("", (Reason("needed", "y"),)),
        "y": WhyPath("", (Reason("needed", "a1"), Reason("needed", "z"))),
        "a1": WhyPath("", (Reason("needed", "a2"),)),
        "a2": WhyPath("", (Reason("needed", "a3"),)),
        "a3": WhyPath("", (Reason("needed", "a4"),)),
        "a4": WhyPath("", (Reason("feature", "f"),)),
        "z": WhyPath("", (Reason("needed", "z1"),)),
        "z1": WhyPath("", (Reason("needed", "zz"),)),
        "zz": WhyPath("", (Reason("feature", "f"),)),
    }
    assert [step.path for step in why(index, "x").chains[0]] == ["x", "y", "z", "z1", "zz"]


def manifest_of(content: Tree) -> Manifest:
    written = WrittenImage("t", 1, "0", (WrittenPart("base", 0, 1, 1),))
    return make_manifest(plan(part("base", content)), written)


def test_a_manifest_says_the_same_as_its_plan() -> None:
    assert index_of_manifest(manifest_of(CONTENT)) == WHY


def test_diff() -> None:
    before = tree(file("same", b"1"), file("mode", b"1"), file("data", b"1"), file("gone", b"12"), file("kind"))
    after = tree(file("same", b"1"), file("mode", b"1", 0o755), file("data", b"2"), file("new/er", b"1"),
                 other("kind", "symlink", 0o777, target="x"))  # fmt: skip

    def archive_of(content: Tree) -> bytes:
        return b"".join(archive_chunks(content.entries.values(), ContentReader().read))

    pairs = [
        tuple(paths_of_archive(read_archive(archive_of(content), "x")) for content in (before, after)),
        tuple(paths_of_manifest(manifest_of(content)) for content in (before, after)),
    ]
    for one, two in pairs:
        found = diff(one, two)
        assert [path for path, _ in found.added] == ["new", "new/er"]
        assert [path for path, _ in found.removed] == ["gone"]
        assert {change.path: change.what for change in found.changed} == {
            "data": ("content",),
            "mode": ("mode",),
            "kind": ("type", "mode", "content", "target"),
        }
        assert (found.size_before, found.size_after) == (5, 4)
        assert diff(one, one).changed == ()
