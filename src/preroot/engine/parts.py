# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which parts a layout has, and what the recipe makes of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from preroot.errors import RecipeError
from preroot.recipe.conditions import Chosen
from preroot.recipe.schema import Budget, Codec, Flavour, FormatName, LayoutName, Recipe, Root, Verity


class PartKind(Struct, frozen=True):
    """What a layout makes of one of its parts."""

    #: it has a tree of its own features; the others are filled from what those features ask for
    own_features: bool = False
    flavour: Flavour = "systemd"
    #: it is there only if a feature of another part asks for it, or the recipe names it
    on_request: bool = False
    #: the feature that the part `base` then has: it keeps the part for later
    keeper: str = ""
    #: directory in the image that its tree lies in; what `base` has in the same form is left out there
    below: str = ""
    #: points whose hooks alone bring it in
    points: tuple[str, ...] = ()
    budget: Budget | None = None


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
    kind: PartKind = PartKind()


#: The exitrd is run by a shell script. What it does not share with the base lies below a directory of the
#: image, and it is put together in /run/initramfs at boot.
_EXITRD = PartKind(
    own_features=True, flavour="busybox", on_request=True, keeper="keep-exitrd", below="usr/lib/preroot/exitrd",
    points=("shutdown",), budget=Budget(compressed_mb=4),
)  # fmt: skip
LAYOUTS: dict[LayoutName, dict[str, PartKind]] = {
    "initrd": {
        "microcode": PartKind(), "base": PartKind(own_features=True), "exitrd": _EXITRD, "modules": PartKind(),
    }
}  # fmt: skip


def part_specs(recipe: Recipe) -> tuple[PartSpec, ...]:
    """Return the parts of the recipe's layout, those on request included.

    Raises RecipeError for a layout or part that there is not.
    """
    parts = LAYOUTS.get(recipe.layout)
    if parts is None:
        raise RecipeError(f"layout {recipe.layout!r} can't be built yet", f"layouts: {', '.join(LAYOUTS)}")
    for name in recipe.part:
        if name not in parts:
            raise RecipeError(f"layout {recipe.layout} has no part {name!r}", f"its parts: {', '.join(parts)}")
    _refuse_without_effect(recipe, parts)
    return tuple(_spec(recipe, name, kind) for name, kind in parts.items())


def _spec(recipe: Recipe, name: str, kind: PartKind) -> PartSpec:
    """Return one part of a layout as the recipe asks for it. Raises RecipeError for what it can't have."""
    given = recipe.part.get(name)
    if given is not None and given.features and not kind.own_features:
        raise RecipeError(
            f"part {name} takes no features of its own: it has what those of the other parts ask for",
            "list them in [part.base]",
        )
    if given is not None and given.flavour and kind.on_request and given.flavour != kind.flavour:
        raise RecipeError(f"part {name} has no flavour {given.flavour}", f"leave it out: it is {kind.flavour}")
    compression = given.compression if given and given.compression else recipe.compression
    early = name == "microcode"  # the kernel reads it before it can decompress anything
    return PartSpec(
        name=name,
        flavour=given.flavour if given and given.flavour else kind.flavour,
        features=given.features if given else (),
        format=given.format if given and given.format else "cpio",
        codec="none" if early else compression.codec,
        level=0 if early else compression.level,
        minus=given.minus if given else (),
        placement=given.placement if given else "",
        budget=given.budget if given and given.budget else kind.budget,
        kind=kind,
    )


def names_part(recipe: Recipe, name: str, points: Sequence[str] = ()) -> bool:
    """Return whether the recipe puts something of its own into a part, which has these points for hooks."""
    tables = (recipe.file, recipe.link, recipe.node, recipe.unit, recipe.secret, recipe.hook)
    named = any(each.part == name for table in tables for each in table)
    return named or any(hook.point in points for hook in recipe.hook)


def check_policies(recipe: Recipe, chosen: Iterable[Chosen]) -> None:
    """Raise RecipeError for a policy of the recipe that none of the features carries out."""
    if recipe.verity != Verity() and not any("verity-policy" in each.content.provides for each in chosen):
        raise RecipeError(
            "the recipe has a [verity] policy, and no feature that carries it out",
            'add "verity" to the features of part base',
        )


def _refuse_without_effect(recipe: Recipe, parts: dict[str, PartKind]) -> None:
    """Raise RecipeError for what this version reads and would do nothing with: nothing is left out in silence."""
    set_in_vain = {
        "root": recipe.root != Root(),
    }
    for name, part in recipe.part.items():
        set_in_vain[f"part.{name}.placement"] = bool(part.placement)
    for key, is_set in set_in_vain.items():
        if is_set:
            raise RecipeError(f"{key} can't be used yet", "leave it out")
    own = [name for name, kind in parts.items() if kind.own_features]
    mine = (recipe.file, recipe.link, recipe.node, recipe.unit, recipe.hook)
    tables = ([each.part for each in table] for table in mine)
    for name in (*(name for table in tables for name in table), *(each.part for each in recipe.secret)):
        if name and name not in own:
            raise RecipeError(
                f"part {name} of layout {recipe.layout} takes nothing of the recipe's own",
                f"leave `part` out, or name {', '.join(own)}",
            )
