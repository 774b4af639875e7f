# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tree that lies in a directory of another, and takes from there what both have. Pure.

The exitrd is put together at boot: its own files from below that directory, the others from the image around it. So a
library that both need is in the image, and in what the kernel unpacks, only once.
"""

from __future__ import annotations

from msgspec import structs

from preroot.tree.build import same_form, with_entries
from preroot.tree.declare import digest
from preroot.tree.model import BytesContent, Entry, Reason, Tree
from preroot.tree.pool import Pool


def put_below(tree: Tree, directory: str, around: Tree, pool: Pool) -> Tree:
    """Return `tree` below `directory` (relative, canonical), without what `around` has in the same form.

    The paths that it takes from `around` are in the file `directory`.list, one a line, sorted; directories are always
    its own. Links keep their targets: they are followed once the tree is put together.
    """
    shared = sorted(
        path for path, entry in tree.entries.items()
        if entry.type != "directory" and path in around.entries and same_form(entry, around.entries[path])
    )  # fmt: skip
    own = {path: f"{directory}/{path}" for path in tree.entries if path not in set(shared)}

    def moved(entry: Entry) -> Entry:
        # who asked lies below as well, or is the very file around it
        reasons = tuple(structs.replace(each, asker=own.get(each.asker, each.asker)) for each in entry.reasons)
        return structs.replace(entry, path=own[entry.path], reasons=reasons)

    text = "".join(f"{path}\n" for path in shared).encode()
    reason = Reason("generated", "preroot", f"what {directory} takes from around it")
    listed = Entry(
        f"{directory}.list", "file", 0o644, 0, 0, "preroot", (reason,), len(text), digest(text),
        content=BytesContent(text),
    )  # fmt: skip
    return with_entries(Tree({}), [*(moved(tree.entries[path]) for path in own), listed], pool)
