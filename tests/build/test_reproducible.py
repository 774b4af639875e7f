# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same lock gives the same bytes: for another user, elsewhere, with other settings, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fixture_types import Command, LockMaker

from other_user import NOBODY, run_as_other
from preroot.engine import Workspace
from preroot.packages.lock import read_lock


def hand_over(directory: Path, way: list[str]) -> None:
    """Give a directory and what is in it to the other user; one of a user namespace has what this one has."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if way[0] == "setpriv":
            os.chown(path, NOBODY, NOBODY)


def test_another_user_elsewhere_builds_the_same_bytes(
    preroot: Command, workspace: Workspace, debian_lock: LockMaker, tmp_path: Path
) -> None:
    """The second build is another user's, in another directory, with another time zone, locale, umask, number of
    processors and order of hashes; it unpacks all packages anew, from files alone: there is no mirror."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:  # pytest's directories are for their owner alone
        if parent.owner() == Path.home().owner() and "pytest" in parent.name:
            parent.chmod(0o755)
    one, two = tmp_path / "one", tmp_path / "two" / "elsewhere"
    for each in (one, two):
        each.mkdir(parents=True)
        (each / "my.toml").write_text('name = "image"\n[kernel]\nmodules = "virtual"\n')
        shutil.copy(debian_lock(), each / "my.lock")
    first = preroot("build", "my.toml", "--output", "out", "--locked", cwd=one, umask=0o022,
                    env={"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0"})  # fmt: skip
    assert first.returncode == 0, first.stderr
    cache = tmp_path / "cache"
    (cache / "archives").mkdir(parents=True)
    for package in read_lock(debian_lock()).packages:
        shutil.copy(workspace.cache / "archives" / package.sha256, cache / "archives")
    way = run_as_other()
    for each in (tmp_path / "two", cache):
        hand_over(each, way)
    argv = [*way, "taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable, "-m", "preroot",
            "build", "my.toml", "--output", "out", "--set", "compression.threads=3", "--set",
            "distribution.mirror=http://127.0.0.1:1/none"]  # fmt: skip
    env: Mapping[str, str] = {
        "PATH": os.environ["PATH"], "PREROOT_CACHE": str(cache), "TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "4711", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    second = subprocess.run(argv, cwd=two, env=env, umask=0o077, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    for name in ("out/image.initrd", "out/image.manifest.json", "out/image.vmlinuz"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
        assert (one / name).stat().st_mode == (two / name).stat().st_mode
    assert first.stdout == second.stdout
    assert (one / "my.lock").read_bytes() == debian_lock().read_bytes()


def test_one_value_more_is_another_image(preroot: Command, debian_lock: LockMaker, tmp_path: Path) -> None:
    """What the comparison above rests on: images that differ do differ."""
    digests = set()
    for value in ("1", "2"):
        output = tmp_path / value
        output.mkdir()
        shutil.copy(debian_lock(), output / "preroot.lock")
        done = preroot("build", "--output", output, "--set", f"failure.delay={value}")
        assert done.returncode == 0, done.stderr
        digests.add((output / "preroot.initrd").read_bytes())
    assert len(digests) == 2
