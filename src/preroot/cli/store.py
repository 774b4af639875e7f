# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot store gc` and `preroot store verify`."""

from __future__ import annotations

import click

from preroot.cli import COMMAND_METAVAR, need_command
from preroot.cli.options import json_option, quiet_option
from preroot.cli.report import megabytes, print_json, say
from preroot.engine import Engine

_DAY = 24 * 3600


@click.group("store", invoke_without_command=True, subcommand_metavar=COMMAND_METAVAR)
@click.pass_context
def store_command(context: click.Context, /) -> None:
    """Look after the cache of unpacked packages.

    All that is in it can be made again: a lock and a network suffice.

    \b
    Examples:
      preroot store gc --older-than 7
      preroot store verify
    """
    need_command(context)


@store_command.command("gc")
@click.option("--older-than", type=click.FloatRange(min=0), default=30.0, metavar="DAYS", show_default=True,
              help="Remove what was not used for so many days.")  # fmt: skip
@quiet_option
@json_option
def gc_command(*, older_than: float, quiet: bool, as_json: bool) -> None:
    """Remove what was not used for a while: unpacked packages, package files, disks and logs of machines.

    \b
    Example:
      preroot store gc --older-than 0
    """
    with Engine() as engine:
        result = engine.clean(older_than * _DAY)
    if as_json:
        print_json(result)
    elif not quiet:
        say(f"{result.removed} entries removed, {result.kept} kept, {megabytes(result.freed)} freed")


@store_command.command("verify")
@quiet_option
@json_option
@click.pass_context
def verify_command(context: click.Context, /, *, quiet: bool, as_json: bool) -> None:
    """Check every digest in the store. What is damaged is removed, and made again when it is needed.

    Exit status 1 if something was damaged.
    """
    with Engine() as engine:
        damaged = engine.store.verify()
    if as_json:
        print_json({"damaged": damaged})
    elif not quiet or damaged:
        for each in damaged:
            say(f"damaged, removed: {each}")
        if not quiet:
            say(f"{len(damaged)} damaged entries")
    if damaged:
        context.exit(1)
