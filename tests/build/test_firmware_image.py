# SPDX-License-Identifier: LGPL-2.1-or-later
"""Firmware of real packages in a plan: with its drivers, their links, and what is said of what is missing."""

from __future__ import annotations

import pytest
from fixture_types import LockMaker

from preroot.engine import Engine, Overrides
from preroot.errors import PrerootError
from preroot.tree.model import Entry, Plan

NON_FREE = 'distribution.components=["main", "non-free-firmware"]'
KERNEL = "kernel.package=linux-image-amd64"


def plan(engine: Engine, debian_lock: LockMaker, lock: tuple[str, ...], *sets: str) -> Plan:
    """Return the plan of the built-in recipe; `lock` are the values that decide about packages."""
    loaded = engine.load(None, Overrides(set=(*lock, *sets)))
    locked = engine.lock(loaded, debian_lock("trixie", "amd64", *lock))
    return engine.plan(loaded, locked)


def firmware(planned: Plan) -> dict[str, Entry]:
    prefix = "usr/lib/firmware/"
    return {
        path.removeprefix(prefix): entry
        for part in planned.parts if part.name == "modules"
        for path, entry in part.tree.entries.items() if path.startswith(prefix) and entry.type != "directory"
    }  # fmt: skip


@pytest.fixture(scope="module")
def with_packages() -> tuple[str, ...]:
    return (KERNEL, NON_FREE, 'packages=["firmware-bnx2", "firmware-qlogic"]')


def test_firmware_comes_with_its_driver(engine: Engine, debian_lock: LockMaker, with_packages: tuple[str, ...]) -> None:
    found = firmware(plan(engine, debian_lock, with_packages, 'kernel.add-modules=["bnx2", "qla2xxx", "qed"]'))
    assert "bnx2/bnx2-mips-09-6.2.1b.fw" in found
    assert "ql2500_fw.bin" in found
    assert not any(path.startswith("cbfw") for path in found), "bna is not in the image"
    one = found["bnx2/bnx2-mips-09-6.2.1b.fw"]
    assert one.owner.startswith("firmware-bnx2=")
    assert [(each.kind, each.asker.rpartition("/")[2]) for each in one.reasons] == [("firmware", "bnx2.ko")]
    assert not firmware(plan(engine, debian_lock, with_packages)), "no driver, no firmware"


def test_missing_for_a_named_module(engine: Engine, debian_lock: LockMaker) -> None:
    with pytest.raises(PrerootError, match=r"of module bnx2, wanted by the recipe, is missing") as error:
        plan(engine, debian_lock, (KERNEL,), 'kernel.add-modules=["bnx2"]')
    assert "firmware-bnx2 (component non-free-firmware) has it" in error.value.message


def test_missing_for_a_directory_is_one_line_and_a_list(engine: Engine, debian_lock: LockMaker) -> None:
    planned = plan(engine, debian_lock, (KERNEL,), 'kernel.add-modules=["drivers/net/ethernet/broadcom/", "amdgpu"]',
                   'firmware.exclude=["amdgpu/*"]', "kernel.modules=list",
                   'except=[{path="usr/lib/firmware/amdgpu/*", asker="*/amdgpu.ko", reason="unused"}]')  # fmt: skip
    (line,) = [each for each in planned.warnings if "firmware" in each]
    assert line.startswith("2 drivers lack firmware (bnx2, bnx2x); firmware-bnx2 (component non-free-firmware), ")
    left_out = {each.what: each for each in planned.left_out}
    assert "firmware tigon/tg3.bin" in left_out, "tg3 works without, so the line does not name it"
    assert left_out["firmware amdgpu/navi10_rlc.bin"].reason == "an exception is declared for it: unused"


@pytest.mark.matrix
def test_graphics_firmware_with_its_links(engine: Engine, debian_lock: LockMaker) -> None:
    lock = (KERNEL, NON_FREE, 'packages=["firmware-nvidia-graphics", "firmware-iwlwifi"]')
    assert not any(path.startswith("nvidia") for path in firmware(
        plan(engine, debian_lock, lock, 'kernel.add-modules=["drivers/gpu/drm/nouveau/"]')))  # fmt: skip
    found = firmware(plan(engine, debian_lock, lock, 'kernel.add-modules=["nouveau", "iwlwifi"]'))
    links = {path for path, entry in found.items() if entry.type == "symlink" and path.startswith("nvidia/")}
    assert links
    assert any(path.endswith(".pnvm") for path in found)
