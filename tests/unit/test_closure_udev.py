# SPDX-License-Identifier: LGPL-2.1-or-later
"""What udev rules and #! lines ask for (udev(7), execve(2), env(1))."""

from __future__ import annotations

import pytest
from worlds import closed, file, left_out, missing, path_request, program, unit

from preroot.packages.learn.udev import read_rules
from preroot.packages.model import FileInfo, Script
from preroot.tree.closure.udev import script_requests
from preroot.tree.model import Reason

RULES = "usr/lib/udev/rules.d/60-x.rules"
X = path_request(RULES)


def rules(text: str) -> FileInfo:
    return file(RULES, text, read_rules(text.encode()))


def test_programs_of_rules_are_absolute_or_udevs_own() -> None:
    text = 'RUN+="/usr/bin/a --arg", PROGRAM="b c"\nIMPORT{program}="/bin/d %k"\n'
    files = [program("usr/bin/a"), program("usr/lib/udev/b"), program("usr/bin/d"), program("usr/bin/b")]
    closure = closed([rules(text), *files], X)
    assert {"usr/bin/a", "usr/lib/udev/b", "usr/bin/d"} <= closure.paths.keys()
    assert "usr/bin/b" not in closure.paths
    assert closure.paths["usr/bin/a"] == (Reason("udev", RULES, "/usr/bin/a --arg"),)
    assert missing(closed([rules(text)], X)) == {"/usr/bin/a", "usr/lib/udev/b", "/bin/d"}


def test_a_program_in_quotes_may_have_blanks() -> None:
    closure = closed([rules("""PROGRAM="'/opt/my tool/x' arg"\n"""), program("opt/my tool/x")], X)
    assert "opt/my tool/x" in closure.paths


@pytest.mark.parametrize("command", ["$env{TOOL} x", "/usr/lib/%k/x", "${x}", "   "])
def test_a_program_that_only_the_device_decides_is_passed_over(command: str) -> None:
    closure = closed([rules(f'RUN+="{command}"\n')], X)
    assert missing(closure) == set()


def test_users_and_groups() -> None:
    closure = closed([rules('OWNER="tss", GROUP="disk"\nGROUP="6"\nGROUP=="no"\nOWNER="$env{X}"\n')], X)
    assert closure.users == {"tss": (Reason("udev", RULES, "OWNER=tss"),)}
    assert set(closure.groups) == {"disk"}


@pytest.mark.parametrize(
    ("wants", "taken"),
    [
        ("a.service", "a.service"),
        ("a@b.service", "a@.service"),
        ("a@$env{ID}.service", "a@.service"),
        ("a@.service", "a@.service"),
        ("a@%k.service x.service", "a@.service"),
    ],
)
def test_units_of_rules_come_only_when_a_feature_asks_for_them(wants: str, taken: str) -> None:
    files = [
        rules(f'ENV{{SYSTEMD_WANTS}}+="{wants}"\n'),
        unit(taken, "[Service]\nExecStart=/bin/x\n"),
        program("bin/x"),
    ]
    closure = closed(files, X)
    assert (missing(closure), closure.units) == (set(), {})
    assert "a soft dependency that no feature asks for" in left_out(closure).values()
    closure = closed(files, X, wanted=frozenset({taken}))
    assert f"usr/lib/systemd/system/{taken}" in closure.paths
    assert "usr/bin/x" in closure.paths


@pytest.mark.parametrize("name", ["$env{UNIT}", "$env{X}@a.service", "absent.service", "dev-x.device"])
def test_units_that_are_nowhere_or_unknown_before_boot(name: str) -> None:
    closure = closed([rules(f'ENV{{SYSTEMD_WANTS}}="{name}"\n')], X)
    assert (missing(closure), closure.units) == (set(), {})


def test_a_script_brings_its_interpreter() -> None:
    files = [file("usr/bin/s", "#!/bin/sh -e\n", mode=0o755), program("bin/sh")]
    closure = closed(files, path_request("usr/bin/s"))
    assert closure.paths["usr/bin/sh"] == (Reason("interpreter", "usr/bin/s", "#!/bin/sh"),)
    assert missing(closed(files[:1], path_request("usr/bin/s"))) == {"/bin/sh"}


def test_an_interpreter_may_be_a_script_itself() -> None:
    files = [file("usr/bin/s", "#!/usr/bin/t\n"), file("usr/bin/t", "#!/bin/sh\n"), program("bin/sh")]
    assert "usr/bin/sh" in closed(files, path_request("usr/bin/s")).paths


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("python3", ["python3"]),
        ("python3 -u", ["python3 -u"]),  # without -S it is one word, as the kernel hands it over
        ("-S python3 -u", ["python3"]),
        ("-Spython3 -u", ["python3"]),
        ("-vS python3", ["python3"]),
        ("--split-string=python3 -u", ["python3"]),
        ("-S -i -u HOME A=b C='d e' /opt/x y", ["/opt/x"]),
        ("-S -- A=b x", ["x"]),
        ("-S --chdir /x prog", ["prog"]),
        ("-S A=b", []),
        ("-i", []),
        ("", []),
        ("A=b", []),
    ],
)
def test_env_in_the_first_line(argument: str, wanted: list[str]) -> None:
    asked = script_requests("usr/bin/s", "/usr/bin/env", argument)
    assert asked[0].value == "/usr/bin/env"
    assert [each.value for each in asked[1:]] == wanted
    assert [each.kind for each in asked[1:]] == ["path" if "/" in each else "program" for each in wanted]


def test_what_env_starts_is_looked_up() -> None:
    script = file("usr/bin/s", "", Script("/usr/bin/env", "-S tool -x"))
    closure = closed([script, program("usr/bin/env"), program("sbin/tool")], path_request("usr/bin/s"))
    assert "usr/sbin/tool" in closure.paths
    assert missing(closed([script, program("usr/bin/env")], path_request("usr/bin/s"))) == {"tool"}
