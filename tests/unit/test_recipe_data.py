# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recipes that a program gives as data: what a file with the same values is, or refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import RecipeError
from preroot.recipe.load import Overrides, load_data, load_recipe
from preroot.recipe.schema import Compression, File, Kernel, Part, Recipe
from preroot.recipe.search import BUILT_IN, SearchPath

SEARCH = SearchPath((BUILT_IN,))
TEXT = """
name = "edge"
microcode.vendors = ["intel"]
[part.base]
features = ["...", "-btrfs"]
[compression]
level = 19
[[file]]
path = "etc/motto"
source = "motto"
"""
DATA: dict[str, Any] = {
    "name": "edge",
    "microcode": {"vendors": ("intel",)},
    "part": {"base": {"features": ["...", "-btrfs"]}},
    "compression": {"level": 19},
    "file": [{"path": "etc/motto", "source": Path("motto")}],
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "motto").write_text("built, not copied\n")
    (tmp_path / "r.toml").write_text(TEXT)
    return tmp_path


def test_data_are_what_a_file_with_the_same_values_is(here: Path) -> None:
    overrides = Overrides(set=("failure.timeout=7",))
    data = load_data(DATA, overrides, SEARCH, here)
    file = load_recipe(here / "r.toml", overrides, SEARCH)
    assert data.recipe == file.recipe
    assert data.recipe.part["base"].features[:1] == ("systemd",) and data.recipe.failure.timeout == 7
    assert data.path is None and data.base == here
    assert here / "motto" in data.files
    assert data.where(("compression", "level")) == "recipe from data"


def test_a_recipe_as_an_object_counts_what_is_not_its_default(here: Path) -> None:
    recipe = Recipe(
        name="edge", kernel=Kernel(modules="virtual"), part={"base": Part(features=("...", "-btrfs"))},
        compression=Compression(level=19), file=(File("etc/motto", source="motto"),),
    )  # fmt: skip
    loaded = load_data(recipe, search=SEARCH, base=here).recipe
    assert (loaded.name, loaded.kernel.modules, loaded.compression.level) == ("edge", "virtual", 19)
    features = loaded.part["base"].features
    assert (features[0], features[-1]) == ("systemd", "-btrfs")
    assert loaded.file[0].source == str(here / "motto")


def test_nobody_changes_a_recipe_later(here: Path) -> None:
    data = {"name": "one", "part": {"base": {"features": ["ext4"]}}}
    loaded = load_data(data, search=SEARCH, base=here)
    data["part"]["base"]["features"].append("xfs")  # type: ignore[index]
    assert loaded.layers[-1].data["part"]["base"]["features"] == ["ext4"]


def endless() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["part"] = data
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nmae": "x"}, "recipe from data: unknown key 'nmae' (did you mean 'name'?)"),
        ({"compression": {"level": "high"}}, "recipe from data: compression.level is 'high': it must be an integer"),
        ({"kernel": {"version": None}}, "recipe from data: kernel.version: None is no value (leave the key out)"),
        ({"part": {"base": {"features": {"ext4"}}}},
         "recipe from data: part.base.features: no recipe has values of type set"),
        ({"cmdline": ["quiet", b"splash"]}, "recipe from data: cmdline[1]: no recipe has values of type bytes"),
        ({"part": {1: {}}}, "recipe from data: part: the key 1 is not a string"),
        ({"failure": {"timeout": 10**400}}, "recipe from data: failure.timeout: the integer is too large"),
        ({"name": os.fsdecode(b"\xff")}, "recipe from data: name: '\\udcff' is no Unicode text"),
        ({"file": [{"path": "a", "source": "nowhere"}]}, "recipe from data: file[0].source: "),
        (endless(), "recipe from data: part.part.part.part: more than 32 tables or arrays in one another"),
    ],
)  # fmt: skip
def test_refused_data(here: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_data(data, search=SEARCH, base=here)
    assert str(caught.value).startswith(message)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["name", "kernel", "part", "cmdline", "file", "features", "x"]), values))
def test_any_data_are_a_recipe_or_refused(data: dict[str, Any]) -> None:
    try:
        loaded = load_data(data, search=SEARCH)
    except RecipeError as error:
        assert "recipe from data" in str(error)
    else:
        assert isinstance(loaded.recipe, Recipe)
