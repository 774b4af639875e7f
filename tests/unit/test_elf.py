# SPDX-License-Identifier: LGPL-2.1-or-later
"""ELF files: what a loader would ask for, in each class and byte order, and nothing raised for broken ones."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_samples import dlopen_note, make_elf
from preroot.packages.learn.elf import WATCHED, elf_section, read_elf
from preroot.packages.model import DlopenNote, Elf

CLASSES = [(bits, little) for bits in (32, 64) for little in (True, False)]
SONAMES = st.from_regex(r"lib[a-z0-9_+-]{1,20}\.so(\.[0-9]{1,3}){0,3}", fullmatch=True)
NOTE = {"feature": "kmod", "description": "Modules", "priority": "required", "soname": ["libkmod.so.2", "libkmod.so.1"]}


@given(
    st.sampled_from(CLASSES), st.lists(SONAMES, unique=True, max_size=5),
    st.lists(st.sampled_from(["/opt/a", "$ORIGIN/../b"]), max_size=3), st.integers(0, 0xFFFF), st.booleans(),
)  # fmt: skip
def test_what_was_written_is_read_back(
    form: tuple[int, bool], needed: list[str], paths: list[str], number: int, program: bool
) -> None:
    bits, little = form
    interpreter, soname = ("/lib/ld.so", "") if program else ("", "libx.so.1")
    data = make_elf(bits=bits, little=little, machine=number, flags=number << 16, interpreter=interpreter,
                    needed=needed, soname=soname, rpath=":".join(paths), runpath=":".join(paths[1:]))  # fmt: skip
    assert read_elf(data) == Elf(
        bits, number, little, number << 16, interpreter, soname, tuple(needed), tuple(paths), tuple(paths[1:]), (), ()
    )
    assert read_elf(memoryview(data)) == read_elf(data)


@pytest.mark.parametrize(("bits", "little"), CLASSES)
def test_dlopen_notes_in_a_segment(bits: int, little: bool) -> None:
    order = "<" if little else ">"
    notes = (
        dlopen_note([NOTE], order)
        + dlopen_note([NOTE], order, b"XYZ\0")
        + dlopen_note([{"soname": ["liba.so"]}], order)
    )
    found = read_elf(make_elf(bits=bits, little=little, notes=notes))
    assert found is not None
    assert found.dlopen == (
        DlopenNote("kmod", "Modules", "required", ("libkmod.so.2", "libkmod.so.1")),
        DlopenNote("", "", "recommended", ("liba.so",)),
    )


def test_dlopen_notes_in_a_section_alone() -> None:
    found = read_elf(make_elf(sections={".text": b"x", ".note.dlopen": dlopen_note([NOTE])}))
    assert found is not None
    assert [each.feature for each in found.dlopen] == ["kmod"]


@pytest.mark.parametrize(
    "entry", ["x", {"soname": "liba.so"}, {"soname": ["a"], "priority": "urgent"}, {"feature": "a"}, [[[[]]]], None]
)
def test_malformed_dlopen_notes_are_passed_over(entry: Any) -> None:
    found = read_elf(make_elf(notes=dlopen_note([entry]) + dlopen_note([NOTE])))
    assert found is not None
    assert [each.feature for each in found.dlopen] == ["kmod"]


def test_sonames_that_are_only_mentioned() -> None:
    rest = b"\0/usr/lib/libtss2.so.0\0plugin_%s.so\0mylibfido2.so.1x\0lib.so\0libc.so.6\0libaio.so.1t64\0"
    rest += b" libonly.so \0libown.so.1\0"
    found = read_elf(make_elf(needed=["libc.so.6"], soname="libown.so.1", rest=rest))
    assert found is not None
    assert found.mentioned == ("libaio.so.1t64", "libfido2.so.1", "libonly.so", "libtss2.so.0")


def test_without_a_dynamic_section_nothing_is_mentioned() -> None:
    found = read_elf(make_elf(dynamic=False, rest=b"\0liba.so.1\0"))
    assert found == Elf(64, 62, True, 0, "", "", (), (), (), (), ())


@given(st.lists(st.one_of(SONAMES.map(str.encode), st.binary(max_size=12), st.sampled_from([b".so", b"lib", b"\0"]))))
def test_mentioned_is_what_the_regular_expression_would_find(parts: list[bytes]) -> None:
    rest = b"\0".join(parts)
    data = make_elf(rest=b"\0" + rest)
    found = read_elf(data)
    assert found is not None
    plain = set()
    for run in re.findall(rb"[A-Za-z0-9_+.-]+", data):
        for end in re.finditer(rb"\.so(?:(?:\.[0-9]+)+(?:t64)?)?", run):
            start = run.find(b"lib", 0, end.start())
            if 0 <= start < end.start() - 3:
                plain.add(run[start : end.end()].decode())
    assert set(found.mentioned) == plain


NAMES = st.sampled_from(["pthread_exit", "pthread_cancel", "backtrace", "thrd_exit", "printf", "_x"])


@given(
    st.sampled_from(CLASSES), st.sampled_from([62, 22]), st.sampled_from(["gnu", "sysv"]),
    st.lists(NAMES, unique=True), st.lists(NAMES, unique=True),
)  # fmt: skip
def test_undefined_symbols_that_are_watched(
    form: tuple[int, bool], machine: int, hashes: str, imports: list[str], exports: list[str]
) -> None:
    data = make_elf(
        bits=form[0],
        little=form[1],
        machine=machine,
        imports=imports,
        exports=exports,
        hashes=hashes,
        needed=["liba.so"],
    )
    found = read_elf(data)
    assert found is not None
    assert found.imports == tuple(sorted(set(imports) & set(WATCHED)))


def test_a_symbol_is_found_by_the_end_of_a_longer_name() -> None:
    """Linkers let names share their ends."""
    data = bytearray(make_elf(imports=["my_backtrace"]))
    offset = 1  # the string table has nothing else
    symbol = data.index(struct.pack("<IBBHQQ", offset, 18, 0, 0, 0, 0))
    struct.pack_into("<I", data, symbol, offset + len("my_"))
    found = read_elf(bytes(data))
    assert found is not None
    assert found.imports == ("backtrace",)


def test_sections_by_name() -> None:
    data = make_elf(sections={".modinfo": b"name=x\0", ".mod": b"other"})
    assert elf_section(data, ".modinfo") == b"name=x\0"
    assert elf_section(data, ".mod") == b"other"
    assert elf_section(data, ".missing") is None
    assert elf_section(b"#!/bin/sh", ".mod") is None


SOUND = make_elf(interpreter="/lib/ld.so", needed=["liba.so.1"], runpath="/x", notes=dlopen_note([NOTE]),
                 sections={".modinfo": b"name=x\0"}, imports=["backtrace"], exports=["x", "y"])  # fmt: skip


@given(st.binary(max_size=300), st.integers(0, len(SOUND)), st.booleans())
def test_damage_raises_nothing(noise: bytes, at: int, cut: bool) -> None:
    data = SOUND[:at] + noise + (b"" if cut else SOUND[at + len(noise) :])
    read_elf(data)
    elf_section(data, ".modinfo")


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 8), st.sampled_from([0, 1, 0x7FFFFFFF, (1 << 64) - 1, 1 << 63]))))
def test_extreme_numbers_raise_nothing(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for at, number in changes:
        data[at : at + 8] = struct.pack("<Q", number)
    data[:6] = SOUND[:6]
    read_elf(bytes(data))
    elf_section(bytes(data), ".modinfo")


@given(st.binary(max_size=200))
def test_anything_else_is_no_elf_file(data: bytes) -> None:
    assert data[:4] == b"\x7fELF" or read_elf(data) is None


def test_a_dynamic_section_without_end_costs_little() -> None:
    entry = struct.pack("<qQ", 1, 1)
    data = bytearray(make_elf(needed=["liba.so"], rest=entry * 200_000))
    at = data.index(struct.pack("<II", 2, 4))
    offset = struct.unpack_from("<Q", data, at + 8)[0]
    struct.pack_into("<Q", data, at + 32, len(data) - offset)
    end = data.index(struct.pack("<qQ", 0, 0), offset)
    data[end : end + 16] = entry
    found = read_elf(bytes(data))
    assert found is not None
    assert len(found.needed) < 20_000
