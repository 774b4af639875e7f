# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot size`, and what it shares with `preroot plan --size`: tables, JSON and the page of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from preroot.cli.options import json_option
from preroot.cli.report import megabytes, print_json, printable, say, table
from preroot.cli.why import phrase
from preroot.inspect.size import (
    EXPLAINED,
    Group,
    Grouping,
    PartSize,
    SizedFile,
    Sizes,
    compressed,
    groups,
    sizes_of_archive,
)
from preroot.inspect.why import first_reasons
from preroot.recipe.schema import Codec

if TYPE_CHECKING:
    from preroot.image.manifest import Manifest
    from preroot.inspect.archive import Archive

_GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)
#: groups of a table that are shown without --all
_ROWS = 25
#: codecs of other images that are not written here: what is compressed instead, to estimate shares
_INSTEAD: dict[str, tuple[Codec, int]] = {"lzma": ("xz", 6), "bzip2": ("xz", 6)}
#: levels where an image does not tell its own: the codecs' usual ones
_LEVELS = {"zstd": 3, "xz": 6, "gzip": 6, "lz4": 1}

by_option = click.option(
    "--by", "by", multiple=True, type=click.Choice(_GROUPINGS), help="Group by this; may be given several times.",
)  # fmt: skip


@click.command("size")
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path, dir_okay=False))
@by_option
@click.option("--depth", type=click.IntRange(1), metavar="N",
              help="By directory: components of a path that count. Default: as many as it takes.")  # fmt: skip
@click.option(
    "--compressed", "pack", is_flag=True, help="Estimate what each group takes in the image: compressed alone."
)
@click.option("--all", "show_all", is_flag=True, help=f"Show all groups, not the {_ROWS} largest.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a page with treemaps to FILE.")  # fmt: skip
@json_option
def size_command(
    *, image: Path, by: tuple[Grouping, ...], depth: int | None, pack: bool, show_all: bool, page: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show where the bytes of an image are: any initrd, whatever made it.

    Of an image that preroot built, the manifest beside it tells packages, features and reasons. Of any other, there are
    directories and kinds of files.

    \b
    Examples:
      preroot size out/preroot.initrd
      preroot size out/preroot.initrd --by feature --by reason
      preroot size /boot/initrd.img --by kind --compressed
      preroot size out/preroot.initrd --html size.html
    """
    from preroot.inspect.archive import read_file

    archive = read_file(image)
    sizes = sizes_of_archive(archive, _manifest_of(image, archive))
    read = _reader(archive, sizes)
    chosen = by or (("package",) if sizes.index else ("directory", "kind"))
    found = {each: groups(sizes, each, depth=depth or 0) for each in chosen}
    if pack:
        found = {each: compressed(its, sizes.parts, read, packed_size) for each, its in found.items()}
    if page is not None:
        every = [each for each in (*chosen, *_GROUPINGS) if sizes.index or each not in EXPLAINED]
        write_page(page, sizes, {each: found.get(each) or groups(sizes, each) for each in every}, archive.size)
    if as_json:
        print_json(as_data(sizes, found, archive.size))
    elif page is not None and not by:
        say(f"{page}: where the {megabytes(sizes.unpacked)} of {image} are")
    else:
        show(sizes, found, None if show_all else _ROWS)


def _manifest_of(image: Path, archive: Archive) -> Manifest | None:
    """Return the manifest beside an image, None where there is none or it is another image's."""
    from hashlib import sha256

    from preroot.engine import read_manifest
    from preroot.engine.building import output_names

    path = output_names(image.stem, image.parent)["manifest"]
    if not path.exists():
        return None
    manifest = read_manifest(path)
    if manifest.image_size != archive.size or manifest.image_sha256 != sha256(image.read_bytes()).hexdigest():
        say(f"warning: {path} is the manifest of another image: packages and reasons are not known", err=True)
        return None
    return manifest


def _reader(archive: Archive, sizes: Sizes) -> Callable[[SizedFile], bytes]:
    """Return a function that reads a file of the image."""
    places = {
        (part.name, entry.path): entry
        for part, segment in zip(sizes.parts, archive.segments, strict=True)
        for entry in segment.entries
    }
    return lambda file: archive.read(places[file.part, file.path])


def packed_size(chunks: Iterable[bytes], part: PartSize, size: int) -> int:
    """Return what contents take when they are compressed as their part is."""
    from preroot.image.compress import compress

    codec, level = _INSTEAD.get(part.codec, (part.codec, part.level or _LEVELS.get(part.codec, 0)))
    pieces = compress(chunks, codec, level, size=size)  # type: ignore[arg-type]
    return sum(map(len, pieces))


def show(sizes: Sizes, found: dict[Grouping, tuple[Group, ...]], limit: int | None) -> None:
    """Print a table for each grouping, with the groups that are shown (None: all) and a sum that is the image."""
    for number, (by, its) in enumerate(found.items()):
        if number:
            say("")
        packed = any(group.compressed is not None for group in its)
        shared = by == "feature"
        head = [by, "own" if shared else "size", "share", "files"]
        head += ["with shared"] if shared else []
        head += ["compressed alone"] if packed else []
        rows = [_row(group, sizes.unpacked, shared, packed) for group in its[:limit]]
        rest = its[len(rows) :]
        if rest:
            files = sum(len(group.files) for group in rest)
            rows.append(_line(f"{len(rest)} more (--all)", sum(group.size for group in rest), sizes.unpacked, files))
        rows.append(_line("names, modes and padding", sizes.headers, sizes.unpacked))
        rows.append(_line("all", sizes.unpacked, sizes.unpacked, len(sizes.files)))
        say(table([[*row, *[""] * (len(head) - len(row))] for row in rows], head))


def _row(group: Group, total: int, shared: bool, packed: bool) -> list[str]:
    row = _line(printable(group.name), group.size, total, len(group.files))
    if shared:
        row.append("" if group.with_shared is None else megabytes(group.with_shared))
    if packed:
        row.append(megabytes(group.compressed or 0))
    return row


def _line(name: str, size: int, total: int, files: int | None = None) -> list[str]:
    share = f"{100 * size / total:.1f} %" if total else ""
    return [name, megabytes(size), share, "" if files is None else str(files)]


def as_data(sizes: Sizes, found: dict[Grouping, tuple[Group, ...]], packed: int | None = None) -> dict[str, object]:
    """Return sizes as plain data: bytes everywhere."""
    return {
        "image": sizes.name,
        "unpacked": sizes.unpacked,
        "packed": packed,
        "headers": sizes.headers,
        "parts": sizes.parts,
        "by": {by: [_group_data(group) for group in its] for by, its in found.items()},
    }


def _group_data(group: Group) -> dict[str, Any]:
    data: dict[str, Any] = {"name": _text(group.name), "size": group.size, "files": len(group.files)}
    if group.with_shared is not None:
        data["with-shared"] = group.with_shared
    if group.compressed is not None:
        data["compressed"] = group.compressed
    return data


def _text(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_page(target: Path, sizes: Sizes, found: dict[Grouping, tuple[Group, ...]], packed: int = 0) -> None:
    """Write the page with treemaps, whole or not at all. Raises BuildError when it cannot be written."""
    from preroot.engine.building import write_file
    from preroot.inspect.sizepage import page

    reasons = first_reasons(sizes.index)

    def why(path: str) -> str:
        return phrase(reasons[path]) if path in reasons else ""

    write_file(target, page(sizes, found, why, packed).encode())
