# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each feature's drivers cost: the modules and firmware that would not be in the image without it. Pure.

What several features ask for is on nobody's bill: leaving one of them out would not save it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from preroot.tree.firmware import FIRMWARE
from preroot.tree.model import Entry, Tree

#: a reason of one of these kinds is a root; the asker of any other is a path
_ROOTS = ("feature", "recipe")


class Bill(Struct, frozen=True):
    """What is in a part because of one feature alone; sizes in bytes, uncompressed."""

    feature: str
    modules: int
    module_bytes: int
    firmware: int
    firmware_bytes: int


def bills(tree: Tree) -> tuple[Bill, ...]:
    """Return the bill of each feature (and the recipe) that has one in the part `modules`, the largest first."""
    files = {path: entry for path, entry in tree.entries.items() if entry.type != "directory"}
    below: dict[str, list[str]] = {}
    roots: dict[str, list[str]] = {}
    for path, entry in files.items():
        for reason in entry.reasons:
            (roots if reason.kind in _ROOTS else below).setdefault(reason.asker, []).append(path)
    everything = _reached(roots, below, "")
    found = []
    for feature in roots:
        alone = [files[path] for path in everything - _reached(roots, below, feature)]
        found.append(_bill(feature, alone))
    found = [each for each in found if each.modules or each.firmware]
    return tuple(sorted(found, key=lambda each: (-each.module_bytes - each.firmware_bytes, each.feature)))


def _reached(roots: Mapping[str, Iterable[str]], below: Mapping[str, Iterable[str]], without: str) -> set[str]:
    """Return what the roots of all features but one bring."""
    todo = [path for feature, paths in roots.items() if feature != without for path in paths]
    seen = set(todo)
    while todo:
        for path in below.get(todo.pop(), ()):
            if path not in seen:
                seen.add(path)
                todo.append(path)
    return seen


def _bill(feature: str, entries: Iterable[Entry]) -> Bill:
    modules: list[int] = []
    firmware: list[int] = []
    for entry in entries:
        if entry.type == "file":
            (firmware if entry.path.startswith(f"{FIRMWARE}/") else modules).append(entry.size)
    return Bill(feature, len(modules), sum(modules), len(firmware), sum(firmware))
