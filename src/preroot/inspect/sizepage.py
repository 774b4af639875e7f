# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of `preroot size --html`: a treemap and a table for each grouping, in one file without anything outside it.

It works without JavaScript: tabs are radio buttons, and a click on a group's label leads to that group's own map. With
JavaScript there is a filter, too. Only `page` reads anything, and that is the style and the script beside this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path

from preroot.inspect.size import SHARED, UNEXPLAINED, Group, Grouping, SizedFile, Sizes
from preroot.inspect.treemap import Box, Node, Placed, layout

#: the map, in its own units; a unit is a pixel where the page is wide enough
MAP = Box(0, 0, 1200, 620)
#: height of a group's label
_STRIP = 19.0
#: units of area below which files are shown together
_SMALLEST = 60.0
#: groups with a larger share have a map of their own
_DETAIL_SHARE = 0.01
_DETAILS = 16
#: hues of the largest groups, far from each other where groups are neighbours; the others are grey
_HUES = (210, 35, 150, 345, 265, 95, 185, 15, 305, 60)
#: widths of letters, as a part of the font's size: a little more than those of the widest usual fonts
_LETTER, _BOLD_LETTER = 0.62, 0.66

_TITLES: dict[Grouping, str] = {
    "package": "Package", "feature": "Feature", "directory": "Directory", "reason": "Reason", "kind": "Kind",
}  # fmt: skip
_NOTES: dict[Grouping, str] = {
    "package": "Which package each file is from.",
    "feature": "A feature's own: what no other feature leads to, and what would go if it were refused. With shared: "
    f"what others lead to as well, which {SHARED} has once.",
    "directory": "Where the files lie. Directories with a large share are shown by what is in them.",
    "reason": "What the shortest chain of reasons says of each file.",
    "kind": "What kind of file each is, by its path and its first bytes.",
}


def page(sizes: Sizes, views: Mapping[Grouping, tuple[Group, ...]], why: Callable[[str], str], packed: int = 0) -> str:
    """Return the page, as HTML.

    Arguments: what was grouped; the groups, by grouping (the first is shown first); a function that says in a line why
    a path is there ('' where that is not known); the size of the image in bytes (0: not written yet).
    """
    here = Path(__file__)
    style, script = (here.with_suffix(suffix).read_text() for suffix in (".css", ".js"))
    chosen = [
        f"#tab-{by}:checked ~ .{by} {{ display: block; }}\n"
        f"#tab-{by}:checked ~ .tabs [for=tab-{by}] {{ color: var(--text); font-weight: 600; "
        f"box-shadow: inset 0 -2px var(--accent); }}\n"
        f"#tab-{by}:focus-visible ~ .tabs [for=tab-{by}] {{ outline: 2px solid var(--accent); }}\n"
        for by in views
    ]
    radios = "".join(
        f'<input class="tab" type="radio" name="by" id="tab-{by}"{" checked" if number == 0 else ""}>'
        for number, by in enumerate(views)
    )
    labels = "".join(f'<label for="tab-{by}">{_TITLES[by]}</label>' for by in views)
    sections = "".join(_view(sizes, by, groups, why) for by, groups in views.items())
    name = escape(_printable(sizes.name))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Size of {name}</title>\n<style>\n{style}{''.join(chosen)}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{name}</h1>\n{_facts(sizes, packed)}\n{radios}\n"
        f'<div class="tabs">{labels}<label class="filter" hidden>'
        '<input type="search" placeholder="Filter by path" aria-label="Filter by path"></label></div>\n'
        f"{sections}</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _facts(sizes: Sizes, packed: int) -> str:
    facts = [f"<b>{_amount(sizes.unpacked)}</b> in memory"]
    if packed:
        facts.append(f"<b>{_amount(packed)}</b> image")
    facts.append(f"<b>{len(sizes.files)}</b> files")
    for part in sizes.parts:
        codec = f"{part.codec} {part.level}" if part.level else part.codec
        took = f"{_amount(part.packed)}, " if part.packed else ""
        facts.append(f"{escape(_printable(part.name))} <b>{_amount(part.unpacked)}</b> ({took}{codec})")
    return '<ul class="facts">' + "".join(f"<li>{fact}</li>" for fact in facts) + "</ul>"


def _view(sizes: Sizes, by: Grouping, groups: tuple[Group, ...], why: Callable[[str], str]) -> str:
    total = sizes.unpacked or 1
    hues = {group.name: hue for group, hue in zip(_coloured(groups), _HUES, strict=False)}
    detailed = {
        group.name: f"{by}-{number}"
        for number, group in enumerate(groups[:_DETAILS])
        if len(group.files) > 1 and group.size > total * _DETAIL_SHARE
    }
    nodes = [_node(group, total, why) for group in groups]
    nodes.append(Node(_HEADERS, sizes.headers, _title(_HEADERS, sizes.headers, total)))
    whole = _svg(f"{_TITLES[by]}: treemap", _groups(layout(nodes, MAP, _STRIP), hues, detailed))
    parts = [f'<section class="view {by}">\n<p class="note">{_NOTES[by]}</p>\n<div class="map whole">{whole}</div>\n']
    for group in groups:
        if group.name in detailed:
            boxes = _boxes(layout(_files(group, group.size, total, why), MAP, 0))
            inner = _svg(group.name, f"<g{_colour(hues.get(group.name))}>{boxes}</g>")
            name = escape(_printable(group.name))
            parts.append(
                f'<div class="map detail" id="{detailed[group.name]}"><p>{name}, {_amount(group.size)} '
                f'<a href="#">back to all</a></p>{inner}</div>\n'
            )
    parts.append(f'<p class="status" aria-live="polite"></p>\n{_table(sizes, by, groups)}</section>\n')
    return "".join(parts)


#: what is in no file's content
_HEADERS = "names, modes and padding"


def _coloured(groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if group.name not in (SHARED, UNEXPLAINED)]


def _node(group: Group, total: int, why: Callable[[str], str]) -> Node:
    title = _title(group.name, group.size, total, f"{len(group.files)} files")
    return Node(group.name, group.size, title, tuple(_files(group, total, total, why)))


def _files(group: Group, scale: int, total: int, why: Callable[[str], str]) -> list[Node]:
    """Return a group's files as nodes, and those that would be too small to see as one. `scale`: bytes of the map."""
    least = max(scale * _SMALLEST / MAP.area, 1)
    large = [file for file in group.files if file.size >= least]
    small = [file for file in group.files if file.size < least]
    nodes = [Node(file.path, file.size, _file_title(file, total, why)) for file in large]
    rest = sum(file.size for file in small)
    if rest:
        name = f"{len(small)} smaller files" if large else f"{len(small)} files"
        nodes.append(Node(name, rest, _title(name, rest, total)))
    return nodes


def _file_title(file: SizedFile, total: int, why: Callable[[str], str]) -> str:
    reason = why(file.path)
    return _title(file.path, file.size, total, *([file.owner] if file.owner else []), *([reason] if reason else []))


def _title(name: str, size: int, total: int, *more: str) -> str:
    return "\n".join((name, f"{_amount(size)}, {100 * size / total:.1f} %", *more))


def _svg(label: str, inside: str) -> str:
    box = f"{MAP.x:g} {MAP.y:g} {MAP.width:g} {MAP.height:g}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(_printable(label))}">{inside}</svg>'


def _groups(placed: Iterable[Placed], hues: Mapping[str, int], detailed: Mapping[str, str]) -> str:
    parts = []
    for each in placed:
        if not each.box.area:
            continue
        label = ""
        if each.strip:
            name, down = _short(each.node.name), each.strip - 5.5
            label = _text(f"{name} {_amount(each.node.size)}", each.box, down, 12, "name", whole=True)
            label = label or _text(name, each.box, down, 12, "name")
        head = f"<title>{escape(_printable(each.node.title))}</title>{_rect(each.box, 'group')}{label}"
        if each.node.name in detailed:
            head = f'<a href="#{detailed[each.node.name]}">{head}</a>'
        parts.append(f"<g{_colour(hues.get(each.node.name))}>{head}{_boxes(each.children)}</g>")
    return "".join(parts)


def _colour(hue: int | None) -> str:
    return ' class="plain"' if hue is None else f' style="--hue:{hue}"'


def _boxes(placed: Iterable[Placed]) -> str:
    parts = []
    for each in placed:
        if not each.box.area:
            continue
        path = escape(_printable(each.node.name))
        text = _text(_base(each.node.name), each.box, 13, 11)
        if text and each.box.height > 32:
            text += _text(_amount(each.node.size), each.box, 27, 11, whole=True)
        parts.append(
            f'<g class="box" data-path="{path}" data-size="{each.node.size}">'
            f"<title>{escape(_printable(each.node.title))}</title>{_rect(each.box)}{text}</g>"
        )
    return "".join(parts)


def _rect(box: Box, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<rect{name} x="{box.x:.2f}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"/>'


def _text(text: str, box: Box, down: float, size: int, kind: str = "", *, whole: bool = False) -> str:
    """Return a label at `down` below the top of a box, as much of it as fits; nothing where that would say nothing.

    `whole`: all of it or nothing. `size` is the font's, in units of the map.
    """
    letters = int((box.width - 8) / (size * (_BOLD_LETTER if kind else _LETTER)))
    text = _printable(text)
    if box.height < down + 4 or letters < (len(text) if whole else min(len(text), 4)):
        return ""
    if len(text) > letters:
        text = text[: letters - 1] + "…"
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{box.x + 4:.2f}" y="{box.y + down:.2f}">{escape(text)}</text>'


def _short(name: str) -> str:
    """Return a package's name without its version."""
    return name.partition("=")[0]


def _base(path: str) -> str:
    return path.rpartition("/")[2] or path


def _table(sizes: Sizes, by: Grouping, groups: tuple[Group, ...]) -> str:
    total = sizes.unpacked or 1
    shared, packed = by == "feature", any(group.compressed is not None for group in groups)
    head = [_TITLES[by], "own" if shared else "size", *(["with shared"] if shared else []),
            *(["compressed alone"] if packed else []), "share", "files"]  # fmt: skip
    lines = []
    for group in groups:
        share = 100 * group.size / total
        cells = [escape(_printable(group.name)), _amount(group.size)]
        if shared:
            cells.append("" if group.with_shared is None else _amount(group.with_shared))
        if packed:
            cells.append(_amount(group.compressed or 0))
        cells += [f'<span class="bar" style="width:{share * 0.75:.1f}%"></span>{share:.1f} %', str(len(group.files))]
        kinds = [' class="share"' if number == len(cells) - 2 else "" for number in range(len(cells))]
        line = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True))
        lines.append(f"<tr>{line}</tr>")
    blank = "<td></td>" * (len(head) - 2)
    rest = f"<tr><td>{_HEADERS}</td><td>{_amount(sizes.headers)}</td>{blank}</tr>"
    whole = f"<tr><td>all</td><td>{_amount(sizes.unpacked)}</td>{blank}</tr>"
    header = "".join(f'<th class="{each}">{each}</th>' for each in head)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(lines)}{rest}</tbody><tfoot>{whole}</tfoot></table>"


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _printable(text: str) -> str:
    """Return text as HTML can have it: bytes that are no UTF-8, and control characters but line breaks, as escapes."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode() for each in plain
    )
