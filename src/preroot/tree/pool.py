# SPDX-License-Identifier: LGPL-2.1-or-later
"""The world that a closure resolves in: all files of the lock's packages under their canonical paths."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from preroot.packages.model import FileInfo, Learnt, Package, PackageIndex

#: Symbolic links followed before a chain counts as a loop (the kernel's own limit, MAXSYMLINKS in namei.h).
_MAX_LINKS = 40

#: What is mounted over the image by its own init: the kernel's file systems, /run, and the real root.
_AT_BOOT = frozenset({"dev", "proc", "run", "sys", "sysroot"})


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
    """Where a path leads: the links on the way, and the path at the end (None where the chain breaks).

    `end` is where it ends or would end; '' when the links form a loop. `through` are directories that `..` leaves:
    they have to be there for the kernel to follow the path.
    """

    links: tuple[str, ...]
    path: str | None
    end: str = ""
    through: tuple[str, ...] = ()

    @property
    def at_boot(self) -> bool:
        """Return whether the path leads to what exists only in a running system."""
        return self.path is None and exists_at_boot(self.end)

    @property
    def followed(self) -> bool:
        """Return whether the path leads to something, in the image or at boot."""
        return self.path is not None or self.at_boot

    @property
    def chain(self) -> tuple[str, ...]:
        """Return the links and the path at the end, as far as it is in the image."""
        return self.links if self.path is None else (*self.links, self.path)


def exists_at_boot(path: str) -> bool:
    """Return whether a canonical path lies in a file system that is mounted at boot and empty in an image."""
    return path.partition("/")[0] in _AT_BOOT


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
        #: names of the packages' files by directory, made when first asked for and shared with overlays
        self._children: dict[str, list[str]] = {}
        self._own_children: dict[str, set[str]] = {}
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
        other.packages, other._files, other._indexes = self.packages, self._files, self._indexes
        other._globs, other._children = self._globs, self._children
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
        path = self.canonical(path)
        self._declared[path] = declared
        while path:
            parent, _, name = path.rpartition("/")
            self._own_children.setdefault(parent, set()).add(name)
            path = parent

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
        if not self._children:
            for path in self._files:
                parent, _, name = path.rpartition("/")
                self._children.setdefault(parent, []).append(name)
        names = self._children.get(directory, ())
        return sorted({*names, *self._own_children.get(directory, ())})

    def exists(self, path: str) -> bool:
        """Return whether `path`, its links followed, leads to something in the packages or declared."""
        return self.resolve(path).path is not None

    def resolve(self, path: str) -> Resolved:
        """Follow symbolic links in every component of `path` (path_resolution(7)).

        `..` is the parent of where the links before it have led, not of the spelling. The path of the answer is None
        where a component is missing, and where the links form a loop.
        """
        links: list[str] = []
        through: list[str] = []
        todo = path.split("/")
        done: list[str] = []
        while todo:
            name = todo.pop(0)
            if name in {"", "."}:
                continue
            if name == "..":
                if done:
                    through.append("/".join(done))
                    done = done[:-1]
                continue
            if not done and name in self._merged:
                todo = self._merged[name].split("/") + todo
                continue
            here = "/".join([*done, name])
            target = self._link_target(here)
            if target is None:
                done.append(name)
                continue
            if len(links) == _MAX_LINKS:
                return Resolved(tuple(links), None)
            links.append(here)
            todo = target.split("/") + todo
            if target.startswith("/"):
                done = []
        end = "/".join(done)
        there = all(self._is_there(each) for each in (*through, end))
        return Resolved(tuple(links), end if there else None, end, tuple(through))

    def _is_there(self, path: str) -> bool:
        if path in self._files or path in self._declared or not path:
            return True
        # A directory that no package lists, but that files are in: the tree makes it.
        return not exists_at_boot(path) and bool(self.listing(path))

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
    """Return the regular expression of a path glob: `*` and `?` stay within a component, `**` crosses them.

    `**/` also stands for no component at all; a bracket that is no valid set stands for itself, and one with a slash is
    none (glob(7)).
    """
    out = []
    for number, part in enumerate(re.split(r"(\*\*/|\*\*|\*|\?|\[[!^]?\]?[^]/]*\])", pattern)):
        if number % 2 == 0:  # what is between the wildcards
            out.append(re.escape(part))
        else:
            out.append(_WILDCARDS.get(part) or _character_set(part))
    return re.compile("".join(out))


_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _character_set(part: str) -> str:
    if len(part) == 2:
        return re.escape(part)
    negated = part[1] in "!^"
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[2:-1] if negated else part[1:-1])
    expression = f"[^/{inside}]" if negated else f"(?!/)[{inside}]"
    try:
        re.compile(expression)
    except re.error:
        return re.escape(part)
    return expression
