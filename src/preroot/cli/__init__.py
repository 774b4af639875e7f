# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: parses and prints; everything else is the engine's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import preroot
from preroot.errors import PrerootError

#: Command → where it is; a module is imported when its command is used.
_COMMANDS = {
    "build": ("build", "Build an image, with its manifest and lock."),
    "plan": ("plan", "Show every decision of a build; write nothing."),
    "lock": ("lock", "Pin the exact packages of a recipe by digest."),
    "boot": ("boot", "Boot an image in QEMU against a real root, and say how far it got."),
    "why": ("why", "Show the chain of reasons for a path, a module or a unit."),
    "ls": ("inspect", "List what is in an image."),
    "diff": ("inspect", "Show the differences between two images."),
    "features": ("reference", "List the features, or show one."),
    "schema": ("reference", "Print the JSON Schema of recipes."),
    "completion": ("reference", "Print the completion script for a shell."),
    "doctor": ("doctor", "Check which tools are there, and what is missing for what."),
    "store": ("store", "Look after the cache of unpacked packages."),
}


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
        from preroot.errors import nearest

        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"unknown command {args[0]!r}; {nearest(args[0], _COMMANDS) or 'see preroot --help'}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(preroot.__version__, "--version", prog_name="preroot")
def preroot_command() -> None:
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


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status. Errors of the user are one line on standard error each."""
    try:
        preroot_command.main(args=list(arguments), prog_name="preroot", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("preroot: interrupted", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; Python would complain when it flushes
        return 1
    except PrerootError as error:
        return _fail(error)
    return 0


def _fail(error: PrerootError) -> int:
    from preroot.cli.report import style

    for line in error.message.splitlines():
        click.echo(f"{style('error:', 'red', err=True)} {line}", err=True)
    if error.hint:
        click.echo(f"{style('hint:', 'cyan', err=True)}  {error.hint}", err=True)
    return error.exit_code


def print_json(value: Any) -> None:
    """Print a value as JSON, indented, as `--json` does everywhere."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode())
