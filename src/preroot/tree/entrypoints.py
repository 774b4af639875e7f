# SPDX-License-Identifier: LGPL-2.1-or-later
"""From what features and recipe take to the first requests of a closure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from preroot.errors import RecipeError, nearest
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Take
from preroot.recipe.schema import Recipe
from preroot.tree.closure.model import Request, World
from preroot.tree.closure.plugins import catalogued, family_files, plugin_paths
from preroot.tree.model import Reason
from preroot.tree.pool import Pool


def feature_requests(chosen: Chosen, pool: Pool, world: World, fill: Callable[[str], str]) -> list[Request]:
    """Return the entry points of one feature.

    `fill` replaces `{{option.NAME}}` and the like in paths. Raises RecipeError for a glob that matches nothing, for
    alternatives of which none exists, for an unknown plugin family, and for a plugin that its catalogue lacks.
    """
    take = chosen.content.take
    requests = [_path_or_program(fill(each), chosen.name) for each in take.binaries]
    requests += [Request("unit", fill(each), _reason(chosen.name, each)) for each in (*take.units, *take.enable)]
    for pattern in map(fill, _patterns(take)):
        requests += _matching(pattern, f"feature {chosen.name}", _reason(chosen.name, pattern), pool)
    for alternatives in take.any:
        found = next((each for each in map(fill, alternatives) if pool.exists(each)), None)
        if found is None:
            raise RecipeError(f"feature {chosen.name} takes one of {', '.join(alternatives)}, and no package has any")
        requests.append(Request("path", found, _reason(chosen.name, found)))
    for plugin in map(fill, take.plugins):
        requests += _plugin_requests(plugin, chosen.name, pool, world)
    return requests


def _plugin_requests(plugin: str, feature: str, pool: Pool, world: World) -> list[Request]:
    """Return what a feature asks for by `FAMILY:NAME`: the plugin, and the files that its family is found through."""
    kind, _, name = plugin.partition(":")
    family = world.families.get(kind)
    if family is None:
        known = nearest(kind, world.families) or ", ".join(world.families)
        raise RecipeError(f"feature {feature}: unknown plugin family {kind!r}", known)
    if family.catalogue:
        listed = catalogued(family, pool, world)
        if plugin not in listed:
            places = ", ".join(family.files)
            raise RecipeError(
                f"feature {feature} takes the plugin {plugin}, which is not in {places}", nearest(plugin, listed)
            )  # fmt: skip
    paths = plugin_paths(family, name, pool, world)
    files = family_files(family, pool, world) if paths else []
    return [Request("path", path, Reason("plugin", feature, plugin)) for path in (*paths, *files)]


def _reason(feature: str, detail: str) -> Reason:
    return Reason("feature", feature, detail)


def _path_or_program(name: str, feature: str) -> Request:
    return Request("path" if "/" in name else "program", name, _reason(feature, name))


def _patterns(take: Take) -> Iterable[str]:
    yield from take.files
    yield from (f"usr/lib/udev/rules.d/{each}" for each in take.udev_rules)
    yield from (f"usr/lib/systemd/system-generators/{each}" for each in take.generators)


def _matching(pattern: str, who: str, reason: Reason, pool: Pool) -> list[Request]:
    if not any(char in pattern for char in "*?["):
        return [Request("path", pattern, reason)]
    found = pool.glob(pattern)
    if not found:
        raise RecipeError(f"{who} takes {pattern}, which matches nothing in the packages of the lock")
    return [Request("path", path, reason) for path in found]


def recipe_requests(recipe: Recipe, pool: Pool) -> list[Request]:
    """Return the entry points of the recipe's `take`. Raises RecipeError as above.

    Its units, files and links are declarations, which are asked for wherever they are made.
    """
    requests = []
    for pattern in recipe.take:
        requests += _matching(pattern, "the recipe", Reason("recipe", "recipe", pattern), pool)
    return requests
