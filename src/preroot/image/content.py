# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the contents of entries, wherever they are: store, memory, or a file of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from preroot.errors import BuildError
from preroot.tree.model import BytesContent, Entry, FileContent, ObjectContent, StoreContent


class ContentStore(Protocol):
    """What is needed of the store."""

    def read_at(self, package_sha: str, offset: int, size: int, sha256: str, path: str = ...) -> bytes:
        """Return `size` bytes at `offset` of the package's blob, whose digest must be `sha256`; `path` for errors."""

    def get_object(self, sha256: str) -> bytes | None:
        """Return the object with that digest, None where it is not (any more)."""


class ContentReader:
    """Returns the content of file entries; a store is needed only for contents that lie there."""

    def __init__(self, store: ContentStore | None = None) -> None:
        self._store = store

    def read(self, entry: Entry) -> bytes:
        """Return the content of a file entry.

        Raises BuildError when it cannot be read or is not what was planned (the store has been damaged, or a file of
        the recipe has changed since).
        """
        content = entry.content
        if isinstance(content, BytesContent):
            return content.data
        if isinstance(content, FileContent):
            return _read_file(entry, content)
        if self._store is None or content is None:
            raise ValueError(f"{entry.path}: no store to read {content!r} from")
        if isinstance(content, StoreContent):
            data = self._store.read_at(content.package, content.offset, entry.size, entry.sha256, entry.path)
        else:
            assert isinstance(content, ObjectContent)
            found = self._store.get_object(content.sha256)
            if found is None:
                raise BuildError(f"{entry.path} of {entry.owner} was removed from the store meanwhile", "build again")
            data = found
        if len(data) != entry.size:
            raise BuildError(f"{entry.path} of {entry.owner} has {len(data)} bytes in the store, not {entry.size}",
                             "preroot store verify")  # fmt: skip
        return data


def _read_file(entry: Entry, content: FileContent) -> bytes:
    try:
        data = Path(content.source).read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {content.source} for {entry.path}: {error.strerror}") from None
    if not content.secret and entry.sha256:
        from hashlib import sha256

        if sha256(data).hexdigest() != entry.sha256:
            raise BuildError(f"{content.source} for {entry.path} has changed while the image was made", "build again")
    return data
