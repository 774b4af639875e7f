# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures for tests with real packages: a cache that outlives the run, locks made once a run, and the command line."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from fixture_types import Command, LockMaker
from small_world import SETS, World, make_world

from preroot.engine import Engine, Overrides, Workspace


@pytest.fixture(scope="session")
def workspace() -> Workspace:
    """A workspace whose cache is kept from run to run, so that packages are downloaded once; boot tests share it."""
    base = os.environ.get("PREROOT_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Workspace(Path(base).absolute() / "preroot-tests" / "preroot")


@pytest.fixture(scope="session")
def engine(workspace: Workspace) -> Iterator[Engine]:
    with Engine(workspace) as engine:
        yield engine


@pytest.fixture(scope="session")
def debian_lock(engine: Engine, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> LockMaker:
    """Return a function that locks the built-in recipe for a release and architecture, with further values of the
    command line, once a run whichever worker needs it first: a mirror may change while the tests run."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "locks"
    shared.mkdir(exist_ok=True)

    def make(release: str = "trixie", arch: str = "amd64", *sets: str) -> Path:
        values = (f"distribution.release={release}", f"distribution.arch={arch}", *sets)
        name = hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]
        path = shared / f"{release}-{arch}-{name}.lock"
        with path.with_suffix(".alone").open("w") as alone:
            fcntl.flock(alone, fcntl.LOCK_EX)
            if not path.exists():
                engine.lock(engine.load(None, Overrides(set=values)), path)
        return path

    return make


@pytest.fixture
def preroot(workspace: Workspace) -> Command:
    """Return a function that runs the command line in a process of its own, over the kept cache."""

    def run(
        *arguments: str | Path, env: Mapping[str, str] | None = None, python: tuple[str, ...] = (), **options: object
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PREROOT_CACHE": str(workspace.cache), **(env or {})}
        argv = [sys.executable, *python, "-m", "preroot", *map(str, arguments)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture(scope="session")
def small_world(
    engine: Engine, debian_lock: LockMaker, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> World:
    """Return the small Debian, made once a run whichever worker needs it first."""
    base = tmp_path_factory.getbasetemp()
    top = (base if worker_id == "master" else base.parent) / "small-world"
    top.mkdir(exist_ok=True)
    with (top / "alone").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        done = top / "world.json"
        if not done.exists():
            lock = debian_lock("trixie", "amd64", *SETS)
            done.write_bytes(msgspec.json.encode(make_world(top, engine, lock)))
        return msgspec.json.decode(done.read_bytes(), type=World)
