# SPDX-License-Identifier: LGPL-2.1-or-later
"""The licence texts of the packages in an image: found, each content once, with the texts that they refer to. Pure.

Source: Debian Policy 12.5: usr/share/doc/PACKAGE/copyright, which may lie in another package's directory through a
link, and may refer to usr/share/common-licenses of base-files instead of quoting. Fedora and others have
usr/share/licenses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, structs

from preroot.tree.build import build_tree, package_entry
from preroot.tree.closure.model import EMPTY_CLOSURE
from preroot.tree.model import Entry, PartPlan, Reason, Tree
from preroot.tree.pool import Pool
from preroot.tree.users import NO_NAMES

#: where packages have their texts; {name} is the package's
_COPYRIGHT = "usr/share/doc/{name}/copyright"
_LICENSES = "usr/share/licenses/{name}/*"
_COMMON = "usr/share/common-licenses/"
#: how texts refer to a common licence; a full stop at the end of a sentence is none of its name
_REFERENCE = re.compile(rb"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")
#: the licence of preroot's own files in an image
_OWN = "LGPL-2.1"


class LicenceTexts(Struct, frozen=True):
    """The texts for each part, in the order of the parts, without what an earlier part has; what was not found."""

    trees: dict[str, Tree]
    missing: tuple[str, ...]

    @property
    def whole(self) -> Tree:
        """Return all texts as one tree."""
        entries = {path: entry for tree in self.trees.values() for path, entry in tree.entries.items()}
        return Tree(dict(sorted(entries.items())))


def licence_texts(
    parts: Iterable[PartPlan], kernel: Sequence[str], pool: Pool, read: Callable[[str], bytes]
) -> LicenceTexts:
    """Return the licence texts of all packages that files of the image are from.

    `kernel` has the owners (`package=version`) of the kernel beside the image, whose texts go to the last part. `read`
    returns a package file's content by canonical path. What the kernel reads before it unpacks anything (microcode) has
    room for nothing else: its texts are in the next part. In `missing`: one line for each package without a text, and
    for each text that another refers to.
    """
    owners: dict[str, list[str]] = {}
    waiting: list[str] = []
    every = list(parts)
    for part in every:
        found = _owners(part.tree)
        if part.name == "microcode":
            waiting += found
        else:
            owners[part.name] = [*waiting, *found]
            waiting = []
    if owners:
        owners[next(reversed(owners))] += [*waiting, *kernel]
    finder = _Finder(pool, read)
    return LicenceTexts({name: finder.tree(names) for name, names in owners.items()}, tuple(finder.missing))


def _owners(tree: Tree) -> list[str]:
    """Return the owners of a tree's files, one each (several packages' microcode is joined in one file)."""
    names = (entry.owner for entry in tree.entries.values() if entry.type != "directory")
    return sorted({each for name in names for each in name.split(", ")})


class _Finder:
    """Finds texts; what one part has is not given to the next."""

    def __init__(self, pool: Pool, read: Callable[[str], bytes]) -> None:
        self._pool = pool
        self._read = read
        self._packages = {package.owner: package.name for package in pool.packages}
        #: owners and common licences that were asked about, and texts that were taken
        self._asked: set[str] = set()
        self._done: set[str] = set()
        #: SHA-256 → the path that has the content
        self._contents: dict[str, str] = {}
        self.missing: list[str] = []

    def tree(self, owners: Iterable[str]) -> Tree:
        """Return the tree of the texts of these owners, with those that they refer to."""
        entries: dict[str, Entry] = {}
        for owner in sorted(set(owners) - self._asked):
            self._asked.add(owner)
            if owner in self._packages:
                self._add(owner, entries)
            else:  # preroot's, a feature's, or the recipe's; the recipe's own files are its author's business
                self._refer(_OWN, owner, entries, wanted=owner != "recipe")
        return build_tree(EMPTY_CLOSURE, (), entries.values(), self._pool, NO_NAMES) if entries else Tree({})

    def _add(self, owner: str, entries: dict[str, Entry]) -> None:
        name = self._packages[owner]
        paths = [_COPYRIGHT.format(name=name), *self._pool.glob(_LICENSES.format(name=name))]
        found = [path for path in paths if self._take(path, owner, entries)]
        if not found:
            self.missing.append(f"package {owner} has no licence text: there is no {paths[0]}")

    def _take(self, path: str, asker: str, entries: dict[str, Entry]) -> bool:
        """Take the text at the end of a path, the links to it, and what it refers to; tell whether there is one."""
        resolved = self._pool.resolve(path)
        if resolved.path is None:
            return False
        reason = (Reason("licence", "recipe", asker),)
        for each in resolved.links:
            entries.setdefault(each, package_entry(each, reason, self._pool))
        if resolved.path not in self._done:
            self._done.add(resolved.path)
            entries[resolved.path] = self._once(package_entry(resolved.path, reason, self._pool))
            for reference in sorted({found.decode() for found in _REFERENCE.findall(self._read(resolved.path))}):
                self._refer(reference, resolved.path, entries)
        return True

    def _once(self, entry: Entry) -> Entry:
        """Return the entry, or a link to the path that has the same content already."""
        first = self._contents.setdefault(entry.sha256, entry.path)
        if first == entry.path:
            return entry
        return structs.replace(
            entry, type="symlink", mode=0o777, target=f"/{first}", size=0, sha256="", content=None,
            changes=(*entry.changes, f"as /{first}"),
        )  # fmt: skip

    def _refer(self, reference: str, asker: str, entries: dict[str, Entry], *, wanted: bool = True) -> None:
        """Take a common licence (GPL is a link to GPL-3)."""
        path = _COMMON + reference
        if wanted and path not in self._asked:
            self._asked.add(path)
            if not self._take(path, asker, entries):
                self.missing.append(f"the licence text /{path}, which {asker} refers to, is in no package of the lock")


def with_texts(parts: Iterable[PartPlan], texts: Mapping[str, Tree]) -> tuple[PartPlan, ...]:
    """Return the parts with their texts among their files."""
    return tuple(
        structs.replace(part, tree=Tree(dict(sorted({**texts[part.name].entries, **part.tree.entries}.items()))))
        if part.name in texts
        else part
        for part in parts
    )
