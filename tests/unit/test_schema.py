# SPDX-License-Identifier: LGPL-2.1-or-later
"""The JSON Schema and the reference that are made from the recipe's classes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from preroot.recipe.load import Overrides, load_recipe
from preroot.recipe.reference import json_schema, recipe_reference
from preroot.recipe.schema import Recipe
from preroot.recipe.search import BUILT_IN, SearchPath

DOCUMENT = Path(__file__).parents[2] / "docs/recipe.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.S)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def built_in() -> list[Path]:
    return [BUILT_IN / "preroot.toml", *sorted((BUILT_IN / "recipes").glob("*.toml"))]


@pytest.mark.parametrize("path", built_in(), ids=lambda path: path.name)
def test_built_in_recipes_fit_the_schema(validator: Any, path: Path) -> None:
    validator.validate(tomllib.loads(path.read_text()))
    load_recipe(path, Overrides(), SearchPath((BUILT_IN,)))


def test_there_is_an_example() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_the_reference_are_recipes(validator: Any, text: str, tmp_path: Path) -> None:
    validator.validate(tomllib.loads(text))
    (tmp_path / "r.toml").write_text(text)
    load_recipe(tmp_path / "r.toml", Overrides(), SearchPath((BUILT_IN,)))


def test_the_merged_built_in_recipe_fits_the_schema(validator: Any) -> None:
    recipe = load_recipe(None, Overrides(), SearchPath((BUILT_IN,))).recipe
    validator.validate(msgspec.json.decode(msgspec.json.encode(recipe)))


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({}, True),
        ({"kernel": {"add-modules": ["...", "nbd"]}}, True),
        ({"microcode": {"vendors": ["...", "amd"]}}, True),
        ({"microcode": {"vendors": ["via"]}}, False),
        ({"kernel": {"add_modules": []}}, False),
        ({"kernl": {}}, False),
        ({"part": {"base": {"formt": "cpio"}}}, False),
        ({"part": {"base": {"format": "zip"}}}, False),
        ({"failure": {"timeout": 0}}, False),
        ({"file": [{"content": ""}]}, False),
        ({"file": [{"path": "a", "mode": "u+x"}]}, False),
        ({"user": [{"name": "x:0"}]}, False),
        ({"except": [{"path": "a", "asker": "b", "reason": "c"}]}, True),
        ({"except": [{"path": "a"}]}, False),
    ],
)
def test_the_schema_decides_as_the_program_does(validator: Any, data: dict[str, Any], valid: bool) -> None:
    assert validator.is_valid(data) is valid


def test_every_table_is_closed() -> None:
    schema = json_schema()
    for name, table in {"Recipe": schema, **schema["$defs"]}.items():
        assert table["additionalProperties"] is False, name
        assert not [key for key in table["properties"] if "_" in key], name


def test_every_key_has_a_description() -> None:
    lines = [line for line in recipe_reference().splitlines() if line.startswith("| `")]
    assert len(lines) > 60
    assert [line for line in lines if line.endswith("|  |")] == []


def test_every_key_is_in_the_reference() -> None:
    text = recipe_reference()
    for field in msgspec.structs.fields(Recipe):
        name = field.encode_name
        assert any(each in text for each in (f"| `{name}` |", f"[{name}]", f"[{name}.NAME]")), name


def test_the_reference_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == recipe_reference(), "write recipe_reference() to docs/recipe.md"
