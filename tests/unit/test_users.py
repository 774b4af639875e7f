# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users and groups: base-passwd's files, sysusers.d(5), and numbers that stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.errors import BuildError
from preroot.recipe.schema import Group, User
from preroot.tree.users import (
    KnownNames,
    Names,
    allocate,
    merge_known,
    parse_group,
    parse_passwd,
    parse_sysusers,
    render_group,
    render_passwd,
    render_shadow,
)

PASSWD = (
    "root:*:0:0:root:/root:/bin/bash\nuucp:*:10:10:uucp:/var/spool/uucp:\nsync:*:4:65534:sync:/bin:/bin/sync\nbad:x\n"
)
GROUP = "root:*:0:\ndisk:*:6:\nuucp:*:10:\ntty:*:5:alice,,bob\nnogroup:*:65534:\n\nbad:*:x:\n"
MASTER = KnownNames(parse_passwd(PASSWD), parse_group(GROUP))


def names(
    users: list[str], groups: list[str], *known: KnownNames, locked: tuple[dict[str, int], dict[str, int]] = ({}, {})
) -> Names:
    return allocate(users, groups, merge_known(known or (MASTER,)), *locked)


def test_the_master_files() -> None:
    assert MASTER.users["root"] == User("root", 0, "0", "/root", "/bin/bash", "root")
    assert MASTER.users["uucp"].shell == "/bin/sh"
    assert MASTER.groups["tty"] == Group("tty", 5, ("alice", "bob"))
    assert set(MASTER.users) == {"root", "uucp", "sync"}
    assert "bad" not in MASTER.groups


def test_sysusers() -> None:
    known = parse_sysusers("""
        # comment
        u     _one    -          "One User"  /var/lib/one  /bin/sh
        u!    _two    300        -
        u     _three  301:500
        u     _four   -:disk     "Four"
        u     _five   /var/lib/five
        g     input   -          -
        g     kvm     78
        m     _one    input
        m     _two    input
        m     _one    input
        r     -       500-900
        u     %b      -
        u     ev:il   -
        u     evil    -          "a:b"
        broken "
        u
    """)
    assert known.users == {
        "_one": User("_one", None, "", "/var/lib/one", "/bin/sh", "One User"),
        "_two": User("_two", 300, "", "/", "/usr/sbin/nologin", ""),
        "_three": User("_three", 301, "500", "/", "/usr/sbin/nologin", ""),
        "_four": User("_four", None, "disk", "/", "/usr/sbin/nologin", "Four"),
        "_five": User("_five", None, "", "/", "/usr/sbin/nologin", ""),
    }
    assert known.groups == {
        "_one": Group("_one"), "_two": Group("_two", 300), "_five": Group("_five"),
        "input": Group("input", None, ("_one", "_two")), "kvm": Group("kvm", 78),
    }  # fmt: skip


@given(st.text("ugmr!-: \"'\n#%\\abc019/", max_size=80))
def test_any_text_is_read_and_nothing_forges_a_line_of_passwd(text: str) -> None:
    known = parse_sysusers(text)
    made = allocate(known.users, known.groups, known, {}, {})
    assert all(line.count(":") == 6 for line in render_passwd(made).splitlines())
    assert len(render_passwd(made).splitlines()) == len(made.users)
    assert all(line.count(":") == 3 for line in render_group(made).splitlines())


def test_an_earlier_declaration_wins_and_takes_the_number_from_a_later_one() -> None:
    own = KnownNames({"tss": User("tss", home="/own", shell="/bin/x")}, {"tss": Group("tss", None, ("a",))})
    package = KnownNames({"tss": User("tss", 106, "tss", "/var/lib/tpm")}, {"tss": Group("tss", 111, ("b", "a"))})
    merged = merge_known([own, package])
    assert merged.users["tss"] == User("tss", 106, "tss", "/own", "/bin/x")
    assert merged.groups["tss"] == Group("tss", 111, ("a", "b"))
    assert merge_known([package, own]).users["tss"].home == "/var/lib/tpm"


def test_only_what_is_asked_for_is_there_and_root_always() -> None:
    made = names([], ["disk"])
    assert (set(made.users), set(made.groups)) == ({"root"}, {"root", "disk"})
    assert render_passwd(made) == "root:x:0:0:root:/root:/bin/bash\n"
    assert render_group(made) == "root:x:0:\ndisk:x:6:\n"
    bare = allocate([], [], KnownNames({}, {}), {}, {})
    assert render_passwd(bare) == "root:x:0:0:root:/root:/bin/sh\n"


def test_a_user_brings_its_primary_group_by_number_by_name_or_its_own() -> None:
    extra = parse_sysusers("u one 200:disk\nu two 201\nu three 202:6\nu four 203:777\n")
    made = names(["sync", "one", "two", "three", "four"], [], MASTER, extra)
    assert set(made.groups) == {"root", "nogroup", "disk", "two", "four"}
    assert {name: user.group for name, user in made.users.items()} == {
        "root": "0", "sync": "65534", "one": "6", "two": "201", "three": "6", "four": "777",
    }  # fmt: skip


def test_a_primary_group_that_nothing_declares_is_unknown() -> None:
    made = names(["one"], [], MASTER, parse_sysusers("u one 200:nowhere\n"))
    assert made.unknown_groups == ("nowhere",)


def test_names_that_nothing_declares_are_unknown() -> None:
    made = names(["ghost", "root"], ["phantom", "disk"])
    assert (made.unknown_users, made.unknown_groups) == (("ghost",), ("phantom",))


def test_numbers_by_name() -> None:
    made = names(["uucp"], ["disk"])
    assert (made.uid("uucp"), made.gid("disk"), made.uid("1234"), made.gid("0")) == (10, 6, 1234, 0)
    with pytest.raises(KeyError):
        made.uid("ghost")


def test_free_numbers_go_by_name_from_100_up_past_those_that_any_name_has() -> None:
    known = parse_sysusers("g c -\ng b -\ng a -\ng far 100\ng near 102\n")
    assert {name: group.gid for name, group in names([], ["c", "a", "b"], known).groups.items()} == {
        "root": 0, "a": 101, "b": 103, "c": 104,
    }  # fmt: skip


def test_a_user_has_the_number_of_its_own_group_where_that_is_free() -> None:
    known = parse_sysusers("u one -\ng a -\n")
    made = names(["one"], ["a"], known)
    assert (made.gid("a"), made.gid("one"), made.uid("one")) == (100, 101, 101)
    taken = names(["one"], ["a"], known, parse_sysusers("u other 101\n"))
    assert (taken.gid("one"), taken.uid("one")) == (102, 102)


def test_members_are_those_that_the_image_has() -> None:
    known = parse_sysusers("u one -\nu two -\ng kvm 78\nm one kvm\nm two kvm\n")
    assert "kvm:x:78:two\n" in render_group(names(["two"], ["kvm"], known))


def test_shadow() -> None:
    made = names(["uucp"], [])
    assert render_shadow(made) == "root:!*:::::::\nuucp:!*:::::::\n"
    assert render_shadow(made, "$y$hash") == "root:$y$hash:::::::\nuucp:!*:::::::\n"


def test_a_locked_number_yields_to_one_that_a_package_now_gives_to_another() -> None:
    known = parse_sysusers("g a -\ng b 100\n")
    made = names([], ["a", "b"], known, locked=({}, {"a": 100}))
    assert (made.gid("b"), made.gid("a")) == (100, 101)


def test_when_no_number_is_free() -> None:
    known = KnownNames(
        {}, {f"g{number}": Group(f"g{number}", number) for number in range(100, 1000)} | {"a": Group("a")}
    )
    with pytest.raises(BuildError, match="no number from 100 to 999 is free for the group a"):
        names([], ["a"], known)


_WORDS = st.sampled_from([f"n{number}" for number in range(12)])
_NUMBERS = st.none() | st.integers(100, 112)
_USERS = st.dictionaries(_WORDS, _NUMBERS)


def _unique(numbers: dict[str, int | None]) -> dict[str, int | None]:
    """Return the names without those whose number an earlier one has."""
    first = {number: name for name, number in reversed(numbers.items())}
    return {name: number for name, number in numbers.items() if number is None or first[number] == name}


@given(_USERS.map(_unique), _USERS.map(_unique), st.lists(_WORDS), st.lists(_WORDS), st.lists(_WORDS))
def test_numbers_are_unique_and_stay_under_a_lock(
    uids: dict[str, int | None], gids: dict[str, int | None], users: list[str], groups: list[str], more: list[str]
) -> None:
    known = KnownNames(
        {name: User(name, uid) for name, uid in uids.items()}, {name: Group(name, gid) for name, gid in gids.items()}
    )
    first = allocate(users, groups, known, {}, {})
    assert first == allocate(list(reversed(users)), list(reversed(groups)), known, {}, {})
    for numbers in ([user.uid for user in first.users.values()], [group.gid for group in first.groups.values()]):
        assert len(set(numbers)) == len(numbers)
    locked_users = {name: user.uid for name, user in first.users.items() if user.uid is not None}
    locked_groups = {name: group.gid for name, group in first.groups.items() if group.gid is not None}
    later = allocate([*users, *more], [*groups, *more], known, locked_users, locked_groups)
    assert all(later.uid(name) == user.uid for name, user in first.users.items())
    assert all(later.gid(name) == group.gid for name, group in first.groups.items())
