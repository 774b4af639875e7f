# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processor microcode as the kernel finds it before it can unpack anything. Pure.

The first, uncompressed archive has one file a vendor: the vendor's blobs one behind the other
(Documentation/arch/x86/microcode.rst, "Early load microcode").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from preroot.errors import BuildError
from preroot.tree.declare import digest
from preroot.tree.model import BytesContent, Entry, Reason
from preroot.tree.pool import Pool

#: vendor → (file in the archive, where packages put the blobs)
_VENDORS: Mapping[str, tuple[str, str]] = {
    "intel": ("kernel/x86/microcode/GenuineIntel.bin", "usr/lib/firmware/intel-ucode/*"),
    "amd": ("kernel/x86/microcode/AuthenticAMD.bin", "usr/lib/firmware/amd-ucode/microcode_amd*.bin*"),
}
#: Signatures beside the blobs, and notes.
_NO_BLOBS = ("*.asc", "*.txt", "*.initramfs", "*README*")


def microcode_entries(
    vendors: Sequence[str], pool: Pool, read: Callable[[str], bytes], kernel_arch: str
) -> list[Entry]:  # fmt: skip
    """Return the archive's files for the vendors of the recipe.

    `read` returns a package file's content by canonical path, decompressed. Raises BuildError for a vendor whose
    microcode no package of the lock has, and for an architecture without any.
    """
    if vendors and kernel_arch != "amd64":
        raise BuildError(f"microcode is for amd64, not for {kernel_arch}", "leave [microcode] out")
    entries = []
    for vendor in sorted(set(vendors)):
        target, pattern = _VENDORS[vendor]
        paths = [path for path in pool.glob(pattern) if not any(fnmatchcase(path, each) for each in _NO_BLOBS)]
        owners = {found.package.owner for path in paths if (found := pool.get(path)) and found.info.type == "file"}
        data = b"".join(read(path) for path in paths)
        if not data:
            raise BuildError(
                f"microcode for {vendor} is asked for, and no package of the lock has any ({pattern})",
                'Debian has it in the component non-free-firmware: components = ["main", "non-free-firmware"]',
            )
        reason = (Reason("recipe", "recipe", f"[microcode] vendors: {vendor}"),)
        entries.append(
            Entry(
                target, "file", 0o644, 0, 0, ", ".join(sorted(owners)), reason, len(data), digest(data),
                content=BytesContent(data), changes=(f"{len(paths)} files joined",),
            )
        )  # fmt: skip
    return entries
