# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a recipe's command line the image would not understand, and which feature would.

The kernel has thousands of parameters, modules and the real root have more: what begins with `rd.` is for an initrd and
nobody else (dracut.cmdline(7), kernel-command-line(7)), and for the rest it is said only where some feature knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from preroot.errors import nearest
from preroot.recipe.cmdline import is_option, understood_by, words
from preroot.recipe.conditions import Chosen, compare
from preroot.recipe.features import Cmdline, Feature
from preroot.recipe.schema import Policy, Recipe


def cmdline_warnings(
    recipe: Recipe, chosen: Iterable[Chosen], features: Mapping[str, Feature], versions: Mapping[str, str]
) -> tuple[str, ...]:
    """Return a warning for each option of the recipe's `cmdline` that nothing understands, or that is taken away.

    Arguments: `features`, all that there are (read only where the chosen ones do not know an option); `versions` of
    packages, which an entry's `since` is compared with.
    """
    own = [entry for each in chosen for entry in each.content.cmdline]
    names = dict.fromkeys(word.name for text in recipe.cmdline for word in words(text))
    found = []
    for name in names:
        mine = [entry for entry in own if is_option(name, entry.name)]
        if mine:
            found += _taken_away(name, mine, recipe.access.policy) or _too_old(name, mine, versions)
        else:
            found += _not_understood(name, features)
    return tuple(found)


def _taken_away(name: str, entries: Sequence[Cmdline], policy: Policy) -> list[str]:
    """Say why an option is taken off the command line whatever its value is."""
    if policy != "open" and any(each.widens_access for each in entries):
        return [f"{name} of the recipe's cmdline has no effect: it could give a shell, and access.policy is {policy}"]
    if all(each.ignored for each in entries):
        return [f"{name} of the recipe's cmdline has no effect: {entries[0].ignored}"]
    return []


def _too_old(name: str, entries: Sequence[Cmdline], versions: Mapping[str, str]) -> list[str]:
    """Say when all that implement an option are newer than what the image has of them."""
    version = versions.get("systemd", "")
    newer = [each.since for each in entries if each.by == "systemd" and version
             and not compare(version, f">={each.since}")]  # fmt: skip
    if len(newer) < len(entries):
        return []
    since = min(newer)
    return [f"{name} of the recipe's cmdline has no effect: systemd has it since {since}, and the image has {version}"]


def _not_understood(name: str, features: Mapping[str, Feature]) -> list[str]:
    entries = [
        (feature, entry) for feature in features
        for content in (features[feature], *features[feature].variant) for entry in content.cmdline
    ]  # fmt: skip
    early = name.startswith("rd.")
    # systemd.* and the like are also for the real root
    knowing = understood_by(name, (each for each in entries if early or "*" not in each[1].name))
    if knowing:
        others = f"add {' or '.join(repr(each) for each in knowing)} to the features of a part"
        what = "feature" if len(knowing) == 1 else "features"
        return [f"{name} of the recipe's cmdline has no effect: the {what} {', '.join(knowing)} would understand it "
                f"({others})"]  # fmt: skip
    if not early:
        return []
    known = {entry.name for _, entry in entries if "*" not in entry.name}
    hint = nearest(name, known) or "docs/cmdline.md lists what there is"
    return [f"{name} of the recipe's cmdline has no effect: no feature understands it ({hint})"]
