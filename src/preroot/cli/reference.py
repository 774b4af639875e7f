# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot features`, `preroot schema` and `preroot completion`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from preroot.cli import PROGRAM_COMPLETION, preroot_command
from preroot.cli.complete import feature_names
from preroot.cli.options import json_option
from preroot.cli.report import print_json, say, style, table

if TYPE_CHECKING:
    from preroot.recipe.features import Content, Feature, When


@click.command("features")
@click.argument("name", required=False, shell_complete=feature_names)
@json_option
def features_command(*, name: str | None, as_json: bool) -> None:
    """List the features, or show one: what it takes, its options, the command line that it understands.

    \b
    Examples:
      preroot features
      preroot features emergency-shell
    """
    from preroot.errors import RecipeError, nearest
    from preroot.recipe.library import load_features

    features = load_features()
    if name is None:
        known = {each: features[each] for each in features}
        if as_json:
            rows = [{"name": each, "summary": it.summary, "flavours": flavours(it)} for each, it in known.items()]
            print_json(rows)
        else:
            say(table([(each, ", ".join(flavours(it)), it.summary) for each, it in known.items()]))
        return
    if name not in features:
        raise RecipeError(f"there is no feature {name!r}", nearest(name, features) or "preroot features lists them")
    feature = features[name]
    if as_json:
        print_json({"name": name, "flavours": flavours(feature), **_as_data(feature)})
    else:
        _show(name, feature)


def flavours(feature: Feature) -> tuple[str, ...]:
    """Return the flavours that a feature has, those of its variants included."""
    return tuple(dict.fromkeys((*feature.flavours, *(v.when.flavour for v in feature.variant if v.when.flavour))))


def _as_data(feature: Feature) -> dict[str, object]:
    import msgspec

    data: dict[str, object] = msgspec.to_builtins(feature)
    data.pop("flavours", None)
    return data


def _show(name: str, feature: Feature) -> None:
    say(f"{style(name, 'cyan')}: {feature.summary}")
    say(f"\nflavours: {', '.join(flavours(feature))}")
    _show_content(feature, "")
    for variant in feature.variant:
        say(f"\nwhen {_when(variant.when)}:")
        if variant.replaces:
            say(f"  replaces {', '.join(variant.replaces)}")
        _show_content(variant, "  ")
    if feature.options:
        rows = []
        for key, option in feature.options.items():
            meaning = "; ".join(filter(None, (option.help, ", ".join(option.choices))))
            rows.append((key, option.type, _toml(option.default), meaning))
        say(f"\noptions ([features.{name}] in a recipe):")
        say(table(rows, ("name", "type", "default", "meaning")))


def _show_content(content: Content, indent: str) -> None:
    for word in ("requires", "recommends", "conflicts", "provides", "exitrd", "needs"):
        values = getattr(content, word)
        if values:
            say(f"{indent}{word}: {', '.join(values)}")
    for title, each in (
        ("takes", content.take),
        ("kernel modules", content.modules),
        ("kernel options", content.kernel_options),
    ):
        lists = _lists(each)
        if lists:
            say(f"{indent}{title}:")
            say("\n".join(f"{indent}  {key}: {', '.join(values)}" for key, values in lists))
    named = {
        "writes": [each.path for each in content.generate],
        "makes": [*(each.split()[0] for each in content.directory), *(each.path for each in content.link)],
        "users and groups": dict.fromkeys(
            [*(each.name for each in content.user), *(each.name for each in content.group)]
        ),
        "libraries loaded at run time": [f"{' | '.join(each.sonames)} (by {each.asker})" for each in content.dlopen],
        "refers to": [name for each in content.refers for name in (*each.units, *each.paths)],
        "points of the boot": [each.name for each in content.point],
        "may be missing": [f"{each.path} (for {each.asker})" for each in content.exceptions],
    }
    for title, names in named.items():
        if names:
            say(f"{indent}{title}: {', '.join(names)}")
    if content.cmdline:
        say(f"{indent}command line:")
        for option in content.cmdline:
            since = f" since {option.since}" if option.since else ""
            say(f"{indent}  {option.name}  ({option.by}{since}) {option.help}".rstrip())


def _lists(part: object) -> list[tuple[str, list[str]]]:
    """Return (key, values) of the lists in a table that are not empty; of alternatives, `a | b`."""
    import msgspec

    found = []
    for field in msgspec.structs.fields(part):  # type: ignore[arg-type]
        values = getattr(part, field.name)
        if values:
            found.append((field.encode_name, [" | ".join(v) if isinstance(v, tuple) else v for v in values]))
    return found


def _when(when: When) -> str:
    import msgspec

    data: dict[str, object] = msgspec.to_builtins(when)
    words = []
    for key, value in data.items():
        if isinstance(value, dict):
            words += [f"option {name} is {_toml(each)}" for name, each in value.items()]
        elif isinstance(value, list | tuple):
            words.append(f"{key} is {' or '.join(map(str, value))}")
        else:
            words.append(f"{key} {value}" if str(value)[:1] in "<>=!" else f"{key} is {value}")
    return " and ".join(words) or "always"


def _toml(value: object) -> str:
    import json

    return "" if value is None else json.dumps(value, ensure_ascii=False)


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of recipes, for editors that check and complete TOML.

    \b
    Example:
      preroot schema > recipe.schema.json
    """
    from preroot.recipe.reference import json_schema

    print_json(json_schema())


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(*, shell: str) -> None:
    """Print the script that makes a shell complete commands, options, features and keys of recipes.

    \b
    Examples:
      preroot completion bash > ~/.local/share/bash-completion/completions/preroot
      preroot completion zsh > ~/.zfunc/_preroot
      preroot completion fish > ~/.config/fish/completions/preroot.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, "click knows all shells of the choice"
    say(found(preroot_command, {}, "preroot", PROGRAM_COMPLETION).source())
