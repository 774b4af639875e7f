# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock: written and read back, refused when damaged, compared, and what makes it fit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preroot.errors import BuildError, PrerootError, RecipeError
from preroot.packages.lock import FORMAT, fits, lock_diff, read_lock, render_lock, request_digest, write_lock
from preroot.packages.model import LocalPackage, Lock, Package
from preroot.recipe.schema import Distribution


def package(name: str = "libc6", version: str = "2.41-12", arch: str = "amd64", digit: str = "a") -> Package:
    return Package(name, version, arch, digit * 64, 100, f"pool/main/{name}.deb")


def lock(*packages: Package, **values: Any) -> Lock:
    base: dict[str, Any] = {
        "format": FORMAT, "preroot": "0.1.0", "request": "r" * 64, "data": {"feature base": "d" * 64}, "source": "apt",
        "distribution": "debian", "release": "trixie", "arch": "amd64", "versions": {"systemd": "257.9-1"},
        "packages": packages or (package(),),
    }  # fmt: skip
    return Lock(**{**base, **values})


NAME = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,12}", fullmatch=True)
VERSION = st.from_regex(r"([0-9]:)?[0-9][0-9A-Za-z.+~-]{0,12}", fullmatch=True)
PATH_PART = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1).filter(
    lambda part: part not in {".", ".."}
)
PACKAGES = st.lists(
    st.builds(
        Package, name=NAME, version=VERSION, arch=st.sampled_from(["amd64", "arm64", "all"]),
        sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True), size=st.integers(0, 2**40),
        filename=st.lists(PATH_PART, min_size=1, max_size=4).map("/".join), repository=st.integers(0, 3),
    ),
    unique_by=lambda each: (each.name, each.arch), max_size=6,
)  # fmt: skip
TABLE = st.dictionaries(st.text(), st.text(), max_size=3)
NUMBERS = st.dictionaries(NAME, st.integers(0, 65535), max_size=3)
LOCAL = st.lists(
    st.builds(LocalPackage, name=NAME, version=VERSION, sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
              paths=st.lists(st.text(), max_size=3).map(tuple)),
    unique_by=lambda each: each.name, max_size=3,
).map(lambda some: tuple(sorted(some, key=lambda each: each.name)))  # fmt: skip
LOCKS = st.builds(
    Lock, format=st.just(FORMAT), preroot=st.text(), request=st.text(), data=TABLE, source=st.just("apt"),
    distribution=NAME, release=NAME, arch=NAME, versions=TABLE, packages=PACKAGES.map(tuple), users=NUMBERS,
    groups=NUMBERS, tools=TABLE, trust=TABLE, local=LOCAL,
)  # fmt: skip


@given(LOCKS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_round_trip(tmp_path: Path, made: Lock) -> None:
    path = tmp_path / "preroot.lock"
    write_lock(path, made)
    read = read_lock(path)
    assert set(read.packages) == set(made.packages)
    assert msgspec.structs.replace(read, packages=()) == msgspec.structs.replace(made, packages=())
    assert list(read.packages) == sorted(made.packages, key=lambda each: (each.name, each.arch))
    assert render_lock(read) == path.read_bytes()


@given(st.permutations([package("a"), package("b"), package("a", arch="arm64"), package("c")]))
def test_order_does_not_show(packages: list[Package]) -> None:
    assert render_lock(lock(*packages)) == render_lock(lock(*sorted(packages, key=lambda each: (each.name, each.arch))))


def test_reads_well_in_a_difference() -> None:
    old, new = lock(package("a"), package("b"), package("c")), lock(package("a"), package("b", "3"), package("c"))
    changed = set(render_lock(old).splitlines()) ^ set(render_lock(new).splitlines())
    assert len(changed) == 2
    text = render_lock(lock(users={"tss": 101, "a": 102}))
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    assert b'\n  "a": 102,\n  "tss": 101\n' in text


def test_written_aside_and_only_when_it_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "preroot.lock"
    write_lock(path, lock())
    assert path.stat().st_mode & 0o777 == 0o644
    os.utime(path, (1, 1))
    write_lock(path, lock())
    assert path.stat().st_mtime == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BuildError, match=r"cannot write the lock .*preroot.lock: No space left"):
        write_lock(path, lock(package("other")))
    assert read_lock(path) == lock()
    assert [each.name for each in tmp_path.iterdir()] == ["preroot.lock"]


def damaged(change: dict[str, Any], **of_package: Any) -> bytes:
    plain = json.loads(render_lock(lock()))
    plain |= change
    if of_package:
        plain["packages"][0] |= of_package
    return json.dumps(plain).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "expected `object`, got `array`"),
        (b"{}", "missing required field `format`"),
        (damaged({"format": 2}), "format: 2 is not the format"),
        (damaged({"format": "1"}), "format: expected `int`, got `str`"),
        (damaged({"mirror": "x"}), "unknown field `mirror`"),
        (damaged({"users": {"a": "b"}}), "users"),
        (
            damaged({"local": [{"name": "k", "version": "../6", "sha256": "a" * 64, "paths": []}]}),
            r"local\[0\].version",
        ),
        (damaged({}, size="1"), r"packages\[0\].size: expected `int`"),
        (damaged({}, size=-1), r"packages\[0\].size: -1 is negative"),
        (damaged({}, repository=-1), r"packages\[0\].repository: -1 is negative"),
        (damaged({}, sha256="../../etc"), r"packages\[0\].sha256: '../../etc' cannot be right"),
        (damaged({}, sha256="A" * 64), r"packages\[0\].sha256"),
        (damaged({}, name="-oDir::Etc=x"), r"packages\[0\].name"),
        (damaged({}, name="a/b"), r"packages\[0\].name"),
        (damaged({}, version="1 2"), r"packages\[0\].version"),
        (damaged({}, arch="../x"), r"packages\[0\].arch"),
        (damaged({}, filename="/etc/passwd"), r"packages\[0\].filename"),
        (damaged({}, filename="pool/../../x"), r"packages\[0\].filename"),
        (damaged({}, filename="a\nb"), r"packages\[0\].filename"),
        (damaged({}, filename=""), r"packages\[0\].filename"),
        (render_lock(lock())[:-5], "not JSON"),
        (damaged({"packages": json.loads(render_lock(lock()))["packages"] * 2}), "there twice"),
    ],
)
def test_damaged_locks_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "preroot.lock"
    path.write_bytes(data)
    with pytest.raises(RecipeError, match=words) as caught:
        read_lock(path)
    assert str(path) in caught.value.message
    assert "lock --update" in caught.value.hint


def test_lock_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="No such file"):
        read_lock(tmp_path / "preroot.lock")


@given(st.binary(max_size=200) | st.integers(0, 400).map(lambda cut: render_lock(lock())[:cut]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_a_lock_or_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "preroot.lock"
    path.write_bytes(data)
    with pytest.raises(PrerootError):
        read_lock(path)


BASE = request_digest(Distribution(), ["systemd", "udev"])


@pytest.mark.parametrize(
    "table",
    [
        {"mirror": "https://me:secret@m.example/debian"}, {"proxy": "http://p:1"}, {"ca": "/ca"}, {"keyring": "/k"},
        {"client_certificate": "/c", "client_key": "/k"},
    ],
)  # fmt: skip
def test_how_the_mirror_is_reached_does_not_count(table: dict[str, str]) -> None:
    assert request_digest(Distribution(**table), ["udev", "systemd", "udev"]) == BASE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "table",
    [
        {"name": "other"}, {"release": "sid"}, {"arch": "arm64"}, {"source": "dnf"}, {"suites": ("x",)},
        {"components": ("main", "contrib")}, {"snapshot": "20260101T000000Z"},
    ],
)  # fmt: skip
def test_what_decides_counts(table: dict[str, Any]) -> None:
    assert request_digest(Distribution(**table), ["systemd", "udev"]) != BASE


def test_every_key_of_the_table_is_decided_about() -> None:
    """A key that is added to the table must be put among those that decide, or those that do not."""
    assert set(Distribution.__struct_fields__) == {
        "name", "release", "arch", "source", "suites", "components", "snapshot",
        "mirror", "keyring", "proxy", "ca", "client_certificate", "client_key",
    }  # fmt: skip


def test_requests_count_and_mirrors_of_suites_do_not() -> None:
    assert request_digest(Distribution(), ["systemd"]) != BASE
    here, there = (Distribution(suites=(f"http://{host}.example/x sid",)) for host in ("a", "b"))
    assert request_digest(here, ["systemd"]) == request_digest(there, ["systemd"])
    assert request_digest(here, ["systemd"]) == request_digest(Distribution(suites=("sid",)), ["systemd"])


def test_fits() -> None:
    assert fits(lock(request=BASE), BASE) is None
    assert "debian trixie amd64" in (fits(lock(), BASE) or "")
    assert "format 0" in (fits(lock(request=BASE, format=0), BASE) or "")


def test_difference() -> None:
    old = lock(package("gone"), package("same"), package("up", "1"), package("rebuilt", "1"), package("two"))
    new = lock(
        package("new", "5"), package("same"), package("up", "2", digit="b"), package("rebuilt", "1", digit="b"),
        package("two"), package("two", "3", "arm64"),
    )  # fmt: skip
    assert lock_diff(old, new) == [
        ("gone", "2.41-12", ""), ("new", "", "5"), ("rebuilt", "1", "1"), ("two:arm64", "", "3"), ("up", "1", "2"),
    ]  # fmt: skip
    assert lock_diff(new, new) == []
    became_all = lock(package("same", "3", "all", "b"))
    assert lock_diff(lock(package("same")), became_all) == [("same", "2.41-12", "3")]
