# SPDX-License-Identifier: LGPL-2.1-or-later
"""How layers of configuration become one: the same rules for recipes, features and distributions.

Tables merge key by key; arrays of tables append; other arrays replace, unless their first element is `"..."`, which
stands for the value so far; everything else replaces. Merging is associative and an empty layer changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preroot.recipe.toml import Key

#: As the first element of an array: the value so far.
MORE = "..."

#: Told of each value that a merge takes from the upper layer: its key in the result, and its key in that layer.
Trace = Callable[[Key, Key], None]


def merge(lower: dict[str, Any], upper: dict[str, Any], trace: Trace | None = None) -> dict[str, Any]:
    """Return `lower` with `upper` over it; neither is changed."""
    return _tables(lower, upper, (), (), trace)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _tables(lower: dict[str, Any], upper: dict[str, Any], to: Key, of: Key, trace: Trace | None) -> dict[str, Any]:
    result = dict(lower)
    for name, value in upper.items():
        key, from_key = (*to, name), (*of, name)
        before = result.get(name)
        if isinstance(value, dict):
            result[name] = _tables(before if isinstance(before, dict) else {}, value, key, from_key, trace)
            if not value and trace:
                trace(key, from_key)
        elif isinstance(value, list):
            result[name] = _arrays(before if isinstance(before, list) else None, value, key, from_key, trace)
        else:
            result[name] = value
            if trace:
                trace(key, from_key)
    return result


def _arrays(lower: list[Any] | None, upper: list[Any], to: Key, of: Key, trace: Trace | None) -> list[Any]:
    if _is_tables(upper) and (not lower or _is_tables(lower)):
        added = []
        first = len(lower or [])
        for number, table in enumerate(upper):
            # the element itself is traced too, so that a key left to its default has the table's place
            key, from_key = (*to, first + number), (*of, number)
            if trace:
                trace(key, from_key)
            added.append(_tables({}, table, key, from_key, trace))
        return [*(lower or []), *added]
    if lower is not None and not upper and _is_tables(lower):
        return lower
    if trace:
        trace(to, of)
    return lower + upper[1:] if upper[:1] == [MORE] and lower is not None else list(upper)


def without_markers(value: Any) -> Any:
    """Return `value` without the `"..."` that no lower layer has replaced."""
    if isinstance(value, dict):
        return {name: without_markers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_markers(each) for each in (value[1:] if value[:1] == [MORE] else value)]
    return value
