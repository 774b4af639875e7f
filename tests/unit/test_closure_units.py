# SPDX-License-Identifier: LGPL-2.1-or-later
"""What units ask for (systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.socket(5))."""

from __future__ import annotations

import pytest
from worlds import UNITS, closed, file, left_out, link, missing, path_request, program, unit, unit_request

from preroot.packages.learn.units import read_unit
from preroot.recipe.schema import Exception_
from preroot.tree.closure.units import drop_in_directories, expand, settings_in_force, specifiers, template_of
from preroot.tree.model import Reason

A = unit_request("a.service")
START = "[Service]\nExecStart=/usr/bin/x\n"
ETC = "etc/systemd/system"


def service(*lines: str, section: str = "Service") -> str:
    return "\n".join([f"[{section}]", *lines, ""])


def test_programs_with_every_prefix() -> None:
    prefixes = ["", "@", ":", "+", "!", "!!", "|", "@+"]
    keys = [
        "ExecStart",
        "ExecStartPre",
        "ExecStartPost",
        "ExecStop",
        "ExecStopPost",
        "ExecReload",
        "ExecCondition",
        "ExecStop",
    ]
    lines = [
        f"{key}={prefix}/usr/bin/p{number} arg" for number, (key, prefix) in enumerate(zip(keys, prefixes, strict=True))
    ]
    files = [unit("a.service", service(*lines)), *(program(f"usr/bin/p{number}") for number in range(8))]
    closure = closed(files, A)
    assert {f"usr/bin/p{number}" for number in range(8)} <= closure.paths.keys()
    assert closure.paths["usr/bin/p2"] == (Reason("exec", f"{UNITS}/a.service", "ExecStartPost=:/usr/bin/p2 arg"),)
    assert len(missing(closed(files[:1], A))) == 8


def test_a_command_with_minus_may_be_missing_but_comes_when_it_is_there() -> None:
    files = [unit("a.service", service("ExecStart=@-/usr/bin/x x")), program("usr/bin/x")]
    assert "usr/bin/x" in closed(files, A).paths
    closure = closed(files[:1], A)
    assert (missing(closure), left_out(closure)) == (set(), {"/usr/bin/x": "no package of the lock has it"})


def test_several_commands_on_one_line() -> None:
    closure = closed([unit("a.service", service("ExecStart=/usr/bin/x ; -/usr/bin/y \\; z ; /usr/bin/w"))], A)
    assert missing(closure) == {"/usr/bin/x", "/usr/bin/w"}


def test_a_program_without_a_slash_is_looked_up_as_systemd_does() -> None:
    files = [unit("a.service", service("ExecStart=x")), program("usr/bin/x"), program("usr/local/bin/x")]
    closure = closed(files, A)
    assert "usr/local/bin/x" in closure.paths
    assert "usr/bin/x" not in closure.paths


@pytest.mark.parametrize("path", ["/run/x", "/sysroot/usr/bin/x", "/dev/x"])
def test_what_exists_only_at_boot_is_not_missing(path: str) -> None:
    text = service(f"ExecStart={path}", f"EnvironmentFile={path}")
    assert missing(closed([unit("a.service", text)], A)) == set()


def test_settings_of_a_masked_kind_in_install_ask_for_nothing() -> None:
    assert missing(closed([unit("a.service", "[Install]\nUser=x\nAlso=y.service\nWantedBy=z.target\n")], A)) == set()


def test_environment_files() -> None:
    text = service(
        "EnvironmentFile=/etc/a", "EnvironmentFile=-/etc/b", "EnvironmentFile=/etc/c.d/*.env", "EnvironmentFile=-/e/*"
    )
    files = [unit("a.service", text), file("etc/a"), file("etc/b"), file("etc/c.d/1.env"), file("etc/c.d/2.env")]
    closure = closed(files, A)
    assert {"etc/a", "etc/b", "etc/c.d/1.env", "etc/c.d/2.env"} <= closure.paths.keys()
    assert closure.paths["etc/a"] == (Reason("environment", f"{UNITS}/a.service", "EnvironmentFile=/etc/a"),)
    assert missing(closed(files[:1], A)) == {"/etc/a", "/etc/c.d/*.env"}


@pytest.mark.parametrize("key", ["Requires", "Requisite", "BindsTo", "OnFailure", "OnSuccess"])
def test_hard_dependencies(key: str) -> None:
    files = [unit("a.service", f"[Unit]\n{key}=b.service c.socket\n"), unit("b.service", START), program("usr/bin/x")]
    closure = closed(files, A)
    assert set(closure.units) == {"a.service", "b.service"}
    assert missing(closure) == {"c.socket"}
    assert "usr/bin/x" in closure.paths


@pytest.mark.parametrize("key", ["Wants", "Upholds"])
def test_soft_dependencies_bring_only_what_a_feature_asks_for(key: str) -> None:
    files = [
        unit("a.service", f"[Unit]\n{key}=b.service c.service d.service\n"),
        unit("b.service", ""),
        unit("c.service", " "),
    ]
    closure = closed(
        [*files[:1], unit("b.service", START), unit("c.service", START), program("usr/bin/x")],
        A,
        wanted=frozenset({"b.service"}),
    )
    assert set(closure.units) == {"a.service", "b.service"}
    assert left_out(closure) == {"c.service": "a soft dependency that no feature asks for"}
    assert missing(closure) == set()


def test_after_before_and_conflicts_bring_nothing() -> None:
    files = [
        unit("a.service", "[Unit]\nAfter=b.service\nBefore=b.service\nConflicts=b.service\nPartOf=b.service\n"),
        unit("b.service", START),
    ]
    assert set(closed(files, A).units) == {"a.service"}


@pytest.mark.parametrize("name", ["dev-sda.device", "system-x.slice", "x.scope", "sysroot.mount", "dev-x.swap"])
def test_units_that_systemd_makes_itself(name: str) -> None:
    assert missing(closed([unit("a.service", f"[Unit]\nRequires={name}\n")], A)) == set()


def test_links_of_wants_and_requires() -> None:
    files = [
        unit("a.service", " "),
        unit("b.service", "[Unit]\nX=1\n"),
        unit("c.service", "[Unit]\nX=1\n"),
        link(f"{UNITS}/a.service.requires/b.service", "../b.service"),
        link(f"{ETC}/a.service.wants/c.service", "/lib/systemd/system/c.service"),
    ]
    closure = closed(files, A)
    assert f"{UNITS}/a.service.requires/b.service" in closure.paths
    assert f"{ETC}/a.service.wants/c.service" not in closure.paths
    wanted = closed(files, A, wanted=frozenset({"c.service"}))
    assert f"{ETC}/a.service.wants/c.service" in wanted.paths


def test_a_soft_dependency_holds_when_its_unit_comes_anyway_whatever_the_order() -> None:
    files = [
        unit("a.service", " "),
        unit("b.service", "[Unit]\nX=1\n"),
        link(f"{UNITS}/a.service.wants/b.service", "../b.service"),
    ]
    for requests in ((A, unit_request("b.service")), (unit_request("b.service"), A)):
        closure = closed(files, *requests)
        assert f"{UNITS}/a.service.wants/b.service" in closure.paths
        assert left_out(closure) == {}


def test_a_missing_unit_of_requires_is_missing_and_one_of_wants_is_not() -> None:
    files = [
        unit("a.service", " "),
        link(f"{UNITS}/a.service.requires/b.service", "../b.service"),
        link(f"{UNITS}/a.service.wants/c.service", "../c.service"),
    ]
    assert missing(closed(files, A)) == {"b.service"}


def test_an_instance_in_wants_leads_to_its_template() -> None:
    files = [
        unit("a.service", " "),
        unit("t@.service", service("ExecStart=/usr/bin/%i")),
        program("usr/bin/one"),
        link(f"{UNITS}/a.service.wants/t@one.service", "../t@.service"),
    ]
    closure = closed(files, A, wanted=frozenset({"t@.service"}))
    assert {f"{UNITS}/t@.service", f"{UNITS}/a.service.wants/t@one.service", "usr/bin/one"} <= closure.paths.keys()


def test_aliases_take_link_and_unit_and_the_drop_ins_of_both() -> None:
    files = [
        link(f"{UNITS}/alias.service", "a.service"),
        unit("a.service", START),
        program("usr/bin/x"),
        unit("alias.service.d/1.conf", service("ExecStartPost=/usr/bin/y")),
        program("usr/bin/y"),
        unit("a.service.d/2.conf", service("ExecStartPost=/usr/bin/z")),
        program("usr/bin/z"),
    ]
    closure = closed(files, unit_request("alias.service"))
    assert {f"{UNITS}/alias.service", f"{UNITS}/a.service", "usr/bin/y", "usr/bin/z"} <= closure.paths.keys()
    assert set(closure.units) == {"alias.service", "a.service"}
    assert "usr/bin/y" not in closed(files, A).paths


def test_a_soft_dependency_on_an_alias_holds_when_the_real_name_is_wanted() -> None:
    files = [
        unit("a.service", "[Unit]\nWants=alias.service\n"),
        link(f"{UNITS}/alias.service", "b.service"),
        unit("b.service", " "),
    ]
    assert f"{UNITS}/alias.service" in closed(files, A, wanted=frozenset({"b.service"})).paths


def test_etc_comes_before_usr() -> None:
    files = [
        unit("a.service", START),
        unit("a.service", service("ExecStart=/usr/bin/y"), below=ETC),
        program("usr/bin/y"),
    ]
    closure = closed(files, A)
    assert f"{ETC}/a.service" in closure.paths
    assert missing(closure) == set()


def test_a_template_with_specifiers() -> None:
    files = [
        unit("t@.service", "[Unit]\nRequires=u@%i.service %p.socket\n[Service]\nExecStart=/usr/bin/%i\n"),
        unit("u@.service", " "),
        unit("t.socket", "[Socket]\nService=t@x.service\n"),
    ]
    closure = closed(files, unit_request("t@one.service"))
    assert missing(closure) == {"/usr/bin/one", "/usr/bin/x"}
    assert {f"{UNITS}/u@.service", f"{UNITS}/t.socket"} <= closure.paths.keys()


def test_a_template_alone_asks_for_what_does_not_depend_on_the_instance() -> None:
    text = (
        "[Unit]\nRequires=u@%i.service v-%i.service\n[Service]\nExecStart=/usr/bin/%i\nExecStop=/usr/bin/y\nUser=%i\n"
    )
    closure = closed([unit("t@.service", text), unit("u@.service", " ")], unit_request("t@.service"))
    assert f"{UNITS}/u@.service" in closure.paths
    assert missing(closure) == {"/usr/bin/y"}
    assert closure.users == {}


@pytest.mark.parametrize(
    ("name", "text", "expanded"),
    [
        ("foo-bar@a\\x2db-c.service", "%n|%N|%p|%i", "foo-bar@a\\x2db-c.service|foo-bar@a\\x2db-c|foo-bar|a\\x2db-c"),
        ("foo-bar@a\\x2db-c.service", "%I|%P|%j|%J", "a-b/c|foo/bar|bar|bar"),
        ("foo.service", "100%%|%t/x|%S", "100%|/run/x|/var/lib"),
        ("foo@.service", "%p", "foo"),
        ("foo@.service", "%i", None),
        ("foo.service", "%H", None),
        ("foo.service", "50%", "50%"),
    ],
)
def test_specifiers(name: str, text: str, expanded: str | None) -> None:
    assert expand(text, specifiers(name)) == expanded


def test_drop_ins_come_with_a_unit_and_extend_it() -> None:
    files = [
        unit("a.service", START),
        program("usr/bin/x"),
        unit("a.service.d/10-x.conf", service("ExecStartPre=/usr/bin/y")),
    ]
    closure = closed(files, A)
    assert f"{UNITS}/a.service.d/10-x.conf" in closure.paths
    assert missing(closure) == {"/usr/bin/y"}


def test_a_drop_in_takes_back_what_the_vendor_starts() -> None:
    files = [
        unit("a.service", service("ExecStart=/usr/bin/x", "EnvironmentFile=/etc/x", "ExecStop=/usr/bin/stop")),
        unit("a.service.d/10-x.conf", service("ExecStart=", "ExecStart=/usr/bin/y", "EnvironmentFile="), below=ETC),
    ]
    assert missing(closed(files, A)) == {"/usr/bin/y", "/usr/bin/stop"}


def test_dependencies_cannot_be_taken_back() -> None:
    files = [unit("a.service", "[Unit]\nRequires=b.service\n"), unit("a.service.d/10-x.conf", "[Unit]\nRequires=\n")]
    assert missing(closed(files, A)) == {"b.service"}


def test_drop_ins_of_one_name_hide_each_other_and_the_more_special_counts() -> None:
    general = unit("service.d/1.conf", service("ExecStart=/usr/bin/general"))
    prefix = unit("a-.service.d/1.conf", service("ExecStart=/usr/bin/prefix"))
    own = unit("a-b.service.d/1.conf", service("ExecStart=/usr/bin/own"))
    admin = unit("a-.service.d/1.conf", service("ExecStart=/usr/bin/admin"), below=ETC)
    base = unit("a-b.service", " ")
    asked = unit_request("a-b.service")
    assert missing(closed([base, general], asked)) == {"/usr/bin/general"}
    assert missing(closed([base, general, prefix], asked)) == {"/usr/bin/prefix"}
    assert missing(closed([base, general, prefix, own], asked)) == {"/usr/bin/own"}
    assert missing(closed([base, general, prefix, own, admin], asked)) == {"/usr/bin/admin"}


def test_a_drop_in_linked_to_dev_null_is_hidden_and_so_is_what_it_hides() -> None:
    files = [
        unit("a.service", " "),
        unit("a.service.d/1.conf", service("ExecStart=/usr/bin/x")),
        link(f"{ETC}/a.service.d/1.conf", "/dev/null"),
    ]
    closure = closed(files, A)
    assert missing(closure) == set()
    assert f"{ETC}/a.service.d/1.conf" in closure.paths
    assert f"{UNITS}/a.service.d/1.conf" not in closure.paths


def test_the_drop_in_of_an_instance_is_not_that_of_another() -> None:
    files = [unit("t@.service", " "), unit("t@one.service.d/1.conf", service("ExecStart=/usr/bin/x"))]
    assert missing(closed(files, unit_request("t@one.service"))) == {"/usr/bin/x"}
    assert missing(closed(files, unit_request("t@two.service"))) == set()


def test_a_drop_in_of_a_unit_that_only_a_generator_writes_asks_for_itself() -> None:
    path = f"{ETC}/sysroot.mount.d/1.conf"
    files = [unit("sysroot.mount.d/1.conf", "[Unit]\nRequires=b.service\n", below=ETC)]
    assert missing(closed(files, path_request(path))) == {"b.service"}


def test_drop_in_directories() -> None:
    assert drop_in_directories("a-b@c-d.service") == [
        "a-b@c-d.service.d",
        "a-b@.service.d",
        "a-.service.d",
        "service.d",
    ]
    assert drop_in_directories("a-b-c.mount") == ["a-b-c.mount.d", "a-b-.mount.d", "a-.mount.d", "mount.d"]
    assert drop_in_directories("-.mount") == ["-.mount.d", "mount.d"]


def test_users_and_groups() -> None:
    files = [
        unit("a.service", service("User=u", "Group=g", "SupplementaryGroups=h i 7")),
        unit("a.socket", "[Socket]\nSocketUser=v\nSocketGroup=k\n"),
    ]
    closure = closed(files, A, unit_request("a.socket"))
    assert set(closure.users) == {"u", "v"}
    assert set(closure.groups) == {"g", "h", "i", "k"}
    assert closure.users["u"] == (Reason("unit", f"{UNITS}/a.service", "User=u"),)


def test_dynamic_users_need_no_user_but_their_supplementary_groups() -> None:
    for value, users, groups in (("yes", set(), {"h"}), ("no", {"u"}, {"g", "h"})):
        text = service("User=u", "Group=g", "SupplementaryGroups=h", "DynamicUser=yes", f"DynamicUser={value}")
        closure = closed([unit("a.service", text)], A)
        assert (set(closure.users), set(closure.groups)) == (users, groups)


def test_the_last_user_counts() -> None:
    files = [unit("a.service", service("User=u")), unit("a.service.d/1.conf", service("User="))]
    assert set(closed(files, A).users) == set()
    assert set(closed([*files, unit("a.service.d/2.conf", service("User=v"))], A).users) == {"v"}


@pytest.mark.parametrize(
    ("name", "text", "started"),
    [
        ("a.socket", "[Socket]\nListenStream=/x\n", "a.service"),
        ("a.socket", "[Socket]\nService=b.service\n", "b.service"),
        ("a.socket", "[Socket]\nAccept=yes\n", "a@.service"),
        ("a.timer", "[Timer]\nOnBootSec=1\n", "a.service"),
        ("a.timer", "[Timer]\nUnit=b.service\n", "b.service"),
        ("a.path", "[Path]\nPathExists=/x\n", "a.service"),
        ("a@x.socket", "[Socket]\nListenStream=/x\n", "a@x.service"),
    ],
)
def test_what_sockets_timers_and_paths_start(name: str, text: str, started: str) -> None:
    files = [unit(template_of(name), text)]
    assert missing(closed(files, unit_request(name))) >= {started}


def test_a_masked_unit_is_missing_to_who_requires_it_and_left_out_by_who_wants_it() -> None:
    mask = link(f"{ETC}/b.service", "/dev/null")
    files = [unit("b.service", START), mask]
    closure = closed([unit("a.service", "[Unit]\nRequires=b.service\n"), *files], A)
    assert [(each.request.value, each.detail) for each in closure.missing] == [
        ("b.service", f"/{ETC}/b.service masks it")
    ]
    closure = closed([unit("a.service", "[Unit]\nWants=b.service\n"), *files], A, wanted=frozenset({"b.service"}))
    assert (missing(closure), set(closure.units)) == (set(), {"a.service"})
    assert left_out(closure) == {"b.service": f"/{ETC}/b.service masks it"}


def test_an_empty_file_masks_too() -> None:
    empty = file(f"{UNITS}/b.service", "")
    assert empty.size == 0
    assert missing(closed([empty], unit_request("b.service"))) == {"b.service"}


def test_a_dependency_link_to_dev_null_hides_the_one_below() -> None:
    files = [
        unit("a.service", " "),
        unit("b.service", " "),
        link(f"{UNITS}/a.service.requires/b.service", "../b.service"),
        link(f"{ETC}/a.service.requires/b.service", "/dev/null"),
    ]
    closure = closed(files, A)
    assert set(closure.units) == {"a.service"}
    assert f"{ETC}/a.service.requires/b.service" in closure.paths


def test_a_unit_that_is_a_dangling_link_says_where_it_leads() -> None:
    closure = closed([link(f"{UNITS}/a.service", "gone.service")], A)
    assert [each.detail for each in closure.missing] == [
        f"it leads to /{UNITS}/gone.service, which no package of the lock has"
    ]


def test_exceptions_hold_for_dependencies_and_paths_of_an_unmerged_usr() -> None:
    refusal = Exception_("usr/bin/x", f"{UNITS}/a.service", "not needed")
    closure = closed([unit("a.service", service("ExecStart=/bin/x"))], A, exceptions=(refusal,))
    assert (missing(closure), closure.used_exceptions) == (set(), (refusal,))
    assert left_out(closure) == {"/bin/x": "an exception is declared for it: not needed"}


def test_units_in_a_circle() -> None:
    files = [unit("a.service", "[Unit]\nRequires=b.service\n"), unit("b.service", "[Unit]\nRequires=a.service\n")]
    assert set(closed(files, A).units) == {"a.service", "b.service"}


def test_settings_in_force_know_where_they_are_from() -> None:
    found = settings_in_force(
        [
            ("x", read_unit(b"[Service]\nUser=u\nExecStart=/a\nExecStart=/b\n")),
            ("y", read_unit(b"[Service]\nExecStart=\nExecStart=/c\nUser=v\n")),
        ]
    )
    assert [(each.path, each.value) for each in found] == [("y", "/c"), ("y", "v")]
