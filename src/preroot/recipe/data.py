# SPDX-License-Identifier: LGPL-2.1-or-later
"""A recipe that a program gives as data: made into what a TOML file would have been read as, or refused by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from preroot.errors import RecipeError
from preroot.recipe.toml import MAX_DEPTH, Key, dotted

#: integers of TOML v1.0.0 have 64 bits
_INTEGERS = range(-(2**63), 2**63)


def plain(value: Any, where: str, key: Key = ()) -> Any:
    """Return a copy of `value` that nobody can change later: tables as dicts, arrays as lists, paths as strings.

    Arguments: the value, what messages call the whole, and the key at which the value is. Raises RecipeError naming
    the key for what no TOML file can say: None, keys that are no strings, other types, integers beyond 64 bits, text
    that is no Unicode, tables in tables without end.
    """
    if len(key) > MAX_DEPTH:
        raise _refused(where, key[:4], f"more than {MAX_DEPTH} tables or arrays in one another", "does it hold itself?")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise _refused(where, key, f"the key {name!r} is not a string", "write it as a string")
        return {_text(name, where, key): plain(each, where, (*key, name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, where, (*key, number)) for number, each in enumerate(value)]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _text(value, where, key)
    if isinstance(value, int) and value not in _INTEGERS:
        raise _refused(where, key, "the integer is too large", "integers have 64 bits")
    if not isinstance(value, int | float):
        if value is None:
            raise _refused(where, key, "None is no value", "leave the key out")
        raise _refused(where, key, f"no recipe has values of type {type(value).__name__}",
                       "use str, int, float, bool, lists and dicts")  # fmt: skip
    return value


def _text(value: str, where: str, key: Key) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(where, key, f"{value!r} is no Unicode text", "decode it with its own encoding") from None
    return value


def _refused(where: str, key: Key, reason: str, hint: str) -> RecipeError:
    place = f"{where}: {dotted(key)}" if key else where
    return RecipeError(f"{place}: {reason}", hint)
