# SPDX-License-Identifier: LGPL-2.1-or-later
"""How preroot fails for the user's reasons: one line that names the thing, and a hint that names the way out.

Anything that is not one of these exceptions is a defect of preroot and shows its traceback.
"""

from __future__ import annotations


class PrerootError(Exception):
    """A failure that the user can understand and mend.

    Arguments: the message (one line: the thing, the place, who asked) and the hint (the way out, may be empty).
    `exit_code` is what the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BuildError(PrerootError):
    """The build or the boot failed (exit code 1)."""


class RecipeError(PrerootError):
    """The recipe, a feature file or the command is wrong (exit code 2)."""

    exit_code = 2


def nearest(word: str, known: object) -> str:
    """Return a hint naming the word of `known` (any iterable of strings) that is nearest to `word`, or ''."""
    import difflib

    matches = difflib.get_close_matches(word, [str(each) for each in known], n=1, cutoff=0.6)  # type: ignore[attr-defined]
    return f"did you mean {matches[0]!r}?" if matches else ""
