# SPDX-License-Identifier: LGPL-2.1-or-later
"""How preroot begins, whatever it is started with: closed streams, odd masks, no home, somebody else's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from other_user import NOBODY
from preroot import cache
from preroot.cache import default_cache
from preroot.errors import BuildError

COMMAND = [sys.executable, "-m", "preroot"]


def run_closed(closed: Sequence[int], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with these of its standard streams closed."""

    def close() -> None:
        for number in closed:
            os.close(number)

    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, preexec_fn=close)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("arguments", [("features",), ("features", "nonexistent"), ("schema",)])
def test_closed_streams(closed: tuple[int, ...], arguments: tuple[str, ...]) -> None:
    normal, done = run_closed((), *arguments), run_closed(closed, *arguments)
    assert done.returncode == normal.returncode
    assert done.stdout == (b"" if 1 in closed else normal.stdout)
    assert done.stderr == (b"" if 2 in closed else normal.stderr)


def test_a_program_that_is_run_does_not_write_into_a_file_of_ours(tmp_path: Path) -> None:
    """What closed streams do without care: the first file that is opened is everybody's standard output."""
    script = """
import subprocess, sys
from preroot.__main__ import _open_standard_streams
_open_standard_streams()
with open(sys.argv[1], "wb"):
    subprocess.run([sys.executable, "-c", "import os; os.write(1, b'chatter')"])
"""

    def close() -> None:
        os.close(1)

    subprocess.run([sys.executable, "-c", script, str(tmp_path / "file")], check=True, preexec_fn=close)
    assert (tmp_path / "file").read_bytes() == b""


def test_output_that_can_not_be_written() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, "features"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: cannot write standard output: No space left on device\n")


def test_output_whose_reader_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "features"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"PREROOT_CACHE": "relative"}, "{cwd}/relative"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "{home}"}, "/x/preroot"),
        # "All paths set in these environment variables must be absolute" (XDG Base Directory Specification): ignored
        ({"XDG_CACHE_HOME": "x", "HOME": "{home}"}, "{home}/.cache/preroot"),
        ({"HOME": "/nonexistent"}, "{public}/preroot-{uid}"),
        ({"HOME": "relative"}, "{public}/preroot-{uid}"),
    ],
)
def test_where_the_cache_is(
    environment: dict[str, str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"cwd": os.getcwd(), "home": str(tmp_path), "public": str(tmp_path / "public"), "uid": str(os.getuid())}  # noqa: PTH109
    monkeypatch.setattr(cache, "_PUBLIC", names["public"])
    found = default_cache({key: value.format(**names) for key, value in environment.items()})
    assert str(found) == wanted.format(**names)


def test_the_cache_in_a_public_place_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PUBLIC", str(tmp_path))
    before = os.umask(0)
    try:
        found = default_cache({"HOME": "/nonexistent"})
    finally:
        os.umask(before)
    assert found.stat().st_mode & 0o7777 == 0o700
    assert default_cache({"HOME": "/nonexistent"}) == found
    found.chmod(0o770)
    with pytest.raises(BuildError, match="is not this user's own"):
        default_cache({"HOME": "/nonexistent"})
    found.rmdir()
    found.symlink_to(tmp_path)
    with pytest.raises(BuildError, match="is not this user's own"):
        default_cache({"HOME": "/nonexistent"})
    if os.getuid() == 0:
        found.unlink()
        found.mkdir(mode=0o700)
        os.chown(found, NOBODY, NOBODY)
        with pytest.raises(BuildError, match="is not this user's own"):
            default_cache({"HOME": "/nonexistent"})


def test_what_is_made_is_not_for_everybody_to_change(tmp_path: Path) -> None:
    """Whoever could write into the cache could write what comes out of it: records there are not signed."""
    script = "import sys; from preroot.__main__ import main; sys.argv = ['preroot', 'schema']\ntry: main()\n" \
             "except SystemExit: pass\nimport os; os.mkdir('made')"  # fmt: skip

    def no_mask() -> None:
        os.umask(0)

    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, preexec_fn=no_mask)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o775
