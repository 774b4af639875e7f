# SPDX-License-Identifier: LGPL-2.1-or-later
"""The apt source against an archive made on the spot. Nothing here needs the network."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deb_archive import DebArchive, Key

from preroot.errors import PrerootError
from preroot.packages import apt, apt_fetch
from preroot.packages.source import Source, open_source
from preroot.progress import Silent
from preroot.recipe.schema import Distribution


@pytest.fixture(scope="module")
def key() -> Iterator[Key]:
    key = Key("archive")
    yield key
    key.close()


@pytest.fixture(scope="module")
def stranger() -> Iterator[Key]:
    key = Key("stranger")
    yield key
    key.close()


@pytest.fixture(scope="module")
def prepared(key: Key, tmp_path_factory: pytest.TempPathFactory) -> DebArchive:
    archive = DebArchive(tmp_path_factory.mktemp("prepared"))
    archive.add("app", "1:2.0~rc1+b2-3", Depends="libapp++ (>= 1.0), either | other", Recommends="extra")
    archive.add("libapp++", "1.0", Pre_Depends="base", Multi_Arch="same")
    archive.add("libapp++", "0.9", Pre_Depends="base")
    archive.add("base", "12", "all", Essential="yes", Multi_Arch="foreign")
    archive.add("either", Conflicts="enemy")
    archive.add("other")
    archive.add("extra")
    archive.add("enemy")
    archive.add("provider", Provides="service")
    archive.add("broken", Depends="missing-library (>= 3)")
    archive.add("libapp++", "1.0", "arm64", Depends="base", Multi_Arch="same")
    archive.publish(key)
    return archive


@pytest.fixture
def archive(prepared: DebArchive, tmp_path: Path) -> DebArchive:
    """The prepared archive, copied, for tests to damage."""
    copy = DebArchive(tmp_path / "mirror")
    shutil.copytree(prepared.root, copy.root)
    copy.stanzas = [dict(stanza) for stanza in prepared.stanzas]
    return copy


class Notes(Silent):
    """A reporter that keeps notes, too."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def source(archive: DebArchive, key: Key, cache: Path, **table: Any) -> Source:
    table = {"mirror": archive.mirror, "keyring": str(key.public), **table}
    return open_source(Distribution(**table), default_suites=("{release}",), keyring_candidates=(), cache=cache)


def failure(archive: DebArchive, key: Key, cache: Path, *requests: str, **table: Any) -> str:
    """Resolve and fetch, which must fail; return message and hint, which must be one line each."""
    with pytest.raises(PrerootError) as caught:
        opened = source(archive, key, cache, **table)
        opened.fetch(opened.resolve(requests or ("app",), Silent()).packages, Silent())
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.glob("archives/*") if path.is_dir()] if cache.is_dir() else True
    return str(caught.value)


def test_resolves_the_closure_without_recommendations(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    resolution = source(prepared, key, tmp_path).resolve(["app"], Silent())
    found = [(package.name, package.version, package.arch) for package in resolution.packages]
    assert found == [
        ("app", "1:2.0~rc1+b2-3", "amd64"),
        ("base", "12", "all"),
        ("either", "1.0", "amd64"),
        ("libapp++", "1.0", "amd64"),
    ]
    for package in resolution.packages:
        data = (prepared.root / package.filename).read_bytes()
        assert (package.size, package.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert key.fingerprint in resolution.trust["trixie"]


def test_requests_for_a_version_and_an_architecture(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    opened = source(prepared, key, tmp_path)
    old = opened.resolve(["libapp++=0.9"], Silent()).packages
    assert [package.version for package in old if package.name == "libapp++"] == ["0.9"]
    both = opened.resolve(["libapp++/arm64", "libapp++"], Silent()).packages
    assert [(each.name, each.arch) for each in both] == [("base", "all"), ("libapp++", "amd64"), ("libapp++", "arm64")]
    assert opened.resolve(["libapp++", "libapp++/arm64", "libapp++"], Silent()).packages == both


def test_a_foreign_architecture_alone(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    packages = source(prepared, key, tmp_path, arch="arm64").resolve(["libapp++"], Silent()).packages
    assert [(each.name, each.arch) for each in packages] == [("base", "all"), ("libapp++", "arm64")]


def test_candidates(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    names = ["app", "nothing-like-it", "service", "libapp++/arm64", "base"]
    assert source(prepared, key, tmp_path).candidates(names) == {
        "app": "1:2.0~rc1+b2-3", "libapp++/arm64": "1.0", "base": "12",
    }  # fmt: skip


def test_names(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    opened = source(prepared, key, tmp_path)
    assert sorted(opened.names("e")) == ["either", "enemy", "extra"]
    assert opened.names("nothing-like-it") == []
    assert {"app", "base", "broken", "libapp++"} <= set(opened.names(""))


def test_nothing_requested_is_nothing_resolved(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert source(prepared, key, tmp_path).resolve([], Silent()).packages == ()


def test_fetch_then_offline(archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    opened = source(archive, key, cache)
    packages = opened.resolve(["app"], Silent()).packages
    files = opened.fetch(packages, Silent())
    for package in packages:
        assert hashlib.sha256(files[package.sha256].read_bytes()).hexdigest() == package.sha256
        assert not files[package.sha256].is_symlink()
    shutil.rmtree(archive.root)

    def forbidden(*_: object, **__: object) -> bytes:
        raise AssertionError("a warm fetch runs no program")

    monkeypatch.setattr(apt, "run", forbidden)
    monkeypatch.setattr(apt_fetch, "run", forbidden)
    assert source(archive, key, cache).fetch(packages, Silent()) == files


def test_a_damaged_file_in_the_cache_is_fetched_again(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    opened = source(prepared, key, tmp_path)
    packages = opened.resolve(["base"], Silent()).packages
    (path,) = opened.fetch(packages, Silent()).values()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert opened.fetch(packages, Silent())[packages[0].sha256].read_bytes() == whole


def test_detached_signature(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.publish(key, inline=False)
    assert key.fingerprint in source(archive, key, tmp_path / "cache").resolve(["base"], Silent()).trust["trixie"]


def test_armored_keyring_with_any_name(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    key._gpg("--armor", "--output", str(tmp_path / "the keys"), "--export")
    opened = source(prepared, key, tmp_path / "cache", keyring=str(tmp_path / "the keys"))
    assert opened.resolve(["base"], Silent()).packages


def test_newest_version_of_all_suites(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.stanzas.clear()
    newer = archive.add("base", "13", "all")
    archive.publish(key, "trixie-security")
    suites = ("{release}", f"{archive.mirror} {{release}}-security")
    opened = source(archive, key, tmp_path / "cache", suites=suites)
    resolution = opened.resolve(["app"], Silent())
    assert "13" in [package.version for package in resolution.packages if package.name == "base"]
    assert set(resolution.trust) == {"trixie", "trixie-security"}
    assert newer.name.startswith("base")


def test_second_mirror_is_counted(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    other = DebArchive(tmp_path / "security")
    other.add("base", "13", "all")
    other.publish(key, "trixie-security")
    suites = ("{release}", f"{other.mirror} {{release}}-security")
    opened = source(archive, key, tmp_path / "cache", suites=suites)
    packages = opened.resolve(["app"], Silent()).packages
    assert {package.name: package.repository for package in packages} == {
        "app": 0, "base": 1, "either": 0, "libapp++": 0,
    }  # fmt: skip
    opened.fetch(packages, Silent())


def test_snapshot_may_be_expired(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.publish(key, expired=True)
    shutil.move(archive.root, tmp_path / "20260101T000000Z")
    table = {"mirror": f"file:{tmp_path}/{{snapshot}}", "snapshot": "20260101T000000Z"}
    opened = source(archive, key, tmp_path / "cache", **table)
    opened.fetch(opened.resolve(["app"], Silent()).packages, Silent())


def test_works_without_home_and_beside_hooks(
    archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration that the user's environment names is the host's: its hooks must not run here."""
    hook = tmp_path / "hook-ran"
    (tmp_path / "host.conf").write_text(f'APT::Update::Pre-Invoke {{ "touch {hook}"; }};\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "host.conf"))
    monkeypatch.delenv("HOME", raising=False)
    opened = source(archive, key, tmp_path / "cache")
    opened.fetch(opened.resolve(["app"], Silent()).packages, Silent())
    assert not hook.exists()


def test_ordinary_user(key: Key) -> None:
    """Where the tests run as root, the same is done in a child that is nobody (else every test shows it)."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o777)
        archive = DebArchive(top / "mirror")
        archive.add("base", "12", "all")
        archive.publish(key)
        shutil.copy(key.public, top / "keys.gpg")

        def work(cache: str) -> None:
            opened = source(archive, key, top / cache, keyring=f"{top}/keys.gpg")
            assert opened.fetch(opened.resolve(["base"], Silent()).packages, Silent())

        work("first")  # loads all modules, which nobody might not be allowed to read
        if os.geteuid() != 0:
            return
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                work("second")
                os._exit(0)
            except BaseException as error:
                os.write(2, f"{error!r}\n".encode())
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert next((top / "second/archives").iterdir()).stat().st_uid == 65534


def test_two_at_once(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    results: list[object] = []

    def work() -> None:
        opened = source(prepared, key, tmp_path)
        packages = opened.resolve(["app"], Silent()).packages
        results.append(sorted(opened.fetch(packages, Silent())))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]


# what goes wrong with the archive


def test_unknown_package(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    error = failure(prepared, key, tmp_path, "libap++")
    assert "unknown package 'libap++' in debian trixie (amd64)" in error
    assert "'libapp++'" in error


def test_name_that_apt_would_take_for_a_pattern_or_an_operator(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert "unknown package 'bas.'" in failure(prepared, key, tmp_path, "bas.")
    assert "unknown package 'base-'" in failure(prepared, key, tmp_path, "base-")
    for request in ("-o=Dir::Etc::parts", "--help", "base*", "?essential", "base/trixie/x", "a b", "base;x", ""):
        assert "is not a package" in failure(prepared, key, tmp_path, request)


def test_virtual_package(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    """apt takes the only provider of a virtual package; the lock names it."""
    packages = source(prepared, key, tmp_path).resolve(["service"], Silent()).packages
    assert [package.name for package in packages] == ["provider"]


def test_virtual_package_with_several_providers(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.add("rival", Provides="service")
    archive.publish(key)
    error = failure(archive, key, tmp_path / "cache", "service")
    assert "service is virtual" in error
    assert "provider, rival" in error


def test_unknown_version(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert "package base has no version 99" in failure(prepared, key, tmp_path, "base=99")


def test_conflict_has_the_solvers_explanation(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert "enemy" in failure(prepared, key, tmp_path, "enemy", "either")


def test_dependency_that_nothing_has(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    error = failure(prepared, key, tmp_path, "broken")
    assert "missing-library" in error
    assert "(>= 3)" in error or "not installable" in error


def test_unknown_release(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    error = failure(prepared, key, tmp_path, release="trixy")
    assert "has no suite 'trixy'" in error
    assert "distribution.release" in error


def test_unknown_architecture(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert "trixie has no architecture 'amd46' (did you mean 'amd64'?)" in failure(
        prepared, key, tmp_path, arch="amd46"
    )


def test_unknown_component(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    error = failure(prepared, key, tmp_path, components=("main", "mian"))
    assert "no component 'mian' (did you mean 'main'?)" in error


def test_tampered_release_file(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    path = archive.root / "dists/trixie/InRelease"
    path.write_text(path.read_text().replace("Origin: Debian", "Origin: Devil!"))
    assert "trixie has a bad signature" in failure(archive, key, tmp_path / "cache")


def test_release_file_of_a_stranger(archive: DebArchive, key: Key, stranger: Key, tmp_path: Path) -> None:
    archive.publish(stranger)
    error = failure(archive, key, tmp_path / "cache")
    assert stranger.fingerprint[-16:] in error
    assert str(key.public) in error


def test_a_stranger_cannot_replace_good_indexes(archive: DebArchive, key: Key, stranger: Key, tmp_path: Path) -> None:
    """apt keeps the old indexes then; they must not be taken for the new ones in silence."""
    source(archive, key, tmp_path / "cache").resolve(["app"], Silent())
    archive.publish(stranger)
    assert stranger.fingerprint[-16:] in failure(archive, key, tmp_path / "cache")


def test_unsigned_archive(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.publish(None)
    assert "trixie is not signed" in failure(archive, key, tmp_path / "cache")


def test_signature_taken_away_later(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    source(archive, key, tmp_path / "cache").resolve(["app"], Silent())
    archive.publish(None)
    assert "signed" in failure(archive, key, tmp_path / "cache")


def test_expired_archive(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    archive.publish(key, expired=True)
    error = failure(archive, key, tmp_path / "cache")
    assert "expired" in error
    assert "snapshot" in error


def test_index_that_is_not_what_was_signed(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    for name in ("Packages", "Packages.gz"):
        path = archive.root / "dists/trixie/main/binary-amd64" / name
        path.write_bytes(path.read_bytes().replace(b"base", b"evil") if name == "Packages" else b"x" * 300)
    assert "does not have the digest that the signed Release file gives" in failure(archive, key, tmp_path / "cache")


def test_package_with_another_digest(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    path = next(archive.root.glob("pool/**/base_12_all.deb"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = failure(archive, key, tmp_path / "cache")
    assert "base=12" in error
    assert "digest" in error


def test_truncated_package(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    path = next(archive.root.glob("pool/**/base_12_all.deb"))
    path.write_bytes(path.read_bytes()[:-10])
    error = failure(archive, key, tmp_path / "cache")
    assert "base=12" in error
    assert "digest" in error


def test_package_that_the_mirror_has_dropped(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    next(archive.root.glob("pool/**/base_12_all.deb")).unlink()
    error = failure(archive, key, tmp_path / "cache")
    assert "base=12 is no longer at" in error
    assert "preroot lock --update" in error


def test_index_that_names_a_path_outside_the_mirror(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    for stanza in archive.stanzas:
        if stanza["Package"] == "base":
            stanza["Filename"] = "pool/../../../etc/base.deb"
    archive.publish(key)
    assert "impossible path" in failure(archive, key, tmp_path / "cache")


def test_unreachable_mirror(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    error = failure(prepared, key, tmp_path, mirror="http://127.0.0.1:1/debian")
    assert "http://127.0.0.1:1/debian/dists/trixie/InRelease" in error
    assert "onnect" in error
    assert "lock" in error


def test_mirror_that_is_gone_though_its_indexes_are_here(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    source(archive, key, tmp_path / "cache").resolve(["app"], Silent())
    shutil.rmtree(archive.root)
    assert "has no suite 'trixie'" in failure(archive, key, tmp_path / "cache")


def test_keyring_that_is_not_there(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    assert "/nonexistent.gpg" in failure(prepared, key, tmp_path, keyring="/nonexistent.gpg")


def test_keyring_that_is_none(prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("no keys")
    assert "trixie" in failure(prepared, key, tmp_path / "cache", keyring=str(tmp_path / "keys"))


@pytest.mark.parametrize("place", ["/proc/cache", "{file}/cache"])
def test_cache_that_cannot_be_written(place: str, prepared: DebArchive, key: Key, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = place.format(file=tmp_path / "file")
    assert f"cannot write the cache {cache}" in failure(prepared, key, Path(cache))


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PrerootError, match="'dnf'"):
        open_source(Distribution(source="dnf"), default_suites=(), keyring_candidates=(), cache=tmp_path)


# the host's own apt


def host(tmp_path: Path, sources: str, extra: str = "") -> dict[str, str]:
    """Make an apt configuration that stands for the host's; return the environment that selects it."""
    etc = tmp_path / "host-etc"
    for part in ("sources.list.d", "apt.conf.d", "auth.conf.d"):
        (etc / part).mkdir(parents=True)
    (etc / "sources.list.d/host.sources").write_text(sources)
    (tmp_path / "host.conf").write_text(f'Dir::Etc "{etc}";\n{extra}\n')
    return {"APT_CONFIG": str(tmp_path / "host.conf")}


def stanza(uri: str, suites: str, key: Key, more: str = "") -> str:
    return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {key.public}\n{more}\n"


def opened_as_host(cache: Path) -> Source:
    suites = ("{release}", "../debian-security {release}-security")
    return open_source(Distribution(), default_suites=suites, keyring_candidates=(), cache=cache)


def test_the_hosts_mirrors_serve_a_release_that_the_host_has_not(
    archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    security = DebArchive(tmp_path / "elsewhere")
    security.add("base", "13", "all")
    security.publish(key, "trixie-security")
    text = stanza(archive.mirror, "bookworm", key) + stanza(security.mirror, "bookworm-security", key)
    for name, value in host(tmp_path, text).items():
        monkeypatch.setenv(name, value)
    resolution = opened_as_host(tmp_path / "cache").resolve(["base"], Silent())
    assert [(each.version, each.repository) for each in resolution.packages] == [("13", 1)]
    assert set(resolution.trust) == {"trixie", "trixie-security"}


def test_no_security_mirror_is_said(
    archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in host(tmp_path, stanza(archive.mirror, "trixie", key)).items():
        monkeypatch.setenv(name, value)
    notes = Notes()
    resolution = opened_as_host(tmp_path / "cache").resolve(["base"], notes)
    assert resolution.trust["trixie-security"] == "left out, no mirror known"
    assert "trixie-security" in notes.notes[0]


def test_mirror_list_of_cloud_images(
    archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "debian.list").write_text(archive.mirror + "\n")
    for name, value in host(tmp_path, stanza(f"mirror+file:{tmp_path}/debian.list", "trixie", key)).items():
        monkeypatch.setenv(name, value)
    opened = opened_as_host(tmp_path / "cache")
    files = opened.fetch(opened.resolve(["app"], Silent()).packages, Silent())
    assert len(files) == 4
    assert not any(path.is_symlink() for path in files.values())


def test_out_of_date_host_mirror(
    archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.publish(key, expired=True)
    text = stanza(archive.mirror, "trixie", key)
    for name, value in host(tmp_path, text, 'Acquire::Check-Valid-Until "false";').items():
        monkeypatch.setenv(name, value)
    reporter = Silent()
    assert opened_as_host(tmp_path / "cache").resolve(["base"], reporter).packages
    assert "out of date" in reporter.warnings[0]


def test_host_without_a_mirror(key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in host(tmp_path, stanza("https://example.org/tool", "stable-tool", key)).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PrerootError, match=r"distribution\.mirror: the host's apt has no address for debian"):
        opened_as_host(tmp_path / "cache").resolve(["base"], Silent())


def fingerprint(*roots: str) -> dict[str, tuple[int, int, int]]:
    found = {}
    for root in roots:
        for path in (Path(root), *Path(root).rglob("*")):
            status = os.lstat(path)
            found[str(path)] = (status.st_mtime_ns, status.st_size, status.st_mode)
    return found


def test_the_hosts_apt_is_not_touched(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    places = ("/etc/apt", "/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg", "/var/log/apt")
    before = fingerprint(*places)
    opened = source(archive, key, tmp_path / "cache")
    opened.fetch(opened.resolve(["app", "libapp++/arm64"], Silent()).packages, Silent())
    assert fingerprint(*places) == before
