# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tree that lies in a directory of the image, and shares files with what is around it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from worlds import pool

from preroot.tree.below import put_below
from preroot.tree.declare import digest
from preroot.tree.model import BytesContent, Entry, Reason, Tree

WHY = (Reason("feature", "test"),)


def file(path: str, text: str = "", *reasons: Reason, mode: int = 0o644) -> Entry:
    data = text.encode()
    return Entry(path, "file", mode, 0, 0, "p=1", reasons or WHY, len(data), digest(data), content=BytesContent(data))


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, "directory", mode, 0, 0, "p=1", WHY)


def tree(*entries: Entry) -> Tree:
    return Tree({entry.path: entry for entry in entries})


def listed(found: Tree) -> list[str]:
    content = found.entries["x/in.list"].content
    assert isinstance(content, BytesContent)
    return content.data.decode().splitlines()


def test_what_both_have_is_only_listed() -> None:
    link = Entry("lib64", "symlink", 0o777, 0, 0, "p=1", WHY, target="usr/lib64")
    inner = tree(directory("usr"), file("usr/b", "same"), file("usr/own", "mine"), file("usr/other", "a"), link)
    around = tree(directory("usr"), file("usr/b", "same"), file("usr/other", "b"), link, file("usr/more"))
    found = put_below(inner, "x/in", around, pool())
    assert list(found.entries) == ["x", "x/in", "x/in.list", "x/in/usr", "x/in/usr/other", "x/in/usr/own"]
    assert listed(found) == ["lib64", "usr/b"]


def test_the_same_file_with_another_mode_is_its_own() -> None:
    found = put_below(tree(file("a", "x", mode=0o755)), "x/in", tree(file("a", "x")), pool())
    assert "x/in/a" in found.entries
    assert listed(found) == []


def test_reasons_follow_who_asked() -> None:
    """A library that only the inner tree has is asked for by a program around it, one that both have lies there."""
    inner = tree(
        file("bin/a", "a"), file("bin/b", "b"), file("lib/c", "c", Reason("needed", "bin/a"), Reason("needed", "bin/b"))
    )
    found = put_below(inner, "x/in", tree(file("bin/b", "b")), pool())
    assert [each.asker for each in found.entries["x/in/lib/c"].reasons] == ["x/in/bin/a", "bin/b"]


_NAMES = st.sampled_from(["a", "b", "c/d", "c/e"])
_TREES = st.dictionaries(_NAMES, st.sampled_from(["1", "2"]))


@given(_TREES, _TREES)
def test_put_together_again_it_is_what_it_was(inner: dict[str, str], around: dict[str, str]) -> None:
    """Each file is in one of the two places, with the content that it had."""
    outer = tree(*(file(path, text) for path, text in around.items()))
    found = put_below(tree(*(file(path, text) for path, text in inner.items())), "x/in", outer, pool())
    taken = {path: outer.entries[path].sha256 for path in listed(found)}
    own = {
        path.removeprefix("x/in/"): entry.sha256 for path, entry in found.entries.items()
        if entry.type == "file" and path.startswith("x/in/")
    }  # fmt: skip
    assert not taken.keys() & own.keys()
    assert taken | own == {path: digest(text.encode()) for path, text in inner.items()}
