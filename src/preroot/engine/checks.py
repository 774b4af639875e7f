# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks of a program's own: they see a plan before anything is written, and can fail the build or add warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from msgspec import Struct, structs

from preroot.errors import BuildError
from preroot.tree.model import Plan


class Problem(Struct, frozen=True):
    """What a check found: one line that names the thing and who asked for it, and a hint that names the way out."""

    message: str
    hint: str = ""
    #: an error fails the build, a warning is among the plan's warnings
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


#: Looks at a plan and yields what is wrong with it. It may raise a BuildError or RecipeError itself.
Check = Callable[[Plan], Iterable[Problem]]


def checked(plan: Plan, checks: Sequence[Check]) -> Plan:
    """Return the plan with the warnings of all checks added to its own.

    Raises BuildError with a line for each error, after all checks have looked.
    """
    found = [problem for check in checks for problem in check(plan)]
    errors = [problem for problem in found if problem.severity == "error"]
    if len(errors) == 1:
        raise BuildError(errors[0].message, errors[0].hint)
    if errors:
        raise BuildError("\n".join(dict.fromkeys(map(str, errors))))
    if not found:
        return plan
    return structs.replace(plan, warnings=(*plan.warnings, *map(str, found)))
