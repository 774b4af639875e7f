# SPDX-License-Identifier: LGPL-2.1-or-later
"""The early archive with the microcode of real packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.errors import PrerootError
from preroot.facts.microcode import amd_narrowed, intel_signatures, parse_cpu, split_signature

NON_FREE = 'distribution.components=["main", "non-free-firmware"]'
BOTH = (NON_FREE, 'microcode.vendors=["amd", "intel"]')


def archive(engine: Engine, lock: Path, *sets: str) -> dict[str, bytes]:
    loaded = engine.load(None, Overrides(set=sets))
    locked = engine.lock(loaded, lock)
    (part,) = [each for each in engine.plan(loaded, locked).parts if each.name == "microcode"]
    assert part.codec == "none"
    entries = {path.rpartition("/")[2]: entry for path, entry in part.tree.entries.items() if entry.type == "file"}
    return {name: engine.read(entry) for name, entry in entries.items()}


@pytest.mark.parametrize("release", ["trixie", pytest.param("bookworm", marks=pytest.mark.matrix)])
def test_all_of_both_vendors(engine: Engine, debian_lock: LockMaker, release: str) -> None:
    found = archive(engine, debian_lock(release, "amd64", *BOTH), f"distribution.release={release}", *BOTH)
    signatures = {split_signature(each) for each in intel_signatures(found["GenuineIntel.bin"])}
    assert (6, 0x55, 4) in signatures
    assert (6, 0x5E, 3) in signatures, "Debian marks it .initramfs: it must not be loaded later"
    assert len(signatures) > 100
    for cpu in ("fam17h-01-02", "fam19h-21-02", "fam10h"):
        assert amd_narrowed(found["AuthenticAMD.bin"], [parse_cpu(cpu)])


def test_some_processors_from_the_same_lock(engine: Engine, debian_lock: LockMaker) -> None:
    lock = debian_lock("trixie", "amd64", *BOTH)
    found = archive(engine, lock, NON_FREE, 'microcode.cpus=["06-5e-03", "fam19h-21"]')
    assert {split_signature(each) for each in intel_signatures(found["GenuineIntel.bin"])} == {(6, 0x5E, 3)}
    data = found["AuthenticAMD.bin"]
    assert amd_narrowed(data, [parse_cpu("fam19h-21")]) == data
    assert not amd_narrowed(data, [parse_cpu("fam17h")])
    assert sum(map(len, found.values())) < 500_000


def test_the_error_names_the_component(engine: Engine, tmp_path: Path) -> None:
    loaded = engine.load(None, Overrides(set=('microcode.cpus=["06-5e-03"]',)))
    with pytest.raises(PrerootError, match="unknown package 'intel-microcode'") as error:
        engine.lock(loaded, tmp_path / "lock")
    assert error.value.hint.endswith('component non-free-firmware: components = ["main", "non-free-firmware"]')
