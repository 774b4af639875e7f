# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds where something is wrong with the machine: no room, no rights, no home, another time, few resources."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from small_world import OUTPUTS, World, argv, build, environment, outputs

BUILD = ("build", "small.toml", "--output", "out")


@pytest.fixture(scope="module")
def alone(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build makes that nothing hinders."""
    directory = tmp_path_factory.mktemp("alone")
    small_world.place(directory)
    assert build(directory).returncode == 0
    return outputs(directory)


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """Mount a tmpfs at a directory, which root alone may do."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], capture_output=True, check=False)
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount: {done.stderr.decode()}")
        pytest.skip("only who may mount can have a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def one_error(done: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """Return the error of a build that failed in good order: one line, and a way out."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    hints = [line for line in done.stderr.splitlines() if line.startswith("hint: ")]
    assert (len(errors), len(hints)) == (1, 1), done.stderr
    return f"{errors[0]} {hints[0]}"


@pytest.mark.parametrize(
    "case",
    [
        ("out", "512k", "the last image is still there"),
        pytest.param(("out", "3m", "the last image is still there"), marks=pytest.mark.matrix),
        ("out", "5900k", "the last image is still there"),
        ("cache", "64k", "PREROOT_CACHE"),
        pytest.param(("cache", "1m", "PREROOT_CACHE"), marks=pytest.mark.matrix),
        ("cache", "7m", "PREROOT_CACHE"),
        pytest.param(("cache", "12m", "PREROOT_CACHE"), marks=pytest.mark.matrix),
        pytest.param(("tmp", "4k", "TMPDIR"), marks=pytest.mark.matrix),
        ("tmp", "24k", "TMPDIR"),
    ],
)
def test_a_full_disk(small_world: World, alone: dict[str, bytes], tmp_path: Path, case: tuple[str, str, str]) -> None:
    """Whatever is full, the last image stays, nothing half-made is left, and with room the next build is as ever."""
    which, size, message = case
    small_world.place(tmp_path)
    last = {name: b"the last " + name.encode() for name in OUTPUTS}
    with mounted(tmp_path / which, f"size={size}"):
        (tmp_path / "out").mkdir(exist_ok=True)
        for name, data in last.items():
            (tmp_path / "out" / name).write_bytes(data)
        assert message in one_error(build(tmp_path))
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == last
        assert not list((tmp_path / "tmp").iterdir())
        half = [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".")]
        assert not half
        subprocess.run(["mount", "-o", "remount,size=200m", tmp_path / which], check=True)
        done = build(tmp_path)
        assert done.returncode == 0, done.stderr
        assert outputs(tmp_path) == alone


def test_a_cache_that_is_read_only(small_world: World, alone: dict[str, bytes], tmp_path: Path) -> None:
    """With all packages in it, a build with a lock works; without, it says what can't be written."""
    small_world.place(tmp_path)
    with mounted(tmp_path / "cache", "size=200m"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "cache"], check=True)
        assert "PREROOT_CACHE" in one_error(build(tmp_path))
        subprocess.run(["mount", "-o", "remount,rw", tmp_path / "cache"], check=True)
        assert build(tmp_path).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "cache"], check=True)
        shutil.rmtree(tmp_path / "out")
        done = build(tmp_path, "--locked")
        assert done.returncode == 0, done.stderr
        assert outputs(tmp_path) == alone
        # another compression: nothing of it is in the store, and nothing can be put there
        assert build(tmp_path, "--locked", "--set", "compression.level=1").returncode == 0


def limits(**values: int) -> Callable[[], None]:
    def limit() -> None:
        for name, value in values.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    return limit


#: name → variables (None: not set), what is done before the program starts, words before it
SETTINGS: dict[str, tuple[Mapping[str, str | None], Callable[[], object] | None, tuple[str, ...]]] = {
    "no home": ({"HOME": None, "XDG_CACHE_HOME": None}, None, ()),
    "a home that is not there": ({"HOME": "/nonexistent", "XDG_CACHE_HOME": "relative"}, None, ()),
    "umask 077": ({}, lambda: os.umask(0o077), ()),
    "umask 000": ({}, lambda: os.umask(0), ()),
    "Turkish": ({"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr"}, None, ()),
    "the plain locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, None, ()),
    "other hashes": ({"PYTHONHASHSEED": "815"}, None, ()),
    "few files": ({}, limits(RLIMIT_NOFILE=64), ()),
    "little memory": ({}, limits(RLIMIT_AS=1 << 30), ()),
    "no core, no locked memory": ({}, limits(RLIMIT_CORE=0, RLIMIT_MEMLOCK=0), ()),
    "no /dev/shm": ({}, None, ("unshare", "--mount", "sh", "-c", 'umount /dev/shm; exec "$@"', "sh")),
    "no streams": ({}, lambda: os.closerange(0, 3), ()),
    "ignored signals": ({}, None, ("nohup",)),
}


#: what other tests have too, or what is least likely to matter
SELDOM = ("no core, no locked memory", "the plain locale", "ignored signals", "other hashes", "umask 077")


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.matrix] if each in SELDOM else []) for each in SETTINGS]
)
def test_the_same_bytes_in_any_setting(small_world: World, alone: dict[str, bytes], tmp_path: Path, name: str) -> None:
    """From nothing, so every step runs in it."""
    variables, before, words = SETTINGS[name]
    small_world.place(tmp_path)
    env = {**environment(tmp_path), **{key: value for key, value in variables.items() if value is not None}}
    for key, value in variables.items():
        if value is None:
            env.pop(key, None)
    done = subprocess.run([*words, *argv(*BUILD)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
                          preexec_fn=before)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path) == alone
    for each in OUTPUTS:
        assert (tmp_path / "out" / each).stat().st_mode & 0o7777 == 0o644
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.stat().st_mode & 0o002]


@pytest.mark.parametrize(
    ("when", "message"),
    [("1970-01-02 03:04:05", "is this machine's clock right?"), ("2040-01-02 03:04:05", "the mirror is out of date")],
)
def test_another_time(small_world: World, alone: dict[str, bytes], tmp_path: Path, when: str, message: str) -> None:
    """apt takes no archive whose time is not now, and the error says so; with lock and packages the time is nothing."""
    small_world.place(tmp_path)

    def at(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["faketime", "-f", f"@{when}", *argv(*BUILD, *arguments)], cwd=tmp_path,
                              env=environment(tmp_path), capture_output=True, text=True, check=False)  # fmt: skip

    assert message in one_error(at())
    assert build(tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "cache" / "store")
    done = at("--locked")
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path) == alone
    assert at("--locked").returncode == 0
    done = subprocess.run(argv("store", "gc"), env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_outputs_in_odd_places(small_world: World, alone: dict[str, bytes], tmp_path: Path) -> None:
    small_world.place(tmp_path)
    with mounted(tmp_path / "disk", "size=50m"):  # another file system than the recipe's and the lock's
        (tmp_path / "out").symlink_to("disk/deeper")
        (tmp_path / "disk" / "deeper").mkdir()
        assert build(tmp_path).returncode == 0
        assert outputs(tmp_path) == alone
    (tmp_path / "out").unlink()
    (tmp_path / "out" / "small.manifest.json").mkdir(parents=True)
    assert "small.manifest.json: it is a directory" in one_error(build(tmp_path))
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").touch()
    assert build(tmp_path).returncode == 2  # the option says that it wants a directory
    (tmp_path / "out").unlink()
    long = "/".join(["d" * 250] * 17)
    done = subprocess.run(argv(*BUILD[:2], "--output", long), cwd=tmp_path, env=environment(tmp_path), text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert "File name too long" in one_error(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "disk", "small.lock", "small.toml", "tmp"]


@pytest.mark.parametrize("recipe", ["-", "/dev/stdin", "/dev/null", "."])
def test_a_recipe_that_is_no_file(tmp_path: Path, recipe: str) -> None:
    done = subprocess.run(argv("build", recipe, "--output", "out"), cwd=tmp_path, env=environment(tmp_path), text=True,
                          input='name = "x"\n', capture_output=True, check=False)  # fmt: skip
    assert "recipe" in (said := one_error(done, 2)) or "name a TOML file" in said
