# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several files in one commit: all or none, whatever fails; and what kill -9 leaves behind is removed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.staging import Staging, directories_alone, remove_abandoned

#: begins two files, says so, and waits to be killed
BEGIN = """
import sys
from pathlib import Path
from preroot.staging import Staging
with Staging() as staging:
    for name in sys.argv[1:]:
        staging.write(Path(name), b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def begin(*targets: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", BEGIN, *map(str, targets)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def test_nothing_has_its_name_before_the_commit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"last")
    with Staging() as staging:
        staging.write(tmp_path / "a", b"new")
        staging.write(tmp_path / "new" / "b", b"secret", secret=True)
        assert (tmp_path / "a").read_bytes() == b"last" and not (tmp_path / "new" / "b").exists()
        staging.commit()
    assert contents(tmp_path / "new") == {"b": b"secret"} and (tmp_path / "a").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "new"]
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "new" / "b").stat().st_mode & 0o7777 == 0o600


def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"last")
    with pytest.raises(KeyboardInterrupt), Staging() as staging:
        staging.write(tmp_path / "a", b"new")
        with staging.new(tmp_path / "b") as file:
            file.write(b"half")
            raise KeyboardInterrupt
    assert contents(tmp_path) == {"a": b"last"}


def test_a_file_that_is_the_same_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    before = (tmp_path / "a").stat()
    with Staging() as staging:
        staging.write(tmp_path / "a", b"same")
        staging.commit()
    after = (tmp_path / "a").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("call", ["fsync", "fchmod", "write"])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_disk_that_fills_up_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, which: int
) -> None:
    """The third of three files fails: the first two are whole by then, and must not be there either."""
    before = {"a": b"last a", "b": b"last b", "c": b"last c"}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    calls = 0

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    module = "preroot.staging.write_all" if call == "write" else f"os.{call}"
    from preroot import staging as staging_module

    real = getattr(staging_module, "write_all") if call == "write" else getattr(os, call)  # noqa: B009
    monkeypatch.setattr(module, full)
    with pytest.raises(BuildError, match="No space left") as caught, Staging() as staging:
        for name in before:
            staging.write(tmp_path / name, b"new")
        staging.commit()
    assert f"cannot write {tmp_path}/{'abc'[which - 1]}" in caught.value.message
    assert "free some space" in caught.value.hint
    assert contents(tmp_path) == before


def test_what_a_killed_build_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "image"
    killed = begin(target, tmp_path / "other")
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".image.txt").write_bytes(b"a user's own")
    with begin(target) as living:
        with Staging() as staging:
            staging.write(target, b"new")
            staging.commit()
        names = sorted(path.name for path in tmp_path.iterdir())
        # the living one's file, and that of another target, stay
        assert [name.partition(".")[2].partition(".")[0] for name in names if name.endswith(".part")] == [
            "image",
            "other",
        ]
        living.kill()
    assert contents(tmp_path)[".image.txt"] == b"a user's own"
    with Staging() as staging:
        staging.write(target, b"newer")
        staging.write(tmp_path / "other", b"o")
        staging.commit()
    assert contents(tmp_path) == {"image": b"newer", "other": b"o", ".image.txt": b"a user's own"}


def test_a_directory_with_an_owner_is_not_removed(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert not remove_abandoned(str(tmp_path), os.rmdir)
    os.close(descriptor)
    assert remove_abandoned(str(tmp_path), os.rmdir) and not tmp_path.exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_no_build_may_take_the_place_of(tmp_path: Path, make: object) -> None:
    target = tmp_path / "image"
    make(target)  # type: ignore[operator]
    with pytest.raises(BuildError, match=r"cannot write .*image: it is a "), Staging() as staging:
        staging.write(tmp_path / "kernel", b"new")
        staging.write(target, b"new")
        staging.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_a_link_is_replaced_and_what_it_leads_to_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"same")
    (tmp_path / "image").symlink_to("elsewhere")
    with Staging() as staging:
        staging.write(tmp_path / "image", b"same")
        staging.commit()
    assert not (tmp_path / "image").is_symlink()
    assert contents(tmp_path) == {"image": b"same", "elsewhere": b"same"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=63))
def test_names_of_any_length_and_characters(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        for wide in (name, name * (255 // len(name.encode()))):
            target = Path(directory) / wide
            with Staging() as staging:
                staging.write(target, b"x")
                staging.commit()
            assert [path.name for path in Path(directory).iterdir()] == [target.name]
            target.unlink()


def test_one_directory_by_two_names_does_not_wait_for_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    with directories_alone([tmp_path, tmp_path / "link", tmp_path / "."]) as opened:
        assert len(opened) == 1
