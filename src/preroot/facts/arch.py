# SPDX-License-Identifier: LGPL-2.1-or-later
"""Architectures: what ELF files, libraries and QEMU machines of each look like.

Sources: System V ABI supplements (e_machine, interpreter), https://wiki.debian.org/Multiarch/Tuples, ld.so(8).
"""

from __future__ import annotations

from msgspec import Struct

from preroot.errors import RecipeError, nearest


class Arch(Struct, frozen=True):
    """One architecture, by Debian's name for it."""

    name: str
    bits: int
    #: e_machine
    machine: int
    little_endian: bool
    triplet: str
    #: PT_INTERP, canonical path in the image
    interpreter: str
    #: libdir of distributions without multiarch
    libdir: str
    #: name in QEMU's qemu-system-NAME
    qemu: str
    #: serial console device
    console: str
    #: `uname -m`
    uname: str


_ARCHES = (
    Arch("amd64", 64, 62, True, "x86_64-linux-gnu",
         "usr/lib64/ld-linux-x86-64.so.2", "usr/lib64", "x86_64", "ttyS0", "x86_64"),
    Arch("arm64", 64, 183, True, "aarch64-linux-gnu",
         "usr/lib/ld-linux-aarch64.so.1", "usr/lib64", "aarch64", "ttyAMA0", "aarch64"),
    Arch("armhf", 32, 40, True, "arm-linux-gnueabihf",
         "usr/lib/ld-linux-armhf.so.3", "usr/lib", "arm", "ttyAMA0", "armv7l"),
    Arch("riscv64", 64, 243, True, "riscv64-linux-gnu",
         "usr/lib/ld-linux-riscv64-lp64d.so.1", "usr/lib64", "riscv64", "ttyS0", "riscv64"),
    Arch("ppc64el", 64, 21, True, "powerpc64le-linux-gnu",
         "usr/lib64/ld64.so.2", "usr/lib64", "ppc64", "hvc0", "ppc64le"),
    Arch("s390x", 64, 22, False, "s390x-linux-gnu",
         "usr/lib/ld64.so.1", "usr/lib64", "s390x", "ttysclp0", "s390x"),
)  # fmt: skip

ARCHES = {arch.name: arch for arch in _ARCHES}
#: what other distributions call them
_ALIASES = {arch.uname: arch.name for arch in _ARCHES} | {"armv7hl": "armhf"}


def arch(name: str) -> Arch:
    """Return the architecture `name` (Debian's or uname's spelling). Raises RecipeError for an unknown one."""
    found = ARCHES.get(_ALIASES.get(name, name))
    if found is None:
        raise RecipeError(f"unknown architecture {name!r}", nearest(name, ARCHES) or "known: " + ", ".join(ARCHES))
    return found
