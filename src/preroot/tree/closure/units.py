# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a systemd unit asks for (systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.socket(5)).

Hard: Exec*= (without the prefix `-`), EnvironmentFile= (without `-`), Requires=, Requisite=, BindsTo=, Sockets=,
OnFailure=, OnSuccess=, .requires/, what a socket, timer or path unit starts, User=, Group=. Soft: Wants=, Upholds=,
.wants/, .upholds/: they bring in only units that some feature asks for, because every process that starts costs boot
time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from preroot.packages.learn.units import split_exec_lines
from preroot.packages.model import Unit
from preroot.tree.closure.model import Request
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: Where units lie in an image, in decreasing priority (systemd.unit(5), "Unit File Load Path", without /run).
UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system")

#: Unit types that systemd makes itself when no file has them.
_IMPLICIT = (".device", ".slice", ".scope", ".swap", ".mount")
_HARD = frozenset({"Requires", "Requisite", "BindsTo", "Sockets", "OnFailure", "OnSuccess"})
_SOFT = frozenset({"Wants", "Upholds"})
_EXEC = frozenset({
    "ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPre", "ExecStopPost", "ExecReload",
    "ExecReloadPost", "ExecCondition",
})  # fmt: skip
#: Lists that an empty value resets; lists of dependencies are not among them (systemd.unit(5), "Overriding").
_RESET = _EXEC | {"EnvironmentFile", "SupplementaryGroups"}
#: What has one value: the last one counts.
_SINGLE = frozenset({"User", "Group", "SocketUser", "SocketGroup", "DynamicUser", "Service", "Unit", "Accept"})
_TRUE = frozenset({"1", "yes", "y", "true", "t", "on"})
#: Specifiers that are the same in every boot of a system manager (systemd.unit(5), "Specifiers").
_FIXED = {
    "%": "%", "C": "/var/cache", "E": "/etc", "L": "/var/log", "S": "/var/lib", "T": "/tmp", "V": "/var/tmp",
    "h": "/root", "t": "/run", "u": "root", "U": "0", "g": "root", "G": "0",
}  # fmt: skip
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")


class Setting(NamedTuple):
    """One setting that holds, and the file that it is from: the unit's or a drop-in."""

    path: str
    section: str
    key: str
    value: str


def find_unit(name: str, pool: Pool) -> str | None:
    """Return the canonical path of a unit's file: the name's own, or its template's (`a@b.service` → `a@.service`)."""
    for each in dict.fromkeys((name, template_of(name))):
        for directory in UNIT_DIRECTORIES:
            path = f"{directory}/{each}"
            if pool.declared(path) is not None or pool.get(path) is not None:
                return path
    return None


def template_of(name: str) -> str:
    """Return the template of an instance (`a@b.service` → `a@.service`); other names as they are."""
    prefix, at, rest = name.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}" if at else name


def is_implicit(name: str) -> bool:
    """Return whether systemd makes a unit of this name by itself (devices, slices, mounts from mountinfo)."""
    return name.endswith(_IMPLICIT)


def is_masked(path: str, pool: Pool) -> bool:
    """Return whether a unit's file, drop-in or dependency link is a link to /dev/null or an empty file of a package."""
    resolved = pool.resolve(path)
    if resolved.end == "dev/null":
        return True
    found = pool.get(resolved.end)
    return found is not None and found.info.type == "file" and not found.info.size and not pool.declared(resolved.end)


def settings_in_force(fragments: Iterable[tuple[str, Unit]]) -> list[Setting]:
    """Return what holds of a unit's file and drop-ins (pairs of path and content, in the order they are read).

    An empty value takes back what a list had before; of settings with one value the last counts.
    """
    found: list[Setting] = []
    for path, unit in fragments:
        for section, key, value in unit.settings:
            if key in _SINGLE or (key in _RESET and not value):
                found = [each for each in found if (each.section, each.key) != (section, key)]
            if value:
                found.append(Setting(path, section, key, value))
    return found


def unit_requests(name: str, settings: Sequence[Setting]) -> list[Request]:
    """Return what a unit of this name with these settings asks for.

    Values with specifiers that are not known before boot are passed over, but for a template's name.
    """
    values = specifiers(name)
    requests: list[Request] = []
    dynamic = any(each.key == "DynamicUser" and each.value.lower() in _TRUE for each in settings)
    for path, section, key, value in settings:
        if section == "Install":
            continue
        detail = f"{key}={value}"
        if key in _EXEC:
            requests += _exec_requests(path, detail, value, values)
        elif key in _HARD or key in _SOFT:
            for other in value.split():
                unit_name = _dependency(other, values)
                if unit_name:
                    reason = Reason("unit", path, f"{key}={other}")
                    requests.append(Request("unit", unit_name, reason, key in _HARD))
        elif key == "EnvironmentFile":
            file = expand(value.lstrip("-"), values)
            if file:
                reason = Reason("environment", path, detail)
                requests.append(Request("path", file, reason, not value.startswith("-")))
        elif key in {"User", "Group"} and dynamic:
            continue
        elif key in {"User", "Group", "SocketUser", "SocketGroup"}:
            requests += _name_requests("user" if key.endswith("User") else "group", path, detail, value, values)
        elif key == "SupplementaryGroups":
            for each in value.split():
                requests += _name_requests("group", path, detail, each, values)
    return requests + _triggered(name, settings, values)


def specifiers(name: str) -> dict[str, str]:
    """Return what the specifiers stand for that a unit's name decides; those of a template's instance are missing."""
    stem = name.rpartition(".")[0]
    prefix, at, instance = stem.partition("@")
    last = prefix.rpartition("-")[2]
    values = {**_FIXED, "p": prefix, "P": _unescaped(prefix), "j": last, "J": _unescaped(last)}
    if not at or instance:
        values |= {"n": name, "N": stem, "i": instance, "I": _unescaped(instance)}
    return values


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.replace("-", "/"))


def expand(text: str, values: Mapping[str, str]) -> str | None:
    """Return `text` with its specifiers replaced, None where one of them is not known before boot."""
    if "%" not in text:
        return text
    head, *rest = re.split(r"%(.)", text)
    out = [head]
    for letter, literal in zip(rest[::2], rest[1::2], strict=True):
        if letter not in values:
            return None
        out += [values[letter], literal]
    return "".join(out)


def _exec_requests(path: str, detail: str, value: str, values: Mapping[str, str]) -> list[Request]:
    requests = []
    for line in split_exec_lines(value):
        program = expand(line.path, values)
        if not program or "$" in program:
            continue
        kind = "path" if program.startswith("/") else "program"
        requests.append(Request(kind, program, Reason("exec", path, detail), "-" not in line.prefixes))  # type: ignore[arg-type]
    return requests


def _name_requests(kind: str, path: str, detail: str, value: str, values: Mapping[str, str]) -> list[Request]:
    name = expand(value, values)
    if not name or name.isdigit():
        return []
    return [Request(kind, name, Reason("unit", path, detail))]  # type: ignore[arg-type]


def _dependency(other: str, values: Mapping[str, str]) -> str:
    """Return the unit that a dependency names: `x@%i.service` in a template is the template x@.service."""
    name = expand(other, values)
    if name is not None:
        return name
    prefix = expand(other.partition("@")[0], values)
    return f"{prefix}@.{other.rpartition('.')[2]}" if prefix and "@" in other else ""


def _triggered(name: str, settings: Sequence[Setting], values: Mapping[str, str]) -> list[Request]:
    """Return the unit that a socket, timer or path unit starts (Service=, Unit=, or the one of the same name)."""
    stem, _, kind = name.rpartition(".")
    if kind not in {"socket", "timer", "path"} or not settings:
        return []
    last = {each.key: each for each in settings}
    key = "Service" if kind == "socket" else "Unit"
    if key in last:
        other = _dependency(last[key].value, values)
        return [Request("unit", other, Reason("unit", last[key].path, f"{key}={last[key].value}"))] if other else []
    accept = "Accept" in last and last["Accept"].value.lower() in _TRUE
    other = f"{stem.partition('@')[0]}@.service" if kind == "socket" and accept else f"{stem}.service"
    return [Request("unit", other, Reason("unit", settings[0].path, "starts"))]


def drop_ins(names: Sequence[str], pool: Pool) -> list[str]:
    """Return the paths of the drop-ins of a unit under all its names, in the order in which systemd reads them.

    Of files of one name the first counts: /etc before /usr/lib, more special directories before more general ones;
    those of the type (service.d/) come last (unit_file_find_dropin_paths() in src/shared/dropin.c of systemd 257).
    """
    special = [each for name in names for each in drop_in_directories(name)[:-1]]
    general = [drop_in_directories(name)[-1] for name in names]
    found: dict[str, str] = {}
    for kinds in (special, general):
        for directory in UNIT_DIRECTORIES:
            for kind in dict.fromkeys(kinds):
                for each in pool.listing(f"{directory}/{kind}"):
                    if each.endswith(".conf"):
                        found.setdefault(each, f"{directory}/{kind}/{each}")
    return [found[name] for name in sorted(found)]


def dependency_links(names: Sequence[str], suffix: str, pool: Pool) -> list[str]:
    """Return the paths of the links in NAME.wants/ and the like; of links of one name the first counts, as above."""
    found: dict[str, str] = {}
    for directory in UNIT_DIRECTORIES:
        for name in names:
            for each in pool.listing(f"{directory}/{name}{suffix}"):
                found.setdefault(each, f"{directory}/{name}{suffix}/{each}")
    return [found[name] for name in sorted(found)]


def drop_in_directories(name: str) -> list[str]:
    """Return the names of the directories that hold a unit's drop-ins (systemd.unit(5)).

    `a-b@c.service` has a-b@c.service.d, a-b@.service.d, a-.service.d and service.d.
    """
    stem, _, suffix = name.rpartition(".")
    names = [f"{name}.d"]
    prefix, at, _ = stem.partition("@")
    if at:
        names.append(f"{prefix}@.{suffix}.d")
    pieces = prefix.split("-")
    names.extend(f"{'-'.join(pieces[:count])}-.{suffix}.d" for count in range(len(pieces) - 1, 0, -1))
    names.append(f"{suffix}.d")
    return list(dict.fromkeys(names))
