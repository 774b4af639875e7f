# SPDX-License-Identifier: LGPL-2.1-or-later
"""Selecting features: from the names that a part lists to all that it gets, each evaluated. Pure.

Requirements come before what requires them, otherwise features keep the order in which they are listed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from preroot.errors import RecipeError, nearest
from preroot.recipe.conditions import Chosen, Facts, complete_options, evaluate, has_flavour
from preroot.recipe.features import Feature
from preroot.recipe.library import Features, load_features

__all__ = ["Chosen", "Facts", "Features", "check_options", "load_features", "select"]


def select(
    names: Sequence[str],
    features: Mapping[str, Feature],
    recipe_options: Mapping[str, dict[str, Any]],
    facts: Facts,
    *,
    where: str = "",
    elsewhere: Collection[str] = (),
) -> tuple[Chosen, ...]:
    """Return the features of one part, evaluated, requirements first.

    Arguments: `names` as the recipe lists them (`-NAME` refuses a feature that is recommended or listed before);
    `recipe_options` by feature; `where` the origin of the list (`FILE:LINE`) for messages; `elsewhere` names of
    features that other parts have, so that their options are not taken for mistakes.

    Raises RecipeError for an unknown feature, a missing flavour, a conflict, an unmet capability, and for options
    that are wrong or that no chosen feature has.
    """
    prefix = f"{where}: " if where else ""
    selection = _Selection(features, recipe_options, facts, prefix)
    for name in selection.listed(names):
        selection.take(name, "")
    selection.take_recommended()
    selection.check_capabilities(selection.chosen)
    conflict = selection.conflict(selection.chosen)
    if conflict:
        raise RecipeError(prefix + conflict, "remove one of them from the list of features")
    check_options(recipe_options, {*selection.chosen, *elsewhere}, prefix)
    return tuple(selection.chosen[name] for name in selection.ordered())


def check_options(recipe_options: Mapping[str, dict[str, Any]], chosen: Collection[str], prefix: str = "") -> None:
    """Raise RecipeError if the recipe has options for a feature that no part has chosen."""
    for name in recipe_options:
        if name not in chosen:
            hint = nearest(name, chosen) or f"add {name!r} to the features of a part, or remove [features.{name}]"
            raise RecipeError(f"{prefix}options for feature {name!r}, which is not chosen", hint)


class _Unavailable(RecipeError):
    """A feature cannot be had here: what is only recommended is then done without."""


class _Selection:
    """What is chosen so far, by name."""

    def __init__(
        self,
        features: Mapping[str, Feature],
        recipe_options: Mapping[str, dict[str, Any]],
        facts: Facts,
        prefix: str,
    ) -> None:
        self.features = features
        self.recipe_options = recipe_options
        self.facts = facts
        self.prefix = prefix
        self.chosen: dict[str, Chosen] = {}
        self.refused: set[str] = set()

    def listed(self, names: Sequence[str]) -> list[str]:
        """Return the names that are wanted, after refusals; the later of `NAME` and `-NAME` holds."""
        wanted: dict[str, None] = {}
        for each in names:
            name = each.removeprefix("-")
            if name not in self.features:
                raise self.unknown(name)
            if each.startswith("-"):
                self.refused.add(name)
                wanted.pop(name, None)
            else:
                self.refused.discard(name)
                wanted[name] = None
        return list(wanted)

    def unknown(self, name: str, asker: str = "") -> RecipeError:
        hint = nearest(name, self.features) or "known: " + ", ".join(self.features)
        by = f", required by {asker!r}" if asker else ""
        return RecipeError(f"{self.prefix}there is no feature {name!r}{by}", hint)

    def take(self, name: str, asker: str) -> None:
        """Choose `name` and, first, the features that it requires by name. Raises RecipeError."""
        if name in self.chosen:
            return
        by = f", required by {asker!r}" if asker else ""
        if name in self.refused:
            raise _Unavailable(f"{self.prefix}feature {name!r} is refused{by}", f"remove '-{name}' or {asker!r}")
        feature = self.features[name]
        flavour = self.facts.flavour
        if not has_flavour(feature, flavour):
            hint = f"use it in a part of another flavour ({', '.join(feature.flavours) or 'none'}), or leave it out"
            raise _Unavailable(f"{self.prefix}feature {name!r} has no {flavour} flavour{by}", hint)
        options = complete_options(name, feature, self.recipe_options.get(name, {}), self.prefix)
        self.chosen[name] = evaluate(name, feature, self.facts, options)
        for required in self.chosen[name].content.requires:
            if required in self.features:
                self.take(required, name)

    def take_recommended(self) -> None:
        """Choose what is recommended, as far as it exists for the flavour and fits with what is chosen."""
        tried: set[str] = set()
        waiting = list(self.chosen)
        while waiting:
            for name in self.chosen[waiting.pop(0)].content.recommends:
                if name in tried or name in self.chosen or name in self.refused or name not in self.features:
                    continue
                tried.add(name)
                before = dict(self.chosen)
                if self.try_to_take(name):
                    waiting += [each for each in self.chosen if each not in before]
                else:
                    self.chosen = before

    def try_to_take(self, name: str) -> bool:
        """Choose `name` and return whether that works out; if not, `chosen` is left as it got."""
        before = set(self.chosen)
        try:
            self.take(name, "")
            self.check_capabilities([each for each in self.chosen if each not in before])
        except _Unavailable:
            return False
        return not self.conflict(self.chosen)

    def check_capabilities(self, names: Collection[str]) -> None:
        """Raise RecipeError if one of `names` requires something that no chosen feature is or provides."""
        provided = {each for one in self.chosen.values() for each in one.content.provides}
        for name in names:
            for required in self.chosen[name].content.requires:
                if required not in self.chosen and required not in provided:
                    raise self.unmet(required, name)

    def unmet(self, capability: str, asker: str) -> _Unavailable:
        providers = []
        for name in self.features:
            feature = self.features[name]
            given = {*feature.provides, *(each for variant in feature.variant for each in variant.provides)}
            if capability in given and has_flavour(feature, self.facts.flavour):
                providers.append(name)
        if not providers:
            message = f"feature {asker!r} requires {capability!r}, which no feature is or provides"
            hint = nearest(capability, self.features) or f"flavour {self.facts.flavour}"
            return _Unavailable(self.prefix + message, hint)
        message = f"feature {asker!r} requires {capability!r}, which no chosen feature provides"
        return _Unavailable(self.prefix + message, "add one of: " + ", ".join(providers))

    def conflict(self, chosen: Mapping[str, Chosen]) -> str:
        """Return a sentence naming two features that exclude each other, or ''."""
        for name, one in chosen.items():
            for against in one.content.conflicts:
                for other, its in chosen.items():
                    if other != name and (other == against or against in its.content.provides):
                        what = "" if other == against else f" ({other!r} provides {against!r})"
                        return f"features {name!r} and {other!r} conflict{what}"
        return ""

    def ordered(self) -> list[str]:
        """Return the chosen names: requirements first, then as listed, then what was recommended."""
        order: list[str] = []
        entered: set[str] = set()

        def visit(name: str) -> None:
            if name in entered:
                return
            entered.add(name)
            for required in self.chosen[name].content.requires:
                providers = [required] if required in self.chosen else self.providers(required)
                for provider in providers:
                    visit(provider)
            order.append(name)

        for name in self.chosen:
            visit(name)
        return order

    def providers(self, capability: str) -> list[str]:
        return [name for name, one in self.chosen.items() if capability in one.content.provides]
