# SPDX-License-Identifier: LGPL-2.1-or-later
"""What udev rules ask for outside themselves (udev(7)), and what #! lines do (execve(2), env(1))."""

from __future__ import annotations

import re

from preroot.packages.learn.units import split_words
from preroot.packages.model import UdevRules
from preroot.tree.closure.model import Request
from preroot.tree.closure.units import template_of
from preroot.tree.model import Reason

#: Where udev looks for programs named without a slash (udev(7), PROGRAM).
_UDEV_DIRECTORY = "usr/lib/udev"

#: Options of env(1) (coreutils 9) that take a word of their own.
_ENV_WITH_VALUE = frozenset({"-u", "--unset", "-C", "--chdir", "-a", "--argv0"})
_SPLIT = re.compile(r"(?:-[iv0]*S|--split-string[= ])\s*")


def udev_requests(path: str, rules: UdevRules) -> list[Request]:
    """Return what a rules file asks for: programs, users, groups, and units it wants (soft)."""
    requests = []
    for command in rules.programs:
        word = next((word for word, _ in split_words(command)), "")
        if not word or "$" in word or "%" in word:
            continue
        program = word if word.startswith("/") else f"{_UDEV_DIRECTORY}/{word}"
        requests.append(Request("path", program, Reason("udev", path, command)))
    requests.extend(Request("user", user, Reason("udev", path, f"OWNER={user}")) for user in rules.users)
    requests.extend(Request("group", group, Reason("udev", path, f"GROUP={group}")) for group in rules.groups)
    for unit in rules.units:
        name = unit
        if "$" in unit or "%" in unit:
            # Only the device decides the instance; what decides the prefix too can't be known.
            prefix, at, _ = unit.partition("@")
            if not at or "$" in prefix or "%" in prefix:
                continue
            name = template_of(unit)
        requests.append(Request("unit", name, Reason("udev", path, f"SYSTEMD_WANTS={unit}"), hard=False))
    return requests


def script_requests(path: str, interpreter: str, argument: str) -> list[Request]:
    """Return what a #! line asks for: the interpreter, and the program that env(1) is to find."""
    requests = [Request("path", interpreter, Reason("interpreter", path, f"#!{interpreter}"))]
    program = _env_program(argument) if interpreter.endswith("/env") else ""
    if program:
        kind = "path" if "/" in program else "program"
        reason = Reason("interpreter", path, f"#!{interpreter} {argument}")
        requests.append(Request(kind, program, reason))  # type: ignore[arg-type]
    return requests


def _env_program(argument: str) -> str:
    """Return the program that env(1) starts for the one argument that the kernel hands it, '' where there is none.

    Without -S the argument is one word, blanks included.
    """
    split = _SPLIT.match(argument)
    if not split:
        return "" if argument.startswith("-") or "=" in argument else argument
    words = [word for word, _ in split_words(argument[split.end() :])]
    while words:
        word = words.pop(0)
        if word in _ENV_WITH_VALUE:
            words = words[1:]
        elif word == "--":
            return next((each for each in words if "=" not in each), "")
        elif not word.startswith("-") and "=" not in word:
            return word
    return ""
