# SPDX-License-Identifier: LGPL-2.1-or-later
"""Timelines: the rows, the table, and a picture that is sound XML whatever the names are."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from preroot.boot.console import Milestone
from preroot.boot.timeline import Row, rows, svg, table, tick

SVG = "{http://www.w3.org/2000/svg}"
MILESTONES = (
    Milestone("kernel", 0.0, True, ""),
    Milestone("systemd", 5.25, True, ""),
    Milestone("odd", None, False, ""),
    Milestone("udev", 7.0, False, ""),
)


def test_rows_and_table() -> None:
    found = rows(MILESTONES)
    assert found == (Row("kernel", 0.0, 0.0, True), Row("systemd", 5.25, 5.25, True), Row("udev", 7.0, 1.75, False))
    assert table(found).splitlines() == [
        "kernel      0.00 s  +0.00",
        "systemd     5.25 s  +5.25",
        "udev     ≥  7.00 s  +1.75",
    ]
    assert table(()) == ""


def test_rows_are_in_the_order_of_time() -> None:
    found = rows((Milestone("b", 2.0, True, ""), Milestone("a", 1.0, True, "")))
    assert [row.name for row in found] == ["a", "b"]


def test_picture_has_a_bar_for_each_row() -> None:
    root = ET.fromstring(svg(rows(MILESTONES), "trixie <amd64> & more"))
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == "trixie <amd64> & more"
    bars = [bar for bar in root.findall(f"{SVG}rect") if bar.get("rx")]
    assert len(bars) == 3
    starts = [float(bar.get("x", "")) for bar in bars]
    ends = [start + float(bar.get("width", "")) for start, bar in zip(starts, bars, strict=True)]
    assert starts[2] == ends[1]  # each bar starts where the one before it ended
    assert max(ends) <= float(root.get("width", ""))
    assert [text.text for text in root.findall(f"{SVG}text")][-1] == "≥ 7.00"


def test_ticks() -> None:
    assert [tick(end) for end in (0.8, 1, 3, 9, 14.5, 60, 1000)] == [0.1, 0.1, 0.5, 1, 2, 10, 100]


@given(
    st.lists(st.builds(Milestone, st.text(max_size=20), st.none() | st.floats(0, 1e5), st.booleans(), st.just(""))),
    st.text(max_size=30),
)
def test_any_timeline_is_sound_xml(milestones: list[Milestone], title: str) -> None:
    found = rows(milestones)
    ET.fromstring(svg(found, title).encode("utf-8", "replace"))
    assert len(table(found).split("\n")) >= len(found)
    assert all(row.since >= 0 for row in found)
