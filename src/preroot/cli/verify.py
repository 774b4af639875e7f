# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preroot.cli.options import json_option, overrides_from, quiet_option, recipe_argument, recipe_options
from preroot.cli.report import plain_text, print_json, printable, reporter_for, say, style
from preroot.engine import Engine, Overrides

if TYPE_CHECKING:
    from preroot.engine import Verdict


@click.command("verify")
@click.argument("image", type=click.Path(path_type=Path, dir_okay=False))
@recipe_argument
@click.option("--lock", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Lock to build from; without one, the recipe's.")  # fmt: skip
@recipe_options
@quiet_option
@json_option
@click.pass_context
def verify_command(
    context: click.Context, /, *, image: Path, recipe: Path | None, lock: Path | None, quiet: bool, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Check that an image is what it is said to be.

    With IMAGE alone, an installed image is compared with the manifest beside it: its digest, and of every path the
    content, mode and owner; what is missing, what is there without having to be, and bytes before and behind it. Of
    secrets it is checked that they are there.

    With a RECIPE, a lock (without a RECIPE it is the built-in recipe's) or options that change a recipe, the image is
    built anew from the lock, offline where the cache has the packages, and compared with that.

    Exit status 1 if something is not as it should be.

    \b
    Examples:
      preroot verify /boot/server.initrd
      preroot verify out/server.initrd server.toml
      preroot verify out/preroot.initrd --lock out/preroot.lock
    """
    overrides = overrides_from(options)
    with Engine(reporter=reporter_for(quiet=quiet, json=as_json)) as engine:
        rebuild = recipe is not None or lock is not None or overrides != Overrides()
        verdict = engine.verify(image, engine.load(recipe, overrides) if rebuild else None, lock)
    if as_json:
        print_json(_as_data(verdict))
    else:
        _show(verdict, quiet=quiet)
    if verdict.findings:
        context.exit(1)


def _as_data(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as plain data; bytes of names that are no UTF-8 are escaped, as JSON can't have them."""
    from msgspec import structs

    findings = [
        {**structs.asdict(each), "path": plain_text(each.path), "text": plain_text(each.text)}
        for each in verdict.findings
    ]
    return {**structs.asdict(verdict), "findings": findings}


def _show(verdict: Verdict, *, quiet: bool) -> None:
    for finding in verdict.findings:
        about = ": ".join(each for each in (finding.part, printable(finding.path)) if each)
        say(f"{style('differs:', 'red')} {f'{about}: ' if about else ''}{printable(finding.text)}")
    if verdict.findings or not quiet:
        for note in verdict.notes:
            say(f"note: {note}", err=True)
    if not quiet:
        count = len(verdict.findings)
        how = f"{count} difference{'s' * (count > 1)} from" if count else style("as", "green")
        end = "" if verdict.findings else " says"
        say(f"{verdict.image}: {how} {verdict.against}{end} ({verdict.parts} parts, {verdict.paths} paths)")
        say(f"tree {verdict.tree_digest}")
