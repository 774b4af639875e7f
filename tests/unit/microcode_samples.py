# SPDX-License-Identifier: LGPL-2.1-or-later
"""Microcode made on the spot, as Intel's and AMD's files are laid out."""

from __future__ import annotations

import struct
from collections.abc import Iterable

#: 06-5e-03, and two that one update of 06-55-04 may serve by extended signatures
SKYLAKE, SERVER, OTHER = 0x506E3, 0x50654, 0x50657


def _checksum(data: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f"<{len(data) // 4}I", data)
    return -sum(words) & 0xFFFFFFFF


def intel_update(
    signature: int = SKYLAKE, flags: int = 0x36, body: bytes = b"code" * 10, extended: Iterable[int] = ()
) -> bytes:
    """Return one update; `extended` are signatures for its table."""
    more = list(extended)
    size = 48 + len(body) + (20 + 12 * len(more) if more else 0)

    def header(checksum: int) -> bytes:
        return struct.pack("<12I", 1, 0xF0, 0x11142023, signature, checksum, 1, flags, len(body), size, 0, 0, 0)

    checksum = _checksum(header(0) + body)
    data = header(checksum) + body
    if more:
        base = signature + flags + checksum
        entries = b"".join(struct.pack("<3I", each, flags, (base - each - flags) & 0xFFFFFFFF) for each in more)
        table = struct.pack("<5I", len(more), 0, 0, 0, 0) + entries
        data += struct.pack("<5I", len(more), _checksum(table), 0, 0, 0) + entries
    return data


def amd_patch(identity: int, size: int = 96, chipset: int = 0) -> bytes:
    """Return one section with a patch for the processors with this equivalence id."""
    header = struct.pack("<IIHBBIIIH", 0x20231114, 0x8001200, 0x8004, 0, 0, 0, chipset, 0, identity)
    return struct.pack("<II", 1, size) + (header + identity.to_bytes(2, "little") * size)[:size]


def amd_container(table: dict[int, int], patches: Iterable[bytes]) -> bytes:
    """Return a container: signature → equivalence id, and sections."""
    entries = b"".join(struct.pack("<IIIHH", signature, 0, 0, identity, 0) for signature, identity in table.items())
    entries += bytes(16)
    return struct.pack("<III", 0x00414D44, 0, len(entries)) + entries + b"".join(patches)


#: two of family 17h (models 01 and 31) and one of 19h
AMD_17H = amd_container({0x800F12: 0x8012, 0x830F10: 0x8310}, [amd_patch(0x8012), amd_patch(0x8310, 128)])
AMD_19H = amd_container({0xA20F12: 0xA212}, [amd_patch(0xA212)])
