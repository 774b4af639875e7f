# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long work tells how far it is: an interface with a silent default, so that no room depends on a terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Step(Protocol):
    """A step that is under way."""

    def advance(self, amount: int = 1) -> None:
        """Report that `amount` more of the step's total (files, bytes, packages) are done."""


class Reporter(Protocol):
    """Receives steps, notes and warnings. The command line has one for terminals, one for logs and one for JSON."""

    def step(self, name: str, total: int = 0) -> AbstractContextManager[Step]:
        """Start a step (`resolving`, `downloading`, `unpacking`, `packing`); it ends with the context."""

    def note(self, text: str) -> None:
        """Tell something that the user may want to know."""

    def warn(self, text: str) -> None:
        """Tell something that the user should look at."""


class _SilentStep:
    def advance(self, amount: int = 1) -> None:
        pass


class Silent:
    """A reporter that says nothing; warnings are collected in `warnings`."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def step(self, name: str, total: int = 0) -> AbstractContextManager[Step]:
        """Start a step; nothing is shown."""
        return nullcontext(_SilentStep())

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Keep the warning."""
        self.warnings.append(text)
