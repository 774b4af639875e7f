# SPDX-License-Identifier: LGPL-2.1-or-later
"""Licence texts: every package's, each content once, with what they refer to, and the same archive always."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from image_samples import file as entry
from image_samples import part, tree
from msgspec import structs
from worlds import MERGED, file, index, link

from preroot.image.licences import licence_archive
from preroot.packages.model import FileInfo
from preroot.tree.licences import LicenceTexts, licence_texts, with_texts
from preroot.tree.model import Entry, PartPlan
from preroot.tree.pool import Pool

GPL = b"Everyone is permitted to copy"
A = b"a's licence: see /usr/share/common-licenses/GPL."
COMMON = [
    link("usr/share/common-licenses/GPL", "GPL-3"), file("usr/share/common-licenses/GPL-3", GPL),
    file("usr/share/common-licenses/LGPL-2.1", b"lesser"),
]  # fmt: skip
PACKAGES: dict[str, list[FileInfo]] = {
    "a": [file("usr/bin/a", b"a"), file("usr/share/doc/a/copyright", A)],
    "b": [file("usr/bin/b", b"b"), file("usr/share/doc/b/copyright", A)],
    "c": [file("usr/bin/c", b"c"), link("usr/share/doc/c", "b")],
    "d": [file("usr/bin/d", b"d"), link("usr/share/doc/d/copyright", "../a/copyright")],
    "fedora": [file("usr/bin/f", b"f"), file("usr/share/licenses/fedora/COPYING", b"mit"),
               file("usr/share/licenses/fedora/NOTICE", b"notice")],
    "none": [file("usr/bin/n", b"n")],
    "broken": [file("usr/bin/x", b"x"), file("usr/share/doc/broken/copyright", b"/usr/share/common-licenses/Beer-1")],
    "base-files": COMMON,
}  # fmt: skip
CONTENTS = {
    info.path: data
    for path, data in {
        "usr/share/doc/a/copyright": A, "usr/share/doc/b/copyright": A, "usr/share/common-licenses/GPL-3": GPL,
        "usr/share/common-licenses/LGPL-2.1": b"lesser", "usr/share/licenses/fedora/COPYING": b"mit",
        "usr/share/licenses/fedora/NOTICE": b"notice",
        "usr/share/doc/broken/copyright": b"/usr/share/common-licenses/Beer-1",
    }.items()
    for files in PACKAGES.values() for info in files if info.path == path
}  # fmt: skip
OWNERS = {name: index(files, name)[0].owner for name, files in PACKAGES.items()}


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool([index(files, name) for name, files in PACKAGES.items()], MERGED)


def of(name: str, *packages: str) -> PartPlan:
    """A part with a file of each package (or owner)."""
    files = [structs.replace(entry(f"usr/lib/{each}", b"x"), owner=OWNERS.get(each, each)) for each in packages]
    return part(name, tree(*files))


def texts(pool: Pool, *parts: PartPlan, kernel: tuple[str, ...] = ()) -> LicenceTexts:
    return licence_texts(parts, kernel, pool, lambda path: CONTENTS[path])


def shown(found: LicenceTexts, name: str) -> dict[str, str]:
    return {path: each.target or "text" for path, each in found.trees[name].entries.items() if each.type != "directory"}


def test_each_content_is_there_once_with_what_it_refers_to(pool: Pool) -> None:
    found = texts(pool, of("base", "a", "b"))
    assert shown(found, "base") == {
        "usr/share/common-licenses/GPL": "GPL-3", "usr/share/common-licenses/GPL-3": "text",
        "usr/share/doc/a/copyright": "text", "usr/share/doc/b/copyright": "/usr/share/doc/a/copyright",
    }  # fmt: skip
    assert found.missing == ()
    made = found.trees["base"].entries["usr/share/doc/a/copyright"]
    assert (made.owner, made.sha256) == (OWNERS["a"], sha256(A).hexdigest())


def test_texts_of_other_packages_are_reached_by_links(pool: Pool) -> None:
    assert shown(texts(pool, of("base", "c")), "base") == {
        "usr/share/common-licenses/GPL": "GPL-3", "usr/share/common-licenses/GPL-3": "text",
        "usr/share/doc/b/copyright": "text", "usr/share/doc/c": "b",
    }  # fmt: skip
    assert shown(texts(pool, of("base", "d")), "base")["usr/share/doc/d/copyright"] == "../a/copyright"
    assert set(shown(texts(pool, of("base", "fedora")), "base")) == {
        "usr/share/licenses/fedora/COPYING", "usr/share/licenses/fedora/NOTICE",
    }  # fmt: skip


def test_a_part_has_what_no_earlier_one_has(pool: Pool) -> None:
    found = texts(pool, of("microcode", "b"), of("base", "a"), of("modules", "a", "d"), kernel=(OWNERS["fedora"],))
    assert "microcode" not in found.trees  # the kernel reads it before it unpacks anything
    assert "usr/share/doc/b/copyright" in found.trees["base"].entries
    assert set(shown(found, "modules")) == {
        "usr/share/doc/d/copyright", "usr/share/licenses/fedora/COPYING", "usr/share/licenses/fedora/NOTICE",
    }  # fmt: skip
    both = with_texts((of("base", "a"), of("modules", "d")), found.trees)
    assert "usr/share/doc/d/copyright" in both[1].tree.entries and "usr/lib/d" in both[1].tree.entries
    assert list(both[1].tree.entries) == sorted(both[1].tree.entries)
    assert set(found.whole.entries) == {*found.trees["base"].entries, *found.trees["modules"].entries}


def test_what_is_missing_is_named(pool: Pool) -> None:
    found = texts(pool, of("base", "none", "broken"))
    assert found.missing == (
        "the licence text /usr/share/common-licenses/Beer-1, which usr/share/doc/broken/copyright refers to, is in no "
        "package of the lock",
        f"package {OWNERS['none']} has no licence text: there is no usr/share/doc/none/copyright",
    )


def test_preroots_own_files_have_their_licence_and_the_recipes_are_its_authors(pool: Pool) -> None:
    assert shown(texts(pool, of("base", "recipe")), "base") == {}
    assert shown(texts(pool, of("base", "feature udev", "preroot")), "base") == {
        "usr/share/common-licenses/LGPL-2.1": "text"
    }


def test_joined_owners_are_taken_apart(pool: Pool) -> None:
    found = texts(pool, of("microcode", f"{OWNERS['a']}, {OWNERS['fedora']}"), of("base", "recipe"))
    assert {"usr/share/doc/a/copyright", "usr/share/licenses/fedora/COPYING"} <= set(found.trees["base"].entries)


def unpacked(data: bytes, target: Path) -> None:
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        archive.extractall(target, filter="data")  # which refuses absolute links and paths


def test_the_archive_unpacks_anywhere(pool: Pool, tmp_path: Path) -> None:
    found = texts(pool, of("base", *PACKAGES))

    def read(each: Entry) -> bytes:
        return CONTENTS[each.path]

    data = licence_archive(found.whole, read)
    assert data == licence_archive(found.whole, read)
    unpacked(data, tmp_path)
    for name in "abcd":
        assert (tmp_path / f"usr/share/doc/{name}/copyright").read_bytes() == A
    assert (tmp_path / "usr/share/common-licenses/GPL").read_bytes() == GPL
    assert not [path for path in tmp_path.rglob("*") if not path.exists()]
    assert {path.lstat().st_mtime for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()} == {0}
