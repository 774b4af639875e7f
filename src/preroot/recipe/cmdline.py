# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's command line: its words, and the forms in which features say how options are translated. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from msgspec import Struct

from preroot.recipe.features import Cmdline

_PLACE = re.compile(r"\{([^{}]*)\}")
#: more captures than cmdline_fits (runtime/helpers/cmdline.sh) is meant for
_MOST_CAPTURES = 9


class Word(Struct, frozen=True):
    """One word of a command line: as written, without its quotes, and what is before and after the first `=`."""

    raw: str
    bare: str

    @property
    def name(self) -> str:
        """Return what is before the first `=`, without single quotes, which systemd takes away as well."""
        return self.bare.partition("=")[0].replace("'", "")

    @property
    def value(self) -> str | None:
        """Return what is after the first `=`; None where there is none."""
        _, equals, value = self.bare.partition("=")
        return value if equals else None


def words(cmdline: str) -> list[Word]:
    """Return the words of a command line.

    White space outside of double quotes ends a word; a quote begins or ends quoting wherever it is, and there is no
    escape (next_arg() in the kernel's lib/cmdline.c). Quotes are no part of name and value, as for systemd
    (proc_cmdline_parse() in src/basic/proc-cmdline.c).
    """
    found: list[str] = []
    word, quoted = "", False
    for character in cmdline:
        quoted ^= character == '"'
        if quoted or character not in " \t\n\v\f\r":
            word += character
        elif word:
            found.append(word)
            word = ""
    return [Word(each, each.replace('"', "")) for each in (*found, word) if each]


def is_option(name: str, pattern: str) -> bool:
    """Return whether an option's name is that of a [[cmdline]] entry (`rd.luks.*` stands for all that begin so).

    `-` and `_` are one (parameq() in kernel/params.c).
    """
    return fnmatchcase(name.replace("-", "_"), pattern.replace("-", "_"))


class Template(Struct, frozen=True):
    """Text with places: `texts` around and between `places`, one text more than places."""

    texts: tuple[str, ...]
    places: tuple[str, ...]


def template(text: str) -> Template:
    """Return `text` taken apart at its `{places}`."""
    pieces = _PLACE.split(text)
    return Template(tuple(pieces[::2]), tuple(pieces[1::2]))


def translates(entry: Cmdline) -> bool:
    """Return whether an entry changes the command line, rather than only saying who implements an option."""
    return bool(entry.maps_to or entry.ignored or entry.widens_access)


def problem_of(entry: Cmdline) -> str:
    """Return what is wrong with a [[cmdline]] entry beyond types, or ''."""
    kinds = [bool(entry.maps_to), bool(entry.ignored), entry.widens_access]
    form = template(entry.value)
    checks = (
        (re.search(r"[\s\"'=\0]", entry.name), f"the name {entry.name!r} has a blank, a quote or ="),
        (sum(kinds) > 1, f"{entry.name} can only have one of maps-to, ignored and widens-access"),
        (any(kinds[:2]) and "*" in entry.name,
         f"{entry.name} stands for several options, and only one by its whole name can be translated"),
        (entry.value and not entry.maps_to, f"{entry.name} has a form of its value and no maps-to"),
        (entry.value and entry.flag, f"{entry.name} is a flag, and so its value has no form"),
        (not all(form.texts[1:-1]), f"{entry.name}: nothing is between two places of {entry.value!r}"),
        (len(set(form.places)) < len(form.places), f"{entry.name}: {entry.value!r} has a name twice"),
        (len(form.places) > _MOST_CAPTURES, f"{entry.name}: {entry.value!r} has more than {_MOST_CAPTURES} places"),
    )  # fmt: skip
    found = [text for wrong, text in checks if wrong]
    return next(filter(None, (*found, *(_target_problem(entry, each) for each in entry.maps_to))), "")


def _target_problem(entry: Cmdline, target: str) -> str:
    if not target or re.search(r"[\s\"\0]", target):
        return f"{entry.name} maps to {target!r}, which is not one option"
    places = template(target).places
    known = {*template(entry.value).places, *(() if entry.flag else ("value",))}
    for place in places:
        if "." not in place and place not in known:
            return f"{entry.name} maps to {target!r}, and its value has no part {place!r}"
    if sum("." in place for place in places) > 1:
        return f"{entry.name} maps to {target!r}, which has the values of two options"
    return ""


def understood_by(name: str, entries: Iterable[tuple[str, Cmdline]]) -> list[str]:
    """Return the features (of `entries`, pairs of feature and entry) that have an option called `name`."""
    return list(dict.fromkeys(feature for feature, entry in entries if is_option(name, entry.name)))
