# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store: what is put in is found again, whole, or made again."""

from __future__ import annotations

import hashlib
import lzma
import os
import time
from pathlib import Path

import deb_samples as samples
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import DEB, ELF, KERNEL, MODULES, PACKAGE, TREE, entry, info

from preroot.errors import BuildError
from preroot.packages import aside, store_upkeep, unpack
from preroot.packages.model import Elf, ModuleInfo, PackageIndex, Script, Unit
from preroot.packages.store import Store, StoreCorrupt, in_parallel
from preroot.progress import Silent


def test_what_a_package_has_is_kept_and_found_again(full: Path) -> None:
    with Store(full) as store:
        index = store.index(PACKAGE)
        assert index is not None
        assert (index.name, index.version, index.arch) == ("sample", "1:2.0-1", "amd64")
        assert index.control["Depends"] == "libc6 (>= 2.36)"
        assert index.scripts == {"postinst": "#!/bin/sh\n"}
        assert index.conffiles == ("etc/a",)
        program = info(index, "usr/bin/a")
        assert (program.mode, program.size, program.sha256) == (0o755, len(ELF), hashlib.sha256(ELF).hexdigest())
        assert isinstance(program.learnt, Elf)
        assert program.learnt.mentioned == ("libmentioned.so.1",)
        assert info(index, "usr/lib/systemd/system/a.service").learnt == Unit((("Service", "ExecStart", "/usr/bin/a"),))
        assert info(index, "usr/bin/script").learnt == Script("/bin/sh", "-e")
        assert info(index, "usr/bin/link").target == "a"
        for path in ("usr/bin/a", "usr/bin/b", "usr/bin/c"):
            assert store.read(PACKAGE.sha256, info(index, path)) == ELF
        for path in ("usr/bin/b", "usr/bin/c"):
            assert (info(index, path).type, info(index, path).target) == ("hardlink", "usr/bin/a")
            assert (info(index, path).learnt, info(index, path).mode) == (program.learnt, 0o755)
        assert store.read(PACKAGE.sha256, info(index, "usr/share/empty")) == b""


def test_an_empty_store_has_nothing_and_is_not_made_by_asking(top: Path) -> None:
    with Store(top) as store:
        assert store.index(PACKAGE) is None
        assert store.get_object("0" * 64) is None
        assert store.recall("x") is None
        assert store.verify() == []
        assert store.gc([], 0).removed == 0
    assert not top.exists()


def test_large_files_are_learnt_from_too(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(top) as store:
        small = store.unpack(PACKAGE, samples.saved(DEB, tmp_path))
        monkeypatch.setattr(unpack, "_IN_MEMORY", 20)
        assert store.unpack(PACKAGE, tmp_path / "sample.deb") == small


@pytest.mark.parametrize("kind", ["index", "blob"])
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "changed"])
def test_a_damaged_entry_is_noticed_and_made_again(full: Path, file: Path, kind: str, damage: str) -> None:
    path = entry(full, kind)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]
        path.write_bytes({"empty": b"", "short": data[:-1], "changed": changed}[damage])
    with Store(full) as store:
        index = store.index(PACKAGE)
        if (kind, damage) == ("blob", "changed"):
            assert index is not None
            with pytest.raises(StoreCorrupt, match=r"sample=1:2\.0-1 is damaged"):
                for each in index.files:
                    if each.type == "file":
                        store.read(PACKAGE.sha256, each)
            index = store.index(PACKAGE)
        assert index is None
        index = store.unpack_all([PACKAGE], {PACKAGE.sha256: file}, Silent())[PACKAGE.sha256]
        assert store.read(PACKAGE.sha256, info(index, "usr/bin/a")) == ELF


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 5000), noise=st.binary(min_size=1, max_size=30))
def test_no_damage_to_an_index_is_believed(tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes) -> None:
    top = tmp_path_factory.mktemp("store")
    with Store(top) as store:
        store.unpack(PACKAGE, samples.saved(DEB, top))
    path = entry(top, "index")
    data = path.read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    changed = path.read_bytes() != data
    with Store(top) as store:
        assert (store.index(PACKAGE) is None) == changed


def test_an_index_of_another_format_is_not_used(full: Path) -> None:
    with Store(full) as store:
        index = store.index(PACKAGE)
        assert index is not None
    other = msgspec.structs.replace(index, format=aside.FORMAT + 1)
    aside.write_sealed(entry(full, "index"), msgspec.msgpack.encode(other))
    with Store(full) as store:
        assert store.index(PACKAGE) is None


def test_the_digest_decides_whatever_else_is_wrong(top: Path, tmp_path: Path) -> None:
    for data in (DEB[:-40], b"", DEB + b"x", b"x" * 100_000, samples.deb(TREE)):
        path = samples.saved(data, tmp_path)
        with Store(top) as store, pytest.raises(BuildError) as caught:
            store.unpack(PACKAGE, path)
        found = hashlib.sha256(data).hexdigest()
        for word in ("sample=1:2.0-1", "sample.deb", found, PACKAGE.sha256):
            assert word in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.hint
        assert not [each for each in top.rglob("*") if each.is_file()]


def test_another_package_under_the_right_digest_is_refused(top: Path, file: Path) -> None:
    for wrong in (msgspec.structs.replace(PACKAGE, name="other"), msgspec.structs.replace(PACKAGE, version="3")):
        with Store(top) as store, pytest.raises(BuildError, match=f"{wrong.owner} was asked for"):
            store.unpack(wrong, file)


def test_a_hostile_package_leaves_nothing(top: Path, tmp_path: Path) -> None:
    data = samples.deb(samples.member(b"./a", b"x") + samples.member(b"./dev/sda", type_=b"4") + samples.END)
    with Store(top) as store, pytest.raises(BuildError, match=r"sample\.deb: dev/sda is a block device"):
        store.unpack(samples.package_of(data), samples.saved(data, tmp_path))
    assert not [each for each in top.rglob("*") if each.is_file()]


def test_many_packages_in_the_order_asked_for(top: Path, tmp_path: Path) -> None:
    packages, files = [], {}
    for number in range(12):
        control = samples.control_tar(f"Package: p{number}\nVersion: 1\n")
        data = samples.deb(samples.member(b"./file", b"x" * number * 1000) + samples.END, control=control)
        packages.append(samples.package_of(data, f"p{number}", "1"))
        files[packages[-1].sha256] = samples.saved(data, tmp_path, f"p{number}.deb")
    with Store(top) as store:
        found = store.unpack_all(packages, files, Silent())
    assert [index.name for index in found.values()] == [package.name for package in packages]
    with Store(top) as store:
        assert store.unpack_all(packages[::-1], {}, Silent()) == dict(reversed(found.items()))
        missing = msgspec.structs.replace(PACKAGE, sha256="0" * 64)
        with pytest.raises(BuildError, match=r"sample=1:2\.0-1 is neither"):
            store.unpack_all([*packages, missing], files, Silent())


def test_the_first_failure_of_parallel_work_is_told(top: Path, tmp_path: Path) -> None:
    bad = samples.package_of(b"bad", "bad", "1")
    files = {PACKAGE.sha256: samples.saved(DEB, tmp_path), bad.sha256: samples.saved(b"bad", tmp_path, "bad.deb")}
    with Store(top) as store, pytest.raises(BuildError, match=r"bad\.deb"):
        store.unpack_all([PACKAGE, bad], files, Silent())
    with Store(top) as store, pytest.raises(BuildError, match=r"cannot read .*gone\.deb"):
        store.unpack(PACKAGE, tmp_path / "gone.deb")


def test_results_of_parallel_work_keep_their_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number % 3))
        return number * number

    assert in_parallel(slow, range(9), "x", Silent()) == [number * number for number in range(9)]
    assert in_parallel(slow, [], "x", Silent()) == []


def test_modules_are_known_and_decompressed_once(
    top: Path, kernel: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(MODULES)
    with Store(top) as store:
        known = store.modules(kernel, Silent())
        assert [(each.name, each.sha256 == "") for each in known.values()] == [
            ("a", True),
            ("b", True),
            ("plain", False),
        ]
        assert known[paths[0]].depends == ("b",)
        whole = store.decompress_modules(kernel, paths[::2], Silent())
        assert list(whole) == paths[::2]
        for path, each in whole.items():
            assert (each.sha256, each.size) == (hashlib.sha256(MODULES[path]).hexdigest(), len(MODULES[path]))
        assert store.get_object(whole[paths[0]].sha256) == MODULES[paths[0]]
    monkeypatch.setattr(Store, "read_at", None)
    with Store(top) as store:
        assert store.modules(kernel, Silent()) == known
        assert store.decompress_modules(kernel, paths[::2], Silent()) == whole


def test_a_decompressed_module_that_was_lost_is_made_again(top: Path, kernel: PackageIndex) -> None:
    path = next(iter(MODULES))
    with Store(top) as store:
        sha256 = store.decompress_modules(kernel, [path], Silent())[path].sha256
        for damage in (b"", b"x" * len(MODULES[path])):
            store.object_path(sha256).write_bytes(damage)
            if damage:
                assert store.get_object(sha256) is None
            store.decompress_modules(kernel, [path], Silent())
            assert store.get_object(sha256) == MODULES[path]
        for kind in ("modules", "decompressed"):
            record = top / f"v{aside.FORMAT}" / "packages" / f"{KERNEL.sha256}.{kind}"
            record.write_bytes(record.read_bytes()[:-1])
        assert store.decompress_modules(kernel, [path], Silent())[path].sha256 == sha256


def test_a_misread_module_is_noticed_and_read_again_in_full(top: Path, kernel: PackageIndex) -> None:
    path = next(iter(MODULES))
    with Store(top) as store:
        known = store.modules(kernel, Silent())
        wrong = {**known, path: msgspec.structs.replace(known[path], aliases=("bogus",))}
        store.save_record(kernel.sha256, "modules", wrong)
        with pytest.raises(StoreCorrupt, match=f"misread kernel module {path}"):
            store.decompress_modules(kernel, [path], Silent())
        assert store.decompress_modules(kernel, [path], Silent())[path].aliases == ("x:*",)


def test_modules_that_are_not_there_or_broken(top: Path, kernel: PackageIndex, tmp_path: Path) -> None:
    with Store(top) as store, pytest.raises(BuildError, match=r"has no kernel module usr/x\.ko"):
        store.decompress_modules(kernel, ["usr/x.ko"], Silent())
    for content, reason in ((b"\xfd7zXZ\0junk", "damaged|cut off"), (lzma.compress(b"x"), "no .modinfo")):
        data = samples.deb(samples.member(b"./m/broken.ko.xz", content) + samples.END, "")
        with Store(top) as store:
            index = store.unpack(samples.package_of(data), samples.saved(data, tmp_path))
            with pytest.raises(BuildError, match=f"m/broken.ko.xz of sample=1:2.0-1: .*({reason})"):
                store.modules(index, Silent())


def test_a_package_without_modules(top: Path, file: Path) -> None:
    with Store(top) as store:
        assert store.modules(store.unpack(PACKAGE, file), Silent()) == {}
    assert not entry(top, "modules").exists()


# Objects, results, upkeep


@given(st.binary(max_size=2000), st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_objects_and_results_are_checked(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int, noise: bytes
) -> None:
    top = tmp_path_factory.mktemp("store")
    with Store(top) as store:
        sha256 = store.put_object(data)
        assert (sha256, store.get_object(sha256)) == (hashlib.sha256(data).hexdigest(), data)
        store.remember("key", data)
        assert (store.recall("key"), store.recall("other")) == (data, None)
        for path in [store.object_path(sha256), *(top / f"v{aside.FORMAT}" / "memo").iterdir()]:
            content = path.read_bytes()
            where = at % (len(content) + 1)
            path.write_bytes(content[:where] + noise)
            changed = path.read_bytes() != content
            found = store.get_object(sha256) if path == store.object_path(sha256) else store.recall("key")
            assert found == (None if changed else data)
        store.put_object(data)
        assert store.get_object(sha256) == data


def test_verify_finds_and_removes_each_kind_of_damage(full: Path, file: Path, kernel: PackageIndex) -> None:
    with Store(full) as store:
        sha256 = store.put_object(b"object")
        store.remember("key", b"value")
        store.modules(kernel, Silent())
        assert store.verify() == []
        store.object_path(sha256).write_bytes(b"other")
        for path in (full / f"v{aside.FORMAT}" / "memo").iterdir():
            path.write_bytes(b"")
        blob = entry(full, "blob")
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        record = blob.with_name(f"{KERNEL.sha256}.modules")
        record.write_bytes(b"x")
        found = store.verify()
        assert [each.split()[0] for each in found] == ["modules", "object", "package", "result"]
        assert f"package {PACKAGE.sha256}" in found
        assert store.verify() == []
        assert store.index(PACKAGE) is None
        assert store.index(KERNEL) is not None


def age(top: Path, seconds: float) -> None:
    for path in top.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)


def test_gc_removes_what_was_not_used_for_long(full: Path, kernel: PackageIndex) -> None:
    with Store(full) as store:
        kept, dropped = store.put_object(b"kept"), store.put_object(b"dropped")
        store.remember("kept", b"1")
        store.remember("dropped", b"2")
        age(full, 10 * 86400)
    with Store(full) as store:
        assert store.index(KERNEL) is not None  # which marks it as used
        result = store.gc([kept, "kept"], 86400)
        assert (result.removed, result.kept) == (3, 3)
        assert result.freed > len(ELF)
    with Store(full) as store:
        assert store.index(PACKAGE) is None
        assert not entry(full, "blob").exists()
        assert store.index(KERNEL) is not None
        assert (store.get_object(kept), store.get_object(dropped)) == (b"kept", None)
        assert (store.recall("kept"), store.recall("dropped")) == (b"1", None)


@pytest.mark.parametrize("others", [True, False])
def test_gc_leaves_what_another_process_may_be_writing_or_reading(full: Path, others: bool) -> None:
    """While another store is in use, all that was used within a day stays; when none is, strays go at once."""
    young = full / f"v{aside.FORMAT}" / "packages" / (aside.PREFIX + "young")
    old = young.with_name(aside.PREFIX + "old")
    orphan = young.with_name("0" * 64 + ".blob")
    for path in (young, old, orphan):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    with Store(full) as other, Store(full) as store:
        if others:
            assert other.index(PACKAGE) is not None
        assert store.gc([], 10**9).removed == (1 if others else 3)
        assert (young.exists(), old.exists(), orphan.exists()) == (others, False, others)
        store.gc([], 0)
        assert entry(full, "index").exists() == others
        age(full, store_upkeep.BUSY_SECONDS + 9)
        store.gc([], 0)
        assert not entry(full, "index").exists() and not young.exists() and not orphan.exists()


def test_what_is_asked_for_is_marked_as_used(full: Path) -> None:
    """So that a gc beside a long build takes nothing that the build has seen there."""
    with Store(full) as store:
        known = store.put_object(b"known")
        store.remember("key", b"value")
        age(full, 10 * 86400)
        assert store.index(PACKAGE) and store.has_object(known, 5) and store.recall("key")
        with Store(full) as other:
            other.gc([], 86400)
        assert store.get_object(known) == b"known" and store.recall("key") == b"value"
        index = store.index(PACKAGE)
        assert index and store.read(PACKAGE.sha256, info(index, "usr/bin/a")) == ELF


def test_more_packages_than_files_may_be_open(
    full: Path, kernel: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `ulimit -n 64` a build reads from a hundred packages."""
    monkeypatch.setattr("preroot.packages.store._most_open", lambda: 1)
    with Store(full) as store:
        indexes = [index for package in (PACKAGE, KERNEL) if (index := store.index(package))]
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for index in indexes * 3:
            for each in index.files:
                if each.type == "file":
                    store.read(index.sha256, each)
        assert len(indexes) == 2 and len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208


def test_records_of_modules_survive_encoding() -> None:
    record = {"a": ModuleInfo("a", ("b",), (), (), (), ("x",), (), "v", "", 0)}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=dict[str, ModuleInfo]) == record
