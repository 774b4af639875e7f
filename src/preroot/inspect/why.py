# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why something is in an image: chains of reasons from a path, module or unit up to what the user chose. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import Struct

from preroot.errors import BuildError, nearest
from preroot.facts.kernel import MODULE_SUFFIXES, module_name
from preroot.image.manifest import Manifest
from preroot.tree.model import Plan, Reason

#: reasons whose asker is no path but a feature, the recipe, or preroot itself: a chain ends there
_ENDS = frozenset({"feature", "recipe", "plugin", "licence", "merged-usr", "generated"})


class WhyPath(Struct, frozen=True):
    """A path with its owner and its reasons."""

    owner: str
    reasons: tuple[Reason, ...]


class Step(Struct, frozen=True):
    """One link of a chain: this path is there for that reason."""

    path: str
    reason: Reason


class Explanation(Struct, frozen=True):
    """Why one path is there: chains, the shortest first, each from the path up to a feature or recipe."""

    path: str
    owner: str
    chains: tuple[tuple[Step, ...], ...]


def index_of_plan(plan: Plan) -> dict[str, WhyPath]:
    """Return the paths of all parts of a plan, with their reasons."""
    return _index(
        (entry.path, entry.owner, entry.reasons) for part in plan.parts for entry in part.tree.entries.values()
    )


def index_of_manifest(manifest: Manifest) -> dict[str, WhyPath]:
    """Return the paths of all parts of a manifest, with their reasons."""
    return _index((entry.path, entry.owner, entry.reasons) for part in manifest.parts for entry in part.entries)


def _index(paths: Iterable[tuple[str, str, tuple[Reason, ...]]]) -> dict[str, WhyPath]:
    found: dict[str, WhyPath] = {}
    for path, owner, reasons in paths:
        known = found.get(path)
        found[path] = WhyPath(owner, reasons if known is None else tuple(dict.fromkeys((*known.reasons, *reasons))))
    return found


def lookup(index: Mapping[str, WhyPath], what: str, where: str) -> str:
    """Return the path that `what` means: a path with or without its leading slash, a module's or a unit's name.

    `where` names the image in errors. Raises BuildError with the nearest name when there is none.
    """
    path = what.strip("/")
    for candidate in (path, f"usr/{path}"):  # /lib/… as before merged /usr
        if candidate in index:
            return candidate
    units: dict[str, str] = {}
    modules: dict[str, str] = {}
    others: dict[str, str] = {}
    for each in sorted(index):
        name = each.rpartition("/")[2]
        if name.endswith(MODULE_SUFFIXES):
            modules.setdefault(module_name(name), each)
        if "/systemd/system/" in each:
            units[name] = each
        else:
            others.setdefault(name, each)
    names = others | modules | units  # a module btrfs is meant rather than its directory
    found = names.get(what) or names.get(module_name(what))
    if found is None:
        raise BuildError(f"{what} is not in {where}", nearest(path, index) or nearest(what, names))
    return found


def why(index: Mapping[str, WhyPath], path: str) -> Explanation:
    """Return all reasons for a path of the index, each with its shortest way up to a feature or recipe.

    A reason whose way goes in a circle (two files that need each other) stands last, up to where it repeats.
    """
    distances = _distances(index)
    entry = index[path]
    chains = [_chain(index, distances, path, reason) for reason in entry.reasons]
    chains.sort(key=lambda chain: (chain[-1].reason.kind not in _ENDS, len(chain), _key(chain[0].reason)))
    return Explanation(path, entry.owner, tuple(chains))


def _distances(index: Mapping[str, WhyPath]) -> dict[str, int]:
    """Return how many steps each path is away from an end, by a walk from the ends downwards."""
    asked: dict[str, list[str]] = {}
    distances: dict[str, int] = {}
    for path, entry in index.items():
        for reason in entry.reasons:
            if _is_end(index, reason):
                distances[path] = 1
            else:
                asked.setdefault(reason.asker, []).append(path)
    queue = deque(distances)
    while queue:
        asker = queue.popleft()
        for path in asked.get(asker, ()):
            if path not in distances:
                distances[path] = distances[asker] + 1
                queue.append(path)
    return distances


def first_reasons(index: Mapping[str, WhyPath]) -> dict[str, Reason]:
    """Return path → the reason with the shortest way up to a feature or recipe; paths without any are not in it."""
    distances = _distances(index)
    return {path: _nearest(index, distances, entry.reasons) for path, entry in index.items() if entry.reasons}


def sources(index: Mapping[str, WhyPath]) -> dict[str, frozenset[str]]:
    """Return path → where its chains of reasons end: names of features, `(recipe)`, `(preroot)`.

    A chain that ends at an asker that is not in the image does not count, and a path of which no chain counts is not
    in it: without the ends of the others nothing asks for it.
    """
    asked: dict[str, list[str]] = {}
    found: dict[str, set[str]] = {}
    for path, entry in index.items():
        for reason in entry.reasons:
            if reason.kind in _ENDS:
                named = reason.kind in ("feature", "plugin")
                found.setdefault(path, set()).add(reason.asker if named else f"({reason.asker})")
            elif reason.asker in index:
                asked.setdefault(reason.asker, []).append(path)
    queue = deque(found)
    while queue:
        asker = queue.popleft()
        for path in asked.get(asker, ()):
            names = found.setdefault(path, set())
            if not found[asker] <= names:
                names |= found[asker]
                queue.append(path)
    return {path: frozenset(names) for path, names in found.items()}


def _chain(index: Mapping[str, WhyPath], distances: Mapping[str, int], path: str, reason: Reason) -> tuple[Step, ...]:
    steps = [Step(path, reason)]
    seen = {path}
    while not _is_end(index, reason) and reason.asker not in seen:
        path = reason.asker
        seen.add(path)
        choices = index[path].reasons
        if not choices:
            break
        reason = _nearest(index, distances, choices)
        steps.append(Step(path, reason))
    return tuple(steps)


def _nearest(index: Mapping[str, WhyPath], distances: Mapping[str, int], reasons: Iterable[Reason]) -> Reason:
    """Return the reason that is nearest to an end."""
    return min(
        reasons, key=lambda each: (0 if _is_end(index, each) else distances.get(each.asker, len(index)), _key(each))
    )


def _is_end(index: Mapping[str, WhyPath], reason: Reason) -> bool:
    """Tell whether a chain ends with a reason; one whose asker is not in the image (left out later) ends too."""
    return reason.kind in _ENDS or reason.asker not in index


def _key(reason: Reason) -> tuple[str, str, str]:
    return reason.kind, reason.asker, reason.detail
