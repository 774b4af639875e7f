# SPDX-License-Identifier: LGPL-2.1-or-later
"""The treemap's layout: areas are sizes, nothing overlaps, everything is inside."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.inspect.treemap import Box, Node, Placed, layout, squarify

_sizes = st.lists(st.one_of(st.integers(0, 5), st.integers(1, 10**9)), max_size=25)
_boxes = st.builds(Box, st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 2000), st.floats(1, 2000))


def overlap(one: Box, other: Box) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(width, 0) * max(height, 0)


def inside(inner: Box, outer: Box) -> bool:
    slack = 1e-6 * (outer.width + outer.height)
    return (
        inner.width >= 0 and inner.height >= 0
        and inner.x >= outer.x - slack and inner.x + inner.width <= outer.x + outer.width + slack
        and inner.y >= outer.y - slack and inner.y + inner.height <= outer.y + outer.height + slack
    )  # fmt: skip


def check(sizes: list[int], placed: list[Box], box: Box) -> None:
    assert len(placed) == len(sizes)
    total = sum(sizes)
    for size, its in zip(sizes, placed, strict=True):
        assert inside(its, box)
        assert its.area == pytest.approx(box.area * size / total if total else 0, rel=1e-6, abs=1e-6 * box.area)
    for one, other in combinations(placed, 2):
        assert overlap(one, other) <= 1e-6 * box.area


@given(_sizes, _boxes)
def test_areas_are_sizes_and_nothing_overlaps(sizes: list[int], box: Box) -> None:
    ordered = sorted(sizes, reverse=True)
    check(ordered, squarify(ordered, box), box)
    check(sizes, squarify(sizes, box), box)  # in any order, if with longer boxes


@given(st.lists(_sizes, max_size=6), _boxes, st.floats(0, 30))
def test_children_lie_in_their_group_below_its_label(groups: list[list[int]], box: Box, strip: float) -> None:
    nodes = [
        Node(f"g{number}", sum(sizes), children=tuple(Node(f"f{each}", size) for each, size in enumerate(sizes)))
        for number, sizes in enumerate(groups)
    ]
    placed = layout(nodes, box, strip)
    check([each.node.size for each in placed], [each.box for each in placed], box)
    for each in placed:
        its = each.box
        assert each.strip in (0, strip) and each.strip <= its.height
        inner = Box(its.x, its.y + each.strip, its.width, its.height - each.strip)
        check([child.node.size for child in each.children], [child.box for child in each.children], inner)


def test_the_example_of_the_paper() -> None:
    """Bruls, Huizing and van Wijk, figures 4 and 5: 6, 6, 4, 3, 2, 2, 1 in 6 by 4."""
    placed = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    found = [tuple(round(value, 2) for value in (box.x, box.y, box.width, box.height)) for box in placed]
    assert found[:4] == [(0, 0, 3, 2), (0, 2, 3, 2), (3, 0, 1.71, 2.33), (4.71, 0, 1.29, 2.33)]


def test_boxes_of_equal_sizes_are_near_to_squares() -> None:
    for box in squarify([10] * 24, Box(0, 0, 600, 400)):
        assert max(box.width / box.height, box.height / box.width) < 1.6


def names(placed: tuple[Placed, ...]) -> list[str]:
    return [each.node.name for each in placed]


def test_the_largest_comes_first() -> None:
    assert names(layout([Node("b", 1), Node("c", 5), Node("a", 1)], Box(0, 0, 9, 9), 1)) == ["c", "a", "b"]
