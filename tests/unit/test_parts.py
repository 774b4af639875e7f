# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest

from preroot.engine.parts import check_policies, names_part, part_specs
from preroot.errors import RecipeError
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content
from preroot.recipe.schema import Budget, File, Hook, Part, Recipe, Root, Verity


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe(root=Root(device="LABEL=x")), "root can't be used yet"),
        (Recipe(file=(File(path="x", content="", part="modules"),)), "part modules .* takes nothing"),
        (Recipe(part={"modules": Part(features=("ext4",))}), "part modules takes no features"),
        (Recipe(part={"stage1": Part()}), "no part 'stage1'"),
        (Recipe(part={"exitrd": Part(flavour="systemd")}), "part exitrd has no flavour systemd"),
        (Recipe(layout="split"), "layout 'split' can't be built yet"),
    ],
)
def test_nothing_is_asked_for_in_vain(recipe: Recipe, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        part_specs(recipe)


def test_a_policy_without_a_feature_that_carries_it_out_is_refused() -> None:
    recipe = Recipe(verity=Verity(required=True))
    with pytest.raises(RecipeError, match=r"\[verity\] policy, and no feature"):
        check_policies(recipe, [Chosen("ext4", "", {}, Content())])
    check_policies(recipe, [Chosen("mine", "", {}, Content(provides=("verity-policy",)))])
    check_policies(Recipe(), [])


def test_the_parts_of_an_initrd() -> None:
    specs = part_specs(Recipe(part={"base": Part(flavour="busybox", features=("busybox",))}))
    codecs = [("microcode", "none"), ("base", "zstd"), ("exitrd", "zstd"), ("modules", "zstd")]
    assert [(spec.name, spec.codec) for spec in specs] == codecs
    assert specs[1].flavour == "busybox"


def test_the_exitrd_has_a_flavour_and_a_budget_of_its_own() -> None:
    spec = next(each for each in part_specs(Recipe()) if each.name == "exitrd")
    assert (spec.flavour, spec.budget) == ("busybox", Budget(compressed_mb=4))
    larger = Budget(compressed_mb=9)
    spec = next(each for each in part_specs(Recipe(part={"exitrd": Part(budget=larger)})) if each.name == "exitrd")
    assert spec.budget == larger


def test_what_the_recipe_puts_into_a_part() -> None:
    recipe = Recipe(file=(File(path="x", content="", part="exitrd"),))
    assert names_part(recipe, "exitrd")
    assert not names_part(recipe, "base")
    bye = Recipe(hook=(Hook(point="shutdown", name="bye", content="#!/bin/sh"),))
    assert names_part(bye, "exitrd", ("shutdown",)) and not names_part(bye, "exitrd")
