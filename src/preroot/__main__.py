# SPDX-License-Identifier: LGPL-2.1-or-later
"""The entry of the command line: a build that would change nothing is answered before anything heavy is imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; exit status 0 done, 1 the build or boot failed, 2 the recipe or the command is wrong."""
    arguments = sys.argv[1:]
    try:
        _open_standard_streams()
        # nothing that a build makes is for everybody to change, least of all what the next one takes from the cache
        os.umask(os.umask(0o077) | 0o002)
        if arguments[:1] == ["build"] and (said := _nothing_changed(arguments)) is not None:
            sys.exit(_say(said))
        from preroot.cli import run_command_line
    except KeyboardInterrupt:  # later ones are the command line's
        sys.exit(130)
    sys.exit(run_command_line(arguments))


def _nothing_changed(arguments: list[str]) -> str | None:
    from preroot.cache import default_cache
    from preroot.errors import BuildError
    from preroot.unchanged import recall

    try:
        return recall(default_cache(), arguments)
    except BuildError:  # of the cache: the command line says so
        return None


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        from preroot.cli import output_failed

        return output_failed(error)
    return 0


def _open_standard_streams() -> None:
    """Let standard streams that are closed (`>&-`) lead nowhere: else the next file that is opened gets their number,
    and a program that we run writes into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free (open(2)), which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


if __name__ == "__main__":
    main()
