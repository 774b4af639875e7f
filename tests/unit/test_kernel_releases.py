# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a kernel's release to its package, and to a lock and an image of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from preroot.engine.locking import common_lock, lock_path, near_releases
from preroot.errors import RecipeError
from preroot.recipe.distributions import DistributionInfo, kernel_package, kernel_releases, load_distribution
from preroot.recipe.load import Overrides, load_recipe
from preroot.recipe.search import BUILT_IN, SearchPath

OURS = SearchPath((BUILT_IN,))
NAMES = [
    "linux-image-amd64", "linux-image-cloud-amd64", "linux-image-6.12.90+deb13-amd64",
    "linux-image-6.12.118+deb13-amd64", "linux-image-6.12.118+deb13-amd64-dbg",
    "linux-image-6.12.118+deb13-amd64-unsigned", "linux-image-6.12.118+deb13-cloud-amd64", "linux-headers-6.12-x",
]  # fmt: skip
RELEASES = ("6.12.118+deb13-amd64", "6.12.118+deb13-cloud-amd64", "6.12.90+deb13-amd64")


def debian() -> DistributionInfo:
    return load_distribution("debian", "trixie", "amd64", OURS)


def test_the_package_of_a_release() -> None:
    assert kernel_package("", debian()) == "linux-image-cloud-amd64"
    assert kernel_package("6.12.118+deb13-amd64", debian()) == "linux-image-6.12.118+deb13-amd64"


def test_the_releases_of_packages() -> None:
    assert kernel_releases(NAMES[::-1], debian()) == RELEASES
    for release in RELEASES:
        assert kernel_package(release, debian()) in NAMES


def test_a_distribution_that_names_no_releases(tmp_path: Path) -> None:
    (tmp_path / "distributions").mkdir()
    text = '[architecture.amd64]\nkernel = "linux"\n{}library-directories = ["usr/lib"]\n[release.one]\n'
    file = tmp_path / "distributions/other.toml"
    file.write_text(text.format(""))
    search = SearchPath((tmp_path,))
    with pytest.raises(RecipeError, match=r"other\.toml does not say which package has the kernel 6\.12"):
        kernel_package("6.12", load_distribution("other", "one", "amd64", search))
    file.write_text('kernel-release = "linux-{version}"\n' + text.format(""))
    assert kernel_package("6.12", load_distribution("other", "one", "amd64", search)) == "linux-6.12"
    file.write_text('kernel-release = "linux-{version}"\n' + text.format('kernel-release = "k-{version}-pc"\n'))
    info = load_distribution("other", "one", "amd64", search)
    assert kernel_package("6.12", info) == "k-6.12-pc", "the architecture's own goes first"
    assert kernel_releases(["k-6.12-pc", "k-6.12", "linux-6.12", "k-6.1-pc"], info) == ("6.1", "6.12")


def test_near_releases() -> None:
    assert near_releases("6.12.118", RELEASES) == f"near to it: {RELEASES[0]}, {RELEASES[1]}"
    assert near_releases("6.12.91+deb13-amd64", RELEASES).startswith(f"near to it: {RELEASES[2]}, ")
    assert near_releases("9", RELEASES) == f"the newest: {', '.join(RELEASES)}", "90 is older than 118"
    assert near_releases("9", ()) == "name the kernel's package with kernel.package"


def test_a_kernel_of_the_command_line_has_a_lock_and_an_image_of_its_own(tmp_path: Path) -> None:
    recipe = tmp_path / "server.toml"
    recipe.write_text('name = "s"\n[kernel]\nversion = "6.1"\n')
    loaded = load_recipe(recipe, search=OURS)
    assert lock_path(loaded, tmp_path / "out", OURS) == tmp_path / "server.lock"
    assert loaded.output_name == "s"
    assert common_lock(tmp_path / "server.lock", loaded) is None
    loaded = load_recipe(recipe, Overrides(kernel="6.12.1+deb13-amd64"), OURS)
    assert loaded.recipe.kernel.version == "6.12.1+deb13-amd64"
    path = lock_path(loaded, tmp_path / "out", OURS)
    assert path == tmp_path / "server-6.12.1+deb13-amd64.lock"
    assert common_lock(path, loaded) == tmp_path / "server.lock"
    assert common_lock(tmp_path / "elsewhere.lock", loaded) is None, "a lock that the caller has named"
    assert loaded.output_name == "s-6.12.1+deb13-amd64"
    recipe.write_text('name = "s"\n[kernel]\npackage = "linux"\n')
    loaded = load_recipe(recipe, Overrides(kernel="6.12"), OURS)
    assert lock_path(loaded, tmp_path / "out", OURS) == tmp_path / "server.lock", "it has the same packages"
    assert loaded.output_name == "s-6.12"
    loaded = load_recipe(None, Overrides(kernel="6.12"), OURS)
    assert lock_path(loaded, tmp_path / "out", OURS) == tmp_path / "out/preroot-6.12.lock"


@pytest.mark.parametrize("release", ["../6.12", "6.12/x", "-6", ".6", "6 12", "6.12\n"])
def test_what_no_release_can_be(release: str) -> None:
    with pytest.raises(RecipeError, match=r"kernel\.version"):
        load_recipe(None, Overrides(kernel=release), OURS)
