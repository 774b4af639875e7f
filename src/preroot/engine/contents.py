# SPDX-License-Identifier: LGPL-2.1-or-later
"""The packages of a lock with their contents: what a plan reads while it is made."""

from __future__ import annotations

from pathlib import Path

from preroot.packages.codec import decompress
from preroot.packages.store import Store
from preroot.tree.pool import Pool, PoolFile

#: compression of firmware and keymaps by their suffix
_CODECS = {".xz": "xz", ".zst": "zst", ".gz": "gz"}
#: More than any firmware file has; a larger one is none.
_LIMIT = 256 << 20


class PackageContents:
    """Reads package files by their canonical path: a pool knows where they are, the store has their bytes."""

    def __init__(self, pool: Pool, store: Store) -> None:
        self.pool = pool
        self.store = store

    def file(self, path: str) -> PoolFile:
        """Return the file at the end of `path`. Raises KeyError where no package has one."""
        found = self.pool.get(self.pool.resolve(path).path or path)
        if found is None:
            raise KeyError(path)
        return found

    def read(self, path: str) -> bytes:
        """Return the content of a file, as its package has it. Raises KeyError where no package has one."""
        found = self.file(path)
        return self.store.read(found.package.sha256, found.info)

    def read_plain(self, path: str) -> bytes:
        """Return the content of a file, decompressed where its name says that it is compressed."""
        data = self.read(path)
        codec = _CODECS.get(Path(path).suffix)
        return decompress(data, codec, limit=_LIMIT) if codec else data

    def plain(self, path: str) -> bytes:
        """Return the content of a compressed file, decompressed; it is then among the store's objects, and kept."""
        codec = _CODECS[Path(path).suffix]
        key = f"decompressed {codec} {self.file(path).info.sha256}"
        kept = self.store.recall(key)
        data = self.store.get_object(kept.decode()) if kept else None
        if data is None:
            data = self.read_plain(path)
            self.store.remember(key, self.store.put_object(data).encode())
        return data

    def optional(self, path: str) -> bytes:
        """Return the content of a file, nothing for the path ''."""
        return self.read(path) if path else b""
