# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs preroot's command line, and writes each program that it starts to a file: audited.py LOG ARGUMENT…

One line a program, in JSON: the path that is executed, and the arguments. Python tells them by audit events
(https://docs.python.org/3/library/audit_events.html), whichever way the program is started.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STARTING = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")


def main() -> None:
    log = Path(sys.argv[1])
    sys.argv = ["preroot", *sys.argv[2:]]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in STARTING:
            program = arguments[0]
            words = arguments[1] if event != "os.system" else []
            with log.open("a") as file:
                json.dump([str(program), [os.fsdecode(word) for word in words]], file)  # type: ignore[attr-defined]
                file.write("\n")

    sys.addaudithook(hook)
    from preroot.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
