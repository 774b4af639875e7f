# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a closure and declarations to a tree: parents, links, conflicts, and what packages must not bring."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import closed, directory, file, index, link, path_request, pool

from preroot.errors import BuildError
from preroot.packages.model import FileInfo, FileType
from preroot.tree.build import build_tree, package_entry, subtract
from preroot.tree.closure.model import Closure
from preroot.tree.declare import Declaration, digest
from preroot.tree.model import BytesContent, Entry, FileContent, Reason, StoreContent, Tree
from preroot.tree.users import KnownNames, allocate, parse_sysusers

WHY = (Reason("feature", "test", "x"),)
NOTHING = Closure({}, {}, {}, {}, (), (), ())
ROOT = allocate([], [], KnownNames({}, {}), {}, {})


def declare(path: str, owner: str = "recipe", **more: Any) -> Declaration:
    return Declaration(path, owner, WHY[0], **more)


def tree(*declarations: Declaration, files: list[FileInfo] | None = None, paths: list[str] | None = None) -> Tree:
    closure = msgspec.structs.replace(NOTHING, paths=dict.fromkeys(paths or [], WHY))
    return build_tree(closure, declarations, (), pool(*(files or [])), ROOT)


def test_a_file_of_a_package() -> None:
    entry = package_entry("usr/bin/x", WHY, pool(file("bin/x", "data", mode=0o4755)))
    assert (entry.type, entry.mode, entry.size, entry.sha256) == ("file", 0o4755, 4, digest(b"data"))
    assert (entry.owner, entry.reasons, entry.changes) == ("world=1.0", WHY, ("path was bin/x",))
    assert isinstance(entry.content, StoreContent)


def test_a_link_and_a_directory_of_a_package() -> None:
    entry = package_entry("usr/bin/y", WHY, pool(link("usr/bin/y", "../x")))
    assert (entry.type, entry.target, entry.size, entry.content, entry.changes) == ("symlink", "../x", 0, None, ())
    assert package_entry("var/x", WHY, pool(directory("var/x", 0o1777))).mode == 0o1777


def test_a_hard_link_has_the_content_of_its_file() -> None:
    files = pool(file("bin/x", "data", mode=0o755), link("bin/y", "bin/x", "hardlink"))
    entry = package_entry("usr/bin/y", WHY, files)
    assert (entry.type, entry.mode, entry.sha256) == ("file", 0o755, digest(b"data"))
    assert entry.changes == ("path was bin/y", "was a hard link to bin/x")
    with pytest.raises(BuildError, match="usr/bin/y is a hard link to usr/bin/x, which the package lacks"):
        package_entry("usr/bin/y", WHY, pool(link("usr/bin/y", "usr/bin/x", "hardlink")))


@pytest.mark.parametrize("kind", ["char", "block", "fifo"])
def test_device_nodes_of_packages_are_refused(kind: FileType) -> None:
    with pytest.raises(BuildError, match=f"world=1.0: dev/x is a {kind} device or pipe, which packages must not bring"):
        tree(files=[directory("dev/x", kind=kind)], paths=["dev/x"])


def test_a_directory_that_no_package_lists() -> None:
    entry = package_entry("usr/share/x", WHY, pool(file("usr/share/x/y")))
    assert (entry.type, entry.mode, entry.owner) == ("directory", 0o755, "preroot")


def test_every_path_has_its_parents_with_what_a_package_says_of_them() -> None:
    made = tree(declare("var/tmp/a/b", data=b""), files=[directory("var/tmp", 0o1777)]).entries
    assert list(made) == ["var", "var/tmp", "var/tmp/a", "var/tmp/a/b"]
    assert [made[path].mode for path in made] == [0o755, 0o1777, 0o755, 0o644]
    assert [made[path].owner for path in made] == ["preroot", "world=1.0", "preroot", "recipe"]
    assert made["var"].reasons == (Reason("parent", "var/tmp"),)


def test_declarations() -> None:
    names = allocate(["u"], ["g"], parse_sysusers("u u 7\ng g 8\n"), {}, {})
    closure = msgspec.structs.replace(NOTHING, paths={"a": (Reason("exec", "unit"), WHY[0])})
    made = build_tree(
        closure,
        [
            declare("a", data=b"xy", user="u", group="g", mode=0o600),
            declare("l", target="a"),
            declare("d", mode=0o700),
            declare("s", secret="key.txt", mode=0o600),
        ],
        (),
        pool(),
        names,
    ).entries
    assert (made["a"].uid, made["a"].gid, made["a"].mode, made["a"].size, made["a"].sha256) == (
        7,
        8,
        0o600,
        2,
        digest(b"xy"),
    )
    assert made["a"].content == BytesContent(b"xy")
    assert made["a"].reasons == (WHY[0], Reason("exec", "unit"))
    assert (made["l"].type, made["l"].target, made["d"].type, made["d"].mode) == ("symlink", "a", "directory", 0o700)
    assert (made["s"].content, made["s"].sha256) == (FileContent("key.txt", secret=True), "")


def test_an_owner_that_nothing_declares() -> None:
    with pytest.raises(BuildError, match="a is to belong to 'ghost', which nothing declares \\(asked for by recipe\\)"):
        tree(declare("a", data=b"", user="ghost"))


def test_a_declaration_wins_over_a_package() -> None:
    made = tree(declare("etc/x", data=b"own"), files=[file("etc/x", "theirs")], paths=["etc/x"])
    assert (made.entries["etc/x"].owner, made.entries["etc/x"].sha256) == ("recipe", digest(b"own"))


@pytest.mark.parametrize("other", [{"data": b"y"}, {"data": b"x", "mode": 0o600}, {"target": "x"}, {}, {"secret": "x"}])
def test_declarations_that_disagree(other: dict[str, Any]) -> None:
    with pytest.raises(BuildError, match="a is declared by feature f and by recipe with different content"):
        tree(declare("a", "feature f", data=b"x"), declare("a", **other))


def test_declarations_that_agree_are_one() -> None:
    assert list(tree(declare("a", "feature f", data=b"x"), declare("a", data=b"x")).entries) == ["a"]


def test_two_secrets_at_one_path_disagree() -> None:
    with pytest.raises(BuildError, match="with different content"):
        tree(declare("a", "feature f", secret="one"), declare("a", secret="two"))


@pytest.mark.parametrize(
    ("above", "words"),
    [
        (
            {"target": "usr/b"},
            "a/b/c \\(of recipe\\) lies below a/b, which is a link to usr/b in this image \\(of feature f\\)",
        ),
        ({"data": b""}, "a/b/c \\(of recipe\\) lies below a/b, which is a file in this image \\(of feature f\\)"),
    ],
)
def test_nothing_lies_below_a_link_or_a_file(above: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        tree(declare("a/b", "feature f", **above), declare("a/b/c", data=b""))


def test_nothing_lies_below_a_packages_link_that_is_not_in_the_image_yet() -> None:
    with pytest.raises(BuildError, match="a/b/c/d \\(of recipe\\) lies below a/b, which is a link to x"):
        tree(declare("a/b/c/d", data=b""), files=[link("a/b", "x")])


def test_the_root_itself() -> None:
    with pytest.raises(BuildError, match="recipe declares the root directory itself"):
        tree(declare("", mode=0o700))


def test_what_an_earlier_part_has_is_left_out() -> None:
    early = tree(declare("a/same", data=b"1"), declare("a/other", data=b"1"), declare("a/key", secret="one"))
    late = tree(
        declare("a/same", data=b"1"),
        declare("a/other", data=b"2"),
        declare("a/key", secret="two"),
        declare("b", mode=0o700),
    )
    assert list(subtract(late, [early]).entries) == ["a", "a/key", "a/other", "b"]
    assert subtract(early, [early]).entries == {}


_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


@given(st.lists(_PATHS, max_size=8), st.lists(_PATHS, max_size=8))
def test_every_path_of_a_tree_has_all_parents_and_they_are_directories(
    declared: list[str], packaged: list[str]
) -> None:
    files = [file(path, "x") for path in sorted(set(packaged))]
    try:
        made = build_tree(
            msgspec.structs.replace(NOTHING, paths=dict.fromkeys(sorted(set(packaged)), WHY)),
            [declare(path, data=b"") for path in declared],
            (),
            pool(*files),
            ROOT,
        ).entries
    except BuildError as error:
        assert "lies below" in str(error)
        return
    assert list(made) == sorted(made)
    for path in made:
        for parent in _above(path):
            assert made[parent].type == "directory"
    assert made.keys() >= {*declared, *packaged}


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def test_the_tree_of_a_closure_has_its_links_and_their_targets() -> None:
    files = [link("usr/bin/x", "../lib/y"), file("usr/lib/y", "y"), directory("usr/bin"), directory("usr/lib")]
    closure = closed(files, path_request("usr/bin/x"))
    made = build_tree(closure, (), (), pool(*files), ROOT).entries
    assert list(made) == ["usr", "usr/bin", "usr/bin/x", "usr/lib", "usr/lib/y"]
    assert made["usr/lib/y"].reasons == (Reason("symlink", "usr/bin/x", "usr/lib/y"),)


def test_entries_made_elsewhere_have_parents_too() -> None:
    extra = Entry("lib/modules/x.ko", "file", 0o644, 0, 0, "k=1", WHY)
    assert list(build_tree(NOTHING, (), [extra], pool(), ROOT).entries) == ["lib", "lib/modules", "lib/modules/x.ko"]


def test_packages_with_the_same_directory_agree_on_its_first_mode() -> None:
    from preroot.tree.pool import Pool

    files = Pool([index([directory("var/x", 0o700)], "a"), index([directory("var/x", 0o755)], "b")], {})
    assert package_entry("var/x", WHY, files).mode == 0o700
