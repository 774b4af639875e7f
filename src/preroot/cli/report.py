# SPDX-License-Identifier: LGPL-2.1-or-later
"""How progress and results are shown: bars on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from preroot.progress import Reporter, Silent, Step

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def colours(*, err: bool) -> bool:
    """Return whether to colour a stream: a terminal, and NO_COLOR (https://no-color.org) is not set."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, colour: str, *, err: bool = False) -> str:
    """Return `text` in a colour where the stream takes colours."""
    return click.style(text, fg=colour, bold=True) if colours(err=err) else text


def reporter_for(*, quiet: bool, json: bool) -> Reporter:
    """Return the reporter for the options of a command. Progress goes to standard error, results to standard output."""
    if quiet or json:
        return Warnings()
    return Bars() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines()


class Warnings(Silent):
    """Says nothing but warnings."""

    def warn(self, text: str) -> None:
        """Print a warning on standard error."""
        super().warn(text)
        click.echo(f"{style('warning:', 'yellow', err=True)} {text}", err=True)


class _Counting:
    def __init__(self) -> None:
        self.done = 0

    def advance(self, amount: int = 1) -> None:
        self.done += amount


class Lines(Warnings):
    """One line when a step has ended, for logs."""

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Step]:
        """Print a line with the time taken when the step ends."""
        import time

        start = time.monotonic()
        counting = _Counting()
        yield counting
        amount = f" {_amount(counting.done)}" if counting.done else ""
        click.echo(f"{name}{amount}: {time.monotonic() - start:.1f} s", err=True)

    def note(self, text: str) -> None:
        """Print a note."""
        click.echo(f"note: {text}", err=True)


class Bars(Warnings):
    """A progress bar for each step, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Step]:
        """Show a bar while the step runs. A short step shows nothing: rich is imported only after 0.2 s."""
        bar = _LateBar(name, total)
        try:
            yield bar
        finally:
            bar.close()

    def note(self, text: str) -> None:
        """Print a note."""
        click.echo(f"note: {text}", err=True)


class _LateBar:
    """A bar that appears once its step has taken a while, so that fast builds do not pay for it."""

    _DELAY = 0.2

    def __init__(self, name: str, total: int) -> None:
        import time

        self._name, self._total, self._done = name, total, 0
        self._clock = time.monotonic
        self._start = self._clock()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if self._progress is None:
            if self._clock() - self._start < self._DELAY:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True, no_color=not colours(err=True)), transient=True)
            self._task = self._progress.add_task(self._name, total=self._total or None)
            self._progress.start()
        if self._task is not None:
            self._progress.update(self._task, completed=self._done)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _amount(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 100_000 else str(number)


def megabytes(size: int) -> str:
    """Return a size in bytes as `12.3 MB` (10⁶ bytes), or in kB below 100 kB."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Return rows as aligned columns; numbers are right-aligned where the whole column is numbers."""
    every = [tuple(header), *map(tuple, rows)] if header else [tuple(row) for row in rows]
    if not every:
        return ""
    widths = [max(len(row[column]) for row in every) for column in range(len(every[0]))]
    lines = []
    for row in every:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
