# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock pins preroot, its features and the tools: a build says what has changed, --locked refuses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Command, LockMaker

import preroot as package


@pytest.fixture
def output(tmp_path: Path, debian_lock: LockMaker, preroot: Command) -> Path:
    """An output directory with an image of the built-in recipe and its lock, completed by that build."""
    directory = tmp_path / "out"
    directory.mkdir()
    shutil.copy(debian_lock(), directory / "preroot.lock")
    done = preroot("build", "--output", directory)
    assert done.returncode == 0, done.stderr
    return directory


def edit_lock(output: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    lock = output / "preroot.lock"
    data = json.loads(lock.read_bytes())
    change(data)
    lock.write_text(json.dumps(data))
    return lock.read_bytes()


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "preroot": (lambda lock: lock.update(preroot="0.0.1"), "the lock was written by preroot 0.0.1, this is"),
    "tool": (lambda lock: lock["tools"].update(libzstd="1.4.0"), "libzstd is 1.* here and 1.4.0 in the lock"),
    "feature": (
        lambda lock: lock["data"].update({"feature udev": "0" * 64}),
        "feature udev: not as when the lock was written",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_under_locked_and_else_written_to_the_lock(
    preroot: Command, output: Path, name: str
) -> None:
    change, says = CHANGES[name]
    completed = (output / "preroot.lock").read_bytes()
    first, _, rest = says.partition("*")
    edited = edit_lock(output, change)
    image = (output / "preroot.initrd").read_bytes()
    done = preroot("build", "--output", output, "--locked")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-2].startswith(f"error: --locked: {first}")
    assert rest in done.stderr and done.stderr.splitlines()[-1].startswith("hint:")
    assert (output / "preroot.lock").read_bytes() == edited and (output / "preroot.initrd").read_bytes() == image
    done = preroot("build", "--output", output)
    assert done.returncode == 0
    assert f"note: {first}" in done.stderr and "the lock has been brought up to date" in done.stderr
    assert (output / "preroot.lock").read_bytes() == completed
    assert preroot("build", "--output", output, "--locked").returncode == 0


def test_a_runtime_file_that_is_used_is_pinned(preroot: Command, output: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(Path(package.__file__).parent, source / "preroot", ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(source)}
    with (source / "preroot/features/xen.toml").open("a") as feature:
        feature.write("# a comment, and of a feature that is not used\n")
    assert preroot("build", "--output", output, "--locked", env=env, cwd=tmp_path).returncode == 0
    with (source / "preroot/runtime/systemd/emergency").open("a") as script:
        script.write("# another line\n")
    done = preroot("build", "--output", output, "--locked", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: --locked: runtime systemd/emergency: not as when the lock was written" in done.stderr


def test_a_lock_without_tools_is_no_error_and_is_told(preroot: Command, output: Path) -> None:
    edit_lock(output, lambda lock: lock.update(tools={}))
    done = preroot("build", "--output", output, "--locked", "--set", "failure.delay=3")
    assert done.returncode == 0
    assert "note: the lock does not pin kmod, libzstd: a build without --locked adds it" in done.stderr


def test_another_recipe_with_the_same_packages_is_not_refused(preroot: Command, output: Path) -> None:
    before = (output / "preroot.lock").read_bytes()
    for changed in (["--set", 'part.base.features=["...", "xen"]'], ["--feature", "-erofs"]):
        done = preroot("build", "--output", output, "--locked", *changed)
        assert done.returncode == 0, done.stderr
        assert ("does not pin feature xen" in done.stderr) == ("xen" in changed[-1])
    assert (output / "preroot.lock").read_bytes() == before
