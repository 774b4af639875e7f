# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processor microcode as the kernel finds it before it can unpack anything. Pure.

The first, uncompressed archive has one file a vendor: the vendor's blobs one behind the other
(Documentation/arch/x86/microcode.rst, "Early load microcode").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from preroot.errors import BuildError, nearest
from preroot.facts.microcode import (
    Cpu,
    MicrocodeError,
    Vendor,
    amd_narrowed,
    intel_signatures,
    parse_cpu,
    vendors_of,
)
from preroot.recipe.schema import Microcode
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: vendor → (file in the archive, where packages put the blobs)
_VENDORS: Mapping[Vendor, tuple[str, str]] = {
    "intel": ("kernel/x86/microcode/GenuineIntel.bin", "usr/lib/firmware/intel-ucode/*"),
    "amd": ("kernel/x86/microcode/AuthenticAMD.bin", "usr/lib/firmware/amd-ucode/microcode_amd*.bin*"),
}
#: Signatures beside the blobs, and notes.
_NO_BLOBS = ("*.asc", "*.txt", "*README*")
#: Debian's mark of updates that only an initrd may load: loaded late they take features away from running programs
#: (README.Debian of intel-microcode); and compression.
_SUFFIXES = re.compile(r"(\.initramfs)?(\.xz|\.zst)?$")


class VendorFiles(Struct, frozen=True):
    """What goes into the archive for one vendor."""

    vendor: Vendor
    #: path in the archive
    target: str
    #: canonical paths of the blobs, in their order
    paths: tuple[str, ...]
    owner: str
    #: the processors that were asked for; none: all of the vendor
    cpus: tuple[str, ...]

    @property
    def reason(self) -> Reason:
        """Return why it is there."""
        what = f"cpus: {', '.join(self.cpus)}" if self.cpus else f"vendors: {self.vendor}"
        return Reason("recipe", "recipe", f"[microcode] {what}")


def microcode_files(
    wanted: Microcode, pool: Pool, kernel_arch: str, package_of: Callable[[str], str]
) -> list[VendorFiles]:
    """Return the blobs of each vendor that a recipe asks for, sorted by vendor.

    `package_of` returns what is known to have a canonical path ('' for nothing), for messages. Raises BuildError for a
    vendor or Intel processor whose microcode no package of the lock has, and for an architecture without any.
    """
    vendors = vendors_of(wanted.vendors, wanted.cpus)
    if vendors and kernel_arch != "amd64":
        raise BuildError(f"microcode is for amd64, not for {kernel_arch}", "leave [microcode] out")
    return [_files(vendor, wanted.cpus, pool, package_of) for vendor in vendors]


def _files(vendor: Vendor, cpus: Sequence[str], pool: Pool, package_of: Callable[[str], str]) -> VendorFiles:
    target, pattern = _VENDORS[vendor]
    paths = [path for path in pool.glob(pattern) if not any(fnmatchcase(path, each) for each in _NO_BLOBS)]
    mine = tuple(each for each in cpus if parse_cpu(each).vendor == vendor)
    if not paths:
        package = package_of(pattern)
        raise BuildError(
            f"microcode for {', '.join(mine) or vendor} is asked for, and no package of the lock has any ({pattern})",
            f"{package} has it" if package else "",
        )
    if mine and vendor == "intel":
        paths = [path for each in sorted(mine) for path in _of_processor(each, paths)]
    owners = {found.package.owner for path in paths if (found := pool.get(path))}
    return VendorFiles(vendor, target, tuple(dict.fromkeys(paths)), ", ".join(sorted(owners)), mine)


def _of_processor(cpu: str, paths: Sequence[str]) -> list[str]:
    """Return the files of an Intel processor: they are named like it (request_microcode_fw of intel.c)."""
    names = {path: _SUFFIXES.sub("", path.rpartition("/")[2]) for path in paths}
    found = [path for path, name in names.items() if name == cpu or name.startswith(f"{cpu}-")]
    if not found:
        raise BuildError(
            f"microcode for {cpu} is asked for, and no package of the lock has it (usr/lib/firmware/intel-ucode/{cpu})",
            nearest(cpu, names.values()) or "family-model-stepping, in hexadecimal: see lscpu(1) on the machine",
        )
    return found


def joined_microcode(files: VendorFiles, read: Callable[[str], bytes]) -> bytes:
    """Return the content of a vendor's file in the archive, each blob checked as the kernel would.

    `read` returns a package file's content by canonical path, decompressed. Raises BuildError for a blob that is not
    sound, and for a processor that none is for.
    """
    cpus = [parse_cpu(each) for each in files.cpus]
    parts = []
    for path in files.paths:
        data = read(path)
        try:
            parts.append(amd_narrowed(data, cpus) if files.vendor == "amd" else _checked_intel(data, cpus))
        except MicrocodeError as error:
            raise BuildError(f"microcode /{path} of {files.owner} is not sound: {error}",
                             "the package is broken; choose another version of it") from None  # fmt: skip
    data = b"".join(parts)
    if files.vendor == "amd":
        for name, cpu in zip(files.cpus, cpus, strict=True):
            if not data or not amd_narrowed(data, [cpu]):
                raise BuildError(
                    f"microcode for {name} is asked for, and {files.owner} has none for it",
                    "famFFh-MM-SS are family, model and stepping of lscpu(1) in hexadecimal",
                )
    return data


def _checked_intel(data: bytes, cpus: Sequence[Cpu]) -> bytes:
    signatures = intel_signatures(data)
    if cpus and not any(cpu.fits(each) for cpu in cpus for each in signatures):
        raise MicrocodeError("its updates are for other processors than its name says")
    return data
