# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the store writes: aside and renamed, so that kill -9 at any moment leaves the old state or the new one.

There is no fsync: after a power failure a file may be empty or short, and every reader notices that by a digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from preroot.errors import BuildError

#: Layout of the store and of every record in it, and what the readers in `learn` find. Raise it when any of them
#: changes: packages are then unpacked again, beside what an older preroot keeps.
FORMAT = 9
#: Temporary files start so; readers never look at them, `Store.gc` removes those that a killed process left behind.
PREFIX = ".new-"
#: the way out of a cache that can't be used
OTHER_CACHE = "choose another cache directory (PREROOT_CACHE)"
_MAGIC = b"preroot1"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size


def store_error(error: OSError, directory: Path) -> BuildError:
    """Return what to tell the user when the store in `directory` cannot be written or read."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BuildError(f"no space left for the store in {directory}",
                          f"free some space, run `preroot store gc`, or {OTHER_CACHE}")  # fmt: skip
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return BuildError(f"the store in {directory} is not accessible: {error.strerror} ({error.filename})",
                          f"make it writable for this user, or {OTHER_CACHE}")  # fmt: skip
    return BuildError(f"the store in {directory} cannot be used: {error.strerror or error}",
                      OTHER_CACHE)  # fmt: skip


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give an empty file, open for reading and writing, that gets the name `path` when the context ends without error.

    The directory is made when it is not there. Raises OSError.
    """
    temporary = f"{path.parent}/{PREFIX}{os.urandom(8).hex()}"
    try:
        with os.fdopen(_create(temporary), "w+b", buffering=1 << 18) as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        try:
            _discard(temporary)
        except BaseException:  # a signal, while removing: what was begun is ended first
            _discard(temporary)
            raise
        raise


def _create(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        return os.open(path, flags, 0o600)


def _discard(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def write_sealed(path: Path, payload: bytes) -> None:
    """Write a record that carries its own digest, atomically. Raises OSError."""
    with new_file(path) as file:
        file.write(_MAGIC + hashlib.sha256(payload).digest())
        file.write(payload)


def read_sealed(path: Path) -> bytes | None:
    """Return the payload of a record, None when it is not there or damaged. Raises OSError for other failures."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    payload = data[_HEAD:]
    if data[:_HEAD] != _MAGIC + hashlib.sha256(payload).digest():
        return None
    return payload
