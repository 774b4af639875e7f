# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of processor microcode: how processors are named, and what a sound file is. Pure.

Sources: Intel SDM volume 3, "Microcode Update Facilities" (header, extended signatures, checksums); the kernel's
arch/x86/kernel/cpu/microcode/intel.c and amd.c. At the first Intel update that is not sound the kernel gives up on the
whole early archive, so what goes into it is checked as the kernel would check it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

Vendor = Literal["intel", "amd"]

_INTEL_HEADER = struct.Struct("<IIIIIIIIIIII")
_INTEL_TABLE = struct.Struct("<IIIII")
_INTEL_SIGNATURE = struct.Struct("<III")
#: of an update whose header says 0 (SDM, "Data Size")
_INTEL_DEFAULT = (2000, 2048)

_AMD_MAGIC = 0x00414D44
_AMD_CONTAINER = struct.Struct("<III")
_AMD_SECTION = struct.Struct("<II")
_AMD_EQUIVALENCE = struct.Struct("<IIIHH")
#: data_code, patch_id, mc_patch_data_id, len, init_flag, checksum, nb_dev_id, sb_dev_id, processor_rev_id, …
_AMD_PATCH = struct.Struct("<IIHBBIIIH")
#: struct microcode_header_amd
_AMD_PATCH_HEADER = 64


class MicrocodeError(Exception):
    """A file of microcode is not sound; the text says why, without naming the file."""


class Cpu(Struct, frozen=True):
    """A processor, or all of a family or model: family and model as in /proc/cpuinfo, None for any."""

    vendor: Vendor
    family: int
    model: int | None = None
    stepping: int | None = None

    def fits(self, signature: int) -> bool:
        """Return whether a signature (EAX of CPUID leaf 1) is of this processor."""
        family, model, stepping = split_signature(signature)
        return (
            self.family == family and self.model in (None, model) and self.stepping in (None, stepping)
        )  # fmt: skip


def parse_cpu(text: str) -> Cpu:
    """Return the processor that `text`, one of recipe.schema.Processor, names.

    Intel's are named by family-model-stepping as the files in /lib/firmware/intel-ucode, AMD's by family as in
    microcode_amd_fam19h.bin, narrowed by model and stepping; all in hexadecimal, the last ones may be left out.
    """
    amd = text.startswith("fam")
    words = [int(each, 16) for each in (text[3:].replace("h", "") if amd else text).split("-")]
    return Cpu("amd" if amd else "intel", *words)


def vendors_of(vendors: Iterable[str], cpus: Iterable[str]) -> tuple[Vendor, ...]:
    """Return the vendors that a recipe asks for, by vendor or by processor, sorted."""
    wanted = {*vendors, *(parse_cpu(each).vendor for each in cpus)}
    return tuple(each for each in ("amd", "intel") if each in wanted)


def split_signature(signature: int) -> tuple[int, int, int]:
    """Return family, model and stepping of a signature (Intel SDM volume 2, CPUID; AMD64 APM volume 3)."""
    family = signature >> 8 & 0xF
    model = signature >> 4 & 0xF
    extended = signature >> 16 & 0xF
    if family == 0xF:
        return family + (signature >> 20 & 0xFF), model | extended << 4, signature & 0xF
    return family, model | (extended << 4 if family == 6 else 0), signature & 0xF


def intel_signatures(data: bytes) -> frozenset[int]:
    """Return the signatures of the processors that an Intel file, one or more updates, is for.

    Raises MicrocodeError for a file that the kernel would not take whole.
    """
    found: set[int] = set()
    at = 0
    while at < len(data):
        at += _intel_update(data, at, found)
    if not found:
        raise MicrocodeError("it is empty")
    return frozenset(found)


def _intel_update(data: bytes, at: int, found: set[int]) -> int:
    """Check the update at `at`, add its signatures to `found`, and return its size."""
    if len(data) - at < _INTEL_HEADER.size:
        raise MicrocodeError(f"{len(data) - at} bytes are left over at its end")
    version, _, _, signature, checksum, loader, flags, size, total, *_ = _INTEL_HEADER.unpack_from(data, at)
    size, total = (size, total) if size else _INTEL_DEFAULT
    if (version, loader) != (1, 1):
        raise MicrocodeError(f"an update has header version {version} and loader revision {loader}, not 1 and 1")
    end = _INTEL_HEADER.size + size
    if end > total or total > len(data) - at or size % 4 or total % 4:
        raise MicrocodeError(f"an update says that it has {size} of {total} bytes, and {len(data) - at} are there")
    if _sum(data[at : at + end]):
        raise MicrocodeError("the checksum of an update does not hold")
    found.add(signature)
    if total > end:
        _intel_table(data[at + end : at + total], signature + flags + checksum, found)
    return total


def _intel_table(table: bytes, base: int, found: set[int]) -> None:
    """Check the table of extended signatures; `base` is the sum of what they stand for in the header."""
    if len(table) < _INTEL_TABLE.size:
        raise MicrocodeError("the table of extended signatures is cut off")
    count = _INTEL_TABLE.unpack_from(table)[0]
    if len(table) != _INTEL_TABLE.size + count * _INTEL_SIGNATURE.size:
        raise MicrocodeError(f"the table of {count} extended signatures has {len(table)} bytes")
    if _sum(table):
        raise MicrocodeError("the checksum of the extended signatures does not hold")
    for signature, flags, checksum in _INTEL_SIGNATURE.iter_unpack(table[_INTEL_TABLE.size :]):
        if (base - signature - flags - checksum) & 0xFFFFFFFF:
            raise MicrocodeError("the checksum of an extended signature does not hold")
        found.add(signature)


def _sum(data: bytes) -> int:
    words = array("I", data)
    if sys.byteorder == "big":
        words.byteswap()
    return sum(words) & 0xFFFFFFFF


class _Container(Struct, frozen=True):
    """One container of an AMD file: what processors share a patch, and the patches."""

    #: (signature, rest of the entry, equivalence id), in order, without the zero entry at the end
    table: tuple[tuple[int, bytes, int], ...]
    #: (equivalence id, section with its header)
    patches: tuple[tuple[int, bytes], ...]


def amd_narrowed(data: bytes, cpus: Sequence[Cpu]) -> bytes:
    """Return an AMD file, one or more containers, with only what is for `cpus` (none given: all of it, as it is).

    Nothing is left of a container without a patch for them. Raises MicrocodeError for a file that is not sound.
    """
    containers = list(_containers(data))
    if not containers:
        raise MicrocodeError("it is empty")
    return b"".join(_written(each, cpus) for each in containers) if cpus else data


def _containers(data: bytes) -> Iterator[_Container]:
    at = 0
    while at < len(data):
        if len(data) - at < _AMD_CONTAINER.size:
            raise MicrocodeError(f"{len(data) - at} bytes are left over at its end")
        magic, kind, length = _AMD_CONTAINER.unpack_from(data, at)
        at += _AMD_CONTAINER.size
        if (magic, kind) != (_AMD_MAGIC, 0):
            raise MicrocodeError("a container does not begin with the magic and an equivalence table")
        if length % _AMD_EQUIVALENCE.size or not length or length > len(data) - at:
            raise MicrocodeError(f"an equivalence table says that it has {length} bytes, and {len(data) - at} are left")
        entries = [
            (entry[0], data[place : place + _AMD_EQUIVALENCE.size], entry[3])
            for place in range(at, at + length, _AMD_EQUIVALENCE.size)
            if (entry := _AMD_EQUIVALENCE.unpack_from(data, place))[0]
        ]
        at += length
        patches = []
        while at < len(data) and data[at : at + 4] != _AMD_MAGIC.to_bytes(4, "little"):
            patches.append(_patch(data, at))
            at += len(patches[-1][1])
        yield _Container(tuple(entries), tuple(patches))


def _patch(data: bytes, at: int) -> tuple[int, bytes]:
    if len(data) - at < _AMD_SECTION.size:
        raise MicrocodeError("the header of a patch is cut off")
    kind, size = _AMD_SECTION.unpack_from(data, at)
    start = at + _AMD_SECTION.size
    if kind != 1 or size < _AMD_PATCH_HEADER or size > len(data) - start:
        raise MicrocodeError(f"a patch of type {kind} says that it has {size} bytes, and {len(data) - start} are left")
    *_, north, south, identity = _AMD_PATCH.unpack_from(data, start)
    if north or south:
        raise MicrocodeError("a patch is for one chip set, which the kernel refuses")
    return identity, data[at : start + size]


def _written(container: _Container, cpus: Sequence[Cpu]) -> bytes:
    """Return a container with what is for `cpus`, b"" where it has nothing for them."""
    table = [each for each in container.table if any(cpu.fits(each[0]) for cpu in cpus)]
    wanted = {identity for _, _, identity in table}
    patches = [section for identity, section in container.patches if identity in wanted]
    if not patches:
        return b""
    entries = b"".join(entry for _, entry, _ in table) + bytes(_AMD_EQUIVALENCE.size)
    return _AMD_CONTAINER.pack(_AMD_MAGIC, 0, len(entries)) + entries + b"".join(patches)
