# SPDX-License-Identifier: LGPL-2.1-or-later
"""One recipe and several kernels: found by their releases, each with a lock and an image of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Command

from preroot.engine import Engine, Overrides
from preroot.recipe.distributions import kernel_releases, load_distribution

RECIPE = """\
name = "small"
[kernel]
modules = "virtual"
[part.base]
flavour = "busybox"
features = ["busybox", "ext4", "virtio"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path / "small.toml"


def cloud_kernels(engine: Engine, release: str = "trixie") -> list[str]:
    """Return the releases of Debian's cloud kernels, the newest first."""
    loaded = engine.load(None, Overrides(set=(f"distribution.release={release}",)))
    info = load_distribution("debian", release, "amd64")
    releases = kernel_releases(engine.source(loaded.recipe.distribution).names("linux-image-"), info)
    cloud = [each for each in releases if each.endswith("-cloud-amd64")]
    return sorted(cloud, key=lambda each: [int(part) for part in re.findall(r"\d+", each)], reverse=True)


def versions(lock: Path) -> dict[str, str]:
    return {each["name"]: each["version"] for each in json.loads(lock.read_bytes())["packages"]}


def test_two_kernels_of_one_recipe(preroot: Command, engine: Engine, recipe: Path, tmp_path: Path) -> None:
    newest, older = cloud_kernels(engine)[:2]
    out = tmp_path / "out"
    assert preroot("lock", recipe).returncode == 0
    locks: dict[str, bytes] = {}
    for release in (newest, older, newest):
        done = preroot("build", recipe, "--kernel", release, "--output", out)
        assert done.returncode == 0, done.stderr
        manifest = json.loads((out / f"small-{release}.manifest.json").read_bytes())
        assert manifest["kernel"]["version"] == release
        assert f"linux-image-{release}=" in manifest["kernel"]["packages"][0]
        assert (out / f"small-{release}.vmlinuz").is_file()
        lock = tmp_path / f"small-{release}.lock"
        assert locks.setdefault(release, lock.read_bytes()) == lock.read_bytes(), "the other kernel changed it"
    assert done.stdout.endswith("nothing has changed\n")
    both = versions(tmp_path / f"small-{newest}.lock"), versions(tmp_path / f"small-{older}.lock")
    assert f"linux-image-{newest}" in both[0] and f"linux-image-{newest}" not in both[1]
    assert preroot("build", recipe, "--kernel", older, "--output", out, "--locked").returncode == 0


def test_a_new_lock_keeps_what_the_recipe_s_own_has(engine: Engine, recipe: Path, tmp_path: Path) -> None:
    """Only the kernel differs: the base part of all kernels is the same. So old versions stay in the new lock."""
    newest = cloud_kernels(engine)[0]
    common = tmp_path / "small.lock"
    locked = engine.lock(engine.load(recipe), common)
    asked: list[Any] = []

    class Recorder:
        """The real source, with a note of what it is asked for."""

        def __init__(self) -> None:
            self.real = engine.source(engine.load(recipe).recipe.distribution)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def resolve(self, requests: Any, reporter: Any) -> Any:
            asked.append(tuple(requests))
            return self.real.resolve(requests, reporter)

    with Engine(engine.workspace, source=Recorder()) as other:
        loaded = other.load(recipe, Overrides(kernel=newest))
        other.lock(loaded, other.lock_path(loaded, tmp_path))
    busybox = next(package for package in locked.lock.packages if package.name == "busybox")
    assert f"busybox={busybox.version}" in asked[-1]


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "sid"])
def test_kernels_of_other_releases_by_their_release(
    preroot: Command, engine: Engine, recipe: Path, tmp_path: Path, release: str
) -> None:
    """Bookworm names its kernels otherwise; sid's linux-image is a package without content, of several others."""
    kernel = cloud_kernels(engine, release)[0]
    done = preroot("build", recipe, "--kernel", kernel, "--set", f"distribution.release={release}",
                   "--output", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / f"out/small-{kernel}.manifest.json").read_bytes())
    assert manifest["kernel"]["version"] == kernel and "ext4" in manifest["kernel"]["builtin"]
