# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which module answers to an alias: the lookup of libkmod (kmod_module_new_from_lookup), on facts. Pure.

An alias in a module is a pattern for fnmatch(3). A kernel has tens of thousands, so plain ones are in a dict and
patterns are grouped by bus (what is before the first colon), then by the text before their first special character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_SPECIAL = re.compile(r"[*?[]")


def normalise(alias: str) -> str:
    """Return the alias with `_` for each `-` outside brackets, as libkmod's alias_normalize() does to both sides."""
    if "-" not in alias:
        return alias
    if "[" not in alias:
        return alias.replace("-", "_")
    return "".join(part if part.startswith("[") else part.replace("-", "_") for part in re.split(r"(\[[^]]*\])", alias))


def _bus(alias: str) -> str:
    bus, colon, _ = alias.partition(":")
    return bus.replace("-", "_") if colon else ""


class _Patterns:
    """Patterns of one bus by their literal beginning."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        for pattern, name in pairs:
            special = _SPECIAL.search(pattern)
            self._by_start.setdefault(pattern[: special.start()] if special else pattern, []).append((pattern, name))
        self._lengths = sorted({len(start) for start in self._by_start})

    def find(self, key: str) -> set[str]:
        found = set()
        for length in self._lengths:
            if length > len(key):
                break
            for pattern, name in self._by_start.get(key[:length], ()):
                if pattern == key or fnmatchcase(key, pattern):
                    found.add(name)
        return found


class AliasIndex:
    """Answers which modules an alias stands for. Built from pairs (alias as in the module, module name)."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._by_bus: dict[str, list[tuple[str, str]]] = {}
        #: patterns whose bus is itself a pattern
        self._anywhere: list[tuple[str, str]] = []
        self._patterns: dict[str, _Patterns] = {}
        by_bus = self._by_bus
        for pair in pairs:
            bus = _bus(pair[0])
            if bus in by_bus:
                by_bus[bus].append(pair)
            elif _SPECIAL.search(bus):
                self._anywhere.append(pair)
            else:
                by_bus[bus] = [pair]

    def find(self, alias: str) -> tuple[str, ...]:
        """Return the names of the modules that answer to `alias`, sorted."""
        key = normalise(alias)
        found: set[str] = set()
        for bus in {_bus(key), "", "*"}:
            found |= self._of(bus).find(key)
        return tuple(sorted(found))

    def _of(self, bus: str) -> _Patterns:
        """Return the patterns of one bus; they are sorted into their groups when first asked for."""
        found = self._patterns.get(bus)
        if found is None:
            pairs = self._anywhere if bus == "*" else self._by_bus.get(bus, [])
            found = self._patterns[bus] = _Patterns([(normalise(alias), name) for alias, name in pairs])
        return found
