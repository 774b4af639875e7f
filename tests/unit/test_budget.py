# SPDX-License-Identifier: LGPL-2.1-or-later
"""Budgets of parts: what is over fails, what just fits does not, and the error says what takes most."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, part, plan, tree
from msgspec import structs

from preroot.engine.budget import check_budgets
from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.write import WrittenPart, write_image
from preroot.recipe.schema import Budget
from preroot.tree.model import Plan, Reason


def named(path: str, size: int, package: str, feature: str) -> object:
    made = file(path, b"x" * size, reasons=(Reason("feature", feature),))
    return structs.replace(made, owner=package)


BASE = tree(
    named("usr/lib/big", 300_000, "libbig=1", "one"),  # type: ignore[arg-type]
    named("usr/lib/small", 1000, "libsmall=2", "two"),  # type: ignore[arg-type]
)
MODULES = tree(file("usr/lib/modules/1/x.ko", b"m" * 500_000))


def limited(budget: Budget | None, of_modules: Budget | None = None) -> Plan:
    base = structs.replace(part("base", BASE), budget=budget)
    return plan(base, structs.replace(part("modules", MODULES), budget=of_modules))


def sizes(packed: int, unpacked: int) -> tuple[WrittenPart, ...]:
    return WrittenPart("base", 0, packed, unpacked), WrittenPart("modules", packed, 600_000, 600_000)


def test_what_takes_most_is_named() -> None:
    check_budgets(limited(None), sizes(10**9, 10**9))
    with pytest.raises(BuildError) as raised:
        check_budgets(limited(Budget(uncompressed_mb=0.2)), sizes(1000, 310_000))
    assert raised.value.message == (
        "part base takes 0.31 MB uncompressed, 0.11 MB more than part.base.budget.uncompressed-mb allows (0.20 MB); "
        "largest packages: libbig=1 0.30 MB, libsmall=2 0.001 MB; largest features: one 0.30 MB, two 0.001 MB"
    )
    assert "plan --by feature" in raised.value.hint


def test_each_part_has_its_own_and_all_are_named_at_once() -> None:
    with pytest.raises(BuildError) as raised:
        check_budgets(
            limited(Budget(compressed_mb=0.1, uncompressed_mb=0.1), Budget(compressed_mb=0.5)), sizes(200_000, 310_000)
        )
    lines = raised.value.message.splitlines()
    assert [line.split(", ")[0] for line in lines] == [
        "part base takes 0.20 MB compressed", "part base takes 0.31 MB uncompressed",
        "part modules takes 0.60 MB compressed",
    ]  # fmt: skip
    assert "a=1" in lines[2] and "libbig" not in lines[2]


@given(st.integers(1, 10**10), st.integers(-3, 3), st.booleans())
def test_the_bound_itself_is_kept_to_the_byte(bound: int, more: int, packed: bool) -> None:
    megabytes = bound / 1_000_000
    budget = Budget(compressed_mb=megabytes) if packed else Budget(uncompressed_mb=megabytes)
    size = max(0, bound + more)
    written = sizes(size, 0) if packed else sizes(0, size)
    if size <= bound:
        check_budgets(limited(budget), written)
    else:
        with pytest.raises(BuildError, match=r"more than part\.base\.budget"):
            check_budgets(limited(budget), written)


def test_it_is_what_is_written_that_counts(tmp_path: Path) -> None:
    written = write_image(limited(None), tmp_path / "x", ContentReader())
    (base, _) = written.parts
    exactly = Budget(compressed_mb=base.size / 1e6, uncompressed_mb=base.uncompressed / 1e6)
    check_budgets(limited(exactly), written.parts)
