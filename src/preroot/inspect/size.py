# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the bytes of an image are: its files grouped by package, feature, directory, reason or kind. Pure.

Sizes are bytes of files' contents, as they are in memory once the kernel has unpacked the image. Every grouping is a
partition: its groups and the archives' own bytes (names, modes, link targets, padding) add up to the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct, structs

from preroot.errors import BuildError
from preroot.image.cpio import archive_size
from preroot.image.digest import is_secret
from preroot.image.manifest import Manifest
from preroot.image.write import alignment, parts_in_order
from preroot.inspect.archive import Archive, ArchiveEntry
from preroot.inspect.kinds import kind_of
from preroot.inspect.listing import segment_rows
from preroot.inspect.why import WhyPath, first_reasons, index_of_manifest, index_of_plan, sources
from preroot.tree.model import Entry, Plan, ReasonKind

Grouping = Literal["package", "feature", "directory", "reason", "kind"]

#: groupings that need to know owners and reasons: what preroot planned or built, with its manifest
EXPLAINED: tuple[Grouping, ...] = ("package", "feature", "reason")

#: name of the group of files that several features lead to; no feature has a name in brackets
SHARED = "(shared)"
#: name of the group of files that no feature leads to: their askers are not in the image
UNEXPLAINED = "(unexplained)"

#: a directory with a larger share of the image than this is shown by what is in it
_SHARE = 0.04

#: a reason's kind → the group of the files that are there for it
REASONS: dict[ReasonKind, str] = {
    "feature": "named by a feature",
    "recipe": "named by the recipe",
    "needed": "library that a file is linked to",
    "interpreter": "interpreter of a file",
    "dlopen": "library that a file loads by name",
    "plugin": "plugin of a family",
    "configuration": "what a configuration names",
    "exec": "program that a unit runs",
    "environment": "file that a unit reads",
    "unit": "unit that another asks for",
    "generator": "what a generator or script refers to",
    "udev": "what udev rules refer to",
    "include": "keymap that another includes",
    "symlink": "end of a link",
    "parent": "directory above",
    "module": "module that another depends on",
    "softdep": "soft dependency of a module",
    "weakdep": "weak dependency of a module",
    "firmware": "firmware of a module",
    "licence": "licence text of a package",
    "merged-usr": "link of the merged /usr",
    "generated": "written by preroot",
}


class PartSize(Struct, frozen=True):
    """One part, or a segment of an image that is not ours: `unpacked` and `packed` in bytes, 0 where not known."""

    name: str
    codec: str
    level: int
    unpacked: int
    packed: int = 0


class SizedFile(Struct, frozen=True):
    """One file of a part. Of hard links to one content, the first has its size and the others have 0."""

    path: str
    size: int
    part: str
    kind: str
    owner: str = ""


class Sizes(Struct, frozen=True):
    """What is grouped: the files of an image or plan, and the reasons of all its paths (none: not known)."""

    name: str
    parts: tuple[PartSize, ...]
    files: tuple[SizedFile, ...]
    index: dict[str, WhyPath]

    @property
    def unpacked(self) -> int:
        """Return the bytes of all parts, unpacked."""
        return sum(part.unpacked for part in self.parts)

    @property
    def headers(self) -> int:
        """Return the bytes that are in no file's content: names, modes, link targets, padding."""
        return self.unpacked - sum(file.size for file in self.files)


class Group(Struct, frozen=True):
    """Files that belong together. `with_shared`: their bytes and those that the group shares with others."""

    name: str
    size: int
    files: tuple[SizedFile, ...]
    with_shared: int | None = None
    compressed: int | None = None


def sizes_of_plan(plan: Plan, read: Callable[[Entry], bytes] | None = None) -> Sizes:
    """Return the sizes of a plan. `read` returns a file's content: without it, kinds are told by names alone."""
    parts, files = [], []
    for part in parts_in_order(plan):
        entries = part.tree.entries.values()
        contents = sum(entry.size for entry in entries)
        unpacked = archive_size(entries, align=alignment(part)) if part.format == "cpio" else contents
        parts.append(PartSize(part.name, part.codec, part.level, unpacked))
        for entry in entries:
            if entry.type == "file":
                head = read(entry)[:4] if read and not is_secret(entry) else None
                kind = kind_of(entry.path, entry.mode, head)
                files.append(SizedFile(entry.path, entry.size, part.name, kind, entry.owner))
    return Sizes(plan.name, tuple(parts), tuple(files), index_of_plan(plan))


def sizes_of_archive(archive: Archive, manifest: Manifest | None = None) -> Sizes:
    """Return the sizes of an image that was read; with its manifest, owners and reasons too.

    Without one, the parts are named `segment N`. What lies in several segments counts in each of them. The content of
    secrets counts nowhere, as in a plan.
    """
    ours = {part.offset: part for part in manifest.parts} if manifest else {}
    known = {(part.name, entry.path): entry for part in ours.values() for entry in part.entries}
    parts, files = [], []
    for segment, row in zip(archive.segments, segment_rows(archive), strict=True):
        part = ours.get(segment.offset)
        name = part.name if part else f"segment {row.number}"
        unpacked = row.unpacked
        seen: set[int] = set()
        for entry in sorted(segment.entries, key=lambda entry: entry.path):
            if entry.type == "file":
                planned = known.get((name, entry.path))
                hidden = planned is not None and planned.secret  # the size of a secret is told nowhere
                size = 0 if hidden or (entry.offset in seen and entry.links > 1) else entry.size
                unpacked -= entry.size + -entry.size % 4 if hidden else 0
                seen.add(entry.offset)
                kind = kind_of(entry.path, entry.mode, None if hidden else _head(archive, entry))
                files.append(SizedFile(entry.path, size, name, kind, planned.owner if planned else ""))
        parts.append(PartSize(name, segment.codec, part.level if part else 0, unpacked, segment.size))
    return Sizes(archive.name, tuple(parts), tuple(files), index_of_manifest(manifest) if manifest else {})


def _head(archive: Archive, entry: ArchiveEntry) -> bytes:
    return bytes(archive.segments[entry.segment].data[entry.offset : entry.offset + min(entry.size, 4)])


def groups(sizes: Sizes, by: Grouping, *, depth: int = 0) -> tuple[Group, ...]:
    """Return the files in groups, the largest first. A file is in exactly one of them.

    By `feature`, a feature's group has the files that no other one leads to: what would go if it were refused. What
    several lead to is in the group SHARED; `with_shared` counts it for each of them. By `directory`, `depth` is how
    many components of a path count; 0: directories that have a large share are shown by what is in them.
    Raises BuildError when owners and reasons are not known and are needed.
    """
    if by in EXPLAINED and not sizes.index:
        raise BuildError(
            f"{sizes.name}: packages, features and reasons are known only of an image of preroot's, with its manifest",
            "--by directory, or --by kind",
        )
    if by == "feature":
        return _by_feature(sizes)
    if by == "directory":
        names = _directories(sizes.files, depth)
    elif by == "reason":
        names = {path: REASONS[reason.kind] for path, reason in first_reasons(sizes.index).items()}
    found: dict[str, list[SizedFile]] = {}
    for file in sizes.files:
        if by == "package":
            name = file.owner
        elif by == "kind":
            name = file.kind
        else:
            name = names.get(file.path, UNEXPLAINED)
        found.setdefault(name or UNEXPLAINED, []).append(file)
    return _sorted(_group(name, files) for name, files in found.items())


def _group(name: str, files: Iterable[SizedFile]) -> Group:
    ordered = tuple(sorted(files, key=lambda file: (-file.size, file.path, file.part)))
    return Group(name, sum(file.size for file in ordered), ordered)


def _sorted(found: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(found, key=lambda group: (-group.size, group.name)))


def _by_feature(sizes: Sizes) -> tuple[Group, ...]:
    leading = sources(sizes.index)
    found: dict[str, list[SizedFile]] = {}
    reached: dict[str, int] = {}
    for file in sizes.files:
        names = leading.get(file.path) or {UNEXPLAINED}
        for name in names:
            reached[name] = reached.get(name, 0) + file.size
            found.setdefault(name, [])
        found.setdefault(next(iter(names)) if len(names) == 1 else SHARED, []).append(file)
    made = (_group(name, files) for name, files in found.items())
    return _sorted(structs.replace(group, with_shared=reached.get(group.name)) for group in made)


def _directories(files: Iterable[SizedFile], depth: int) -> dict[str, str]:
    """Return path → the directory that it counts for; `/` of files at the top."""
    files = list(files)
    if depth:
        return {file.path: "/".join(_above(file.path)[:depth]) or "/" for file in files}
    below: dict[str, int] = {}
    for file in files:
        parts = _above(file.path)
        for count in range(len(parts) + 1):
            directory = "/".join(parts[:count])
            below[directory] = below.get(directory, 0) + file.size
    large = max(below.get("", 0) * _SHARE, 1)
    names = {}
    for file in files:
        parts = _above(file.path)
        count = 0
        while count < len(parts) and below["/".join(parts[:count])] > large:
            count += 1
        names[file.path] = "/".join(parts[:count]) or "/"
    return names


def _above(path: str) -> list[str]:
    return path.split("/")[:-1]


def compressed(
    found: Iterable[Group],
    parts: Iterable[PartSize],
    read: Callable[[SizedFile], bytes],
    pack: Callable[[Iterable[bytes], PartSize, int], int],
) -> tuple[Group, ...]:
    """Return groups with an estimate of what each takes in the image: its contents compressed alone.

    `read` returns a file's content, `pack` the size of contents compressed as their part is (the third argument is
    their size). What is alike in two groups is found once in the image and twice here, and each group begins with
    nothing learnt: the sum is a little more than the image.
    """
    by_name = {part.name: part for part in parts}
    made = []
    for group in found:
        total = 0
        for name, part in by_name.items():
            # by path and not by size: like files of one directory stand together, as in the image
            files = sorted(
                (file for file in group.files if file.part == name and file.size), key=lambda file: file.path
            )
            if files:
                total += pack((read(file) for file in files), part, sum(file.size for file in files))
        made.append(structs.replace(group, compressed=total))
    return tuple(made)


def largest(found: Iterable[Group], count: int) -> tuple[tuple[str, int], ...]:
    """Return name and size of the largest groups that have any bytes."""
    return tuple((group.name, group.size) for group in _sorted(found) if group.size)[:count]
