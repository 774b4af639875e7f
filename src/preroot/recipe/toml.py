# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading TOML (https://toml.io/en/v1.0.0), and finding the line of each key.

tomllib reads values and gives no positions, so `positions` scans the text a second time. It is called for error
messages and for `plan --explain` only, and relies on tomllib having accepted the text.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from preroot.errors import RecipeError

#: A key from the top of a document: names of tables and keys, and numbers of array elements.
Key = tuple[str | int, ...]

#: No recipe or feature comes near these; what does is not one, and tomllib is quadratic in some of them.
_MAX_BYTES = 1 << 20
_MAX_LINE = 1 << 16
MAX_DEPTH = 32


def dotted(key: Key) -> str:
    """Return `key` as a user writes it: `part.base.features`, `file[0].path`, `features."a.b"`."""
    text = ""
    for each in key:
        if isinstance(each, int):
            text += f"[{each}]"
        else:
            plain = each if re.fullmatch(r"[A-Za-z0-9_-]+", each) else quoted(each)
            text += f".{plain}" if text else plain
    return text


def quoted(text: str) -> str:
    """Return `text` as a basic string of TOML."""
    import json

    # JSON's escapes are a subset of those of TOML's basic strings as long as no surrogate is escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_text(path: Path) -> str:
    """Return the text of the regular file `path`.

    Raises RecipeError when it is missing, unreadable, no regular file, longer than 1 MiB, or not UTF-8.
    """
    try:
        # a FIFO or a device would block or never end
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RecipeError(f"{path} is not a regular file", "name a TOML file")
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist", "name an existing file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a directory", "name a TOML file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RecipeError(f"{path} cannot be read: {reason}", "check its path and its permissions") from None
    if len(data) > _MAX_BYTES:
        raise RecipeError(f"{path} is longer than {_MAX_BYTES >> 10} KiB", "put large content into files of its own")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x})", "save it as UTF-8") from None


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the values of the TOML document `text`; `where` names it in errors.

    Raises RecipeError with the line for a syntax error, nesting deeper than 32, lines longer than 64 KiB and integers
    beyond 64 bits.
    """
    import tomllib

    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_LINE:
            raise RecipeError(f"{where}:{number}: the line is longer than {_MAX_LINE} characters", "break it up")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at (?:line (\d+), column \d+|end of document)\)$", str(error), re.S)
        line_number = int(found[2]) if found and found[2] else text.rstrip("\n").count("\n") + 1
        reason = found[1] if found else str(error)
        raise RecipeError(f"{where}:{line_number}: {reason}", "not valid TOML, see https://toml.io") from None
    except RecursionError:
        raise RecipeError(f"{where}: nested too deeply", f"at most {MAX_DEPTH} levels") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise RecipeError(f"{where}: {error}", "not valid TOML, see https://toml.io") from None
    _check_bounds(data, where)
    return data


def _check_bounds(data: dict[str, Any], where: str) -> None:
    """Refuse what TOML calls an error and tomllib accepts (integers beyond 64 bits), and absurd depth."""
    waiting: list[tuple[Any, int]] = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise RecipeError(f"{where}: nested too deeply", f"at most {MAX_DEPTH} levels")
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RecipeError(f"{where}: the number {str(value)[:24]} is beyond 64 bits", "use a smaller one")


def positions(text: str) -> dict[Key, int]:
    """Return the line (from 1) of each table, key and array element of `text`, which tomllib has accepted."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


def places(path: Path, text: str) -> Callable[[Key], str]:
    """Return what gives the place of a key of the document `text`, which tomllib has accepted: FILE:LINE.

    A key that is not there has the place of the nearest table above. The text is scanned when that is first asked for.
    """
    lines: dict[Key, int] = {}

    def where(key: Key) -> str:
        lines.update(lines or positions(text))
        while key and key not in lines:
            key = key[:-1]
        return f"{path}:{lines[key]}" if key else str(path)

    return where


_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}', re.S)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}", re.S)
_SCALAR = re.compile(r"[^,\]}#\n]*")


class _Scanner:
    """Walks over the tokens of one document."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.found: dict[Key, int] = {}
        #: arrays of tables → number of elements so far
        self.arrays: dict[Key, int] = {}

    def scan(self) -> dict[Key, int]:
        table: Key = ()
        while True:
            self.take(_BLANK)
            if self.at >= len(self.text):
                return self.found
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)

    def take(self, token: re.Pattern[str]) -> str:
        found = token.match(self.text, self.at)
        taken = found[0] if found else self.text[self.at : self.at + 1]  # never stand still
        self.at += len(taken)
        self.line += taken.count("\n")
        return taken

    def key(self) -> tuple[str, ...]:
        import tomllib

        parts: list[str] = []
        while True:
            self.take(_SPACE)
            first = self.text[self.at : self.at + 1]
            if first == '"':
                word = self.take(_BASIC)
                parts.append(tomllib.loads(f"k={word}")["k"] if "\\" in word else word[1:-1])
            elif first == "'":
                parts.append(self.take(_LITERAL)[1:-1])
            else:
                parts.append(self.take(_BARE_KEY))
            self.take(_SPACE)
            if self.text[self.at : self.at + 1] != ".":
                return tuple(parts)
            self.at += 1

    def header(self) -> Key:
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        line = self.line
        words = self.key()
        self.take(_SPACE)
        self.at += 2 if double else 1
        table: Key = ()
        for number, word in enumerate(words, 1):
            table = (*table, word)
            self.found.setdefault(table, line)
            if double and number == len(words):
                self.arrays[table] = self.arrays.get(table, 0) + 1
            if table in self.arrays:
                table = (*table, self.arrays[table] - 1)
                self.found.setdefault(table, line)
        return table

    def pair(self, table: Key) -> None:
        key = table
        line = self.line
        for word in self.key():
            key = (*key, word)
            self.found.setdefault(key, line)
        self.at += 1  # =
        self.take(_SPACE)
        self.value(key)

    def value(self, key: Key) -> None:
        start = self.text[self.at : self.at + 3]
        if start[:1] == "[":
            self.elements(key)
        elif start[:1] == "{":
            self.inline_table(key)
        elif start == '"""':
            self.take(_LONG_BASIC)
        elif start == "'''":
            self.take(_LONG_LITERAL)
        elif start[:1] == '"':
            self.take(_BASIC)
        elif start[:1] == "'":
            self.take(_LITERAL)
        else:
            self.take(_SCALAR)

    def elements(self, key: Key) -> None:
        self.at += 1
        number = 0
        self.take(_BLANK)
        while self.at < len(self.text) and self.text[self.at] != "]":
            self.found[(*key, number)] = self.line
            self.value((*key, number))
            number += 1
            self.take(_BLANK)
            self.at += self.text[self.at : self.at + 1] == ","
            self.take(_BLANK)
        self.at += 1

    def inline_table(self, key: Key) -> None:
        self.at += 1
        self.take(_BLANK)
        while self.at < len(self.text) and self.text[self.at] != "}":
            self.pair(key)
            self.take(_BLANK)
            self.at += self.text[self.at : self.at + 1] == ","
            self.take(_BLANK)
        self.at += 1
