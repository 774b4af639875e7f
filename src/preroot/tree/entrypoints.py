# SPDX-License-Identifier: LGPL-2.1-or-later
"""From what features and recipe take to the first requests of a closure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from preroot.errors import RecipeError
from preroot.facts.arch import Arch
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Take
from preroot.recipe.schema import Recipe
from preroot.tree.closure.model import Request
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: Where each family of plugins lies; none of them leaves a trace in an ELF file. {name} and {triplet} are replaced.
#: NSS: nsswitch.conf(5); PAM: pam.d(5); cryptsetup: cryptsetup(8) "external tokens"; OpenSSL: provider(7).
PLUGIN_FAMILIES: Mapping[str, str] = {
    "nss": "usr/lib/{triplet}/libnss_{name}.so.2",
    "pam": "usr/lib/{triplet}/security/pam_{name}.so",
    "cryptsetup-token": "usr/lib/{triplet}/cryptsetup/libcryptsetup-token-{name}.so",
    "openssl": "usr/lib/{triplet}/ossl-modules/{name}.so",
    "gconv": "usr/lib/{triplet}/gconv/{name}.so",
}


def feature_requests(chosen: Chosen, pool: Pool, arch: Arch, fill: Callable[[str], str]) -> list[Request]:
    """Return the entry points of one feature.

    `fill` replaces `{{option.NAME}}` and the like in paths. Raises RecipeError for a glob that matches nothing, for
    alternatives of which none exists, and for an unknown plugin family.
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
    for plugin in take.plugins:
        family, _, name = plugin.partition(":")
        if family not in PLUGIN_FAMILIES:
            raise RecipeError(f"feature {chosen.name}: unknown plugin family {family!r}", ", ".join(PLUGIN_FAMILIES))
        path = PLUGIN_FAMILIES[family].format(name=name, triplet=arch.triplet)
        requests.append(Request("path", path, Reason("plugin", chosen.name, plugin)))
    return requests


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
