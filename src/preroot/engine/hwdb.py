# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hardware database of a part: what its features take of it and the recipe adds, compiled once and kept."""

from __future__ import annotations

from collections.abc import Sequence

from preroot.engine.contents import PackageContents
from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.recipe.conditions import Chosen
from preroot.recipe.schema import Recipe
from preroot.run import tool_version
from preroot.tree.build import with_entries
from preroot.tree.closure.walk import is_excluded
from preroot.tree.declare import digest
from preroot.tree.hwdb import HWDB_BIN, HWDB_DIRECTORY, compile_hwdb, hwdb_key, is_hwdb_source
from preroot.tree.model import BytesContent, Entry, Reason, Tree

TOOL = "systemd-hwdb"


def with_hwdb(
    tree: Tree, chosen: Sequence[Chosen], recipe: Recipe, contents: PackageContents
) -> tuple[Tree, dict[str, str]]:
    """Return the tree with its hwdb.bin, and the tool that shaped it (name → version); the same tree where it has none.

    It is made of the files that features take and of those that are in the tree already, which so have an effect.
    Raises BuildError for a file that no package has or `exclude` leaves out, and where systemd-hwdb is missing or
    fails.
    """
    own = {path: entry for path, entry in tree.entries.items() if is_hwdb_source(path) and entry.type == "file"}
    taken = {path: feature for each in chosen for path, feature in _taken(each, recipe, contents).items()}
    if not own and not taken:
        return tree, {}
    if HWDB_BIN in tree.entries:
        raise BuildError(f"{HWDB_BIN} is of {tree.entries[HWDB_BIN].owner}, and is to be compiled as well",
                         "leave it out, or what is to be compiled")  # fmt: skip
    digests = {path: contents.file(path).info.sha256 for path in taken}
    digests |= {path: entry.sha256 for path, entry in own.items()}
    version = tool_version(TOOL)
    key = hwdb_key(digests, version)
    data = contents.store.recall(key)
    if data is None:
        reader = ContentReader(contents.store)
        files = {path: contents.read(path) for path in taken} | {path: reader.read(each) for path, each in own.items()}
        data = compile_hwdb(files)
        contents.store.remember(key, data)
    names = ", ".join(sorted(path.rpartition("/")[2] for path in digests))
    reasons = [Reason("feature", feature, path.rpartition("/")[2]) for path, feature in sorted(taken.items())]
    reasons.append(Reason("generated", "preroot", f"by systemd-hwdb, of {names}"))
    entry = Entry(HWDB_BIN, "file", 0o644, 0, 0, "preroot", tuple(reasons), len(data), digest(data),
                  content=BytesContent(data))  # fmt: skip
    return with_entries(tree, [entry], contents.pool), {TOOL: version}


def _taken(chosen: Chosen, recipe: Recipe, contents: PackageContents) -> dict[str, str]:
    """Return the hwdb.d files that a feature takes → the feature."""
    found: dict[str, str] = {}
    patterns = tuple(contents.pool.canonical(each) for each in recipe.exclude)
    for name in chosen.content.take.hwdb:
        paths = contents.pool.glob(f"{HWDB_DIRECTORY}/{name}")
        if not paths:
            raise BuildError(f"feature {chosen.name} takes {HWDB_DIRECTORY}/{name}, which no package of the lock has",
                             "Debian's udev has such files")  # fmt: skip
        for path in paths:
            if patterns and is_excluded((path,), patterns):
                raise BuildError(f"{path} is excluded, and feature {chosen.name} takes it", "do without one of them")
            found[path] = chosen.name
    return found
