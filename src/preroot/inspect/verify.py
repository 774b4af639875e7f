# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether an image is what a manifest says: byte for byte, part for part, path for path. Pure.

The manifest may be the one beside an installed image, or that of an image that was rebuilt. Nothing is trusted: the
image is read within the bounds of `archive`, and a manifest that contradicts itself is found out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256

from msgspec import Struct, structs

from preroot.errors import BuildError
from preroot.image.digest import image_tree_digest, record, records_digest, secret_record
from preroot.image.manifest import Manifest, ManifestEntry, ManifestPart
from preroot.inspect.archive import Segment, read_archive
from preroot.inspect.diff import Change, ImagePath, diff, in_words, path_of_entry, path_of_manifest

#: paths of foreign bytes that are named
_NAMED = 5


class Finding(Struct, frozen=True):
    """One thing that is not as the manifest says: the part and path that it is about ('' for the whole), in words."""

    part: str
    path: str
    text: str
    #: only how the tree is packed differs, and not what the kernel makes of it
    packing: bool = False


#: All that can be said when the paths are right and the bytes are not.
PACKED_OTHERWISE = Finding("", "", "every path is right and the bytes are not: the same tree, packed otherwise", True)
#: The same of an image with secrets, whose content no manifest knows.
OTHER_SECRETS = Finding("", "", "every path is right and the bytes are not: other secrets, or packed otherwise")


def check_image(image: bytes, manifest: Manifest) -> tuple[Finding, ...]:
    """Return all in which an image differs from its manifest, in the image's order; nothing: it is that image.

    Of secrets it is checked that they are there, as files with their mode.
    """
    found = list(_contradictions(manifest))
    start, surroundings = _located(image, manifest)
    found += surroundings
    inner = image[start : start + manifest.image_size] if surroundings else image
    try:
        segments = read_archive(inner, "it").segments
    except BuildError as error:
        found.append(Finding("", "", error.message.removeprefix("it: ")))
        found += _check_places(inner, manifest)
    else:
        found += _check_segments(segments, manifest)
    if not surroundings and sha256(image).hexdigest() != manifest.image_sha256 and all(each.packing for each in found):
        found.append(OTHER_SECRETS if manifest.secret else PACKED_OTHERWISE)
    return tuple(found)


def _contradictions(manifest: Manifest) -> Iterator[Finding]:
    """Yield where a manifest does not agree with itself: somebody has edited it."""
    for part in manifest.parts:
        try:
            records = {each.path: _record(each) for each in part.entries}
        except ValueError as error:
            yield Finding(part.name, "", f"the manifest is damaged: {error}")
            continue
        if len(records) != len(part.entries):
            yield Finding(part.name, "", "the manifest names a path twice")
        if records_digest(records) != part.tree_digest:
            yield Finding(part.name, "", "the manifest contradicts itself: its entries do not have its tree digest")
    if image_tree_digest((part.name, part.tree_digest) for part in manifest.parts) != manifest.tree_digest:
        yield Finding("", "", "the manifest contradicts itself: its parts do not have its tree digest")


def _record(entry: ManifestEntry) -> str:
    mode = int(entry.mode, 8)
    if entry.secret:
        return secret_record(entry.path, mode)
    return record(
        entry.path, entry.type, mode, entry.uid, entry.gid, digest=entry.sha256, target=entry.target,
        device=entry.device,
    )  # fmt: skip


def _located(image: bytes, manifest: Manifest) -> tuple[int, list[Finding]]:
    """Return where the whole image begins among bytes that were put before or behind it, and what those are.

    Where it is not found whole: 0 and nothing.
    """
    size = manifest.image_size
    if len(image) <= size:
        return 0, []
    starts = [0, len(image) - size]
    with suppress(BuildError):  # what stands around it may be no archive
        starts += [segment.offset for segment in read_archive(image, "image").segments]
    for start in dict.fromkeys(starts):
        if sha256(image[start : start + size]).hexdigest() == manifest.image_sha256:
            found: list[Finding] = []
            if start:
                found.append(_foreign(image[:start], "stand before it"))
            if start + size < len(image):
                found.append(_foreign(image[start + size :], "follow it"))
            return start, found
    return 0, []


def _foreign(data: bytes, where: str) -> Finding:
    """Return what to say of bytes that are not the image's."""
    text = f"{len(data)} bytes {where} that are not in the manifest"
    if not any(data):
        return Finding("", "", f"{text}, all of them zero")
    try:
        paths = list(read_archive(data, "them").effective())
    except BuildError:
        return Finding("", "", f"{text}, and no archive")
    return Finding("", "", f"{text}: an archive with {_names(paths)}")


def _names(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_NAMED]) + (" …" if len(paths) > _NAMED else "") if paths else "nothing in it"


def _check_places(image: bytes, manifest: Manifest) -> Iterator[Finding]:
    """Yield what is wrong with the parts of an image that can't be read as a whole: each is looked at by itself."""
    for part in manifest.parts:
        data = image[part.offset : part.offset + part.size]
        if len(data) < part.size:
            yield Finding(part.name, "", f"the image ends {part.size - len(data)} bytes before its end")
            continue
        try:
            segment, *_ = read_archive(data, "it").segments
        except BuildError:
            yield Finding(part.name, "", "is damaged")
        else:
            yield from _check_part(segment, part)


def _check_segments(segments: tuple[Segment, ...], manifest: Manifest) -> Iterator[Finding]:
    """Yield in what the archives of an image differ from the parts."""
    paired = _paired(segments, manifest.parts)
    for segment, part in paired:
        if part is None and segment is not None:
            yield Finding("", "", f"at offset {segment.offset} is an archive that is not in the manifest: "
                          f"{_names([entry.path for entry in segment.entries])}")  # fmt: skip
        elif segment is None and part is not None:
            yield Finding(part.name, "", "is missing")
        elif segment is not None and part is not None:
            yield from _check_part(segment, part)


def _paired(
    segments: tuple[Segment, ...], parts: tuple[ManifestPart, ...]
) -> list[tuple[Segment | None, ManifestPart | None]]:
    """Return which archive is which part: in their order, or by their trees where there are more or fewer."""
    if len(segments) == len(parts):
        return list(zip(segments, parts, strict=True))
    left = list(segments)
    known: dict[str, Segment] = {}
    for part in parts:
        secrets = {entry.path for entry in part.entries if entry.secret}
        fitting = next((each for each in left if _digest(each, secrets) == part.tree_digest), None)
        if fitting is not None:
            known[part.name] = fitting
            left.remove(fitting)
    pairs: list[tuple[Segment | None, ManifestPart | None]] = []
    for part in parts:
        pairs.append((known.get(part.name) or (left.pop(0) if left else None), part))
    return [*pairs, *((segment, None) for segment in left)]


def _digest(segment: Segment, secrets: Collection[str]) -> str:
    """Return the tree digest of an archive, of which the paths in `secrets` are secrets."""
    records = {}
    for entry in segment.entries:
        of = path_of_entry(entry, segment.content(entry))
        records[entry.path] = secret_record(entry.path, entry.mode) if entry.path in secrets else record(
            entry.path, of.type, of.mode, of.uid, of.gid, digest=of.sha256, target=of.target, device=of.device
        )  # fmt: skip
    return records_digest(records)


def _check_part(segment: Segment, part: ManifestPart) -> Iterator[Finding]:
    """Yield in what an archive differs from a part."""
    if segment.codec != part.codec:
        yield Finding(part.name, "", f"is compressed with {segment.codec}, not {part.codec}", True)
    found = list(_check_entries(segment, part))
    yield from found
    unpacked = segment.size if segment.codec == "none" else len(segment.data)
    if not found and unpacked != part.uncompressed and not any(entry.secret for entry in part.entries):
        yield Finding(part.name, "", f"unpacks to {unpacked} bytes, not {part.uncompressed}", True)


def _check_entries(segment: Segment, part: ManifestPart) -> Iterator[Finding]:
    for path, count in Counter(entry.path for entry in segment.entries).items():
        if count > 1:
            yield Finding(part.name, path, f"is there {count} times")
    for entry in segment.entries:
        if entry.mtime:
            yield Finding(part.name, entry.path, "has a time stamp")
    try:
        expected = {entry.path: path_of_manifest(entry) for entry in part.entries}
    except ValueError:  # told already
        return
    secrets = {entry.path for entry in part.entries if entry.secret}
    there = {entry.path: path_of_entry(entry, segment.content(entry)) for entry in segment.entries}
    yield from differences(part.name, expected, _without_secrets(there, expected, secrets), secrets)


def _without_secrets(
    there: Mapping[str, ImagePath], expected: Mapping[str, ImagePath], secrets: Collection[str]
) -> dict[str, ImagePath]:
    """Return `there` with the secrets as expected but for type and mode, which alone the manifest knows of them."""
    return {
        path: structs.replace(expected[path], type=of.type, mode=of.mode) if path in secrets else of
        for path, of in there.items()
    }


def differences(
    part: str, expected: Mapping[str, ImagePath], there: Mapping[str, ImagePath], secrets: Collection[str] = ()
) -> Iterator[Finding]:
    """Yield what is missing, what is there without having to be, and in what the rest differs, each by path."""
    found = diff(expected, there, secrets)
    yield from (Finding(part, path, "is missing") for path, _ in found.removed)
    yield from (Finding(part, path, "should not be there") for path, _ in found.added)
    yield from (Finding(part, each.path, _words(each)) for each in found.changed)


def _words(change: Change) -> str:
    """Return what differs: `mode is 0755, not 0644`."""
    return ", ".join(
        f"{what} is {there}, not {expected}" if there or expected else f"{what} differs"
        for what, expected, there in in_words(change)
    )
