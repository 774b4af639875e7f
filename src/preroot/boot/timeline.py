# SPDX-License-Identifier: LGPL-2.1-or-later
"""Milestones as a table and as a picture. Pure: rows are plain data, the SVG is text (1.1, no scripts, no fonts)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from msgspec import Struct

from preroot.boot.console import Milestone


class Row(Struct, frozen=True):
    """One milestone: guest seconds since the kernel's start, seconds since the row before, and whether `at` is exact.

    A time that is not exact is the last one seen before the event, which so was not earlier.
    """

    name: str
    at: float
    since: float
    exact: bool


def rows(milestones: Iterable[Milestone]) -> tuple[Row, ...]:
    """Return the milestones that have a time, in the order of time."""
    timed = sorted((each for each in milestones if each.seconds is not None), key=lambda each: each.seconds or 0.0)
    found: list[Row] = []
    for each in timed:
        at = each.seconds or 0.0
        found.append(Row(each.name, at, at - (found[-1].at if found else 0.0), each.exact))
    return tuple(found)


def table(timeline: Sequence[Row]) -> str:
    """Return the rows as text: name, seconds (`≥` where not exact), seconds since the row before."""
    width = max([len(row.name) for row in timeline], default=0)
    return "".join(
        f"{row.name:<{width}}  {' ' if row.exact else '≥'}{row.at:6.2f} s  +{row.since:.2f}\n" for row in timeline
    )


#: Bars' fills, chosen to be told apart also in grey and by those who see few colours; text is never on them.
_FILLS = ("#4c78a8", "#9ecae9")
_LEFT, _RIGHT, _TOP, _BAR, _GAP, _PLOT = 150, 90, 64, 18, 10, 640


def svg(timeline: Sequence[Row], title: str) -> str:
    """Return a picture of the rows: one bar a milestone, from the one before it to its own time, with the seconds."""
    end = max([row.at for row in timeline], default=0.0) or 1.0
    step = tick(end)
    scale = _PLOT / (-(-end // step) * step)
    height = _TOP + len(timeline) * (_BAR + _GAP) + 40
    width = _LEFT + _PLOT + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f"<title>{_text(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold">{_text(title)}</text>',
        '<text x="16" y="44" fill="#666">seconds of the guest since the start of the kernel</text>',
    ]
    bottom = height - 34
    for number in range(int(-(-end // step)) + 1):
        x = _LEFT + number * step * scale
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#666">{number * step:g}</text>')
    for number, row in enumerate(timeline):
        y = _TOP + number * (_BAR + _GAP)
        x = _LEFT + (row.at - row.since) * scale
        length = max(row.since * scale, 1.5)
        mark = "" if row.exact else "≥ "
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end">{_text(row.name)}</text>')
        shape = f'x="{x:.1f}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{_FILLS[number % 2]}"'
        hover = f"{_text(row.name)}: {mark}{row.at:.2f} s, +{row.since:.2f} s"
        parts.append(f"<rect {shape}><title>{hover}</title></rect>")
        parts.append(f'<text x="{x + length + 6:.1f}" y="{y + 13}">{mark}{row.at:.2f}</text>')
    return "\n".join([*parts, "</svg>", ""])


def tick(end: float) -> float:
    """Return the distance of the axis' marks for values to `end`: 1, 2 or 5 times a power of ten, at most 10 marks."""
    step = 0.001
    while True:
        for factor in (1, 2, 5):
            if end / (step * factor) <= 10:
                return step * factor
        step *= 10


def _text(text: str) -> str:
    """Return `text` for XML 1.0, which has no control characters at all, not even escaped."""
    return escape("".join(character if character >= " " or character == "\t" else " " for character in text))
