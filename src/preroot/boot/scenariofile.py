# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scenarios as data: sets of disks, images, boots and what must be seen, in one TOML file a topic (docs/test.md).

Pure: files are read here and checked; what they say is done by `engine.testing`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from preroot.boot.machine import Screen
from preroot.boot.platforms import Bus
from preroot.boot.scenario import Answer, Within
from preroot.errors import RecipeError, nearest
from preroot.recipe.toml import parse, places, read_text
from preroot.recipe.validate import convert

#: what a disk set may be called, and its disks: they are variables of the script, and serial numbers
_NAME = re.compile(r"[a-z][a-z0-9_]{0,19}")
#: disks that the preparation machine has besides those of the set
_RESERVED = ("script", "tree")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class DiskSet(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Disks that are made once, by a script in the preparation machine, for all scenarios that name them.

    `size`: blank disks, name → MiB. `script` is POSIX sh (docs/test.md); each disk's device is in a variable of its
    name. `root` is what `fill` puts on them: `tiny` (an init that proves itself), `debian` (a whole system) or nothing.
    `device` is what fstab of a Debian root says of /, `packages` what it has installed beyond the usual. `tpm`: the
    preparation machine and all boots have a TPM 2.0 with one state, so that what the script sealed can be unsealed.
    """

    size: dict[str, int]
    script: str = ""
    root: str = ""
    device: str = ""
    packages: tuple[str, ...] = ()
    bus: Bus = "virtio"
    paths: int = 1
    tpm: bool = False


class Flip(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One bit of a disk that is turned over before the first boot; `offset` in bytes: a number, or {VALUE}."""

    disk: str
    offset: str


class Boot(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One boot of a scenario.

    `cmdline` may have {NAME} for values that the script of the disks has handed out. `reached`: whether the root
    must be reached, or must not. `answer`: what is typed when. `must`, `must-not`: regular expressions for lines of the
    console; `order`: expressions whose first lines come in this order; `within`: bounds of guest time. `resumes`: the
    system that the boot before has put to sleep must go on. `disks`: those that are attached, in order (none named:
    all). `tpm` = false takes the TPM of the set away. `screen`: a graphics card, `vga` or `virtio`. `check` is a script
    for the preparation machine, run on the disks after the boot; it must succeed. `memory` in MiB, `timeout` in
    seconds.
    """

    cmdline: str = ""
    reached: bool = True
    answer: tuple[Answer, ...] = ()
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    within: tuple[Within, ...] = ()
    disks: tuple[str, ...] = ()
    tpm: bool = True
    screen: Screen = ""
    resumes: bool = False
    check: str = ""
    memory: int = 1024
    timeout: float = 240


class ScenarioSpec(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """One scenario. `recipe` is data of a recipe, over the file's own; `features` are added to those of part base.

    `matrix`: too long for every run. Boots use the same disks one after the other, and keep what was written.
    """

    summary: str
    boot: tuple[Boot, ...]
    disks: str = ""
    features: tuple[str, ...] = ()
    flavour: str = ""
    recipe: dict[str, Any] = {}
    flip: tuple[Flip, ...] = ()
    matrix: bool = False


class ScenarioFile(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """All of one file."""

    scenario: dict[str, ScenarioSpec]
    disks: dict[str, DiskSet] = {}
    recipe: dict[str, Any] = {}


def load_scenarios(path: Path) -> ScenarioFile:
    """Return the scenarios of the file `path`, checked. Raises RecipeError with file and line for what is wrong."""
    text = read_text(path)
    data = parse(text, str(path))
    where = places(path, text)
    loaded = _with_markers(convert(data, ScenarioFile, where), data)
    for name, disks in loaded.disks.items():
        _check_disks(disks, where(("disks", name)))
    for name, spec in loaded.scenario.items():
        _check_scenario(spec, loaded, where(("scenario", name)))
    return loaded


def _with_markers(loaded: ScenarioFile, data: dict[str, Any]) -> ScenarioFile:
    """Return the file with its recipes as written: in a recipe, "..." at the start of a list means something."""
    given = data["scenario"]
    specs = {name: replace(spec, recipe=given[name].get("recipe", {})) for name, spec in loaded.scenario.items()}
    return replace(loaded, scenario=specs, recipe=data.get("recipe", {}))


def _check_disks(disks: DiskSet, where: str) -> None:
    for name, size in disks.size.items():
        if _NAME.fullmatch(name) is None or name in _RESERVED:
            raise RecipeError(f"{where}: no disk can be called {name!r}",
                              "lower case letters, digits, _, at most 20; not " + " or ".join(_RESERVED))  # fmt: skip
        if size < 1:
            raise RecipeError(f"{where}: the disk {name} has {size} MiB", "at least 1")
    if not 1 <= disks.paths <= 8 or (disks.paths > 1 and disks.bus != "scsi"):
        raise RecipeError(f"{where}: disks on the bus {disks.bus} with {disks.paths} paths",
                          'at most 8, and more than one only with bus = "scsi"')  # fmt: skip
    if disks.root not in ("", "tiny", "debian"):
        raise RecipeError(f"{where}: no root {disks.root!r} is known",
                          nearest(disks.root, ("tiny", "debian")) or "known: tiny, debian")  # fmt: skip
    if disks.root == "debian" and not disks.device:
        raise RecipeError(f"{where}: a debian root needs a device", 'device = "/dev/mapper/root", as in its fstab')


def _check_scenario(spec: ScenarioSpec, file: ScenarioFile, where: str) -> None:
    if not spec.boot:
        raise RecipeError(f"{where}: a scenario has at least one boot", "add [[scenario.NAME.boot]]")
    if spec.disks and spec.disks not in file.disks:
        raise RecipeError(f"{where}: there is no set of disks {spec.disks!r}",
                          nearest(spec.disks, file.disks) or "known: " + ", ".join(file.disks))  # fmt: skip
    if spec.boot[0].resumes:
        raise RecipeError(
            f"{where}: the first boot can't resume another", "`resumes` is for a boot after one that hibernates"
        )
    sizes = file.disks[spec.disks].size if spec.disks else {}
    for name in [*(flip.disk for flip in spec.flip), *(name for boot in spec.boot for name in boot.disks)]:
        if name not in sizes:
            raise RecipeError(f"{where}: there is no disk {name!r} in the set {spec.disks!r}",
                              nearest(name, sizes) or "known: " + ", ".join(sizes))  # fmt: skip
    for boot in spec.boot:
        for pattern in (*boot.must, *boot.must_not, *boot.order, *(answer.at for answer in boot.answer)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise RecipeError(
                    f"{where}: {pattern!r} is no regular expression: {error}", "see Python's re"
                ) from None


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with each {NAME} replaced by that value. Raises RecipeError for one that nothing has handed out."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise RecipeError(f"no value {found[1]} was handed out by the script of the disks",
                              nearest(found[1], values) or "the script says: value NAME VALUE")  # fmt: skip
        return values[found[1]]

    return _PLACEHOLDER.sub(value, text)
