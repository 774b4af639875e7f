# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recipe's schema for people and editors: docs/recipe.md and a JSON Schema, made from the classes of schema.py."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from preroot.recipe.merge import MORE
from preroot.recipe.schema import Recipe
from preroot.recipe.validate import bare, metas, wanted

_INTRODUCTION = """\
# The recipe

<!-- Generated from src/preroot/recipe/schema.py by recipe_reference() in reference.py; a test compares them. -->

A recipe is a TOML file. Every key may be left out; unknown keys are errors. `preroot schema` prints a JSON Schema
for editors, `preroot plan --explain` shows where each value came from.

```toml
name = "server"

[distribution]
release = "trixie"
arch = "amd64"

[kernel]
package = "linux-image-amd64"
modules = "generic"
add-modules = ["drivers/net/ethernet/intel/"]

[part.base]
features = ["...", "keymap"]

[[file]]
path = "/etc/motd"
content = "early userspace\\n"
```

## Layers

Values come from these files, each over the one before; then from the command line (`--set KEY=VALUE` and others):

1. `preroot.toml` of preroot itself, then of `/usr/lib/preroot`, `/usr/local/lib/preroot`, `/run/preroot` and
   `/etc/preroot`; a link to `/dev/null` masks those of the directories before it;
2. `preroot.toml.d/*.toml` of these directories, sorted by file name; of several with one name the last directory's
   counts, and a link to `/dev/null` or an empty file masks it;
3. the recipe: a file, or the name of one in `recipes/` of these directories (the last that has it); without one,
   `default`;
4. `RECIPE.d/*.toml`: for a file beside it, for a name in `recipes/` of these directories, as above.

Tables merge key by key. Arrays of tables (`[[file]]`) add up. Other arrays replace, unless their first element is
`"..."`, which stands for the value so far. `-NAME` in a list of features refuses one that was listed before or that
another feature recommends. Relative paths of files on this machine start from the file that names them.
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a recipe."""
    # a class cannot be named as the built-in exception is; in the schema it can
    schema = json.loads(json.dumps(msgspec.json.schema(Recipe)).replace("Exception_", "Exception"))
    definitions = schema["$defs"]
    recipe = definitions.pop("Recipe")
    for definition in (recipe, *definitions.values()):
        for value in definition.get("properties", {}).values():
            _allow_more(value)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **recipe,
        "title": "preroot recipe",
        "$defs": definitions,
    }


def _allow_more(value: dict[str, Any]) -> None:
    """Let `"..."` stand in arrays whose elements are otherwise restricted."""
    items = value.get("items", {})
    if value.get("type") == "array" and ("enum" in items or "pattern" in items or "$ref" in items):
        value["items"] = {"anyOf": [items, {"const": MORE}]}


def recipe_reference() -> str:
    """Return docs/recipe.md."""
    chapters = [_INTRODUCTION, "## Keys\n", "### Top level\n", _table(Recipe, plain_only=True)]
    for field in msgspec.structs.fields(Recipe):
        kind = _table_type(field.type)
        if kind is not None:
            chapters += _chapter(field.encode_name, field.type, kind, _description(field.type))
    return "\n".join(chapters).rstrip("\n") + "\n"


def _chapter(name: str, field_type: Any, kind: type[Struct] | None, description: str) -> list[str]:
    origin = get_origin(bare(field_type))
    shown = f"{name}.NAME" if origin is dict else name
    title = f"[[{shown}]]" if origin is tuple else f"[{shown}]"
    text = [f"### `{title}`\n"]
    if kind is not None and kind.__doc__:
        text.append(inspect.cleandoc(kind.__doc__) + "\n")
    if description:
        text.append(description[0].upper() + description[1:] + ".\n")
    if kind is not None:
        text.append(_table(kind))
    if kind is None:
        return text
    for field in msgspec.structs.fields(kind):
        inner = _table_type(field.type)
        if inner is not None and _is_new(inner):
            text += _chapter(f"{name}.NAME.{field.encode_name}", field.type, inner, _description(field.type))
    return text


def _is_new(kind: type[Struct]) -> bool:
    """Return whether `kind` has no chapter of its own at the top."""
    return kind not in [_table_type(field.type) for field in msgspec.structs.fields(Recipe)]


def _table_type(kind: Any) -> type[Struct] | None:
    """Return the table that a key of type `kind` is, holds, or is an array of; None for plain values."""
    plain = bare(kind)
    if get_origin(plain) in (tuple, dict):
        plain = bare(get_args(plain)[1 if get_origin(plain) is dict else 0])
    return plain if isinstance(plain, type) and issubclass(plain, Struct) else None


def _description(kind: Any) -> str:
    return next((meta.description for meta in metas(kind) if meta.description), "")


def _table(kind: type[Struct], *, plain_only: bool = False) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if plain_only and _table_type(field.type) is not None:
            continue
        kind_words = wanted(field.type)
        description = _description(field.type)
        pattern_words = next((meta.description or "" for meta in metas(field.type) if meta.pattern), "")
        if pattern_words:  # what the value must be stands in the last column then, not twice
            kind_words = kind_words.replace(f" ({description})", "").replace(f" ({pattern_words})", "")
            description = "; ".join(dict.fromkeys(filter(None, (description, pattern_words))))
        cells = [f"`{field.encode_name}`", kind_words, _default(field), description]
        lines.append("| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    if value is None or isinstance(value, Struct):
        return ""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    text = msgspec.json.encode(value).decode()
    return "" if text in ('""', "[]", "{}") else f"`{text}`"
