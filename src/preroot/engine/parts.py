# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which parts a layout has, and what the recipe makes of each. Pure."""

from __future__ import annotations

from msgspec import Struct

from preroot.errors import RecipeError
from preroot.recipe.schema import Budget, Codec, Flavour, FormatName, LayoutName, Recipe, Root, Verity


class PartSpec(Struct, frozen=True):
    """One part as it is asked for."""

    name: str
    flavour: Flavour
    #: names as the recipe lists them
    features: tuple[str, ...]
    format: FormatName
    codec: Codec
    level: int
    minus: tuple[str, ...]
    placement: str
    budget: Budget | None = None


#: part → whether it has a tree of its own features; the others are filled from what those features ask for
LAYOUTS: dict[LayoutName, dict[str, bool]] = {"initrd": {"microcode": False, "base": True, "modules": False}}


def part_specs(recipe: Recipe) -> tuple[PartSpec, ...]:
    """Return the parts of the recipe's layout. Raises RecipeError for a layout or part that there is not."""
    parts = LAYOUTS.get(recipe.layout)
    if parts is None:
        raise RecipeError(f"layout {recipe.layout!r} can't be built yet", f"layouts: {', '.join(LAYOUTS)}")
    for name in recipe.part:
        if name not in parts:
            raise RecipeError(f"layout {recipe.layout} has no part {name!r}", f"its parts: {', '.join(parts)}")
    _refuse_without_effect(recipe, parts)
    specs = []
    for name, has_features in parts.items():
        given = recipe.part.get(name)
        if given is not None and given.features and not has_features:
            raise RecipeError(
                f"part {name} takes no features of its own: it has what those of the other parts ask for",
                "list them in [part.base]",
            )
        compression = given.compression if given and given.compression else recipe.compression
        early = name == "microcode"  # the kernel reads it before it can decompress anything
        specs.append(
            PartSpec(
                name=name,
                flavour=given.flavour if given and given.flavour else "systemd",
                features=given.features if given else (),
                format=given.format if given and given.format else "cpio",
                codec="none" if early else compression.codec,
                level=0 if early else compression.level,
                minus=given.minus if given else (),
                placement=given.placement if given else "",
                budget=given.budget if given else None,
            )
        )
    return tuple(specs)


def _refuse_without_effect(recipe: Recipe, parts: dict[str, bool]) -> None:
    """Raise RecipeError for what this version reads and would do nothing with: nothing is left out in silence."""
    set_in_vain = {
        "verity": recipe.verity != Verity(),
        "root": recipe.root != Root(),
    }
    for name, part in recipe.part.items():
        set_in_vain[f"part.{name}.placement"] = bool(part.placement)
    for key, is_set in set_in_vain.items():
        if is_set:
            raise RecipeError(f"{key} can't be used yet", "leave it out")
    own = [name for name, has_features in parts.items() if has_features]
    mine = (recipe.file, recipe.link, recipe.node, recipe.unit, recipe.hook)
    tables = ([each.part for each in table] for table in mine)
    for name in (*(name for table in tables for name in table), *(each.part for each in recipe.secret)):
        if name and name not in own:
            raise RecipeError(
                f"part {name} of layout {recipe.layout} takes nothing of the recipe's own",
                f"leave `part` out, or name {', '.join(own)}",
            )
