# SPDX-License-Identifier: LGPL-2.1-or-later
"""The closed world: everything that is asked for is there, or the build fails and says who asked. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from preroot.errors import nearest
from preroot.recipe.schema import Exception_
from preroot.tree.closure.model import Missing, World
from preroot.tree.pool import Pool
from preroot.tree.users import Names

_WORDS = {"path": "the file", "library": "the library", "program": "the program", "unit": "the unit"}
_ASKERS = {"feature": "feature ", "plugin": "feature ", "recipe": "the "}


def missing_problems(missing: Iterable[Missing], pool: Pool, world: World) -> list[str]:
    """Return one line for each thing that is asked for and is nowhere: the thing, who asked, and where it may be."""
    return [_missing_line(each, pool, world) for each in missing]


def _missing_line(missing: Missing, pool: Pool, world: World) -> str:
    request = missing.request
    asker = _ASKERS.get(request.reason.kind, "/") + request.reason.asker
    detail = f" ({request.reason.detail})" if request.reason.detail and request.reason.detail != request.value else ""
    line = f"{_WORDS[request.kind]} {request.value}, asked for by {asker}{detail}, is missing"
    if missing.detail:
        return f"{line}: {missing.detail}"
    elsewhere = _elsewhere(request.kind, request.value, pool)
    if elsewhere and request.kind == "library":
        if posixpath.dirname(elsewhere) in (*request.search, *world.library_directories):
            return f"{line}: /{elsewhere} is for another machine, or no library"
        searched = ", ".join("/" + each.lstrip("/") for each in (*request.search, *world.library_directories))
        return f"{line}: it is at /{elsewhere}, which ld.so does not search (it searches {searched})"
    if elsewhere:
        return f"{line}: /{elsewhere} exists"
    hint = nearest(request.value, world.wanted - {request.value}) if request.kind == "unit" else ""
    return f"{line}: no package of the lock has it" + (f"; {hint}" if hint else "")


def _elsewhere(kind: str, value: str, pool: Pool) -> str:
    name = posixpath.basename(value)
    if kind == "unit":
        return ""
    return min((path for path in pool.paths() if path.endswith("/" + name) and pool.exists(path)), default="")


def exception_problems(declared: Sequence[tuple[Exception_, str]], used: Iterable[Exception_]) -> list[str]:
    """Return one line for each exception that nothing needed; `declared` pairs each with its feature or recipe."""
    needed = set(used)
    return [
        f"{owner} declares an exception for {each.path} asked for by {each.asker}, which nothing needs: remove it"
        for each, owner in declared
        if each not in needed
    ]


def name_problems(names: Names, reasons: dict[str, str]) -> list[str]:
    """Return one line for each user and group that nothing declares; `reasons` says who asked, by name."""
    lines = [
        f"the user {name}, asked for by {reasons.get(name, 'the recipe')}, is declared by no package and no [[user]]"
        for name in names.unknown_users
    ]
    lines += [
        f"the group {name}, asked for by {reasons.get(name, 'the recipe')}, is declared by no package and no [[group]]"
        for name in names.unknown_groups
    ]
    return lines
