# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a repart.d(5) file of the recipe asks for: the program that makes the file system of `Format=`."""

from __future__ import annotations

import re

from preroot.tree.closure.model import Request
from preroot.tree.model import Reason

_DEFINITIONS = re.compile(r"/?(?:etc|usr/lib)/repart\.d/[^/]+\.conf")


def repart_requests(path: str, data: bytes) -> list[Request]:
    """Return the programs that systemd-repart runs for the definitions at `path` in the image; none of another file.

    It runs mkfs.TYPE, and mkswap for swap (make_filesystem() in src/shared/mkfs-util.c of systemd 257); `empty` is no
    file system. Of several values the last one counts, an empty one is none. Never raises.
    """
    if not _DEFINITIONS.fullmatch(path):
        return []
    wanted = section = ""
    for line in data.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == "[Partition]" and (found := re.match(r"Format\s*=\s*(\S*)", text)):
            wanted = found[1]
    if wanted in {"", "empty"}:
        return []
    program = "mkswap" if wanted == "swap" else f"mkfs.{wanted}"
    return [Request("program", program, Reason("generator", path, f"Format={wanted}"))]
