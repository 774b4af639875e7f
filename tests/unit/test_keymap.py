# SPDX-License-Identifier: LGPL-2.1-or-later
"""Console keymaps (keymaps(5)): what they include, where loadkeys finds it, and that they are plain in an image."""

from __future__ import annotations

import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import closed, file, link, missing, path_request, pool

from preroot.packages.learn import learn
from preroot.packages.learn.keymap import read_keymap
from preroot.packages.model import FileInfo, Keymap
from preroot.tree.build import build_tree, plain_keymaps, without_compression
from preroot.tree.declare import digest
from preroot.tree.model import ObjectContent, Reason
from preroot.tree.users import KnownNames, allocate

TOP = "usr/share/keymaps/i386"
DE = f"{TOP}/qwertz/de.kmap.gz"
TEXT = b"""# include "no"
keymaps 0-2,4
include "qwertz-layout"
\tinclude "de-latin1.kmap"
include "qwertz-layout"
keycode 86 = less include "neither"
compose as usual for "iso-8859-1"
compose as usual for "latin2"
strings as usual
"""


def keymap(path: str, *includes: str) -> FileInfo:
    text = "".join(f'include "{each}"\n' for each in includes)
    return file(path, gzip.compress(text.encode()) if path.endswith(".gz") else text)


@pytest.mark.parametrize(
    ("path", "data"), [(DE, gzip.compress(TEXT)), ("x.map.xz", lzma.compress(TEXT)), ("x.inc", TEXT)]
)
def test_what_a_keymap_includes(path: str, data: bytes) -> None:
    expected = ("qwertz-layout", "de-latin1.kmap", "compose.latin1", "compose.latin2")
    assert read_keymap(path, data) == Keymap(expected)


@given(st.binary(), st.sampled_from(["x.map", "x.map.gz", "x.map.xz", "x.map.zst"]))
def test_any_bytes_are_read(data: bytes, path: str) -> None:
    read_keymap(path, data)


def test_a_bomb_is_no_keymap() -> None:
    assert read_keymap("x.map.gz", gzip.compress(bytes(2 << 20))) is None


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (DE, True),
        ("usr/share/kbd/keymaps/i386/qwerty/us.map", True),
        ("usr/share/doc/keymaps/x.map", False),
        ("usr/share/keymaps/README", False),
    ],
)
def test_keymaps_are_known_by_their_place(path: str, known: bool) -> None:
    data = gzip.compress(b"") if path.endswith(".gz") else b""
    assert isinstance(learn(path, 0o644, data), Keymap) == known


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("de-latin1.kmap", f"{TOP}/qwertz/de-latin1.kmap.gz"),
        ("layout", f"{TOP}/include/layout.inc.gz"),
        ("layout", f"{TOP}/qwertz/layout.inc"),
        ("compose.latin1", "usr/share/keymaps/include/compose.latin1.inc.gz"),
        ("../deep/x.inc", f"{TOP}/deep/x.inc.xz"),
        ("/opt/x.inc", "opt/x.inc"),
    ],
)
def test_includes_come_along_from_where_loadkeys_looks(name: str, where: str) -> None:
    closure = closed([keymap(DE, name), keymap(where)], path_request(DE))
    assert closure.paths[where] == (Reason("include", DE, name),)
    assert missing(closure) == set()


def test_the_nearest_include_is_taken_and_includes_include() -> None:
    files = [
        keymap(DE, "a"),
        keymap(f"{TOP}/include/a.inc.gz", "b"),
        keymap("usr/share/keymaps/include/a.inc.gz"),
        keymap(f"{TOP}/include/b.inc.gz", "a"),
    ]
    paths = closed(files, path_request(DE)).paths
    assert {path for path in paths if path.endswith(".gz")} == {
        DE,
        f"{TOP}/include/a.inc.gz",
        f"{TOP}/include/b.inc.gz",
    }


def test_an_include_that_is_nowhere_is_missing() -> None:
    assert missing(closed([keymap(DE, "gone")], path_request(DE))) == {f"{TOP}/qwertz/gone"}


def test_keymaps_are_plain_in_an_image_and_reasons_name_them_so() -> None:
    files = [
        link(f"{TOP}/qwertz/german.kmap.gz", "de.kmap.gz"),
        keymap(DE, "a"),
        keymap(f"{TOP}/include/a.inc.gz"),
        file("usr/share/other.gz", "x"),
        file("usr/share/keymaps/plain.map", "x"),
    ]
    packages = pool(*files)
    asked = [path_request(each.path) for each in (files[0], files[3], files[4])]
    tree = build_tree(closed(files, *asked), (), (), packages, allocate([], [], KnownNames({}, {}), {}, {}))
    compressed = plain_keymaps(tree, packages)
    assert compressed == [f"{TOP}/include/a.inc.gz", DE, f"{TOP}/qwertz/german.kmap.gz"]
    entries = without_compression(tree, dict.fromkeys(compressed, b"plain")).entries
    german, de, include = (
        entries[f"{TOP}/{path}"] for path in ("qwertz/german.kmap", "qwertz/de.kmap", "include/a.inc")
    )
    assert (german.target, german.content, german.changes) == ("de.kmap", None, ())
    assert (de.size, de.sha256, de.content) == (5, digest(b"plain"), ObjectContent(digest(b"plain")))
    assert de.changes == ("decompressed gz",)
    assert include.reasons == (Reason("include", f"{TOP}/qwertz/de.kmap", "a"),)
    assert {path for path in entries if path.endswith(".gz")} == {"usr/share/other.gz"}
    assert list(entries) == sorted(entries)
