# SPDX-License-Identifier: LGPL-2.1-or-later
"""Budgets of parts: a build whose part is larger than its recipe allows fails, and names what takes most. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from msgspec import structs

from preroot.errors import BuildError
from preroot.image.write import WrittenPart
from preroot.inspect.size import groups, largest, sizes_of_plan
from preroot.recipe.schema import Budget
from preroot.tree.model import Plan

#: how many packages and features the error names
_NAMED = 3
_WORDS = {"compressed_mb": "compressed", "uncompressed_mb": "uncompressed"}


def check_budgets(plan: Plan, written: Iterable[WrittenPart]) -> None:
    """Raise BuildError with a line for each budget that a written part exceeds; one that it just reaches is kept."""
    lines = [line for part in written for line in _excesses(plan, part)]
    if lines:
        raise BuildError(
            "\n".join(lines), "preroot plan --by feature shows all: leave something out, or raise the budget"
        )


def _excesses(plan: Plan, part: WrittenPart) -> Iterator[str]:
    budget = next(each.budget for each in plan.parts if each.name == part.name)
    sizes = {"compressed_mb": part.size, "uncompressed_mb": part.uncompressed}
    for key, size in sizes.items():
        bound = _bytes(budget, key)
        if bound is not None and size > bound:
            allowed = f"part.{part.name}.budget.{key.replace('_', '-')} allows ({_megabytes(bound)})"
            over = f"{_megabytes(size)} {_WORDS[key]}, {_megabytes(size - bound)} more than {allowed}"
            yield f"part {part.name} takes {over}; {_culprits(plan, part.name)}"


def _bytes(budget: Budget | None, key: str) -> int | None:
    """Return a budget in bytes, rounded down; None where there is none. Of 0.1 MB, a float's error is no byte."""
    value = None if budget is None else getattr(budget, key)
    return None if value is None else int(Decimal(str(value)) * 1_000_000)


def _culprits(plan: Plan, name: str) -> str:
    """Return what takes most of a part, in words: packages, and what is there for one feature alone."""
    alone = structs.replace(plan, parts=tuple(each for each in plan.parts if each.name == name))
    sizes = sizes_of_plan(alone)
    named = []
    for by in ("package", "feature"):
        found = largest((group for group in groups(sizes, by) if not group.name.startswith("(")), _NAMED)
        named.append(f"largest {by}s: " + ", ".join(f"{each} {_megabytes(size)}" for each, size in found))
    return "; ".join(named)


def _megabytes(size: int) -> str:
    """Return bytes as MB, with so many digits that a difference of a byte shows."""
    return f"{Decimal(size) / 1_000_000:f} MB" if size < 100_000 else f"{size / 1e6:.2f} MB"
