# SPDX-License-Identifier: LGPL-2.1-or-later
"""A squarified treemap: boxes whose areas are sizes, groups with their files inside. Pure.

The layout is that of Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000): rows are filled along the shorter side
as long as that brings the boxes nearer to squares.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Node(Struct, frozen=True):
    """A group of an area, with children whose sizes add up to its own, or none. Sizes are whole numbers ≥ 0."""

    name: str
    size: int
    #: what is shown about it in words
    title: str = ""
    children: tuple[Node, ...] = ()


class Box(Struct, frozen=True):
    """A rectangle: x and y of the corner at the top left, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Return its area."""
        return self.width * self.height


class Placed(Struct, frozen=True):
    """A node in its box. `strip`: height at the top that children leave free for the node's label."""

    node: Node
    box: Box
    strip: float = 0
    children: tuple[Placed, ...] = ()


def squarify(sizes: Sequence[int], box: Box) -> list[Box]:
    """Return a box for each size, in their order: areas are in proportion to sizes, and together they fill `box`.

    Sizes are to be sorted, the largest first, for boxes near to squares. A size of 0, or a box without an area, gives
    boxes without an area.
    """
    total = sum(sizes)
    if not total or not box.area:
        return [Box(box.x, box.y, 0, 0) for _ in sizes]
    scale = box.area / total
    placed: list[Box] = []
    rest = box
    begin = 0
    while begin < len(sizes):
        side = min(rest.width, rest.height)
        end, worst = begin + 1, _worst(sizes[begin : begin + 1], side, scale)
        while end < len(sizes):
            now = _worst(sizes[begin : end + 1], side, scale)
            if now > worst:
                break
            end, worst = end + 1, now
        row, rest = _row(sizes[begin:end], rest, scale, last=end == len(sizes))
        placed += row
        begin = end
    return placed


def _worst(row: Sequence[int], side: float, scale: float) -> float:
    """Return the largest ratio of sides in a row that lies along `side`."""
    total = sum(row) * scale
    smallest, largest = min(row) * scale, max(row) * scale
    if not smallest or not side:
        return 0 if not largest else float("inf")
    return max(side * side * largest / (total * total), total * total / (side * side * smallest))


def _row(row: Sequence[int], box: Box, scale: float, *, last: bool) -> tuple[list[Box], Box]:
    """Return the boxes of a row along the shorter side of `box`, and what is left of it."""
    total = sum(row)
    upright = box.width >= box.height
    long, short = (box.width, box.height) if upright else (box.height, box.width)
    # the last row takes what is left, so that rounding leaves no gap and nothing reaches beyond
    thick = long if last else min(long, total * scale / short) if short else 0
    placed, along = [], 0.0
    for size in row:
        length = short * size / total if total else 0
        if upright:
            placed.append(Box(box.x, box.y + along, thick, length))
        else:
            placed.append(Box(box.x + along, box.y, length, thick))
        along += length
    if upright:
        return placed, Box(box.x + thick, box.y, box.width - thick, box.height)
    return placed, Box(box.x, box.y + thick, box.width, box.height - thick)


def layout(nodes: Sequence[Node], box: Box, strip: float) -> tuple[Placed, ...]:
    """Place nodes in `box`, and their children inside theirs.

    A node with children keeps a strip of that height free at its top for a label, where it is high enough for that to
    be a small part of it; so areas of children are in proportion within their node, and of nodes within `box`.
    """
    ordered = sorted(nodes, key=lambda node: (-node.size, node.name))
    placed = []
    for node, its in zip(ordered, squarify([node.size for node in ordered], box), strict=True):
        free = strip if node.children and its.height > 2.5 * strip and its.width > 2 * strip else 0.0
        inner = Box(its.x, its.y + free, its.width, its.height - free)
        placed.append(Placed(node, its, free, layout(node.children, inner, strip)))
    return tuple(placed)
