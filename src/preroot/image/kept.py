# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parts that are compressed already: kept in the store, so that a build writes anew only what has changed.

A second kernel's image has the first one's base, and a changed kernel module leaves the base alone: compressing that
anew at level 19 would take ten times as long as the rest of the build. Of each part of each recipe the last one is
kept, of the parts that are one kernel's the last one for each kernel. Nothing is ever kept of a part that has a
secret in it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec import Struct

import preroot
from preroot.errors import BuildError
from preroot.image.compress import codec_version
from preroot.image.cpio import ARCHIVE_FORMAT
from preroot.image.digest import is_secret, tree_digest
from preroot.tree.model import PartPlan, Plan


class PartStore(Protocol):
    """What is needed of the store."""

    def recall(self, key: str) -> bytes | None:
        """Return what was remembered under a key, None where there is nothing."""

    def remember(self, key: str, value: bytes) -> None:
        """Keep a result."""

    def put_object(self, data: bytes) -> str:
        """Keep data and return its SHA-256."""

    def get_object(self, sha256: str) -> bytes | None:
        """Return the object with that digest, None where it is not (any more)."""

    def drop_object(self, sha256: str) -> None:
        """Remove an object."""


class KeptPart(Struct, frozen=True):
    """A compressed part: the bytes, and how many there were before (bytes)."""

    data: bytes
    uncompressed: int


class _Record(Struct, frozen=True, array_like=True):
    """What a slot has: the key of the part, the object with its bytes, their size before compression."""

    key: str
    sha256: str
    uncompressed: int


class KeptParts:
    """The compressed parts of one plan, as the store has them."""

    def __init__(self, store: PartStore, plan: Plan) -> None:
        self._store = store
        self._plan = plan

    def recall(self, part: PartPlan) -> KeptPart | None:
        """Return the part as it was compressed before, None where it was not, or has changed since."""
        found = self._record(part)
        if found is None or _has_secret(part) or found.key != part_key(part):
            return None
        data = self._store.get_object(found.sha256)
        return None if data is None else KeptPart(data, found.uncompressed)

    def keep(self, part: PartPlan, made: KeptPart) -> None:
        """Keep a part that was compressed, in place of the one before; one with a secret is not kept.

        A store that can't be written is no failure: the image is, and the next build is only slower.
        """
        if _has_secret(part):
            return
        before = self._record(part)
        with suppress(BuildError):
            sha256 = self._store.put_object(made.data)
            record = _Record(part_key(part), sha256, made.uncompressed)
            self._store.remember(self._slot(part), msgspec.msgpack.encode(record))
            if before is not None and before.sha256 != sha256:
                self._store.drop_object(before.sha256)

    def _record(self, part: PartPlan) -> _Record | None:
        value = self._store.recall(self._slot(part))
        try:
            return None if value is None else msgspec.msgpack.decode(value, type=_Record)
        except msgspec.DecodeError:  # another preroot's
            return None

    def _slot(self, part: PartPlan) -> str:
        kernel = self._plan.kernel
        of_kernel = kernel is not None and f"usr/lib/modules/{kernel.version}" in part.tree.entries
        version = kernel.version if kernel is not None and of_kernel else ""
        return "\0".join(("kept part", self._plan.name, self._plan.lock.arch, part.name, version))


def part_key(part: PartPlan) -> str:
    """Return what decides about a compressed part's bytes; the number of threads does not."""
    made_by = (preroot.__version__, str(ARCHIVE_FORMAT), *codec_version(part.codec))
    return "\0".join((tree_digest(part.tree), part.format, part.codec, str(part.level), *made_by))


def _has_secret(part: PartPlan) -> bool:
    return any(is_secret(entry) for entry in part.tree.entries.values())
