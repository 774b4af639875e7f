# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernel modules made on the spot."""

from __future__ import annotations

from elf_samples import make_elf

VERMAGIC = "6.12.107 SMP preempt mod_unload modversions "


def modinfo(name: str, *pairs: tuple[str, str], depends: str = "") -> bytes:
    """Return a .modinfo section as kbuild writes it: vermagic at the end."""
    ends = (("depends", depends), ("intree", "Y"), ("name", name), ("vermagic", VERMAGIC))
    return b"".join(f"{key}={value}\0".encode() for key, value in (("license", "GPL"), *pairs, *ends))


def module(
    section: bytes, before: bytes = b"string constant\0", after: bytes = b"\0\0\x04\0\0\0GNU\0", size: int = 60_000
) -> bytes:
    """Return a module with this .modinfo, and these bytes before and behind it; its code is `size` bytes."""
    code = bytes(range(1, 256)) * (size // 255)
    return make_elf(
        dynamic=False, sections={".rodata": before, ".modinfo": section, ".rodata.str": after, ".text": code}
    )
