# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit files of systemd, read by systemd.syntax(7) and, where that is silent, by conf-parser.c of systemd 257."""

from __future__ import annotations

import re

from msgspec import Struct

from preroot.packages.model import Unit

_WHITESPACE = " \t\n\r"
_BOM = "\ufeff"
#: C escapes that extract_first_word() of systemd knows (systemd.syntax(7), "Quoting").
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'",
            "s": " "}  # fmt: skip
_NUMBER = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")
#: Prefixes of an executable (systemd.service(5), table "Special executable prefixes"; `|` since 258).
_PREFIXES = "@-:+!|"


class ExecLine(Struct, frozen=True):
    """One command of an Exec*= setting; specifiers (%i) and variables ($X) are as written."""

    #: the special characters before the path: "" or some of `@-:+!|`
    prefixes: str
    path: str
    #: without argv[0], also where the prefix @ gives it
    arguments: tuple[str, ...]


def _ends_in_escape(line: str) -> bool:
    """Return whether the last backslash of `line` is at its end and not itself escaped."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _joined(text: str) -> list[str]:
    """Return the lines with comments dropped and continuations joined.

    A line whose first character other than white space is # or ; is a comment, within a continuation too; the backslash
    at a line's end becomes a space.
    """
    lines = []
    pending = ""
    for raw in text.removeprefix(_BOM).split("\n"):
        if raw.lstrip(_WHITESPACE).startswith(("#", ";")):
            continue
        line = pending + raw
        if _ends_in_escape(line):
            pending = line[:-1] + " "
            continue
        pending = ""
        lines.append(line)
    if pending:
        lines.append(pending)
    return lines


def read_unit(data: bytes) -> Unit:
    """Read a unit file or drop-in.

    Argument: its bytes; what is not UTF-8 is replaced. Returns all assignments in order, empty ones (which reset a
    list) included. Lines that systemd warns about and ignores (no `=`, no section, a section line without its bracket)
    are passed over. Never raises.
    """
    settings = []
    section = ""
    for raw in _joined(data.decode("utf-8", "replace")):
        line = raw.strip(_WHITESPACE)
        if line.startswith("["):
            section = line[1:-1] if line.endswith("]") else ""
            continue
        key, equals, value = line.partition("=")
        if equals and section and key:
            settings.append((section, key.rstrip(_WHITESPACE), value.lstrip(_WHITESPACE)))
    return Unit(tuple(settings))


def _unescape(text: str, at: int) -> tuple[str, int]:
    """Return what the escape after the backslash at `at` stands for, and where the text goes on; unknown ones stay."""
    follows = text[at + 1 : at + 2]
    if follows in _ESCAPES and follows:
        return _ESCAPES[follows], at + 2
    number = _NUMBER.match(text, at + 1)
    if number:
        digits = number[1] or number[2] or number[3]
        value = int(digits, 16) if digits else int(number[4], 8)
        if 0 < value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF:
            return chr(value), number.end()
    return "\\" + follows, at + 1 + len(follows)


def split_words(text: str) -> tuple[tuple[str, str], ...]:
    r"""Split a command line into words as systemd.syntax(7) says under "Quoting".

    Returns (word, as written) pairs: only the written form tells the separator `;` from the argument `\;`. An unclosed
    quote ends with the text. Never raises.
    """
    words: list[tuple[str, str]] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _WHITESPACE:
            at += 1
        if at >= len(text):
            return tuple(words)
        start, quote = at, ""
        word: list[str] = []
        while at < len(text) and (quote or text[at] not in _WHITESPACE):
            char = text[at]
            if char == "\\":
                part, at = _unescape(text, at)
                word.append(part)
                continue
            if quote and char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            else:
                word.append(char)
            at += 1
        words.append(("".join(word), text[start:at]))


def split_exec_lines(line: str) -> tuple[ExecLine, ...]:
    r"""Split the value of an Exec*= setting into its commands, which a lone `;` separates (systemd.service(5)).

    Returns () for an empty value, which resets the list. `\;` is the argument `;`. Never raises.
    """
    commands: list[ExecLine] = []
    words: list[str] = []
    for word, written in (*split_words(line), ("", ";")):
        if written != ";":
            words.append(";" if written == "\\;" else word)
        elif words:
            commands.append(_command(words))
            words = []
    return tuple(commands)


def _command(words: list[str]) -> ExecLine:
    path = words[0].lstrip(_PREFIXES)
    prefixes = words[0][: len(words[0]) - len(path)]
    return ExecLine(prefixes, path, tuple(words[2:] if "@" in prefixes else words[1:]))


def split_exec(line: str) -> ExecLine:
    """Split the first command of an Exec*= setting; arguments and rules as of `split_exec_lines`.

    An empty value gives an empty path.
    """
    return next(iter(split_exec_lines(line)), ExecLine("", "", ()))
