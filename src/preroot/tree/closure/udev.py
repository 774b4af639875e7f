# SPDX-License-Identifier: LGPL-2.1-or-later
"""What udev rules ask for outside themselves (udev(7))."""

from __future__ import annotations

from preroot.packages.model import UdevRules
from preroot.tree.closure.model import Request
from preroot.tree.model import Reason

#: Where udev looks for programs named without a slash (udev(7), PROGRAM).
_UDEV_DIRECTORY = "usr/lib/udev"


def udev_requests(path: str, rules: UdevRules) -> list[Request]:
    """Return what a rules file asks for: programs, users, groups, and units it wants (soft)."""
    requests = []
    for command in rules.programs:
        word = command.split(maxsplit=1)[0] if command.strip() else ""
        if not word or "$" in word or "%" in word:
            continue
        program = word if word.startswith("/") else f"{_UDEV_DIRECTORY}/{word}"
        requests.append(Request("path", program, Reason("udev", path, command)))
    requests.extend(Request("user", user, Reason("udev", path, f"OWNER={user}")) for user in rules.users)
    requests.extend(Request("group", group, Reason("udev", path, f"GROUP={group}")) for group in rules.groups)
    for unit in rules.units:
        name = unit
        if "$" in unit or "%" in unit:
            prefix, at, rest = unit.partition("@")
            if not at:
                continue
            name = f"{prefix}@.{rest.rpartition('.')[2]}"
        requests.append(Request("unit", name, Reason("udev", path, f"SYSTEMD_WANTS={unit}"), hard=False))
    return requests


def script_requests(path: str, interpreter: str, argument: str) -> list[Request]:
    """Return what a #! line asks for: the interpreter, and the program that env(1) is to find."""
    requests = [Request("path", interpreter, Reason("interpreter", path, f"#!{interpreter}"))]
    words = argument.split()
    if interpreter.endswith("/env") and words:
        program = words[1] if words[0] == "-S" and len(words) > 1 else words[0]
        if "=" not in program and not program.startswith("-"):
            requests.append(Request("program", program, Reason("interpreter", path, f"#!{interpreter} {argument}")))
    return requests
