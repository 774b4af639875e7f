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
_ELSEWHERE = "set TMPDIR to a directory that you can write, with room"


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Give an empty directory below TMPDIR for the time of the context: `preroot-KIND-XXXXXXXX`, for this user alone.

    Those that killed processes of this user left behind are removed first. Raises BuildError when there is no room.
    """
    import fcntl
    import shutil
    import tempfile

    try:
        base = temporary_directory()
        sweep(base)
        while True:
            path = tempfile.mkdtemp(prefix=f"{_PREFIX}{kind}-", dir=base)
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # a file system without locks: nothing is taken for a stray there
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.exists(path):  # noqa: PTH110
                    break
                os.close(lock)  # swept away by another process before it was locked
    except OSError as error:
        raise BuildError(f"cannot make a temporary directory: {error}", _ELSEWHERE) from None
    try:
        yield Path(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise BuildError(f"no space left in the temporary directory {path}: {error.strerror}", _ELSEWHERE) from None
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def temporary_directory() -> str:
    """Return the directory for temporary ones: $TMPDIR, else /tmp, or /var/tmp where that can't be written.

    Python's own tempfile.gettempdir would write a file there to try it, which kill -9 leaves behind.
    """
    named = os.environ.get("TMPDIR", "")
    if named:
        return os.path.abspath(named)  # noqa: PTH100
    return "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else "/var/tmp"


def sweep(base: str) -> int:
    """Remove the directories that killed processes of this user left in `base`; return how many there were."""
    import shutil

    found = 0
    with os.scandir(base) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if (
                    entry.name.startswith(_PREFIX)
                    and entry.is_dir(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_uid == os.getuid()
                    and remove_abandoned(entry.path, shutil.rmtree)
                ):
                    found += 1
    return found
