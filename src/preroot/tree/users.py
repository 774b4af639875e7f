# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users and groups of an image: only those that something asks for, with numbers that are the same every time.

What is known of them comes from base-passwd's master files (passwd(5), group(5)), the packages' sysusers.d(5)
files and the tables of features and recipe. A name without a number of its own gets one by its name, lowest free
from 100 up in alphabetical order, and keeps it through the lock.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

from preroot.recipe.schema import Group, User

#: First number for users and groups without one (Debian policy 9.2.2: 100-999 are allocated dynamically).
_FIRST_DYNAMIC = 100
_LAST_DYNAMIC = 999
NOLOGIN = "/usr/sbin/nologin"


class KnownNames(Struct, frozen=True):
    """All users and groups that some file declares; most are never asked for."""

    users: dict[str, User]
    groups: dict[str, Group]


class Names(Struct, frozen=True):
    """The users and groups of an image, all with numbers."""

    users: dict[str, User]
    groups: dict[str, Group]
    unknown_users: tuple[str, ...]
    unknown_groups: tuple[str, ...]

    def uid(self, name: str) -> int:
        """Return the number of a user by name or by decimal number. Raises KeyError."""
        return int(name) if name.isdigit() else self.users[name].uid or 0

    def gid(self, name: str) -> int:
        """Return the number of a group by name or by decimal number. Raises KeyError."""
        return int(name) if name.isdigit() else self.groups[name].gid or 0


def parse_passwd(text: str) -> dict[str, User]:
    """Read passwd(5) lines; the group is kept as a number."""
    users = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit():
            name, _, uid, gid, description, home, shell = fields
            users[name] = User(name, int(uid), gid, home, shell or "/bin/sh", description)
    return users


def parse_group(text: str) -> dict[str, Group]:
    """Read group(5) lines."""
    groups = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 4 and fields[2].isdigit():
            groups[fields[0]] = Group(fields[0], int(fields[2]), tuple(each for each in fields[3].split(",") if each))
    return groups


def parse_sysusers(text: str) -> KnownNames:
    """Read a sysusers.d(5) file: `u`, `u!`, `g` and `m` lines; ranges (`r`) and specifiers say nothing here."""
    users: dict[str, User] = {}
    groups: dict[str, Group] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        words += ["-"] * 6
        kind, name, rest = words[0], words[1], words[2:]
        number, description, home, shell = ("" if each == "-" else each for each in rest[:4])
        if "%" in name:
            continue
        if kind.rstrip("!") == "u":
            uid, _, group = number.partition(":")
            users[name] = User(name, _number(uid), group, home or "/", shell or NOLOGIN, description)
            if not group or group == name:
                groups.setdefault(name, Group(name, _number(uid)))
        elif kind == "g":
            groups[name] = Group(name, _number(number))
        elif kind == "m":
            known = groups.get(number, Group(number))
            groups[number] = structs.replace(known, members=(*known.members, name))
    return KnownNames(users, groups)


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def merge_known(sources: Iterable[KnownNames]) -> KnownNames:
    """Join declarations; an earlier one wins, and one with a number wins over one without."""
    users: dict[str, User] = {}
    groups: dict[str, Group] = {}
    for source in sources:
        for name, user in source.users.items():
            if name not in users or (users[name].uid is None and user.uid is not None):
                users[name] = user
        for name, group in source.groups.items():
            if name not in groups or (groups[name].gid is None and group.gid is not None):
                groups[name] = group
    return KnownNames(users, groups)


def allocate(
    wanted_users: Iterable[str],
    wanted_groups: Iterable[str],
    known: KnownNames,
    locked_users: Mapping[str, int],
    locked_groups: Mapping[str, int],
) -> Names:
    """Return the image's users and groups with their numbers; names that nothing declares are in `unknown_…`.

    root is always there. A wanted user brings its primary group. Locked numbers are kept.
    """
    wanted = dict.fromkeys(["root", *sorted(wanted_users)])
    users = {name: known.users[name] for name in wanted if name in known.users}
    users.setdefault("root", User("root", 0, "0", "/root", "/bin/sh", "root"))
    by_gid = {str(group.gid): name for name, group in known.groups.items() if group.gid is not None}
    groups = {name: known.groups[name] for name in sorted(set(wanted_groups)) if name in known.groups}
    groups.setdefault("root", Group("root", 0))
    for user in users.values():
        primary = by_gid.get(user.group, user.group) or user.name
        groups.setdefault(primary, known.groups.get(primary, Group(primary, _number(user.group))))
    groups = _number_groups(groups, known, locked_groups)
    numbered = _number_users(users, groups, known, by_gid, locked_users)
    return Names(
        numbered,
        dict(sorted(groups.items(), key=lambda item: (item[1].gid or 0, item[0]))),
        tuple(name for name in wanted if name not in users),
        tuple(name for name in sorted(set(wanted_groups)) if name not in groups),
    )


def _number_groups(groups: dict[str, Group], known: KnownNames, locked: Mapping[str, int]) -> dict[str, Group]:
    taken = {group.gid for group in known.groups.values() if group.gid is not None} | set(locked.values())
    numbered = {}
    for name, group in sorted(groups.items()):
        gid = group.gid if group.gid is not None else locked.get(name)
        if gid is None:
            gid = next(each for each in range(_FIRST_DYNAMIC, _LAST_DYNAMIC + 1) if each not in taken)
            taken.add(gid)
        numbered[name] = structs.replace(group, gid=gid)
    return numbered


def _number_users(
    users: dict[str, User],
    groups: dict[str, Group],
    known: KnownNames,
    by_gid: Mapping[str, str],
    locked: Mapping[str, int],
) -> dict[str, User]:
    taken = {user.uid for user in known.users.values() if user.uid is not None} | set(locked.values())
    numbered = {}
    for name, user in sorted(users.items()):
        group = groups[by_gid.get(user.group, user.group) or name]
        uid = user.uid if user.uid is not None else locked.get(name)
        if uid is None:
            # A user's own group has the same number where that is free, as sysusers.d(5) does it.
            own = group.gid if group.name == name and group.gid not in taken else None
            free = (each for each in range(_FIRST_DYNAMIC, _LAST_DYNAMIC + 1) if each not in taken)
            uid = own if own is not None else next(free)
            taken.add(uid)
        numbered[name] = structs.replace(user, uid=uid, group=str(group.gid))
    return dict(sorted(numbered.items(), key=lambda item: (item[1].uid or 0, item[0])))


def render_passwd(names: Names) -> str:
    """Return /etc/passwd (passwd(5)); passwords are in shadow."""
    return "".join(
        f"{user.name}:x:{user.uid}:{user.group}:{user.description}:{user.home}:{user.shell}\n"
        for user in names.users.values()
    )


def render_group(names: Names) -> str:
    """Return /etc/group (group(5)); members that the image has no user for are left out."""
    return "".join(
        f"{group.name}:x:{group.gid}:{','.join(each for each in group.members if each in names.users)}\n"
        for group in names.groups.values()
    )


def render_shadow(names: Names, root_hash: str = "") -> str:
    """Return /etc/shadow (shadow(5)): every account locked, but root with a hash where the recipe gives one."""
    return "".join(f"{name}:{root_hash or '!*' if name == 'root' else '!*'}:::::::\n" for name in names.users)
