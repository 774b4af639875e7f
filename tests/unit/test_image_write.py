# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing an image: order, alignment, checks, and that a failure leaves the last image alone."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from image_samples import LOCK, file, other, part, plan, tree, trees

from preroot.errors import BuildError, RecipeError
from preroot.image.content import ContentReader
from preroot.image.digest import image_tree_digest, tree_digest
from preroot.image.manifest import Manifest, decode, encode, lock_digest, make_manifest
from preroot.image.write import WrittenImage, write_image
from preroot.inspect.archive import read_file
from preroot.recipe.schema import Codec
from preroot.tree.model import Entry, FileContent, ObjectContent, Plan, Reason, StoreContent, Tree

ALL = {f"RD_{name}": "y" for name in ("GZIP", "XZ", "ZSTD", "LZ4")} | {"BLK_DEV_INITRD": "y"}
BASE = tree(file("usr/bin/x", b"x" * 999), other("dev/null", "node", 0o666, device=("c", 1, 3)))
MODULES = tree(file("usr/lib/modules/6.1/modules.dep", b"dep"))
MICROCODE = tree(file("kernel/x86/microcode/GenuineIntel.bin", b"micro" * 100))


def write(what: Plan, target: Path) -> WrittenImage:
    return write_image(what, target, ContentReader())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("codec", ["zstd", "xz", "gzip", "none"])
def test_parts_lie_in_order_and_are_read_back(tmp_path: Path, codec: Codec) -> None:
    target = tmp_path / "out" / "t.img"
    parts = [part("modules", MODULES, codec), part("base", BASE, codec), part("microcode", MICROCODE)]
    written = write(plan(*parts, config=ALL), target)
    data = target.read_bytes()
    assert (written.size, written.sha256) == (len(data), sha256(data).hexdigest())
    assert [place.name for place in written.parts] == ["microcode", "base", "modules"]
    archive = read_file(target)
    assert [segment.codec for segment in archive.segments] == ["none", codec, codec]
    for segment, place, content in zip(archive.segments, written.parts, (MICROCODE, BASE, MODULES), strict=True):
        assert segment.offset == place.offset
        assert place.offset % 4 == 0
        assert len(bytes(segment.data)) == place.uncompressed or segment.codec == "none"
        assert [entry.path for entry in segment.entries] == list(content.entries)
    (microcode,) = [entry for entry in archive.segments[0].entries if entry.type == "file"]
    assert microcode.offset % 16 == 0
    assert target.stat().st_mode & 0o7777 == 0o644
    assert names(target.parent) == ["t.img"]


def test_an_empty_part_is_not_written(tmp_path: Path) -> None:
    written = write(plan(part("microcode", Tree({})), part("base", BASE)), tmp_path / "t")
    assert [place.name for place in written.parts] == ["base"]
    with pytest.raises(BuildError, match="nothing to write"):
        write(plan(part("base", Tree({}))), tmp_path / "t")


def test_an_image_with_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"geheim")
    entry = Entry("key", "file", 0o600, 7, 7, "recipe", (), 0, "", content=FileContent(str(tmp_path / "key"), True))
    what = plan(part("base", tree(entry)), secret=True)
    written = write(what, tmp_path / "t")
    assert (tmp_path / "t").stat().st_mode & 0o7777 == 0o600
    archive = read_file(tmp_path / "t")
    assert archive.read(archive.effective()["key"]) == b"geheim"
    text = encode(make_manifest(what, written)).decode()
    assert sha256(b"geheim").hexdigest() not in text
    (seen,) = make_manifest(what, written).parts[0].entries
    assert (seen.path, seen.mode, seen.size, seen.uid, seen.secret) == ("key", "0600", 0, 0, True)
    before = tree_digest(what.parts[0].tree)
    (tmp_path / "key").write_bytes(b"anders")
    assert tree_digest(what.parts[0].tree) == before


def test_the_kernel_must_be_able_to_unpack_it(tmp_path: Path) -> None:
    base = part("base", BASE, "zstd")
    with pytest.raises(BuildError, match=r"cannot unpack zstd \(part base\): CONFIG_RD_ZSTD.*it unpacks gzip, none"):
        write(plan(base, config={"BLK_DEV_INITRD": "y", "RD_GZIP": "y"}), tmp_path / "t")
    with pytest.raises(BuildError, match="CONFIG_BLK_DEV_INITRD"):
        write(plan(base, config={"RD_ZSTD": "y"}), tmp_path / "t")
    with pytest.raises(RecipeError, match="no level 22"):
        write(plan(part("base", BASE, "xz", 22), config=ALL), tmp_path / "t")
    write(plan(base, config={}), tmp_path / "t")


def test_formats_and_layouts_that_there_are_not(tmp_path: Path) -> None:
    base = part("base", BASE)
    with pytest.raises(BuildError, match=r"format ext4 is not available for layout initrd \(part base\).*cpio"):
        write(plan(msgspec.structs.replace(base, format="ext4")), tmp_path / "t")
    with pytest.raises(BuildError, match="format cpio is not available for layout split"):
        write(msgspec.structs.replace(plan(base), layout="split"), tmp_path / "t")
    with pytest.raises(BuildError, match="microcode"):
        write(plan(part("microcode", MICROCODE, "zstd")), tmp_path / "t")
    assert not names(tmp_path)


def test_a_failure_leaves_the_last_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "t"
    target.write_bytes(b"last")
    broken = Entry("z", "file", 0o644, 0, 0, "recipe", (), 3, "", content=FileContent(str(tmp_path / "none")))
    with pytest.raises(BuildError, match=r"cannot read .*none for z: No such file"):
        write(plan(part("base", tree(file("a", b"x" * 4_000_000), broken))), target)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BuildError, match=r"cannot write .*t: No space left on device \(the last image is still there"):
        write(plan(part("base", BASE)), target)
    assert names(tmp_path) == ["t"]
    assert target.read_bytes() == b"last"


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="cannot write"):
        write(plan(part("base", BASE)), tmp_path / "file" / "t")


def test_a_recipes_file_that_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"new")
    digest = sha256(b"old").hexdigest()
    entry = Entry("f", "file", 0o644, 0, 0, "recipe", (), 3, digest, content=FileContent(str(tmp_path / "f")))
    with pytest.raises(BuildError, match="has changed"):
        ContentReader().read(entry)


def test_contents_of_the_store() -> None:
    class Store:
        def read_at(self, package_sha: str, offset: int, size: int, sha256: str, path: str = "") -> bytes:
            assert (package_sha, offset, size, sha256, path) == ("p", 7, 3, "s", "f")
            return b"abc"

        def get_object(self, sha256: str) -> bytes | None:
            return {"short": b"ab", "o": b"abc"}.get(sha256)

    reader = ContentReader(Store())
    entry = Entry("f", "file", 0o644, 0, 0, "a=1", (), 3, "s", content=StoreContent("p", 7))
    assert reader.read(entry) == b"abc"
    assert reader.read(msgspec.structs.replace(entry, content=ObjectContent("o"))) == b"abc"
    with pytest.raises(BuildError, match="f of a=1 has 2 bytes in the store, not 3"):
        reader.read(msgspec.structs.replace(entry, content=ObjectContent("short")))
    with pytest.raises(BuildError, match="f of a=1 was removed"):
        reader.read(msgspec.structs.replace(entry, content=ObjectContent("gone")))


def test_the_tree_digest_is_the_documented_one() -> None:
    content = tree(
        msgspec.structs.replace(file("a", b"hello", 0o640), uid=1, gid=2),
        other("b", "symlink", 0o777, target="a"),
        BASE.entries["dev/null"],
    )
    text = (
        "preroot tree 1\n"
        f"a\0f\x00640\x001\x002\0{sha256(b'hello').hexdigest()}\0\0\n"
        "b\0l\x00777\x000\x000\0a\0\0\n"
        "dev\0d\x00755\x000\x000\0\0\0\n"
        "dev/null\0c\x00666\x000\x000\x001:3\0\0\n"
    )
    digest = tree_digest(content)
    assert digest == sha256(text.encode()).hexdigest()
    assert image_tree_digest([("base", digest)]) == sha256(f"preroot image 1\nbase {digest}\n".encode()).hexdigest()


@given(trees(), trees())
def test_different_trees_have_different_digests(one: Tree, other_tree: Tree) -> None:
    assert (tree_digest(one) == tree_digest(other_tree)) == (one == other_tree)


def test_the_manifest(tmp_path: Path) -> None:
    reasons = (Reason("needed", "usr/bin/x", "libx.so"),)
    base = part("base", tree(file("usr/bin/x", b"x"), file("usr/lib/libx.so", b"l", 0o755, reasons)), "zstd")
    lock = msgspec.structs.replace(LOCK, tools={"libzstd": "1", "kmod": "2"})
    what = msgspec.structs.replace(plan(base, config=ALL), lock=lock)
    manifest = make_manifest(what, write(what, tmp_path / "t"))
    data = encode(manifest)
    assert decode(data, "m") == manifest
    assert data == encode(make_manifest(what, write(what, tmp_path / "elsewhere")))
    assert list(manifest.tools.items()) == [("kmod", "2"), ("libzstd", "1")]
    library = manifest.parts[0].entries[-1]
    assert (library.path, library.mode, library.size, library.reasons) == ("usr/lib/libx.so", "0755", 1, reasons)
    assert library.sha256 == sha256(b"l").hexdigest()
    assert manifest.lock_digest == lock_digest(lock)
    assert manifest.image_sha256 == sha256((tmp_path / "t").read_bytes()).hexdigest()


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"format": 1}'])
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BuildError, match="m is no manifest"):
        decode(data, "m")


def test_a_manifest_of_another_format(tmp_path: Path) -> None:
    what = plan(part("base", BASE))
    manifest = msgspec.structs.replace(make_manifest(what, write(what, tmp_path / "t")), format=99)
    assert isinstance(manifest, Manifest)
    with pytest.raises(BuildError, match="format 99"):
        decode(encode(manifest), "m")
