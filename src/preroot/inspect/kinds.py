# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kind of file something in an image is, told by its path and its first bytes. Pure."""

from __future__ import annotations

import re

#: pattern of a path (with /usr merged) → kind; the first that matches counts
_BY_PATH = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"usr/lib/modules/.*\.ko(\.(xz|zst|gz))?", "kernel modules"),
        (r"usr/lib/modules/[^/]*/modules\..*", "module indexes"),
        (r"kernel/x86/microcode/.*", "microcode"),
        (r"usr/lib/firmware/.*", "firmware"),
        (r"(.*/)?hwdb\.bin|.*/hwdb\.d/.*", "hardware database"),
        (r"usr/share/(i18n|locale)/.*|usr/lib/locale/.*|.*/gconv/.*", "locales"),
        (r"(usr/share/(keymaps|kbd|consolefonts|consoletrans|unimaps)|etc/console-setup)/.*", "keymaps and fonts"),
        (r"usr/share/(doc/.*/copyright|common-licenses/.*|licenses/.*)", "licence texts"),
        (r"usr/share/(doc|man|info|lintian|bash-completion|zsh)/.*", "documentation"),
        (r"usr/(lib|share)/(.*/)?(perl|python)[^/]*/.*|usr/lib/(.*/)?perl-base/.*", "Perl and Python"),
        (r"(usr/lib|etc|run)/systemd/(system|user|network)/.*", "units"),
        (r"(usr/lib|etc|run)/udev/rules\.d/.*", "udev rules"),
    )
)
#: a library's name: libx.so.1, or a plugin pam_x.so
_LIBRARY = re.compile(r".*\.so(\.[^/]*)?")
_SETTINGS = re.compile(r"etc/.*|.*\.conf")
#: directories at the top that are links in a merged /usr
_MERGED = ("bin/", "sbin/", "lib/", "lib64/")


def merged(path: str) -> str:
    """Return a path as it is in a merged /usr: usr/bin/sh for bin/sh."""
    return f"usr/{path}" if path.startswith(_MERGED) else path


def kind_of(path: str, mode: int, head: bytes | None) -> str:
    """Return the kind of a file by its path, its permissions and its first four bytes.

    Where these are not known (`head` None), what may be executed and is no library counts as a program.
    """
    path = merged(path)
    for pattern, kind in _BY_PATH:
        if pattern.fullmatch(path):
            return kind
    is_library = _LIBRARY.fullmatch(path) is not None
    if head is None:
        if is_library or mode & 0o111:
            return "libraries" if is_library else "programs"
    elif head == b"\x7fELF":
        return "libraries" if is_library else "programs"
    elif head.startswith(b"#!"):
        return "scripts"
    return "settings" if _SETTINGS.fullmatch(path) else "other"
