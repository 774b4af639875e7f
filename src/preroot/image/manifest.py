# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manifest: what is in an image, whose it is and why it is there, as JSON. It has no dates: it is reproducible."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import msgspec
from msgspec import Struct

import preroot
from preroot.errors import BuildError
from preroot.image.digest import content_digest, image_tree_digest, is_secret, tree_digest
from preroot.image.write import WrittenImage
from preroot.packages.model import Lock
from preroot.tree.model import Entry, LeftOut, PartPlan, Plan, Reason

#: layout of this file; readers refuse others
FORMAT = 1


class ManifestEntry(Struct, frozen=True, omit_defaults=True, rename="kebab"):
    """One path. A secret one has neither size nor digest nor owner's numbers."""

    path: str
    type: str
    #: permissions, octal
    mode: str
    owner: str
    #: [kind, asker, detail]
    reasons: tuple[Reason, ...]
    uid: int = 0
    gid: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    device: tuple[str, int, int] | None = None
    changes: tuple[str, ...] = ()
    secret: bool = False


class ManifestPart(Struct, frozen=True, rename="kebab"):
    """One part: how it was made and where it lies in the image (bytes)."""

    name: str
    flavour: str
    features: tuple[str, ...]
    format: str
    codec: str
    level: int
    offset: int
    size: int
    uncompressed: int
    tree_digest: str
    entries: tuple[ManifestEntry, ...]


class ManifestKernel(Struct, frozen=True, rename="kebab"):
    """The kernel that the image is for."""

    version: str
    packages: tuple[str, ...]
    #: module name → path
    modules: dict[str, str]
    builtin: tuple[str, ...]


class Manifest(Struct, frozen=True, rename="kebab"):
    """The whole manifest."""

    format: int
    preroot: str
    name: str
    layout: str
    #: what the packages are from: name, release and architecture, as in the lock
    distribution: str
    release: str
    arch: str
    image_sha256: str
    image_size: int
    tree_digest: str
    lock_digest: str
    #: what shaped bytes: name → version
    tools: dict[str, str]
    kernel: ManifestKernel | None
    cmdline: tuple[str, ...]
    secret: bool
    #: what a build puts beside the image, and belongs to it: role ("kernel") → SHA-256
    beside: dict[str, str]
    parts: tuple[ManifestPart, ...]
    left_out: tuple[LeftOut, ...]


def lock_digest(lock: Lock) -> str:
    """Return the digest of a lock: SHA-256 of its JSON with sorted keys."""
    return sha256(msgspec.json.encode(lock, order="deterministic")).hexdigest()


def make_manifest(
    plan: Plan, written: WrittenImage, beside: Mapping[str, str] | None = None
) -> Manifest:  # fmt: skip
    """Return the manifest of an image that was written from a plan.

    `beside`: role → SHA-256 of what is written beside the image.
    """
    planned = {part.name: part for part in plan.parts}
    parts = []
    for place in written.parts:
        part = planned[place.name]
        parts.append(
            ManifestPart(
                name=part.name, flavour=part.flavour, features=part.features, format=part.format, codec=part.codec,
                level=part.level, offset=place.offset, size=place.size, uncompressed=place.uncompressed,
                tree_digest=tree_digest(part.tree), entries=_entries(part),
            )
        )  # fmt: skip
    kernel = plan.kernel
    return Manifest(
        format=FORMAT, preroot=preroot.__version__, name=plan.name, layout=plan.layout,
        distribution=plan.lock.distribution, release=plan.lock.release, arch=plan.lock.arch,
        image_sha256=written.sha256, image_size=written.size,
        tree_digest=image_tree_digest((part.name, part.tree_digest) for part in parts),
        lock_digest=lock_digest(plan.lock), tools=dict(sorted(plan.lock.tools.items())),
        kernel=ManifestKernel(kernel.version, kernel.packages, kernel.modules, kernel.builtin) if kernel else None,
        cmdline=plan.cmdline, secret=plan.secret, beside=dict(sorted((beside or {}).items())), parts=tuple(parts),
        left_out=plan.left_out,
    )  # fmt: skip


def _entries(part: PartPlan) -> tuple[ManifestEntry, ...]:
    return tuple(manifest_entry(part.tree.entries[path]) for path in sorted(part.tree.entries))


def manifest_entry(entry: Entry) -> ManifestEntry:
    """Return what the manifest says of one entry."""
    mode = f"{entry.mode:04o}"
    if is_secret(entry):
        return ManifestEntry(entry.path, entry.type, mode, entry.owner, entry.reasons, secret=True)
    digest = content_digest(entry) if entry.type == "file" else ""
    return ManifestEntry(
        entry.path, entry.type, mode, entry.owner, entry.reasons, entry.uid, entry.gid, entry.size, digest,
        entry.target, entry.device, entry.changes,
    )  # fmt: skip


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON, indented, ended by a line break; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def decode(data: bytes, where: str) -> Manifest:
    """Read a manifest. `where` names it in errors. Raises BuildError for what is none, or of another format."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{where} is no manifest of preroot: {error}") from None
    if manifest.format != FORMAT:
        raise BuildError(f"{where} has manifest format {manifest.format}, this preroot reads {FORMAT}")
    return manifest
