# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a console keymap asks for: the files that it includes, where loadkeys(1) looks for them."""

from __future__ import annotations

import posixpath

from preroot.packages.model import Keymap
from preroot.tree.closure.model import Request
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: Where loadkeys looks besides (libkeymap/analyze.l of kbd 2.7, `include_dirpath3`), and what it appends.
_DIRECTORIES = ("usr/share/keymaps/include", "usr/share/keymaps/i386/include", "usr/share/keymaps/mac/include")
_SUFFIXES = ("", ".inc")
_COMPRESSED = ("", ".gz", ".xz", ".zst")


def keymap_requests(path: str, keymap: Keymap, pool: Pool) -> list[Request]:
    """Return the files that the keymap at `path` includes; one that is nowhere is asked for under its own name."""
    here = posixpath.dirname(path)
    directories = (here, f"{here}/../include", f"{here}/../../include", *_DIRECTORIES)
    requests = []
    for name in keymap.includes:
        candidates = [name.lstrip("/")] if name.startswith("/") else [f"{each}/{name}" for each in directories]
        spelled = (each + suffix + codec for each in candidates for suffix in _SUFFIXES for codec in _COMPRESSED)
        found = next((each for each in spelled if pool.exists(each)), candidates[0])
        requests.append(Request("path", pool.canonical(found), Reason("include", path, name)))
    return requests
