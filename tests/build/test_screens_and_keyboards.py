# SPDX-License-Identifier: LGPL-2.1-or-later
"""The features `console` and `input` with real kernels: in generic images, not in virtual ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixture_types import Command, LockMaker

from preroot.engine import Engine, Overrides
from preroot.errors import PrerootError
from preroot.tree.bill import bills
from preroot.tree.model import PartPlan

GENERIC = ("kernel.package=linux-image-amd64", "kernel.modules=generic")
NATIVE = "features.console.drm=native"
GRAPHICS = {"i915", "xe", "amdgpu", "radeon", "nouveau"}


def modules(engine: Engine, lock: Path, *sets: str) -> tuple[PartPlan, set[str]]:
    loaded = engine.load(None, Overrides(set=sets))
    plan = engine.plan(loaded, engine.lock(loaded, lock))
    assert plan.kernel is not None
    (part,) = [each for each in plan.parts if each.name == "modules"]
    return part, set(plan.kernel.modules)


def test_nothing_for_virtual_machines(engine: Engine, debian_lock: LockMaker) -> None:
    lock = debian_lock()
    with_them, _ = modules(engine, lock)
    without, _ = modules(engine, lock, 'part.base.features=["...", "-console", "-input"]')
    assert with_them.tree == without.tree


def test_generic_images_have_keyboards_and_simple_screens(engine: Engine, debian_lock: LockMaker) -> None:
    part, names = modules(engine, debian_lock("trixie", "amd64", *GENERIC), *GENERIC)
    keyboards = {
        "usbhid", "hid_generic", "hid_apple", "hid_logitech_dj", "applespi", "surface_kbd", "thunderbolt", "ucsi_acpi",
        "i2c_hid_acpi", "intel_lpss_pci", "i2c_designware_pci", "pinctrl_alderlake", "hyperv_keyboard", "virtio_input",
    }  # fmt: skip
    assert keyboards <= names
    assert {"bochs", "virtio_gpu", "vmwgfx", "qxl", "ast", "mgag200", "hyperv_drm"} <= names
    assert not GRAPHICS & names
    assert not [path for path in part.tree.entries if path.startswith("usr/lib/firmware/")]
    costs = {each.feature: each.module_bytes for each in bills(part.tree)}
    assert 1e6 < costs["console"] < 8e6
    assert 1e6 < costs["input"] < 12e6


def test_a_kernel_of_the_console_alone(engine: Engine, debian_lock: LockMaker) -> None:
    _, names = modules(engine, debian_lock("trixie", "amd64", *GENERIC), *GENERIC, "features.console.drm=none")
    assert not {"bochs", "virtio_gpu", "ast"} & names


def test_the_bill_is_in_the_plan(preroot: Command, debian_lock: LockMaker, tmp_path: Path) -> None:
    (tmp_path / "preroot.lock").write_bytes(debian_lock("trixie", "amd64", *GENERIC).read_bytes())
    sets = [word for value in GENERIC for word in ("--set", value)]
    done = preroot("plan", "--quiet", "--output", tmp_path, *sets)
    assert "for console alone: 2" in done.stdout, done.stderr


def test_native_needs_firmware_packages(engine: Engine, tmp_path: Path) -> None:
    loaded = engine.load(None, Overrides(set=(NATIVE,)))
    with pytest.raises(PrerootError, match="unknown package 'firmware-amd-graphics'") as error:
        engine.lock(loaded, tmp_path / "lock")
    assert "component non-free-firmware" in error.value.hint


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_native_brings_graphics_cards_with_their_firmware(
    engine: Engine, debian_lock: LockMaker, release: str
) -> None:  # fmt: skip
    sets = (
        f"distribution.release={release}",
        *GENERIC,
        NATIVE,
        'distribution.components=["main", "non-free-firmware"]',
    )
    part, names = modules(engine, debian_lock(release, "amd64", *sets[1:]), *sets)
    assert names >= GRAPHICS - ({"xe"} if release == "bookworm" else set())
    firmware = {path.split("/")[3] for path in part.tree.entries if path.startswith("usr/lib/firmware/")}
    assert {"amdgpu", "i915", "nvidia"} <= firmware
    costs = {each.feature: each for each in bills(part.tree)}
    assert costs["console"].firmware_bytes > 5e7
