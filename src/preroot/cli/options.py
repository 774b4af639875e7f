# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options that several commands share, and how they become what the engine takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from preroot.cli.complete import feature_names, recipe_keys
from preroot.recipe.load import Overrides

_F = TypeVar("_F", bound=Callable[..., Any])

_RECIPE_OPTIONS = (
    click.option("--layout", default="", metavar="L", help="Layout: initrd."),
    click.option("--format", "formats", multiple=True, metavar="PART=F", help="Format of a part (base=cpio)."),
    click.option(
        "--feature",
        "features",
        multiple=True,
        metavar="F",
        shell_complete=feature_names,
        help="Add a feature to part base; -F refuses it.",
    ),
    click.option(
        "--kernel", default="", metavar="VERSION", help="Kernel release; its lock and image are named after it."
    ),
    click.option("--kernel-module", "kernel_modules", multiple=True, metavar="M", help="Add a kernel module."),
    click.option("--allow-secrets", is_flag=True, help="Allow secrets in an image that is meant to be signed."),
    click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=recipe_keys,
        help="Set any value of the recipe.",
    ),
)

output_option = click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default="this directory",
    help="Directory for image, manifest and kernel.",
)  # fmt: skip
recipe_argument = click.argument("recipe", type=click.Path(path_type=Path), required=False)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Say nothing but warnings and errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def recipe_options(command: _F) -> _F:
    """Add the options that change a recipe's values."""
    for option in reversed(_RECIPE_OPTIONS):
        command = option(command)
    return command


def overrides_from(options: dict[str, Any]) -> Overrides:
    """Take the recipe options out of a command's arguments and return them as overrides."""
    sets = list(options.pop("sets"))
    if options.pop("allow_secrets"):
        sets.append("signing.allow-secrets=true")
    return Overrides(
        set=tuple(sets),
        features=tuple(options.pop("features")),
        kernel=options.pop("kernel"),
        kernel_modules=tuple(options.pop("kernel_modules")),
        layout=options.pop("layout"),
        formats=tuple(options.pop("formats")),
    )
