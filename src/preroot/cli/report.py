# SPDX-License-Identifier: LGPL-2.1-or-later
"""How progress and results are shown: bars on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preroot.errors import BuildError
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


class OutputError(BuildError):
    """Standard output can't be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write standard output: {error.strerror}")
        self.cause = error


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text, to standard error if `err`. Raises OutputError when standard output can't be written."""
    try:
        click.echo(text, err=err, nl=nl)
    except OSError as error:
        if not err:
            raise OutputError(error) from None


def drop_output() -> None:
    """Let what is left in buffers go nowhere: Python would complain when it tries to write it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """Print a value as JSON, indented, as `--json` does everywhere."""
    import msgspec

    data = msgspec.json.encode(value, order="deterministic", enc_hook=_plain)
    say(msgspec.json.format(data, indent=2).decode())


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


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
        say(f"{style('warning:', 'yellow', err=True)} {text}", err=True)


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
        say(f"{name}{amount}: {time.monotonic() - start:.1f} s", err=True)

    def note(self, text: str) -> None:
        """Print a note."""
        say(f"note: {text}", err=True)


class Bars(Warnings):
    """Progress bars on a terminal: one for each step that takes longer than an eye needs, gone when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._shown = 0

    @contextmanager
    def step(self, name: str, total: int = 0) -> Iterator[Step]:
        """Show a bar while the step runs."""
        bar = _Bar(self, name, total)
        try:
            yield bar
        finally:
            bar.close()

    def note(self, text: str) -> None:
        """Print a note, above the bars."""
        self._print(f"note: {text}")

    def warn(self, text: str) -> None:
        """Print a warning, above the bars."""
        self.warnings.append(text)
        self._print(f"{style('warning:', 'yellow', err=True)} {text}")

    def _print(self, text: str) -> None:
        with self._lock:
            if self._progress is None:
                say(text, err=True)
            else:
                from rich.text import Text

                self._progress.console.print(Text.from_ansi(text), soft_wrap=True)

    def show(self, name: str, done: int, total: int) -> TaskID:
        """Add a bar; the first one starts the display."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._progress is None:
                console = Console(stderr=True, no_color=not colours(err=True))
                columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
                self._progress = Progress(*columns, console=console, transient=True)
                self._progress.start()
            self._shown += 1
            return self._progress.add_task(name, total=total or None, completed=done)

    def update(self, task: TaskID, done: int) -> None:
        """Set how far a bar is."""
        with self._lock:
            if self._progress is not None:
                self._progress.update(task, completed=done)

    def hide(self, task: TaskID) -> None:
        """Take a bar away; the last one ends the display."""
        with self._lock:
            self._shown -= 1
            if self._progress is not None:
                self._progress.remove_task(task)
                if not self._shown:
                    self._progress.stop()
                    self._progress = None


class _Bar:
    """A bar that appears once its step has taken a while: rich is imported only then, so fast builds don't pay."""

    _DELAY = 0.3

    def __init__(self, bars: Bars, name: str, total: int) -> None:
        self._bars, self._name, self._total, self._done = bars, name, total, 0
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._closed = False
        self._timer = threading.Timer(self._DELAY, self._appear)
        self._timer.daemon = True
        self._timer.start()

    def _appear(self) -> None:
        with self._lock:
            if not self._closed:
                self._task = self._bars.show(self._name, self._done, self._total)

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if self._task is not None:
            self._bars.update(self._task, self._done)

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._task is not None:
                self._bars.hide(self._task)


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


def plain_text(name: str) -> str:
    """Return a name of an image for JSON: bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Return text of an image for a terminal: what could steer the terminal, or is no UTF-8, as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
