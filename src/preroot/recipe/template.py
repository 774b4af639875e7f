# SPDX-License-Identifier: LGPL-2.1-or-later
"""Templates of generated files: `{{NAME}}` is replaced, nothing else is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from preroot.errors import RecipeError, nearest
from preroot.recipe.schema import Recipe
from preroot.recipe.secrets import is_secret_key

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.S)

#: Names that every template may use, besides `option.NAME` of its own feature. Secrets and addresses with
#: credentials are not among them: what is generated ends up in manifests and logs.
NAMES = (
    "distribution.name", "distribution.release", "distribution.arch", "failure.timeout", "failure.action",
    "failure.delay", "failure.degraded_wait", "access.policy", "root.kind", "root.device", "root.fstype", "root.flags",
    "kernel.version", "name", "cmdline", "verity.required", "verity.of", "verity.roothash", "verity.signed",
    "verity.on-corruption",
)  # fmt: skip


def names_in(template: str) -> tuple[str, ...]:
    """Return the names that `template` uses, in their order."""
    return tuple(name.strip() for name in _PLACE.findall(template))


def uses_secret(template: str) -> bool:
    """Return whether `template` shows the value of an option that is a secret."""
    return any(name.startswith("option.") and is_secret_key(name) for name in names_in(template))


def render(template: str, values: Mapping[str, str], where: str = "") -> str:
    """Return `template` with each `{{NAME}}` replaced by `values[NAME]`.

    `where` names the feature (file) in errors. Raises RecipeError for a name that is not in `values`.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1].strip()
        if name not in values:
            hint = nearest(name, values) or "known: " + ", ".join(sorted(values))
            raise RecipeError(f"{where or 'template'}: unknown name {{{{{name}}}}} in a template", hint)
        return values[name]

    return _PLACE.sub(value, template)


def template_values(recipe: Recipe, options: Mapping[str, Any], kernel_version: str = "") -> dict[str, str]:
    """Return what templates of a feature with `options` may use, by name (see NAMES).

    True and false become `yes` and `no` (systemd.syntax(7)), lists are joined by blanks.
    """
    values = {name: _text(value) for name, value in recipe_values(recipe).items()}
    values["kernel.version"] = kernel_version
    values |= {f"option.{name}": _text(value) for name, value in options.items()}
    return values


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the values of the recipe that NAMES has, each of its own type."""
    values = {}
    for name in NAMES:
        if name != "kernel.version":
            value: Any = recipe
            for key in name.split("."):
                value = getattr(value, key.replace("-", "_"))
            values[name] = value
    return values


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(msgspec.to_builtins(value))
