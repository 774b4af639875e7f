# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options of features that are lists: what may be in them, and the ciphers of luks, which are chosen so."""

from __future__ import annotations

import pytest

from preroot.errors import RecipeError
from preroot.recipe.conditions import Facts, complete_options, evaluate
from preroot.recipe.features import Feature, Option
from preroot.recipe.library import load_features
from preroot.recipe.search import BUILT_IN, SearchPath

TRIXIE = Facts("debian", "trixie", "amd64", "systemd", {"systemd": "257.9-1~deb13u1"})


def test_a_list_has_only_what_it_may_choose_from() -> None:
    feature = Feature(options={"ciphers": Option(type="list", choices=("aes", "serpent"))})
    assert complete_options("luks", feature, {"ciphers": ["serpent"]}) == {"ciphers": ["serpent"]}
    assert complete_options("luks", feature, {"ciphers": []}) == {"ciphers": []}
    with pytest.raises(RecipeError, match="is \\['serpant'\\]: it must be an array of aes, serpent"):
        complete_options("luks", feature, {"ciphers": ["serpant"]})


def test_all_ciphers_are_those_of_every_choice() -> None:
    feature = load_features(SearchPath((BUILT_IN,)))["luks"]

    def modules(choice: str) -> set[str]:
        return set(evaluate("luks", feature, TRIXIE, {"ciphers": [choice]}).content.modules.if_present)

    for choice in feature.options["ciphers"].choices:
        assert modules(choice) <= modules("all")
        assert choice == "aes" or not modules(choice) <= modules("aes")
