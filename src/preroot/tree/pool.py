# SPDX-License-Identifier: LGPL-2.1-or-later
"""The world that a closure resolves in: all files of the lock's packages under their canonical paths."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from preroot.errors import BuildError
from preroot.packages.model import FileInfo, Learnt, Package, PackageIndex

#: Symbolic links followed before a chain counts as a loop (the kernel's own limit, MAXSYMLINKS in namei.h).
_MAX_LINKS = 40


class PoolFile(Struct, frozen=True):
    """A file of a package, under its canonical path."""

    path: str
    package: Package
    info: FileInfo


class Declared(Struct, frozen=True):
    """A path that a feature, the recipe or preroot itself provides: a link, or a file with what it refers to."""

    owner: str
    target: str = ""
    learnt: Learnt | None = None


class Resolved(Struct, frozen=True):
    """Where a path leads: the links on the way, and the path at the end (None where the chain breaks)."""

    links: tuple[str, ...]
    path: str | None


def clean(path: str) -> str:
    """Return `path` relative and normalised: `/usr//lib/../bin/x` → `usr/bin/x`. The root itself is ''."""
    normal = posixpath.normpath("/" + path)
    return normal.lstrip("/")


class Pool:
    """All files of the packages, by canonical path.

    Arguments: the packages with their indexes in the order in which they win where two have one path (a lock is
    sorted by name, and packages of one distribution do not overlap but for directories), and the links of a
    merged /usr (`{"bin": "usr/bin"}`). What a feature or recipe declares (links, generated files) is added with
    `declare` before a closure runs, and wins over packages.
    """

    def __init__(self, packages: Sequence[tuple[Package, PackageIndex]], merged: Mapping[str, str]) -> None:
        self._merged = dict(merged)
        self._files: dict[str, tuple[Package, FileInfo]] = {}
        self._declared: dict[str, Declared] = {}
        self._globs: dict[str, list[str]] = {}
        self._children: dict[str, list[str]] | None = None
        self.packages = tuple(package for package, _ in packages)
        self._indexes = {package.name: index for package, index in packages}
        prefixes = {source + "/": target + "/" for source, target in merged.items()}
        files = self._files
        for package, index in packages:
            for info in index.files:
                path = info.path
                if not path.startswith("usr/"):
                    head, slash, rest = path.partition("/")
                    if slash and head + "/" in prefixes:
                        path = prefixes[head + "/"] + rest
                    elif head in merged:
                        continue
                if path not in files or (info.type != "directory" and files[path][1].type == "directory"):
                    files[path] = (package, info)

    def overlay(self) -> Pool:
        """Return a pool of the same packages with no declarations: each part has its own."""
        other = Pool((), self._merged)
        other.packages, other._files, other._indexes, other._globs = (
            self.packages, self._files, self._indexes, self._globs,
        )  # fmt: skip
        return other

    def canonical(self, path: str) -> str:
        """Return `path` with the links of a merged /usr followed: `lib/x` → `usr/lib/x`."""
        path = clean(path)
        head, slash, rest = path.partition("/")
        target = self._merged.get(head)
        if target is None:
            return path
        return f"{target}/{rest}" if slash else target

    def declare(self, path: str, declared: Declared) -> None:
        """Say that `path` will exist without a package."""
        self._declared[self.canonical(path)] = declared
        self._children = None

    def get(self, path: str) -> PoolFile | None:
        """Return the package file at exactly this canonical path, or None."""
        found = self._files.get(path)
        return PoolFile(path, *found) if found else None

    def index(self, package: Package) -> PackageIndex:
        """Return the store's index of a package of this pool."""
        return self._indexes[package.name]

    def declared(self, path: str) -> Declared | None:
        """Return what was declared for this canonical path, or None."""
        return self._declared.get(path)

    def learnt(self, path: str) -> Learnt | None:
        """Return what is known of the file at this canonical path, declared or of a package."""
        declared = self._declared.get(path)
        if declared is not None:
            return declared.learnt
        found = self._files.get(path)
        return found[1].learnt if found else None

    def listing(self, directory: str) -> list[str]:
        """Return the names directly below a canonical directory, of packages and declared, sorted."""
        if self._children is None:
            children: dict[str, set[str]] = {}
            for path in (*self._files, *self._declared):
                parent, _, name = path.rpartition("/")
                children.setdefault(parent, set()).add(name)
            self._children = {parent: sorted(names) for parent, names in children.items()}
        return self._children.get(directory, [])

    def exists(self, path: str) -> bool:
        """Return whether `path`, its links followed, leads to something."""
        return self.resolve(path).path is not None

    def resolve(self, path: str) -> Resolved:
        """Follow symbolic links in every component of `path` (path_resolution(7)).

        Returns the links that were met, in order, and the final canonical path; the path is None where a
        component is missing. Raises BuildError for a loop.
        """
        links: list[str] = []
        todo = self.canonical(path).split("/")
        done: list[str] = []
        while todo:
            name = todo.pop(0)
            if name in {"", "."}:
                continue
            if name == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, name])
            target = self._link_target(here)
            if target is None:
                done.append(name)
                continue
            links.append(here)
            if len(links) > _MAX_LINKS:
                raise BuildError(f"too many symbolic links at {here}", "the packages' links form a loop")
            base = [] if target.startswith("/") else done
            todo = self.canonical("/".join([*base, target])).split("/") + todo
            done = []
        final = "/".join(done)
        known = final in self._files or final in self._declared or final == ""
        return Resolved(tuple(links), final if known else None)

    def _link_target(self, path: str) -> str | None:
        declared = self._declared.get(path)
        if declared is not None:
            return declared.target or None
        found = self._files.get(path)
        return found[1].target if found and found[1].type == "symlink" else None

    def glob(self, pattern: str) -> list[str]:
        """Return the package paths that match a shell glob; `*` does not cross a slash, `**` does. Sorted."""
        pattern = self.canonical(pattern)
        if pattern in self._globs:
            return self._globs[pattern]
        if not any(char in pattern for char in "*?["):
            found = [pattern] if pattern in self._files else []
        else:
            match = glob_pattern(pattern).fullmatch
            literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
            found = sorted(path for path in self._files if path.startswith(literal) and match(path))
        self._globs[pattern] = found
        return found

    def paths(self) -> Iterable[str]:
        """Return all canonical paths of packages, in no order."""
        return self._files.keys()

    def below(self, directory: str) -> Iterator[PoolFile]:
        """Yield the package files below a canonical directory, in no order."""
        prefix = directory + "/"
        for path, found in self._files.items():
            if path.startswith(prefix):
                yield PoolFile(path, *found)


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a path glob: `*` and `?` stay within a component, `**` crosses them."""
    parts = re.split(r"(\*\*|\*|\?|\[[^]]+\])", pattern)
    out = []
    for part in parts:
        if part == "**":
            out.append(".*")
        elif part == "*":
            out.append("[^/]*")
        elif part == "?":
            out.append("[^/]")
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            inside = part[1:-1].replace("\\", "\\\\")
            out.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out))
