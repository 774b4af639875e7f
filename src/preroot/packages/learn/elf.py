# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the dynamic loader will ask of an ELF file, read with `struct` alone.

pyelftools takes about 7 ms for a file and a cold build reads hundreds; this takes a tenth of a millisecond, and a test
holds it against pyelftools. Sources: System V gABI chapters 4 and 5 (https://www.sco.com/developers/gabi/latest/),
elf(5), and https://uapi-group.org/specifications/specs/elf_dlopen_metadata/.

Nothing here raises for hostile input: what isn't an ELF file is None, and of a broken one only the parts that can be
read are returned, as ld.so would refuse it too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal, get_args

from msgspec import DecodeError, Struct

from preroot.packages.model import DlopenNote, Elf
from preroot.recipe.features import WatchedSymbol

Data = bytes | memoryview

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29
_DT_HASH, _DT_SYMTAB, _DT_GNU_HASH = 4, 6, 0x6FFFFEF5
_SHN_UNDEF = 0
_EM_S390 = 22
_SHT_NOBITS = 8
#: type of a dlopen note; its owner is "FDO"
_NOTE_DLOPEN = 0x407C0C0A
#: More dynamic entries than any linker writes, longer strings than any path: bounds on what a hostile file can cost.
_MAX_DYNAMIC = 16384
_MAX_STRING = 4096
_MAX_NOTES = 1 << 20

#: What may stand before the `.so` of a soname, and what follows it; Debian's libraries of 64-bit time end in t64.
_BEFORE = re.compile(rb"lib[A-Za-z0-9_+.-]+\Z")
_AFTER = re.compile(rb"\.so(?:(?:\.[0-9]+)+(?:t64)?)?")
#: Undefined symbols that are noted: what is done on such a call loads a library that nothing else shows.
WATCHED = tuple(get_args(WatchedSymbol))

#: Longest file name (NAME_MAX): how far before `.so` a soname can start.
_LONGEST_NAME = 255


class _Layout(Struct, frozen=True):
    """The structures of one class and byte order: fields in the order in which `_segments` names them."""

    bits: int
    little_endian: bool
    header: struct.Struct
    segment: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct
    note: struct.Struct
    #: of a symbol, the name's offset and the section's index
    symbol: struct.Struct
    #: one word, and one as wide as an address
    word: struct.Struct
    address: struct.Struct


def _layout(bits: int, little_endian: bool) -> _Layout:
    order = "<" if little_endian else ">"
    formats = ("HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ", "qQ") if bits == 64 else ("HHIIIIIHHHHHH", "8I", "10I", "iI")
    header, segment, section, dynamic = (struct.Struct(order + each) for each in formats)
    more = ("III", "I2xH16x", "I", "Q") if bits == 64 else ("III", "I10xH", "I", "I")
    note, symbol, word, address = (struct.Struct(order + each) for each in more)
    return _Layout(bits, little_endian, header, segment, section, dynamic, note, symbol, word, address)


_LAYOUTS = {
    (klass, order): _layout(32 * klass, order == 1) for klass in (1, 2) for order in (1, 2)
}  # EI_CLASS 1: 32 bit, 2: 64; EI_DATA 1: little, 2: big


class _Segment(Struct, frozen=True):
    type: int
    offset: int
    address: int
    size: int
    align: int


class _Header(Struct, frozen=True):
    layout: _Layout
    machine: int
    flags: int
    segment_table: tuple[int, int, int]
    section_table: tuple[int, int, int]
    section_names: int


class _NoteEntry(Struct):
    """The JSON of one dlopen note's entry; defaults as the specification states them."""

    soname: tuple[str, ...]
    feature: str = ""
    description: str = ""
    priority: Literal["required", "recommended", "suggested"] = "recommended"


def _header(data: Data) -> _Header | None:
    """Read the ELF header; the tables are (offset, entry size, number)."""
    if len(data) < 52 or bytes(data[:4]) != b"\x7fELF":
        return None
    layout = _LAYOUTS.get((data[4], data[5]))
    if layout is None or len(data) < 16 + layout.header.size:
        return None
    _, machine, _, _, segments, sections, flags, _, *counts = layout.header.unpack_from(data, 16)
    return _Header(layout, machine, flags, (segments, *counts[0:2]), (sections, *counts[2:4]), counts[4])


def _table(data: Data, table: tuple[int, int, int], form: struct.Struct) -> Iterator[tuple[int, ...]]:
    """Yield the entries of a header table as far as they lie within the file."""
    offset, size, count = table
    if size < form.size:
        return
    for at in range(offset, offset + size * count, size):
        if at + form.size > len(data):
            return
        yield form.unpack_from(data, at)


def _segments(data: Data, header: _Header) -> list[_Segment]:
    """Read the program headers."""
    entries = _table(data, header.segment_table, header.layout.segment)
    if header.layout.bits == 64:
        return [_Segment(kind, offset, address, size, align) for kind, _, offset, address, _, size, _, align in entries]
    return [_Segment(kind, offset, address, size, align) for kind, offset, address, _, size, _, _, align in entries]


def _string(table: Data, offset: int) -> str:
    """Return the NUL-terminated string at `offset` of `table`, '' when it lies outside or isn't terminated soon."""
    if not 0 <= offset < len(table):
        return ""
    text, end, _ = bytes(table[offset : offset + _MAX_STRING]).partition(b"\0")
    return text.decode("utf-8", "replace") if end else ""


def _file_offset(segments: list[_Segment], address: int) -> int | None:
    """Return where the file has the byte that is loaded at `address`."""
    for each in segments:
        if each.type == _PT_LOAD and each.address <= address < each.address + each.size:
            return address - each.address + each.offset
    return None


class _Dynamic(Struct):
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


def _dynamic(data: Data, header: _Header, segments: list[_Segment]) -> _Dynamic | None:
    """Read the dynamic section; None when the file has none, so that ld.so never sees it."""
    found = next((each for each in segments if each.type == _PT_DYNAMIC), None)
    if found is None:
        return None
    layout = header.layout
    size = min(found.size, _MAX_DYNAMIC * layout.dynamic.size, max(0, len(data) - found.offset))
    size -= size % layout.dynamic.size
    values: dict[int, list[int]] = {}
    for tag, value in layout.dynamic.iter_unpack(data[found.offset : found.offset + size] if size else b""):
        if tag == _DT_NULL:
            break
        values.setdefault(tag, []).append(value)
    strings = b""
    start = _file_offset(segments, values.get(_DT_STRTAB, [-1])[0])
    if start is not None:
        # Not sliced to the end of the file: the table of a large library would be copied with all that follows.
        strings = bytes(data[start : start + values.get(_DT_STRSZ, [0])[0]])

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(text for text in (_string(strings, each) for each in values.get(tag, ())) if text)

    def paths(tag: int) -> tuple[str, ...]:
        return tuple(path for text in texts(tag) for path in text.split(":") if path)

    watched = {name for name in WATCHED if strings.find(name.encode() + b"\0") >= 0}
    imports: set[str] = set()
    if watched:  # most files have none of them, and a symbol table is long
        symbols = _undefined_symbols(data, header, segments, {tag: each[0] for tag, each in values.items()})
        imports = watched & {_string(strings, each) for each in symbols}
    return _Dynamic(
        texts(_DT_NEEDED), next(iter(texts(_DT_SONAME)), ""), paths(_DT_RPATH), paths(_DT_RUNPATH),
        tuple(sorted(imports)),
    )  # fmt: skip


def _undefined_symbols(data: Data, header: _Header, segments: list[_Segment], dynamic: dict[int, int]) -> Iterator[int]:
    """Yield the offsets of the names of undefined dynamic symbols (gABI chapter 4, "Symbol Table")."""
    start = _file_offset(segments, dynamic.get(_DT_SYMTAB, -1))
    if start is None:
        return
    form = header.layout.symbol
    count = min(_symbol_count(data, header, segments, dynamic), max(0, len(data) - start) // form.size)
    for name, section in form.iter_unpack(data[start : start + count * form.size]):
        if section == _SHN_UNDEF:
            yield name


def _symbol_count(data: Data, header: _Header, segments: list[_Segment], dynamic: dict[int, int]) -> int:
    """Return the length of the dynamic symbol table, which only the hash tables tell.

    DT_HASH has it as its second word, which is 64 bits wide on s390x (elf_s390_size_info in bfd/elf64-s390.c of
    binutils 2.45). In DT_GNU_HASH it is the end of the last bucket's chain; undefined symbols are before the hashed
    ones, but for those that stand for the address of a function (dl_setup_hash in elf/dl-setup_hash.c of glibc 2.41).
    """
    layout = header.layout
    at = _file_offset(segments, dynamic.get(_DT_HASH, -1))
    if at is not None:
        word = layout.address if header.machine == _EM_S390 else layout.word
        return int(word.unpack_from(data, at + word.size)[0]) if at + 2 * word.size <= len(data) else 0
    at = _file_offset(segments, dynamic.get(_DT_GNU_HASH, -1))
    if at is None or at + 16 > len(data):
        return 0
    buckets, first, filters = (layout.word.unpack_from(data, at + 4 * each)[0] for each in range(3))
    start = at + 16 + filters * layout.address.size
    chains = start + 4 * buckets
    if chains > len(data):
        return 0
    last = max((each for (each,) in layout.word.iter_unpack(data[start:chains])), default=0)
    if last < first:
        return int(first)
    at = chains + 4 * (last - first)
    while at + 4 <= len(data) and not layout.word.unpack_from(data, at)[0] & 1:
        at += 4
    return int(first + (at - chains) // 4 + 1)


def _notes(data: Data, layout: _Layout, align: int) -> Iterator[DlopenNote]:
    """Yield the dlopen notes in the contents of a note segment or section."""
    import msgspec

    step = 8 if align == 8 else 4
    data = data[:_MAX_NOTES]
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = layout.note.unpack_from(data, at)
        start = (at + 12 + name_size + step - 1) // step * step
        if kind == _NOTE_DLOPEN and bytes(data[at + 12 : at + 12 + min(name_size, 4)]) == b"FDO\0":
            text = bytes(data[start : start + size]).rstrip(b"\0")
            try:
                entries = msgspec.json.decode(text, type=list[_NoteEntry])
            except (DecodeError, UnicodeDecodeError, RecursionError):
                entries = []
            for each in entries:
                yield DlopenNote(each.feature, each.description, each.priority, each.soname)
        at = (start + size + step - 1) // step * step


def _dlopen(data: Data, header: _Header, segments: list[_Segment]) -> tuple[DlopenNote, ...]:
    """Read the dlopen notes from the note segments, else from the section .note.dlopen."""
    found: list[DlopenNote] = []
    for each in segments:
        if each.type == _PT_NOTE:
            found += _notes(data[each.offset : each.offset + each.size], header.layout, each.align)
    if not found:
        section = elf_section(data, ".note.dlopen")
        found += _notes(section or b"", header.layout, 4)
    return tuple(found)


def _mentioned(data: bytes) -> set[str]:
    """Return all strings that look like sonames.

    Searching `.so` and looking back from there is many times as fast as one regular expression over all bytes: the
    engine tries it at each of them, bytes.find() is memmem.
    """
    found = set()
    at = data.find(b".so")
    while at >= 0:
        before = _BEFORE.search(data, max(0, at - _LONGEST_NAME), at)
        after = _AFTER.match(data, at)
        if before and after:
            found.add((before[0] + after[0]).decode("ascii"))
        at = data.find(b".so", at + 3)
    return found


def read_elf(data: Data) -> Elf | None:
    """Read what ld.so and the kernel look for in an ELF file.

    Argument: the whole file. Returns None when it isn't an ELF file of a known class and byte order. Of a damaged one
    the unreadable parts are left empty. Never raises for any input.
    """
    header = _header(data)
    if header is None:
        return None
    layout = header.layout
    segments = _segments(data, header)
    interpreter = ""
    for each in segments:
        if each.type == _PT_INTERP:
            interpreter = _string(data[each.offset : each.offset + min(each.size, _MAX_STRING)], 0)
    dynamic = _dynamic(data, header, segments)
    mentioned: set[str] = set()
    if dynamic is not None:
        mentioned = _mentioned(bytes(data)) - set(dynamic.needed) - {dynamic.soname}
    else:
        dynamic = _Dynamic()
    return Elf(
        bits=layout.bits, machine=header.machine, little_endian=layout.little_endian, flags=header.flags,
        interpreter=interpreter, soname=dynamic.soname, needed=dynamic.needed, rpath=dynamic.rpath,
        runpath=dynamic.runpath, dlopen=_dlopen(data, header, segments), mentioned=tuple(sorted(mentioned)),
        imports=dynamic.imports,
    )  # fmt: skip


def elf_section(data: Data, name: str) -> bytes | None:
    """Return the contents of the section `name` of an ELF file, or None when there is none that can be read."""
    header = _header(data)
    if header is None:
        return None
    offset, size, count = header.section_table
    if header.section_names >= count:
        return None
    form = header.layout.section
    names = next(_table(data, (offset + size * header.section_names, size, 1), form), None)
    if names is None:
        return None
    table = data[names[4] : names[4] + names[5]]
    wanted = name.encode() + b"\0"
    for each in _table(data, header.section_table, form):
        if each[1] != _SHT_NOBITS and bytes(table[each[0] : each[0] + len(wanted)]) == wanted:
            return bytes(data[each[4] : each[4] + each[5]])
    return None
