# SPDX-License-Identifier: LGPL-2.1-or-later
"""What udev rules refer to outside themselves, read by udev(7) and udev-rules.c of systemd 257."""

from __future__ import annotations

import re
from collections.abc import Iterator

from preroot.packages.model import UdevRules

#: KEY{attribute} operator value; the value is "…" with \" inside, or e"…" with C escapes, or i"…" (since 256).
_TOKEN = re.compile(
    r"""[\s,]* ([A-Z_]+) (?:\{([^}]*)\})? \s* (==|!=|\+=|-=|:=|=) \s*
        (?: [i]? " ((?: \\" | [^"] )*+) " | (?: e | ei | ie ) " ((?: \\. | [^"\\] )*+) " )""",
    re.VERBOSE | re.ASCII,
)
_ASSIGN = frozenset(("=", "+=", ":="))
_ESCAPES = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


def _lines(text: str) -> Iterator[str]:
    """Yield the lines with continuations joined; comments are dropped within continuations too."""
    pending = ""
    for raw in text.removesuffix("\n").split("\n"):
        line = raw.lstrip()
        if line.startswith("#"):
            continue
        line = pending + line
        if line.endswith("\\"):
            pending = line[:-1]
            continue
        pending = ""
        if line:
            yield line
    # A file that ends in a continuation: udev refuses the line, and a refused line refers to nothing.


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 1:
        return _LETTERS.get(code, code)
    value = int(code[1:], 16) if code[0] in "xu" else int(code, 8)
    return "\ufffd" if 0xD800 <= value <= 0xDFFF else chr(value)


def _tokens(line: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (key, attribute, operator, value) up to the first place that isn't a token."""
    at = 0
    while match := _TOKEN.match(line, at):
        key, attribute, operator, plain, escaped = match.groups()
        value = _ESCAPES.sub(_character, escaped) if plain is None else plain.replace('\\"', '"')
        yield key, attribute or "", operator, value
        at = match.end()


def _is_name(text: str) -> bool:
    """Return whether OWNER= or GROUP= gives a fixed name: neither a number nor a substitution."""
    return bool(text) and not text.isdigit() and "$" not in text and "%" not in text


def read_rules(data: bytes) -> UdevRules:
    """Read a rules file.

    Argument: its bytes; what is not UTF-8 is replaced. Each kind of reference is there once, in the order of the file.
    Of a malformed line the part before the defect counts. Names that only the device decides (`$env{…}`) and
    numeric users are left out. Never raises.
    """
    programs: dict[str, None] = {}
    builtins: dict[str, None] = {}
    users: dict[str, None] = {}
    groups: dict[str, None] = {}
    units: dict[str, None] = {}
    for line in _lines(data.decode("utf-8", "replace")):
        for key, attribute, operator, value in _tokens(line):
            if not value.strip():
                continue
            if key == "PROGRAM" or (key in {"RUN", "IMPORT"} and attribute in {"", "program"}):
                if operator != "-=":
                    programs[value] = None
            elif key in {"RUN", "IMPORT"} and attribute == "builtin":
                if operator != "-=":
                    builtins[value.split()[0]] = None
            elif key == "OWNER" and operator in _ASSIGN and _is_name(value):
                users[value] = None
            elif key == "GROUP" and operator in _ASSIGN and _is_name(value):
                groups[value] = None
            elif key == "ENV" and attribute == "SYSTEMD_WANTS" and operator in _ASSIGN:
                units.update(dict.fromkeys(value.split()))
    return UdevRules(tuple(programs), tuple(builtins), tuple(users), tuple(groups), tuple(units))
