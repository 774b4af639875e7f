# SPDX-License-Identifier: LGPL-2.1-or-later
"""What differs between two images, as data: what the kernel unpacks is compared, not how it is packed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256

from msgspec import Struct, structs

from preroot.image.manifest import Manifest, ManifestEntry
from preroot.inspect.archive import Archive, ArchiveEntry


class ImagePath(Struct, frozen=True):
    """What is compared of one path."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    #: of a file's content, hexadecimal
    sha256: str
    target: str
    device: tuple[str, int, int] | None
    #: known from a manifest alone
    owner: str = ""


class Change(Struct, frozen=True):
    """A path that is in both and differs; `what`: any of type, mode, owner, size, content, target, device."""

    path: str
    what: tuple[str, ...]
    before: ImagePath
    after: ImagePath


class ImageDiff(Struct, frozen=True):
    """The difference, each list sorted by path; sizes in bytes."""

    added: tuple[tuple[str, ImagePath], ...]
    removed: tuple[tuple[str, ImagePath], ...]
    changed: tuple[Change, ...]
    size_before: int
    size_after: int


def path_of_entry(entry: ArchiveEntry, content: bytes) -> ImagePath:
    """Return what is compared of an entry of an image that was read; digests its content."""
    digest = sha256(content).hexdigest() if entry.type == "file" else ""
    return ImagePath(entry.type, entry.mode, entry.uid, entry.gid, entry.size, digest, entry.target, entry.device)


def path_of_manifest(entry: ManifestEntry) -> ImagePath:
    """Return what is compared of an entry of a manifest. Raises ValueError for a mode that is none."""
    return ImagePath(
        entry.type, int(entry.mode, 8), entry.uid, entry.gid, entry.size, entry.sha256, entry.target, entry.device,
        entry.owner,
    )  # fmt: skip


def paths_of_archive(archive: Archive) -> dict[str, ImagePath]:
    """Return what an image that was read consists of; digests its files."""
    return {path: path_of_entry(entry, archive.read(entry)) for path, entry in archive.effective().items()}


def paths_of_manifest(manifest: Manifest) -> dict[str, ImagePath]:
    """Return what an image consists of according to its manifest. Later parts win, as when the kernel unpacks them."""
    return {entry.path: path_of_manifest(entry) for part in manifest.parts for entry in part.entries}


def diff(
    before: Mapping[str, ImagePath], after: Mapping[str, ImagePath], secrets: Collection[str] = ()
) -> ImageDiff:  # fmt: skip
    """Compare two images. Of the paths in `secrets` it is told that they differ: their size and digest are left out."""
    changed = []
    for path in sorted(before.keys() & after.keys()):
        what = _differences(before[path], after[path])
        if path in secrets:
            what = tuple(each for each in what if each != "size")
        if what:
            changed.append(Change(path, what, *(_told(path, side[path], secrets) for side in (before, after))))
    return ImageDiff(
        added=tuple((path, _told(path, after[path], secrets)) for path in sorted(after.keys() - before.keys())),
        removed=tuple((path, _told(path, before[path], secrets)) for path in sorted(before.keys() - after.keys())),
        changed=tuple(changed),
        size_before=sum(each.size for path, each in before.items() if path not in secrets),
        size_after=sum(each.size for path, each in after.items() if path not in secrets),
    )


def _told(path: str, of: ImagePath, secrets: Collection[str]) -> ImagePath:
    return structs.replace(of, size=0, sha256="") if path in secrets else of


def in_words(change: Change) -> tuple[tuple[str, str, str], ...]:
    """Return (what, before, after) of each difference of a path; of contents there is nothing to show."""
    return tuple((what, _shown(what, change.before), _shown(what, change.after)) for what in change.what)


def _shown(what: str, of: ImagePath) -> str:
    device = "none" if of.device is None else "{} {}:{}".format(*of.device)
    values = {"type": of.type, "mode": f"{of.mode:04o}", "owner": f"{of.uid}:{of.gid}", "size": str(of.size),
              "target": of.target, "device": device}  # fmt: skip
    return values.get(what, "")


def _differences(one: ImagePath, other: ImagePath) -> tuple[str, ...]:
    pairs = {
        "type": (one.type, other.type),
        "mode": (one.mode, other.mode),
        "owner": ((one.uid, one.gid), (other.uid, other.gid)),
        "size": (one.size, other.size),
        "content": (one.sha256, other.sha256),
        "target": (one.target, other.target),
        "device": (one.device, other.device),
    }
    return tuple(name for name, (left, right) in pairs.items() if left != right)
