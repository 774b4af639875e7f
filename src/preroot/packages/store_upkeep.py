# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removing from the store what is not used any more, and what is damaged."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from preroot.packages.aside import PREFIX, read_sealed
from preroot.packages.model import PackageIndex
from preroot.packages.store import GcResult, remove

#: While others use the store: what they use is marked as used, and no build takes so long.
BUSY_SECONDS = 24 * 3600
_PIECE = 1 << 20


def _files(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted((each for each in entries if each.is_file(follow_symlinks=False)), key=lambda each: each.name)
    except FileNotFoundError:
        return []


def gc(directory: Path, keep: Collection[str], older_than_seconds: float, *, alone: bool) -> GcResult:
    """Remove unused entries below the store's directory, of every format; see `Store.gc`.

    `keep` has digests as they are in file names; `alone` says that nobody else uses the store. Raises OSError when a
    directory cannot be read.
    """
    least = BUSY_SECONDS if not alone else float("-inf")  # also what is from the future: a clock may have been wrong
    now = time.time()
    removed = kept = freed = 0
    for kind in ("packages", "objects", "memo"):
        for top in sorted(directory.glob("v[0-9]*")):
            groups: dict[str, list[tuple[os.DirEntry[str], os.stat_result]]] = {}
            for entry in _files(top / kind):
                name = entry.name if entry.name.startswith(PREFIX) else entry.name[:64]
                with suppress(FileNotFoundError):  # others are at work here
                    groups.setdefault(name, []).append((entry, entry.stat()))
            for name, entries in groups.items():
                if name in keep:
                    kept += 1
                    continue
                limit = max(older_than_seconds, least)
                used = max((status.st_mtime for _, status in entries), default=now)
                whole = kind != "packages" or any(entry.name.endswith(".index") for entry, _ in entries)
                if name.startswith(PREFIX) or not whole:
                    limit = least  # a temporary file, or one that no index names: its writer has gone, or is at it
                if now - used <= limit:
                    kept += 1
                    continue
                # The index first: without it the rest is not looked at.
                for entry, status in sorted(entries, key=lambda each: not each[0].name.endswith(".index")):
                    freed += status.st_size
                    remove(Path(entry.path))
                removed += 1
    return GcResult(removed, kept, freed)


def verify(top: Path, load_index: Callable[[str], PackageIndex | None]) -> list[str]:
    """Check all digests below the directory of this format, remove what is damaged; see `Store.verify`."""
    damaged = []
    for entry in _files(top / "packages"):
        sha256, _, kind = entry.name.partition(".")
        path = Path(entry.path)
        if kind == "index":
            index = load_index(sha256)
            if index is None or not _blob_is_sound(path.with_suffix(".blob"), index):
                damaged.append(f"package {sha256}")
                for other in ("index", "blob", "modules", "decompressed"):
                    remove(path.with_suffix("." + other))
        elif kind in {"modules", "decompressed"} and path.exists() and read_sealed(path) is None:
            damaged.append(f"{kind} {sha256}")
            remove(path)
    for entry in _files(top / "objects"):
        if not entry.name.startswith(PREFIX) and _digest(Path(entry.path)) not in (entry.name, ""):
            damaged.append(f"object {entry.name}")
            remove(Path(entry.path))
    for entry in _files(top / "memo"):
        path = Path(entry.path)
        if not entry.name.startswith(PREFIX) and read_sealed(path) is None and path.exists():
            damaged.append(f"result {entry.name}")
            remove(path)
    return sorted(damaged)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, '' for one that somebody has removed meanwhile."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _blob_is_sound(path: Path, index: PackageIndex) -> bool:
    with path.open("rb") as blob:
        for info in index.files:
            if info.type != "file":
                continue
            blob.seek(info.offset)
            sha256 = hashlib.sha256()
            left = info.size
            while left and (piece := blob.read(min(left, _PIECE))):
                sha256.update(piece)
                left -= len(piece)
            if sha256.hexdigest() != info.sha256:
                return False
    return True
