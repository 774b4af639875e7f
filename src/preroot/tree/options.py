# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks a kernel's configuration against what an image relies on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from preroot.errors import BuildError
from preroot.facts.options import builtin_by_config, option_of, unfulfilled
from preroot.recipe.conditions import Chosen
from preroot.tree.modules import MissingModule


class OptionWish(Struct, frozen=True):
    """One option that somebody relies on; what it may be: facts.options.unfulfilled."""

    option: str
    asker: str
    required: bool = True


def option_wishes(chosen: Iterable[Chosen], *, has_modules: bool) -> Iterator[OptionWish]:
    """Yield what an image with these features relies on; `has_modules`: with any kernel modules in it."""
    yield OptionWish("BLK_DEV_INITRD", "an image of any kind")
    if has_modules:
        yield OptionWish("MODULES", "the modules of the image")
    for feature in chosen:
        options = feature.content.kernel_options
        yield from (OptionWish(each, f"feature {feature.name}") for each in options.required)
        yield from (OptionWish(each, f"feature {feature.name}", required=False) for each in options.recommended)


def check_options(
    version: str, config: Mapping[str, str], wishes: Iterable[OptionWish], modules: Collection[str]
) -> tuple[str, ...]:
    """Return warnings about options that are recommended and not fulfilled.

    Arguments: the kernel's release and configuration, the wishes, the modules in the image. Raises BuildError with a
    line for each option that is required.
    """
    asked: dict[tuple[str, bool], list[str]] = {}
    for wish in wishes:
        why = unfulfilled(config, wish.option, modules)
        if why:
            asked.setdefault((why, wish.required), []).append(wish.asker)
    hard = [
        f"kernel {version}: {why}; needed by {', '.join(who)}" for (why, required), who in asked.items() if required
    ]
    if hard:
        raise BuildError("\n".join(hard), "choose another kernel, or build it with these options")
    soft = [f"{why} ({', '.join(who)})" for (why, required), who in asked.items() if not required]
    return (f"kernel {version} lacks what features recommend: {'; '.join(soft)}",) if soft else ()


def without_list(config: Mapping[str, str], modules: Collection[str]) -> dict[str, str]:
    """Return what is built into a kernel that has no modules.builtin: name → '' (its path is not known).

    As far as the configuration says it; `modules` are what the kernel has as modules.
    """
    return {name: "" for name in builtin_by_config(config) if name not in modules}


def check_builtin(
    version: str, config: Mapping[str, str], missing: Sequence[MissingModule], *, listed: bool
) -> tuple[str, ...]:
    """Return warnings about modules of which it can't be told whether a kernel without modules has them built in.

    Arguments: the kernel's release and configuration ({}: unknown); what was asked for and is not known to be built in;
    whether the kernel lists what is (modules.builtin). Raises BuildError with a line for each that surely is not.
    """
    problems, unknown = [], []
    for each in missing:
        names = each.spec.split(" or ")
        options = [option_of(name) for name in names]
        if listed:
            problems.append((each, "is not built in (modules.builtin)"))
        elif config and all(options):
            states = ", ".join(f"CONFIG_{option} is {config.get(option, 'not set')}" for option in options)
            problems.append((each, f"is not built in: {states}"))
        else:
            unknown.append(f"{each.spec} ({each.asker})")
    if problems:
        lines = [f"kernel {version}, without modules: {each.spec}, wanted by {each.asker}, {why}"
                 for each, why in problems]  # fmt: skip
        raise BuildError("\n".join(lines), "leave the feature out, or build it in")
    if not unknown:
        return ()
    source = "its configuration does not say it of these" if config else "it has no configuration either"
    return (f"kernel {version} has no modules.builtin, and {source}, so they may or may not be built in: "
            f"{', '.join(unknown)}",)  # fmt: skip
