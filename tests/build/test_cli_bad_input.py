# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user can get wrong, and what a machine can lack: one line that names the thing, a way out, the last image
still there and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_types import Command, LockMaker
from msgspec import Struct

#: what stands for the image of an earlier build: a failed one must leave it alone
LAST = {"preroot.initrd": b"the last image", "preroot.manifest.json": b"its manifest", "preroot.vmlinuz": b"its kernel"}


class Case(Struct, frozen=True):
    """Arguments or the text of a recipe, and what the error must be."""

    status: int
    message: str
    hint: str
    sets: tuple[str, ...] = ()
    recipe: str = ""
    options: tuple[str, ...] = ()


CASES = {
    "key": Case(2, "my.toml:2: unknown key", "level", recipe="[compression]\nlevle = 3\n"),
    "table": Case(2, "my.toml:1: unknown key", "compression", recipe="[compresion]\nlevel = 3\n"),
    "type": Case(2, "my.toml:2: compression.level", "", recipe='[compression]\nlevel = "high"\n'),
    "syntax": Case(2, "my.toml", "", recipe="[compression\n"),
    "feature": Case(2, "there is no feature 'brtfs'", "btrfs", options=("--feature", "brtfs")),
    "feature in the recipe": Case(2, "my.toml:2: there is no feature 'lux'", "",
                                  recipe='[part.base]\nfeatures = ["...", "lux"]\n'),
    "option of a feature": Case(2, "ext4", "", recipe="[features.ext4]\nnonsense = 1\n"),
    "layout": Case(2, "initrdd", "initrd", options=("--layout", "initrdd")),
    "part": Case(2, "part.bas: no layout has such a part", "base", recipe='[part.bas]\nfeatures = ["ext4"]\n'),
    "release": Case(2, "unknown release 'trixi'", "trixie", sets=("distribution.release=trixi",)),
    "architecture": Case(2, "unknown architecture 'amd46'", "amd64", sets=("distribution.arch=amd46",)),
    "distribution": Case(2, "debain", "debian", sets=("distribution.name=debain",)),
    "package": Case(1, "systemd-cryptsetupp", "systemd-cryptsetup", sets=('packages=["systemd-cryptsetupp"]',)),
    "module": Case(1, "module viritofs, wanted by the recipe", "virtiofs", options=("--kernel-module", "viritofs")),
    "kernel": Case(1, "no kernel 9.9.9 in debian trixie", "the newest: 6.", options=("--kernel", "9.9.9")),
    "kernel of a package": Case(1, "no kernel 9.9.9 in the packages", "without kernel.package", options=(
        "--kernel", "9.9.9", "--set", "kernel.package=linux-image-cloud-amd64")),
    "taken file": Case(1, "usr/bin/nothing", "", sets=('take=["usr/bin/nothing"]',)),
    "source": Case(2, "my.toml:1: file[0].source", "", recipe='file = [{ path = "/x", source = "none" }]\n'),
    "mirror": Case(1, "127.0.0.1:1", "", sets=("distribution.mirror=http://127.0.0.1:1/",), options=("--update",)),
    "mirror's scheme": Case(2, "gopher", "", sets=("distribution.mirror=gopher://x/",), options=("--update",)),
    "format": Case(1, "squashfs", "cpio", options=("--format", "base=squashfs")),
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path, debian_lock: LockMaker) -> Path:
    """A directory with an earlier build's files in out/, and a lock that fits the recipe my.toml."""
    output = tmp_path / "out"
    output.mkdir()
    for name, data in LAST.items():
        (output / name).write_bytes(data)
    shutil.copy(debian_lock(), tmp_path / "my.lock")
    return tmp_path


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check(done: subprocess.CompletedProcess[str], status: int, message: str, hint: str) -> None:
    # which steps there are to do depends on what the cache has
    lines = [line for line in done.stderr.splitlines() if not re.fullmatch(r"[a-z ]+( [\d.]+( MB)?)?: [\d.]+ s", line)]
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    heads = [line.partition(":")[0] for line in lines]
    assert heads.count("error") == 1 and heads.count("hint") <= 1 and set(heads) <= {"error", "hint"}, done.stderr
    assert message in lines[0], done.stderr
    assert hint in lines[-1], done.stderr


@pytest.mark.parametrize("name", CASES)
def test_the_error_is_one_line_and_the_last_image_stays(preroot: Command, directory: Path, name: str) -> None:
    case = CASES[name]
    (directory / "my.toml").write_text(case.recipe or '[kernel]\nmodules = "virtual"\n')
    sets = [word for value in case.sets for word in ("--set", value)]
    before = contents(directory)
    command, options = ("lock", case.options) if "--update" in case.options else ("build", case.options)
    done = preroot(command, "my.toml", "--output", "out", *options, *sets, cwd=directory)
    check(done, case.status, case.message, case.hint)
    assert contents(directory) == before


def test_a_lock_that_is_damaged(preroot: Command, directory: Path) -> None:
    (directory / "my.toml").write_text("")
    (directory / "my.lock").write_text('{"format": 1')
    done = preroot("build", "my.toml", "--output", "out", cwd=directory)
    check(done, 2, "my.lock: not JSON", "preroot lock --update")


def test_a_cache_that_is_a_file(preroot: Command, directory: Path) -> None:
    (directory / "my.toml").write_text("")
    (directory / "file").touch()
    before = contents(directory)
    done = preroot("build", "my.toml", "--output", "out", cwd=directory, env={"PREROOT_CACHE": str(directory / "file")})
    check(done, 1, str(directory / "file"), "PREROOT_CACHE")
    assert contents(directory) == before


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[None]:
    """Mount a tmpfs of `size` bytes at a directory, as root; unmount it in the end."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=False,
                             capture_output=True)  # fmt: skip
    if mounted.returncode:
        pytest.skip("only who may mount can have a small disk; the limit of file sizes is tested instead")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("full", ["out", "cache", "cache with packages"])
def test_a_full_disk(preroot: Command, directory: Path, full: str, workspace: object) -> None:
    (directory / "my.toml").write_text("")
    disk = directory / "disk"
    disk.mkdir()
    with small_disk(disk, 2 << 20 if full == "out" else 30 << 20):
        if full == "out":
            for name, data in LAST.items():
                (disk / name).write_bytes(data)
            done = preroot("build", "my.toml", "--output", "disk", cwd=directory)
            check(
                done, 1, "cannot write disk/preroot.vmlinuz: No space left on device", "the last image is still there"
            )
            assert contents(disk) == LAST
            return
        if full == "cache with packages":  # these fit, and there is no room to unpack them
            archives = disk / "archives"
            archives.symlink_to(getattr(workspace, "cache") / "archives")  # noqa: B009 - only its path counts here
        done = preroot("build", "my.toml", "--output", "out", cwd=directory, env={"PREROOT_CACHE": str(disk)})
        check(done, 1, "", "PREROOT_CACHE")
        assert "full" in done.stderr or "No space left" in done.stderr or "not enough" in done.stderr.lower()
    assert {name: contents(directory / "out")[name] for name in LAST} == LAST
    assert set(contents(directory / "out")) == set(LAST)


def test_a_limit_of_file_sizes(preroot: Command, directory: Path) -> None:
    """What an ordinary user's full quota looks like: writing fails in the middle of a file."""
    (directory / "my.toml").write_text("")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    assert preroot("plan", "my.toml", cwd=directory).returncode == 0  # the store has all packages now
    done = preroot("build", "my.toml", "--output", "out", cwd=directory, preexec_fn=limit)
    check(done, 1, "cannot write out/preroot.vmlinuz: File too large", "")
    assert contents(directory / "out") == LAST


def test_directories_that_cannot_be_written(preroot: Command, directory: Path) -> None:
    (directory / "my.toml").write_text("")
    closed = directory / "closed"
    closed.mkdir()
    lock = (directory / "my.lock").rename(directory / "saved")
    with contextlib.ExitStack() as stack:
        if os.getuid() == 0:  # permissions do not hold root back
            stack.enter_context(small_disk(closed, 1 << 20))
            subprocess.run(["mount", "-o", "remount,ro", closed], check=True)
        else:
            closed.chmod(0o555)
        for output in ("closed", "closed/new"):
            done = preroot("build", "my.toml", "--output", output, cwd=directory)
            check(done, 1, "closed", "choose another --output")
            assert done.stderr.startswith("error: ")  # nothing has been resolved or fetched for it
        lock.rename(directory / "my.lock")
        done = preroot("build", "my.toml", "--output", "out", cwd=directory, env={"PREROOT_CACHE": str(closed)})
        check(done, 1, "closed", "PREROOT_CACHE")
    assert contents(directory / "out") == LAST
