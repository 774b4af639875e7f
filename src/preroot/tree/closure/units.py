# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a systemd unit asks for (systemd.unit(5), systemd.service(5), systemd.exec(5)).

Hard: Exec*= (without the prefix `-`), EnvironmentFile= (without `-`), Requires=, Requisite=, BindsTo=, Sockets=,
OnFailure=, .requires/, User=, Group=. Soft: Wants=, Upholds=, .wants/: they bring in only units that some feature
asks for, because every process that starts costs boot time.
"""

from __future__ import annotations

from preroot.packages.learn.units import split_exec
from preroot.packages.model import Unit
from preroot.tree.closure.model import Request, World
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: Where units lie in an image, in decreasing priority (systemd.unit(5), "Unit File Load Path", without /run).
UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system")

#: Unit types that systemd makes itself when no file has them.
_IMPLICIT = (".device", ".slice", ".scope", ".swap", ".mount")
_HARD = frozenset({"Requires", "Requisite", "BindsTo", "Sockets", "OnFailure", "OnSuccess"})
_SOFT = frozenset({"Wants", "Upholds"})
_EXEC = frozenset(
    {"ExecStart", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload", "ExecCondition"}
)


def find_unit(name: str, pool: Pool) -> str | None:
    """Return the canonical path of a unit's file: the name's own, or its template's (`a@b.service` → `a@.service`)."""
    names = [name]
    prefix, at, rest = name.partition("@")
    if at:
        names.append(f"{prefix}@.{rest.rpartition('.')[2]}")
    for each in names:
        for directory in UNIT_DIRECTORIES:
            path = f"{directory}/{each}"
            if pool.declared(path) is not None or pool.get(path) is not None:
                return path
    return None


def is_implicit(name: str) -> bool:
    """Return whether systemd makes a unit of this name by itself (devices, slices, mounts from mountinfo)."""
    return name.endswith(_IMPLICIT)


def unit_requests(path: str, unit: Unit, world: World) -> list[Request]:
    """Return what one unit file or drop-in at `path` asks for.

    Values with specifiers (`%i`) that are not resolved before boot are passed over, but for a template's name.
    """
    name = path.rpartition("/")[2]
    requests: list[Request] = []
    for section, key, value in unit.settings:
        if key in _EXEC:
            requests.extend(_exec_requests(path, f"{key}={value}", value))
        elif key in _HARD or key in _SOFT:
            for other in value.split():
                unit_name = _instance(other, name)
                if unit_name:
                    hard = key in _HARD
                    requests.append(Request("unit", unit_name, Reason("unit", path, f"{key}={other}"), hard))
        elif key == "EnvironmentFile" and value and "%" not in value:
            hard = not value.startswith("-")
            requests.append(Request("path", value.lstrip("-"), Reason("environment", path, f"{key}={value}"), hard))
        elif key in {"User", "Group", "SocketUser", "SocketGroup"} and section != "Install":
            if value and "%" not in value and not value.isdigit():
                kind = "user" if key.endswith("User") else "group"
                requests.append(Request(kind, value, Reason("unit", path, f"{key}={value}")))  # type: ignore[arg-type]
        elif key == "SupplementaryGroups":
            requests.extend(Request("group", each, Reason("unit", path, key)) for each in value.split())
    if "DynamicUser" in {key for _, key, value in unit.settings if value in {"yes", "true", "1", "on"}}:
        requests = [each for each in requests if each.kind not in {"user", "group"}]
    return requests


def _exec_requests(path: str, detail: str, value: str) -> list[Request]:
    line = split_exec(value)
    if line is None or not line.path or "%" in line.path or "$" in line.path:
        return []
    reason = Reason("exec", path, detail)
    kind = "path" if line.path.startswith("/") else "program"
    return [Request(kind, line.path, reason, "-" not in line.prefixes)]  # type: ignore[arg-type]


def _instance(other: str, asker: str) -> str:
    """Return the unit that a dependency names: `x@%i.service` in a template is the template x@.service."""
    if "%" not in other:
        return other
    prefix, at, rest = other.partition("@")
    if at and "%" not in prefix:
        return f"{prefix}@.{rest.rpartition('.')[2]}"
    if other in {"%n", "%p.socket", "%N.socket", "%p.service", "%N.service"}:
        stem = asker.rpartition(".")[0]
        return asker if other == "%n" else f"{stem}.{other.rpartition('.')[2]}"
    return ""


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
