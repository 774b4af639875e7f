# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs preroot's command line and kills it, as kill -9 would, at one of its calls that change something on a disk.

    python killer.py NUMBER DELAY COUNT-FILE build small.toml …

NUMBER: the call at which to die (0: none; the number of calls is then written to COUNT-FILE); negative: the -NUMBER'th
renaming of an output. DELAY: seconds until then, for the moments between two calls. What is counted comes from Python's
audit events (PEP 578), which see every opening for writing, rename, removal, lock and program, just before it is done;
syncing and writing to outputs, which have none, are wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime", "os.symlink", "fcntl.flock",
         "subprocess.Popen", "shutil.rmtree", "os.truncate")  # fmt: skip
#: another signal, by its number in KILL_WITH, asks the process to end in good order
SIGNAL = int(os.environ.get("KILL_WITH", signal.SIGKILL))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killer:
    """Counts, and kills this process when it is time."""

    def __init__(self, number: int, delay: float) -> None:
        self.number = number
        self.delay = delay
        self.count = 0
        self._lock = threading.Lock()

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.number < 0:
            if event == "os.rename" and str(arguments[0]).endswith(".part"):
                self.number += 1
                if not self.number:
                    os.kill(os.getpid(), SIGNAL)
        elif event in NAMES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            self.tick()

    def tick(self) -> None:
        if self.number < 0:
            return
        with self._lock:
            self.count += 1
            due = self.count == self.number
        if due:
            if self.delay:
                threading.Thread(target=self._later, daemon=True).start()
            else:
                os.kill(os.getpid(), SIGNAL)

    def _later(self) -> None:
        time.sleep(self.delay)
        os.kill(os.getpid(), SIGNAL)

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.tick()
            result = function(*arguments)
            self.tick()
            return result

        return call


def main() -> None:
    number, delay, counted = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    sys.argv = ["preroot", *sys.argv[4:]]
    import preroot.image.write
    import preroot.staging
    from preroot.__main__ import main as run

    killer = Killer(number, delay)
    for module in (preroot.staging, preroot.image.write):
        vars(module)["write_all"] = killer.wrapped(vars(module)["write_all"])
    os.fsync = killer.wrapped(os.fsync)
    sys.addaudithook(killer.see)
    try:
        run()
    finally:
        killer.number = 0
        if not number:
            counted.write_text(str(killer.count))


if __name__ == "__main__":
    main()
