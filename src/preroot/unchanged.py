# SPDX-License-Identifier: LGPL-2.1-or-later
"""The nothing-changed check: was exactly this command run before, and is all as it was? Standard library only.

After a build, everything that decided about it is noted by path, times and inode: recipes, drop-ins, features
(those that do not exist included, for one that appears is a change), preroot's own files, lock and outputs. The next
run of the same command compares these and is done in a few milliseconds, before anything heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

#: What else decides about a build: the user, and the variables that move the cache.
_VARIABLES = ("PREROOT_CACHE", "XDG_CACHE_HOME", "HOME")
_PACKAGE = Path(__file__).resolve().parent

#: No size among it: that of a secret is told nowhere, and no file changes without its ctime.
Stamp = tuple[int, int, int, int] | None


def stamp_path(cache: Path, arguments: Sequence[str]) -> Path:
    """Return where the note for a command lies: by its arguments, the directory, the user and the environment."""
    deciding = [*arguments, os.getcwd(), str(os.getuid()), *(os.environ.get(name, "") for name in _VARIABLES)]  # noqa: PTH109
    return cache / "unchanged" / hashlib.sha256("\0".join(deciding).encode("utf-8", "surrogateescape")).hexdigest()


def stamp(path: str) -> Stamp:
    """Return mtime, ctime, inode and mode of a file or directory, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  pathlib's costs five times as much, and there are 200 of these
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)


def own_files() -> list[str]:
    """Return preroot's own files and directories: another version, or an edit, is a change."""
    found = []
    for directory, directories, files in os.walk(_PACKAGE):
        directories[:] = [name for name in directories if name != "__pycache__"]
        found.append(directory)
        found += [f"{directory}/{name}" for name in files]
    return found


def remember(cache: Path, arguments: Sequence[str], paths: Iterable[Path], said: str) -> None:
    """Note that the command has been done with `paths` as they are now; `said` is what it printed.

    A note that can't be written is no error: the next build is then done anew.
    """
    files = sorted({*map(str, paths), *own_files()})
    note = json.dumps({"said": said, "files": {path: stamp(path) for path in files}})
    target = stamp_path(cache, arguments)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        aside.write_text(note)
        aside.replace(target)
    except OSError:
        return


def recall(cache: Path, arguments: Sequence[str]) -> str | None:
    """Return what the command printed when it was last run, if nothing has changed since, else None."""
    try:
        note = json.loads(stamp_path(cache, arguments).read_text())
        files: dict[str, list[int] | None] = note["files"]
        for path, before in files.items():
            now = stamp(path)
            if (None if before is None else tuple(before)) != now:
                return None
        if len(files) < len(own_files()):
            return None
        return str(note["said"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
