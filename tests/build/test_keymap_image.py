# SPDX-License-Identifier: LGPL-2.1-or-later
"""The feature `keymap` with real keymaps: layout, includes and loadkeys are in the image, plain, and loaded early."""

from __future__ import annotations

import pytest
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.errors import PrerootError
from preroot.tree.model import Entry

FEATURE = 'part.base.features=["...", "keymap"]'
TOP = "usr/share/keymaps/i386"
UNIT = "usr/lib/systemd/system/preroot-keymap.service"


def entries(engine: Engine, debian_lock: LockMaker, release: str, *sets: str) -> dict[str, Entry]:
    values = (f"distribution.release={release}", FEATURE, *sets)
    loaded = engine.load(None, Overrides(set=values))
    locked = engine.lock(loaded, debian_lock(release, "amd64", FEATURE))
    plan = engine.plan(loaded, locked)
    return {path: entry for part in plan.parts for path, entry in part.tree.entries.items()}


@pytest.mark.parametrize("release", ["trixie", "bookworm", pytest.param("sid", marks=pytest.mark.matrix)])
def test_a_german_keymap_with_its_includes(engine: Engine, debian_lock: LockMaker, release: str) -> None:
    found = entries(engine, debian_lock, release, 'features.keymap.keymap="de-latin1-nodeadkeys"')
    maps = {path: entry for path, entry in found.items() if path.startswith(TOP) and entry.type == "file"}
    assert set(maps) == {
        f"{TOP}/{path}"
        for path in (
            "qwertz/de-latin1-nodeadkeys.kmap",
            "qwertz/de-latin1.kmap",
            "include/euro.inc",
            "include/linux-keys-bare.inc",
            "include/linux-with-alt-and-altgr.inc",
            "include/qwertz-layout.inc",
        )
    }
    assert b'include "de-latin1.kmap"' in engine.read(maps[f"{TOP}/qwertz/de-latin1-nodeadkeys.kmap"])
    assert all(
        entry.owner.startswith("console-data=") and entry.changes == ("decompressed gz",) for entry in maps.values()
    )
    assert "usr/bin/loadkeys" in found
    unit = engine.read(found[UNIT]).decode()
    assert "ExecStart=/usr/bin/loadkeys --quiet de-latin1-nodeadkeys\n" in unit
    assert found["etc/systemd/system/sysinit.target.wants/preroot-keymap.service"].target == f"/{UNIT}"


def test_us_is_there_and_not_loaded_because_the_kernel_starts_with_it(engine: Engine, debian_lock: LockMaker) -> None:
    found = entries(engine, debian_lock, "trixie")
    assert f"{TOP}/qwerty/us.kmap" in found
    assert "usr/bin/loadkeys" in found
    assert UNIT not in found


def test_a_keymap_that_does_not_exist(engine: Engine, debian_lock: LockMaker) -> None:
    with pytest.raises(PrerootError, match=r"feature keymap takes .*/klingon.kmap.gz, which matches nothing"):
        entries(engine, debian_lock, "trixie", 'features.keymap.keymap="klingon"')
