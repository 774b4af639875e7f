# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest

from preroot.engine.parts import part_specs
from preroot.errors import RecipeError
from preroot.recipe.schema import File, Part, Recipe, Root, Verity


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe(verity=Verity(required=True)), "verity can't be used yet"),
        (Recipe(root=Root(device="LABEL=x")), "root can't be used yet"),
        (Recipe(file=(File(path="x", content="", part="modules"),)), "part modules .* takes nothing"),
        (Recipe(part={"modules": Part(features=("ext4",))}), "part modules takes no features"),
        (Recipe(part={"stage1": Part()}), "no part 'stage1'"),
        (Recipe(layout="split"), "layout 'split' can't be built yet"),
    ],
)
def test_nothing_is_asked_for_in_vain(recipe: Recipe, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        part_specs(recipe)


def test_the_parts_of_an_initrd() -> None:
    specs = part_specs(Recipe(part={"base": Part(flavour="busybox", features=("busybox",))}))
    assert [(spec.name, spec.codec) for spec in specs] == [("microcode", "none"), ("base", "zstd"), ("modules", "zstd")]
    assert specs[1].flavour == "busybox"
