# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users and groups of an image: only those that something asks for, with numbers that are the same every time.

What is known of them comes from base-passwd's master files (passwd(5), group(5)), the packages' sysusers.d(5)
files and the tables of features and recipe. A name without a number of its own gets one by its name, lowest free
from 100 up in alphabetical order, and keeps it through the lock.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, structs

from preroot.errors import BuildError
from preroot.recipe.schema import Group, User

#: First number for users and groups without one (Debian policy 9.2.2: 100-999 are allocated dynamically).
_FIRST_DYNAMIC = 100
_LAST_DYNAMIC = 999
NOLOGIN = "/usr/sbin/nologin"
#: What systemd-sysusers accepts (valid_user_group_name() in src/basic/user-util.c); other lines it ignores too.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}", re.ASCII)


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


#: of entries that all belong to root by number
NO_NAMES = Names({}, {}, (), ())


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
        kind, name = words[:2]
        number, description, home, shell = ("" if each == "-" else each for each in words[2:6])
        if not _NAME.fullmatch(name) or any(char in description + home + shell for char in ":\n"):
            continue
        if kind.rstrip("!") == "u":
            uid, _, group = number.partition(":")
            users.setdefault(name, User(name, _number(uid), group, home or "/", shell or NOLOGIN, description))
            if not group or group == name:
                groups[name] = _joined_group(groups.get(name), Group(name, _number(uid)))
        elif kind == "g":
            groups[name] = _joined_group(groups.get(name), Group(name, _number(number)))
        elif kind == "m" and _NAME.fullmatch(number):
            groups[number] = _joined_group(groups.get(number), Group(number, None, (name,)))
    return KnownNames(users, groups)


def _joined_group(first: Group | None, other: Group) -> Group:
    """Return what two declarations of one group say together: the first number, and all members."""
    if first is None:
        return other
    gid = other.gid if first.gid is None else first.gid
    return structs.replace(first, gid=gid, members=tuple(dict.fromkeys((*first.members, *other.members))))


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def merge_known(sources: Iterable[KnownNames]) -> KnownNames:
    """Join declarations: an earlier one wins, but what it leaves open (number, primary group) a later one fills in.

    Members of a group add up, as `m` lines of sysusers.d(5) do.
    """
    users: dict[str, User] = {}
    groups: dict[str, Group] = {}
    for source in sources:
        for name, user in source.users.items():
            first = users.get(name, user)
            users[name] = structs.replace(
                first, uid=user.uid if first.uid is None else first.uid, group=first.group or user.group
            )
        for name, group in source.groups.items():
            groups[name] = _joined_group(groups.get(name), group)
    return KnownNames(users, groups)


def allocate(
    wanted_users: Iterable[str],
    wanted_groups: Iterable[str],
    known: KnownNames,
    locked_users: Mapping[str, int],
    locked_groups: Mapping[str, int],
) -> Names:
    """Return the image's users and groups with their numbers; names that nothing declares are in `unknown_…`.

    root is always there. A wanted user brings its primary group. Locked numbers are kept, unless a package now gives
    that number to another name of the image. Raises BuildError when no number is free.
    """
    wanted = dict.fromkeys(["root", *sorted(wanted_users)])
    users = {name: known.users[name] for name in wanted if name in known.users}
    users.setdefault("root", User("root", 0, "0", "/root", "/bin/sh", "root"))
    by_gid = {str(group.gid): name for name, group in sorted(known.groups.items()) if group.gid is not None}
    groups = {name: known.groups[name] for name in sorted(set(wanted_groups)) if name in known.groups}
    groups.setdefault("root", Group("root", 0))
    unknown = {name for name in wanted_groups if name not in groups}
    for user in users.values():
        primary = _primary(user, by_gid)
        if primary in known.groups:
            groups.setdefault(primary, known.groups[primary])
        elif primary == user.name:
            groups.setdefault(primary, Group(primary, _number(user.group)))
        elif primary not in groups:
            unknown.add(primary)
    groups = _number_groups(groups, known, locked_groups)
    primaries = {user.name: groups.get(_primary(user, by_gid), groups["root"]) for user in users.values()}
    numbered = _number_users(users, primaries, known, locked_users)
    return Names(
        numbered,
        dict(sorted(groups.items(), key=lambda item: (item[1].gid or 0, item[0]))),
        tuple(name for name in wanted if name not in users),
        tuple(sorted(unknown)),
    )


def _primary(user: User, by_gid: Mapping[str, str]) -> str:
    """Return the name of a user's primary group; a number that no group has is given to one of the user's name."""
    if user.group.isdigit():
        return by_gid.get(user.group, user.name)
    return user.group or user.name


def _numbers(
    fixed: Mapping[str, int | None], others: Iterable[int | None], locked: Mapping[str, int], what: str
) -> Callable[[str, int | None], int]:
    """Return what gives each name of `fixed` its number: its own, the locked one, else the lowest free one.

    `others` are numbers that names outside the image have: they are not given away. A free number that is preferred
    comes before the lowest one.
    """
    own = {number for number in fixed.values() if number is not None}
    taken = own | {number for number in others if number is not None} | set(locked.values())
    given = set(own)

    def number(name: str, preferred: int | None) -> int:
        kept = fixed[name] if fixed[name] is not None else locked.get(name)
        if fixed[name] is None and kept in given:
            kept = None
        if kept is None and preferred is not None and preferred not in taken:
            kept = preferred
        if kept is None:
            kept = next((each for each in range(_FIRST_DYNAMIC, _LAST_DYNAMIC + 1) if each not in taken), None)
        if kept is None:
            raise BuildError(
                f"no number from {_FIRST_DYNAMIC} to {_LAST_DYNAMIC} is free for the {what} {name}", "give it one"
            )
        taken.add(kept)
        given.add(kept)
        return kept

    return number


def _number_groups(groups: dict[str, Group], known: KnownNames, locked: Mapping[str, int]) -> dict[str, Group]:
    fixed = {name: group.gid for name, group in groups.items()}
    number = _numbers(fixed, (group.gid for group in known.groups.values()), locked, "group")
    return {name: structs.replace(group, gid=number(name, None)) for name, group in sorted(groups.items())}


def _number_users(
    users: dict[str, User], primaries: Mapping[str, Group], known: KnownNames, locked: Mapping[str, int]
) -> dict[str, User]:
    fixed = {name: user.uid for name, user in users.items()}
    number = _numbers(fixed, (user.uid for user in known.users.values()), locked, "user")
    numbered = {}
    for name, user in sorted(users.items()):
        group = primaries[name]
        # A user's own group has the same number where that is free, as sysusers.d(5) does it.
        uid = number(name, group.gid if group.name == name else None)
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
