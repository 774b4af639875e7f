# SPDX-License-Identifier: LGPL-2.1-or-later
"""udev's hardware database, compiled by systemd-hwdb from exactly the files that an image is to have of it.

Sources: hwdb(7), systemd-hwdb(8). The format (libsystemd's sd-hwdb/hwdb-internal.h) is the same from 252 to 262: what
one version writes, all of them read; `tool_version` in the header is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from preroot.errors import BuildError
from preroot.run import run
from preroot.scratch import scratch

HWDB_BIN = "usr/lib/udev/hwdb.bin"
HWDB_DIRECTORY = "usr/lib/udev/hwdb.d"
PURPOSE = "to compile the hardware database of udev"


def is_hwdb_source(path: str) -> bool:
    """Return whether a canonical path is one that systemd-hwdb reads."""
    return re.fullmatch(r"(etc|usr/lib)/udev/hwdb\.d/[^/]+\.hwdb", path) is not None


def hwdb_key(digests: Mapping[str, str], tool: str) -> str:
    """Return what decides about the result: the tool's version, and path → SHA-256 of the files."""
    return f"hwdb 2 {tool} {sorted(digests.items())}"


def compile_hwdb(files: Mapping[str, bytes]) -> bytes:
    """Return hwdb.bin of these files, given by canonical path; those in etc/ win over others of the same name.

    Raises BuildError when systemd-hwdb is missing or fails, or passes over a line.
    """
    with scratch("hwdb") as top:
        (top / "usr/lib").mkdir(parents=True)
        (top / "lib").symlink_to("usr/lib")  # bookworm's looks in /lib/udev
        for path, data in files.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_bytes(data)
        # The paths of the files stand in the result: so the root has the same name wherever it is.
        said: list[str] = []
        run(["systemd-hwdb", "update", "--strict", "--usr", "--root=/proc/self/cwd"], purpose=PURPOSE, cwd=top,
            warn=said.append)  # fmt: skip
        made = top / HWDB_BIN
        # --strict does not make every wrong line an error (252, 257): what it says of them must not get lost.
        if said or not made.is_file():
            words = "; ".join(line.replace("/proc/self/cwd/", "/") for line in said) or "it says nothing"
            raise BuildError(f"systemd-hwdb does not take all of {', '.join(sorted(files))}: {words}", "see hwdb(7)")
        return made.read_bytes()
