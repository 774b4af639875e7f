# SPDX-License-Identifier: LGPL-2.1-or-later
"""The nothing-changed check: was exactly this command run before, and is all as it was? Standard library only.

After a build, everything that decided about it is noted by path, times, inode and mode: recipes, drop-ins,
features (those that do not exist included, for one that appears is a change), preroot's own files, lock and outputs.
What a build reads is looked at before it is read, so what is saved while a build runs is a change for the next one. The
next run of the same command compares and is done in a few milliseconds, before anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What else decides about a build: the user, and the variables that move the cache.
_VARIABLES = ("PREROOT_CACHE", "XDG_CACHE_HOME", "HOME")
_PACKAGE = Path(__file__).resolve().parent

#: time of the last change of the content and of the last change of all (ns), inode, mode; None: nothing there. No size
#: among it: that of a secret is told nowhere, and no file changes without its ctime.
Stamp = tuple[int, int, int, int] | None

#: The kernel gives files the time of its last tick, which is up to 10 ms old (CONFIG_HZ=100; since 6.13 it is exact for
#: files that were looked at): so long after a change, another one may not show.
_TICK_NS = 20_000_000


def stamp_path(cache: Path, arguments: Sequence[str]) -> Path:
    """Return where the note for a command lies: by its arguments, the directory, the user, the environment and which
    preroot it is."""
    deciding = [*arguments, os.getcwd(), str(os.getuid()), str(_PACKAGE)]  # noqa: PTH109
    deciding += [os.environ.get(name, "") for name in _VARIABLES]
    return cache / "unchanged" / hashlib.sha256("\0".join(deciding).encode("utf-8", "surrogateescape")).hexdigest()


def stamp(path: str | Path) -> Stamp:
    """Return the stamp of a file or directory, None where there is none."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116  pathlib's costs five times as much, and there are 200 of these
    except (OSError, ValueError):  # a path with a NUL in it is the reader's to complain about
        return None


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file whose status is known."""
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_mode)


def own_files() -> tuple[list[str], list[str]]:
    """Return preroot's own directories and files: another version, or an edit, is a change."""
    directories, files = [], []
    for directory, below, names in os.walk(_PACKAGE):
        below[:] = [name for name in below if name != "__pycache__"]
        directories.append(directory)
        files += [f"{directory}/{name}" for name in names]
    return directories, files


class Watch:
    """Begins with a build: stamps preroot's own files as they are then."""

    def __init__(self) -> None:
        self._began = time.time_ns()
        self._directories, files = own_files()
        self._files = {path: stamp(path) for path in files}

    def note(self, inputs: Mapping[Path, Stamp], outputs: Mapping[Path, Stamp], said: str) -> bytes | None:
        """Return the note of a build that is done; None when something changed so shortly before it was read, or
        since, that no stamp would show a further change.

        Arguments: the stamps of what was read, taken before it was; those of what was written; what was printed.
        """
        read = {**self._files, **{str(path): each for path, each in inputs.items()}}
        if any(each is not None and each[1] > self._began - _TICK_NS for each in read.values()):
            return None
        # Python makes its __pycache__ in these when it first runs: they are as they are now.
        read |= {path: stamp(path) for path in self._directories}
        stamps = read | {str(path): each for path, each in outputs.items()}
        body = json.dumps({"said": said, "files": dict(sorted(stamps.items()))}).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def remember(cache: Path, arguments: Sequence[str], note: bytes | None) -> None:
    """Keep the note of a command. One that can't be written is no error: the next build is then done anew."""
    if note is None:
        return
    target = stamp_path(cache, arguments)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(note)
        aside.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()


def recall(cache: Path, arguments: Sequence[str]) -> str | None:
    """Return what the command printed when it was last run, if nothing has changed since, else None.

    A note that is damaged is none.
    """
    try:
        digest, _, body = stamp_path(cache, arguments).read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        note = json.loads(body)
        for path, before in note["files"].items():
            if stamp(path) != (None if before is None else tuple(before)):
                return None
        return str(note["said"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
