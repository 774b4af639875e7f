# SPDX-License-Identifier: LGPL-2.1-or-later
"""ELF files made on the spot, for each class and byte order: as little as a loader and the readers need."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

_BASE = 0x10000


def dlopen_note(entries: Sequence[dict[str, Any]], order: str = "<", owner: bytes = b"FDO\0") -> bytes:
    text = json.dumps(list(entries)).encode() + b"\0"
    note = struct.pack(order + "III", len(owner), len(text), 0x407C0C0A) + owner
    return note + text + bytes(-len(text) % 4)


def _symbols(imports: Sequence[str], exports: Sequence[str], at: int, order: str, wide: bool) -> tuple[bytes, bytes]:
    """Return the symbol table and its strings, which come `at` that offset of the string table."""
    table, strings = bytes(24 if wide else 16), b""
    for name, section in [*((each, 0) for each in imports), *((each, 1) for each in exports)]:
        where = at + len(strings)
        strings += name.encode() + b"\0"
        fields = (where, 18, 0, section, 0, 0) if wide else (where, 0, 0, 18, 0, section)
        table += struct.pack(order + ("IBBHQQ" if wide else "IIIBBH"), *fields)
    return table, strings


def _gnu_hash(imports: int, exports: int, order: str, wide: bool, machine: int) -> bytes:
    """Return a DT_GNU_HASH with one bucket, which has all exported symbols."""
    del machine
    head = struct.pack(order + "IIII", 1, 1 + imports, 1, 0) + bytes(8 if wide else 4)
    chain = [0] * (exports - 1) + [1] * bool(exports)
    return head + struct.pack(f"{order}{1 + exports}I", 1 + imports if exports else 0, *chain)


def _sysv_hash(imports: int, exports: int, order: str, wide: bool, machine: int) -> bytes:
    """Return a DT_HASH; its words are as wide as addresses on s390x."""
    count = 1 + imports + exports
    return struct.pack(f"{order}{3 + count}{'Q' if machine == 22 and wide else 'I'}", 1, count, 0, *[0] * count)


def make_elf(
    *,
    bits: int = 64,
    little: bool = True,
    machine: int = 62,
    flags: int = 0,
    interpreter: str = "",
    needed: Sequence[str] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    notes: bytes = b"",
    sections: dict[str, bytes] | None = None,
    rest: bytes = b"",
    dynamic: bool = True,
    imports: Sequence[str] = (),
    exports: Sequence[str] = (),
    hashes: str = "gnu",
) -> bytes:
    """Return an ELF file; `notes` goes into a note segment, `rest` behind the string table, `sections` get headers.

    `imports` are undefined symbols, `exports` defined ones; `hashes` says which table tells their number: gnu or sysv.
    """
    order = "<" if little else ">"
    wide = bits == 64
    header_size, segment_size, section_size = (64, 56, 64) if wide else (52, 32, 40)
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, text in [*((1, name) for name in needed), (14, soname), (15, rpath), (29, runpath)]:
        if text:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    count = 1 + bool(interpreter) + bool(notes) + dynamic
    at = header_size + count * segment_size
    at += -at % 8
    body = b""

    def place(data: bytes) -> int:
        nonlocal body
        body += bytes(-(at + len(body)) % 8)
        offset = at + len(body)
        body += data
        return offset

    symbols, symbol_strings = _symbols(imports, exports, len(strings), order, wide)
    strings += symbol_strings
    strings_at = place(strings)
    if imports or exports:
        tag, table = (4, _sysv_hash) if hashes == "sysv" else (0x6FFFFEF5, _gnu_hash)
        tags += [
            (6, _BASE + place(symbols)),
            (tag, _BASE + place(table(len(imports), len(exports), order, wide, machine))),
        ]
    entry = order + ("qQ" if wide else "iI")
    tags += [(5, _BASE + strings_at), (10, len(strings)), (0, 0)]
    pieces = []
    if interpreter:
        pieces.append((3, place(interpreter.encode() + b"\0"), len(interpreter) + 1, 1))
    if notes:
        pieces.append((4, place(notes), len(notes), 4))
    if dynamic:
        dynamics = b"".join(struct.pack(entry, *tag) for tag in tags)
        pieces.append((2, place(dynamics), len(dynamics), 8))
    place(rest)
    names = b"\0"
    headers = [(0, 0, 0, 0)]
    for name, data in (sections or {}).items():
        headers.append((len(names), 1, place(data), len(data)))
        names += name.encode() + b"\0"
    if sections:
        full = names + b".shstrtab\0"
        headers.append((len(names), 3, place(full), len(full)))
        tail = b"".join(
            struct.pack(order + ("IIQQQQIIQQ" if wide else "10I"), name, kind, 0, 0, offset, size, 0, 0, 1, 0)
            for name, kind, offset, size in headers
        )
        sections_at = place(tail)
    total = at + len(body)
    pieces.insert(0, (1, 0, total, 0x1000))
    segments = b"".join(
        struct.pack(order + "IIQQQQQQ", kind, 4, offset, _BASE + offset, 0, size, size, align)
        if wide
        else struct.pack(order + "8I", kind, offset, _BASE + offset, 0, size, size, 4, align)
        for kind, offset, size, align in pieces
    )
    head = b"\x7fELF" + bytes((2 if wide else 1, 1 if little else 2, 1)) + bytes(9)
    head += struct.pack(
        order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), 3, machine, 1, 0, header_size,
        sections_at if sections else 0, flags, header_size, segment_size, count, section_size,
        len(headers) if sections else 0, len(headers) - 1 if sections else 0,
    )  # fmt: skip
    data = head + segments
    return data + bytes(at - len(data)) + body
