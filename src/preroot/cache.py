# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the cache directory is. Standard library only: it is asked before anything heavy is imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from preroot.errors import BuildError

#: where everybody may make files that stay (file-hierarchy(7))
_PUBLIC = "/var/tmp"


def default_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory: $PREROOT_CACHE, $XDG_CACHE_HOME/preroot, ~/.cache/preroot, or one in /var/tmp.

    The last is for users without a home (containers, build daemons); it has the user's number in its name. It is made
    now, for its owner alone, as anybody may make it there: one that is another's, or that others may write to, raises
    BuildError.
    """
    if environment.get("PREROOT_CACHE"):
        return Path(environment["PREROOT_CACHE"]).absolute()
    if environment.get("XDG_CACHE_HOME", "").startswith("/"):
        return Path(environment["XDG_CACHE_HOME"]) / "preroot"
    home = environment.get("HOME", "") or _home_of_user()
    if home.startswith("/") and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "preroot"
    return _private(Path(f"{_PUBLIC}/preroot-{os.getuid()}"))


def _private(directory: Path) -> Path:
    """Return a directory in a public place, which is made if it is not there; see `default_cache`."""
    import stat

    with contextlib.suppress(OSError):  # what can't be made can't be used either, and whoever tries says so
        directory.mkdir(mode=0o700)
    try:
        status = directory.lstat()
    except OSError:
        return directory
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise BuildError(
            f"the cache {directory} is not this user's own: somebody else made it, or may write to it",
            "set PREROOT_CACHE to a directory of yours, or have that one removed",
        )
    return directory


def _home_of_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
