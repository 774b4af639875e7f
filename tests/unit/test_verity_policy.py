# SPDX-License-Identifier: LGPL-2.1-or-later
"""[verity] of a recipe: what it can say, and how features ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from preroot.errors import RecipeError
from preroot.recipe.conditions import Facts, evaluate
from preroot.recipe.features import Feature, Variant, When
from preroot.recipe.library import check_feature
from preroot.recipe.load import load_recipe
from preroot.recipe.schema import Access, Recipe, Verity
from preroot.recipe.template import recipe_values

HASH = "ab" * 32


def test_a_variant_can_depend_on_the_recipe() -> None:
    feature = Feature(
        needs=("bin:a",),
        variant=(
            Variant(when=When(recipe={"verity.required": True}), needs=("bin:b",)),
            Variant(when=When(recipe={"access.policy": ["open", "password"]}), needs=("bin:c",)),
        ),
    )
    for values, needs in (
        (Recipe(), ("bin:a",)),
        (Recipe(verity=Verity(required=True)), ("bin:a", "bin:b")),
        (Recipe(access=Access(policy="open")), ("bin:a", "bin:c")),
    ):
        facts = Facts("debian", "trixie", "amd64", "systemd", recipe=recipe_values(values))
        assert evaluate("f", feature, facts, {}).content.needs == needs
    wrong = Feature(variant=(Variant(when=When(recipe={"verity.require": True})),))
    with pytest.raises(RecipeError, match=r"'verity\.require', which is no value of a recipe .*'verity\.required'"):
        check_feature("f", wrong, str)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[verity]\nroothash = ["xyz"]', "r.toml:2: verity.roothash"),
        ('[verity]\nroothash = ["ABCD"]', "r.toml:2: verity.roothash"),
        (f'[verity]\nroothash = ["{HASH}\\n"]', "r.toml:2: verity.roothash"),
        ('[verity]\nof = "etc"', "r.toml:2: verity.of"),
        ("[verity]\nsigned = true", "r.toml:2: verity.signed is looked at by the guard alone"),
        ('[verity]\nrequired = true\n[access]\npolicy = "open"', "r.toml:2: verity.required and access.policy"),
    ],
)
def test_policies_that_can_not_hold(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert says in str(caught.value)


def test_root_hashes(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'[verity]\nroothash = ["{HASH}"]')
    assert load_recipe(path).recipe.verity.roothash == (HASH,)
