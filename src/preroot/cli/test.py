# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot test`: scenarios side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preroot.cli.options import json_option, overrides_from, quiet_option, recipe_options
from preroot.cli.report import print_json, reporter_for, say, style
from preroot.engine import Engine
from preroot.errors import BuildError

if TYPE_CHECKING:
    from preroot.engine.testing import ScenarioResult


@click.command()
@click.argument("scenarios", nargs=-1)
@click.option("--recipe", default=None, metavar="RECIPE", help="Lay scenarios over this recipe, not the built-in one.")
@click.option("--image", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=None,
              help="Boot this image, with kernel and manifest beside it, in all of them.")  # fmt: skip
@click.option("--all", "every", is_flag=True, help="Those as well that take long (marked matrix).")
@click.option("--list", "only_list", is_flag=True, help="Show what scenarios there are, and run none.")
@click.option("--jobs", type=click.IntRange(1), default=None, show_default="processors", help="Machines at once.")
@click.option("--logs", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Directory for images and logs.")  # fmt: skip
@recipe_options
@quiet_option
@json_option
def test_command(
    *, scenarios: tuple[str, ...], recipe: str | None, image: Path | None, every: bool, only_list: bool,
    jobs: int | None, logs: Path | None, quiet: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Run boot scenarios: images, disks, command lines, and what must be seen.

    SCENARIO is a topic (luks), one scenario (luks-passphrase), or a TOML file of your own (docs/test.md); without one,
    all topics run. One line each tells whether it holds, and how long it took.

    \b
    Examples:
      preroot test --list
      preroot test luks lvm-thin
      preroot test --recipe server.toml luks
      preroot test my-roots.toml --image out/server.initrd
    """
    from preroot.engine import testing

    overrides = overrides_from(options)
    with Engine(reporter=reporter_for(quiet=True, json=as_json)) as engine:
        chosen = testing.choose(scenarios, engine.workspace.search, matrix=every)
        if only_list:
            for each in chosen:
                say(f"{each.name:32}  {each.spec.summary}{'  (matrix)' if each.spec.matrix else ''}")
            return
        session = logs or testing.session_directory(engine.workspace)
        runner = testing.ScenarioRunner(engine, session, recipe=recipe, overrides=overrides,
                                        image=testing.built_image(image) if image else None)  # fmt: skip
        results = []
        for result in testing.run_all(runner, chosen, jobs or os.cpu_count() or 1):
            results.append(result)
            if not quiet and not as_json:
                _show(result)
    if as_json:
        print_json([{"name": each.name, "problems": each.problems, "seconds": round(each.seconds, 1),
                     "guest-seconds": [boot.guest_seconds for boot in each.boots]} for each in results])  # fmt: skip
    failed = [each.name for each in results if each.problems]
    if failed:
        raise BuildError(f"{len(failed)} of {len(results)} scenarios failed: {', '.join(failed)}",
                         f"logs are in {session}")  # fmt: skip


def _show(result: ScenarioResult) -> None:
    word = style("failed", "red") if result.problems else style("ok", "green")
    guest = ", ".join(f"{boot.guest_seconds:.1f}" for boot in result.boots if boot.guest_seconds is not None)
    say(f"{word:6} {result.name:32} {result.seconds:6.1f} s" + (f"  (guest {guest})" if guest else ""))
    for problem in result.problems:
        say(f"       {problem}")
