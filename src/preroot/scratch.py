# SPDX-License-Identifier: LGPL-2.1-or-later
"""Temporary directories that outlive nobody: each is locked by its owner, and what a killed one left is removed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from preroot.errors import BuildError
from preroot.staging import remove_abandoned

_PREFIX = "preroot-"
#: times that a removal is tried, a hundredth of a second apart
_TRIES = 50
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ELSEWHERE = "set TMPDIR to a directory that you can write, with room"


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Give an empty directory below TMPDIR for the time of the context: `preroot-KIND-XXXXXXXX`, for this user alone.

    Those that killed processes of this user left behind are removed first. Raises BuildError when there is no room.
    """
    base = temporary_directory()
    ours = base
    try:
        sweep(base, _PREFIX)
        with own_directory(f"{base}/{_PREFIX}{kind}-") as path:
            ours = str(path)  # what fails elsewhere from here on is not ours to explain, be it below `base` too
            yield path
    except OSError as error:
        # writing to a file that is open tells no name
        here = str(error.filename).startswith(ours) if error.filename else error.errno in _NO_ROOM
        if not here:
            raise
        raise BuildError(f"cannot use the temporary directory {base}: {error.strerror}", _ELSEWHERE) from None


@contextlib.contextmanager
def own_directory(start: str) -> Iterator[Path]:
    """Give an empty directory whose path begins with `start`, locked, until the context ends. Raises OSError."""
    import fcntl

    lock = -1
    path = f"{start}{os.urandom(4).hex()}"
    try:
        while lock < 0:
            os.mkdir(path, 0o700)  # noqa: PTH102
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # a file system without locks: nothing is taken for a stray there
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if not os.path.exists(path):  # noqa: PTH110 - swept away by another process before it was locked
                    os.close(lock)
                    lock = -1
        yield Path(path)
    finally:
        try:
            _remove(path)
        except BaseException:  # a signal, while removing: what was begun is ended first
            _remove(path)
            raise
        finally:
            if lock >= 0:
                os.close(lock)


def _remove(path: str) -> None:
    """Remove a directory; a program that a signal has met in its start may write there for a moment yet."""
    import shutil
    import time

    for _ in range(_TRIES):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.01)


def temporary_directory() -> str:
    """Return the directory for temporary ones: $TMPDIR, else /tmp, or /var/tmp where that can't be written.

    Python's own tempfile.gettempdir would write a file there to try it, which kill -9 leaves behind.
    """
    named = os.environ.get("TMPDIR", "")
    if named:
        return os.path.abspath(named)  # noqa: PTH100
    return "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else "/var/tmp"


def sweep(base: str, prefix: str = _PREFIX) -> int:
    """Remove the directories that killed processes of this user left in `base`; return how many there were.

    Only names that `own_directory` makes count: a user may well have a /tmp/preroot-test.
    """
    import re
    import shutil

    ours = re.compile(re.escape(prefix) + r"(?:[a-z]+-)?[0-9a-f]{8}")
    found = 0
    with os.scandir(base) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if (
                    ours.fullmatch(entry.name)
                    and entry.is_dir(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_uid == os.getuid()
                    and remove_abandoned(entry.path, shutil.rmtree)
                ):
                    found += 1
    return found
