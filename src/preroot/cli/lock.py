# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot lock`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from preroot.cli.options import (
    json_option,
    output_option,
    overrides_from,
    quiet_option,
    recipe_argument,
    recipe_options,
)
from preroot.cli.report import print_json, reporter_for, say, table
from preroot.engine import Engine


@click.command("lock")
@recipe_argument
@output_option
@recipe_options
@click.option("--update", is_flag=True, help="Resolve all packages anew: the only way to newer versions.")
@quiet_option
@json_option
def lock_command(recipe: Path | None, output: Path, update: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Pin the exact packages of a recipe by digest.

    The lock lies beside the recipe (my.toml → my.lock), that of the built-in recipe in --output. One that fits is
    left as it is; one that lacks packages gets them and keeps the versions that it has.

    \b
    Examples:
      preroot lock my.toml
      preroot lock my.toml --update
    """
    overrides = overrides_from(options)
    with Engine(reporter=reporter_for(quiet=quiet, json=as_json)) as engine:
        loaded = engine.load(recipe, overrides)
        path = engine.lock_path(loaded, output)
        locked = engine.lock(loaded, path, update=update)
        if as_json:
            print_json({"lock": path, "packages": len(locked.lock.packages), "changes": locked.changes})
        elif not quiet:
            say(f"{path}: {len(locked.lock.packages)} packages")
            rows = [(name, before or "(new)", "→", after or "(gone)") for name, before, after in locked.changes]
            if rows:
                say(table(rows))
