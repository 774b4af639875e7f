# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removing from the cache what was not used for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from preroot.engine.workspace import Workspace
from preroot.packages.store import GcResult, Store
from preroot.packages.store_upkeep import BUSY_SECONDS
from preroot.scratch import sweep, temporary_directory


def clean(workspace: Workspace, store: Store, older_than: float) -> GcResult:
    """Remove what was not used for `older_than` seconds: from the store, package files, machines' disks and logs.

    Package files and disks count from when they were last asked for: they are not needed while what was made of them is
    in use. What killed processes left goes at once; while builds run, what was used within the last day stays. Raises
    BuildError when the store can't be read.
    """
    with store.presence.cleaning() as alone:
        result = _clean(workspace, store, older_than, alone=alone)
    with contextlib.suppress(OSError):
        sweep(temporary_directory())
    return result


def _clean(workspace: Workspace, store: Store, older_than: float, *, alone: bool) -> GcResult:
    result = store.gc((), older_than)
    removed, kept, freed = result.removed, result.kept, result.freed
    for path in _others(workspace):
        with contextlib.suppress(OSError):
            limit = 0 if _is_stray(path) else older_than
            if time.time() - path.lstat().st_mtime <= (limit if alone else max(limit, BUSY_SECONDS)):
                kept += 1
                continue
            freed += _size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    return GcResult(removed, kept, freed)


def _is_stray(path: Path) -> bool:
    """Return whether a killed process may have left it: what is half-made has a hidden name, or apt's own place."""
    return path.name.startswith(".") or path.parent.name == "partial"


def _others(workspace: Workspace) -> Iterator[Path]:
    for directory in (workspace.cache / "archives", workspace.boot / "disks", workspace.boot / "runs",
                      workspace.cache / "unchanged"):  # fmt: skip
        if directory.is_dir():
            yield from sorted(directory.iterdir())
    # apt's own, when a download of it was killed
    for partial in workspace.cache.glob("apt/*/*/partial"):
        yield from sorted(partial.iterdir())


def _size(path: Path) -> int:
    """Return the bytes that a file, or all files of a directory, take on the disk."""
    if not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(
        os.lstat(f"{top}/{name}").st_blocks * 512 for top, _, names in os.walk(path) for name in names
    )  # fmt: skip
