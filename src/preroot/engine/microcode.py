# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part `microcode`: checked and joined once, then kept."""

from __future__ import annotations

import msgspec

from preroot.engine.contents import PackageContents
from preroot.engine.locking import Locked
from preroot.recipe.distributions import where_to_find
from preroot.recipe.schema import Recipe
from preroot.tree.microcode import VendorFiles, joined_microcode, microcode_files
from preroot.tree.model import Entry, ObjectContent

#: raise it when the same files give other bytes
_RULES = 1


def microcode_entries(recipe: Recipe, locked: Locked, contents: PackageContents) -> list[Entry]:
    """Return the files of the early archive. Raises BuildError for what is asked for and is not there or not sound."""
    info, components = locked.distribution, recipe.distribution.components

    def package_of(path: str) -> str:
        return where_to_find(path, info, components)

    wanted = microcode_files(recipe.microcode, contents.pool, info.arch, package_of)
    return [_entry(files, contents) for files in wanted]


def _entry(files: VendorFiles, contents: PackageContents) -> Entry:
    store = contents.store
    found = [(path, contents.file(path).info.sha256) for path in files.paths]
    key = f"microcode {_RULES} {files.vendor} {files.cpus} {found}"
    kept = store.recall(key)
    sha256, size = msgspec.msgpack.decode(kept, type=tuple[str, int]) if kept else ("", 0)
    if not (kept and store.has_object(sha256, size)):
        data = joined_microcode(files, contents.read_plain)
        sha256, size = store.put_object(data), len(data)
        store.remember(key, msgspec.msgpack.encode((sha256, size)))
    changes = (f"{len(files.paths)} files joined", *([f"narrowed to {', '.join(files.cpus)}"] if files.cpus else []))
    return Entry(
        files.target, "file", 0o644, 0, 0, files.owner, (files.reason,), size, sha256, content=ObjectContent(sha256),
        changes=changes,
    )  # fmt: skip
