# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 at any moment of a build: the last image stays, the next build is as if nothing had been, nothing is left."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec import Struct
from small_world import OUTPUTS, World, argv, build, environment, outputs

from preroot.engine import Engine, Workspace, read_built
from preroot.errors import BuildError

KILLER = str(Path(__file__).with_name("killer.py"))
#: what the build that is killed makes another image with
CHANGE = ("--set", "failure.timeout=77")


class Undisturbed(Struct, frozen=True):
    """What comes of builds that nobody disturbs, and how many calls the second has at which it can be killed."""

    before: dict[str, bytes]
    after: dict[str, bytes]
    calls: int


def killed(directory: Path, number: int, delay: float, statuses: Collection[int] = (0, -9), **more: str) -> int:
    """Build anew, killed at a call; return the exit status, which must be one of these."""
    words = ("build", "small.toml", "--output", "out", *CHANGE)
    command = argv(str(number), str(delay), directory / "calls", *words, python=(KILLER,))
    done = subprocess.run(command, cwd=directory, env=environment(directory, **more), capture_output=True, check=False)
    assert done.returncode in statuses, done.stderr
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode


def begin(world: World, directory: Path, before: dict[str, bytes]) -> None:
    """Make a directory with a recipe and the outputs of an earlier build of it, and an empty cache."""
    world.place(directory)
    (directory / "out").mkdir()
    for name, data in before.items():
        (directory / ("out" if name in OUTPUTS else ".") / name).write_bytes(data)


@pytest.fixture(scope="module")
def undisturbed(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory = tmp_path_factory.mktemp("undisturbed")
    small_world.place(directory)
    assert build(directory).returncode == 0
    before = outputs(directory)
    # so that all outputs of the two are different, the kernel included
    digests = [sha256(each).hexdigest().encode() for each in (before["small.vmlinuz"], b"the last kernel")]
    before["small.vmlinuz"] = b"the last kernel"
    assert digests[0] in before["small.manifest.json"]
    before["small.manifest.json"] = before["small.manifest.json"].replace(digests[0], digests[1])
    shutil.rmtree(directory / "cache")
    assert killed(directory, 0, 0) == 0
    after = outputs(directory)
    assert before["small.initrd"] != after["small.initrd"]
    return Undisturbed(before, after, int((directory / "calls").read_text()))


def strays(directory: Path) -> list[str]:
    """Return what is there and was made to be gone: everything hidden, temporary, or half-made."""
    known = {directory / "out" / name for name in OUTPUTS} | {directory / "small.lock", directory / "small.toml"}
    found = [path for path in (directory, directory / "out") for path in path.iterdir() if path.is_file()]
    found = [path for path in found if path not in known and path.name != "calls"]
    found += (directory / "tmp").iterdir()
    if (directory / "cache").exists():
        found += [path for path in (directory / "cache").rglob("*") if path.name.startswith(".")
                  or "partial" in path.parent.name]  # fmt: skip
    return sorted(str(path.relative_to(directory)) for path in found)


def check_after_kill(directory: Path, undisturbed: Undisturbed) -> None:
    """Check what a killed build left, then what the next one and gc make of it."""
    left = outputs(directory)
    for name in OUTPUTS:
        assert left[name] in (undisturbed.before[name], undisturbed.after[name]), name
    whole = [{name: each[name] for name in OUTPUTS} for each in (undisturbed.before, undisturbed.after)]
    if {name: left.get(name) for name in OUTPUTS} in whole:
        read_built(directory / "out" / "small.initrd")
    else:  # between two names
        with pytest.raises(BuildError, match="of two builds"):
            read_built(directory / "out" / "small.initrd")
    with Engine(Workspace(directory / "cache")) as engine:
        assert engine.store.verify() == []
    done = build(directory, *CHANGE)
    assert done.returncode == 0, done.stderr
    assert outputs(directory) == undisturbed.after
    assert not [path for path in strays(directory) if path.startswith("out/")]
    done = subprocess.run(argv("store", "gc"), env=environment(directory), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert strays(directory) == []


def points(calls: int, number: int, seed: int) -> Iterator[tuple[int, float]]:
    """Yield so many moments, spread evenly over the build's calls: half of them at a call, half a little after one."""
    chance = random.Random(seed)
    for place in range(number):
        low, high = place * calls // number, (place + 1) * calls // number
        call = 1 + chance.randrange(low, max(high, low + 1))
        yield call, 0 if place % 2 else chance.random() * 0.05


def kill_often(world: World, undisturbed: Undisturbed, top: Path, number: int, seed: int) -> None:
    died = 0
    for place, (call, delay) in enumerate(points(undisturbed.calls, number, seed)):
        directory = top / str(place)
        begin(world, directory, undisturbed.before)
        died += killed(directory, call, delay) == -9
        try:
            check_after_kill(directory, undisturbed)
        except BaseException as error:
            error.add_note(f"killed at call {call} of {undisturbed.calls}, {delay} s after it (seed {seed})")
            raise
        shutil.rmtree(directory)
    assert died > number * 3 // 4  # the rest had ended within their delay


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_at_a_few_moments(small_world: World, undisturbed: Undisturbed, tmp_path: Path, seed: int) -> None:
    kill_often(small_world, undisturbed, tmp_path, 6, seed)


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(100, 110))
def test_kill_at_200_moments(small_world: World, undisturbed: Undisturbed, tmp_path: Path, seed: int) -> None:
    kill_often(small_world, undisturbed, tmp_path, 20, seed)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_kill_between_two_names(small_world: World, undisturbed: Undisturbed, tmp_path: Path, which: int) -> None:
    """At the renaming of each output, in their order."""
    directory = tmp_path / "build"
    begin(small_world, directory, undisturbed.before)
    assert killed(directory, -which, 0) == -9
    left = outputs(directory)
    done = [left[name] == undisturbed.after[name] for name in ("small.vmlinuz", "small.initrd", "small.manifest.json")]
    assert done == [place < which - 1 for place in range(3)]
    check_after_kill(directory, undisturbed)


def interrupt_often(world: World, undisturbed: Undisturbed, top: Path, number: int, seed: int) -> None:
    ended = 0
    signals = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
    for place, (call, delay) in enumerate(points(undisturbed.calls, number, seed)):
        each = tuple(signals)[place % 3]
        directory = top / str(place)
        begin(world, directory, undisturbed.before)
        before = signal.signal(each, signal.SIG_DFL)  # what starts these tests may ignore it, and that is inherited
        try:
            status = killed(directory, call, delay, (0, signals[each]), KILL_WITH=str(int(each)))
            ended += status != 0
            left = outputs(directory)
            whole = undisturbed.before if status else undisturbed.after
            assert {name: left[name] for name in OUTPUTS} in (
                {name: whole[name] for name in OUTPUTS},
                {name: undisturbed.after[name] for name in OUTPUTS},
            )
            assert [path for path in strays(directory) if "/partial/" not in path] == []
        except BaseException as error:
            error.add_note(f"signal {each} at call {call} of {undisturbed.calls}, {delay} s after it (seed {seed})")
            raise
        finally:
            signal.signal(each, before)
        shutil.rmtree(directory)
    assert ended > number // 2


@pytest.mark.parametrize("seed", [1])
def test_interrupted_at_a_few_moments(small_world: World, undisturbed: Undisturbed, tmp_path: Path, seed: int) -> None:
    """A signal that asks to end leaves nothing behind at all, and no traceback."""
    interrupt_often(small_world, undisturbed, tmp_path, 9, seed)


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(200, 206))
def test_interrupted_at_120_moments(small_world: World, undisturbed: Undisturbed, tmp_path: Path, seed: int) -> None:
    interrupt_often(small_world, undisturbed, tmp_path, 20, seed)
