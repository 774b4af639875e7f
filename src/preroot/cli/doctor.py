# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot doctor`."""

from __future__ import annotations

import click

from preroot.cli.options import json_option, quiet_option
from preroot.cli.report import print_json, say, style


@click.command("doctor")
@quiet_option
@json_option
@click.pass_context
def doctor_command(context: click.Context, /, *, quiet: bool, as_json: bool) -> None:
    """Check which tools are there, and what is missing for what.

    Exit status 1 if something is missing without which no image can be built. What only some commands use is named
    as missing, and is no failure. With --quiet only what is missing is shown.

    \b
    Examples:
      preroot doctor
      preroot doctor --quiet
    """
    from preroot.engine import default_workspace
    from preroot.engine.doctor import examine
    from preroot.recipe.schema import Distribution

    checks = list(examine(default_workspace(), Distribution()))
    if as_json:
        print_json(checks)
    else:
        width = max(len(each.name) for each in checks)
        for each in checks:
            if each.good and quiet:
                continue
            mark, colour = ("ok", "green") if each.good else ("missing", "red") if each.needed else ("no", "yellow")
            hint = f": {each.hint}" if each.hint and not each.good else ""
            say(f"{style(f'{mark:<7}', colour)}  {each.name:<{width}}  {each.purpose} ({each.found}{hint})")
    if any(each.needed and not each.good for each in checks):
        context.exit(1)
