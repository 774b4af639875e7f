# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a build from nothing takes of memory, over its whole process tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import LockMaker

from bench.measure import Sampler
from preroot.engine import Engine, Overrides, Silent
from preroot.packages.lock import read_lock

#: bytes; the bar of docs/performance.md
MOST = 400_000_000
GENERIC = ("kernel.package=linux-image-amd64", "kernel.modules=generic")


@pytest.mark.parametrize("sets", [(), pytest.param(GENERIC, marks=pytest.mark.matrix)], ids=["virtual", "generic"])
def test_peak_memory_of_a_build_from_nothing(
    engine: Engine, debian_lock: LockMaker, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    """All packages are downloaded and unpacked, modules read, everything compressed: apt and its helpers count, too."""
    lock = debian_lock("trixie", "amd64", *sets)
    mirror = tmp_path / "mirror"
    packages = read_lock(lock).packages
    loaded = engine.load(None, Overrides(set=sets))
    archives = engine.source(loaded.recipe.distribution).fetch(packages, Silent())
    for package in packages:  # a mirror of files: what arrives is what counts, not how fast
        path = mirror / package.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        archived = archives[package.sha256]
        os.link(archived, path) if archived.stat().st_dev == path.parent.stat().st_dev else shutil.copy(archived, path)
    (tmp_path / "out").mkdir()
    shutil.copy(lock, tmp_path / "out" / "preroot.lock")
    options = [word for each in (*sets, f"distribution.mirror=file:{mirror}") for word in ("--set", each)]
    with subprocess.Popen(
        [sys.executable, "-m", "preroot", "build", "--output", "out", "--locked", *options], cwd=tmp_path,
        env={**os.environ, "PREROOT_CACHE": str(tmp_path / "cache")}, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        sampler = Sampler(process.pid)
        _, told = process.communicate()
        peak = sampler.stop()
    assert process.returncode == 0, told
    assert "downloading" in told and "unpacking" in told
    assert 40_000_000 < peak < MOST, f"{peak / 1e6:.0f} MB"
