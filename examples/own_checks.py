#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds a recipe under rules of one's own: what breaks them fails the build before anything is written.

usage: own_checks.py RECIPE OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from preroot.engine import Check, Engine, Plan, PrerootError, Problem

#: what the kernel takes for compatible with its own licence (include/linux/license.h)
GPL_COMPATIBLE = {
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
}  # fmt: skip


def no_set_id_programs(plan: Plan) -> Iterator[Problem]:
    """Refuse programs that run as another user than the one who starts them."""
    for part in plan.parts:
        for entry in part.tree.entries.values():
            if entry.type == "file" and entry.mode & 0o6000:
                yield Problem(
                    f"{entry.path} of {entry.owner} is set-id ({entry.mode:04o})", "leave it out by `exclude`"
                )


def only_free_modules(plan: Plan) -> Iterator[Problem]:
    """Refuse kernel modules that would taint the kernel by their licence."""
    for name, info in plan.kernel.info.items() if plan.kernel else ():
        if info.license not in GPL_COMPATIBLE:
            yield Problem(f"module {name} has the licence {info.license!r}", f"leave-out-modules = [{name!r}]")


def nothing_from(pattern: str) -> Check:
    """Return a check that refuses packages whose name matches a pattern, and says why the first file is there."""

    def check(plan: Plan) -> Iterator[Problem]:
        for part in plan.parts:
            for entry in part.tree.entries.values():
                package, equals, _ = entry.owner.partition("=")
                if equals and fnmatchcase(package, pattern):
                    reason = entry.reasons[0]
                    yield Problem(f"{entry.path} is from {entry.owner}, which is not wanted",
                                  f"{reason.asker} asks for it ({reason.kind})")  # fmt: skip
                    break

    return check


def small_modules(plan: Plan) -> Iterator[Problem]:
    """Warn of kernel modules above a megabyte."""
    for part in plan.parts:
        for entry in part.tree.entries.values():
            if ".ko" in entry.path and entry.size > 1_000_000:
                yield Problem(f"{entry.path} has {entry.size} bytes", severity="warning")


CHECKS: tuple[Check, ...] = (no_set_id_programs, only_free_modules, nothing_from("perl*"), small_modules)


def main(recipe: Path, output: Path) -> int:
    """Build a recipe under the checks; return the exit status."""
    try:
        with Engine(checks=CHECKS) as engine:
            result = engine.build(engine.load(recipe), output)
    except PrerootError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        return error.exit_code
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{result.image}: {result.size} bytes, and all checks passed")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*map(Path, sys.argv[1:])))
