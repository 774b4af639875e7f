# SPDX-License-Identifier: LGPL-2.1-or-later
"""An image is compared with its manifest: whatever is changed in either is found, and named where it can be."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_samples import file, other, part, plan, tree, trees
from msgspec import structs

from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.image.manifest import Manifest, make_manifest
from preroot.image.write import write_image
from preroot.inspect.verify import OTHER_SECRETS, PACKED_OTHERWISE, Finding, check_image
from preroot.recipe.schema import Codec
from preroot.tree.model import BytesContent, Entry, Plan, Tree

SECRET = Entry("etc/key", "file", 0o400, 7, 8, "recipe", (), content=BytesContent(b"secret", secret=True))
BASE = tree(
    file("usr/bin/x", b"x" * 999, 0o755), file("etc/y", b"y"), other("usr/bin/l", "symlink", 0o777, target="x"),
    other("dev/null", "node", 0o666, device=("c", 1, 3)),
)  # fmt: skip
MODULES = tree(file("usr/lib/modules/6.1/modules.dep", b"dep" * 50))


def built(where: Path, made: Plan) -> tuple[bytes, Manifest]:
    written = write_image(made, where / "image", ContentReader())
    return (where / "image").read_bytes(), make_manifest(made, written, {})


def two_parts(base: Tree = BASE, codec: Codec = "zstd") -> Plan:
    secret = any(isinstance(each.content, BytesContent) and each.content.secret for each in base.entries.values())
    return plan(part("base", base, codec), part("modules", MODULES, codec), secret=secret)


def changed(base: Tree, path: str, **values: object) -> Tree:
    return Tree({**base.entries, path: structs.replace(base.entries[path], **values)})


def without(base: Tree, path: str) -> Tree:
    return Tree({each: entry for each, entry in base.entries.items() if each != path})


def packed(entries: Tree) -> bytes:
    return b"".join(archive_chunks(entries.entries.values(), ContentReader().read))


@pytest.mark.parametrize("codec", ["zstd", "xz", "gzip", "none"])
def test_an_image_is_what_its_manifest_says(tmp_path: Path, codec: Codec) -> None:
    assert check_image(*built(tmp_path, two_parts(codec=codec))) == ()


@given(trees(), st.sampled_from(["zstd", "gzip", "none"]))
@settings(max_examples=40, deadline=None)
def test_so_is_any_other(made: Tree, codec: Codec) -> None:
    import tempfile

    if made.entries:
        with tempfile.TemporaryDirectory() as where:
            assert check_image(*built(Path(where), plan(part("base", made, codec)))) == ()


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none"])
def test_every_flipped_byte_is_found(tmp_path: Path, codec: Codec) -> None:
    image, manifest = built(tmp_path, two_parts(codec=codec))
    for place in range(0, len(image), 1 if len(image) < 2000 else 7):
        for bit in (1, 0x80):
            flipped = bytearray(image)
            flipped[place] ^= bit
            assert check_image(bytes(flipped), manifest), (place, bit)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_edit_is_found(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as where:
        image, manifest = built(Path(where), two_parts())
    start = data.draw(st.integers(0, len(image)))
    end = data.draw(st.integers(start, len(image)))
    edited = image[:start] + data.draw(st.binary(max_size=20)) + image[end:]
    assert bool(check_image(edited, manifest)) == (edited != image)


CHANGES: dict[str, tuple[Callable[[Tree], Tree], str, str]] = {
    "content": (lambda base: Tree({**base.entries, "etc/y": file("etc/y", b"z")}), "etc/y", "content differs"),
    "size": (lambda base: Tree({**base.entries, "etc/y": file("etc/y", b"yy")}), "etc/y", "size is 2, not 1, content"),
    "mode": (lambda base: changed(base, "usr/bin/x", mode=0o4755), "usr/bin/x", "mode is 4755, not 0755"),
    "owner": (lambda base: changed(base, "usr/bin", uid=5), "usr/bin", "owner is 5:0, not 0:0"),
    "target": (lambda base: changed(base, "usr/bin/l", target="y"), "usr/bin/l", "target is y, not x"),
    "device": (lambda base: changed(base, "dev/null", device=("c", 1, 5)), "dev/null", "device is c 1:5, not c 1:3"),
    "type": (lambda base: Tree({**base.entries, "etc/y": other("etc/y", "directory")}), "etc/y", "type is directory"),
    "missing": (lambda base: without(base, "etc/y"), "etc/y", "is missing"),
    "more": (lambda base: tree(*base.entries.values(), file("etc/z")), "etc/z", "should not be there"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_what_differs_is_named(tmp_path: Path, name: str, codec: Codec) -> None:
    change, path, text = CHANGES[name]
    _, manifest = built(tmp_path, two_parts(codec=codec))
    image, _ = built(tmp_path, two_parts(change(BASE), codec))
    (found,) = check_image(image, manifest)
    assert (found.part, found.path, found.packing) == ("base", path, False) and found.text.startswith(text)


def test_the_same_tree_packed_otherwise_is_told_apart(tmp_path: Path) -> None:
    _, manifest = built(tmp_path, two_parts())
    image, _ = built(tmp_path, plan(part("base", BASE, "zstd", 9), part("modules", MODULES, "zstd", 19)))
    assert check_image(image, manifest) == (PACKED_OTHERWISE,)
    image, _ = built(tmp_path, two_parts(codec="gzip"))
    *parts, last = check_image(image, manifest)
    assert [each.text for each in parts] == ["is compressed with gzip, not zstd"] * 2 and last == PACKED_OTHERWISE
    assert all(each.packing for each in parts)


MORE = tree(file("usr/bin/evil", b"#!/bin/sh\n"))


@pytest.mark.parametrize(
    ("before", "behind", "says"),
    [
        (b"", b"\0" * 8, ["8 bytes follow it that are not in the manifest, all of them zero"]),
        (b"", packed(MORE), ["bytes follow it that are not in the manifest: an archive with usr, usr/bin"]),
        (b"", gzip.compress(packed(MORE)), ["an archive with usr, usr/bin, usr/bin/evil"]),
        (b"", b"garbage!", ["8 bytes follow it that are not in the manifest, and no archive"]),
        (packed(MORE), b"", ["bytes stand before it that are not in the manifest: an archive with usr"]),
        (b"garbage!", b"", ["8 bytes stand before it", "and no archive"]),
        (packed(MORE), packed(MORE), ["stand before it", "follow it"]),
    ],
)  # fmt: skip
def test_what_stands_before_and_behind_it_is_found(
    tmp_path: Path, before: bytes, behind: bytes, says: list[str]
) -> None:
    image, manifest = built(tmp_path, two_parts())
    aligned = bytes(-len(image) % 4) if before and behind else b""  # as the kernel wants an archive
    found = check_image(before + image + aligned + behind, manifest)
    assert all(not each.part and not each.packing for each in found)
    assert all(word in " ".join(each.text for each in found) for word in says), found


def test_an_archive_between_the_parts_is_found(tmp_path: Path) -> None:
    image, manifest = built(tmp_path, two_parts(codec="none"))
    place = manifest.parts[1].offset
    (found,) = check_image(image[:place] + packed(MORE) + image[place:], manifest)
    assert found.text == f"at offset {place} is an archive that is not in the manifest: usr, usr/bin, usr/bin/evil"
    (found,) = check_image(image[:place], manifest)
    assert (found.part, found.text) == ("modules", "is missing")


def test_a_second_archive_inside_a_compressed_part_is_found(tmp_path: Path) -> None:
    """The kernel unpacks all archives of a stream, one behind the other; a path may be in both."""
    _, manifest = built(tmp_path, plan(part("base", BASE, "gzip")))
    twice = tree(file("etc/y", b"y"))
    found = check_image(gzip.compress(packed(BASE) + packed(twice)), manifest)
    assert Finding("base", "etc/y", "is there 2 times") in found


@pytest.mark.parametrize("cut", [1, 50])
def test_a_truncated_image_says_which_part_is_hit(tmp_path: Path, cut: int) -> None:
    image, manifest = built(tmp_path, two_parts())
    found = check_image(image[:-cut], manifest)
    assert Finding("modules", "", f"the image ends {cut} bytes before its end") in found
    assert not any(each.part == "base" for each in found)
    damaged = bytearray(image)
    damaged[20] ^= 0xFF
    assert {each.part for each in check_image(bytes(damaged), manifest)} - {""} == {"base"}


def test_of_secrets_only_type_and_mode_are_known(tmp_path: Path) -> None:
    made = two_parts(tree(*BASE.entries.values(), SECRET))
    image, manifest = built(tmp_path, made)
    assert check_image(image, manifest) == ()
    for change, expected in (
        ({"content": BytesContent(b"other!", secret=True)}, [OTHER_SECRETS]),
        ({"uid": 9}, [OTHER_SECRETS]),
        ({"mode": 0o644}, [Finding("base", "etc/key", "mode is 0644, not 0400")]),
    ):
        image, _ = built(tmp_path, two_parts(changed(made.parts[0].tree, "etc/key", **change)))
        assert list(check_image(image, manifest)) == expected
    image, _ = built(tmp_path, two_parts())
    assert Finding("base", "etc/key", "is missing") in check_image(image, manifest)


def edited(manifest: Manifest, **values: object) -> Manifest:
    first, *others = manifest.parts
    entries = tuple(structs.replace(each, **values) if each.path == "etc/y" else each for each in first.entries)
    return structs.replace(manifest, parts=(structs.replace(first, entries=entries), *others))


@pytest.mark.parametrize(
    "values",
    [{"mode": "0755"}, {"sha256": "0" * 64}, {"uid": 1}, {"owner": "b=2"}, {"mode": "x"}, {"mode": "-1"},
     {"secret": True}],
)  # fmt: skip
def test_an_edited_manifest_is_found_out(tmp_path: Path, values: dict[str, object]) -> None:
    image, manifest = built(tmp_path, two_parts())
    found = check_image(image, edited(manifest, **values))
    if "owner" in values:  # whose a file is does not show in the image
        assert not found
    else:
        assert "manifest" in found[0].text


def test_the_manifest_of_another_image(tmp_path: Path) -> None:
    image, _ = built(tmp_path, two_parts())
    _, manifest = built(tmp_path, plan(part("base", tree(file("a", b"a")), "zstd")))
    assert check_image(image, manifest)
    strange = structs.replace(manifest, parts=(structs.replace(manifest.parts[0], offset=-5, size=10**12),))
    assert check_image(b"", strange) and check_image(image, strange)
    assert check_image(image, structs.replace(manifest, image_size=-1, image_sha256=sha256(b"").hexdigest()))


def test_what_no_path_shows_is_found_too(tmp_path: Path) -> None:
    """Time stamps, and zeros behind the archive inside of a compressed part."""
    _, manifest = built(tmp_path, plan(part("base", BASE, "gzip")))
    dated = b"".join(archive_chunks(BASE.entries.values(), ContentReader().read, mtime=5))
    assert Finding("base", "etc/y", "has a time stamp") in check_image(gzip.compress(dated), manifest)
    size = manifest.parts[0].uncompressed
    found = check_image(gzip.compress(packed(BASE) + bytes(64)), manifest)
    assert found == (Finding("base", "", f"unpacks to {size + 64} bytes, not {size}", True), PACKED_OTHERWISE)


def test_a_manifest_with_another_tree_digest_of_the_whole(tmp_path: Path) -> None:
    image, manifest = built(tmp_path, two_parts())
    (found,) = check_image(image, structs.replace(manifest, tree_digest="0" * 64))
    assert "its parts do not have its tree digest" in found.text


def test_a_changed_part_beside_a_foreign_one_is_compared_by_its_paths(tmp_path: Path) -> None:
    _, manifest = built(tmp_path, two_parts(codec="none"))
    image, _ = built(tmp_path, two_parts(changed(BASE, "etc/y", mode=0o600), codec="none"))
    found = check_image(image + packed(MORE), manifest)
    assert found[0] == Finding("base", "etc/y", "mode is 0600, not 0644")
    assert "is an archive that is not in the manifest: usr, usr/bin, usr/bin/evil" in found[1].text
