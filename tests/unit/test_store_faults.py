# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store under parallel use, kill -9, full disks and missing rights."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import deb_samples as samples
import msgspec
import pytest
from store_samples import ELF, PACKAGE, TREE

from preroot.errors import BuildError
from preroot.packages import aside
from preroot.packages.model import Package
from preroot.packages.store import Store

UNPACK = """
import sys
from pathlib import Path
import msgspec
from preroot.packages.model import Package
from preroot.packages.store import Store
package = msgspec.json.decode(sys.argv[1], type=Package)
print("ready", flush=True)
sys.stdin.readline()
while True:
    with Store(Path(sys.argv[2])) as store:
        index = store.unpack(package, Path(sys.argv[3]))
        for each in index.files:
            if each.type == "file":
                store.read(package.sha256, each)
    if "forever" not in sys.argv:
        break
"""


def start(package: Package, top: Path, file: Path, *words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", UNPACK, msgspec.json.encode(package).decode(), str(top), str(file), *words]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def large_deb() -> bytes:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
    return samples.deb(samples.member(b"./usr/large", content) + TREE, ".gz")


def test_processes_that_unpack_the_same_package_all_succeed(top: Path, tmp_path: Path) -> None:
    data = large_deb()
    package, file = samples.package_of(data), samples.saved(data, tmp_path)
    processes = [start(package, top, file) for _ in range(4)]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert sorted(path.suffix for path in top.rglob("*") if path.is_file()) == [".blob", ".index"]


def test_kill_at_any_moment_leaves_a_sound_store(top: Path, tmp_path: Path) -> None:
    data = large_deb()
    package, file = samples.package_of(data), samples.saved(data, tmp_path)
    for number in range(12):
        process = start(package, top, file, "forever")
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        time.sleep(0.013 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        with Store(top) as store:
            index = store.index(package)
            for each in index.files if index else ():
                if each.type == "file":
                    store.read(package.sha256, each)
            assert store.verify() == []
    strays = list(top.rglob(aside.PREFIX + "*"))
    for path in strays:
        os.utime(path, (1, 1))
    with Store(top) as store:
        store.unpack(package, file)
        assert store.gc([package.sha256], 0).removed == len(strays)
    assert sorted(path.suffix for path in top.rglob("*") if path.is_file()) == [".blob", ".index"]


def test_gc_takes_nothing_away_from_those_who_build(top: Path, tmp_path: Path) -> None:
    """Two processes unpack and read, over and over, while a third removes all that it may; it waits for nobody. When
    they are killed, it may remove everything at once."""
    data = large_deb()
    package, file = samples.package_of(data), samples.saved(data, tmp_path)
    processes = [start(package, top, file, "forever") for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
    with Store(top) as store:
        while store.index(package) is None:
            time.sleep(0.01)
        for _ in range(100):
            store.gc([], 0)
            assert [process.poll() for process in processes] == [None, None]
        for process in processes:
            process.kill()
            process.communicate(timeout=60)
        store.gc([], 0)
    assert not [path for path in top.rglob("*") if path.is_file()]


@pytest.mark.parametrize("others", [True, False])
def test_who_begins_waits_for_a_gc(top: Path, tmp_path: Path, others: bool) -> None:
    data = large_deb()
    package, file = samples.package_of(data), samples.saved(data, tmp_path)
    with Store(top) as store, Store(top) as other:
        store.unpack(package, file)
        if others:
            assert other.index(package)
        with store.presence.cleaning() as alone:
            assert alone != others
            process = start(package, top, file)
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
            time.sleep(0.2)
            assert process.poll() is None  # it would have ended long ago
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_store_without_write_access(full: Path, file: Path, tmp_path: Path) -> None:
    """Reading works, writing is one line: as another user, because root may write anywhere."""
    script = """
import os, sys
from pathlib import Path
import msgspec
from preroot.errors import BuildError
from preroot.packages.model import Package
from preroot.packages.store import Store
package = msgspec.json.decode(sys.argv[1], type=Package)
file, top, other = Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
import preroot.packages.store_modules, preroot.packages.unpack, tempfile, preroot.packages.learn, lzma
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with Store(top) as store:
    index = store.index(package)
    print(sum(len(store.read(package.sha256, each)) for each in index.files if each.type == "file"))
    for action in (lambda: store.unpack(package, file), lambda: store.remember("a", b"b"),
                   lambda: store.put_object(b"x"), lambda: Store(other).index(package)):
        try:
            action()
        except BuildError as error:
            print(error.message, "|", error.hint)
"""
    for path in (full, *full.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    closed = tmp_path / "closed"
    (closed / f"v{aside.FORMAT}" / "packages").mkdir(parents=True)
    closed.chmod(0)
    for path in [tmp_path, *tmp_path.parents][:-2]:
        path.chmod(path.stat().st_mode | 0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, msgspec.json.encode(PACKAGE).decode(), str(file), str(full), str(closed)],
            capture_output=True, check=False, text=True, cwd="/",
        )  # fmt: skip
    finally:
        closed.chmod(0o755)
        for path in (full, *full.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert int(lines[0]) > len(ELF)
    assert len(lines) == 5
    for line in lines[1:]:
        assert "store" in line
        assert "is not accessible" in line
        assert "choose another cache directory" in line


def test_a_full_disk_is_one_line_and_leaves_nothing(top: Path, tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
import msgspec
from preroot.errors import BuildError
from preroot.packages.model import Package
from preroot.packages.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Store(Path(sys.argv[3])).unpack(msgspec.json.decode(sys.argv[1], type=Package), Path(sys.argv[2]))
except BuildError as error:
    print(error)
"""
    data = large_deb()
    file = samples.saved(data, tmp_path)
    argv = [sys.executable, "-c", script, msgspec.json.encode(samples.package_of(data)).decode(), str(file), str(top)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    assert "the store in" in done.stdout
    assert "choose another cache directory" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not [path for path in top.rglob("*") if path.is_file()]


def test_no_space_names_gc_as_the_way_out(top: Path) -> None:
    error = aside.store_error(OSError(28, "No space left on device"), top)
    assert "no space left" in error.message
    assert "preroot store gc" in error.hint


def test_a_file_where_the_directory_should_be(tmp_path: Path, file: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with Store(tmp_path / "taken") as store:
        assert store.index(PACKAGE) is None
        with pytest.raises(BuildError, match="taken"):
            store.unpack(PACKAGE, file)


# Kernel modules
