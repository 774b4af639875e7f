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


def clean(workspace: Workspace, store: Store, older_than: float) -> GcResult:
    """Remove what was not used for `older_than` seconds: from the store, package files, machines' disks and logs.

    Package files and disks count from when they were made: they are not needed again while what was made of them is
    in use. Raises BuildError when the store can't be read.
    """
    result = store.gc((), older_than)
    removed, kept, freed = result.removed, result.kept, result.freed
    for path in _others(workspace):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if time.time() - status.st_mtime <= older_than:
                kept += 1
                continue
            freed += _size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    return GcResult(removed, kept, freed)


def _others(workspace: Workspace) -> Iterator[Path]:
    for directory in (workspace.cache / "archives", workspace.boot / "disks", workspace.boot / "runs",
                      workspace.cache / "unchanged"):  # fmt: skip
        if directory.is_dir():
            yield from sorted(directory.iterdir())


def _size(path: Path) -> int:
    """Return the bytes that a file, or all files of a directory, take on the disk."""
    if not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(
        os.lstat(f"{top}/{name}").st_blocks * 512 for top, _, names in os.walk(path) for name in names
    )  # fmt: skip
