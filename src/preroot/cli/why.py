# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot why`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from preroot.cli.options import json_option, output_option, overrides_from, quiet_option, recipe_options
from preroot.cli.report import print_json, printable, reporter_for, say, style
from preroot.engine import Engine, Overrides
from preroot.inspect.why import Explanation, Step, WhyPath, index_of_manifest, index_of_plan, lookup, why
from preroot.tree.model import Reason, ReasonKind

#: chains that are shown without --all
_CHAINS = 5
#: characters of a reason's detail (an Exec line) that are shown
_LONGEST = 100
#: reason's kind → what its asker has to do with the path; {asker} and {detail} are filled in
PHRASES: dict[ReasonKind, str] = {
    "feature": "feature {asker} takes it ({detail})",
    "recipe": "the recipe names it ({detail})",
    "needed": "{asker} is linked to {detail}",
    "interpreter": "{asker} is run by it ({detail})",
    "dlopen": "{asker} loads it: {detail}",
    "plugin": "plugin of {asker} ({detail})",
    "configuration": "{asker} configures it ({detail})",
    "exec": "{asker} runs it: {detail}",
    "environment": "{asker} reads it: {detail}",
    "unit": "{asker} asks for it: {detail}",
    "generator": "{asker} refers to it: {detail}",
    "udev": "rule of {asker}: {detail}",
    "include": "{asker} includes it: {detail}",
    "symlink": "{asker} is a link to it",
    "parent": "directory of {asker}",
    "module": "module {asker} depends on it",
    "softdep": "module {asker} has it as a soft dependency ({detail})",
    "weakdep": "module {asker} may use it ({detail})",
    "firmware": "module {asker} names it as its firmware",
    "licence": "licence text of {detail}, which the {asker} asks for",
    "merged-usr": "a link of the merged /usr",
    "generated": "written by preroot: {detail}",
}


@click.command("why")
@click.argument("words", metavar="[RECIPE] PATH|MODULE|UNIT", nargs=-1, required=True)
@click.option("--image", type=click.Path(path_type=Path, dir_okay=False), metavar="IMAGE",
              help="Ask about a built image, by the manifest beside it.")  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help=f"Show all chains of reasons, not the {_CHAINS} shortest.")
@output_option
@recipe_options
@quiet_option
@json_option
def why_command(
    *, words: tuple[str, ...], image: Path | None, show_all: bool, output: Path, quiet: bool, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Show the chain of reasons for a path, a module or a unit, and which package it is from.

    Without --image the recipe (without one, the built-in recipe) is planned, and nothing is written.

    \b
    Examples:
      preroot why usr/bin/udevadm
      preroot why --image out/preroot.initrd btrfs
      preroot why my.toml initrd-switch-root.service
    """
    if len(words) > (1 if image else 2):
        raise click.UsageError("one PATH, MODULE or UNIT at a time" if image else "at most RECIPE and one PATH")
    recipe = Path(words[0]) if len(words) == 2 else None
    overrides = overrides_from(options)
    if image is not None:
        if overrides != Overrides():
            raise click.UsageError("options that change a recipe have no effect on a built image")
        index, where = _index_of_image(image), str(image)
    else:
        with Engine(reporter=reporter_for(quiet=quiet, json=as_json)) as engine:
            loaded = engine.load(recipe, overrides)
            plan = engine.plan(loaded, engine.lock(loaded, engine.lock_path(loaded, output), write=False))
        index, where = index_of_plan(plan), f"the image of {loaded.path}"
    found = why(index, lookup(index, words[-1], where))
    if as_json:
        print_json(found)
    else:
        for line in tree(found, index, None if show_all else _CHAINS):
            say(line)


def _index_of_image(image: Path) -> dict[str, WhyPath]:
    from preroot.engine import read_manifest
    from preroot.engine.building import output_names

    manifest = image if image.suffix == ".json" else output_names(image.stem, image.parent)["manifest"]
    return index_of_manifest(read_manifest(manifest))


def tree(found: Explanation, index: Mapping[str, WhyPath], limit: int | None) -> Iterator[str]:
    """Yield the lines that show an explanation: the path, below it each reason, and below that why its asker is there.

    `limit` is the number of chains that are shown, None for all.
    """
    yield f"{style(printable(found.path), 'cyan')}  {_owner(found.owner)}"
    shown = found.chains[:limit]
    rest = len(found.chains) - len(shown)
    for number, chain in enumerate(shown):
        last = number == len(shown) - 1 and not rest
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        for depth, step in enumerate(chain):
            lead = branch if depth == 0 else below + "   " * (depth - 1) + "└─ "
            yield lead + _phrase(step, index)
    if rest:
        yield f"└─ and {rest} more (--all)"


def phrase(reason: Reason) -> str:
    """Return a reason in words."""
    detail = reason.detail if len(reason.detail) <= _LONGEST else reason.detail[: _LONGEST - 1] + "…"
    text = PHRASES[reason.kind].format(asker=printable(reason.asker), detail=printable(detail))
    return text.replace(" ()", "").removesuffix(": ")


def _phrase(step: Step, index: Mapping[str, WhyPath]) -> str:
    reason = step.reason
    text = phrase(reason)
    asker = index.get(reason.asker)
    return f"{text}  {_owner(asker.owner)}" if asker and reason.kind not in ("parent", "symlink") else text


def _owner(owner: str) -> str:
    return style(f"[{printable(owner)}]", "bright_black")
