# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removing from the store what is not used any more, and what is damaged."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

from preroot.packages.aside import PREFIX, read_sealed
from preroot.packages.model import PackageIndex
from preroot.packages.store import GcResult, remove

#: A file that no index names, or with a temporary name, may be being written by another process; none takes so long.
_STRAY_SECONDS = 3600
_PIECE = 1 << 20


def _files(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted((each for each in entries if each.is_file(follow_symlinks=False)), key=lambda each: each.name)
    except FileNotFoundError:
        return []


def gc(directory: Path, keep: Collection[str], older_than_seconds: float) -> GcResult:
    """Remove unused entries below the store's directory, of every format; see `Store.gc`.

    `keep` has digests as they are in file names. Raises OSError when a directory cannot be read.
    """
    now = time.time()
    removed = kept = freed = 0
    for kind in ("packages", "objects", "memo"):
        for top in sorted(directory.glob("v[0-9]*")):
            groups: dict[str, list[os.DirEntry[str]]] = {}
            for entry in _files(top / kind):
                groups.setdefault(entry.name if entry.name.startswith(PREFIX) else entry.name[:64], []).append(entry)
            for name, entries in groups.items():
                if name in keep:
                    kept += 1
                    continue
                limit = older_than_seconds
                used = max(entry.stat().st_mtime for entry in entries)
                whole = kind != "packages" or any(entry.name.endswith(".index") for entry in entries)
                if name.startswith(PREFIX) or not whole:
                    limit = _STRAY_SECONDS
                if now - used <= limit:
                    kept += 1
                    continue
                # The index first: without it the rest is not looked at.
                for entry in sorted(entries, key=lambda each: not each.name.endswith(".index")):
                    freed += entry.stat().st_size
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
        if not entry.name.startswith(PREFIX) and _digest(Path(entry.path)) != entry.name:
            damaged.append(f"object {entry.name}")
            remove(Path(entry.path))
    for entry in _files(top / "memo"):
        if not entry.name.startswith(PREFIX) and read_sealed(Path(entry.path)) is None:
            damaged.append(f"result {entry.name}")
            remove(Path(entry.path))
    return sorted(damaged)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
