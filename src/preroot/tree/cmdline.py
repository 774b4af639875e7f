# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table by which an image translates its command line: shell functions made of features' [[cmdline]]. Pure.

runtime/helpers/cmdline.sh says what calls them. They are made here, and not read there, because a shell reads a file
byte by byte, and runs a `case` as fast as it can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from shlex import quote

from preroot.recipe.cmdline import template, translates
from preroot.recipe.features import Cmdline
from preroot.recipe.schema import Policy

#: where the table is in an image
TABLE_PATH = "usr/lib/preroot/cmdline-table"

_HEAD = """\
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh disable=SC1003,SC2016,SC2154,SC2221,SC2222
# Made from the [[cmdline]] tables of the image's features; /usr/lib/preroot/cmdline.sh uses it.
"""


def effective(entries: Iterable[Cmdline], policy: Policy) -> tuple[Cmdline, ...]:
    """Return the entries that change a command line under the access policy, those of one name beside each other.

    An option that is only ignored by one feature and implemented by another is not ignored; where both only have
    entries that change it, ignoring comes last.
    """
    given = list(entries)
    implemented = {each.name for each in given if not translates(each)}
    kept = [
        each for each in given
        if translates(each) and not (each.widens_access and policy == "open")
        and not (each.ignored and each.name in implemented)
    ]  # fmt: skip
    names = list(dict.fromkeys(each.name for each in kept))
    return tuple(dict.fromkeys(sorted(kept, key=lambda each: (names.index(each.name), bool(each.ignored)))))


def cmdline_table(entries: Sequence[Cmdline]) -> str:
    """Return the shell text of the table; `entries` as `effective` returns them."""
    early = [each for each in entries if not _is_late(each)]
    late = [each for each in entries if _is_late(each)]
    # a quote may be within a name: then the words are looked at one by one
    hints = dict.fromkeys(map(_hint, entries))
    # what fits a longer one fits the shorter too (rd.live.overlay.size, rd.live.overlay)
    shortest = [each for each in hints if not any(other != each and other.strip("*") in each for other in hints)]
    foreign = " | ".join(["""*[\\"\\']*""", *shortest])
    return _HEAD + (
        "cmdline_is_foreign() {\n"
        f"    case $1 in\n        {foreign}) return 0 ;;\n    esac\n    return 1\n}}\n"
        + _function("cmdline_translate", early)
        + _function("cmdline_translate_late", late)
    )


def _is_late(entry: Cmdline) -> bool:
    """Return whether an entry refers to values of other options."""
    return any("." in place for target in entry.maps_to for place in template(target).places)


def _pattern(name: str) -> str:
    """Return a name as a pattern of the shell: `-` and `_` are one, `*` stands for anything."""
    pieces = filter(None, re.split(r"([-_*])", name))
    return "".join("[-_]" if each in "-_" else each if each == "*" else quote(each) for each in pieces)


def _hint(entry: Cmdline) -> str:
    """Return a pattern that every command line fits which the entry could be about: what is cheap to look for."""
    begin = template(entry.value).texts[0]
    return f"*{_pattern(entry.name)}=*{quote(begin)}*" if begin else f"*{_pattern(entry.name)}*"


def _function(name: str, entries: Sequence[Cmdline]) -> str:
    cases = ""
    for option in dict.fromkeys(each.name for each in entries):
        cases += f"        {_pattern(option)})\n"
        cases += "".join(_branch(each) for each in entries if each.name == option)
        cases += "            ;;\n"
    body = f"    case $cmdline_name in\n{cases}    esac\n" if cases else ""
    return f"{name}() {{\n{body}    return 1\n}}\n"


def _branch(entry: Cmdline) -> str:
    """Return the commands of one entry, which return 0 when it has translated the word at hand."""
    if entry.ignored or entry.widens_access:
        reason = f"ignored: {entry.ignored}" if entry.ignored else "taken away, the access policy forbids it"
        return f"            cmdline_note {quote(reason)}\n            return 0\n"
    form = template(entry.value or "{value}")
    if entry.flag:
        fits = "cmdline_on"
    elif entry.value:
        fits = " ".join(["cmdline_fits", *map(quote, form.texts)])
    else:  # any value, an empty one too
        fits = "cmdline_has_value"
    numbers = {place: f'"$cmdline_{number}"' for number, place in enumerate(form.places, 1)}
    numbers["value"] = '"$cmdline_given"'
    puts = [_put(target, numbers) for target in entry.maps_to]
    if _is_late(entry):  # options that there are no values for change nothing
        puts = ["cmdline_hits=0", *(f"if {put}; then cmdline_hits=1; fi" for put in puts)]
        puts.append('[ "$cmdline_hits" = 0 ] || return 0')
    else:
        puts.append("return 0")
    lines = [f"if {fits}; then", *(f"    {put}" for put in puts), "fi"]
    return "".join(f"            {line}\n" for line in lines)


def _put(target: str, numbers: dict[str, str]) -> str:
    """Return the command that adds the option `target`; `numbers`: place → the shell's word for it."""
    form = template(target)
    groups: list[list[str]] = [[]]
    each = ""
    for text, place in zip(form.texts, (*form.places, ""), strict=True):
        groups[-1].append(quote(text) if text else "")
        if "." in place:
            each = place
            groups.append([])
        elif place:
            groups[-1].append(numbers[place])
    texts = ["".join(group) or "''" for group in groups]
    if each:
        return f"cmdline_put_each {quote(each)} {texts[0]} {texts[1]}"
    return f"cmdline_put {texts[0]}"
