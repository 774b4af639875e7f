# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the cache directory is. Standard library only: it is asked before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def default_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory: $PREROOT_CACHE, $XDG_CACHE_HOME/preroot, ~/.cache/preroot, or one in /var/tmp.

    The last is for users without a home (containers, build daemons); it has the user's number in its name.
    """
    if environment.get("PREROOT_CACHE"):
        return Path(environment["PREROOT_CACHE"]).absolute()
    if environment.get("XDG_CACHE_HOME", "").startswith("/"):
        return Path(environment["XDG_CACHE_HOME"]) / "preroot"
    home = environment.get("HOME", "") or _home_of_user()
    if home.startswith("/") and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "preroot"
    return Path(f"/var/tmp/preroot-{os.getuid()}")


def _home_of_user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
