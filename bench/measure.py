# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a command costs: processor time, wall time and memory, each of its whole process tree."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from msgspec import Struct

from preroot.errors import BuildError

#: seconds between two looks at a process tree's memory
SAMPLE = 0.02


class Cost(Struct, frozen=True):
    """What one run took: `cpu` (user and system) and `wall` in seconds; `memory` in bytes, 0 when not sampled."""

    cpu: float
    wall: float
    memory: int = 0


class Costs(Struct, frozen=True):
    """Medians over all runs of a command, and the runs themselves; `memory` is from a run of its own."""

    cpu: float
    wall: float
    memory: int
    runs: tuple[Cost, ...]


def run_once(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, memory: bool = False) -> Cost:
    """Run a command to its end and return what it cost; its output goes to `log`.

    Processor time is that of the process and of all its descendants that were waited for (wait4(2), getrusage(2)).
    With `memory`, the sum of the tree's proportional set sizes is sampled while it runs; that costs processor time,
    so such a run is not one to take times from. Raises BuildError with the end of the log when the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   env={**os.environ, **(env or {})})  # fmt: skip
        sampler = Sampler(process.pid) if memory else None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = sampler.stop() if sampler else 0
    if process.returncode:
        tail = "; ".join(log.read_text("utf-8", "replace").strip().splitlines()[-4:])
        raise BuildError(f"{' '.join(argv[:4])} … failed (exit {process.returncode}): {tail}", f"see {log}")
    return Cost(cpu=usage.ru_utime + usage.ru_stime, wall=wall, memory=peak)


def run_often(times: int, once: Callable[[int, bool], Cost], *, memory: bool = True) -> Costs:
    """Run `once(number, sample memory)` so many times, and once more for the memory; return the medians."""
    runs = tuple(once(number, False) for number in range(times))
    peak = once(times, True).memory if memory else 0
    return Costs(cpu=median(run.cpu for run in runs), wall=median(run.wall for run in runs), memory=peak, runs=runs)


class Sampler:
    """Watches the memory of a process and of its descendants until it is stopped.

    What lives for less than `SAMPLE` seconds can be missed, so a peak is a lower bound.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop watching and return the largest sum seen, in bytes."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE):
            self._peak = max(self._peak, sum(proportional_size(pid) for pid in tree_of(self._pid)))


def tree_of(pid: int) -> list[int]:
    """Return a process and its descendants, as /proc has them now."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                # proc(5), "stat": the parent is the second field after the name, which may have spaces in it.
                stat = Path(entry.path, "stat").read_text("utf-8", "replace")
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def proportional_size(pid: int) -> int:
    """Return a process's share of memory in bytes (proc(5), smaps_rollup: Pss), 0 when it is gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
