# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compressed parts are taken from the store only when they are exactly what would be made, and never with a secret."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from image_samples import file, part, plan, tree
from msgspec import structs

from preroot.image import compress
from preroot.image.content import ContentReader
from preroot.image.kept import KeptParts
from preroot.image.write import WrittenImage, write_image
from preroot.packages.store import Store
from preroot.tree.model import BytesContent, FileContent, PartPlan, Plan

CONFIG = {"BLK_DEV_INITRD": "y", "RD_ZSTD": "y", "RD_GZIP": "y"}
BASE = part("base", tree(file("usr/bin/x", b"x" * 99_999)), "zstd")
MODULES = part("modules", tree(file("usr/lib/modules/6.1/modules.dep", b"dep" * 999)), "zstd")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codecs of all that is compressed, in their order."""
    calls: list[str] = []
    real = compress.compress

    def noted(chunks: Iterable[bytes], codec: str, level: int, **options: int) -> Iterable[bytes]:
        calls.append(codec)
        return real(chunks, codec, level, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("preroot.image.write.compress", noted)
    return calls


def write(what: Plan, target: Path, store: Store | None) -> WrittenImage:
    return write_image(what, target, ContentReader(), kept=KeptParts(store, what) if store else None)


def of(*parts: PartPlan, name: str = "t", version: str = "6.1") -> Plan:
    made = plan(*parts, config=CONFIG)
    assert made.kernel is not None
    return structs.replace(made, name=name, kernel=structs.replace(made.kernel, version=version))


def objects(store: Store) -> int:
    return sum(1 for path in store.directory.rglob("objects/*"))


def test_what_has_not_changed_is_not_compressed_again(tmp_path: Path, store: Store, compressed: list[str]) -> None:
    anew = write(of(BASE, MODULES), tmp_path / "anew", None)
    first = write(of(BASE, MODULES), tmp_path / "first", store)
    compressed.clear()
    second = write(of(BASE, MODULES), tmp_path / "second", store)
    assert compressed == []
    assert (tmp_path / "anew").read_bytes() == (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert anew.parts == first.parts == second.parts


def test_a_second_kernel_has_the_first_ones_base(tmp_path: Path, store: Store, compressed: list[str]) -> None:
    other = part("modules", tree(file("usr/lib/modules/6.2/modules.dep", b"other")), "zstd")
    write(of(BASE, MODULES), tmp_path / "one", store)
    write(of(BASE, other, version="6.2"), tmp_path / "two", store)
    assert len(compressed) == 3
    # both kernels' modules are kept side by side
    write(of(BASE, MODULES), tmp_path / "one", store)
    write(of(BASE, other, version="6.2"), tmp_path / "two", store)
    assert len(compressed) == 3


@pytest.mark.parametrize(
    "changed",
    [
        structs.replace(BASE, level=4),
        structs.replace(BASE, codec="gzip"),
        structs.replace(BASE, tree=tree(file("usr/bin/x", b"y" * 99_999))),
        structs.replace(BASE, tree=tree(file("usr/bin/x", b"x" * 99_999, mode=0o755))),
    ],
    ids=["level", "codec", "content", "mode"],
)
def test_what_has_changed_is_made_anew(tmp_path: Path, store: Store, changed: PartPlan, compressed: list[str]) -> None:
    write(of(BASE), tmp_path / "image", store)
    write(of(changed), tmp_path / "image", store)
    write(of(changed), tmp_path / "fresh", None)
    assert (tmp_path / "image").read_bytes() == (tmp_path / "fresh").read_bytes()
    assert len(compressed) == 3
    # only the last one is kept
    assert objects(store) == 1


def test_another_library_or_version_makes_it_anew(
    tmp_path: Path, store: Store, compressed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(of(BASE), tmp_path / "image", store)
    monkeypatch.setattr("preroot.image.kept.codec_version", lambda _: ("libzstd", "0"))
    write(of(BASE), tmp_path / "image", store)
    monkeypatch.setattr("preroot.__version__", "other")
    write(of(BASE), tmp_path / "image", store)
    assert len(compressed) == 3


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_part_with_a_secret_is_never_kept(tmp_path: Path, store: Store, kind: str) -> None:
    source = tmp_path / "key"
    source.write_bytes(b"hush" * 99)
    content = FileContent(str(source), secret=True) if kind == "file" else BytesContent(b"hush" * 99, secret=True)
    secret = structs.replace(file("etc/key"), content=content, sha256="", size=0)
    with_secret = structs.replace(BASE, tree=tree(*BASE.tree.entries.values(), secret))
    write(of(with_secret, MODULES), tmp_path / "image", store)
    assert objects(store) == 1  # that of the modules
    source.write_bytes(b"else" * 99)
    write(of(BASE), tmp_path / "image", store)
    write(of(with_secret), tmp_path / "two", store)
    write(of(with_secret), tmp_path / "fresh", None)
    assert (tmp_path / "two").read_bytes() == (tmp_path / "fresh").read_bytes()


def test_a_damaged_or_lost_part_is_made_anew(tmp_path: Path, store: Store) -> None:
    write(of(BASE), tmp_path / "fresh", store)
    (kept,) = store.directory.rglob("objects/*")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"?")
    write(of(BASE), tmp_path / "image", store)
    assert (tmp_path / "image").read_bytes() == (tmp_path / "fresh").read_bytes()
    assert kept.read_bytes() == whole
    kept.unlink()
    write(of(BASE), tmp_path / "image", store)
    assert (tmp_path / "image").read_bytes() == (tmp_path / "fresh").read_bytes()
    for memo in store.directory.rglob("memo/*"):
        memo.write_bytes(b"preroot1 nonsense")
    write(of(BASE), tmp_path / "image", store)
    assert (tmp_path / "image").read_bytes() == (tmp_path / "fresh").read_bytes()


def test_a_store_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the directory should be")
    write(of(BASE), tmp_path / "image", Store(tmp_path / "store"))
    write(of(BASE), tmp_path / "fresh", None)
    assert (tmp_path / "image").read_bytes() == (tmp_path / "fresh").read_bytes()


def test_recipes_of_other_names_do_not_take_each_others_place(
    tmp_path: Path, store: Store, compressed: list[str]
) -> None:
    other = structs.replace(BASE, level=4)
    for _ in range(2):
        write(of(BASE, name="one"), tmp_path / "one", store)
        write(of(other, name="two"), tmp_path / "two", store)
    assert len(compressed) == 2
    shutil.rmtree(store.directory)
