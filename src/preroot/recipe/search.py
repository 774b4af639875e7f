# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where configuration is looked for: the search path, drop-ins and masking, as systemd.unit(5) has them.

A file in a higher directory replaces one of the same name in a lower directory. Drop-ins `NAME.d/*.toml` of all
directories are one list, sorted by file name, in which the same holds. A link to /dev/null masks what it replaces.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec import Struct

from preroot.errors import RecipeError
from preroot.unchanged import Stamp, stamp

#: Recipes, features, distributions and runtime files that come with preroot.
BUILT_IN = Path(__file__).resolve().parent.parent


class SearchPath(Struct, frozen=True):
    """The directories that are searched, in increasing priority."""

    directories: tuple[Path, ...] = (
        BUILT_IN,
        Path("/usr/lib/preroot"),
        Path("/usr/local/lib/preroot"),
        Path("/run/preroot"),
        Path("/etc/preroot"),
    )


#: The search path of an installed preroot.
SEARCH_PATH = SearchPath()


class Consulted:
    """Collects every path that was looked at: a result is still good while each of them is as it was.

    Paths that do not exist are among them: that one appears is a change too. Each is stamped when it is added, and it
    is added before it is read.
    """

    def __init__(self) -> None:
        self._stamps: dict[Path, Stamp] = {}

    def add(self, path: Path) -> Path:
        """Note that `path` is going to be looked at, and return it."""
        if path not in self._stamps:
            self._stamps[path] = stamp(path)
        return path

    @property
    def stamps(self) -> dict[Path, Stamp]:
        """Return the paths with their stamps, in the order in which they were first looked at."""
        return dict(self._stamps)


def is_masked(path: Path, *, empty: bool) -> bool:
    """Return whether `path` is a link to /dev/null, or (if `empty`) an empty file."""
    try:
        status = path.stat()
    except OSError:
        return False
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == os.makedev(1, 3)
    return empty and stat.S_ISREG(status.st_mode) and status.st_size == 0


def find(search: SearchPath, name: str, consulted: Consulted) -> Path | None:
    """Return the file `name` (`features/luks.toml`) of the highest directory that has it; None if none or masked."""
    for directory in reversed(search.directories):
        path = consulted.add(directory / name)
        if os.path.lexists(path):
            return None if is_masked(path, empty=True) else path
    return None


def stack(search: SearchPath, name: str, consulted: Consulted) -> tuple[Path, ...]:
    """Return the file `name` of every directory, the lowest first, from above the highest link to /dev/null on."""
    found: list[Path] = []
    for directory in search.directories:
        path = consulted.add(directory / name)
        if is_masked(path, empty=False):
            found = []
        elif os.path.lexists(path):
            found.append(path)
    return tuple(found)


def drop_ins(directories: tuple[Path, ...], consulted: Consulted) -> tuple[Path, ...]:
    """Return the drop-ins of `directories` (each a `NAME.d`, the lowest first), in the order in which they apply."""
    chosen: dict[str, Path] = {}
    for directory in directories:
        for name in toml_names(directory, consulted):
            chosen[name] = directory / name
    live = [chosen[name] for name in sorted(chosen) if not is_masked(chosen[name], empty=True)]
    return tuple(consulted.add(path) for path in live)


def toml_names(directory: Path, consulted: Consulted) -> list[str]:
    """Return the names of the TOML files in `directory` (none if it is missing). Raises RecipeError if unreadable."""
    consulted.add(directory)
    try:
        names = os.listdir(directory)  # noqa: PTH208 - Path objects for each name cost more than the listing
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RecipeError(f"{directory} cannot be listed: {error.strerror}", "check its permissions") from None
    return sorted(name for name in names if name.endswith(".toml") and not name.startswith("."))
