# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be learnt from one file's bytes, read once when a package is unpacked; nothing is resolved here."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import cast

from preroot.packages.learn.elf import read_elf
from preroot.packages.learn.script import read_script
from preroot.packages.learn.tmpfiles import read_tmpfiles
from preroot.packages.learn.udev import read_rules
from preroot.packages.learn.units import read_unit
from preroot.packages.model import Learnt

#: Unit types of systemd.unit(5).
UNIT_TYPES = ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")

_TYPES = "|".join(UNIT_TYPES)
#: The system manager's units and their drop-ins, those of a type (service.d/) or a prefix (foo-.service.d/) too.
_UNIT = re.compile(
    rf"(?:(?:usr/)?lib|etc)/systemd/system/(?:[^/]+\.(?:{_TYPES})|(?:[^/]+\.)?(?:{_TYPES})\.d/[^/]+\.conf)"
)
_RULES = re.compile(r"(?:.*/)?udev/rules\.d/[^/]+\.rules")
_TMPFILES = re.compile(r"(?:usr/lib|etc)/tmpfiles\.d/[^/]+\.conf")
_KEYMAP = re.compile(r"usr/share/(?:kbd/)?keymaps/.+\.(?:k?map|inc)(?:\.gz|\.xz|\.zst)?")
#: What configures plugins: a part of the path (which most files lack), the path, and its reader in `plugins`.
_PLUGIN_FILES = (
    ("nsswitch", re.compile(r"etc/nsswitch\.conf"), "read_nsswitch"),
    ("/pam.d/", re.compile(r"(?:etc|usr/lib)/pam\.d/[^/]+"), "read_pam"),
    ("/gconv/", re.compile(r"(?:usr/)?lib(?:64)?/(?:[^/]+/)?gconv/gconv-modules(?:\.d/[^/]+\.conf)?"), "read_gconv"),
    (".cnf", re.compile(r"(?:etc|usr/lib)/ssl/(?:[^/]+\.d/)?[^/]+\.cnf"), "read_openssl"),
    (".module", re.compile(r"(?:usr/share/p11-kit|etc/pkcs11)/modules/[^/]+\.module"), "read_p11kit"),
    (".plymouth", re.compile(r"usr/share/plymouth/themes/[^/]+/[^/]+\.plymouth"), "read_plymouth"),
)
CRYPTTAB = "etc/crypttab"
_MODULE = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def learn(path: str, mode: int, data: bytes | memoryview) -> Learnt | None:
    """Return what can be learnt from a regular file, decided by its path and first bytes.

    Arguments: path in the package (relative), permission bits, content. Kernel modules are not read here: most packages
    of kernels have thousands of them and most images a few, so the store reads them on demand. Never raises.
    """
    del mode  # Which files may be executed is for the closure to say: scripts are sourced without x as well.
    reader = _reader(path)
    if reader is not None:
        return reader(bytes(data))
    magic = bytes(data[:4])
    if magic == b"\x7fELF":
        return None if path.endswith(_MODULE) else read_elf(data)
    if magic[:2] == b"#!":
        return read_script(bytes(data[:256]) if len(data) > 256 else bytes(data))
    return None


def _reader(path: str) -> Callable[[bytes], Learnt | None] | None:
    """Return what reads a file that its path alone makes known, else None."""
    if _UNIT.fullmatch(path):
        return read_unit
    if path.endswith(".rules") and _RULES.fullmatch(path):
        return read_rules
    if path.endswith(".conf") and _TMPFILES.fullmatch(path):
        return read_tmpfiles
    if path.startswith("usr/share/") and _KEYMAP.fullmatch(path):
        from preroot.packages.learn.keymap import read_keymap

        return partial(read_keymap, path)
    if path == CRYPTTAB:
        from preroot.packages.learn.crypttab import read_crypttab

        return read_crypttab
    return _plugin_reader(path)


def _plugin_reader(path: str) -> Callable[[bytes], Learnt | None] | None:
    """Return what reads a file that configures plugins, else None."""
    reader = next((name for part, known, name in _PLUGIN_FILES if part in path and known.fullmatch(path)), "")
    if not reader:
        return None
    from preroot.packages.learn import plugins

    return cast("Callable[[bytes], Learnt | None]", getattr(plugins, reader))
