# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot ls` and `preroot diff`: what is in images, ours or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preroot.cli.options import json_option
from preroot.cli.report import megabytes, plain_text, print_json, printable, say, style, table

if TYPE_CHECKING:
    from preroot.inspect.archive import Archive
    from preroot.inspect.diff import Change, ImageDiff, ImagePath
    from preroot.inspect.listing import Row

_COLOURS = {"d": "blue", "l": "cyan", "c": "yellow", "b": "yellow", "p": "yellow", "s": "magenta"}
_image = click.Path(path_type=Path, dir_okay=False)


@click.command("ls")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=_image)
@click.option("--long", "-l", is_flag=True, help="Show mode, owner and size of each path, and targets of links.")
@click.option("--segments", is_flag=True, help="Show the segments of the image instead of its paths.")
@json_option
def ls_command(*, images: tuple[Path, ...], long: bool, segments: bool, as_json: bool) -> None:
    """List what is in an image: any initrd, whatever made it.

    Shown is what the kernel makes of it: of a path that several segments have, the last one.

    \b
    Examples:
      preroot ls out/preroot.initrd
      preroot ls -l /boot/initrd.img
      preroot ls --segments /boot/initrd.img
    """
    from preroot.inspect.archive import read_file
    from preroot.inspect.listing import rows, segment_rows

    found: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        archive = read_file(image)
        if as_json:
            entries = [_as_data(row) for row in rows(archive.effective().values())]
            found.append({"image": str(image), "segments": segment_rows(archive), "entries": entries})
            continue
        if len(images) > 1:
            say(("\n" if number else "") + f"{image}:")
        if segments:
            say(_segments(archive))
        else:
            _list(rows(archive.effective().values()), long)
    if as_json:
        print_json(found)


def _segments(archive: Archive) -> str:
    from preroot.inspect.listing import segment_rows

    lines = [(str(row.number), str(row.offset), megabytes(row.size), row.codec, megabytes(row.unpacked),
              str(row.entries)) for row in segment_rows(archive)]  # fmt: skip
    return table(lines, ("segment", "offset", "size", "codec", "unpacked", "entries"))


def _list(listed: tuple[Row, ...], long: bool) -> None:
    if not listed:
        return
    size = max(len(row.size) for row in listed)
    owner = max(len(f"{row.uid} {row.gid}") for row in listed)
    lines = []
    for row in listed:
        name = _coloured(row)
        target = f" -> {printable(row.target)}" if row.target and long else ""
        head = f"{row.mode} {f'{row.uid} {row.gid}':<{owner}} {row.size:>{size}} " if long else ""
        lines.append(f"{head}{name}{target}")
    say("\n".join(lines))


def _coloured(row: Row) -> str:
    executable = row.mode.startswith("-") and "x" in row.mode
    colour = "green" if executable else _COLOURS.get(row.mode[0], "")
    name = printable(row.path)
    return style(name, colour) if colour else name


def _as_data(row: Row) -> dict[str, object]:
    """Return a row as plain data; bytes of names that are no UTF-8 are escaped, as JSON can't have them."""
    from msgspec import structs

    return {**structs.asdict(row), "path": plain_text(row.path), "target": plain_text(row.target)}


@click.command("diff")
@click.argument("before", metavar="IMAGE", type=_image)
@click.argument("after", metavar="IMAGE", type=_image)
@click.option("--exit-code", is_flag=True, help="Exit with 1 where the images differ, as diff(1) does.")
@json_option
@click.pass_context
def diff_command(context: click.Context, /, *, before: Path, after: Path, exit_code: bool, as_json: bool) -> None:
    """Show the differences between two images: what the kernel makes of them is compared, not how they are packed.

    Of the secrets of an image with its manifest beside it, it is told that they differ, and nothing else.

    \b
    Examples:
      preroot diff old/preroot.initrd new/preroot.initrd
      preroot diff /boot/initrd.img out/preroot.initrd | less
    """
    from preroot.engine.building import secrets_of
    from preroot.inspect.archive import read_file
    from preroot.inspect.diff import diff, paths_of_archive

    one, other = (paths_of_archive(read_file(image)) for image in (before, after))
    found = diff(one, other, secrets_of(before) | secrets_of(after))
    if as_json:
        print_json(_diff_data(found))
    else:
        _show_diff(found)
    if exit_code and (found.added or found.removed or found.changed):
        context.exit(1)


def _diff_data(found: ImageDiff) -> dict[str, object]:

    return {
        "added": {plain_text(path): _path_data(each) for path, each in found.added},
        "removed": {plain_text(path): _path_data(each) for path, each in found.removed},
        "changed": {
            plain_text(each.path): {
                "what": each.what,
                "before": _path_data(each.before),
                "after": _path_data(each.after),
            }
            for each in found.changed
        },
        "size-before": found.size_before,
        "size-after": found.size_after,
    }


def _path_data(path: ImagePath) -> dict[str, object]:
    from msgspec import structs

    return {**structs.asdict(path), "target": plain_text(path.target)}


def _show_diff(found: ImageDiff) -> None:
    lines = [(path, "-", "red", _described(each)) for path, each in found.removed]
    lines += [(path, "+", "green", _described(each)) for path, each in found.added]
    lines += [(each.path, "~", "yellow", _changed(each)) for each in found.changed]
    for path, sign, colour, text in sorted(lines):
        say(f"{style(sign, colour)} {printable(path)}  {text}".rstrip())
    if not lines:
        say("no differences")
        return
    say(f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed; "
        f"{megabytes(found.size_before)} → {megabytes(found.size_after)} unpacked")  # fmt: skip


def _described(path: ImagePath) -> str:
    if path.type == "file":
        return megabytes(path.size)
    return f"-> {printable(path.target)}" if path.target else path.type


def _changed(change: Change) -> str:
    """Return what is different, in words: `mode 0644 → 0600, size 1000 → 2000`."""
    from preroot.inspect.diff import in_words

    return ", ".join(
        f"{what} {printable(before)} → {printable(after)}" if before or after else what
        for what, before, after in in_words(change)
    )
