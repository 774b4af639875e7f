# SPDX-License-Identifier: LGPL-2.1-or-later
"""The entry of the command line: a build that would change nothing is answered before anything heavy is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit status 0 done, 1 the build or boot failed, 2 the recipe or the command is wrong."""
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["build"]:
            from preroot.cache import default_cache
            from preroot.unchanged import recall

            said = recall(default_cache(), arguments)
            if said is not None:
                sys.stdout.write(said)
                return
        from preroot.cli import run_command_line
    except KeyboardInterrupt:  # later ones are the command line's
        sys.exit(130)
    sys.exit(run_command_line(arguments))


if __name__ == "__main__":
    main()
