# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of distributions: releases, architectures, and which package has what."""

from __future__ import annotations

from pathlib import Path

import pytest

from preroot.errors import RecipeError
from preroot.facts.arch import ARCHES
from preroot.recipe.conditions import Facts, has_flavour
from preroot.recipe.distributions import load_distribution, needed_in_images, requests_for
from preroot.recipe.library import Features
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.recipe.select import select

OURS = SearchPath((BUILT_IN,))
RELEASES = ("bookworm", "trixie", "forky", "sid")

SMALL = """\
suites = ["{release}", "../sec {release}-sec"]
merged = { bin = "usr/bin" }
[architecture.amd64]
kernel = "linux"
library-directories = ["usr/lib"]
merged = { lib64 = "usr/lib64" }
[architecture.arm64]
kernel = "linux-arm"
library-directories = ["usr/lib"]
[release.one]
number = "1"
architectures = ["amd64"]
[release.one.programs]
other = "b"
"" = "c"
[release.one.files]
"usr/share/x" = "newer"
"usr/share/gone" = ""
[release.one.capabilities]
cap = []
[release.two]
aliases = ["latest"]
suites = ["{release}", "elsewhere {release}-fixes [amd64]"]
[capabilities]
cap = ["p", "q"]
limited = ["p [arm64 s390x]", "q"]
elsewhere = ["p [arm64]"]
[programs]
p = "a b c"
[files]
"usr/share/x" = "older"
"usr/share/gone" = "p"
"usr/share/*" = "rest"
"""


@pytest.fixture
def small(tmp_path: Path) -> SearchPath:
    (tmp_path / "distributions").mkdir()
    (tmp_path / "distributions/small.toml").write_text(SMALL)
    return SearchPath((tmp_path,))


def test_releases_and_architectures(small: SearchPath) -> None:
    one = load_distribution("small", "1", "amd64", small)
    assert (one.name, one.release, one.number, one.arch, one.kernel) == ("small", "one", "1", "amd64", "linux")
    assert one.suites == ("one", "../sec one-sec")
    assert one.merged == {"bin": "usr/bin", "lib64": "usr/lib64"}
    assert load_distribution("small", "two", "amd64", small).suites == ("two", "elsewhere two-fixes")
    two = load_distribution("small", "latest", "arm64", small)
    assert (two.release, two.suites, two.kernel, two.merged) == ("two", ("two",), "linux-arm", {"bin": "usr/bin"})


@pytest.mark.parametrize(
    ("name", "release", "arch", "message"),
    [
        ("smal", "one", "amd64", "unknown distribution 'smal' (did you mean 'small'?)"),
        ("../small", "one", "amd64", "unknown distribution '../small' ("),
        ("", "one", "amd64", "unknown distribution '' (known: small)"),
        ("small", "oen", "amd64", "unknown release 'oen' of small (did you mean 'one'?)"),
        ("small", "", "amd64", "unknown release '' of small (known: one, two)"),
        ("small", "one", "arm64", "unknown architecture 'arm64' of small one (known: amd64)"),
        ("small", "two", "amd46", "unknown architecture 'amd46' of small two (known: amd64, arm64)"),
    ],
)
def test_unknown_ones(small: SearchPath, name: str, release: str, arch: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_distribution(name, release, arch, small)
    assert str(caught.value).startswith(message)


def test_requests(small: SearchPath) -> None:
    two = load_distribution("small", "two", "amd64", small)
    assert requests_for(["bin:b", "cap:cap", "bin:a"], two) == ("p", "q")
    assert requests_for(["cap:limited"], two) == ("q",)
    assert requests_for(["file:usr/share/x", "file:/usr/share/y"], two) == ("older", "rest")
    assert requests_for(["file:usr/sbin/c"], two) == ("p",)
    one = load_distribution("small", "one", "amd64", small)
    assert requests_for(["bin:a", "bin:b", "file:usr/share/x"], one) == ("p", "other", "newer")
    assert requests_for(["file:usr/share/gone"], one) == ("rest",)


@pytest.mark.parametrize("need", ["bin:c", "cap:cap", "cap:elsewhere", "file:usr/lib/x", "bin:nothing", "pkg:p"])
def test_unmapped_needs(small: SearchPath, need: str) -> None:
    one = load_distribution("small", "one", "amd64", small)
    with pytest.raises(RecipeError) as caught:
        requests_for([need], one, "ssh")
    message = (
        f"no package of small one (amd64) is known for {need}, which feature 'ssh' needs, in distributions/small.toml"
    )
    assert caught.value.message == message
    assert caught.value.hint


def test_drop_ins_and_errors_in_files(small: SearchPath) -> None:
    drop_in = small.directories[0] / "distributions/small.toml.d/own.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("[capabilities]\nmine = ['own']\n")
    info = load_distribution("small", "two", "amd64", small)
    assert requests_for(["cap:mine", "cap:cap"], info) == ("own", "p", "q")
    assert drop_in in info.consulted
    drop_in.write_text("\n[capabilties]\n")
    with pytest.raises(RecipeError, match=r"own\.toml:2: unknown key 'capabilties' \(did you mean 'capabilities'\?\)"):
        load_distribution("small", "two", "amd64", small)


# --- Debian


@pytest.mark.parametrize("release", RELEASES)
def test_debian_knows_every_architecture_as_facts_do(release: str) -> None:
    for name, arch in ARCHES.items():
        if (release, name) == ("bookworm", "riscv64"):  # became a release architecture with trixie
            continue
        info = load_distribution("debian", release, name, OURS)
        assert info.library_directories == (f"usr/lib/{arch.triplet}", "usr/lib")
        # the path that binaries name their dynamic linker by must exist through the links
        directory = arch.interpreter.rpartition("/")[0]
        assert directory == "usr/lib" or directory in info.merged.values()
        assert info.kernel.startswith("linux-image-")


def test_debian_releases() -> None:
    assert load_distribution("debian", "13", "amd64", OURS).release == "trixie"
    assert load_distribution("debian", "unstable", "amd64", OURS).suites == ("sid",)
    trixie = load_distribution("debian", "trixie", "amd64", OURS)
    assert trixie.suites == ("trixie", "trixie-updates", "../debian-security trixie-security")
    assert trixie.kernel == "linux-image-cloud-amd64"


def test_debian_maps_by_release() -> None:
    needs = ["cap:tpm2", "bin:systemd-repart", "file:usr/lib/systemd/systemd-cryptsetup", "bin:switch_root"]
    assert requests_for(needs, load_distribution("debian", "bookworm", "amd64", OURS)) == (
        "libtss2-esys-3.0.2-0", "libtss2-mu0", "libtss2-rc0", "libtss2-tcti-device0", "systemd", "util-linux",
    )  # fmt: skip
    assert requests_for(needs, load_distribution("debian", "trixie", "amd64", OURS)) == (
        "libtss2-esys-3.0.2-0t64", "libtss2-mu-4.0.1-0t64", "libtss2-rc0t64", "libtss2-tcti-device0t64",
        "systemd-repart", "systemd-cryptsetup", "util-linux",
    )  # fmt: skip
    assert requests_for(needs[3:], load_distribution("debian", "sid", "amd64", OURS)) == ("util-linux-extra",)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("flavour", ["systemd", "busybox"])
def test_debian_has_what_every_feature_needs(release: str, flavour: str) -> None:
    features = Features(OURS)
    info = load_distribution("debian", release, "amd64", OURS)
    versions = {"systemd": {"bookworm": "252.39-1"}.get(release, "257.9-1")}
    facts = Facts("debian", release, "amd64", flavour, versions)
    tried = 0
    for name in features:
        if has_flavour(features[name], flavour):
            for chosen in select([name, *_providers(name, features, flavour)], features, {}, facts):
                requests_for(chosen.content.needs, info, chosen.name)
                tried += 1
    assert tried


def _providers(name: str, features: Features, flavour: str) -> list[str]:
    """Return a feature for each capability that `name` requires."""
    wanted = [each for each in features[name].requires if each not in features]
    found = []
    for capability in wanted:
        found += [
            each for each in features if capability in features[each].provides and has_flavour(features[each], flavour)
        ][:1]
    return found


def test_what_no_image_needs_stays_out_unless_it_is_asked_for() -> None:
    info = load_distribution("debian", "trixie", "amd64")
    assert not needed_in_images("perl-base", ["systemd"], info)
    assert not needed_in_images("libpython3.13-stdlib", ["xfsprogs"], info)
    assert needed_in_images("libc6", ["systemd"], info)
    assert needed_in_images("perl-base", ["perl-base=5.40.1-6", "systemd"], info)
    assert needed_in_images("linux-base-7.2.13+deb14-cloud-amd64", [], info)  # has the kernel's lists from sid on
