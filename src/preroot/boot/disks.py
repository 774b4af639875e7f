# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disk images, kept in the cache by what they were made from.

A disk is one volume, or a GPT with several. Everything in it is given by a frozen recipe; UUIDs are derived from
that, so a test may name them before the disk exists. Made aside and renamed: a file in the cache is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from preroot.boot.filesystems import KINDS, MIB, FileSystem, FsType, check_label
from preroot.boot.stage import DiskEntry, stage
from preroot.errors import BuildError, RecipeError, nearest
from preroot.run import run
from preroot.scratch import own_directory, sweep

#: directories in which an image is made are named so
_MAKING = ".making-"
#: counted up when the same recipe would give another image
_FORMAT = 1
#: "Linux filesystem data": no type that systemd-gpt-auto-generator(8) mounts by itself
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

Content = Callable[[], Iterable[DiskEntry]]


class Volume(Struct, frozen=True):
    """One file system, or a blank space.

    `content` names what is in it (a digest, for example `stage.digest(entries)`; empty: nothing) and is the key under
    which `make_disk` finds it. `size` is in MiB, 0: as the content needs. UUIDs left empty are derived from the
    recipe (`volume_uuid`, `part_uuid`). `part_label` and `part_type` count only in a GPT.
    """

    fstype: FsType | Literal["blank"]
    content: str = ""
    label: str = ""
    uuid: str = ""
    size: int = 0
    part_label: str = ""
    part_uuid: str = ""
    part_type: str = LINUX_DATA


class DiskRecipe(Struct, frozen=True):
    """One disk: its volumes, with a partition table or (one volume) without, padded to a power of two for MMC."""

    volumes: tuple[Volume, ...]
    table: Literal["none", "gpt"] = "none"
    power_of_two: bool = False


def recipe_digest(recipe: DiskRecipe) -> str:
    """Return what the recipe's image is called in the cache."""
    return hashlib.sha256(b"%d " % _FORMAT + msgspec.json.encode(recipe)).hexdigest()


def _derived(recipe: DiskRecipe, purpose: str) -> str:
    """Return a version 4 UUID (RFC 9562) made of the recipe's digest."""
    import uuid

    seed = hashlib.sha256(f"{purpose} {recipe_digest(recipe)}".encode()).digest()
    return str(uuid.UUID(bytes=seed[:16], version=4))


def volume_uuid(recipe: DiskRecipe, number: int = 0) -> str:
    """Return the UUID of the file system in volume `number`, as blkid(8) shows it; empty for types without."""
    volume = recipe.volumes[number]
    if volume.fstype == "blank" or KINDS[volume.fstype].no_uuid:
        return ""
    whole = volume.uuid or _derived(recipe, f"volume {number}")
    if volume.fstype == "vfat":
        short = whole.replace("-", "")[:8].upper()
        return f"{short[:4]}-{short[4:]}"
    return whole


def part_uuid(recipe: DiskRecipe, number: int = 0) -> str:
    """Return the PARTUUID of volume `number` of a disk with a GPT."""
    return recipe.volumes[number].part_uuid or _derived(recipe, f"partition {number}")


def check(recipe: DiskRecipe) -> None:
    """Raise RecipeError for a disk that cannot be made."""
    if not recipe.volumes:
        raise RecipeError("a disk needs at least one volume")
    if recipe.table == "none" and len(recipe.volumes) > 1:
        raise RecipeError("a disk without a partition table has one volume", 'use table = "gpt"')
    for volume in recipe.volumes:
        if volume.fstype == "blank":
            if volume.content or not volume.size:
                raise RecipeError("a blank volume has a size, and no content")
            continue
        if volume.fstype not in KINDS:
            raise RecipeError(f"no disk can be made with the file system {volume.fstype!r}",
                              nearest(volume.fstype, KINDS) or "known: " + ", ".join(KINDS))  # fmt: skip
        check_label(volume.fstype, volume.label)
        if '"' in volume.part_label or "\n" in volume.part_label or len(volume.part_label) > 36:
            raise RecipeError(f"the partition label {volume.part_label!r} cannot be written",
                              "at most 36 characters, without quotes")  # fmt: skip


def make_disk(recipe: DiskRecipe, contents: Mapping[str, Content], cache: Path) -> Path:
    """Return the image of `recipe`, from the cache directory or made now.

    `contents` gives, for each volume's `content`, a function returning its entries; it is called only when the image
    has to be made, once. Raises RecipeError for an impossible recipe, BuildError for a tool that fails or is missing,
    a full disk, or a cache directory that cannot be written.
    """
    check(recipe)
    image = cache / f"{recipe_digest(recipe)}.img"
    if image.exists():
        return image
    try:
        cache.mkdir(parents=True, exist_ok=True)
        sweep(str(cache), _MAKING)
        with own_directory(f"{cache}/{_MAKING}") as work:
            made = _make(recipe, contents, work)
            made.rename(image)
    except OSError as error:
        raise BuildError(f"the disk image {image} cannot be made: {error.strerror or error}") from error
    return image


def _make(recipe: DiskRecipe, contents: Mapping[str, Content], work: Path) -> Path:
    parts = [_make_volume(recipe, number, contents, work) for number in range(len(recipe.volumes))]
    if recipe.table == "none":
        disk = parts[0]
    else:
        disk = work / "disk"
        starts, at = [], MIB
        for part in parts:
            starts.append(at)
            at += -(-part.stat().st_size // MIB) * MIB
        with disk.open("xb") as file:
            file.truncate(at + MIB)
        run(["sfdisk", "--quiet", disk], purpose="to write a partition table",
            stdin=sfdisk_script(recipe, starts, [part.stat().st_size for part in parts]).encode())  # fmt: skip
        for start, part in zip(starts, parts, strict=True):
            copy_sparse(part, disk, start)
            part.unlink()
    size = disk.stat().st_size
    whole = 1 << (size - 1).bit_length() if recipe.power_of_two else -(-size // 4096) * 4096
    if recipe.power_of_two and recipe.table == "gpt" and whole != size:
        raise RecipeError("a disk with a GPT cannot be padded to a power of two afterwards", "size its volumes for it")
    os.truncate(disk, whole)
    disk.chmod(0o644)
    return disk


def _make_volume(recipe: DiskRecipe, number: int, contents: Mapping[str, Content], work: Path) -> Path:
    volume = recipe.volumes[number]
    image = work / f"volume-{number}"
    if volume.fstype == "blank":
        with image.open("xb") as file:
            file.truncate(volume.size * MIB)
        return image
    kind = KINDS[volume.fstype]
    if volume.content and volume.content not in contents:
        raise ValueError(f"the content {volume.content!r} of a volume was not given")
    entries = contents[volume.content]() if volume.content else ()
    space = work / f"space-{number}"
    space.mkdir()
    staged = stage(entries, space / "tree", exact=kind.exact)
    size = volume.size * MIB or _size_for(staged.size, len(staged.entries), kind.smallest)
    kind.make(FileSystem(volume.fstype, volume.label, volume_uuid(recipe, number), size), staged, image)
    _remove(space)
    if volume.size and image.stat().st_size < size:
        os.truncate(image, size)
    return image


def _size_for(data: int, entries: int, smallest: int) -> int:
    """Return bytes for a file system with room to spare: half as much again, inodes, a journal, whole MiB."""
    return max(smallest, -(-(data * 3 // 2 + entries * 5120 + 16 * MIB) // MIB) * MIB)


def _remove(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory)


def sfdisk_script(recipe: DiskRecipe, starts: list[int], sizes: list[int]) -> str:
    """Return the sfdisk(8) script for a GPT with volumes of `sizes` at `starts` (bytes; 512-byte sectors)."""
    lines = ["label: gpt", f"label-id: {_derived(recipe, 'table')}", "unit: sectors", ""]
    for number, (volume, start, size) in enumerate(zip(recipe.volumes, starts, sizes, strict=True)):
        name = f', name="{volume.part_label}"' if volume.part_label else ""
        lines.append(f"start={start // 512}, size={-(-size // 512)}, type={volume.part_type}, "
                     f"uuid={part_uuid(recipe, number)}{name}")  # fmt: skip
    return "\n".join(lines) + "\n"


def copy_sparse(source: Path, target: Path, offset: int) -> None:
    """Copy the data of `source`, without its holes, into `target` at `offset` (lseek(2), SEEK_DATA)."""
    with source.open("rb", buffering=0) as reader, target.open("r+b", buffering=0) as writer:
        end = reader.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return
            stop = os.lseek(reader.fileno(), at, os.SEEK_HOLE)
            os.lseek(reader.fileno(), at, os.SEEK_SET)
            writer.seek(offset + at)
            while at < stop:
                data = reader.read(min(stop - at, 4 * MIB))
                writer.write(data)
                at += len(data)
