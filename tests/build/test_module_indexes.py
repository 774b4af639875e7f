# SPDX-License-Identifier: LGPL-2.1-or-later
"""Indexes of kernel modules of every architecture, made by this machine's depmod, against what the modules say.

The modules' own sections are read by pyelftools, which knows each class and byte order.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.facts.arch import arch as architecture

BUSYBOX = ("part.base.flavour=busybox", 'part.base.features=["busybox", "ext4", "virtio", "nvme", "scsi"]')


@pytest.mark.parametrize(
    ("release", "arch"),
    [
        ("trixie", "amd64"),
        ("forky", "s390x"),
        *[pytest.param("forky", each, marks=pytest.mark.matrix) for each in ("arm64", "armhf", "ppc64el", "riscv64")],
    ],
)
def test_indexes_say_what_the_modules_say(engine: Engine, debian_lock: LockMaker, release: str, arch: str) -> None:
    values = (f"distribution.release={release}", f"distribution.arch={arch}", *BUSYBOX)
    loaded = engine.load(None, Overrides(set=values))
    plan = engine.plan(loaded, engine.lock(loaded, debian_lock(release, arch, *BUSYBOX)))
    entries = next(part.tree.entries for part in plan.parts if part.name == "modules")
    files = {path: engine.read(entry) for path, entry in entries.items() if entry.type == "file"}
    modules = {name_of(path): Module(data) for path, data in files.items() if path.endswith(".ko")}
    indexes = {PurePosixPath(path).name: data.decode() for path, data in files.items()
               if "/modules." in path and not path.endswith(".bin")}  # fmt: skip
    assert len(modules) > 5
    expected = architecture(arch)
    kinds = {(each.bits, each.little_endian) for each in modules.values()}
    assert kinds == {(expected.bits, expected.little_endian)}
    assert in_index(indexes["modules.dep"]) == {name: all_before(name, modules) for name in modules}
    aliases = {(line.split()[1], line.split()[2]) for line in indexes["modules.alias"].splitlines() if line[0] != "#"}
    assert aliases == {(alias, name) for name, each in modules.items() for alias in each.aliases}
    exported = {line.split()[1] for line in indexes["modules.symbols"].splitlines() if line[0] != "#"}
    assert exported >= {f"symbol:{symbol}" for each in modules.values() for symbol in each.exports}


class Module:
    """What one module says of itself: class, byte order, what it needs, its aliases, the symbols that it exports."""

    def __init__(self, data: bytes) -> None:
        elf: Any = ELFFile(io.BytesIO(data))
        self.bits, self.little_endian = elf.elfclass, elf.little_endian
        section = elf.get_section_by_name(".modinfo").data()
        pairs = [each.decode().partition("=")[::2] for each in section.split(b"\0") if b"=" in each]
        self.depends = {name_of(each) for key, value in pairs if key == "depends" for each in value.split(",") if each}
        self.aliases = {value for key, value in pairs if key == "alias"}
        strings = elf.get_section_by_name("__ksymtab_strings")
        self.exports = {each.decode() for each in strings.data().split(b"\0") if each} if strings else set()


def name_of(path: str) -> str:
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def in_index(text: str) -> dict[str, set[str]]:
    """Return modules.dep: of each module all that must be loaded before it."""
    return {name_of(left): {name_of(each) for each in right.split()}
            for left, _, right in (line.partition(":") for line in text.splitlines())}  # fmt: skip


def all_before(name: str, modules: Mapping[str, Module]) -> set[str]:
    found: set[str] = set()
    queue = [name]
    for each in queue:
        new = (modules[each].depends & set(modules)) - found
        found |= new
        queue += new
    return found
