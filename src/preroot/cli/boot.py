# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot boot`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preroot.cli.options import json_option, overrides_from, quiet_option, recipe_options
from preroot.cli.report import megabytes, print_json, reporter_for, say, style
from preroot.engine import Engine, Overrides
from preroot.errors import BuildError
from preroot.scratch import scratch

if TYPE_CHECKING:
    from preroot.boot.platforms import Bus
    from preroot.engine import BootOptions, Proof

#: where the context keeps what stands behind `--`
_CMDLINE = "preroot.cmdline"


class _TakesCmdline(click.Command):
    """A command that takes what stands behind `--` as it is, also where the argument before it is left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_CMDLINE] = " ".join(args[place + 1 :])
        return super().parse_args(ctx, args[:place])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- CMDLINE...]"]


@click.command("boot", cls=_TakesCmdline)
@click.argument("what", metavar="[RECIPE|IMAGE]", required=False, type=click.Path(path_type=Path))
@click.option("--root", default="ext4", metavar="FS", show_default=True,
              help="Root to boot into: ext4, xfs, btrfs, squashfs, erofs; debian: a whole, small Debian.")  # fmt: skip
@click.option("--bus", type=click.Choice(["virtio", "nvme", "sata", "usb", "scsi", "mmc"]), default="virtio",
              show_default=True, help="How the root's disk is attached.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=180.0, metavar="S", show_default=True,
              help="Seconds until the machine is stopped.")  # fmt: skip
@click.option("--memory", type=click.IntRange(min=16), default=1024, metavar="MB", show_default=True,
              help="The machine's memory, in MiB.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg",
              help="Write the timeline as a picture.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Directory for the image of a recipe; without it, the image is not kept.")  # fmt: skip
@recipe_options
@quiet_option
@json_option
@click.pass_context
def boot_command(
    context: click.Context, /, *, what: Path | None, root: str, bus: Bus, timeout: float, memory: int,
    plot: Path | None, output: Path | None, quiet: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Boot an image in QEMU against a real root, and say how far it got.

    An IMAGE is booted with the kernel and the manifest beside it, a RECIPE (without one, the built-in recipe) is
    built first. The root is made on the spot; its init prints a random token, so that nothing else can pass for it.
    What stands behind -- is added to the kernel's command line.

    \b
    Examples:
      preroot boot
      preroot boot out/preroot.initrd --root xfs --plot boot.svg
      preroot boot my.toml --memory 512 -- systemd.log_level=debug
      preroot boot --root debian
    """
    from preroot.engine import BootOptions

    overrides = overrides_from(options)
    how = BootOptions(root=root, bus=bus, timeout=timeout, memory=memory, cmdline=context.meta[_CMDLINE])
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(reporter=reporter_for(quiet=quiet, json=as_json)))
        if what is not None and what.suffix != ".toml" and what.is_file():
            if overrides != Overrides() or output is not None:
                raise click.UsageError(f"{what} is built already: options that change a recipe have no effect on it")
            proof = engine.boot(what, how)
        else:
            proof = _boot_recipe(engine, what, overrides, output=output, how=how, stack=stack)
    if plot is not None:
        _plot(plot, proof)
    if as_json:
        print_json({"problems": proof.problems, "cmdline": proof.cmdline, "system": proof.system,
                    **_as_data(proof)})  # fmt: skip
    elif not quiet:
        _show(proof)
    if proof.problems:
        raise failure(proof)


def _boot_recipe(
    engine: Engine, recipe: Path | None, overrides: Overrides, *, output: Path | None, how: BootOptions,
    stack: ExitStack,
) -> Proof:  # fmt: skip
    loaded = engine.load(recipe, overrides)
    if output is None:
        # below it: the directory itself is locked by its owner, and so is that of a file while it is written
        output = stack.enter_context(scratch("boot")) / "built"
    result = engine.build(loaded, output)
    return engine.boot(result.image, how, loaded.recipe.distribution)


def _as_data(proof: Proof) -> dict[str, object]:
    """Return a boot's result as plain data."""
    from msgspec import structs

    return structs.asdict(proof.result)


def _show(proof: Proof) -> None:
    from preroot.boot import timeline

    result = proof.result
    say(timeline.table(timeline.rows(result.milestones)), nl=False)
    say(f"serial console: {result.log}")
    if not proof.problems:
        used = f", {megabytes(result.used_memory * 1024)} of memory in use" if result.used_memory is not None else ""
        took = f" after {result.guest_seconds:.2f} s" if result.guest_seconds is not None else ""
        say(f"{style('the root was reached', 'green')}{took}{used}: {' '.join(result.mount[:2])}")
        if proof.system is not None:
            say(f"the root's systemd is {proof.system.state}, no unit has failed")


def failure(proof: Proof) -> BuildError:
    """Return the error for a boot that went wrong: what, how far it came, the failed units, and the likely cause."""
    result = proof.result
    lines = list(proof.problems)
    if not result.reached:
        last = result.milestones[-1] if result.milestones else None
        at = "" if last is None or last.seconds is None else f" at {last.seconds:.1f} s"
        lines.append(f"the last milestone was {last.name}{at}" if last else "no milestone was seen")
        lines += [f"unit {unit.name} failed: {unit.why}" for unit in result.failed_units]
        if result.cause:
            lines.append(f"likely cause: {result.cause}")
    return BuildError("\n".join(lines), f"the serial console is in {result.log}")


def _plot(target: Path, proof: Proof) -> None:
    from preroot.boot import timeline
    from preroot.engine.building import write_file

    picture = timeline.svg(timeline.rows(proof.result.milestones), f"Boot of {proof.result.name}")
    write_file(target, picture.encode())
