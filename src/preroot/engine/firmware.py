# SPDX-License-Identifier: LGPL-2.1-or-later
"""The firmware of the drivers in an image: entries for the part `modules`, decompressed, with what there is not."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from preroot.engine.contents import PackageContents
from preroot.engine.locking import Locked
from preroot.errors import BuildError
from preroot.recipe.distributions import package_of, where_to_find
from preroot.recipe.schema import Recipe
from preroot.tree.build import package_entry, without_compression
from preroot.tree.firmware import (
    FIRMWARE,
    Asking,
    FirmwareRules,
    is_about_firmware,
    lacking_line,
    select_firmware,
)
from preroot.tree.model import Entry, LeftOut, Tree


class PlannedFirmware(Struct, frozen=True):
    """Entries for firmware files and the links to them, and what was decided on the way."""

    entries: tuple[Entry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_firmware(
    asked: Sequence[Asking], recipe: Recipe, locked: Locked, version: str, contents: PackageContents
) -> PlannedFirmware:
    """Return the firmware that the drivers `asked` of kernel `version` ask for, and the recipe includes.

    Raises BuildError with a line for each driver that was named and lacks firmware that it needs.
    """
    rules = _rules(recipe, locked, contents)
    if not (asked or rules.include or rules.exceptions):
        return PlannedFirmware()
    info = locked.distribution
    locked_names = {package.name for package in contents.pool.packages}

    def where(name: str) -> str:
        path = f"{FIRMWARE}/{name}"
        there = package_of(path, info) in locked_names  # it is in the lock, and has no such file
        return "" if there else where_to_find(path, info, recipe.distribution.components)

    chosen = select_firmware(asked, contents.pool, version, rules, where)
    if chosen.problems:
        raise BuildError(
            "\n".join(chosen.problems),
            "add the package to the recipe's `packages`, or say in an [[except]] with its path why it may be missing",
        )
    entries = {path: package_entry(path, reasons, contents.pool) for path, reasons in chosen.paths.items()}
    plain = {path: contents.plain(path) for path in chosen.compressed}
    tree = without_compression(Tree(entries), plain)
    line = lacking_line(chosen.lacking, where)
    return PlannedFirmware(tuple(tree.entries.values()), chosen.left_out, (line,) if line else ())


def _rules(recipe: Recipe, locked: Locked, contents: PackageContents) -> FirmwareRules:
    declared = [
        (each, f"feature {feature.name}")
        for features in locked.chosen.values() for feature in features for each in feature.content.exceptions
    ]  # fmt: skip
    declared += [(each, "the recipe") for each in recipe.exceptions]
    return FirmwareRules(
        drivers=locked.drivers,
        include=recipe.firmware.include,
        exclude=recipe.firmware.exclude,
        exclude_paths=tuple(contents.pool.canonical(each) for each in recipe.exclude),
        exceptions=tuple((each, owner) for each, owner in declared if is_about_firmware(each)),
    )
