# SPDX-License-Identifier: LGPL-2.1-or-later
"""Evaluating a feature: which of its variants hold under given facts, and what the feature then contributes. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from preroot.errors import RecipeError, nearest
from preroot.recipe.features import Content, Feature, KernelOptions, Modules, Option, Take, Variant, When
from preroot.recipe.secrets import holds_secret


class Facts(Struct, frozen=True):
    """What `when` is compared with."""

    distribution: str
    #: canonical release name (trixie), as distributions/NAME.toml has it
    release: str
    #: Debian's spelling
    arch: str
    flavour: str
    #: name → package version ("systemd" → "257.9-1~deb13u1"); empty as long as packages are not resolved
    versions: dict[str, str] = {}
    #: kernel release (uname -r), or ""
    kernel: str = ""
    #: values of the recipe by name, see template.recipe_values
    recipe: dict[str, Any] = {}


class Chosen(Struct, frozen=True):
    """A feature as it is chosen: its options with defaults filled in, and its content without conditions."""

    name: str
    summary: str
    options: dict[str, Any]
    content: Content


_COMPARISON = re.compile(r"\s*(>=|<=|==|=|!=|>|<)?\s*([0-9]+(?:\.[0-9]+)*)\s*")
#: epoch, and what follows the leading numbers of the upstream version (deb-version(7))
_UPSTREAM = re.compile(r"(?:[0-9]+:)?v?([0-9]+(?:\.[0-9]+)*)")


def compare(version: str, condition: str) -> bool:
    """Return whether `version` ("257.9-1~deb13u1", "1:2.3", "6.12.33+deb13-amd64") fulfils `condition`.

    A condition is one or more comparisons separated by commas: `>=256`, `<257`, `=252`, `>=6.1,<6.13`. As many
    numbers of the upstream version are compared as the condition has, so 256.4 is `=256`, and 257~rc1 is not `<257`.
    An empty or numberless version fulfils nothing. Raises ValueError for a malformed condition.
    """
    terms = [_COMPARISON.fullmatch(term) for term in condition.split(",")]
    if not all(terms):
        raise ValueError(f"{condition!r} is not a comparison such as '>=256'")
    found = _UPSTREAM.match(version)
    if not found:
        return False
    numbers = [int(each) for each in found[1].split(".")]
    for term in terms:
        assert term is not None
        bound = [int(each) for each in term[2].split(".")]
        have = (numbers + [0] * len(bound))[: len(bound)]
        operator = term[1] or "="
        fulfilled = (
            (operator in ("=", "==", ">=", "<=") and have == bound)
            or (operator in (">", ">=", "!=") and have > bound)
            or (operator in ("<", "<=", "!=") and have < bound)
        )
        if not fulfilled:
            return False
    return True


def check_version(condition: str, where: str) -> None:
    """Raise RecipeError for a condition on versions that is malformed; '' is fine, `where` is its place."""
    try:
        compare("1", condition or ">=0")
    except ValueError as error:
        raise RecipeError(f"{where}: {error}", "compare as in '>=256,<262'") from None


def holds(when: When, facts: Facts, options: dict[str, Any]) -> bool:
    """Return whether all that `when` asks for is so. Raises ValueError for a malformed comparison."""
    for wish, fact in (
        (when.distribution, facts.distribution),
        (when.release, facts.release),
        (when.arch, facts.arch),
        (when.flavour, facts.flavour),
    ):
        if wish is not None and fact not in ((wish,) if isinstance(wish, str) else wish):
            return False
    for comparison, version in ((when.systemd, facts.versions.get("systemd", "")), (when.kernel, facts.kernel)):
        if comparison is not None and not compare(version, comparison):
            return False
    return all(
        _option_is(have.get(name), wish)
        for have, wishes in ((options, when.option), (facts.recipe, when.recipe))
        for name, wish in wishes.items()
    )


def _option_is(value: Any, wish: Any) -> bool:
    """Return whether an option has the wished value, or one of a list of them; `true` is not 1 here.

    Of an option that is a list itself, one element has to be wished for, or all of it be the empty list.
    """
    values = list(value) or [[]] if isinstance(value, list | tuple) else [value]
    wishes = wish if isinstance(wish, list) and wish else [wish]
    return any(each == one and isinstance(each, bool) == isinstance(one, bool) for each in values for one in wishes)


def has_flavour(feature: Feature, flavour: str) -> bool:
    """Return whether the feature exists for `flavour`: it says so, or it has a variant for it."""
    return flavour in feature.flavours or any(variant.when.flavour == flavour for variant in feature.variant)


def evaluate(name: str, feature: Feature, facts: Facts, options: dict[str, Any]) -> Chosen:
    """Return what the feature `name` contributes under `facts`, with `options` (complete, see `complete_options`).

    Variants that hold apply in the order of the file: those keys that `replaces` names are cleared, then everything
    is added. Raises RecipeError for a malformed comparison.
    """
    content = _only(feature)
    for variant in feature.variant:
        try:
            applies = holds(variant.when, facts, options)
        except ValueError as error:
            raise RecipeError(f"feature {name!r}: variant.when: {error}", "see docs/features.md") from None
        if applies:
            content = _added(_cleared(content, variant.replaces), variant)
    return Chosen(name, feature.summary, options, content)


def _only(feature: Content) -> Content:
    """Return the content of a feature or variant, without what only they have."""
    return Content(**{name: getattr(feature, name) for name in Content.__struct_fields__})


def _cleared(content: Content, keys: tuple[str, ...]) -> Content:
    """Return `content` with `keys` (as in TOML: `needs`, `take.udev-rules`, `take`) emptied."""
    for key in keys:
        table, dot, inner = key.partition(".")
        field = content_fields()[table]
        if dot:
            value = getattr(content, field)
            value = msgspec.structs.replace(value, **{inner.replace("-", "_"): ()})
        else:
            value = type(getattr(content, field))()
        content = msgspec.structs.replace(content, **{field: value})
    return content


def content_fields() -> dict[str, str]:
    """Return the keys that features and variants share, as TOML has them → as Python has them."""
    return dict(zip(Content.__struct_encode_fields__, Content.__struct_fields__, strict=True))


def replaceable() -> list[str]:
    """Return what `replaces` can name."""
    keys = list(content_fields())
    for table, kind in (("take", Take), ("modules", Modules), ("kernel-options", KernelOptions)):
        keys += [f"{table}.{field}" for field in kind.__struct_encode_fields__]
    return keys


def _added(content: Content, variant: Variant) -> Content:
    """Return `content` with the variant's lists at the end of its own, nothing twice."""
    changes: dict[str, Any] = {}
    for name in Content.__struct_fields__:
        old, new = getattr(content, name), getattr(variant, name)
        if isinstance(new, tuple):
            changes[name] = _joined(old, new)
        else:
            inner = {each: _joined(getattr(old, each), getattr(new, each)) for each in new.__struct_fields__}
            changes[name] = type(new)(**inner)
    return msgspec.structs.replace(content, **changes)


def _joined(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    joined = list(old)
    for each in new:
        if each not in joined:
            joined.append(each)
    return tuple(joined)


def complete_options(name: str, feature: Feature, given: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return all options of the feature: those given, and defaults for the rest.

    An option without a default is the empty value of its type. `where` is a prefix for messages (`FILE:LINE: `).
    Raises RecipeError for an unknown option and for a value of the wrong type or outside `choices`.
    """
    for key, value in given.items():
        if key not in feature.options:
            known = ", ".join(sorted(feature.options)) or "it has none"
            hint = nearest(key, feature.options) or f"options of {name}: {known}"
            raise RecipeError(f"{where}feature {name!r} has no option {key!r}", hint)
        problem = misfit(feature.options[key], value)
        if problem:
            hidden = feature.options[key].secret or holds_secret((key,), value)
            shown = f"features.{name}.{key} is {'not valid' if hidden else repr(value)}"
            raise RecipeError(f"{where}{shown}: it must be {problem}", feature.options[key].help)
    return {key: given.get(key, default_of(option)) for key, option in feature.options.items()}


def default_of(option: Option) -> Any:
    """Return the option's default: its own, or the empty value of its type."""
    if option.default is not None:
        return option.default
    empty: dict[str, Any] = {"bool": False, "int": 0, "list": []}
    return empty.get(option.type, "")


def misfit(option: Option, value: Any) -> str:
    """Return what a value of this option must be, if `value` is not that; else ''."""
    if option.type == "choice":
        return "" if isinstance(value, str) and value in option.choices else "one of " + ", ".join(option.choices)
    if option.type == "list":
        fits = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        if fits and option.choices:
            return "" if set(value) <= set(option.choices) else "an array of " + ", ".join(option.choices)
        return "" if fits else "an array of strings"
    if option.type == "int":
        return "" if isinstance(value, int) and not isinstance(value, bool) else "an integer"
    if option.type == "bool":
        return "" if isinstance(value, bool) else "true or false"
    return "" if isinstance(value, str) else "a string"
