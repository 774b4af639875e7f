# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which users and groups a tmpfiles.d(5) file names, read as systemd-tmpfiles of systemd 257 does."""

from __future__ import annotations

import re

from preroot.packages.learn.units import split_words
from preroot.packages.model import Tmpfiles

_ACL_NAME = re.compile(r"(?:^|,)\s*(?:d(?:efault)?:)?(u(?:ser)?|g(?:roup)?):([A-Za-z_][\w-]*):", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


def read_tmpfiles(data: bytes) -> Tmpfiles:
    """Read a tmpfiles.d file.

    Argument: its bytes; what is not UTF-8 is replaced. Each name is there once, in the order of the file; numbers and
    names with specifiers are left out. Never raises.
    """
    users: dict[str, None] = {}
    groups: dict[str, None] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        words = [word for word, _ in split_words(line)]
        if not words or words[0].startswith("#"):
            continue
        kind, columns = words[0][:1], [*words, "", "", "", "", "", ""]
        if kind in {"a", "A"}:
            for who, name in _ACL_NAME.findall(" ".join(columns[6:])):
                (users if who.startswith("u") else groups)[name] = None
        # Owners are looked up in lines of every type, also where the type ignores them (parse_line() in tmpfiles.c).
        for names, column in ((users, columns[3]), (groups, columns[4])):
            name = column.removeprefix(":")
            if _NAME.fullmatch(name):
                names[name] = None
    return Tmpfiles(tuple(users), tuple(groups))
