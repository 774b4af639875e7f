# SPDX-License-Identifier: LGPL-2.1-or-later
"""The serial console of a running machine: read line by line, kept raw on disk, waited on and written to."""

from __future__ import annotations

import os
import re
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from preroot.boot.console import clean, sanitise

#: Bytes of the unfinished line that patterns are matched against (prompts have no newline); more is cut off.
_LONGEST_LINE = 64 * 1024


#: A regular expression, and what is done when the console shows it.
Prompt = tuple[str, Callable[[], None]]


class ConsoleEnded(Exception):
    """The machine ended, or the time was up, before what was waited for."""


class Console:
    """A console over two pipes.

    `output` is what the machine writes, `input` what it reads (binary, unbuffered); `log` receives every byte as it
    came. `deadline` is the time.monotonic() after which every wait ends: nothing waits for ever.
    `lines` has the finished lines, cleaned of escape sequences (`console.sanitise`).
    """

    def __init__(self, output: IO[bytes], input: IO[bytes] | None, log: Path, deadline: float) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._output = output
        self._input = input
        self._log = log.open("wb", buffering=0)
        self._deadline = deadline
        self._partial = b""
        #: what no wait has looked at yet: finished lines, and how much of the unfinished one is spent
        self._unseen: deque[str] = deque()
        self._spent = 0
        os.set_blocking(output.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(output, selectors.EVENT_READ)

    def send(self, text: str) -> None:
        """Write `text` as if typed. A machine that is gone already is no error: the next wait tells."""
        if self._input is None:
            raise ValueError("this console has no input")
        try:
            self._input.write(text.encode())
            self._input.flush()
        except BrokenPipeError:
            self.ended = True

    def wait_for(self, pattern: str, timeout: float | None = None) -> re.Match[str]:
        """Return the first match of `pattern` in a line, or an unfinished line, not looked at by an earlier wait.

        `timeout` is in seconds of this host. Raises ConsoleEnded when the machine ends or the time is up first.
        """
        wanted = re.compile(pattern)
        until = self._deadline if timeout is None else min(self._deadline, time.monotonic() + timeout)
        while True:
            if found := self._find(wanted):
                return found
            if self.ended or not self._read(until):
                why = "the machine ended" if self.ended else "the time was up"
                raise ConsoleEnded(f"{why} before /{pattern}/ was seen on the console")

    def _find(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        """Return the first match in what was not looked at yet, which then has been up to there."""
        while self._unseen:
            if found := wanted.search(self._unseen.popleft()):
                return found
        if found := wanted.search(clean(self._partial[self._spent :])):
            self._spent = len(self._partial)
        return found

    def drain(
        self, stop: Callable[[str], bool] | None = None, timeout: float | None = None, answers: Sequence[Prompt] = (),
    ) -> bool:  # fmt: skip
        """Read until the machine ends or `stop` says so of a line; return False when the time was up first.

        `timeout` is in seconds of this host and shortens the console's own deadline. `answers` are given in order,
        each once, when its pattern is seen in what no wait has looked at yet.
        """
        until = self._deadline if timeout is None else min(self._deadline, time.monotonic() + timeout)
        looked = len(self.lines)
        waiting = deque((re.compile(pattern), act) for pattern, act in answers)
        while not self.ended:
            more = self._read(until)
            while waiting and self._find(waiting[0][0]):
                waiting.popleft()[1]()
            if stop is not None and any(stop(line) for line in self.lines[looked:]):
                return True
            looked = len(self.lines)
            if not more:
                return self.ended
        return True

    def close(self) -> None:
        """Close the log; what is left in the pipe is read first."""
        while not self.ended and self._read(0.0):
            pass
        if self._partial:
            self.lines.append(sanitise(self._partial))
            self._partial = b""
        self._selector.close()
        self._log.close()

    def _read(self, until: float) -> bool:
        """Take in what there is, waiting to `until` at most; return False on the end of time or of the machine."""
        if not self._selector.select(max(0.0, until - time.monotonic())):
            return False
        try:
            data = os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return True
        if not data:
            self.ended = True
            return False
        self._log.write(data)
        *whole, self._partial = (self._partial + data).split(b"\n")
        for line in whole:
            self.lines.append(sanitise(line))
            self._unseen.append(sanitise(line[self._spent :]))
            self._spent = 0
        if len(self._partial) > _LONGEST_LINE:
            self._partial, self._spent = self._partial[-_LONGEST_LINE:], 0
        return True
