# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: parses and prints; everything else is the engine's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import click

import preroot
from preroot.errors import BuildError, PrerootError, RecipeError, nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Command → where it is; a module is imported when its command is used.
_COMMANDS = {
    "build": ("build", "Build an image, with its manifest and lock."),
    "plan": ("plan", "Show every decision of a build; write nothing."),
    "lock": ("lock", "Pin the exact packages of a recipe by digest."),
    "boot": ("boot", "Boot an image in QEMU against a real root, and say how far it got."),
    "test": ("test", "Run boot scenarios side by side: images, disks, command lines, what must be seen."),
    "sbom": ("sbom", "Write what is in an image as an SBOM: SPDX or CycloneDX."),
    "verify": ("verify", "Check an image against its manifest, or against one that is built anew."),
    "why": ("why", "Show the chain of reasons for a path, a module or a unit."),
    "size": ("size", "Show where the bytes of an image are."),
    "ls": ("inspect", "List what is in an image."),
    "diff": ("inspect", "Show the differences between two images."),
    "features": ("reference", "List the features, or show one."),
    "schema": ("reference", "Print the JSON Schema of recipes."),
    "completion": ("reference", "Print the completion script for a shell."),
    "doctor": ("doctor", "Check which tools are there, and what is missing for what."),
    "store": ("store", "Look after the cache of unpacked packages."),
}

#: set by the completion scripts of click; it says which shell asks
PROGRAM_COMPLETION = "_PREROOT_COMPLETE"

#: how a group's usage names what follows
COMMAND_METAVAR = "COMMAND [ARGS]..."


class _LazyGroup(click.Group):
    """A group whose commands are imported one at a time: start-up counts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"preroot.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        if args and args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise RecipeError(f"unknown command {args[0]!r}", nearest(args[0], _COMMANDS) or "see preroot --help")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    subcommand_metavar=COMMAND_METAVAR,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(preroot.__version__, "--version", prog_name="preroot")
@click.pass_context
def preroot_command(context: click.Context, /) -> None:
    """Build the early userspace of Linux from distribution packages, and prove it by booting it.

    \b
    Examples:
      preroot build                      the built-in recipe: Debian trixie, systemd, for virtual machines
      preroot boot                       the same, and then booted in QEMU
      preroot build my.toml --feature btrfs --output out
      preroot plan my.toml --explain     every value, and the file that it came from
      preroot why usr/bin/udevadm        what asked for it, and which package has it

    Exit status: 0 done, 1 the build or the boot failed, 2 the recipe or the command is wrong.
    """
    need_command(context)


def need_command(context: click.Context) -> None:
    """Show the help of a group of commands that was called without one, and end with exit status 2."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. Errors of the user are one line on standard error each.

    Besides 0, 1 and 2: 130 and 143 after an interrupt or a request to end, 141 when the reader of standard output has
    gone, as a shell reports them of other programs.
    """
    import signal

    from preroot.cli.report import OutputError

    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) == signal.SIG_DFL:  # nohup(1) ignores SIGHUP, and that shall stay so
            signal.signal(each, _end)
    try:
        status = _run(arguments)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "preroot"
        status = _fail(RecipeError(error.format_message(), f"see {command} --help"))
    except (click.Abort, KeyboardInterrupt):
        status = _fail(BuildError("interrupted")) and 128 + signal.SIGINT
    except OutputError as error:
        status = output_failed(error.cause)
    except PrerootError as error:
        status = _fail(error)
    except BrokenPipeError as error:  # from click's own output: --help, --version
        status = output_failed(error)
    return status


def output_failed(error: OSError) -> int:
    """Return the exit status for standard output that can't be written, having told why, unless its reader has gone
    (`| head`): then there is nothing to complain about."""
    import signal

    from preroot.cli.report import OutputError, drop_output

    drop_output()
    return 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else _fail(OutputError(error))


def _run(arguments: Sequence[str]) -> int:
    if PROGRAM_COMPLETION in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(preroot_command, {}, "preroot", PROGRAM_COMPLETION, os.environ[PROGRAM_COMPLETION])
    try:
        with preroot_command.make_context("preroot", list(arguments), obj=tuple(arguments)) as context:
            preroot_command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _end(number: int, _: object) -> None:
    """End as after an exception, so that what was begun is cleaned up (machines, temporary files)."""
    raise SystemExit(128 + number)


def _fail(error: PrerootError) -> int:
    from preroot.cli.report import say, style

    for line in error.message.splitlines():
        say(f"{style('error:', 'red', err=True)} {line}", err=True)
    if error.hint:
        say(f"{style('hint:', 'cyan', err=True)}  {error.hint}", err=True)
    return error.exit_code
