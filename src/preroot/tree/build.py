# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a closure and declarations to the tree of a part: entries with owner, numbers, content and reasons. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from msgspec import structs

from preroot.errors import BuildError
from preroot.packages.model import Keymap
from preroot.tree.closure.model import Closure
from preroot.tree.declare import Declaration, digest
from preroot.tree.model import (
    BytesContent,
    Entry,
    EntryType,
    FileContent,
    ObjectContent,
    Reason,
    StoreContent,
    Tree,
)
from preroot.tree.pool import Pool
from preroot.tree.users import Names

_COMPRESSED = (".gz", ".xz", ".zst")


def package_entry(path: str, reasons: tuple[Reason, ...], pool: Pool) -> Entry:
    """Return the entry for a package's file under its canonical path.

    A directory that no package lists, but that has files of packages, is preroot's. Raises BuildError for a device
    node or pipe, and for a hard link without its file.
    """
    found = pool.get(path)
    if found is None:
        return Entry(path, "directory", 0o755, 0, 0, "preroot", reasons)
    package, info = found.package, found.info
    changes = () if info.path == path else (f"path was {info.path}",)
    if info.type == "hardlink":
        origin = pool.get(pool.canonical(info.target))
        if origin is None:
            raise BuildError(f"{package.owner}: {path} is a hard link to {info.target}, which the package lacks")
        info, changes = origin.info, (*changes, f"was a hard link to {info.target}")
    kind: EntryType = info.type if info.type in {"directory", "symlink"} else "file"
    if info.type not in {"directory", "symlink", "file"}:
        raise BuildError(f"{package.owner}: {path} is a {info.type} device or pipe, which packages must not bring")
    content = StoreContent(package.sha256, info.offset) if kind == "file" else None
    return Entry(
        path, kind, info.mode, info.uid, info.gid, package.owner, reasons,
        size=info.size if kind == "file" else 0,
        sha256=info.sha256 if kind == "file" else "",
        target=info.target if kind == "symlink" else "",
        content=content, changes=changes,
    )  # fmt: skip


def declared_entry(declaration: Declaration, extra: tuple[Reason, ...], names: Names) -> Entry:
    """Return the entry for a declaration. Raises BuildError for an owner or group that the image does not have."""
    try:
        uid, gid = names.uid(declaration.user), names.gid(declaration.group)
    except KeyError as error:
        raise BuildError(
            f"{declaration.path} is to belong to {error.args[0]!r}, which nothing declares (asked for by "
            f"{declaration.owner})", "declare it with [[user]] or [[group]]",
        ) from None  # fmt: skip
    reasons = (declaration.reason, *(reason for reason in extra if reason != declaration.reason))
    common = {"uid": uid, "gid": gid, "owner": declaration.owner, "reasons": reasons}
    if declaration.target:
        return Entry(declaration.path, "symlink", 0o777, target=declaration.target, **common)  # type: ignore[arg-type]
    if declaration.device is not None:
        return Entry(declaration.path, "node", declaration.mode, device=declaration.device, **common)  # type: ignore[arg-type]
    if declaration.is_directory:
        return Entry(declaration.path, "directory", declaration.mode, **common)  # type: ignore[arg-type]
    if declaration.secret:
        content = FileContent(declaration.secret, secret=True)
        return Entry(declaration.path, "file", declaration.mode, content=content, **common)  # type: ignore[arg-type]
    data = declaration.data or b""
    if declaration.hidden:
        held = BytesContent(data, secret=True)
        return Entry(declaration.path, "file", declaration.mode, content=held, **common)  # type: ignore[arg-type]
    return Entry(
        declaration.path, "file", declaration.mode, size=len(data), sha256=digest(data), content=BytesContent(data),
        **common,  # type: ignore[arg-type]
    )  # fmt: skip


def build_tree(
    closure: Closure, declarations: Iterable[Declaration], more: Iterable[Entry], pool: Pool, names: Names
) -> Tree:
    """Return the tree of a part.

    Every declaration and every path of the closure becomes an entry; directories above each are added, with the
    owner and mode that a package gives them, else 0755 root. `more` are entries made elsewhere (modules, indexes).
    Raises BuildError where two declarations disagree about one path, or one lies below what is no directory.
    """
    entries: dict[str, Entry] = {}
    for declaration in declarations:
        extra = closure.paths.get(declaration.path, ())
        entry = declared_entry(declaration, extra, names)
        if not entry.path:
            raise BuildError(f"{entry.owner} declares the root directory itself", "name a path in the image")
        before = entries.get(entry.path)
        if before is not None and before.owner != "preroot" and not same_form(before, entry):
            raise BuildError(
                f"{entry.path} is declared by {before.owner} and by {entry.owner} with different content",
                "leave one of them out",
            )
        entries[entry.path] = entry
    for path, reasons in closure.paths.items():
        if path and path not in entries:
            entries[path] = package_entry(path, reasons, pool)
    for entry in more:
        entries[entry.path] = entry
    _add_parents(entries, pool)
    return Tree(dict(sorted(entries.items())))


def with_entries(tree: Tree, more: Iterable[Entry], pool: Pool) -> Tree:
    """Return the tree with entries that were made from what is in it, and the directories above them."""
    entries = {**tree.entries, **{entry.path: entry for entry in more}}
    _add_parents(entries, pool)
    return Tree(dict(sorted(entries.items())))


def same_form(one: Entry, other: Entry) -> bool:
    """Return whether two entries are the same in the image, whoever asked for them."""

    def form(entry: Entry) -> tuple[object, ...]:
        # A secret has no digest: its content is not read before the image is written.
        content = entry.sha256 or entry.content
        return entry.type, entry.mode, entry.uid, entry.gid, entry.target, entry.device, content

    return form(one) == form(other)


def _add_parents(entries: dict[str, Entry], pool: Pool) -> None:
    for path in list(entries):
        child, parent = path, posixpath.dirname(path)
        while parent:
            known = parent in entries
            if not known:
                entries[parent] = package_entry(parent, (Reason("parent", child),), pool)
            above = entries[parent]
            if above.type != "directory":
                kind = f"a link to {above.target}" if above.type == "symlink" else f"a {above.type}"
                raise BuildError(
                    f"{path} (of {entries[path].owner}) lies below {parent}, which is {kind} in this image "
                    f"(of {above.owner})", "use the canonical path",
                )  # fmt: skip
            if known:
                break
            child, parent = parent, posixpath.dirname(parent)


def plain_keymaps(tree: Tree, pool: Pool) -> list[str]:
    """Return the compressed keymaps of a tree, and the links to them: they are decompressed in the image."""
    found = []
    for path in tree.entries:
        final = pool.resolve(path).path
        compressed = path.endswith(_COMPRESSED) and final is not None and final.endswith(_COMPRESSED)
        if compressed and isinstance(pool.learnt(final or path), Keymap) and tree.entries[path].owner != "recipe":
            found.append(path)
    return found


def without_compression(tree: Tree, contents: Mapping[str, bytes]) -> Tree:
    """Return the tree with the files at the paths of `contents` decompressed to them, and links there led to those.

    Paths, targets and reasons lose the suffix of the compression. The contents are among the store's objects.
    """
    if not contents:
        return tree
    entries = {}
    for path, entry in tree.entries.items():
        reasons = tuple(
            structs.replace(each, asker=_plain(each.asker)) if each.asker in contents else each
            for each in entry.reasons
        )
        changed = structs.replace(entry, reasons=reasons)
        if path in contents and entry.type == "symlink":
            changed = structs.replace(changed, path=_plain(path), target=_plain(entry.target))
        elif path in contents:
            data, codec = contents[path], path.rpartition(".")[2]
            changed = structs.replace(
                changed, path=_plain(path), size=len(data), sha256=digest(data), content=ObjectContent(digest(data)),
                changes=(*entry.changes, f"decompressed {codec}"),
            )  # fmt: skip
        entries[changed.path] = changed
    return Tree(dict(sorted(entries.items())))


def _plain(path: str) -> str:
    return path.rpartition(".")[0]


def subtract(tree: Tree, earlier: Iterable[Tree]) -> Tree:
    """Return the tree without what an earlier part has in the same form; directories stay where needed."""
    have: dict[str, Entry] = {}
    for other in earlier:
        have.update(other.entries)
    kept = {
        path: entry for path, entry in tree.entries.items()
        if entry.type != "directory" and not (path in have and same_form(have[path], entry))
    }  # fmt: skip
    needed = {parent for path in kept for parent in _parents(path)}
    directories = {path: entry for path, entry in tree.entries.items() if entry.type == "directory"}
    kept |= {path: entry for path, entry in directories.items() if path in needed or path not in have}
    return Tree(dict(sorted(kept.items())))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
