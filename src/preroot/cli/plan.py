# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot plan`."""

from __future__ import annotations

from collections.abc import Sequence
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
from preroot.cli.report import megabytes, print_json, reporter_for, say, table
from preroot.cli.size import as_data, by_option, show
from preroot.engine import Engine
from preroot.image.content import ContentReader
from preroot.inspect.size import Grouping, groups, sizes_of_plan
from preroot.recipe.load import LoadedRecipe, explain
from preroot.tree.bill import Bill, bills
from preroot.tree.model import Plan
from preroot.tree.unexplained import Unexplained

#: bytes; smaller bills are in --json only
_BILLED = 1_000_000


@click.command("plan")
@recipe_argument
@output_option
@recipe_options
@click.option("--explain", "show_values", is_flag=True, help="Show every value of the recipe and where it came from.")
@click.option("--left-out", is_flag=True, help="Show what was not taken, and why.")
@click.option(
    "--unexplained", is_flag=True, help="Show what looks like the name of a library and is not known to be none."
)
@click.option("--size", is_flag=True, help="Show which packages the bytes come from, or what --by says.")
@by_option
@quiet_option
@json_option
def plan_command(recipe: Path | None, output: Path, quiet: bool, as_json: bool, **options: Any) -> None:
    """Show every decision of a build; write no image and no lock.

    \b
    Examples:
      preroot plan
      preroot plan my.toml --explain
      preroot plan --left-out --size
      preroot plan --by feature --by directory
      preroot plan --unexplained
    """
    by: tuple[Grouping, ...] = options.pop("by") or (("package",) if options["size"] else ())
    views = {name: options.pop(name) for name in ("show_values", "left_out", "unexplained", "size")}
    views["size"] = bool(by)
    with Engine(reporter=reporter_for(quiet=quiet, json=as_json)) as engine:
        loaded = engine.load(recipe, overrides_from(options))
        locked = engine.lock(loaded, engine.lock_path(loaded, output), write=False)
        plan = engine.plan(loaded, locked)
        scanned = as_json or views["unexplained"]
        unexplained = engine.scan(loaded, locked, plan).unexplained if scanned else ()
        # kinds are told by contents
        sizes = sizes_of_plan(plan, ContentReader(engine.store).read if "kind" in by else None) if by else None
    found = {each: groups(sizes, each) for each in by} if sizes else {}
    if as_json:
        data = _as_data(plan, loaded, unexplained)
        print_json(data if sizes is None else data | {"sizes": as_data(sizes, found)})
        return
    if views["show_values"]:
        say(table(explain(loaded), ("value", "", "from")))
    if views["left_out"]:
        say(table([(each.what, f"asked for by {each.asker}", each.reason) for each in plan.left_out]))
    if views["unexplained"]:
        say(table([(each.soname, f"in /{each.path}", each.owner) for each in unexplained]) or "all is explained")
    if sizes is not None:
        show(sizes, found, None)
    if not any(views.values()):
        _summary(plan)


def _summary(plan: Plan) -> None:
    kernel = plan.kernel
    rows = [("recipe", plan.name), ("layout", plan.layout), ("packages", str(len(plan.lock.packages)))]
    if kernel is not None:
        rows.append(("kernel", f"{kernel.version} ({len(kernel.modules)} modules)"))
    for part in plan.parts:
        entries = part.tree.entries.values()
        if not entries:
            continue
        size = megabytes(sum(entry.size for entry in entries))
        rows.append((f"part {part.name}", f"{part.flavour}, {len(entries)} paths, {size}, {part.codec} {part.level}"))
        if part.features:
            rows.append(("", ", ".join(part.features)))
        rows += [
            ("", _bill(each))
            for each in bills(part.tree)
            if part.name == "modules" and each.module_bytes + each.firmware_bytes >= _BILLED
        ]
    if plan.cmdline:
        rows.append(("cmdline", " ".join(plan.cmdline)))
    rows.append(("left out", f"{len(plan.left_out)} (--left-out)"))
    say(table(rows))
    for warning in plan.warnings:
        say(f"warning: {warning}", err=True)


def _bill(bill: Bill) -> str:
    """Return what a feature's drivers cost, in words."""
    modules = f"{bill.modules} modules {megabytes(bill.module_bytes)}" if bill.modules else ""
    firmware = f"{bill.firmware} firmware files {megabytes(bill.firmware_bytes)}" if bill.firmware else ""
    return f"for {bill.feature} alone: " + ", ".join(filter(None, (modules, firmware)))


def _as_data(plan: Plan, loaded: LoadedRecipe, unexplained: Sequence[Unexplained]) -> dict[str, object]:
    """Return the plan as plain data: entries without their contents."""
    from preroot.image.manifest import manifest_entry

    return {
        "name": plan.name,
        "layout": plan.layout,
        "values": [{"key": key, "value": value, "from": origin} for key, value, origin in explain(loaded)],
        "packages": plan.lock.packages,
        "kernel": plan.kernel and {"version": plan.kernel.version, "modules": plan.kernel.modules},
        "parts": [
            {
                "name": part.name, "flavour": part.flavour, "features": part.features, "format": part.format,
                "codec": part.codec, "level": part.level,
                "entries": [manifest_entry(entry) for entry in part.tree.entries.values()],
            }
            for part in plan.parts
        ],
        "bills": [each for part in plan.parts if part.name == "modules" for each in bills(part.tree)],
        "left-out": plan.left_out,
        "unexplained": unexplained,
        "warnings": plan.warnings,
    }  # fmt: skip
