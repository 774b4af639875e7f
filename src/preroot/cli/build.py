# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from msgspec import structs

from preroot.cli.options import (
    json_option,
    output_option,
    overrides_from,
    quiet_option,
    recipe_argument,
    recipe_options,
)
from preroot.cli.report import megabytes, print_json, reporter_for, say
from preroot.engine import BuildResult, Engine
from preroot.unchanged import Stamp, Watch, remember, stamp


@click.command("build")
@recipe_argument
@output_option
@recipe_options
@click.option(
    "--locked", is_flag=True, help="Use the lock as it is; fail where it does not fit, or other bytes may come out."
)
@click.option("--sbom", "sboms", multiple=True, type=click.Choice(["spdx", "cyclonedx"]),
              help="Write an SBOM beside the image, too.")  # fmt: skip
@quiet_option
@json_option
@click.pass_obj
def build_command(
    arguments: tuple[str, ...], /, *, recipe: Path | None, output: Path, locked: bool, sboms: tuple[str, ...],
    quiet: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Build an image, with its manifest and lock.

    RECIPE is a TOML file, or the name of a recipe in the search path; without one, the built-in recipe is built:
    Debian trixie, amd64, linux-image-cloud-amd64, systemd.

    \b
    Examples:
      preroot build --output out
      preroot build my.toml --locked --sbom spdx --sbom cyclonedx
      preroot build --feature -btrfs --set compression.level=19
      preroot build my.toml --kernel 6.12.117+deb13-amd64
      preroot build --kernel-module e1000e --kernel-module drivers/net/
    """
    watch = Watch()
    if sboms:
        listed = ", ".join(f'"{each}"' for each in sboms)
        options["sets"] = (*options["sets"], f"output.sbom=[{listed}]")
    overrides = overrides_from(options)
    with Engine(reporter=reporter_for(quiet=quiet, json=as_json)) as engine:
        loaded = engine.load(recipe, overrides)
        result = engine.build(loaded, output, frozen=locked)
        _show(result, quiet=quiet, as_json=as_json)
        said = "" if quiet or as_json else f"{result.image}: nothing has changed\n"
        if not as_json:
            note = watch.note({**result.consulted, **_libraries()}, result.written, said)
            remember(engine.workspace.cache, arguments, note)


def _show(result: BuildResult, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        data = structs.asdict(_without_traces(result) if result.secret else result)
        del data["consulted"], data["written"]  # some two hundred paths: for programs that call the engine
        print_json(data)
    elif not quiet:
        parts = ", ".join(f"{part.name} {megabytes(part.size)}" for part in result.parts)
        say(f"{result.image}: {megabytes(result.size)} ({parts})")
        say(f"tree {result.tree_digest}")
    if result.secret:
        say(f"{result.image} has a secret inside: it is readable by its owner only (0600)", err=True)


def _without_traces(result: BuildResult) -> BuildResult:
    """Return the result without what tells of a secret inside: who knows all else could try secrets on a digest."""
    return structs.replace(
        result, sha256="", parts=tuple(structs.replace(part, uncompressed=0) for part in result.parts)
    )


def _libraries() -> dict[Path, Stamp]:
    """Return the directory that Python's packages lie in: installing another version of one changes its time."""
    import msgspec

    directory = Path(msgspec.__file__).parent.parent
    return {directory: stamp(directory)}
