# SPDX-License-Identifier: LGPL-2.1-or-later
"""What shells can complete: names of features, keys of recipes. Called at the press of a key, so it must be quick."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click


def feature_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the features that begin with what is typed, with its leading `-` if it has one."""
    from preroot.recipe.search import SEARCH_PATH

    sign = "-" if incomplete.startswith("-") else ""
    names: set[str] = set()
    for directory in SEARCH_PATH.directories:
        if (directory / "features").is_dir():
            names |= {name[:-5] for name in os.listdir(directory / "features") if name.endswith(".toml")}  # noqa: PTH208
    return sorted(sign + name for name in names if (sign + name).startswith(incomplete))


def recipe_keys(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the `KEY=` that begin with what is typed; behind the `=`, the values of a choice."""
    from preroot.recipe.schema import Recipe

    key, equals, _ = incomplete.partition("=")
    found = []
    for name, choices in _keys(Recipe, ""):
        if not equals and name.startswith(incomplete):
            found.append(f"{name}=")
        elif equals and name == key:
            found += [f"{name}={choice}" for choice in choices]
    return [each for each in found if each.startswith(incomplete)]


def _keys(table: Any, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (dotted key, its choices) of the keys of a table that hold a plain value."""
    from typing import Literal, get_args, get_origin

    import msgspec

    from preroot.recipe.validate import bare

    for field in msgspec.structs.fields(table):
        kind = bare(field.type)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _keys(kind, f"{prefix}{field.encode_name}.")
        elif get_origin(kind) is not dict and not (get_origin(kind) is tuple and _holds_tables(get_args(kind)[0])):
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            yield prefix + field.encode_name, tuple(str(choice) for choice in choices)


def _holds_tables(kind: Any) -> bool:
    import msgspec

    from preroot.recipe.validate import bare

    return isinstance(bare(kind), type) and issubclass(bare(kind), msgspec.Struct)
