# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory read as a package: what of it counts, that nothing outside is read, and when it is read again."""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from module_samples import VERMAGIC, modinfo, module
from msgspec import structs
from test_kernel_directory import V, bzimage

from preroot.engine.local import KERNEL, Local, read_local
from preroot.errors import BuildError
from preroot.packages.directory import Found, follow, ingest, is_settled, walk
from preroot.packages.model import Package, PackageIndex, Script
from preroot.packages.store import Store
from preroot.progress import Silent
from preroot.recipe.load import load_recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.unchanged import stamp


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/script").write_text("#!/bin/sh -e\n")
    (root / "a/script").chmod(0o4711)
    (root / "a/b/data").write_bytes(b"x" * 100)
    (root / "a/b/data").chmod(0o600)
    (root / "a/link").symlink_to("b/data")
    (root / "a/out").symlink_to("../../outside")
    (root / "skipped").mkdir()
    (root / "skipped/file").touch()
    (tmp_path / "outside").write_text("not ours")
    return root


def everything(root: Path) -> dict[str, Found]:
    found, _ = walk(root, lambda path: path != "skipped", lambda _: True)
    return {each.path: each for each in found}


def taken(root: Path, store: Store, chosen: dict[str, Found] | None = None) -> tuple[Package, PackageIndex]:
    return ingest(root, chosen or everything(root), name="own", version="1", arch="amd64", spelling="root", store=store)


def test_a_walk_looks_where_it_is_told(tree: Path) -> None:
    found, directories = walk(tree, lambda path: path != "skipped", lambda path: path != "a/script")
    assert [(each.path, each.kind) for each in found] == [
        ("a/b/data", "file"), ("a/link", "symlink"), ("a/out", "symlink"),
    ]  # fmt: skip
    assert directories == {path: stamp(path) for path in (tree, tree / "a", tree / "a/b")}


def test_a_directory_becomes_a_package(tree: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        package, index = taken(tree, store)
        assert (package.owner, package.filename, package.size) == ("own=1", "root", index.blob_size)
        files = {info.path: info for info in index.files}
        assert list(files) == sorted(files)
        assert {path: (info.type, info.mode, info.uid, info.gid) for path, info in files.items()} == {
            "a/b/data": ("file", 0o644, 0, 0), "a/link": ("symlink", 0o777, 0, 0), "a/out": ("symlink", 0o777, 0, 0),
            "a/script": ("file", 0o755, 0, 0),
        }  # fmt: skip
        assert files["a/script"].learnt == Script("/bin/sh", "-e")
        assert files["a/out"].target == "../../outside"
        assert store.read(package.sha256, files["a/b/data"]) == b"x" * 100
    with Store(tmp_path / "store") as other:
        assert other.index(package) == index
        assert other.verify() == []


def test_the_digest_is_of_what_counts(tree: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        first = taken(tree, store)[0].sha256
        copy = tmp_path / "elsewhere"
        shutil.copytree(tree, copy, symlinks=True)
        os.utime(copy / "a/b/data", (0, 0))
        (copy / "a/b/data").chmod(0o666)
        assert taken(copy, store)[0].sha256 == first, "place, times and further permissions do not count"
        (copy / "a/b/data").chmod(0o700)
        executable = taken(copy, store)[0].sha256
        (copy / "a/b/data").write_bytes(b"y" * 100)
        assert len({first, executable, taken(copy, store)[0].sha256}) == 3


def test_links_are_followed_inside_only(tree: Path, tmp_path: Path) -> None:
    found = everything(tree)
    inside = follow(tree, found["a/link"])
    assert inside is not None and (inside.path, inside.size) == ("a/b/data", 100)
    assert follow(tree, found["a/out"]) is None
    for number, target in enumerate(("/etc/passwd", "nowhere", "loop", "..", f"{tmp_path}/root2/x")):
        (tree / f"l{number}").symlink_to(target)
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2/x").touch()
    (tree / "loop").symlink_to("loop")
    assert [follow(tree, each) for path, each in everything(tree).items() if path.startswith("l")] == [None] * 6


def test_what_can_not_be_read(tree: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        found = everything(tree)
        data = found["a/b/data"]
        for size in (99, 101):
            with pytest.raises(BuildError, match=r"a/b/data changed while it was read"):
                taken(tree, store, {"data": structs.replace(data, size=size)})
        with pytest.raises(BuildError, match=r"cannot read .*a/b/gone: No such file"):
            taken(tree, store, {"data": structs.replace(data, path="a/b/gone")})
        (tree / "a/b/data").unlink()
        (tree / "a/b/data").symlink_to("/etc/passwd")
        with pytest.raises(BuildError, match=r"cannot read .*a/b/data: Too many levels of symbolic links"):
            taken(tree, store, {"data": data})
        os.mkfifo(tree / "a/pipe")
        with pytest.raises(BuildError, match="a/pipe is neither a file nor a link"):
            taken(tree, store)
        for name, target in ((b"\xff.ko", b"a"), (b"a\nb", b"a"), (b"fine", b"\xff")):
            link = tree / os.fsdecode(name)
            link.symlink_to(os.fsdecode(target))
            with pytest.raises(BuildError, match="has a name or target that no package could have"):
                everything(tree)
            link.unlink()
        with pytest.raises(BuildError, match=r"cannot read .*nowhere: No such file or directory"):
            walk(tree / "nowhere", lambda _: True, lambda _: True)
    assert not list((tmp_path / "store").rglob("*.blob")), "nothing half-written"


def test_a_file_that_has_just_changed_is_not_settled(tree: Path) -> None:
    found = everything(tree)
    assert not is_settled(found), "it could change again within the clock's tick"
    old = {path: structs.replace(each, mtime=10**9, ctime=10**9) for path, each in found.items()}
    assert is_settled(old)
    assert not is_settled(old | {"b": structs.replace(old["a/b/data"], ctime=2**63)})


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    modules = tmp_path / f"k/lib/modules/{V}"
    (modules / "kernel").mkdir(parents=True)
    (modules / "kernel/one.ko").write_bytes(module(modinfo("one")))
    (modules / "modules.dep").write_text("lies")
    (modules / "build").symlink_to("/usr/src/linux")
    (tmp_path / "k/vmlinuz").write_bytes(bzimage(f"{V} (me)\0".encode()))
    (tmp_path / "k/config").write_text("CONFIG_MODULES=y\n")
    (tmp_path / "r.toml").write_text('[kernel]\ndirectory = "k"\n')
    return tmp_path / "k"


def read(kernel: Path, store: Store) -> Local:
    return read_local(load_recipe(kernel.parent / "r.toml", search=SearchPath((BUILT_IN,))), store, Silent())


def test_a_kernel_is_a_package_of_its_own_kind(kernel: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        found = read(kernel, store)
        (pin,), ((package, index),) = found.pins, found.packages
        assert (pin.name, pin.version, pin.paths, pin.sha256) == (KERNEL, V, ("k",), package.sha256)
        assert [info.path for info in index.files] == [
            f"boot/config-{V}", f"boot/vmlinuz-{V}", f"lib/modules/{V}/kernel/one.ko",
        ]  # fmt: skip
        assert {kernel, kernel / "config", kernel / f"lib/modules/{V}/kernel"} <= set(found.paths)
        assert all(path.is_relative_to(kernel) for path in found.paths)


def test_it_is_read_again_only_when_something_has_changed(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = os.open

    def counting(path: str | Path, *arguments: int, **more: int) -> int:
        if str(path).startswith(str(kernel)):
            reads.append(str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr("preroot.packages.directory.os.open", counting)
    monkeypatch.setattr("preroot.packages.directory._SETTLED", -60)  # all files here are new
    with Store(tmp_path / "store") as store:
        first = read(kernel, store)
        assert len(reads) == 3
        assert read(kernel, store) == first and len(reads) == 3
        (kernel / "config").write_text("CONFIG_MODULES=n\n")
        second = read(kernel, store)
        assert len(reads) == 6 and second.pins[0].sha256 != first.pins[0].sha256
        for damaged in (tmp_path / "store").rglob(f"{second.pins[0].sha256}.index"):
            damaged.unlink()
    with Store(tmp_path / "store") as store:
        assert read(kernel, store) == second and len(reads) == 9, "the store has lost it"


def test_links_in_a_kernel_s_directory(kernel: Path, tmp_path: Path) -> None:
    """One inside stands for its file, also as far as changes go; one that leads out is refused by name."""
    (kernel / "out").mkdir()
    (kernel / "vmlinuz").rename(kernel / "out/bzImage")
    (kernel / "vmlinuz").symlink_to("out/bzImage")
    (kernel / "vmlinuz-old").symlink_to("/boot/vmlinuz")
    with Store(tmp_path / "store") as store:
        first = read(kernel, store)
        (kernel / "out/bzImage").write_bytes(bzimage(f"{V} (you)\0".encode()))
        assert read(kernel, store).pins[0].sha256 != first.pins[0].sha256
        extra = kernel / f"lib/modules/{V}/kernel/two.ko"
        extra.symlink_to("/etc/hostname")
        with pytest.raises(BuildError, match=r"kernel/two\.ko is a link to /etc/hostname, which is not in that dir"):
            read(kernel, store)
        extra.unlink()
        (kernel / "vmlinuz").unlink()
        with pytest.raises(BuildError, match=r"no kernel in .*: vmlinuz-old is a link to /boot/vmlinuz"):
            read(kernel, store)
        os.mkfifo(kernel / "vmlinuz")
        with pytest.raises(BuildError, match=r"k/vmlinuz is no file, but a device, pipe or socket"):
            read(kernel, store)


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    """A directory with two extra modules, one of them in a directory of its own."""
    (tmp_path / "more/deep").mkdir(parents=True)
    (tmp_path / "more/one.ko").write_bytes(module(modinfo("one")))
    (tmp_path / "more/deep/two-b.ko.xz").write_bytes(lzma.compress(module(modinfo("two_b"))))
    (tmp_path / "more/Makefile").touch()
    return tmp_path / "more"


def read_extra(directory: Path, store: Store, *paths: str) -> Local:
    (directory / "x.toml").write_text(f"kernel.extra-modules = {list(paths)}\n")
    return read_local(load_recipe(directory / "x.toml", search=SearchPath((BUILT_IN,))), store, Silent())


def test_extra_modules_are_a_package(extra: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        found = read_extra(tmp_path, store, "more")
        (pin,), ((package, index),) = found.pins, found.packages
        release = VERMAGIC.split()[0]
        assert (pin.name, pin.version, pin.paths) == ("extra-modules", release, ("more",))
        assert [info.path for info in index.files] == [
            f"lib/modules/{release}/updates/{name}" for name in ("one.ko", "two-b.ko.xz")
        ]
        assert {extra, extra / "deep", extra / "one.ko"} <= set(found.paths)
        data = (extra / "one.ko").read_bytes()
        assert store.read(package.sha256, index.files[0]) == data
        one, two = "more/one.ko", str(extra / "deep/two-b.ko.xz")
        single = read_extra(tmp_path, store, one, two)
        assert single.pins[0].sha256 == pin.sha256 and single.pins[0].paths == (one, "more/deep/two-b.ko.xz")


def test_extra_modules_that_can_not_be_taken(extra: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:

        def refused(message: str, *paths: str) -> None:
            with pytest.raises(BuildError, match=message):
                read_extra(tmp_path, store, *paths)

        (tmp_path / "second").mkdir()
        (tmp_path / "second/one.ko.xz").write_bytes(lzma.compress(module(modinfo("one"))))
        refused(r"more/one\.ko and .*second/one\.ko\.xz are the same module, one", "more", "second/one.ko.xz")
        other = module(modinfo("three").replace(VERMAGIC.encode(), b"6.0 SMP"))
        (tmp_path / "three.ko").write_bytes(other)
        refused(r"more/deep/two-b.* is built for kernel .*, and .*three\.ko for 6\.0", "more", "three.ko")
        (tmp_path / "text.ko").write_text("no module")
        refused(r"text\.ko is no kernel module: it does not say", "text.ko")
        (tmp_path / "cut.ko.xz").write_bytes(lzma.compress(other)[:100])
        refused(r"cut\.ko\.xz is damaged: xz data is cut off", "cut.ko.xz")
        refused(r"more/Makefile is not named like a kernel module", "more/Makefile")
        (tmp_path / "empty").mkdir()
        refused(r"no kernel module in .*/empty", "empty")
        (extra / "out.ko").symlink_to("/etc/passwd")
        refused(r"out\.ko is a link to /etc/passwd", "more")


def test_what_is_looked_at_is_stamped_before_it_is_read(
    extra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a change in between would never be noticed (preroot.unchanged)."""
    real = Store.adopt

    def late(store: Store, write: Callable[[BinaryIO], PackageIndex]) -> PackageIndex:
        (extra / "new.ko").touch()
        os.utime(extra / "one.ko")
        return real(store, write)

    before = {path: stamp(path) for path in (extra, extra / "one.ko")}
    monkeypatch.setattr(Store, "adopt", late)
    with Store(tmp_path / "store") as store:
        found = read_extra(tmp_path, store, "more").paths
    assert {path: found[path] for path in before} == before
    assert all(stamp(path) != each for path, each in before.items()), "they did change"
