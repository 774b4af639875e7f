# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds beside each other, beside gc and beside a download that was killed: each ends as if it had been alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from small_world import OUTPUTS, World, argv, build, environment, outputs

from preroot.engine import Engine, Workspace, read_built

BUILD = ("build", "small.toml", "--output", "out")


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    command = argv(*(arguments or BUILD))
    return subprocess.Popen(command, cwd=directory, env=environment(directory), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def end(process: subprocess.Popen[str]) -> str:
    said, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "Traceback" not in told
    return said


@pytest.fixture(scope="module")
def alone(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a build that is alone makes."""
    directory = tmp_path_factory.mktemp("alone")
    small_world.place(directory)
    assert build(directory).returncode == 0
    return outputs(directory)


def test_four_builds_at_once_with_nothing_there_yet(
    small_world: World, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """The same recipe, output, lock and empty store: all resolve, fetch, unpack and write the same."""
    small_world.place(tmp_path)
    for process in [start(tmp_path) for _ in range(4)]:
        end(process)
    assert outputs(tmp_path) == alone
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(OUTPUTS)
    assert not list((tmp_path / "tmp").iterdir())
    with Engine(Workspace(tmp_path / "cache")) as engine:
        assert engine.store.verify() == []


def test_two_recipes_into_one_output_do_not_mix(small_world: World, tmp_path: Path) -> None:
    """Whichever is last: image, kernel and manifest are of one build. Over and over, as they seldom meet."""
    small_world.place(tmp_path)
    assert build(tmp_path).returncode == 0
    for _ in range(4):
        for process in [start(tmp_path, *BUILD, "--set", f"failure.timeout={seconds}") for seconds in (11, 12, 13)]:
            end(process)
        read_built(tmp_path / "out" / "small.initrd")


def test_gc_in_a_loop_takes_nothing_away(small_world: World, alone: dict[str, bytes], tmp_path: Path) -> None:
    """`--older-than 0` removes all that nobody uses: a build from nothing beside it, and one that has all, succeed."""
    small_world.place(tmp_path)
    script = """
import sys
from pathlib import Path
from preroot.engine import Engine, Workspace
while True:
    with Engine(Workspace(Path(sys.argv[1]))) as engine:
        engine.clean(0)
        print("cleaned", flush=True)
"""
    loop = subprocess.Popen(argv(tmp_path / "cache", python=("-c", script)), stdout=subprocess.PIPE, text=True,
                            env=environment(tmp_path))  # fmt: skip
    try:
        for _ in range(2):
            assert loop.stdout and loop.stdout.readline() == "cleaned\n"
            processes = [start(tmp_path) for _ in range(2)]
            for process in processes:
                end(process)
            assert outputs(tmp_path) == alone
        assert loop.poll() is None
    finally:
        loop.kill()
        loop.communicate()


def test_a_build_waits_for_apt_of_a_killed_one(small_world: World, alone: dict[str, bytes], tmp_path: Path) -> None:
    """apt outlives the build that started it, and holds the lock on its state as long."""
    small_world.place(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    real = shutil.which("apt-get")
    script = f'#!/bin/sh\ntouch {tmp_path}/started\nsleep 3\n{real} "$@"\ntouch {tmp_path}/ended\n'
    (tools / "apt-get").write_text(script)
    (tools / "apt-get").chmod(0o755)
    path = f"{tools}:{environment(tmp_path)['PATH']}"
    first = subprocess.Popen(argv(*BUILD), cwd=tmp_path, env={**environment(tmp_path), "PATH": path})
    while not (tmp_path / "started").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    end(start(tmp_path))
    assert (tmp_path / "ended").exists()
    assert outputs(tmp_path) == alone


def test_who_resolves_second_takes_the_lock_of_the_first(small_world: World, tmp_path: Path) -> None:
    """The lock appears while a build resolves: it is used, and not written over."""
    small_world.place(tmp_path)
    assert build(tmp_path).returncode == 0
    other = (tmp_path / "small.lock").read_bytes().replace(b'"trust": {', b'"trust": {\n  "of": "the other",', 1)
    (tmp_path / "small.lock").unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "other.lock").write_bytes(other)
    script = f'#!/bin/sh\ncp {tmp_path}/other.lock {tmp_path}/small.lock\nexec {shutil.which("apt-get")} "$@"\n'
    (tools / "apt-get").write_text(script)
    (tools / "apt-get").chmod(0o755)
    done = build(tmp_path, PATH=f"{tools}:{environment(tmp_path)['PATH']}")
    assert done.returncode == 0, done.stderr
    assert b'"the other"' in (tmp_path / "small.lock").read_bytes()
